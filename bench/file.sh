#!/bin/bash
# SPDX-License-Identifier: MIT
# The file device and fio on the same file, with O_DIRECT: writes and reads of 256 KiB in sequence, random reads of
# 4 KiB by some threads. Interleaved; medians in MiB/s, and the ratio fio : device.
#
#   file.sh BENCH_FILE DIRECTORY [RUNS [MIB [THREADS]]]
set -u
bench=$1 dir=$2 runs=${3:-5} mib=${4:-512} threads=${5:-8}
tmp=$(mktemp -d "$dir/bench.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
command -v fio >/dev/null || { echo "fio is missing: apt-get install fio" >&2; exit 77; }
# Laid out in advance for both; the device has a page more.
dd if=/dev/zero of="$tmp/file" bs=1M count=$((mib + 1)) conv=fsync 2>/dev/null || exit 1

# NAME RW BLOCK JOBS
fio_runs() {
	fio --name=x --filename="$tmp/file" --direct=1 --ioengine=psync --rw="$2" --bs="$3" \
		--numjobs="$4" --size="${mib}M" ${5:+--number_ios="$5"} --group_reporting --minimal 2>/dev/null |
		awk -F';' -v f="$([[ $2 = write ]] && echo 48 || echo 7)" '{ print $f / 1024 }' >>"$tmp/fio.$1"
}

for _ in $(seq "$runs"); do
	fio_runs write write 256k 1
	fio_runs read read 256k 1
	fio_runs random randread 4k "$threads" 2000
	"$bench" "$tmp/file" "$mib" "$threads" >"$tmp/out" || exit 1
	read -r _ _ _ again _ read _ random <"$tmp/out"
	echo "$again" >>"$tmp/weir.write"
	echo "$read" >>"$tmp/weir.read"
	echo "$random" >>"$tmp/weir.random"
done

median() {
	sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

for what in write read random; do
	fio=$(median "$tmp/fio.$what") weir=$(median "$tmp/weir.$what")
	awk -v w="$what" -v f="$fio" -v d="$weir" \
		'BEGIN { printf "%-7s fio %.1f  device %.1f  ratio %.2f\n", w, f, d, f / d }'
done

#!/bin/bash
# SPDX-License-Identifier: MIT
# zram over a file and the file alone: a working set eight times as large as memory, zipf accesses of which a part
# writes. Interleaved; each pair of runs is a line: accesses per second of both and their ratio, the MiB written to the
# file by both and theirs, and how well what went down was compressed.
#
#   tiers.sh WEIR BENCH_TIERS DIRECTORY [RUNS [MIB [ACCESSES [WRITES_PERCENT [DATA_FILE | heap]]]]]
#
# The pages are those of a file, by default of the largest library here; heap: those of a program's heap (heap.py).
set -u
weir=$1 bench=$2 dir=$3 runs=${4:-3} mib=${5:-384} accesses=${6:-1000000} writes=${7:-50}
largest=$(find /usr/lib -name '*.so*' -type f -size +4M -printf '%s %p\n' 2>/dev/null | sort -n | tail -1)
data=${8:-${largest#* }}
[ -n "$data" ] || { echo "no data file" >&2; exit 77; }
tmp=$(mktemp -d "$dir/bench.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
if [ "$data" = heap ]; then
	data=$tmp/heap
	"$(dirname "$0")/heap.py" "$data" $((mib / 2)) || exit 1
fi

# NAME SWAP...
run() {
	local name=$1 swap=()

	shift
	for device in "$@"; do swap+=(--swap "$device"); done
	"$weir" run --memory $((mib / 8))M --stats=json "${swap[@]}" -- "$bench" "$data" "$mib" "$accesses" "$writes" \
		>"$tmp/$name.out" 2>"$tmp/$name.json" || { cat "$tmp/$name.json" >&2; exit 1; }
}

field() {
	grep -o "\"$2\": *[0-9]*" "$tmp/$1.json" | grep -o '[0-9]*$'
}

echo "$data, $mib MiB in $((mib / 8)) MiB, $accesses accesses, $writes % write"
for _ in $(seq "$runs"); do
	run tiers zram "file:$tmp"
	run file "file:$tmp"
	awk -v t="$(grep -o '[0-9]*$' "$tmp/tiers.out")" -v f="$(grep -o '[0-9]*$' "$tmp/file.out")" \
		-v tb="$(field tiers lower_written_bytes)" -v fb="$(field file pages_out)" \
		-v objects="$(field tiers lower_objects)" -v tr="$(field tiers lower_reads)" \
		-v fr="$(field file pages_in)" \
		'BEGIN {
			tb = tb / 1048576; fb = fb / 256
			printf "accesses/s %d : %d = %.2f  written %.0f : %.0f MiB = 1/%.2f  ",
				t, f, t / f, tb, fb, fb / (tb ? tb : 1)
			printf "pages read %d : %d  packed %.2f\n", tr, fr, objects / (tb ? tb * 256 : 1)
		}'
done

#!/bin/bash
# SPDX-License-Identifier: MIT
# Page throughput of the nbd and rados devices against bare loops of libnbd and librados, at the same depth, in turns.
#
#   remote.sh WEIR BENCH_REMOTE [ROUNDS [PAGES [DEPTH [nbd|rados]]]]
set -eu
weir=$1 bench=$2 rounds=${3:-5} pages=${4:-16384} depth=${5:-64} only=${6:-}
tests=$(cd "$(dirname "$0")/../tests" && pwd)
tmp=$(mktemp -d)
cluster=$tmp/ceph
server=
end() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	[ ! -e "$cluster" ] || "$tests/ceph_mini.py" stop "$cluster"
	rm -rf "$tmp"
}
trap end EXIT

device() {
	"$weir" run --memory 64M --swap "$1" -- env -u LD_PRELOAD "$bench" weir "" "$pages" "$depth"
}

# FILE FIELD: the median.
median() {
	cut -d' ' -f"$2" "$tmp/$1" | sort -n | sed -n "$((rounds / 2 + 1))p"
}

# NAME SPEC BARE...: one run of each per round, then the medians and their ratio.
compare() {
	local name=$1 spec=$2 field bare ours
	shift 2
	for ((i = 0; i < rounds; i++)); do
		"$bench" "$@" >>"$tmp/$name.bare"
		device "$spec" >>"$tmp/$name.weir"
	done
	for field in 2 4; do
		bare=$(median "$name.bare" $field) ours=$(median "$name.weir" $field)
		printf '%-6s %-5s depth %d: bare %6d pages/s, weir %6d pages/s, bare / weir %s\n' "$name" \
			"$([ $field = 2 ] && echo write || echo read)" "$depth" "$bare" "$ours" \
			"$(awk "BEGIN { printf \"%.2f\", $bare / $ours }")"
	done
}

if [ "$only" = rados ]; then
	:
elif command -v nbdkit >/dev/null; then
	nbdkit -f -U "$tmp/nbd.sock" memory 1G &
	server=$!
	while [ ! -S "$tmp/nbd.sock" ]; do sleep 0.05; done
	uri="nbd+unix:///?socket=$tmp/nbd.sock"
	compare nbd "nbd:$uri,overwrite=on" nbd "$uri" "$pages" "$depth"
	kill "$server"
	server=
else
	echo "nbd is left out: no nbdkit; run scripts/setup check"
fi
if [ "$only" = nbd ]; then
	:
elif command -v ceph-osd >/dev/null; then
	"$tests/ceph_mini.py" start "$cluster"
	compare rados "rados:swap,conf=$cluster/ceph.conf" rados swap "$((pages / 4))" "$depth" "$cluster/ceph.conf"
else
	echo "rados is left out: no ceph-osd; run scripts/setup check"
fi

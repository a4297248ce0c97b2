#!/bin/bash
# SPDX-License-Identifier: MIT
# What weir costs a program that fits: wall time under `weir run` with a limit far above its needs, against the same
# program with the same allocator and settings and no weir. Interleaved; medians with min and max.
#
#   fits.sh WEIR [ROUNDS [LINES]]
set -eu
weir=$1 rounds=${2:-9} lines=${3:-2000000}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
jemalloc=$(ldconfig -p | sed -n 's/.*libjemalloc.so.2 .*=> //p' | head -1)
export MALLOC_CONF=background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,thp:never,retain:true LC_ALL=C
seq 1 "$lines" | awk '{ print ($1 * 7919) % 1500007, "line", $1 }' >"$tmp/lines"

seconds() {
	local started=$EPOCHREALTIME
	"$@" >/dev/null
	awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }'
}

# "startup" is of 50 processes, one after the other; anything else is run once.
times() {
	local name=$1 n=1
	shift
	[ "$name" != startup ] || n=50
	for ((i = 0; i < n; i++)); do "$@"; done
}

bench() {
	local name=$1
	shift
	for ((r = 0; r < rounds; r++)); do
		seconds times "$name" env LD_PRELOAD="$jemalloc" "$@" >>"$tmp/$name.plain"
		seconds times "$name" "$weir" run --memory 4G -- "$@" >>"$tmp/$name.weir"
	done
	for which in plain weir; do
		sort -n "$tmp/$name.$which" | awk -v n="$name" -v w="$which" '{ v[NR] = $1 }
			END { printf "%-8s %-6s %.3f s  (%.3f to %.3f)\n",
				n, w, v[int((NR + 1) / 2)], v[1], v[NR] }'
	done
	paste "$tmp/$name.plain" "$tmp/$name.weir" | awk '{ print $2 / $1 }' | sort -n | awk -v n="$name" '
		{ v[NR] = $1 }
		END { printf "%-8s ratio  %.3f    (%.3f to %.3f%s)\n", n, v[int((NR + 1) / 2)], v[1], v[NR],
			n == "startup" ? "; 50 processes" : "; target: at most 1.03" }'
}

bench sort sort --parallel=2 -S 1G "$tmp/lines"
# Past any wrapper script that stands for python3: each process that it starts pays for start-up (below) once.
python=$(python3 -c "import sys; print(sys.executable)")
bench python3 "$python" -c "
d = {i: 'value %d ' % i * 5 for i in range($lines // 4)}
print(sum(len(d[k]) for k in sorted(d, key=lambda k: d[k])))"
bench sqlite3 sqlite3 :memory: "create table t(a integer primary key, b text);
with recursive x(n) as (select 1 union all select n + 1 from x where n < $lines / 5)
insert into t select n, hex(n * n) from x; create index i on t(b); select count(*), max(b) from t;"
bench startup /bin/true

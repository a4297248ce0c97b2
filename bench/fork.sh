#!/bin/bash
# SPDX-License-Identifier: MIT
# fork of a process with much memory resident: plainly, under weir below the limit, and managed. Interleaved; medians
# with min and max of the runs' medians, in ms.
#
#   fork.sh WEIR BENCH_FORK [RUNS [MIB]]
set -u
weir=$1 bench=$2 runs=${3:-9} mib=${4:-1024}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

for _ in $(seq "$runs"); do
	"$bench" "$mib" 5 >>"$tmp/plain" || exit 1
	"$weir" run --memory $((4 * mib))M --allocator none -- "$bench" "$mib" 5 >>"$tmp/fits" || exit 1
	WEIR_ADOPT=now "$weir" run --memory $((4 * mib))M --allocator none -- "$bench" "$mib" 5 \
		>>"$tmp/managed" || exit 1
done

# WHAT FIELD: median (min to max)
median() {
	sort -n -k"$2" "$tmp/$1" | awk -v f="$2" '{ v[NR] = $f }
		END { printf "%.2f (%.2f to %.2f)", v[int((NR + 1) / 2)], v[1], v[NR] }'
}

for what in plain fits managed; do
	printf '%-8s fork %s   its CPU time %s   fork, exit and wait %s\n' "$what" "$(median $what 1)" \
		"$(median $what 2)" "$(median $what 3)"
done

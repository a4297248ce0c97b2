#!/bin/bash
# SPDX-License-Identifier: MIT
# weir race and weir bench in small: the unsafe design loses data, the others do not, and bad input is one clear line.
#
#   test_race.sh WEIR
set -u
weir=$1
fails=0

# WANTED-STATUS PATTERN COMMAND...
expect() {
	local want=$1 pattern=$2 out status
	shift 2
	out=$(timeout 120 "$weir" "$@" 2>&1)
	status=$?
	if [ "$status" -ne "$want" ] || ! grep -q "$pattern" <<<"$out"; then
		echo "FAILED: weir $*: status $status, wanted $want and '$pattern'"
		tail -5 <<<"$out" | sed 's/^/    /'
		fails=$((fails + 1))
	else
		echo "ok weir $*"
	fi
}

# Small and slow enough that slots are reused under the readers' hands.
shape=(--size 2M --threads 8 --swap "brd:size=2M,read_delay=1ms")
expect 1 'DATA LOST' race "${shape[@]}" --policy direct-unsafe --seconds 60
for policy in direct cached direct-count; do
	expect 0 'nothing lost' race "${shape[@]}" --policy "$policy" --rounds 3
done
for relax in none yield tick queue; do
	expect 0 'nothing lost' race "${shape[@]}" --relax "$relax" --rounds 1
done
expect 0 '"pages_lost": 0' race "${shape[@]}" --rounds 1 --json
expect 2 "unknown policy 'x'" race --policy x
expect 2 "unknown way to relax 'x'" race --relax x
expect 2 'unknown swap device' race --swap floppy
expect 2 'not a number' race --threads 0
expect 2 'unexpected word' race now
expect 0 'direct-unsafe.*ratio' bench swapin --size 4M --rounds 3
expect 0 '"cached"' bench swapin --size 2M --rounds 1 --json
expect 0 '^slot  *[0-9.]* .* us .* ms' bench losers --threads 4 --races 8
expect 0 '"tick": {"lost_faults": [1-9]' bench losers --threads 4 --races 8 --json
expect 2 'unknown swap device' bench losers --swap floppy
expect 2 'say which' bench
expect 0 'direct-unsafe.*ratio' bench swapin --size 4M --rounds 1 --random --data "$weir"
expect 2 'bench: --data: .*: must be a file of a page or more' bench swapin --size 4M --rounds 1 --data /dev/null
expect 2 "unexpected word .now." bench swapin now
[ "$(wc -l </proc/swaps)" -gt 1 ] || expect 2 'no swap is active' race --target kernel

echo "$fails failed"
[ "$fails" -eq 0 ]

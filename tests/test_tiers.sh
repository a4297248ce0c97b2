#!/bin/bash
# SPDX-License-Identifier: MIT
# weir run with a file below zram: programs whose pages do not fit compressed, their children, several devices side by
# side, what is refused, and what is left after everything was killed.
#
#   test_tiers.sh WEIR VICTIM
set -u
weir=$1 victim=$2
tmp=$(mktemp -d "$PWD/tiers-run.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
fails=0

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$tmp/err" | tail -5
	fails=$((fails + 1))
}

# LIMIT MODE MIB OPTION...
victim_runs() {
	local limit=$1 mode=$2 mib=$3

	shift 3
	timeout -k 5 120 "$weir" run --memory "${limit}M" --stats=json "$@" -- "$victim" "$mode" "$mib" \
		>"$tmp/out" 2>"$tmp/err" || fail "$mode, $*: status $?"
	grep -q '^ok' "$tmp/out" || fail "$mode, $*: no ok"
	echo "ok $mode, $*, $SECONDS s"
}

goes_down() {
	victim_runs "$@"
	grep -Eq '"lower_objects": *[1-9][0-9][0-9]' "$tmp/err" || fail "$*: nothing went down"
	grep -Eq '"lower_reads": *[1-9]' "$tmp/err" || fail "$*: nothing came back"
}

expect_refused() {
	local text=$1

	shift
	"$weir" run --memory 64M "$@" -- touch "$tmp/started" >"$tmp/out" 2>"$tmp/err"
	[ $? -eq 125 ] || fail "$*: status is not 125"
	[ "$(wc -l <"$tmp/err")" -eq 1 ] || fail "$*: not one line"
	grep -q "$text" "$tmp/err" || fail "$*: the line does not say \"$text\""
	[ ! -e "$tmp/started" ] || fail "$*: the program has started"
}

tiers=(--swap zram --swap "file:$tmp")
# Compressible and not; neither fits without the file.
goes_down 24 work 240 "${tiers[@]}"
goes_down 24 random 96 "${tiers[@]}"
goes_down 48 random 96 "${tiers[@]}" --writeback watermark=40
goes_down 24 work 200 --swap zram:algo=zstd,stats=on --swap "file:$tmp,crypt=off"
goes_down 24 work 240 "${tiers[@]}" --writeback recompress=on
grep -Eq '"recompressed": *[1-9][0-9][0-9]' "$tmp/err" || fail 'recompress=on: nothing was'
grep -Eq '"recompress_saved_bytes": *[1-9][0-9][0-9]' "$tmp/err" || fail 'recompress=on: nothing was saved'
goes_down 24 work 200 "${tiers[@]}" --writeback recompress=off
grep -Eq '"recompressed": *0' "$tmp/err" || fail 'recompress=off: something was'
goes_down 24 threads 240 "${tiers[@]}"
goes_down 24 work 200 "${tiers[@]}" --faults thread
# The child of a fork reads what its parent has sent down.
goes_down 24 fork-early 60 "${tiers[@]}"
goes_down 24 fork-late 60 "${tiers[@]}"
goes_down 24 fork-storm 40 "${tiers[@]}" --writeback watermark=20,recompress=on
victim_runs 24 spawn 60 "${tiers[@]}"
victim_runs 24 close-all 60 "${tiers[@]}" --writeback watermark=20
victim_runs 24 fork-late 60 "${tiers[@]}" --per-process
# A lower device that fails now and then, or in all that is written to it: then zram is all there is.
goes_down 24 work 240 --swap zram --swap "file:$tmp,error=read:eio:rate=1/1000+write:eio:rate=1/10"
victim_runs 24 work 60 --swap zram --swap "file:$tmp,error=write:eio" --writeback watermark=10
# Nothing is cold by need here, only by time.
timeout -k 5 60 "$weir" run --memory 32M --stats=json "${tiers[@]}" --writeback idle=100ms -- \
	python3 -c 'import time; m = bytearray(b"some words %d " % 7 * (4 << 20)); time.sleep(2)' \
	>"$tmp/out" 2>"$tmp/err" || fail "idle: status $?"
grep -Eq '"lower_objects": *[1-9][0-9][0-9]' "$tmp/err" || fail 'idle: nothing went down'
# Side by side: with writeback off, and without zram.
victim_runs 24 random 60 --swap zram:size=8M --swap "file:$tmp" --writeback off
grep -q '"lower_objects"' "$tmp/err" && fail 'off, and something went down'
# The second is used when the first has slots, and there is no memory for what would be in them.
victim_runs 24 random 96 --swap zram --swap "file:$tmp" --writeback off
grep -Eq '"write_errors": 0' "$tmp/err" || fail 'what finds no room is counted as an error'
victim_runs 24 random 60 --swap "file:$tmp" --swap "file:$tmp"

expect_refused 'expected off' "${tiers[@]}" --writeback sometimes
expect_refused 'expected off' "${tiers[@]}" --writeback watermark=101
expect_refused 'is not there' --swap zram --swap "file:$tmp/no/such"
expect_refused 'line feed' --swap zram --swap "file:$tmp"$'\n'
expect_refused 'size=1025G: expected 4K to 1T' --swap zram:size=1025G
expect_refused 'more than 4' --swap zram --swap zram --swap zram --swap zram --swap zram

# What was killed leaves nothing.
mkfifo "$tmp/go"
setsid "$weir" run --memory 24M "${tiers[@]}" -- sh -c "'$victim' work 240; echo >'$tmp/go'; exec sleep 100" \
	>/dev/null 2>&1 &
run=$!
read -r _ <"$tmp/go"
kill -9 -- "-$run" || fail 'the run is not there'
wait "$run" 2>/dev/null
[ "$(find "$tmp" -type f | wc -l)" -eq 2 ] || fail "files are left: $(find "$tmp" -type f)"
exit "$fails"

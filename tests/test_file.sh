#!/bin/bash
# SPDX-License-Identifier: MIT
# weir run with a file as swap: programs that really swap, their forked and executed children, what is refused before
# the program starts, a disk that fills up in the middle, and what is left after everything was killed.
#
#   test_file.sh WEIR VICTIM
set -u
weir=$1 victim=$2
tmp=$(mktemp -d "$PWD/file-run.XXXXXX")
mounted=
trap '[ -z "$mounted" ] || umount -l "$mounted"; rm -rf "$tmp"' EXIT
fails=0

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$tmp/err" | tail -5
	fails=$((fails + 1))
}

# DEVICE LIMIT MODE MIB
victim_runs() {
	timeout -k 5 120 "$weir" run --memory "$2M" --stats=json --swap "$1" -- "$victim" "$3" "$4" \
		>"$tmp/out" 2>"$tmp/err" ||
		fail "$3 on $1: status $?"
	grep -q '^ok' "$tmp/out" || fail "$3 on $1: no ok"
	grep -Eq '"pages_out": *[1-9][0-9][0-9]' "$tmp/err" || fail "$3 on $1: nothing was swapped"
	echo "ok $3 on $1, $SECONDS s"
}

expect_refused() {
	"$weir" run --memory 64M $per_process --swap "$1" -- touch "$tmp/started" >"$tmp/out" 2>"$tmp/err"
	[ $? -eq 125 ] || fail "$1: status is not 125"
	[ "$(wc -l <"$tmp/err")" -eq 1 ] || fail "$1: not one line"
	grep -q "$2" "$tmp/err" || fail "$1: the line does not say \"$2\""
	[ ! -e "$tmp/started" ] || fail "$1: the program has started"
}
per_process=

victim_runs "file:$tmp" 16 work 24
victim_runs "file:$tmp,direct=off" 16 fork-early 24
victim_runs "file:$tmp" 16 fork-late 24
victim_runs "file:$tmp" 24 fork-storm 26
victim_runs "file:$tmp" 16 spawn 20
victim_runs "file:$tmp" 16 close-all 24
victim_runs "file:$tmp" 16 threads 144 # each of the eight has more than fits, whoever runs when
truncate -s 512M "$tmp/swap"
# What cannot be read back is told with its place, and costs the program that touches it a signal.
for faults in signal thread; do
	timeout -k 5 60 "$weir" run --memory 16M --faults $faults --swap "file:$tmp/swap,error=read:eio:after=3000" -- \
		"$victim" work 48 >"$tmp/out" 2>"$tmp/err"
	[ $? -eq 135 ] || fail "read error, faults by $faults: not SIGBUS"
	grep -Eq "cannot be read back from swap device file:$tmp/swap, offset [0-9]+ " "$tmp/err" ||
		fail "read error, faults by $faults: not told with its place"
done
victim_runs "file:$tmp/swap" 16 work 24
victim_runs "file:$tmp/swap" 16 work 24
timeout -k 5 120 "$weir" run --memory 16M --per-process --swap "file:$tmp" -- "$victim" fork-late 24 >"$tmp/out" \
	2>"$tmp/err" || fail "each process for itself: status $?"
timeout -k 5 120 "$weir" run --memory 16M --swap "file:$tmp" -- sh -c "'$victim' work 20 & '$victim' work 20 && wait" \
	>"$tmp/out" 2>"$tmp/err" || fail "two programs on one file: status $?"
[ "$(grep -c '^ok' "$tmp/out")" -eq 2 ] || fail "two programs on one file"

# What is refused, before the program starts.
expect_refused "file:$tmp/no/such" 'is not there'
expect_refused "file:/dev/null" 'neither a directory nor a file nor a block device'
expect_refused "file:$tmp,size=5000" 'multiple of 4K'
echo 'a letter' >"$tmp/letter"
expect_refused "file:$tmp/letter" 'say force=on'
expect_refused "file:$tmp,size=512G,prealloc=on" 'disk that is full'
expect_refused 'file:' 'no path given'
per_process=--per-process
expect_refused "file:$tmp/swap" 'name a directory'
per_process=
[ "$(cat "$tmp/letter")" = 'a letter' ] || fail 'a refused file was changed'

# In use, and free as soon as everything has been killed; a private file leaves nothing on the disk.
mkfifo "$tmp/go"
setsid "$weir" run --memory 32M --swap "file:$tmp/swap" -- sh -c "'$victim' work 24; echo >'$tmp/go'; exec sleep 100" \
	>/dev/null 2>&1 &
run=$!
read -r _ <"$tmp/go"
expect_refused "file:$tmp/swap" 'in use'
kill -9 -- "-$run" || fail 'the run is not there'
wait "$run" 2>/dev/null
"$weir" run --memory 64M --swap "file:$tmp/swap" -- true 2>"$tmp/err" || fail 'a killed run holds its file'
[ "$(find "$tmp" -type f | wc -l)" -eq 4 ] || fail "files are left: $(find "$tmp" -type f)"

# A disk that is full, at the start and in the middle.
mkdir "$tmp/disk"
if ! mount -t tmpfs -o size=20M none "$tmp/disk" 2>"$tmp/err"; then
	echo "a disk that fills up is left out: $(cat "$tmp/err")"
else
	mounted=$tmp/disk
	timeout -k 5 60 "$weir" run --memory 16M --swap "file:$tmp/disk" -- "$victim" work 64 >"$tmp/out" 2>"$tmp/err"
	[ $? -eq 137 ] || fail 'more than the disk holds: not ended'
	grep -q 'out of memory' "$tmp/err" || fail 'more than the disk holds: not told'
	victim_runs "file:$tmp/disk" 16 work 24
	dd if=/dev/zero of="$tmp/disk/fill" bs=1M 2>/dev/null
	expect_refused "file:$tmp/disk" 'disk that is full'
fi
exit "$fails"

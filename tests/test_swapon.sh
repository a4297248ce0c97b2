#!/bin/bash
# SPDX-License-Identifier: MIT
# weir swapon and weir swapoff on programs that run: devices come and go under pressure while every page is verified,
# and the program closes all descriptors that it can;
# what is interrupted, does not fit, or is wrong from the start changes nothing; nothing is left behind.
#
#   test_swapon.sh WEIR VICTIM
set -u
weir=$1 victim=$2
tmp=$(mktemp -d "$PWD/swapon-run.XXXXXX")
chmod 755 "$tmp"
trap 'rm -rf "$tmp"' EXIT
fails=0

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$tmp/err" "$tmp/run" | tail -5
	fails=$((fails + 1))
}

# A program that works until end_run: MODE MIB OPTION... Its pid is in $pid.
start_run() {
	local mode=$1 mib=$2

	shift 2
	rm -f "$tmp/go"
	mkfifo "$tmp/go"
	timeout -k 5 120 "$weir" run "$@" -- "$victim" "$mode" "$mib" <"$tmp/go" >"$tmp/out" 2>"$tmp/run" &
	run=$!
	exec 9>"$tmp/go"
	until grep -q filled "$tmp/out"; do
		kill -0 "$run" 2>/dev/null || break
		sleep 0.05
	done
	pid=$(cat "/proc/$run/task/$run/children")
	pid=${pid% }
}

end_run() {
	exec 9>&-
	wait "$run" || fail "$1: the program ended with $?"
	grep -q '^ok' "$tmp/out" || fail "$1: no ok"
	echo "ok $1, $SECONDS s"
}

# STATUS TEXT COMMAND...: one line that holds the text, or none where that is empty.
expect_status() {
	local status=$1 text=$2 lines=1 got

	shift 2
	[ -n "$text" ] || lines=0
	timeout -k 5 60 "$weir" "$@" >"$tmp/shown" 2>"$tmp/err"
	got=$?
	[ "$got" -eq "$status" ] || fail "$*: status $got and not $status"
	[ "$(grep -cv 'MiB left' "$tmp/err")" -eq "$lines" ] || fail "$*: not $lines lines"
	[ -z "$text" ] || grep -q -- "$text" "$tmp/err" || fail "$*: the line does not say \"$text\""
}

# Used bytes of a device, in the form in which they are shown; nothing if it is not there.
used() {
	"$weir" swapon --show "$pid" | awk -v name="$1" '$2 == name { print $5 }'
}

# Until something lies there.
await_use() {
	for _ in $(seq 100); do
		[ "$(used "$1")" != 0B ] && [ -n "$(used "$1")" ] && return
		sleep 0.1
	done
	fail "nothing comes to lie on $1"
}

expect_devices() {
	local got

	got=$("$weir" swapon --show "$pid" | awk 'NR > 1 { printf "%s ", $2 }')
	[ "$got" = "$1" ] || fail "the devices are '$got' and not '$1'"
}

mkdir "$tmp/swap"
file=file:$tmp/swap

# ---- to and fro, and the program's pages are what they were ----

for way in "" "--faults thread" "--per-process"; do
	[ "$way" != "--faults thread" ] || "$weir" run --memory 48M --faults thread -- true 2>/dev/null || continue
	# shellcheck disable=SC2086 # none, or several words
	start_run keep 96 --memory 48M $way
	await_use zram
	expect_status 0 '' swapon "$pid" "$file,prio=5"
	await_use "$file"
	expect_status 0 '' swapoff "$pid" zram
	expect_devices "$file "
	expect_status 0 '' swapon "$pid" zram:algo=zstd,prio=9
	expect_status 0 '' swapoff "$pid" "$file"
	expect_devices "zram "
	await_use zram
	[ "$(find "/proc/$pid/fd" -lname "$tmp/swap/*" 2>/dev/null | wc -l)" -eq 0 ] || fail "the file is still open"
	end_run "to and fro $way"
done

# A lower device goes with its zram.
start_run keep 64 --memory 32M --swap zram --swap "$file"
await_use zram
expect_status 1 'is below zram' swapoff "$pid" 1
expect_status 0 '' swapon "$pid" "$file,prio=-7"
expect_status 0 '' swapoff "$pid" 0
expect_devices "$file "
expect_status 0 '' swapon "$pid" zram
end_run tiers

# ---- interrupted, killed, and what does not fit ----

start_run keep-random 80 --memory 64M --swap "$file,delay=20ms"
await_use "$file"
expect_status 0 '' swapon "$pid" "$file,prio=-5,checksum=on"
for sig in TERM INT; do
	python3 -c 'import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
p = subprocess.Popen(sys.argv[2:])
time.sleep(0.3)
p.send_signal(getattr(signal, "SIG" + sys.argv[1]))
sys.exit(p.wait())' "$sig" "$weir" swapoff "$pid" 0 >/dev/null 2>"$tmp/err"
	status=$?
	[ "$status" -eq $((128 + $(kill -l "$sig"))) ] || fail "$sig: status $status"
	[ "$(grep -c 'interrupted; .* stays in use' "$tmp/err")" -eq 1 ] || fail "$sig: not one line"
	expect_devices "$file $file "
done
timeout -s KILL 0.3 "$weir" swapoff "$pid" 0 2>"$tmp/err"
expect_status 1 'there are several devices' swapoff "$pid" "$file"
expect_status 0 '' swapoff "$pid" 0
expect_devices "$file "
end_run interrupted

start_run keep-random 80 --memory 48M --swap "$file"
await_use "$file"
expect_status 1 'there is room for 48M in memory and 0B on other devices' swapoff "$pid" "$file"
# It could, if it were not noise.
expect_status 0 '' swapon "$pid" zram
expect_status 1 'fits neither in memory nor on other devices' swapoff "$pid" "$file"
expect_devices "$file zram "
end_run 'what does not fit'

# The last device, where all fits.
WEIR_STRESS=2000 start_run keep 16 --memory 48M
expect_status 0 '' swapoff "$pid" zram
expect_devices ""
end_run 'the last device'

# ---- trees ----

# Programs that begin later, and those that do not swap yet, find what is there then.
timeout -k 5 120 "$weir" run --memory 40M -- sh -c "echo started; read -r _ && exec '$victim' keep 64" \
	<"$tmp/go" >"$tmp/out" 2>"$tmp/run" &
run=$!
exec 9>"$tmp/go"
until grep -q started "$tmp/out"; do sleep 0.05; done
pid=$(cat "/proc/$run/task/$run/children")
pid=${pid% }
expect_status 0 '' swapon "$pid" "$file"
expect_status 0 '' swapoff "$pid" zram
echo go >&9
await_use "$file"
end_run 'what begins later'

# shellcheck disable=SC2016 # the dollar is the inner shell's
timeout -k 5 200 "$weir" run --memory 64M -- sh -c 'echo started
	for i in 1 2; do "$0" fork-storm 30 & "$0" spawn 30 & "$0" work 60 & wait; "$0" fork-late 60; done' \
	"$victim" >"$tmp/out" 2>"$tmp/run" &
run=$!
until grep -q started "$tmp/out"; do sleep 0.05; done
pid=$(cat "/proc/$run/task/$run/children")
pid=${pid% }
rounds=0
while [ "$rounds" -lt 7 ] && kill -0 "$pid" 2>/dev/null; do
	timeout -k 5 60 "$weir" swapon "$pid" "$file,prio=5" 2>"$tmp/err" || break
	sleep 0.2
	timeout -k 5 60 "$weir" swapoff "$pid" "$file" 2>"$tmp/err" || break
	rounds=$((rounds + 1))
done
[ "$rounds" -ge 2 ] || fail "a tree: only $rounds rounds"
wait "$run" || fail "a tree: status $?"
[ "$(grep -c '^ok' "$tmp/out")" -eq 8 ] || fail 'a tree: not all are ok'
echo "ok a tree, $rounds rounds, $SECONDS s"

# ---- processes that cannot answer ----

start_run keep 64 --memory 32M
kill -STOP "$pid"
expect_status 0 'is stopped; it takes the device when it goes on' swapon "$pid" "$file"
expect_status 1 'is stopped and cannot let go of it' swapoff "$pid" zram
kill -CONT "$pid"
expect_status 0 '' swapoff "$pid" zram
await_use "$file"
end_run stopped

start_run keep 96 --memory 48M --swap "$file,delay=2ms"
(sleep 0.5; kill -KILL "$pid") &
timeout -k 5 60 "$weir" swapon "$pid" zram 2>"$tmp/err"
timeout -k 5 60 "$weir" swapoff "$pid" "$file" >/dev/null 2>"$tmp/err"
[ $? -ne 124 ] || fail 'the program has ended, and swapoff has not'
exec 9>&-
wait "$run" 2>/dev/null

# ---- what is wrong ----

start_run keep 64 --memory 32M
truncate -s 64M "$tmp/swap/image"
mkdir "$tmp/none"
echo 'not yours' >"$tmp/data"
expect_status 2 'not the number' swapon x zram
expect_status 2 'PID DEVICE' swapon "$pid"
expect_status 2 'PID DEVICE' swapoff "$pid"
expect_status 2 'unknown swap device' swapon "$pid" nothing
expect_status 2 'expected' swapon "$pid" zram:size=x
expect_status 2 'line feed' swapon "$pid" "$file"$'\n'
expect_status 1 'there is no process 4194303' swapon 4194303 zram
expect_status 1 'does not belong to a weir run' swapon $$ zram
expect_status 1 'does not belong to a weir run' swapoff $$ zram
expect_status 1 'there is no device nothing' swapoff "$pid" nothing
expect_status 1 'there is no device 5' swapoff "$pid" 5
expect_status 1 'is not there' swapon "$pid" "file:$tmp/no/such"
expect_status 1 'swap space' swapon "$pid" "file:$tmp/data"
expect_status 0 '' swapon "$pid" "file:$tmp/swap/image,force=on"
expect_status 1 'in use' swapon "$pid" "file:$tmp/swap/image,force=on"
expect_status 0 '' swapoff "$pid" "file:$tmp/swap/image"
expect_status 0 '' swapon "$pid" "file:$tmp/swap/image,force=on"
expect_status 0 '' swapoff "$pid" "file:$tmp/swap/image"
expect_devices 'zram '
if [ "$(id -u)" -eq 0 ]; then
	for verb in swapon swapoff; do
		setpriv --reuid=65534 --regid=65534 --clear-groups "$weir" "$verb" "$pid" zram >/dev/null 2>"$tmp/err"
		status=$?
		[ "$status" -eq 1 ] || fail "another user: status $status"
		grep -q 'is not yours' "$tmp/err" || fail 'another user is not told'
	done
else
	echo 'not root: what another user may is left out'
fi
# 16 devices in the life of a run.
for _ in $(seq 13); do
	expect_status 0 '' swapon "$pid" zram
	expect_status 0 '' swapoff "$pid" "$("$weir" swapon --show "$pid" | awk 'END { print $1 }')"
done
expect_status 1 '16 devices' swapon "$pid" zram
end_run 'what is wrong'

# ---- what is left ----

for _ in $(seq 30); do
	left=$(find /proc/[0-9]*/fd -lname "$tmp/swap/*" 2>/dev/null | wc -l)
	[ "$left" -gt 0 ] || break
	sleep 0.1
done
[ "$left" -eq 0 ] || fail "$left descriptors of files are open somewhere"
exit "$fails"

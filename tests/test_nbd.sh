#!/bin/bash
# SPDX-License-Identifier: MIT
# The nbd device against real servers: what it may rely on, what it refuses, and what it survives.
#
#   test_nbd.sh WEIR VICTIM PAGER CONFORMANCE
#
# WEIR_LONG=1: the connection stays cut for 30 s instead of 4.
# shellcheck disable=SC1091,SC2034,SC2154 # remote.sh has the other half of these names
set -u
weir=$1 victim=$2 pager=$3 conformance=$4 scheme=nbd
here=$(cd "$(dirname "$0")" && pwd)
for tool in nbdkit qemu-nbd qemu-img python3; do
	command -v $tool >/dev/null || { echo "skipped: no $tool; run scripts/setup check"; exit 77; }
done
[ -x "$(dirname "$weir")/../engine/weir-nbd" ] || { echo "skipped: weir-nbd is not built: no libnbd"; exit 77; }
# shellcheck source=tests/remote.sh
. "$here/remote.sh"
mark=$tmp

# Starts a command in the background; its pid is in $pid.
start() {
	"$@" >>"$tmp/server" 2>&1 </dev/null &
	pid=$!
	disown "$pid"
	pids+=("$pid")
}

# Ends a server, and waits until it is gone. PID [SIGNAL]
stop() {
	kill "-${2:-TERM}" "$1"
	while [ "$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null | tr -d Z)" ]; do sleep 0.01; done
}

wait_for_socket() {
	local i
	for ((i = 0; i < 500; i++)); do
		[ -S "$1" ] && return
		sleep 0.01
	done
	fail "no server at $1"
}

# nbdkit in the foreground on $tmp/NAME.sock: NAME ARGUMENTS... Where connections die under it, `-t 1`: with several
# threads to a connection nbdkit 1.32 may abort then (raw_send_socket: Assertion `sock >= 0').
serve() {
	local name=$1
	shift
	rm -f "$tmp/$name.sock"
	start nbdkit -f -U "$tmp/$name.sock" "$@"
	wait_for_socket "$tmp/$name.sock"
}

unix() {
	echo "nbd:nbd+unix:///?socket=$tmp/$1.sock"
}

wait_for_port() {
	local i
	for ((i = 0; i < 500; i++)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
		sleep 0.02
	done
	fail "no server at port $1"
}

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# ---- servers ----

servers() {
	local port device
	serve memory --filter=log memory 512M logfile="$tmp/log"
	device=$(unix memory)
	conforms "$device" "grep -c 'Trim.*count=0x200000.*\.\.\.' '$tmp/log'"
	[ "$(tail -1 "$tmp/out")" -ge 2 ] || fail "what is not needed any more is not trimmed"
	works "nbdkit memory, Unix socket" 24M "$device" "$victim" random 48
	works "one connection" 24M "$device,connections=1" "$victim" random 40
	works "the tightest limit" 8M "$device" "$victim" random 48
	works "threads" 24M "$device" "$victim" threads 64
	works "system calls" 24M "$device" "$victim" syscalls 28
	works "faults by thread or signal" 24M "$device" "$pager" 48 1 4
	shares "$device"

	truncate -s 128M "$tmp/disk"
	serve file file "$tmp/disk"
	works "nbdkit file" 24M "$(unix file)" "$victim" random 40

	port=$(free_port)
	start nbdkit -f -i 127.0.0.1 -p "$port" memory 128M
	wait_for_port "$port"
	works "TCP" 24M "nbd:nbd://127.0.0.1:$port" "$victim" random 40

	qemu-img create -q -f raw "$tmp/qemu.img" 128M
	start qemu-nbd -t -f raw -e 8 -k "$tmp/qemu.sock" "$tmp/qemu.img"
	wait_for_socket "$tmp/qemu.sock"
	works "qemu-nbd" 24M "$(unix qemu)" "$victim" random 40

	echo "weir:$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" >"$tmp/keys.psk"
	serve tls --tls=require --tls-psk="$tmp/keys.psk" memory 128M
	works "TLS" 24M "nbd:nbds+unix://weir@/?socket=$tmp/tls.sock&tls-psk-file=$tmp/keys.psk" "$victim" random 40
	refused "TLS with the wrong user" "cannot be reached" \
		"nbd:nbds+unix://other@/?socket=$tmp/tls.sock&tls-psk-file=$tmp/keys.psk"
}

# Servers work on a few requests of each connection at a time: a batch goes by all of them.
spreads() {
	local nr bench
	bench=$(dirname "$weir")/../../bench/bench_remote
	serve spread --filter=log memory 128M logfile="$tmp/spread.log"
	timeout 60 "$weir" run --memory 64M --swap "$(unix spread)" -- \
		env -u LD_PRELOAD "$bench" weir "" 1024 64 >"$tmp/out" 2>"$tmp/err" ||
		fail "batches: status $?"
	for nr in 1 2 3 4; do
		[ "$(grep -c "connection=$nr Read .*count=0x1000 " "$tmp/spread.log")" -ge 128 ] ||
			fail "connection $nr has less than half of its share of the reads"
	done
	ok "batches go by all connections"
}

refusals() {
	refused "no server" "cannot be reached: .*No such file" "$(unix nobody)"
	serve readonly -r memory 128M
	refused "read-only" "the export is read-only" "$(unix readonly)"
	serve small memory 64K
	refused "too small" "65536 bytes, and the least is 1M" "$(unix small)"
	serve single --filter=multi-conn memory 128M multi-conn-mode=disable
	refused "several connections where one is promised" "say connections=1" "$(unix single),connections=2"
	head -c 64K /dev/urandom >"$tmp/precious"
	truncate -s 64M "$tmp/precious"
	cp "$tmp/precious" "$tmp/copy"
	serve precious file "$tmp/precious"
	refused "somebody's data" "say overwrite=on" "$(unix precious)"
	cmp -s "$tmp/precious" "$tmp/copy" || fail "somebody's data was touched"
	works "overwrite=on" 24M "$(unix precious),overwrite=on" "$victim" random 40
	works "what a run has left" 24M "$(unix precious)" "$victim" random 40
	ok "refusals"
}

# ---- faults ----

restarts() {
	truncate -s 64M "$tmp/restart"
	serve restart file "$tmp/restart"
	device=$(unix restart)
	load 5
	for _ in 1 2 3; do
		stop "$pid" KILL
		sleep 0.3
		serve restart file "$tmp/restart"
		sleep 0.5
	done
	finish "the server killed and restarted, three times"

	# One that forgets is found out: no page is taken for another.
	serve forgets memory 64M
	device=$(unix forgets),timeout=2s
	load 5
	stop "$pid" KILL
	serve forgets memory 64M
	perishes "a server without its memory" "(without what was stored|no answer within 2 s)"
	ok "a server that has lost its memory"
}

severed() {
	local port cut=4
	[ -z "${WEIR_LONG:-}" ] || cut=30
	port=$(free_port)
	serve cut -t 1 memory 64M
	start "$here/tcp_proxy.py" "$port" "$tmp/cut.sock"
	wait_for_port "$port"
	device=nbd:nbd://127.0.0.1:$port
	load $((cut + 3))
	stop "$pid" KILL
	sleep "$cut"
	start "$here/tcp_proxy.py" "$port" "$tmp/cut.sock"
	finish "the connection cut for $cut s"
	[ "$(longest_ms)" -ge $((cut * 1000 - 2000)) ] || fail "it was not cut"
	grep -q "^weir: swap device nbd:.*no answer for 3 s.*waiting" "$tmp/err" || fail "the stall is not told"
	grep -q "^weir: swap device nbd:.*answers again, after" "$tmp/err" || fail "the stall's end is not told"

	# Silence instead of an end: connections that carry nothing any more.
	device=$device,timeout=8s
	load 6
	kill -STOP "$pid"
	sleep 3
	kill -CONT "$pid"
	finish "a silent connection"
	stop "$pid" KILL

	# Answers that end in their middle.
	start "$here/tcp_proxy.py" "$port" "$tmp/cut.sock" 1000000
	wait_for_port "$port"
	load 3
	finish "answers cut short"
	stop "$pid" KILL
}

hang() {
	local begin
	serve hang -t 1 memory 64M
	device=$(unix hang),timeout=2s
	load 60
	begin=$SECONDS
	kill -STOP "$pid"
	perishes "a server that hangs" "no answer within 2 s \(timeout=\)"
	[ $((SECONDS - begin)) -lt 30 ] || fail "a server that hangs is waited for beyond the timeout"
	kill -CONT "$pid"
	no_engine "hang"
	works "the same server afterwards" 24M "$device" "$victim" random 40
}

errors() {
	serve errors --filter=error memory 128M error-pwrite-rate=5% error=EIO error-file="$tmp/unwritable"
	told='Input/output error'
	works "failing writes" 24M "$(unix errors)" sh -c "touch '$tmp/unwritable'; exec '$victim' random 40"
	told=
	serve unreadable --filter=error memory 128M error-pread-rate=100% error-file="$tmp/bad"
	device=$(unix unreadable)
	load 20
	touch "$tmp/bad"
	perishes "unreadable pages" "the server answers: Input/output error"
	ok "read errors"
}

kills() {
	serve kills memory 128M
	device=$(unix kills)
	load 60
	refused "an export in use" "another run of this machine" "$device"
	kill_load
	no_engine "the run killed"
	works "after a killed run" 24M "$device" "$victim" random 40

	load 60
	kill -KILL "$(engines)"
	perishes "the engine killed" "its engine has ended"
	works "after a killed engine" 24M "$device" "$victim" random 40
}

# The engine ends with the device, and the export is free again, though the run goes on.
taken_off() {
	local run program number turn
	serve off memory 128M
	device=$(unix off),prio=5
	mkfifo "$tmp/end"
	timeout 120 "$weir" run --resident 16M -- "$victim" keep 48 <"$tmp/end" >"$tmp/out" 2>"$tmp/err" &
	run=$!
	exec 9>"$tmp/end"
	for ((i = 0; i < 500; i++)); do
		grep -q filled "$tmp/out" && break
		sleep 0.02
	done
	program=$(children "$run" | tr -d ' ')
	number=0
	for turn in first second; do
		number=$((number + 1)) # none is used twice
		"$weir" swapon "$program" "$device" 2>"$tmp/said" || fail "swapon, $turn time: $(cat "$tmp/said")"
		[ -n "$(engines)" ] || fail "swapon, $turn time: no engine"
		sleep 0.5
		"$weir" swapon --show "$program" >"$tmp/said"
		grep -q 'nbd .* [1-9][0-9.]*M  *5$' "$tmp/said" || fail "$turn time: not used: $(cat "$tmp/said")"
		"$weir" swapoff "$program" "$number" 2>"$tmp/said" || fail "swapoff, $turn time: $(cat "$tmp/said")"
		no_engine "swapoff, $turn time"
	done
	exec 9>&-
	wait "$run" || fail "what was taken off and on: status $?"
	ok "taken off while the run goes on, and on again: $(tail -1 "$tmp/out")"
}

for part in ${WEIR_NBD_PARTS:-servers spreads refusals restarts severed hang errors kills taken_off}; do
	$part
done
no_engine "the end"
echo "$fails failed"
[ "$fails" -eq 0 ]

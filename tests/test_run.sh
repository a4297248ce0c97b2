#!/bin/bash
# SPDX-License-Identifier: MIT
# weir run at work: programs on several times the memory that they may have, with both ways out, outputs compared with
# plain runs, and the peak RSS with the limit.
#
#   test_run.sh WEIR VICTIM
set -u
weir=$1 victim=$2
by=()
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fails=0 per_process=

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$tmp/err" | tail -5
	fails=$((fails + 1))
}

# The promise: peak RSS <= limit + 3 % + 24 MiB. Arguments: what, limit in MiB, peak in KiB.
check_peak() {
	[ "$3" -le $(($2 * 1024 * 103 / 100 + 24 * 1024)) ] || fail "$1: peak RSS $3 KiB over the limit of $2 MiB"
}

# MODE MIB LIMIT
victim_runs() {
	for vm in move copy; do
		# shellcheck disable=SC2086 # an option or nothing
		if ! WEIR_VM=$vm timeout 120 "$weir" run $per_process --memory "$3M" "${by[@]}" -- "$victim" "$1" "$2" \
			>"$tmp/out" 2>"$tmp/err"; then
			fail "$1 ${by[*]}, pages leave by $vm"
			continue
		fi
		check_peak "$1 ${by[*]} by $vm" "$3" "$(sed -n 's/^ok //p' "$tmp/out")"
		echo "ok $1 ${by[*]} by $vm, $SECONDS s"
	done
}

victim_runs work 128 32
victim_runs random 28 32
victim_runs zeros 1024 64
victim_runs churn 64 32
victim_runs threads 128 32
victim_runs syscalls 48 32
victim_runs spawn 64 16
victim_runs fork-early 64 32
victim_runs fork-late 64 32
victim_runs fork-storm 48 40
per_process=--per-process
victim_runs fork-early 64 16
victim_runs fork-late 64 16
victim_runs fork-storm 48 16
per_process=
victim_runs signals 64 16
victim_runs mappings 64 16
victim_runs close-all 64 16
victim_runs own-heap 64 16
victim_runs limits 32 16

# Random pages thrown out all the time, far below the limit, in children as well; and what the trace tells of it. Where
# others have the processors, a short program may end before anything is thrown out: then it runs again.
stress() {
	: >"$tmp/trace"
	# shellcheck disable=SC2086 # a mode and its size
	WEIR_STRESS=0 WEIR_ADOPT=now WEIR_TRACE=$tmp/trace timeout 120 "$weir" run --memory 128M -- "$victim" $1 \
		>"$tmp/out" 2>"$tmp/err" || fail "stress: $1: status $?"
	grep -q '^adopted [0-9]* victim$' "$tmp/trace" || fail "stress: $1: adoption is not traced"
	! grep '^efault' "$tmp/trace" || fail "stress: $1: EFAULT"
	grep -Eq '^end [0-9]+ victim resident=[0-9]+ total=[0-9]+ in=[1-9][0-9]* out=[1-9]' "$tmp/trace"
}
for mode in 'work 16' 'threads 16' 'syscalls 16' 'fork-storm 12' 'spawn 12' 'signals 12' 'mappings 16'; do
	for tries in 1 2 3 4 5 6 7 8 9 10; do
		stress "$mode" && break
		[ "$tries" -lt 10 ] || fail "stress: $mode: nothing was thrown out"
	done
done
echo "ok stress, $SECONDS s"
: >"$tmp/trace"
if command -v python3 >/dev/null; then # a pointer that nobody could hold: the program's own error, and traced as such
	WEIR_ADOPT=now WEIR_TRACE=$tmp/trace timeout 60 "$weir" run --memory 64M -- "$(command -v python3)" -c '
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.write(1, ctypes.c_void_p(0x20ffffff0000), 1) == -1 and ctypes.get_errno() == 14' 2>"$tmp/err" ||
		fail "write of a bad pointer into the window"
	grep -Eq '^efault [0-9]+ python3[.0-9]* 1$' "$tmp/trace" || fail "EFAULT is not traced"
	WEIR_ADOPT=now timeout 60 "$weir" run --memory 64M -- "$(command -v python3)" -c '
import os, signal
mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
pid = os.fork()
if not pid:
	os._exit(signal.pthread_sigmask(signal.SIG_BLOCK, []) != {signal.SIGUSR1} or mask != set())
assert os.waitpid(pid, 0)[1] == 0' 2>"$tmp/err" || fail "signal mask of a forked child"
	: >"$tmp/trace" # a child tells of its own pages; one that shares the memory tells nothing
	WEIR_TRACE=$tmp/trace timeout 60 "$weir" run --per-process --resident 8M -- "$(command -v python3)" -c '
import os, subprocess
heap = bytearray(range(256)) * (32 << 12)
pid = os.fork()
if not pid:
	os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
try:
	subprocess.run(["/no/such/program"])
except FileNotFoundError:
	pass' 2>"$tmp/err" || fail "two ways out of a child: status $?"
	sed -n 's/^end [0-9]* python.* out=//p' "$tmp/trace" | tr '\n' ' ' |
		awk '{ exit NF != 2 || $2 < 5000 || $1 * 2 > $2 }' ||
		fail "ends of processes: $(cat "$tmp/trace")"
fi
WEIR_STRESS=many timeout 60 "$weir" run --memory 64M -- "$victim" work 4 >"$tmp/out" 2>"$tmp/err"
[ $? -eq 125 ] || fail "WEIR_STRESS=many is taken"

# The same with faults by thread, where this user may have them.
if ! "$weir" run --memory 64M --faults thread -- true 2>"$tmp/err"; then
	echo "faults by thread are left out: $(cat "$tmp/err")"
else
	by=(--faults thread)
	per_process=--per-process
	victim_runs work 96 32
	victim_runs random 28 32
	victim_runs zeros 256 32
	victim_runs churn 48 32
	victim_runs threads 96 32
	victim_runs syscalls 40 32
	victim_runs spawn 32 16
	victim_runs fork-early 48 16
	victim_runs fork-late 48 16
	victim_runs fork-storm 24 16
	victim_runs signals 48 16
	victim_runs mappings 48 16
	victim_runs close-all 48 16
	by=() per_process=
	# A program that has lost the privilege on the way says so, and does not start.
	lose=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
	if ! "${lose[@]}" test ! -w /dev/userfaultfd 2>"$tmp/err" ||
		[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" != 0 ]; then
		echo "the loss of the privilege is left out: it cannot be lost here. $(cat "$tmp/err")"
	else
		"$weir" run --per-process --memory 64M --faults thread --allocator none -- \
			"${lose[@]}" true 2>"$tmp/err"
		[ $? -eq 125 ] || fail "privilege lost: not refused"
		grep -q 'faults thread is not allowed here' "$tmp/err" || fail "privilege lost: not told"
	fi
fi

# --resident alone: the compressed part may grow, the rest obeys.
if timeout 120 "$weir" run --resident 16M --stats=json -- "$victim" work 96 >"$tmp/out" 2>"$tmp/err"; then
	peak=$(sed -n 's/.*"resident_peak_bytes": *\([0-9]*\).*/\1/p' "$tmp/err")
	if [ -z "$peak" ] || [ "$peak" -gt $((16 << 20)) ]; then fail "--resident: peak '$peak'"; fi
	echo "ok --resident"
else
	fail "--resident"
fi

# Filters before the device: pages are encrypted, also in forked children; what comes back wrong is never handed out.
for mode in 'work 48' 'fork-storm 16' 'spawn 32'; do
	# shellcheck disable=SC2086 # a mode and its size
	timeout 120 "$weir" run --resident 24M --swap brd:crypt=on,checksum=on,stats=on -- "$victim" $mode \
		>"$tmp/out" 2>"$tmp/err" || fail "crypt: $mode: status $?"
done
timeout 60 "$weir" run --resident 16M --swap brd:crypt=on,error=write:corrupt:after=500:count=3 -- "$victim" work 48 \
	>"$tmp/out" 2>"$tmp/err"
[ $? -eq 135 ] || fail "damaged pages are not refused"
grep -Eq 'the page at 0x[0-9a-f]+ cannot be read back from swap device brd, offset [0-9]+ ' "$tmp/err" ||
	fail "damaged pages are not told"
timeout 60 "$weir" run --resident 16M --swap brd:stats=on --stats=json -- "$victim" work 48 >"$tmp/out" 2>"$tmp/err"
grep -Eq '"device_read_pages": [1-9].*"device_write_p99_ns": [1-9]' "$tmp/err" || fail "stats=on"
echo "ok filters, $SECONDS s"

# A program below the limit takes no fault at all.
timeout 60 "$weir" run --memory 256M --stats=json -- "$victim" work 64 >"$tmp/out" 2>"$tmp/err" ||
	fail "below the limit"
grep -q '"adopted": *false.*"faults_zero": *0' "$tmp/err" || fail "below the limit, and touched"

# What does not fit is told with figures, and ended.
timeout 60 "$weir" run --memory 16M -- "$victim" random 64 >"$tmp/out" 2>"$tmp/err"
status=$?
grep -q '^weir: out of memory: limit 16M' "$tmp/err" || fail "out of memory is not told"
[ "$status" -eq 137 ] || fail "out of memory: status $status"

# zstd as well.
timeout 120 "$weir" run --memory 32M --swap zram:algo=zstd,level=1 -- "$victim" work 128 >"$tmp/out" 2>"$tmp/err" ||
	fail "zstd"

# Programs that nobody here wrote, with the plain run's output. LIMIT COMMAND...
same() {
	local limit=$1
	shift
	command -v "${1%% *}" >/dev/null || { echo "no $1 here: left out"; return; }
	"$@" >"$tmp/plain" 2>"$tmp/err" </dev/null || { fail "plain $1"; return; }
	for vm in move copy; do
		WEIR_VM=$vm timeout 120 "$weir" run --memory "$limit" "${by[@]}" -- "$@" \
			>"$tmp/out" 2>"$tmp/err" </dev/null || fail "$1 by $vm: status $?"
		cmp -s "$tmp/plain" "$tmp/out" || fail "$1 by $vm: output differs"
		echo "ok $1 by $vm, $SECONDS s"
	done
}

seq 1 1500000 | awk '{ print ($1 * 7919) % 1500007, "line", $1 }' >"$tmp/lines"
export LC_ALL=C
same 64M sort --parallel=2 -S 200M "$tmp/lines"
same 48M python3 -c '
import random, hashlib
random.seed(1)
d = {i: "value %d " % i * 5 for i in range(300000)}
h = hashlib.md5()
for k in sorted(d, key=lambda k: d[k]):
    h.update(d[k].encode())
print(h.hexdigest(), sum(sorted(random.random() for _ in range(300000))[::1000]))'
same 24M sqlite3 :memory: '
create table t(a integer primary key, b text, c real);
with recursive x(n) as (select 1 union all select n + 1 from x where n < 200000)
  insert into t select n, hex(n * n) || "abcdefgh", n * 1.5 from x;
create index i on t(b);
select count(*), sum(c), max(b), (select sum(length(b)) from t where b like "%3%") from t;
pragma integrity_check;'
# shellcheck disable=SC2016 # the dollars are perl's
same 48M perl -e '$h{$_} = "v$_" x 3 for 1 .. 300000; $s += length $h{$_} for 1 .. 300000;
	print "$s\n", join(",", (sort { $a <=> $b } keys %h)[0 .. 5]), "\n"'

# The status and the signals are the command's own, managed or not.
timeout 60 "$weir" run --memory 16M -- sh -c "\"$victim\" work 64 >/dev/null && exit 7" 2>"$tmp/err"
[ $? -eq 7 ] || fail "exit status"
WEIR_ADOPT=now timeout 60 "$weir" run --memory 16M -- "$victim" work 4 >"$tmp/out" 2>"$tmp/err" || fail "WEIR_ADOPT=now"

echo "$fails failed"
[ "$fails" -eq 0 ]

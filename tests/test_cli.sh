#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: test_cli.sh WEIR. The command line: every error with its status and its one line, and what run passes on.
#
# The shim is replaced by an empty library beside a copy of the executable: what it does has tests of its own.
set -u

exe=$1
cc=${CC:-cc}
here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
failures=0
cases=0

mkdir -p "$dir/cli" "$dir/preload" "$dir/bin"
cp "$exe" "$dir/cli/weir"
weir=$dir/cli/weir
echo 'int weir_empty;' | $cc -shared -fPIC -x c - -o "$dir/preload/libweir-preload.so" || exit 1

fail() {
	echo "not ok: $*"
	failures=$((failures + 1))
}

# call COMMAND...: sets status, and writes $dir/out and $dir/err.
call() {
	cases=$((cases + 1))
	# In a subshell, so that bash does not report signals.
	("$@" >"$dir/out" 2>"$dir/err" </dev/null; exit $?) 2>/dev/null
	status=$?
}

# expect_error STATUS PATTERN COMMAND...: nothing on stdout, one line on stderr that matches.
expect_error() {
	local expected=$1 pattern=$2
	shift 2
	call "$@"
	[ "$status" = "$expected" ] || fail "status $status, expected $expected: $*: $(cat "$dir/err")"
	[ ! -s "$dir/out" ] || fail "output on stdout: $*: $(cat "$dir/out")"
	[ "$(wc -l <"$dir/err")" = 1 ] || fail "not one line: $*: $(cat "$dir/err")"
	grep -q "^weir: .*$pattern" "$dir/err" || fail "expected '$pattern': $*: $(cat "$dir/err")"
}

# expect_run_error STATUS PATTERN ARGUMENT...: of weir run, and nothing was started.
expect_run_error() {
	local expected=$1 pattern=$2
	shift 2
	rm -f "$dir/started"
	expect_error "$expected" "run: .*$pattern" "$weir" run "$@"
	[ ! -e "$dir/started" ] || fail "started the command: $*"
}

# expect_out STATUS PATTERN COMMAND...: stdout has a line that matches, stderr is empty.
expect_out() {
	local expected=$1 pattern=$2
	shift 2
	call "$@"
	[ "$status" = "$expected" ] || fail "status $status, expected $expected: $*: $(cat "$dir/err")"
	grep -q -- "$pattern" "$dir/out" || fail "expected '$pattern': $*: $(cat "$dir/out")"
	[ ! -s "$dir/err" ] || fail "output on stderr: $*: $(cat "$dir/err")"
}

# script NAME LINE...: an executable file in $dir/bin.
script() {
	local path=$dir/bin/$1
	shift
	printf '%s\n' "$@" >"$path"
	chmod 755 "$path"
}

test_verbs() {
	expect_out 0 '^weir [0-9]*\.[0-9]*\.[0-9]*$' "$weir" --version
	expect_out 0 '^  run  ' "$weir" help
	expect_out 0 '^  probe  ' "$weir" --help
	for verb in run probe; do
		expect_out 0 "^usage: weir $verb " "$weir" $verb --help
		expect_out 0 "^usage: weir $verb " "$weir" help $verb
	done
	expect_out 0 '^  --memory SIZE .*at least 8M' "$weir" run --help
	expect_error 2 "unknown verb 'nope'; .weir help." "$weir" nope
	expect_error 2 "unknown verb 'nope'" "$weir" help nope
	expect_error 2 "unknown verb 'a?b'" "$weir" $'a\nb'
	expect_error 2 "probe: unexpected word 'x'" "$weir" probe x
	expect_error 2 "probe: unknown option '--jso'" "$weir" probe --jso
	expect_error 2 "probe: --json takes no value" "$weir" probe --json=1
	call "$weir"
	[ "$status.$(wc -c <"$dir/out")" = 2.0 ] || fail "weir without a verb: status $status"
	grep -q '^usage: weir ' "$dir/err" || fail "weir without a verb: $(cat "$dir/err")"
	if [ -w /dev/full ]; then
		"$weir" help >/dev/full 2>"$dir/err"
		[ $? = 1 ] || fail "help to a full disk"
		grep -q '^weir: cannot write the output' "$dir/err" || fail "help to a full disk: $(cat "$dir/err")"
	fi
}

test_options() {
	expect_run_error 125 'no limit given; .*--memory 512M' touch "$dir/started"
	expect_run_error 125 'no command given' --memory 64M
	expect_run_error 125 'no command given' --memory 64M --
	expect_run_error 125 '--memory needs a value' --memory
	for size in 5X '' M -1 1..5M 64MM 0x10 '1 M'; do
		expect_run_error 125 "--memory: '$size' is not a size; .*512M or 1.5G" "--memory=$size" ls
	done
	expect_run_error 125 '--memory: 0 is too small; the smallest size is 8M' --memory 0 touch "$dir/started"
	expect_run_error 125 '--memory: 8191K is too small; the smallest' --memory 8191K touch "$dir/started"
	expect_run_error 125 '--resident: 1M is too small' --memory 64M --resident 1M touch "$dir/started"
	expect_run_error 125 '--memory: 99999999999T is out of range' --memory 99999999999T touch "$dir/started"
	expect_run_error 125 "--faults: unknown value 'x'; give one of signal|thread" --faults x touch "$dir/started"
	expect_run_error 125 "unknown option '--memroy'" --memroy 64M touch "$dir/started"
	expect_run_error 125 "unknown option '-m'" -m 64M touch "$dir/started"
	expect_run_error 125 "--stats: unknown value 'xml'; give one of none" --memory 64M --stats=xml ls
	expect_run_error 125 "--allocator: unknown value 'ptmalloc'" --memory 64M --allocator ptmalloc ls
	expect_run_error 125 "--allocator needs a value" --memory 64M --allocator
	expect_run_error 125 "--swap: .*nodev" --memory 64M --swap nodev touch "$dir/started"
	expect_run_error 125 "--swap: .*lzma" --memory 64M --swap zram:algo=lzma touch "$dir/started"
	expect_run_error 125 "--swap: " --memory 64M --swap= touch "$dir/started"
}

test_commands() {
	local long
	expect_run_error 127 'weir-nope: command not found' --memory 64M weir-nope
	expect_run_error 127 '/nope/x: no such file' --memory 64M -- /nope/x
	expect_run_error 127 'name is empty' --memory 64M -- ''
	long=$(printf '%5000s' '' | tr ' ' a)
	expect_run_error 127 'command not found' --memory 64M "$long"
	expect_run_error 127 'too long' --memory 64M "/$long"
	expect_run_error 126 '/etc is a directory' --memory 64M /etc
	echo plain >"$dir/bin/plain"
	expect_run_error 126 'bin/plain is not executable' --memory 64M "$dir/bin/plain"
	expect_error 126 'bin/plain is not executable' env PATH="/nope:$dir/bin" "$weir" run --memory 64M plain
	printf 'MZ\0\0binary' >"$dir/bin/binary"
	chmod 755 "$dir/bin/binary"
	expect_run_error 126 'neither an ELF program nor a script' --memory 64M "$dir/bin/binary"
}

test_scripts() {
	script missing '#!/nope/interpreter -x' 'echo hi'
	expect_run_error 126 'interpreter /nope/interpreter does not exist' --memory 64M "$dir/bin/missing"
	script empty '#!' 'echo hi'
	expect_run_error 126 'names no interpreter' --memory 64M "$dir/bin/empty"
	script env "#!/usr/bin/env weir-nope" 'echo hi'
	expect_run_error 126 'interpreter weir-nope was not found' --memory 64M "$dir/bin/env"
	script loop "#!$dir/bin/loop"
	expect_run_error 126 'too many scripts' --memory 64M "$dir/bin/loop"
	script by-static "#!$dir/bin/static"
	expect_run_error 126 'bin/static is statically linked' --memory 64M "$dir/bin/by-static"
	script good '#!/bin/sh -e' 'echo good "$@"; exit 3'
	expect_out 3 '^good a b$' "$weir" run --memory 64M --allocator none "$dir/bin/good" a b
	expect_out 3 '^good a b$' env PATH="$dir/bin:$PATH" "$weir" run --memory 64M --allocator none good a b
	# shellcheck disable=SC2016 # for the inner shell
	script bare 'echo bare $1; exit 4'
	expect_out 4 '^bare x$' "$weir" run --memory 64M --allocator none "$dir/bin/bare" x
}

# patch FILE OFFSET BYTES: bytes as printf(1) escapes.
patch() {
	# shellcheck disable=SC2059 # escapes are the purpose
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

test_programs() {
	expect_run_error 126 'bin/static is statically linked' --memory 64M "$dir/bin/static"
	cp "$dir/bin/dynamic" "$dir/bin/foreign"
	patch "$dir/bin/foreign" 18 '\363\000'
	expect_run_error 126 'built for RISC-V' --memory 64M "$dir/bin/foreign"
	cp "$dir/bin/dynamic" "$dir/bin/narrow"
	patch "$dir/bin/narrow" 4 '\001'
	expect_run_error 126 'is a 32-bit program' --memory 64M "$dir/bin/narrow"
	cp "$dir/bin/dynamic" "$dir/bin/i386"
	patch "$dir/bin/i386" 4 '\001'
	patch "$dir/bin/i386" 18 '\003\000'
	expect_run_error 126 'built for 32-bit x86' --memory 64M "$dir/bin/i386"
	cp "$dir/bin/dynamic" "$dir/bin/object"
	patch "$dir/bin/object" 16 '\001\000'
	expect_run_error 126 'ELF file, but not a program' --memory 64M "$dir/bin/object"
	head -c 40 "$dir/bin/dynamic" >"$dir/bin/short"
	chmod 755 "$dir/bin/short"
	expect_run_error 126 'cut short' --memory 64M "$dir/bin/short"
	expect_out 5 '^dynamic$' "$weir" run --memory 64M --allocator none "$dir/bin/dynamic"
}

test_privileges() {
	if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
		echo "note: not root, so nothing is known about setuid programs and file capabilities"
		return
	fi
	cp "$dir/bin/dynamic" "$dir/bin/setuid"
	chown nobody "$dir/bin/setuid" && chmod u+s "$dir/bin/setuid"
	expect_run_error 126 'bin/setuid is setuid' --memory 64M "$dir/bin/setuid"
	cp "$dir/bin/dynamic" "$dir/bin/setgid"
	chgrp nogroup "$dir/bin/setgid" && chmod g+s "$dir/bin/setgid"
	expect_run_error 126 'bin/setgid is setgid' --memory 64M "$dir/bin/setgid"
	cp "$dir/bin/dynamic" "$dir/bin/own"
	chmod u+s,g+s "$dir/bin/own"
	expect_out 5 '^dynamic$' "$weir" run --memory 64M --allocator none "$dir/bin/own"
	expect_error 126 'bin/own is setuid' as_nobody "$weir" run --memory 64M "$dir/bin/own"
	expect_out 5 '^dynamic$' setpriv --no-new-privs \
		"$weir" run --memory 64M --allocator none "$dir/bin/setuid"
	cp "$dir/bin/dynamic" "$dir/bin/capable"
	if python3 -c 'import os, struct, sys
caps = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
os.setxattr(sys.argv[1], "security.capability", caps)' "$dir/bin/capable"; then
		expect_error 126 'capable has file capabilities' as_nobody "$weir" run --memory 64M "$dir/bin/capable"
	else
		echo "note: no file capabilities on this file system"
	fi
	cp "$dir/bin/dynamic" "$dir/bin/unreadable"
	chmod 711 "$dir/bin/unreadable"
	expect_error 126 'unreadable cannot be read' as_nobody "$weir" run --memory 64M "$dir/bin/unreadable"
}

# Faults by thread are refused without the privilege.
test_faults() {
	local run=("$weir" run --memory 64M --allocator none --faults thread)
	expect_out 0 '^WEIR_FAULTS=signal$' env WEIR_FAULTS=thread "$weir" run --memory 64M --allocator none env
	if ! "${run[@]}" true 2>"$dir/err"; then
		echo "note: --faults thread is not tested: $(cat "$dir/err")"
		return
	fi
	expect_out 0 '^WEIR_FAULTS=thread$' "${run[@]}" env
	expect_out 0 'threads (--faults thread) *yes' "$weir" probe
	if ! as_nobody true 2>"$dir/err"; then
		echo "note: --faults thread is not tested as another user: $(cat "$dir/err")"
	elif [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" != 0 ] || as_nobody test -w /dev/userfaultfd; then
		echo "note: --faults thread is open to everybody here"
	else
		expect_error 125 '--faults thread needs .*; run .sysctl vm.unprivileged_userfaultfd=1. as root' \
			as_nobody "${run[@]}" touch "$dir/started"
		expect_out 0 'threads (--faults thread) *no' as_nobody "$weir" probe
	fi
}

as_nobody() {
	setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}

test_machine() {
	local deny="$dir/bin/deny" # 323 is userfaultfd
	expect_error 125 'hides userfaultfd; .*seccomp=unconfined' "$deny" 323 38 "$weir" run --memory 64M ls
	expect_error 125 'refuses userfaultfd; .*seccomp=unconfined' "$deny" 323 1 "$weir" run --memory 64M ls
	expect_error 125 'too old.*; boot Linux 5.11' "$deny" 323 22 "$weir" run --memory 64M ls
	expect_error 125 'userfaultfd fails: Too many open files' "$deny" 323 24 "$weir" run --memory 64M ls
	expect_out 1 '^missing: a seccomp filter' "$deny" 323 1 "$weir" probe
	expect_out 1 '"works": false, .*"fatal": true' "$deny" 323 38 "$weir" probe --json
	expect_error 125 'RLIMIT_AS.*ulimit -v unlimited' \
		sh -c 'ulimit -v 4000000; exec "$@"' sh "$weir" run --memory 64M ls
	mkdir -p "$dir/bare/cli"
	cp "$exe" "$dir/bare/cli/weir"
	expect_error 125 'libweir-preload.so was not found' "$dir/bare/cli/weir" run --memory 64M ls
	expect_out 1 '^weir run cannot work here$' "$dir/bare/cli/weir" probe
	mkdir "$dir/bare dir"
	cp -r "$dir/cli" "$dir/preload" "$dir/bare dir"
	expect_error 125 'space or colon' "$dir/bare dir/cli/weir" run --memory 64M ls
	# Other machines lack other things; the verdict, the status and the form must agree.
	call "$weir" probe --json
	python3 -c 'import json, sys
probe = json.load(open(sys.argv[1]))
sys.exit(probe["works"] != (sys.argv[2] == "0") or probe["works"] == any(f["fatal"] for f in probe["findings"]))' \
		"$dir/out" "$status" || fail "probe --json: $(cat "$dir/out")"
}

# can_run ALLOCATOR
can_run() {
	"$weir" run --memory 64M --allocator "$1" true 2>"$dir/err" && return 0
	echo "note: not tested with $1: $(cat "$dir/err")"
	return 1
}

test_environment() {
	local shim=$dir/preload/libweir-preload.so
	run_env() { env -u LD_PRELOAD -u MALLOC_CONF "$@"; }

	expect_out 0 "^WEIR_MEMORY=67108864$" "$weir" run --memory 64M --allocator none env
	expect_out 0 "^WEIR_SWAP=zram$" "$weir" run --memory 64M --allocator none env
	! grep -q WEIR_RESIDENT "$dir/out" || fail 'WEIR_RESIDENT without --resident'
	expect_out 0 "^WEIR_RESIDENT=33554432$" env WEIR_MEMORY=1 "$weir" run --resident 32M --allocator none env
	! grep -q WEIR_MEMORY "$dir/out" || fail 'WEIR_MEMORY without --memory'
	expect_out 0 "^WEIR_SWAP=zram:algo=lz4$" "$weir" run --memory 64M --swap zram:algo=lz4 --allocator none env
	expect_out 0 "^LD_PRELOAD=$shim$" run_env "$weir" run --memory 64M --allocator none env
	expect_out 0 "^LD_PRELOAD=$shim:libc.so.6$" env LD_PRELOAD=libc.so.6 \
		"$weir" run --memory 64M --allocator none env
	! grep -q '^WEIR_STATS' "$dir/out" || fail 'WEIR_STATS without --stats'
	if can_run jemalloc; then
		expect_out 0 "^LD_PRELOAD=$shim:/.*/libjemalloc.so.2$" run_env "$weir" run --memory 64M env
		expect_out 0 '^MALLOC_CONF=background_thread:true,.*,retain:true$' run_env "$weir" run --memory 64M env
		expect_out 0 '^MALLOC_CONF=background_.*,retain:true,narenas:1$' env MALLOC_CONF=narenas:1 \
			"$weir" run --memory 64M env
	fi
	if can_run mimalloc; then
		expect_out 0 "^LD_PRELOAD=$shim:/.*/libmimalloc.so" \
			run_env "$weir" run --memory 64M --allocator mimalloc env
		expect_out 0 '^MIMALLOC_PAGE_RESET=1$' "$weir" run --memory 64M --allocator mimalloc env
	fi
	# The command's own options stay its own, with and without "--".
	expect_out 0 '^--memory x --$' "$weir" run --memory 64M --allocator none printf '%s %s %s\n' --memory x --
	expect_out 0 '^--help$' "$weir" run --memory=64M --allocator=none -- printf '%s\n' --help
}

# run_stats WORD...: weir run --stats=WORD sh -c COMMAND
run_stats() {
	local format=$1
	shift
	call "$weir" run --memory 64M --allocator none "--stats=$format" "$@"
}

test_stats() {
	# shellcheck disable=SC2016 # for the inner shell
	run_stats text sh -c 'case $WEIR_STATS in *:$$) exit 7 ;; *) exit 8 ;; esac'
	[ "$status" = 7 ] || fail "stats: status $status"
	grep -q '^weir: run: sh ended with status 7$' "$dir/err" || fail "stats: $(cat "$dir/err")"
	grep -q '^  peak RSS of the command  *[0-9.]*M$' "$dir/err" || fail "stats: $(cat "$dir/err")"
	grep -q '^  no counters' "$dir/err" || fail "stats: $(cat "$dir/err")"
	run_stats json sh -c 'exit 9'
	[ "$status" = 9 ] || fail "stats=json: status $status"
	python3 -c 'import json, sys
stats = json.load(open(sys.argv[1]))
sys.exit(stats["exit_status"] != 9 or stats["rss_peak_bytes"] < 100000 or stats["limit_memory_bytes"] != 64 << 20)' \
		"$dir/err" || fail "stats=json: $(cat "$dir/err")"
	run_stats json sh -c 'kill -KILL $$'
	[ "$status" = 137 ] || fail "killed: status $status"
	grep -q '"signal": 9' "$dir/err" || fail "killed: $(cat "$dir/err")"
	run_stats text sh -c 'kill -SEGV $$'
	[ "$status" = 139 ] || fail "segv: status $status"
	# A file that is being written cannot be executed, which only exec itself finds out.
	cp "$dir/bin/dynamic" "$dir/bin/busy"
	exec 9>>"$dir/bin/busy"
	expect_run_error 126 'busy cannot be executed: Text file busy' --memory 64M --allocator none "$dir/bin/busy"
	expect_run_error 126 'busy cannot be executed: Text file busy' \
		--memory 64M --allocator none --stats "$dir/bin/busy"
	exec 9>&-
}

# The command gets TERM, USR1 and HUP; INT at weir does nothing to either.
test_signals() {
	local pid i
	for sig in TERM USR1 HUP; do
		cases=$((cases + 1))
		rm -f "$dir/ready"
		"$weir" run --memory 64M --allocator none --stats=json -- sh -c \
			"trap 'exit 42' $sig; : >$dir/ready; while :; do sleep 0.05; done" 2>"$dir/err" &
		pid=$!
		for i in $(seq 200); do
			[ -e "$dir/ready" ] && break
			sleep 0.05
		done
		kill -INT $pid
		kill -$sig $pid
		wait $pid
		i=$?
		[ $i = 42 ] || fail "$sig was not forwarded: status $i: $(cat "$dir/err")"
	done
	# An ignored SIGCHLD must not lose the status.
	call "$dir/bin/nochild" "$weir" run --memory 64M --allocator none --stats=json -- sh -c 'exit 6'
	[ "$status" = 6 ] || fail "ignored SIGCHLD: status $status: $(cat "$dir/err")"
}

build_programs() {
	cat >"$dir/dynamic.c" <<'END'
#include <stdio.h>
int main(void) { puts("dynamic"); return 5; }
END
	cat >"$dir/nochild.c" <<'END'
#include <signal.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	(void)argc;
	signal(SIGCHLD, SIG_IGN);
	execv(argv[1], argv + 1);
	return 98;
}
END
	$cc -o "$dir/bin/dynamic" "$dir/dynamic.c" && $cc -static -o "$dir/bin/static" "$dir/dynamic.c" &&
		$cc -o "$dir/bin/deny" "$here/deny.c" && $cc -o "$dir/bin/nochild" "$dir/nochild.c"
}

if ! build_programs; then
	echo "skipped: the compiler cannot build the test programs"
	exit 77
fi
test_verbs
test_options
test_commands
if ! can_run none; then
	echo "skipped: weir run cannot work here: $(cat "$dir/err")"
	[ $failures = 0 ] && exit 77
	exit 1
fi
test_scripts
test_programs
test_privileges
test_faults
test_machine
test_environment
test_stats
test_signals
echo "$cases cases, $failures failures"
[ $failures = 0 ]

#!/bin/bash
# SPDX-License-Identifier: MIT
# Hard moments: what the surroundings take away, and who looks on. Each works as it does plainly, or is refused with one
# clear line and a status before any harm.
#
#   test_hard.sh WEIR VICTIM
# shellcheck disable=SC2086 # $run is words
set -u
weir=$(realpath "$1") victim=$(realpath "$2")
cc=${CC:-cc}
here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
failures=0 cases=0

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$dir/err" | head -4
	failures=$((failures + 1))
}

# call COMMAND...: sets status, and writes $dir/out and $dir/err.
call() {
	cases=$((cases + 1))
	(timeout -k 5 60 "$@" >"$dir/out" 2>"$dir/err" </dev/null; exit $?) 2>/dev/null
	status=$?
}

# works WHAT COMMAND...: status 0, its last line begins with ok, and nothing on stderr.
works() {
	local what=$1
	shift
	call "$@"
	if [ "$status" != 0 ] || [ -s "$dir/err" ] || ! tail -1 "$dir/out" | grep -q '^ok'; then
		fail "$what: status $status: $(tail -1 "$dir/out")"
	fi
}

# refused WHAT STATUS PATTERN COMMAND...: one line on stderr that matches.
refused() {
	local what=$1 expected=$2 pattern=$3
	shift 3
	call "$@"
	[ "$status" = "$expected" ] || fail "$what: status $status instead of $expected"
	if [ "$(wc -l <"$dir/err")" != 1 ] || ! grep -q "^weir: .*$pattern" "$dir/err"; then
		fail "$what: not the line '$pattern'"
	fi
}

# told WHAT PATTERN COMMAND...: fails, after one line of ours that matches.
told() {
	local what=$1 pattern=$2
	shift 2
	call "$@"
	[ "$status" != 0 ] || fail "$what: status 0"
	if [ "$(grep -c '^weir: ' "$dir/err")" != 1 ] || ! grep -q "^weir: .*$pattern" "$dir/err"; then
		fail "$what: not the line '$pattern'"
	fi
}

managed() { "$weir" run --memory 16M "$@"; }
run="$weir run --memory 16M --" # words, in the strings of shells too

build_programs() {
	cat >"$dir/fds.c" <<'END'
/* Takes every descriptor, and then more memory than the limit. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
	int status;
	pid_t pid;
	char *m;
	while (open("/dev/null", O_RDONLY) >= 0)
		;
	m = malloc(64 << 20);
	if (!m)
		return 3;
	for (size_t i = 0; i < 64 << 20; i++)
		m[i] = (char)(i >> 12);
	for (size_t i = 0; i < 64 << 20; i++)
		if (m[i] != (char)(i >> 12))
			return 4;
	pid = fork();
	for (size_t i = 0; i < 64 << 20; i++)
		if (m[i] != (char)(i >> 12))
			return 5;
	if (!pid)
		_exit(0);
	if (waitpid(pid, &status, 0) != pid || status)
		return 6;
	puts("ok");
	return 0;
}
END
	cat >"$dir/clock.c" <<'END'
/* A library of the user's own: it is always noon. */
#include <time.h>
time_t time(time_t *at);
time_t time(time_t *at) { if (at) *at = 43200; return 43200; }
END
	cat >"$dir/noon.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
int main(void)
{
	char *m = malloc(48 << 20);
	for (int i = 0; i < 48; i++)
		memset(m + ((size_t)i << 20), i, 1 << 20);
	for (int i = 0; i < 48; i++)
		if (m[(size_t)i << 20] != i || m[((size_t)i << 20) + 99999] != i)
			return 4;
	printf("%s %ld\n", time(NULL) == 43200 ? "ok" : "no", (long)time(NULL));
	return 0;
}
END
	cat >"$dir/plain.c" <<'END'
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void)
{
	char *m = malloc(1 << 20);
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	if (fork() == 0)
		_exit(0);
	printf("ok %d\n", m && write(1, "", 0) == 0 && geteuid() == getuid());
	return 0;
}
END
	cat >"$dir/crash.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
char *volatile findable;
int *volatile nowhere;
__attribute__((noinline)) void loop_step(int i) { __asm__ volatile("" : : "r"(i) : "memory"); }
int main(int argc, char **argv)
{
	char *m = malloc(40 << 20);
	for (int i = 0; i < 40; i++)
		memset(m + ((size_t)i << 20), i, 1 << 20);
	findable = m + (39 << 20);
	strcpy(findable, "the last page is here");
	puts("ready");
	fflush(stdout);
	if (argc > 1)
		for (int i = 0; i < atoi(argv[1]); i++) {
			loop_step(i);
			if (m[((size_t)i * 7919 << 12) % (40 << 20)] < 0)
				return 5;
			usleep(1000);
		}
	else
		*nowhere = 1;
	puts("ok");
	return 0;
}
END
	$cc -O1 -o "$dir/fds" "$dir/fds.c" && $cc -o "$dir/deny" "$here/deny.c" &&
		$cc -O1 -o "$dir/noon" "$dir/noon.c" &&
		$cc -shared -fPIC -o "$dir/clock.so" "$dir/clock.c" && $cc -static -o "$dir/static" "$dir/plain.c" &&
		$cc -o "$dir/plain" "$dir/plain.c" && $cc -g -o "$dir/crash" "$dir/crash.c"
}

test_descriptors() {
	told 'no descriptor left at adoption' 'no file descriptor is left' sh -c "ulimit -n 100; $run $dir/fds"
	works 'no descriptor left below the soft limit' sh -c "ulimit -S -n 100; $run $dir/fds"
	WEIR_ADOPT=now works 'no descriptor left after adoption' sh -c "ulimit -n 100; $run $dir/fds"
	works 'few descriptors' sh -c "ulimit -n 40; $run $victim close-all 64"
	works 'descriptors below our number' sh -c "ulimit -n 200; $run $victim work 64"
}

test_surroundings() {
	if unshare -m true 2>/dev/null; then
		refused 'no /proc' 125 '/proc is missing' \
			unshare -m sh -c "umount -l /proc && exec $run $victim work 64"
		told '/proc goes away' '/proc is missing' \
			unshare -m "$weir" run --per-process --memory 16M -- \
			sh -c "umount -l /proc && exec $victim work 64"
		refused '/proc goes away, and with it what is shared' 125 'cannot be reached.*without /proc' \
			unshare -m $run sh -c "umount -l /proc && exec $victim work 64"
	else
		echo "note: no mount namespaces here, so nothing is known about a missing /proc"
	fi
	refused 'a filter that refuses userfaultfd' 125 userfaultfd "$dir/deny" 323 1 $run "$victim" work 64
	refused 'a filter that refuses seccomp' 125 seccomp "$dir/deny" 317 1 $run "$victim" work 64
	refused 'a filter that refuses the ioctls' 125 userfaultfd "$dir/deny" 16 1 $run "$victim" work 64
	told 'a filter that refuses signals' 'userfaultfd, seccomp or signals are refused' \
		"$dir/deny" 297 1 $run "$victim" threads 64
	works 'a harmless filter' "$dir/deny" 169 1 $run "$victim" work 64
	works 'LD_PRELOAD' env LD_PRELOAD="$dir/clock.so" $run "$dir/noon"
}

test_children() {
	export WEIR_ADOPT=now
	works 'a child without our environment' $run env -i "$victim" work 32
	works 'a child without our environment, by sh' $run sh -c "env -i $victim spawn 16"
	works 'a static child' $run sh -c "$dir/static; $dir/static"
	works 'exec of a static program' $run sh -c "exec $dir/static"
	works 'a child without LD_PRELOAD' $run env -u LD_PRELOAD "$dir/plain"
	unset WEIR_ADOPT
	if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
		cp "$dir/plain" "$dir/setuid"
		chown nobody "$dir/setuid" && chmod u+s "$dir/setuid"
		# Before adoption it is as ever; the filter then comes with no_new_privs, so it runs without the gain.
		WEIR_ADOPT=now works 'a setuid child' $run sh -c "$dir/setuid"
		grep -q '^ok 1$' "$dir/out" || fail "a setuid child gained: $(cat "$dir/out")"
	fi
}

test_core() {
	local size
	[ "$(cat /proc/sys/kernel/core_pattern)" = core ] || { echo "note: cores go elsewhere here"; return; }
	mkdir "$dir/core"
	call sh -c "cd $dir/core && ulimit -c unlimited && exec $run $dir/crash"
	[ "$status" = 139 ] || fail "crash: status $status"
	size=$(stat -c '%s' "$dir"/core/core* 2>/dev/null | head -1)
	if [ -z "$size" ] || [ "$size" -gt $((1 << 30)) ]; then fail "core of ${size:-no} bytes"; fi
	[ "$(du -sk "$dir/core" | cut -f1)" -lt 200000 ] || fail "core fills $(du -sh "$dir/core")"
	command -v gdb >/dev/null || return
	call gdb -batch -ex 'p nowhere' -ex 'bt 1' "$dir/crash" "$dir"/core/core*
	grep -q 'main' "$dir/out" || fail "gdb finds nothing in the core: $(tail -2 "$dir/out")"
	rm -rf "$dir/core"
}

test_debuggers() {
	local pid
	command -v gdb >/dev/null || echo 'note: no gdb here, so nothing is known about it'
	command -v strace >/dev/null || echo 'note: no strace here, so nothing is known about it'
	if command -v gdb >/dev/null; then
		$run "$dir/crash" 3000 >"$dir/run" 2>"$dir/err" &
		pid=$!
		until grep -q ready "$dir/run" 2>/dev/null || ! kill -0 $pid; do sleep 0.1; done
		call gdb -p $pid -batch -ex 'handle SIGBUS SIGSYS nostop noprint pass' -ex 'break loop_step' \
			-ex continue -ex continue -ex 'p i > 0' -ex 'delete' -ex detach
		grep -q '= 1' "$dir/out" || fail "gdb: $(tail -3 "$dir/out")"
		wait $pid || fail "after gdb: status $?"
		grep -q '^ok' "$dir/run" || fail "after gdb: $(cat "$dir/run")"
		call gdb -batch -ex 'handle SIGBUS SIGSYS nostop noprint pass' -ex run --args "$weir" run --memory 16M \
			-- "$victim" work 32
		grep -q '^ok' "$dir/out" || fail "under gdb: $(tail -3 "$dir/out")"
	fi
	if command -v strace >/dev/null; then
		call strace -f -o "$dir/trace" $run "$victim" spawn 32
		if [ "$status" != 0 ] || ! grep -q '^ok' "$dir/out"; then fail "strace: status $status"; fi
		grep -q SIGBUS "$dir/trace" || fail 'strace saw no fault'
	fi
}

if ! build_programs 2>"$dir/err"; then
	echo "skipped: the compiler cannot build the test programs: $(head -1 "$dir/err")"
	exit 77
fi
if ! managed true 2>"$dir/err"; then
	echo "skipped: weir run cannot work here: $(cat "$dir/err")"
	exit 77
fi
ulimit -S -c 0
test_descriptors
test_surroundings
test_children
test_core
test_debuggers
echo "$cases cases, $failures failures"
[ $failures = 0 ]

# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What the tests of remote devices share, to be sourced: servers by pid, runs that must work, runs that must not begin,
# and a load that goes on while something fails. The scheme is that of the device: nbd or rados.
# shellcheck disable=SC2154 # weir, victim, pager, conformance and scheme are the sourcer's
tmp=$(mktemp -d)
fails=0 pids=() told=

# Everything that was started ends here, by pid.
end() {
	local pid
	for pid in "${pids[@]}"; do
		kill -CONT "$pid" 2>/dev/null
		kill -KILL "$pid" 2>/dev/null
	done
	! declare -F end_servers >/dev/null || end_servers
	rm -rf "$tmp"
}
trap end EXIT
trap 'exit 1' INT TERM

fail() {
	echo "FAILED: $*"
	sed 's/^/    /' "$tmp/out" "$tmp/err" 2>/dev/null | cut -c1-300 | tail -8
	fails=$((fails + 1))
}

ok() {
	echo "ok $*, $SECONDS s"
}

# A number of `weir run --stats=json`.
counted() {
	sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$tmp/err"
}

# WHAT LIMIT DEVICE COMMAND...: works, with pages in and out, and says nothing but what the pattern in $told allows.
works() {
	local what=$1 limit=$2 device=$3
	shift 3
	timeout 120 "$weir" run --memory "$limit" --swap "$device" --stats=json -- "$@" \
		>"$tmp/out" 2>"$tmp/err" </dev/null || { fail "$what: status $?"; return; }
	! grep '^weir: ' "$tmp/err" | grep -vE "^weir: swap device $scheme:.*(${told:-nothing})" >"$tmp/odd" ||
		fail "$what: told $(cat "$tmp/odd")"
	if [ "$(counted pages_in)" -lt 1000 ] || [ "$(counted pages_out)" -lt 1000 ]; then
		fail "$what: hardly any pages"
	fi
	ok "$what: $(tail -1 "$tmp/out"), in $(counted pages_in), out $(counted pages_out)"
}

# DEVICE COMMAND: does it do what every device must? The command follows in the same run: what it prints is at the end.
conforms() {
	# shellcheck disable=SC2016 # WEIR_SWAP is what weir run says
	timeout 120 "$weir" run --memory 64M --swap "$1" -- \
		env -u LD_PRELOAD sh -c '"$0" "$WEIR_SWAP" && eval "$1"' "$conformance" "$2" >"$tmp/out" 2>"$tmp/err" ||
		fail "conformance: status $?"
	ok "conformance"
}

# DEVICE: processes that inherit swapped pages, one of another, and share the space with programs that they execute.
shares() {
	works "fork, the child first" 16M "$1" "$victim" fork-early 24
	works "fork, the parent first" 16M "$1" "$victim" fork-late 24
	works "many forks" 16M "$1" "$victim" fork-storm 16
	works "execve" 16M "$1" "$victim" spawn 20
	works "closed descriptors" 24M "$1" "$victim" close-all 40
	timeout 60 "$weir" run --memory 16M --swap "$1" -- sh -c "'$victim' work 20 & '$victim' work 20 && wait" \
		>"$tmp/out" 2>"$tmp/err" || fail "two programs: status $?"
	[ "$(grep -c '^ok' "$tmp/out")" -eq 2 ] || fail "two programs"
	timeout 60 "$weir" run --memory 16M --per-process --swap "$1" -- "$victim" fork-late 24 \
		>"$tmp/out" 2>"$tmp/err" || fail "each process for itself: status $?"
	ok "several processes"
}

# WHAT PATTERN DEVICE: one line, status 125, and the command does not begin.
refused() {
	timeout 30 "$weir" run --memory 32M --swap "$3" -- echo begun >"$tmp/out" 2>"$tmp/err"
	[ $? -eq 125 ] || fail "$1: no status 125"
	[ ! -s "$tmp/out" ] || fail "$1: the command has begun"
	if [ "$(wc -l <"$tmp/err")" != 1 ] || ! grep -Eq "^weir: run: --swap $scheme:.*: .*$2" "$tmp/err"; then
		fail "$1: not the line '$2'"
	fi
}

# Those that serve devices of this test.
engines() {
	grep -lz "^[t]arget=.*$mark\|^[c]onf=.*$mark" /proc/[0-9]*/cmdline 2>/dev/null | sed 's,/proc/\([0-9]*\)/.*,\1,'
}

# They take a moment to see that nobody is there any more.
no_engine() {
	local i pid
	for ((i = 0; i < 100; i++)); do
		[ -n "$(engines)" ] || return
		sleep 0.05
	done
	fail "$1: engines are left: $(for pid in $(engines); do ps -o pid,stat,etime,args -p "$pid" | tail -1; done)"
}

# Runs the pager in the background on $device for that long; `finish` waits for it.
load() {
	timeout 120 "$weir" run --memory 16M --swap "$device" --stats=json -- "$pager" 32 "$1" \
		>"$tmp/out" 2>"$tmp/err" </dev/null &
	loaded=$!
	sleep 1
}

finish() {
	wait "$loaded" || { fail "$1: status $?"; return; }
	[ "$(counted pages_in)" -ge 500 ] || fail "$1: hardly any pages"
	ok "$1: $(cat "$tmp/out"), in $(counted pages_in), out $(counted pages_out)"
}

# The load ends by an error of its device, and not by a wrong page. WHAT PATTERN
perishes() {
	! wait "$loaded" 2>/dev/null || fail "$1: status 0"
	grep -Eq "^weir: swap device $scheme:.*$2" "$tmp/err" || fail "$1: it is not told that $2"
	! grep -q '^pager: page' "$tmp/err" || fail "$1: wrong data"
}

longest_ms() {
	sed -n 's/.*longest_ms //p' "$tmp/out"
}

children() {
	cat "/proc/$1/task/$1/children" 2>/dev/null
}

# Kills the load: weir and the program, by pid.
kill_load() {
	local weirs programs
	weirs=$(children "$loaded")
	programs=$(for pid in $weirs; do children "$pid"; done)
	# shellcheck disable=SC2086 # words
	kill -KILL $weirs $programs
	wait "$loaded" 2>/dev/null
}

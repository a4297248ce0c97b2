#!/bin/bash
# SPDX-License-Identifier: MIT
# Every case of the guests (guest.h), plainly and under weir: the same output and status, with both ways out, and with
# memory leaving all the time.
#
#   test_guests.sh WEIR GUEST...
set -u
weir=$1
shift
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fails=0 cases=0

if ! "$weir" run --memory 16M --allocator none true 2>"$tmp/err"; then
	echo "skipped: weir run cannot work here: $(cat "$tmp/err")"
	exit 77
fi

# NAME: compares with the plain run. The rest are the words of the environment.
compare() {
	local guest=$1 name=$2 status
	shift 2
	cases=$((cases + 1))
	# In a subshell, so that bash does not report signals.
	(env "$@" WEIR_ADOPT=now timeout -k 5 60 "$weir" run --memory 16M --allocator none -- "$guest" "$name" \
		>"$tmp/out" 2>"$tmp/err" </dev/null; exit $?) 2>/dev/null
	status=$?
	[ "$status" = "$plain" ] && cmp -s "$tmp/plain" "$tmp/out" && return
	echo "FAILED: $name with $*: status $status instead of $plain"
	diff "$tmp/plain" "$tmp/out" | head -10 | sed 's/^/    /'
	head -3 "$tmp/err" | sed 's/^/    /'
	fails=$((fails + 1))
}

ulimit -c 0
for guest; do
	for name in $("$guest" list); do
		(timeout -k 5 60 "$guest" "$name" >"$tmp/plain" 2>"$tmp/err" </dev/null; exit $?) 2>/dev/null
		plain=$?
		if [ $plain != 0 ]; then
			echo "FAILED: $name, plainly: status $plain: $(tail -1 "$tmp/err")"
			fails=$((fails + 1))
		fi
		compare "$guest" "$name" WEIR_VM=move
		compare "$guest" "$name" WEIR_VM=copy
		compare "$guest" "$name" GUEST_STORM=1
	done
done
echo "$cases cases, $fails failed"
[ "$fails" = 0 ]

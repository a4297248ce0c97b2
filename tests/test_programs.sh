#!/bin/bash
# SPDX-License-Identifier: MIT
# scripts/programs must find what it is there to find: run here with a weir that errs on purpose.
#
#   test_programs.sh SCRIPT
set -u
script=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fails=0
mkdir "$tmp/tmp"
export TMPDIR=$tmp/tmp
python3 -c 'import tomllib' 2>/dev/null || { echo "skipped: no Python 3.11 here"; exit 77; }
[ -x /usr/bin/time ] || { echo "skipped: no /usr/bin/time here"; exit 77; }

cat >"$tmp/weir" <<'E2'
#!/bin/bash
while [ "$1" != -- ]; do shift; done
shift
[ "$FAKE" = unmanaged ] || echo "adopted $$ seq" >>"$WEIR_TRACE"
case $FAKE in
efault) echo "efault $$ seq 1" >>"$WEIR_TRACE" ;;
known) echo 'a thing that is known' >&2; exit 1 ;;
over) echo "end $$ seq resident=99999999999 total=0 in=0 out=0" >>"$WEIR_TRACE" ;;
complaint) echo 'weir: out of memory' >&2 ;;
status) "$@"; echo 'a word of its own' >&2; exit 3 ;;
slow) exec sleep 60 ;;
orphan) sleep 60 >/dev/null 2>&1 & ;;
output) exec "$@" 1 ;;
esac
exec "$@"
E2
chmod +x "$tmp/weir"
cat >"$tmp/table.toml" <<'E2'
[seq]
about = "numbers"
seconds = 2
short = { N = 5 }
run = '$WEIR seq $N'
known = "thing that is known"
says = "as expected"

[nothing]
about = "a program that is not there"
needs = ["no-such-program-here"]
run = 'true'
E2

# FAKE EXPECTED-STATUS EXPECTED-TEXT [OPTION...]
check() {
	FAKE=$1 WEIR=$tmp/weir PROGRAMS_TABLE=$tmp PROGRAMS_KEEP=$tmp/keep timeout 60 "$script" --modes stress \
		seq "${@:4}" >"$tmp/out" 2>&1
	if [ $? -ne "$2" ] || ! grep -q "$3" "$tmp/out"; then
		echo "FAILED: $1: status or text is not as expected ($2, $3):"
		cat "$tmp/out"
		fails=$((fails + 1))
	fi
}

check none 0 '^1 passed, 0 failed, 0 skipped'
check known 0 'as expected$'
check efault 1 'FAIL .*1 times EFAULT, first seq: call 1'
check over 1 'FAIL .*over the limit'
check complaint 1 'FAIL .*weir: out of memory'
check status 1 'FAIL .*status 3'
check slow 1 'FAIL .*not finished in 2 s'
check orphan 1 'FAIL .*left behind: sleep'
check output 1 'FAIL .*output differs'
check unmanaged 1 'FAIL .*no process was managed'
check slow 1 'FAIL .*the 2 seconds for all programs are up' --seconds 2
check slow 1 '^0 passed, 2 failed, 0 skipped' --seconds 2 seq
check none 0 '^{"name": "seq", "result": "passed", "reason": "", "seconds"' --json
check status 1 '"failed", "reason": "a word of its own\\nstress: status 3", "seconds"' --json
check none 0 '"name": "nothing", "result": "skipped", "reason": "no-such-program-here is not installed' --json nothing

FAKE=none WEIR=$tmp/weir PROGRAMS_TABLE=$tmp PROGRAMS_KEEP=$tmp/keep "$script" nothing >"$tmp/out" 2>&1 ||
	{ echo "FAILED: a program that is not there: status $?"; fails=$((fails + 1)); }
grep -q '^0 passed, 0 failed, 1 skipped' "$tmp/out" || { echo "FAILED: not skipped"; fails=$((fails + 1)); }
if "$script" no-such-name >"$tmp/out" 2>&1; then
	echo "FAILED: an unknown name is taken"
	fails=$((fails + 1))
fi
rmdir "$tmp/tmp" || { echo "FAILED: files left"; fails=$((fails + 1)); }
echo "$fails failed"
[ "$fails" -eq 0 ]

#!/bin/bash
# SPDX-License-Identifier: MIT
# The rados device on a real cluster: one monitor, three OSDs, size 3, min_size 2; OSDs that die and hang under load.
#
#   test_rados.sh WEIR VICTIM PAGER CONFORMANCE
# shellcheck disable=SC1091,SC2034,SC2154 # remote.sh has the other half of these names
set -u
weir=$1 victim=$2 pager=$3 conformance=$4 scheme=rados
here=$(cd "$(dirname "$0")" && pwd)
for tool in ceph-mon ceph-osd monmaptool rados; do
	command -v $tool >/dev/null || { echo "skipped: no $tool; run scripts/setup check"; exit 77; }
done
/usr/bin/python3 -c 'import rados' 2>/dev/null ||
	{ echo "skipped: no python3-rados; run scripts/setup check"; exit 77; }
[ -x "$(dirname "$weir")/../engine/weir-rados" ] || { echo "skipped: weir-rados is not built: no librados"; exit 77; }
# shellcheck source=tests/remote.sh
. "$here/remote.sh"
cluster=/dev/shm/weir-ceph-$$
[ -w /dev/shm ] || cluster=$tmp/ceph
mark=$cluster

end_servers() {
	"$here/ceph_mini.py" stop "$cluster"
}

mini() {
	local verb=$1
	shift
	"$here/ceph_mini.py" "$verb" "$cluster" "$@" >"$tmp/mini" 2>&1 ||
		fail "ceph_mini $verb $*: $(tail -1 "$tmp/mini")"
}

objects() {
	rados -c "$cluster/ceph.conf" -p swap --all ls | grep -c 'weir\.'
}

# Once the engines have ended, none is left.
no_object() {
	no_engine "$1"
	[ "$(objects)" = 0 ] || fail "$1: $(objects) objects are left"
}

works_at_all() {
	conforms "$device" "rados -c '$cluster/ceph.conf' -p swap --all ls"
	grep -q '\.owner$' "$tmp/out" || fail "the run has no owner"
	! grep -q '\.[0-9a-f]*$' "$tmp/out" || fail "what is not needed any more is not removed"
	works "random pages" 24M "$device" "$victim" random 32
	works "the tightest limit" 8M "$device,namespace=tight" "$victim" random 24
	works "threads" 24M "$device" "$pager" 32 1 4
	shares "$device"
	no_object "after the end"
}

refusals() {
	refused "no configuration" "cannot be read: .*; say conf=PATH" "rados:swap,conf=$cluster/none"
	refused "no pool" "the pool tape cannot be opened" "rados:tape,conf=$cluster/ceph.conf"
	ok "refusals"
}

one_osd() {
	load 9
	mini kill 1
	sleep 2
	mini fresh 1
	finish "one OSD of three killed and back"
	mini wait
	load 7
	mini kill 2 STOP
	sleep 4
	mini kill 2 CONT
	finish "one OSD of three hangs for 4 s"
	mini wait
}

two_osds() {
	load 13
	mini kill 0
	mini kill 1
	sleep 5
	mini fresh 0
	mini fresh 1
	finish "two OSDs of three killed and back"
	[ "$(longest_ms)" -ge 4000 ] || fail "there was no stall"
	grep -q '^weir: swap device rados:.*no answer for 3 s.*waiting' "$tmp/err" || fail "the stall is not told"
	grep -q '^weir: swap device rados:.*answers again, after' "$tmp/err" || fail "the end of the stall is not told"
	mini wait
}

kills() {
	load 60
	[ "$(objects)" -ge 3 ] || fail "hardly any objects"
	kill_load
	no_object "the run killed"

	load 60
	kill -KILL "$(engines)"
	perishes "the engine killed" "its engine has ended"
	[ "$(objects)" -ge 3 ] || fail "the engine has left no objects"
	works "after a killed engine" 24M "$device" "$victim" random 30
	no_object "a later run"
}

full() {
	"$here/ceph_mini.py" stop "$cluster"
	mini start memstore_device_bytes=50331648
	# The monitor learns late how full its OSDs are: a fast program may write some hundred MiB until then.
	timeout 120 "$weir" run --memory 16M --swap "$device" -- "$victim" random 1000 >"$tmp/out" 2>"$tmp/err"
	[ $? -eq 137 ] || fail "a full cluster: status is not 137"
	grep -q '^weir: out of memory: limit 16M' "$tmp/err" || fail "a full cluster is not told"
	ok "a full cluster"
}

mini start
[ "$fails" -eq 0 ] || exit 1
echo "the cluster is up, $SECONDS s"
device=rados:swap,conf=$cluster/ceph.conf
for part in ${WEIR_RADOS_PARTS:-works_at_all refusals one_osd two_osds kills full}; do
	$part
done
no_engine "the end"
echo "$fails failed"
[ "$fails" -eq 0 ]

#!/bin/bash
# SPDX-License-Identifier: MIT
# A Redis server with a load whose digest is known, redis-benchmark beside it, BGSAVE and the rewrite of the append-only
# file (both fork), a replica, and a restart from what was saved. Prints digests and sizes.
#
#   redis.sh KEYS REQUESTS
set -euo pipefail
keys=$1 requests=$2
pids=
port=$((20000 + $$ % 20000))
trap 'for pid in $pids; do kill -9 "$pid" 2>/dev/null || true; done' EXIT

cli() {
	redis-cli -s "$PWD/$1.sock" "${@:2}"
}

# start NAME OPTION...
start() {
	mkdir -p "$1"
	# shellcheck disable=SC2086 # WEIR is one word, or none
	$WEIR redis-server --dir "$PWD/$1" --unixsocket "$PWD/$1.sock" --pidfile "$PWD/$1.pid" --save '' \
		--enable-debug-command yes --repl-diskless-sync-delay 0 --bind 127.0.0.1 "${@:2}" >"$1.log" &
	for _ in {1..200}; do
		[ "$(cli "$1" ping 2>/dev/null)" = PONG ] && break
		sleep 0.1
	done
	pids="$pids $(cat "$PWD/$1.pid")"
}

# stop NAME: by SHUTDOWN, and waits until the process has gone.
stop() {
	local pid
	pid=$(cat "$PWD/$1.pid")
	cli "$1" shutdown nosave >/dev/null 2>&1 || true
	for _ in {1..200}; do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.1
	done
	echo "$1 does not stop"
}

# wait_info NAME FIELD VALUE
wait_info() {
	for _ in {1..300}; do
		cli "$1" info | tr -d '\r' | grep -x "$2:$3" >/dev/null && return # all is read: no SIGPIPE
		sleep 0.1
	done
	echo "$1: $2 does not become $3"
}

start main --port "$port" --appendonly yes --appendfsync no
seq 1 "$keys" | awk '{ print "SET key:" $1, "value-" $1 * 7919 "-" $1 * 104729 "-0123456789abcdef0123456789abcdef"
	print "HSET hash:" $1 % 500, "field" $1, $1 * 31
	print "ZADD scores", $1 * 7919 % 65537, "member" $1 }' | cli main --pipe | tail -n 1
digest=$(cli main debug digest)
echo "loaded $digest"
redis-benchmark -s "$PWD/main.sock" --dbnum 1 -t set,get,lpush,rpop,hset,mset -r "$keys" -n "$requests" -d 200 -P 16 \
	-q >bench.log 2>&1
cli main -n 1 flushdb
cli main bgsave >/dev/null
wait_info main rdb_bgsave_in_progress 0
wait_info main rdb_last_bgsave_status ok
redis-check-rdb main/dump.rdb | grep -c 'RDB looks OK'
cli main bgrewriteaof >/dev/null
wait_info main aof_rewrite_scheduled 0
wait_info main aof_rewrite_in_progress 0
wait_info main aof_last_bgrewrite_status ok
[ "$(cli main debug digest)" = "$digest" ] && echo "unchanged"

start copy --port $((port + 1)) --replicaof 127.0.0.1 "$port"
wait_info copy master_link_status up
cli main set last write
cli main wait 1 10000
[ "$(cli copy debug digest)" = "$(cli main debug digest)" ] && echo "replica is equal"
stop copy
cli main del last
stop main
start main --port "$port" --appendonly yes
[ "$(cli main debug digest)" = "$digest" ] && echo "restarted from the append-only file"
stop main

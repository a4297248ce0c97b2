#!/bin/bash
# SPDX-License-Identifier: MIT
# A PostgreSQL cluster: initdb, pgbench, sorts and hash joins in a large work_mem, kill -9 of a backend in the middle of
# a transaction, recovery, and a restart. Prints sums that must agree, and digests of query results.
#
#   postgres.sh SCALE ROWS
set -euo pipefail
scale=$1 rows=$2
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -n 1)
export PGHOST=$PWD PGDATABASE=postgres PGUSER=postgres
as=
postmaster=
if [ "$(id -u)" = 0 ]; then # the server refuses to run as root
	as="setpriv --reuid=nobody --regid=nogroup --clear-groups"
fi
trap '[ -z "$postmaster" ] || $as kill -QUIT "$postmaster" 2>/dev/null || true' EXIT

start() {
	# shellcheck disable=SC2086 # lists of words
	$as $WEIR "$bin/postgres" -D data -k "$PWD" -c listen_addresses= -c shared_buffers=16MB -c work_mem=256MB \
		-c max_parallel_workers_per_gather=1 -c min_parallel_table_scan_size=0 -c fsync=off \
		>>server.log 2>>server.err &
	for _ in {1..300}; do
		$as "$bin/pg_isready" -q && break
		sleep 0.1
	done
	postmaster=$(head -n 1 data/postmaster.pid)
}

stop() {
	$as "$bin/pg_ctl" stop -s -D data -m fast
	postmaster=
}

ask() {
	psql -XAtq -v ON_ERROR_STOP=1 -c "$1"
}

# All four are one number in a bank that loses nothing.
sums() {
	ask 'select count(distinct s) from (select sum(abalance) s from pgbench_accounts union all
		select sum(bbalance) from pgbench_branches union all select sum(tbalance) from pgbench_tellers union all
		select sum(delta) from pgbench_history) x'
}

# shellcheck disable=SC2086 # lists of words
$as $WEIR "$bin/initdb" -D data -U postgres -A trust -N --locale=C >initdb.log
start
"$bin/pgbench" -i -q -s "$scale" >pgbench.log 2>&1
"$bin/pgbench" -n -c 4 -j 2 -t 100 >>pgbench.log 2>&1
grep 'number of transactions actually processed' pgbench.log
sums
ask "create table t as select i, md5(i::text) m, (i::bigint * 7919 % 65537)::int k from generate_series(1, $rows) i"
ask 'select md5(string_agg(m, chr(44) order by m desc)) from t'
ask 'select count(*), md5(string_agg(a.m, chr(32) order by a.i)) from t a join t b on a.k = b.k + 1 where a.i % 10 = 0'
ask 'select k % 100, count(distinct m) from t group by 1 order by 2 desc, 1 limit 3'

# A client whose backend is killed while it writes.
psql -Xq -c "begin; update t set k = 0; select pg_sleep(60)" >/dev/null 2>&1 &
for _ in {1..300}; do
	backend=$(ask "select pid from pg_stat_activity where query like '%pg_sleep(60)%' and wait_event = 'PgSleep'
		and pid <> pg_backend_pid()")
	[ -z "$backend" ] || break
	sleep 0.1
done
kill -9 "$backend"
wait $! || true
for _ in {1..300}; do
	ask 'select 1' >/dev/null 2>&1 && break
	sleep 0.1
done
grep -c 'automatic recovery in progress' server.err
ask 'select count(*), sum(k) from t'
sums
stop
start
ask 'select count(*), sum(k) from t'
stop

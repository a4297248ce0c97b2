#!/bin/bash
# SPDX-License-Identifier: MIT
# nginx with two workers and compressed answers, fetched by curl and then loaded by wrk. Prints digests and errors.
#
#   nginx.sh MIB SECONDS
set -euo pipefail
mib=$1 seconds=$2
mkdir -p www logs tmp
seq 1 1000000000 | head -c $((mib << 20)) >www/big.txt || true
seq 1 20000 >www/small.txt
chmod -R a+rwX .
cat >nginx.conf <<END
worker_processes 2;
daemon off;
pid $PWD/nginx.pid;
error_log $PWD/logs/error.log;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
	sendfile off;
	output_buffers 32 256k;
	server {
		listen unix:$PWD/plain.sock;
		root $PWD/www;
	}
	server {
		listen 127.0.0.1:$((20000 + $$ % 20000));
		root $PWD/www;
		gzip on; gzip_types text/plain; gzip_buffers 64 64k;
	}
}
END
# shellcheck disable=SC2086 # WEIR is one word, or none
$WEIR nginx -p "$PWD/" -c "$PWD/nginx.conf" -e "$PWD/logs/error.log" &
trap 'kill "$(cat nginx.pid 2>/dev/null)" 2>/dev/null || true' EXIT
for _ in {1..100}; do
	curl -sf --unix-socket plain.sock http://x/small.txt >/dev/null && break
	sleep 0.1
done
url=http://127.0.0.1:$((20000 + $$ % 20000))
for i in 1 2; do
	$WEIR curl -sSf --unix-socket plain.sock http://x/big.txt | sha256sum &
	$WEIR curl -sSf --compressed "$url/big.txt?$i" | sha256sum
	wait %2
done
$WEIR wrk -t 2 -c 32 -d "${seconds}s" -H 'Accept-Encoding: gzip' "$url/small.txt" >wrk.log
grep -E 'Non-2xx|Socket errors' wrk.log || echo "no errors"
grep -q 'Requests/sec' wrk.log && echo "answered"
kill "$(cat nginx.pid)"
wait
grep -vE '\[notice\]' logs/error.log || true

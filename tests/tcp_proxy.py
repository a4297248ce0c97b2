#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A network between a client and a server, to be cut: kill it, stop it, or let it cut by itself.

usage: tcp_proxy.py PORT SOCKET [BYTES]

Passes connections to 127.0.0.1:PORT on to the Unix socket. With BYTES every connection ends after the server has sent
about that many, in the middle of whatever it was sending.
"""

import random
import socket
import sys
import threading


def forward(source, target, limit):
    try:
        while limit > 0:
            data = source.recv(min(65536, limit))
            if not data:
                break
            target.sendall(data)
            limit -= len(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main():
    limit = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(('127.0.0.1', int(sys.argv[1])))
    listener.listen(32)
    while True:
        client = listener.accept()[0]
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(sys.argv[2])
        except OSError:
            client.close()
            continue
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = random.randrange(limit // 2, limit * 3 // 2) if limit else 1 << 62
        threading.Thread(target=forward, args=(client, server, 1 << 62), daemon=True).start()
        threading.Thread(target=forward, args=(server, client, back), daemon=True).start()


main()

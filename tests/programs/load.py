# SPDX-License-Identifier: MIT
"""Threads, processes and maps over a heap of many small objects. Prints digests, the same in every run."""

import ctypes
import hashlib
import json
import mmap
import multiprocessing
import os
import random
import subprocess
import sys
import threading

N = int(sys.argv[1])


def digest(items):
    h = hashlib.sha256()
    for item in items:
        h.update(str(item).encode())
    return h.hexdigest()[:16]


def work(seed):
    rng = random.Random(seed)
    table = {i: [rng.random() for _ in range(4)] for i in range(N // 8)}
    return digest(sorted(table.items(), key=lambda item: item[1])[:1000])


def in_threads(heap):
    results = {}

    def run(k):
        results[k] = digest(heap[i] for i in range(k, len(heap), 4))

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return digest(sorted(results.items()))


def in_maps():
    size = max(N * 16, 1 << 20)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
        for at in range(0, size, 4096):
            m[at:at + 8] = at.to_bytes(8, 'little')
        read_fd, write_fd = os.pipe()  # the kernel reads and writes the map
        total = 0
        for at in range(0, size - 8192, 65536):
            os.write(write_fd, memoryview(m)[at:at + 8192])
            total += sum(os.readv(read_fd, [memoryview(m)[at:at + 4096], bytearray(4096)]) for _ in range(1))
        return total, hashlib.sha256(m).hexdigest()[:16]


def main():
    heap = [f'object {i} of {N}' * 3 for i in range(N)]
    print('heap', digest(heap))
    print('json', digest(json.loads(json.dumps(heap))))
    print('threads', in_threads(heap))
    print('map', *in_maps())
    print('subprocess', subprocess.run(['sha256sum'], input=''.join(heap).encode(), capture_output=True,
                                       check=True).stdout.decode().strip())
    for method in ('fork', 'spawn'):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, digest(pool.map(work, range(4))))
    libc = ctypes.CDLL(None)
    children = []
    for i in range(4):
        pid = os.fork()
        if pid == 0:
            ok = digest(heap[::7]) == digest(f'object {k} of {N}' * 3 for k in range(0, N, 7))
            libc._exit(0 if ok else 1)
        children.append(os.waitpid(pid, 0)[1])
        heap[i] = 'changed'
    print('fork', children, digest(heap))


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The heap of a program, as data for benches: records of strings, numbers and lists, as Python keeps them.

    heap.py FILE [MIB]

Writes the first MIB (default 128) of its own anonymous memory to FILE. No two runs give the same bytes, as there are
addresses in them; what they compress to differs by less than a percent.
"""
import sys


def records(count):
    return [{"id": i, "name": f"user{i}", "tags": ["a", "b", str(i % 97)], "value": i * 1.5} for i in range(count)]


def anonymous_areas():
    for line in open("/proc/self/maps", encoding="ascii"):
        fields = line.split()
        if fields[1] == "rw-p" and fields[4] == "0" and (len(fields) == 5 or fields[5] == "[heap]"):
            yield [int(address, 16) for address in fields[0].split("-")]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: heap.py FILE [MIB]")
    left = (int(sys.argv[2]) if len(sys.argv) == 3 else 128) << 20
    kept = records(left // 450)
    with open("/proc/self/mem", "rb", buffering=0) as memory, open(sys.argv[1], "wb") as out:
        for start, end in list(anonymous_areas()):
            memory.seek(start)
            while start < end and left:
                part = memory.read(min(end - start, left, 1 << 20))
                out.write(part)
                start, left = start + len(part), left - len(part)
    if left:
        sys.exit(f"heap.py: {left >> 20} MiB are missing")
    return kept


if __name__ == "__main__":
    main()

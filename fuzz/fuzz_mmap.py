#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs fuzz_mmap plainly and under weir run with the same seeds, and compares what the two print, line by line.

A difference is shrunk: operations are left out as long as it stays; what remains is printed with both outcomes.
"""

import argparse
import os
import subprocess
import sys
import time

# Environment and arguments of each way to run under weir, in turn.
WAYS = (
    ({'WEIR_ADOPT': 'now'}, ['--evict']),
    ({'WEIR_ADOPT': 'now'}, []),
    ({'WEIR_ADOPT': 'now', 'WEIR_VM': 'copy'}, ['--evict']),
    ({}, []),
    ({}, ['--evict']),
)
MODES = ([], ['--unprivileged'], ['--threads'])


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('weir')
    parser.add_argument('fuzz_mmap')
    parser.add_argument('--seed', type=int, default=1, help='the first one; default 1')
    parser.add_argument('--seeds', type=int, default=10**9, help='how many; default: until the time is over')
    parser.add_argument('--ops', type=int, default=200, help='operations of a sequence; default 200')
    parser.add_argument('--seconds', type=float, default=20, help='time for all; default 20')
    parser.add_argument('--way', type=int, choices=range(len(WAYS)), help='only this way to run under weir')
    parser.add_argument('--mode', type=int, choices=range(len(MODES)), help='only this kind of sequence')
    parser.add_argument('--keep-going', action='store_true', help='do not stop at the first difference')
    return parser.parse_args()


class Case:
    """One seed, run in one way."""

    def __init__(self, args, seed):
        self.args, self.seed, self.seen = args, seed, None
        # Independent of each other, so that all pairs come up.
        self.way = args.way if args.way is not None else seed % len(WAYS)
        self.mode = MODES[args.mode if args.mode is not None else seed // len(WAYS) % len(MODES)]

    def command(self, ops, only):
        ballast = ['--ballast'] if WAYS[self.way][1] else []
        command = [self.args.fuzz_mmap, '--seed', str(self.seed), '--ops', str(ops)] + self.mode + ballast
        return command + (['--only', ','.join(map(str, only))] if only is not None else [])

    def outputs(self, ops, only=None):
        """Lines of the plain run and of the one under weir; the last line is the status."""
        env, more = WAYS[self.way]
        under = [self.args.weir, 'run', '--resident', '8M', '--allocator', 'none', '--']
        plain = self.command(ops, only)
        return run(plain, {}), run(under + plain + more, env)

    def differs(self, ops, only=None):
        self.seen = self.outputs(ops, only)
        return self.seen[0] != self.seen[1]


def run(command, env):
    try:
        done = subprocess.run(command, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                              check=False)
        status, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        status, out, err = 'time is over', late.stdout or b'', late.stderr or b''
    lines = out.decode(errors='replace').splitlines()
    return lines + [f'status {status} {err.decode(errors="replace").strip()}']


def shrink(case, ops):
    """Leaves out halves, quarters... of what is left, as long as the outputs still differ."""
    only = list(range(ops))
    step = max(len(only) // 2, 1)
    while step:
        at = 0
        while at < len(only):
            fewer = only[:at] + only[at + step:]
            # Twice: a race need not show each time.
            if case.differs(ops, fewer) or case.differs(ops, fewer):
                only = fewer
            else:
                at += step
        step //= 2
    return only


def report(case):
    plain, weir = case.seen
    first = next((i for i, (a, b) in enumerate(zip(plain, weir)) if a != b), min(len(plain), len(weir)))
    print(f'seed {case.seed}, way {case.way} {WAYS[case.way]}, mode {case.mode}: the outputs differ')
    for name, lines in (('plain', plain), ('weir ', weir)):
        print(f'  {name} {lines[first][:400] if first < len(lines) else "(nothing)"}')
    only = shrink(case, case.args.ops)
    if len(only) == case.args.ops:
        print('  ...not each time: a race')
        return
    plain, weir = case.outputs(case.args.ops, only)
    print(f'  again: {" ".join(case.command(case.args.ops, only))}')
    for i in range(max(len(plain), len(weir))):
        a, b = (lines[i] if i < len(lines) else '(nothing)' for lines in (plain, weir))
        print(f'    {a[:300]}' if a == b else f'  - {a[:1000]}\n  + {b[:1000]}')
    sys.stdout.flush()


def main():
    args = parse()
    end, done, found = time.monotonic() + args.seconds, 0, 0
    for seed in range(args.seed, args.seed + args.seeds):
        if time.monotonic() > end:
            break
        case = Case(args, seed)
        done += 1
        if case.differs(args.ops):
            found += 1
            report(case)
            if not args.keep_going:
                break
    print(f'{done} sequences of {args.ops} operations from seed {args.seed} on, {found} differ')
    return 1 if found or not done else 0


sys.exit(main())

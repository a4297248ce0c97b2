#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""weir bench workload, phases, hitrate, device and scale in small: what they print, and that the kernel's side leaves
no trace.

usage: test_bench.py WEIR
"""

import bisect
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

WEIR = sys.argv[1]
PHASES = ['fill', 'seq-read', 'seq-write', 'rand-read', 'rand-write', 'zipf-read', 'zipf-write', 'strided', 'chase']
ZSWAP = '/sys/module/zswap/parameters/enabled'
JOURNAL = '/run/weir-bench.journal'
failures = 0
directory = tempfile.mkdtemp()


def expect(what, good):
    global failures
    print('ok' if good else 'FAILED:', what)
    failures += not good


def weir(*arguments, **more):
    return subprocess.run([WEIR, 'bench', *arguments], capture_output=True, text=True, timeout=300, check=False, **more)


def expect_error(pattern, *arguments):
    run = weir(*arguments)
    expect(f'{" ".join(arguments)}: {run.stderr.strip()}',
           run.returncode == 2 and pattern in run.stderr and run.stderr.count('\n') == 1 and not run.stdout)


def workload(*arguments, **more):
    return weir('workload', '--size=64M', '--threads=1', '--rounds=1', '--seconds=50ms', *arguments, **more)


def read(path):
    try:
        with open(path, encoding='utf-8') as file:
            return file.read()
    except OSError as error:
        return str(error)


def machine():
    """All that the kernel's side changes."""
    cgroups = [top for top, dirs, files in os.walk('/sys/fs/cgroup') if 'weir-bench-' in top]
    control = [read(os.path.join('/sys/fs/cgroup', part, 'cgroup.subtree_control')) for part in ('', 'unified')]
    return (read('/proc/swaps'), sorted(os.listdir('/sys/block')), sorted(os.listdir('/dev')), cgroups, control,
            read(ZSWAP), os.path.exists(JOURNAL))


# ---- the workload by itself, and under weir ----

def test_phases():
    run = weir('phases', '--size=4M', '--threads=3', '--seconds=20ms')
    names = [line.split()[0] for line in run.stdout.splitlines()]
    expect('phases', run.returncode == 0 and names == ['phase', *PHASES, 'verified'])
    counts = {line.split()[0]: int(line.split()[2]) for line in run.stdout.splitlines()[1:-1]}
    expect('each page once', [counts[p] for p in ('fill', 'seq-read', 'strided')] == [1024] * 3)
    expect('zero pages are not written to', counts['seq-write'] == 1024 - 103)
    for name in set(PHASES) - {'fill', 'seq-read', 'seq-write', 'strided'}:
        expect(name, counts[name] > 0)


def check_run(run, size):
    expect(f'{run["row"]}: phases', list(run['phases']) == PHASES)
    expect(f'{run["row"]}: peaks', 0 < run['resident_peak_bytes'] <= run['total_peak_bytes'] and
           run['stored_peak_bytes'] > 0 and run['cpu_ns'] > 0 and run['total_peak_bytes'] < size)
    for name, phase in run['phases'].items():
        if not (phase['accesses'] > 0 and phase['wall_ns'] > 0 and phase['faults'] <= phase['accesses'] and
                phase['p50_ns'] <= phase['p99_ns'] <= phase['p999_ns'] <= phase['max_ns']):
            expect(f'{run["row"]}: {name}: {phase}', False)
    expect(f'{run["row"]}: faults', run['phases']['rand-read']['faults'] > 0)


def test_weir_alone():
    run = workload('--targets=weir', '--json', '--data', '/proc/self/exe')
    expect(f'weir alone {run.stderr}', run.returncode == 0)
    result = json.loads(run.stdout)
    rows = {r['row']: r for r in result['runs']}
    expect('rows', sorted(rows) == ['weir --memory', 'weir --resident'] and result['ratios'] == [])
    for row in rows.values():
        check_run(row, 64 << 20)
    resident, memory = rows['weir --resident'], rows['weir --memory']
    expect('limit of resident', resident['resident_peak_bytes'] <= resident['limit_bytes'] == 16 << 20)
    expect('limit of memory', memory['total_peak_bytes'] <= memory['limit_bytes'] ==
           (16 << 20) + resident['stored_peak_bytes'])
    run = workload('--targets=weir', '--phases=chase', '--threads=1,2', '--rounds=2')
    expect('text', run.returncode == 0 and run.stdout.count('\nchase ') == 6 and 'seq-read' not in run.stdout and
           '2 threads: us per access' in run.stdout)


def test_unprivileged():
    if os.geteuid() or not shutil.which('setpriv'):
        print('skipped: running as nobody: needs root and setpriv')
        return
    # Where nobody may go: the build tree may lie in a home directory.
    os.chmod(directory, 0o755)
    for part in ('cli/weir', 'preload/libweir-preload.so'):
        os.makedirs(os.path.join(directory, os.path.dirname(part)), exist_ok=True)
        shutil.copy(os.path.join(os.path.dirname(WEIR), '..', part), os.path.join(directory, part))
    command = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', directory + '/cli/weir', 'bench',
               'workload', '--size=32M', '--threads=1', '--rounds=1', '--seconds=20ms', '--json']
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    told = [line for line in run.stderr.splitlines() if line.startswith('weir:')]
    expect(f'without root: {told}', run.returncode == 0 and told == [
        "weir: bench: weir alone, as the kernel's swap needs root"])
    expect('without root: in JSON', 'needs root' in json.loads(run.stdout)['missing'])
    run = subprocess.run([*command, '--targets=kernel'], capture_output=True, text=True, timeout=300, check=False)
    expect(f'kernel only, without root: {run.stderr.strip()}', run.returncode == 2 and 'needs root' in run.stderr)


def test_errors():
    expect_error('say which', 'nothing')
    expect_error("unknown phase 'x'", 'workload', '--phases=fill,x')
    expect_error("'0' is neither", 'workload', '--threads=1,0')
    expect_error('no number', 'workload', '--threads=,')
    expect_error("unknown target 'x'", 'workload', '--targets=x')
    expect_error('give weir, kernel or both', 'workload', '--targets=,')
    expect_error('too small', 'workload', '--size=1M')
    expect_error('may be needed', 'workload', '--size=1000T')
    expect_error('No such file', 'workload', '--data=/nonexistent')
    expect_error('no file of a page', 'workload', '--data=/dev/null')
    expect_error('unknown value', 'workload', '--algo=lzo')
    expect_error('unexpected word', 'workload', 'now')
    expect_error('No such file', 'phases', '--data=/nonexistent')
    expect_error('cannot run', 'phases', '--size=1M', '--threads=1000')
    expect_error('less than --size', 'hitrate', '--size=16M', '--resident=16M')


# ---- the hit rate ----

class Trace:
    """src/lab/zipf.c and bench_hitrate.c, once more."""

    def __init__(self, pages, name, size, room):
        self.pages, self.name, self.room = pages, name, room
        skew, self.loop = (1, int(size * room)) if name == 'loop' else (size, 0)
        self.random, self.at, self.cursor = 88172645463325252, 0, 0
        weights = [float(k + 1) ** -skew for k in range(pages)]
        total, sums, so_far = sum(weights), [], 0.0
        for weight in weights:
            so_far += weight
            sums.append(so_far)
        steps = 1 << 16
        self.quantile = [min(bisect.bisect_right(sums, total * i / steps), pages - 1) for i in range(steps)] + [pages]

    def draw(self):
        mask = (1 << 64) - 1
        r = self.random
        r ^= (r << 13) & mask
        r ^= r >> 7
        r ^= (r << 17) & mask
        self.random = r
        return (r * 0x2545f4914f6cdd1d & mask) >> 16

    def next(self):
        at = self.at
        self.at += 1
        if self.loop:
            return at % min(self.loop, self.pages)
        if self.name == 'zipf and scan' and at % 640 >= 576:
            self.cursor = (self.cursor + 1) % self.pages
            return self.cursor
        moved = at // (32 * self.room) * 7919 if self.name == 'zipf, moving' else 0
        step = self.draw() % (1 << 16)
        low, high = self.quantile[step], self.quantile[step + 1]
        rank = low + (self.draw() % (high - low) if high > low else 0)
        return (rank * 2654435761 % self.pages + moved) % self.pages


def simulate(trace, lru, room, accesses):
    cache = collections.OrderedDict((page, None) for page in range(trace.pages - room, trace.pages))
    hits = 0
    for i in range(accesses // 2 + accesses):
        page = trace.next()
        if page in cache:
            hits += i >= accesses // 2
            if lru:
                cache.move_to_end(page)
            continue
        cache.popitem(last=False)
        cache[page] = None
    return hits / accesses


def test_hitrate():
    accesses = 20000
    run = weir('hitrate', '--size=16M', '--resident=8M', f'--accesses={accesses}', '--json')
    result = json.loads(run.stdout)
    expect('hitrate', run.returncode == 0 and (result['pages'], result['resident_pages']) == (4096, 2048))
    expect('traces', [(t['trace'], t['size']) for t in result['traces']] ==
           [(name, s) for s in (0.8, 0.99, 1.2) for name in ('zipf', 'zipf and scan', 'zipf, moving')] +
           [('loop', s) for s in (0.75, 1.5, 2.5)])
    for t in result['traces']:
        expect(f'{t}', 0 <= t['weir'] <= 1 and 0.5 < t['memory_used'] <= 1 and
               abs(t['ratio'] - (t['weir'] / t['lru'] if t['lru'] else 0)) < 1e-3)
    for t in result['traces'][1:12:2]:
        for name in ('lru', 'fifo'):
            again = simulate(Trace(4096, t['trace'], t['size'], 2048), name == 'lru', 2048, accesses)
            # Sums of doubles in another order may move a quantile.
            expect(f'{t}, {name}, and by another program {again}', abs(again - t[name]) < 2e-3)
    run = weir('hitrate', '--size=16M', '--resident=8M', '--accesses=1000', '--one-page')
    expect('text', run.returncode == 0 and run.stdout.count('\nzipf') == 9 and run.stdout.count('\nloop') == 3 and
           'goal' in run.stdout)


def test_scale():
    run = weir('scale', '--size=64M', '--rounds=1', '--seconds=100ms', '--threads=2', '--json')
    expect('scale', run.returncode == 0)
    rows = json.loads(run.stdout)['results']
    expect('rows', [(r['phase'], r['threads']) for r in rows] ==
           [(phase, n) for phase in ('seq-read', 'rand-read') for n in (1, 2)])
    for r in rows:
        expect(f'{r}', r['accesses_per_s'] > 0 and (r['ratio'] == 1 if r['threads'] == 1 else r['ratio'] > 0))
    run = weir('scale', '--size=64M', '--rounds=1', '--seconds=100ms', '--threads=1')
    expect('text', run.returncode == 0 and run.stdout.count('\n') == 4 and 'rand-read' in run.stdout)
    expect_error('unknown swap device', 'scale', '--swap=tape')


def test_device():
    small = ('device', '--size=1M', '--rounds=2', '--threads=2', '--reads=50')
    for swap in ('zram', 'brd', f'file:{directory}'):
        run = weir(*small, '--swap', swap, '--json')
        result = json.loads(run.stdout) if run.returncode == 0 else {}
        expect(f'device {swap} {run.stderr}', result.get('pages') == 256)
        rows = result['ns_per_page']
        with_fio = swap.startswith('file:') and shutil.which('fio')
        expect(f'device {swap}: rows', len(rows) == (15 if with_fio else 12) and
               all(0 < r['min'] <= r['median'] <= r['max'] for r in rows))
        expect(f'device {swap}: fio', [r['pattern'] for r in result['to_fio']] ==
               (['write', 'read', 'random'] if with_fio else []))
    run = weir(*small, f'--swap=file:{directory}', '--no-fio')
    expect('device, text', run.returncode == 0 and run.stdout.count('crypt and checksum ') == 6 and
           'fio' not in run.stdout)
    expect('device: its file has gone', not [name for name in os.listdir(directory) if name.startswith('weir-bench')])
    expect_error('zam', 'device', '--swap=zam')
    expect_error('fourth', 'device', f'--swap=file:{directory}/fourth')


# ---- the kernel's side ----

def kernel_is_missing():
    """Why, or nothing."""
    run = workload('--targets=kernel', '--phases=fill')
    expect("the kernel's side alone works or says what is missing", run.returncode == 0 or
           run.returncode == 2 and run.stderr.count('\n') == 1)
    return run.stderr.strip() if run.returncode else ''


def test_both():
    before = machine()
    chart = os.path.join(directory, 'chart.svg')
    run = workload('--json', '--rounds=2', '--chart', chart)
    expect(f'both {run.stderr}', run.returncode == 0)
    result = json.loads(run.stdout)
    for row in result['runs']:
        check_run(row, 64 << 20)
    pairs = {(r['round'], r['row']): r for r in result['runs']}
    for number in (1, 2):
        kernel, memory = pairs[number, 'kernel'], pairs[number, 'weir --memory']
        expect('equal memory', memory['limit_bytes'] == kernel['limit_bytes'] + kernel['stored_peak_bytes'] and
               kernel['limit_bytes'] == 16 << 20 and kernel['resident_peak_bytes'] <= 16 << 20)
        expect('limit of memory', memory['total_peak_bytes'] <= memory['limit_bytes'])
    ratios = result['ratios']
    expect('ratios', len(ratios) == 2 * len(PHASES) and all(r['min'] <= r['median'] <= r['max'] for r in ratios))
    expect('order', [r['row'] for r in result['runs'][:3]] == ['kernel', 'weir --memory', 'weir --resident'])
    svg = xml.etree.ElementTree.parse(chart).getroot()
    texts = [e.text for e in svg.iter('{http://www.w3.org/2000/svg}text')]
    expect('chart', set(PHASES) < set(texts) and '1 thread' in texts)
    run = workload('--phases=fill,chase')
    expect('text', run.returncode == 0 and run.stdout.count('\nchase ') == 3 and 'ratio' in run.stdout)
    run = workload('--phases=fill', '--algo=zstd')
    expect('zstd, with the kernel if its zram has it', run.returncode == 0 and
           ('ratio' in run.stdout or "weir alone, as the kernel's zram has no zstd" in run.stderr))
    expect_error('--chart', 'workload', '--size=64M', '--chart=/nonexistent/chart')
    expect('nothing is left', machine() == before)


def child_of(pid):
    """The janitor: the child that has a session of its own."""
    for name in os.listdir('/proc'):
        fields = read(f'/proc/{name}/stat').rpartition(')')[2].split()
        if name.isdigit() and len(fields) > 3 and fields[1] == str(pid) and fields[3] == name:
            return int(name)
    return 0


def start_and_wait():
    """Until the kernel's side is at work, and uses its swap."""
    # pylint: disable=consider-using-with
    process = subprocess.Popen([WEIR, 'bench', 'workload', '--size=64M', '--threads=1', '--seconds=30'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = b''
    while b'seq-write' not in said:
        part = os.read(process.stderr.fileno(), 4096)
        if not part:
            break
        said += part
    return process, said


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_stops():
    before = machine()
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process, said = start_and_wait()
        expect(f'at work: {said[-80:]}', machine() != before and 'zram' in read('/proc/swaps'))
        process.send_signal(sig)
        status = process.wait(60)
        expect(f'{sig.name}: nothing is left', status == -sig and machine() == before)
        process.stderr.close()

    process, said = start_and_wait()
    process.kill()
    process.wait()
    expect('SIGKILL: the janitor puts it back', wait_until(lambda: machine() == before))
    process.stderr.close()

    process, said = start_and_wait()
    os.kill(child_of(process.pid), signal.SIGKILL)
    process.send_signal(signal.SIGINT)
    expect('SIGKILL of the janitor: nothing is left', process.wait(60) == -signal.SIGINT and machine() == before)
    process.stderr.close()

    process, said = start_and_wait()
    os.kill(child_of(process.pid), signal.SIGKILL)
    process.kill()
    process.wait()
    process.stderr.close()
    expect('both killed: something is left', machine() != before)
    run = workload('--phases=fill')
    expect('the next run puts it back', run.returncode == 0 and 'had left behind is undone' in run.stderr and
           machine() == before)


def test_zswap():
    was = read(ZSWAP).strip()
    try:
        with open(ZSWAP, 'w', encoding='ascii') as file:
            file.write('Y')
    except OSError as error:
        print(f'skipped: zswap is put back: it cannot be switched on: {error}')
        return
    try:
        process, said = start_and_wait()
        expect(f'zswap is off meanwhile: {said[-80:]}', read(ZSWAP).strip() == 'N')
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stderr.close()
        expect('zswap is on again', read(ZSWAP).strip() == 'Y')
    finally:
        with open(ZSWAP, 'w', encoding='ascii') as file:
            file.write(was)


def main():
    test_phases()
    test_errors()
    test_weir_alone()
    test_unprivileged()
    test_hitrate()
    test_device()
    test_scale()
    missing = kernel_is_missing()
    if missing:
        print(f"skipped: the kernel's side: {missing}")
    else:
        test_both()
        test_stops()
        test_zswap()
    shutil.rmtree(directory)
    print(failures, 'failed')
    return 1 if failures else 0


sys.exit(main())

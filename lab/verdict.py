# SPDX-License-Identifier: MIT
"""What the logs of the boots say, and what follows from it. Nothing here runs anything."""

import json
import re

from failure import CannotRun

BOOTS_MIN = 5
FACTOR = 10  # the fixed kernel runs so many times longer than the unfixed one needs at most
SECONDS_MIN = 60
CLOCK_ERROR_MAX = 0.1  # between the guest's clock and the host's
CLOCK_SECONDS_MIN = 5  # below, the two differ by what the console takes

SHOWN, NOT_SHOWN = 0, 1


def first(pattern, text):
    match = re.search(pattern, text, re.M)
    return match.group(1) if match else None


def why_unfinished(log):
    """A guest that did not come to its end."""
    reason = first(r'^lab: failed: (.*)$', log) or first(r'^lab: (killed by signal \d+)$', log)
    if reason:
        return reason
    panic = first(r'(Kernel panic[^\n]*)', log)
    if panic:
        return f"the guest's kernel: {panic}"
    killed = first(r'^host: killed after (\d+)$', log)
    if killed:
        return f'the guest hangs: not done after {killed} s'
    said = [line for line in log.split('\n') if line.strip() and not line.startswith('host: ')]
    return f'qemu ended too early: {said[-1] if said else "it said nothing"}'


def read_boot(name, log, processors):
    """The record that weir printed, with the kernel's version. Raises CannotRun if the boot proves nothing."""
    # Progress is written over itself.
    log = '\n'.join(line.rstrip('\r').rsplit('\r', 1)[-1] for line in log.split('\n'))
    if not re.search(r'^lab: end$', log, re.M) or re.search(r'^lab: killed', log, re.M):
        raise CannotRun(f'{name}: {why_unfinished(log)}')
    clocks = re.findall(r'^lab: clock (?:before|after) (.*)$', log, re.M)
    if len(clocks) != 2 or not all(clock in ('tsc', 'tsc-early') for clock in clocks):
        raise CannotRun(f"{name}: the guest's clock is unstable: it came to {clocks[-1] if clocks else 'nothing'}")
    begin = re.search(r'^lab: begin (\S+), (\d+) processors$', log, re.M)
    if not begin or int(begin.group(2)) != processors:
        raise CannotRun(f'{name}: the guest has {begin.group(2) if begin else "?"} processors, not {processors}')
    status = first(r'^lab: status (\d+)$', log)
    record = first(r'^(\{.*\})$', log)
    if status not in ('0', '1') or not record:
        raise CannotRun(f"{name}: weir ended with status {status}: {first('^(weir: .*)$', log) or 'and no record'}")
    try:
        record = json.loads(record)
    except ValueError:
        raise CannotRun(f'{name}: the record of weir is damaged') from None
    return {**record, 'name': name, 'version': begin.group(1), 'status': int(status),
            'host_seconds': float(first(r'^host: seconds ([\d.]+)$', log) or 0)}


def read_race(name, log):
    boot = read_boot(name, log, 2)
    for key in ('elapsed_ns', 'rounds', 'pages_lost', 'misloads', 'first_loss_ns', 'pages_in', 'pages_out'):
        if not isinstance(boot.get(key), int):
            raise CannotRun(f'{name}: the record of weir has no {key}')
    boot['seconds'] = boot['elapsed_ns'] / 1e9
    boot['lost'] = boot['pages_lost'] + boot['misloads'] > 0
    # A misload that only a worker saw has no time: the end then.
    boot['first_loss'] = (boot['first_loss_ns'] or boot['elapsed_ns']) / 1e9 if boot['lost'] else 0
    if boot['lost'] != (boot['status'] == 1):
        raise CannotRun(f'{name}: the record of weir and its status {boot["status"]} differ')
    host = boot['host_seconds']
    if host >= CLOCK_SECONDS_MIN and abs(boot['seconds'] / host - 1) > CLOCK_ERROR_MAX:
        raise CannotRun(f"{name}: the guest's clock is unstable: {boot['seconds']:.1f} s of it took {host:.1f} s")
    return boot


def seconds_needed(unfixed):
    """How long the fixed kernel has to lose nothing."""
    return max([SECONDS_MIN] + [FACTOR * boot['first_loss'] for boot in unfixed])


def judge(unfixed, fixed):
    """(SHOWN or NOT_SHOWN, one line)."""
    losing = [boot for boot in unfixed if boot['lost']]
    if len(unfixed) < BOOTS_MIN:
        return NOT_SHOWN, f'{len(unfixed)} boots of the unfixed kernel are too few; {BOOTS_MIN} at least'
    if len(losing) < len(unfixed):
        return NOT_SHOWN, f'only {len(losing)} of {len(unfixed)} boots of the unfixed kernel lost data'
    if fixed['lost']:
        return NOT_SHOWN, f'the fixed kernel lost data too: {fixed["pages_lost"]} pages, {fixed["misloads"]} misloads'
    needed = seconds_needed(unfixed)
    if fixed['seconds'] < needed:
        return NOT_SHOWN, f'the fixed kernel ran for {fixed["seconds"]:.1f} s only; {needed:.1f} s are needed'
    for way in ('in', 'out'):
        most = max(boot[f'pages_{way}'] for boot in unfixed)
        if fixed[f'pages_{way}'] < max(most, 1):
            return NOT_SHOWN, (f'the fixed kernel swapped {fixed[f"pages_{way}"]} pages {way}, fewer than the {most} '
                               f'within which the unfixed one lost data')
    longest = max(boot['first_loss'] for boot in unfixed)
    return SHOWN, (f'data lost in all {len(unfixed)} boots without the fix, after at most {longest:.2f} s; nothing '
                   f'lost in {fixed["seconds"]:.0f} s with it, {fixed["pages_in"]} pages in and '
                   f'{fixed["pages_out"]} out')


# ---- tables ----

def race_rows(boots):
    yield (f'{"boot":<10} {"result":<13} {"first loss":>10} {"time":>8} {"rounds":>7} {"lost":>5} {"misloads":>8} '
           f'{"pages in":>9} {"out":>9}')
    for boot in boots:
        loss = f'{boot["first_loss"]:.2f} s' if boot['lost'] else 'none'
        yield (f'{boot["name"]:<10} {"DATA LOST" if boot["lost"] else "nothing lost":<13} {loss:>10} '
               f'{boot["seconds"]:>6.2f} s {boot["rounds"]:>7} {boot["pages_lost"]:>5} {boot["misloads"]:>8} '
               f'{boot["pages_in"]:>9} {boot["pages_out"]:>9}')


def losers_rows(boots):
    yield f'{"kernel":<10} {"lost faults":>12} {"CPU of losers":>14} {"until all":>10} {"alone":>10}'
    for name, boot in boots.items():
        row = boot['kernel']
        yield (f'{name:<10} {row["lost_faults"]:>12.1f} {row["losers_cpu_ns"] / 1e3:>11.1f} us '
               f'{row["wall_ns"] / 1e6:>7.2f} ms {row["alone_wall_ns"] / 1e6:>7.2f} ms')


def swapin_rows(boots):
    yield f'{"kernel":<10} {"instructions a page":>19} {"ratio":>7}'
    base = next(iter(boots.values()))['kernel']['median_ns']
    for name, boot in boots.items():
        median = boot['kernel']['median_ns']
        yield f'{name:<10} {median / boot["pages"]:>19.0f} {median / base:>7.3f}'

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many machines that swap to one Ceph cluster: where their pages lie, what each OSD has to do, and what a loss costs.

A run's pages lie in objects of 512 pages, named weir.RUN.NUMBER (src/engine/rados.c); an object's name says its
placement group, and CRUSH the group's OSDs: one replica in each of three racks. Placement here is CRUSH's chooseleaf
firstn with straw2 buckets of equal weights and another hash function. Time is not simulated but for the windows of one
second in which writes are counted; latencies, queues and networks are not. docs/scale.md has the results.
"""

import argparse
import collections
import itertools
import math
import random
import statistics

PAGE = 4096
OBJECT_PAGES = 512
RING_CELLS, RING_WRITE_CELLS = 256, 192  # src/swap/ring.h: requests that one engine has in flight
REMOVALS, LEAVE_S = 32, 30  # src/engine/rados.c
NAME_BYTES = 64  # of an object in a listing: an assumption
MASK = (1 << 64) - 1
REPLICAS, MIN_SIZE = 3, 2
TRIES = 50
Loss = collections.namedtuple('Loss', 'name out reads writes moved short')


def mix(*values):
    """A hash of some integers: splitmix64's finish after each."""
    h = 0x9e3779b97f4a7c15
    for v in values:
        h = (h + v + 0x9e3779b97f4a7c15) & MASK
        h = ((h ^ h >> 30) * 0xbf58476d1ce4e5b9) & MASK
        h = ((h ^ h >> 27) * 0x94d049bb133111eb) & MASK
        h ^= h >> 31
    return h


class Cluster:
    def __init__(self, racks, hosts, osds, groups):
        self.racks, self.hosts, self.osds, self.groups = racks, hosts, osds, groups
        self.nr = racks * hosts * osds
        self.map = [self.place(g, frozenset()) for g in range(groups)]

    def place(self, group, out):
        """The OSDs of a group, the primary first; fewer than three where none is found in TRIES."""
        chosen, used = [], set()
        for replica in range(REPLICAS):
            for attempt in range(TRIES):
                r = replica + attempt
                rack = max(range(self.racks), key=lambda i: mix(group, 1, i, r))
                if rack in used:
                    continue
                host = max(range(self.hosts), key=lambda i: mix(group, 2, rack, i, r))
                osd = max(range(self.osds), key=lambda i: mix(group, 3, rack, host, i, r))
                number = (rack * self.hosts + host) * self.osds + osd
                if number not in out:
                    chosen.append(number)
                    used.add(rack)
                    break
        return chosen

    def lose(self, name, out):
        """What is read and written, in groups, by each OSD, when these are out for good."""
        reads, writes = collections.Counter(), collections.Counter()
        moved, short = 0, collections.Counter()
        for group, before in enumerate(self.map):
            alive = [o for o in before if o not in out]
            if len(alive) == len(before):
                continue
            short[len(before) - len(alive)] += 1
            after = self.place(group, out)
            for new in set(after) - set(before):
                moved += 1
                writes[new] += 1
                if alive:
                    reads[alive[0]] += 1
        return Loss(name, out, reads, writes, moved, short)


def spread(values):
    mean = statistics.fmean(values)
    return f'mean {mean:.1f}, max {max(values):.1f} = {max(values) / mean:.2f} x mean, min {min(values):.1f}'


def size(nbytes):
    for unit in ('B', 'KiB', 'MiB', 'GiB', 'TiB'):
        if nbytes < 1024 or unit == 'TiB':
            return f'{nbytes:.4g} {unit}'
        nbytes /= 1024
    raise AssertionError


def per_osd(cluster, weights, which):
    """Sums a weight per group over the group's OSDs: all of them, or the primary."""
    load = [0.0] * cluster.nr
    for group, weight in enumerate(weights):
        for osd in cluster.map[group][:which]:
            load[osd] += weight
    return load


def space(args, cluster, rng):
    objects = args.nodes * args.swap_gib * (1 << 30) // (PAGE * OBJECT_PAGES)
    # Names are hashed, so each object's group is drawn by itself; the sum over a group is all but normal.
    mean = objects / cluster.groups
    weights = [max(0.0, rng.gauss(mean, mean ** 0.5)) for _ in range(cluster.groups)]
    stored = [w * OBJECT_PAGES * PAGE / (1 << 30) for w in per_osd(cluster, weights, REPLICAS)]
    print(f'space: {objects} objects, {size(objects * OBJECT_PAGES * PAGE)}, with replicas '
          f'{size(objects * OBJECT_PAGES * PAGE * REPLICAS)}; {mean:.0f} objects a group, '
          f'{cluster.groups * REPLICAS / cluster.nr:.0f} groups an OSD')
    print(f'  GiB an OSD: {spread(stored)}')
    return weights


def client_load(args, cluster, weights):
    reads = per_osd(cluster, [w / sum(weights) * args.nodes * args.reads for w in weights], 1)
    print(f'reads: {args.nodes} nodes x {args.reads} pages/s, each one operation of the primary')
    print(f'  operations/s an OSD: {spread(reads)}')
    total = args.nodes * args.writes * REPLICAS / args.batch / cluster.nr
    print(f'writes: {args.nodes} nodes x {args.writes} pages/s by {args.batch} an operation, three OSDs each')
    print(f'  operations/s an OSD: mean {total:.1f}, and {total * args.batch * PAGE / 1e6:.1f} MB/s')


def write_windows(args, cluster, rng):
    """A node fills one object after the other, so in a moment all that it writes goes to three OSDs."""
    peaks, means, seconds = [], [], args.windows
    position = [rng.random() * OBJECT_PAGES for _ in range(args.nodes)]
    number = [0] * args.nodes
    for _ in range(seconds):
        load = [0.0] * cluster.nr
        for node in range(args.nodes):
            left = args.writes
            while left > 0:
                n = min(left, OBJECT_PAGES - position[node])
                group = mix(node, number[node]) % cluster.groups
                for osd in cluster.map[group]:
                    load[osd] += n / args.batch
                left -= n
                position[node] += n
                if position[node] >= OBJECT_PAGES:
                    position[node], number[node] = 0, number[node] + 1
        peaks.append(max(load))
        means.append(statistics.fmean(load))
    print(f'  in one second, of {seconds}: the busiest OSD has {statistics.fmean(peaks):.1f} operations '
          f'({statistics.fmean(peaks) / statistics.fmean(means):.1f} x mean), the worst of all {max(peaks):.1f}')


def losses(args, cluster, weights):
    cases = [('an OSD', 1), ('a host', cluster.osds), ('a rack', cluster.osds * cluster.hosts)]
    group_bytes = statistics.fmean(weights) * OBJECT_PAGES * PAGE
    writes = args.nodes * args.writes * PAGE * REPLICAS
    for name, nr in cases:
        loss = cluster.lose(name, frozenset(range(nr)))
        left = cluster.nr - nr
        moved = loss.moved * group_bytes
        worst = max(max(loss.writes.values(), default=0), max(loss.reads.values(), default=0)) * group_bytes
        seconds = worst / (args.recovery_mb * 1e6)
        print(f'{name} is lost: {sum(loss.short.values())} of {cluster.groups} groups have a replica less, '
              f'none two: {loss.short[2] == 0}')
        print(f'  {size(moved)} are copied; the busiest OSD moves {size(worst)}: {seconds / 60:.1f} min at '
              f'{args.recovery_mb} MB/s an OSD')
        print(f'  meanwhile {moved / max(seconds, 1) / 1e6:.0f} MB/s of recovery, beside {writes / 1e6:.0f} MB/s of '
              f'client writes with replicas; client load of those left: x {cluster.nr / left:.3f}')


def together(args, cluster):
    """OSDs of different racks that are lost at once, before anything was copied: the share of all such choices."""
    objects = args.swap_gib * (1 << 30) // (PAGE * OBJECT_PAGES)
    hit = 1 - (1 - 1 / cluster.groups) ** objects
    for nr, what in ((2, 'some group has one replica left and stands still'), (3, 'some group is lost')):
        sets = {c for members in cluster.map for c in itertools.combinations(sorted(members), nr)}
        choices = math.comb(cluster.racks, nr) * (cluster.hosts * cluster.osds) ** nr
        print(f'{nr} OSDs of different racks at once: in {100 * len(sets) / choices:.3g} % of cases {what}')
    print(f'  a group holds an object of {100 * hit:.0f} % of the nodes')


def bounds(args, cluster):
    print(f'in flight, at most: {RING_CELLS} requests a node, {args.nodes * RING_CELLS} in all, '
          f'{args.nodes * RING_CELLS / cluster.nr:.0f} an OSD on average')
    for ms in (1.5, 10, 50):
        print(f'  at {ms} ms a write a node writes at most {RING_WRITE_CELLS / ms * 1000:.0f} pages/s, '
              f'{RING_WRITE_CELLS / ms * 1000 * PAGE / 1e6:.0f} MB/s')
    objects = args.swap_gib * (1 << 30) // (PAGE * OBJECT_PAGES)
    reached = cluster.nr * (1 - (1 - 1 / cluster.nr) ** objects)
    print(f'connections: a node with {objects} objects has primaries on {reached:.0f} of {cluster.nr} OSDs; '
          f'{args.nodes * reached:.0f} in all, {args.nodes * reached / cluster.nr:.0f} an OSD')
    names = args.nodes * objects
    print(f'an engine that begins lists {names} names, {size(names * NAME_BYTES)}; all nodes at once '
          f'{size(args.nodes * names * NAME_BYTES)}')
    for ms in (2, 20, 50):
        seconds = objects * ms / 1000 / REMOVALS
        print(f'an engine that ends removes {objects} objects, {REMOVALS} at once: {seconds:.0f} s at {ms} ms each; '
              f'it has {LEAVE_S} s')
    print(f'new objects: {args.nodes * args.writes / OBJECT_PAGES:.0f} /s in all, and as many removed where space '
          f'stays the same')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    for name, default, text in (
            ('nodes', 1000, 'machines'), ('swap-gib', 64, 'GiB that each has in swap'),
            ('reads', 2000, 'pages/s that each reads, one at a time'), ('writes', 2000, 'pages/s that each writes'),
            ('batch', 32, 'pages in a write operation'), ('racks', 8, 'racks'), ('hosts', 12, 'hosts in each'),
            ('osds', 10, 'OSDs in each'), ('groups', 32768, 'placement groups'),
            ('recovery-mb', 50, 'MB/s that an OSD gives to recovery'), ('windows', 30, 'seconds of writes'),
            ('seed', 1, 'of what is drawn')):
        parser.add_argument('--' + name, type=int, default=default, help=f'{text} (default {default})')
    args = parser.parse_args()
    rng = random.Random(args.seed)
    cluster = Cluster(args.racks, args.hosts, args.osds, args.groups)
    for members in cluster.map:
        racks = {o // (args.hosts * args.osds) for o in members}
        assert len(members) == REPLICAS == len(racks), 'three replicas in three racks'
    print(f'{args.nodes} nodes, {cluster.nr} OSDs: {args.racks} racks x {args.hosts} hosts x {args.osds}')
    weights = space(args, cluster, rng)
    client_load(args, cluster, weights)
    write_windows(args, cluster, rng)
    losses(args, cluster, weights)
    together(args, cluster)
    bounds(args, cluster)


if __name__ == '__main__':
    main()

#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A real Ceph cluster on 127.0.0.1 for tests: 1 monitor, 3 OSDs in memory, no systemd, no keys, nothing outside DIR.

usage: ceph_mini.py start DIR [KEY=VALUE...]   until all is active+clean; lines for [global] of ceph.conf
       ceph_mini.py stop DIR                   ends all, by pid, and removes DIR
       ceph_mini.py kill DIR OSD [SIGNAL]      KILL by default
       ceph_mini.py fresh DIR OSD              starts it with an empty store: its memory went with it
       ceph_mini.py wait DIR [SECONDS]         until all is active+clean

The pool is "swap", of size 3 and min_size 2. The cluster ends by itself after 15 minutes. The system's python has the
module rados, others may not.
"""

import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid

OSDS = 3
PGS = 8
POOL = 'swap'
LIFE_SECONDS = 900

# Short stalls: quick detection of failures, quick changes of the map, nobody marked out.
CONF = '''[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}/0]
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_msgr1 = false
ms_bind_port_min = {port_min}
ms_bind_port_max = {port_max}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = false
run_dir = {dir}/run
pid_file =
log_file =
admin_socket =
log_to_stderr = false
log_flush_on_exit = false
crash_dir = {dir}/crash
keyring = {dir}/none
mon_data = {dir}/mon.$id
osd_data = {dir}/osd.$id
mon_cluster_log_file = /dev/null
debug_ms = 0/0
debug_osd = 0/0
debug_mon = 0/0
debug_paxos = 0/0
debug_monc = 0/0
debug_objecter = 0/0
debug_rocksdb = 0/0
debug_auth = 0/0
osd_crush_chooseleaf_type = 0
osd_crush_initial_weight = 1
osd_pool_default_size = 3
osd_pool_default_min_size = 2
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 1000
mon_data_avail_crit = 0
osd_heartbeat_interval = 1
osd_heartbeat_grace = 2
mon_osd_min_down_reporters = 1
mon_osd_reporter_subtree_level = osd
mon_osd_adjust_heartbeat_grace = false
mon_osd_down_out_interval = 86400
osd_max_markdown_count = 1000
osd_mon_report_interval = 0
mon_tick_interval = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
osd_mon_shutdown_timeout = 0.3
osd_recovery_sleep = 0
osd_recovery_delay_start = 0
osd_max_backfills = 4
osd_recovery_max_active = 8
objecter_tick_interval = 0.5
objecter_timeout = 1
osd_objectstore = memstore
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
ms_async_op_threads = 2
osd_memory_target = 939524096
osd_min_pg_log_entries = 100
osd_max_pg_log_entries = 200
osd_enable_op_tracker = false
osd_class_update_on_start = false
memstore_page_set = true
memstore_page_size = 4096
memstore_device_bytes = 1073741824
mon_osd_full_ratio = .97
mon_osd_nearfull_ratio = .95
mon_osd_backfillfull_ratio = .96
{extra}
[mon]
log_file = {dir}/log/$name.log
[osd]
admin_socket = {dir}/run/$name.asok
log_file = {dir}/log/$name.log
'''


def conf(directory):
    return f'{directory}/ceph.conf'


def free_ports():
    for _ in range(200):
        base = random.randrange(20000, 31000, 100)
        try:
            for port in (base, base + 1, base + 2, base + 50):
                with socket.socket() as s:
                    s.bind(('127.0.0.1', port))
            return base
        except OSError:
            pass
    sys.exit('ceph_mini: no free ports')


def read(path):
    try:
        with open(path, encoding='utf-8') as file:
            return file.read().strip()
    except OSError:
        return ''


def state_of(pid):
    """Z and X are dead, as nobody may wait for them; '' is gone."""
    status = read(f'/proc/{pid}/stat')
    return status.rsplit(')', 1)[1].split()[0] if ')' in status else ''


def pid_of(directory, name):
    """Of a daemon that lives, or None. A pid that is another's by now does not count."""
    pid = read(f'{directory}/run/{name}.pid')
    kind = 'ceph-' + name.split('.')[0]
    if pid and state_of(pid) not in ('', 'Z', 'X') and kind in read(f'/proc/{pid}/comm'):
        return int(pid)
    return None


def launch(directory, name):
    kind, number = name.split('.')
    with open(f'{directory}/log/{name}.out', 'ab') as out:
        process = subprocess.Popen([f'ceph-{kind}', '-c', conf(directory), '-f', '-i', number], stdout=out, stderr=out,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
    with open(f'{directory}/run/{name}.pid', 'w', encoding='ascii') as file:
        file.write(str(process.pid))


def call(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        sys.exit(f'ceph_mini: {" ".join(command)}: {done.stderr[-500:]}')


def make_osd(directory, osd, name):
    os.makedirs(f'{directory}/osd.{osd}', exist_ok=True)
    call('ceph-osd', '-c', conf(directory), '-i', str(osd), '--mkfs', '--no-mon-config', '--osd-uuid', name)


class Monitor:
    def __init__(self, directory):
        import rados  # the other commands do without
        self.directory = directory
        self.cluster = rados.Rados(conffile=conf(directory))
        self.cluster.connect(timeout=20)

    def ask(self, **command):
        status, out, text = self.cluster.mon_command(json.dumps(dict(command, format='json')), b'', timeout=20)
        if status:
            sys.exit(f'ceph_mini: {command}: {status} {text}')
        return json.loads(out) if out.strip() else None

    def ask_osd(self, osd, **command):
        """By its socket: through the monitor it can hang for ever."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(5)
                s.connect(f'{self.directory}/run/osd.{osd}.asok')
                s.sendall(json.dumps(command).encode() + b'\0')
                with s.makefile('rb') as file:
                    return json.loads(file.read(struct.unpack('>I', file.read(4))[0]))
        except (OSError, ValueError, struct.error):
            return {}

    def is_clean(self):
        dump = self.ask(prefix='osd dump')
        up = [o['osd'] for o in dump['osds'] if o['up']]
        if len(up) < OSDS:
            return False
        for status in (self.ask_osd(i, prefix='status') for i in up):
            if status.get('state') != 'active' or status.get('newest_map', 0) < dump['epoch']:
                return False
        pool = [p for p in dump['pools'] if p['pool_name'] == POOL][0]
        for number in range(pool['pg_num']):
            name = f'{pool["pool"]}.{number:x}'
            answers = (self.ask_osd(i, prefix='query', pgid=name, format='json') for i in up)
            pg = next((a for a in answers if 'state' in a), {})
            if pg.get('state') != 'active+clean' or len(pg['acting']) != pool['size']:
                return False
        return True

    def wait_clean(self, seconds):
        end = time.time() + seconds
        while not self.is_clean():
            if time.time() > end:
                sys.exit('ceph_mini: the cluster does not become clean')
            time.sleep(0.02)

    def make_pool(self):
        end = time.time() + 60
        while self.ask(prefix='osd stat')['num_up_osds'] < OSDS:
            if time.time() > end:
                sys.exit('ceph_mini: the OSDs do not come up')
            time.sleep(0.02)
        self.ask(prefix='osd pool create', pool=POOL, pg_num=PGS, pgp_num=PGS, pool_type='replicated')
        self.ask(prefix='osd pool application enable', pool=POOL, app='swap')


def start(directory, *extra):
    directory = os.path.abspath(directory)
    if os.path.exists(conf(directory)) or len(directory) > 80:
        sys.exit(f'ceph_mini: {directory} holds a cluster already, or its name is too long for sockets')
    for name in ('run', 'log', 'crash', 'mon.a'):
        os.makedirs(f'{directory}/{name}')
    port, fsid = free_ports(), str(uuid.uuid4())
    with open(conf(directory), 'w', encoding='utf-8') as file:
        file.write(CONF.format(dir=directory, fsid=fsid, port=port, port_min=port + 1, port_max=port + 99,
                               extra='\n'.join(extra)))
    try:
        call('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', f'[v2:127.0.0.1:{port}/0]',
             '--set-min-mon-release', 'pacific', f'{directory}/monmap')
        call('ceph-mon', '-c', conf(directory), '-i', 'a', '--mkfs', '--monmap', f'{directory}/monmap')
        launch(directory, 'mon.a')
        monitor = Monitor(directory)
        for osd in range(OSDS):
            name = str(uuid.uuid4())
            monitor.ask(prefix='osd new', id=osd, uuid=name)
            make_osd(directory, osd, name)
            launch(directory, f'osd.{osd}')
        monitor.make_pool()
        monitor.wait_clean(60)
    except BaseException:
        stop(directory)
        raise
    if os.fork() == 0:
        guard(directory, fsid)


def guard(directory, fsid):
    """Ends the cluster of a test that has died."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    for _ in range(LIFE_SECONDS):
        time.sleep(1)
        if fsid not in read(conf(directory)):
            os._exit(0)
    stop(directory)
    os._exit(0)


def stop(directory):
    names = [f'osd.{i}' for i in range(OSDS)] + ['mon.a']
    for name in names:
        pid = pid_of(directory, name)
        if pid:
            os.kill(pid, signal.SIGKILL)
    end = time.time() + 10
    while any(pid_of(directory, name) for name in names) and time.time() < end:
        time.sleep(0.01)
    shutil.rmtree(directory, ignore_errors=True)


def kill(directory, osd, name='KILL'):
    pid = pid_of(directory, f'osd.{osd}')
    if not pid:
        sys.exit(f'ceph_mini: osd.{osd} does not run')
    os.kill(pid, getattr(signal, f'SIG{name}'))


def fresh(directory, osd):
    end = time.time() + 10
    while pid_of(directory, f'osd.{osd}'):
        if time.time() > end:
            sys.exit(f'ceph_mini: osd.{osd} runs')
        time.sleep(0.01)
    shutil.rmtree(f'{directory}/osd.{osd}')
    if os.path.exists(f'{directory}/run/osd.{osd}.asok'):
        os.unlink(f'{directory}/run/osd.{osd}.asok')
    monitor, name = Monitor(directory), str(uuid.uuid4())
    monitor.ask(prefix='osd down', ids=[osd])
    monitor.ask(prefix='osd destroy-actual', id=int(osd), yes_i_really_mean_it=True)
    monitor.ask(prefix='osd new', id=int(osd), uuid=name)
    make_osd(directory, osd, name)
    launch(directory, f'osd.{osd}')


def wait(directory, seconds='60'):
    Monitor(directory).wait_clean(float(seconds))


COMMANDS = {'start': start, 'stop': stop, 'kill': kill, 'fresh': fresh, 'wait': wait}

if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
    sys.exit(__doc__)
COMMANDS[sys.argv[1]](*sys.argv[2:])

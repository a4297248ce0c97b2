#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The lab without a kernel: its edits on fixtures, its verdict on recorded logs, its bad input with stand-ins.

usage: test_lab.py GUEST-FOLDER [TEST...]

The fixtures have the shape of what the edits look for and are not the kernel's text. The logs in tests/lab_logs are
recorded, one for each kind of boot.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

TESTS = os.path.dirname(os.path.realpath(__file__))
LAB = os.path.join(TESTS, '..', 'lab')
sys.dont_write_bytecode = True
sys.path.insert(0, LAB)

import edits
import guest
import images
import verdict
from failure import CannotRun

GUEST_FOLDER = os.path.realpath(sys.argv[1]) if len(sys.argv) > 1 else ''

FIX = '''\
			/* two at once: swapcache_prepare(entry) twice, need_clear_cache = true */
			if (swapcache_prepare(entry)) {
				/* wait { */
				schedule_timeout_uninterruptible(1);
				goto out;
			}
			need_clear_cache = true;
'''
MEMORY_C = '''\
/* A fixture. do_swap_page(x) in a comment. */
int other(int entry)
{
	return swapcache_prepare(entry);
}

fault_t do_swap_page(struct fault *fault)
{
	bool need_clear_cache = false;

	if (!folio) {
		if (data_race(si->flags & SWP_SYNCHRONOUS_IO) &&
		    __swap_count(entry) == 1) {
''' + FIX + '''
			read_page("}", '{');
		} else {
			read_cluster();
		}
	}
out:
	if (need_clear_cache)
		swapcache_clear(si, entry);
	return 0;
out_page:
	if (need_clear_cache)
		swapcache_clear(si, entry);
	return 1;
}

int caller(void)
{
	return do_swap_page(0);
}
'''
SWAPFILE_C = '''\
int swapon(struct info *p)
{
	if (is_synchronous(p)) /* p->flags |= SWP_SYNCHRONOUS_IO; */
		p->flags |= SWP_SYNCHRONOUS_IO;
	return 0;
}
'''
BRD_C = '''\
#include <linux/init.h>
#include <linux/module.h>

static int brd_rw_page(struct device *device, unsigned long sector,
		       struct page *page, enum op op)
{
	int err;

	err = brd_do_bvec(device, page, op, sector);
	page_endio(page, op_is_write(op), err);
	return err;
}

static const struct operations operations = {
	.rw_page =	brd_rw_page,
};
'''


class Edits(unittest.TestCase):
    def differs(self, edit, text, what):
        with self.assertRaises(edits.Differs) as caught:
            edit(text)
        self.assertIn(what, str(caught.exception))
        self.assertNotIn('\n', str(caught.exception))

    def test_fix_is_removed_and_nothing_else(self):
        got = edits.remove_fix(MEMORY_C)
        self.assertEqual(got.replace('\n\n', '\n'), MEMORY_C.replace(FIX, '').replace('\n\n', '\n'))

    def test_white_space_does_not_matter(self):
        text = MEMORY_C.replace('== 1) {', '== 1)\n\t{').replace('(entry)) {', '(entry)  )\n{')
        self.assertNotIn('need_clear_cache = true;', edits.blank(edits.remove_fix(text)))

    def test_relax(self):
        self.assertEqual(edits.set_relax(MEMORY_C, edits.ONE_TICK), MEMORY_C)
        got = edits.set_relax(MEMORY_C, edits.BARE_SCHEDULE)
        self.assertEqual(got, MEMORY_C.replace('schedule_timeout_uninterruptible(1)', 'schedule()'))
        self.assertEqual(edits.set_relax(got, edits.ONE_TICK), MEMORY_C)

    def test_pin_differs(self):
        pin = 'pin of the direct swap-in'
        self.differs(edits.remove_fix, edits.remove_fix(MEMORY_C), f'{pin} in do_swap_page(): found nowhere')
        self.differs(edits.remove_fix, MEMORY_C.replace('do_swap_page(struct', 'do_swap(struct'), 'do_swap_page()')
        self.differs(edits.remove_fix, MEMORY_C + MEMORY_C, 'definition of do_swap_page(): found 2 times')
        direct = MEMORY_C[MEMORY_C.index('\t\tif (data_race'):MEMORY_C.index('\t\t} else {')] + '\t\t}\n'
        self.differs(edits.remove_fix, MEMORY_C.replace('\tif (!folio) {\n', '\tif (!folio) {\n' + direct),
                     f'{pin} in do_swap_page(): found 2 times')
        self.differs(edits.remove_fix, MEMORY_C.replace('prepare(entry)) {', 'prepare(entry, 1)) {'),
                     f'{pin} in do_swap_page(): found nowhere')
        self.differs(edits.remove_fix, MEMORY_C.replace('goto out;', 'goto out_page;'), pin)
        self.differs(edits.remove_fix, MEMORY_C.replace('_cluster()', '_cluster(swapcache_prepare(entry))'),
                     'swapcache_prepare in do_swap_page(): found 2 times')

    def test_release_differs(self):
        once = MEMORY_C.replace('out_page:\n\tif (need_clear_cache)\n', 'out_page:\n\tif (true)\n')
        self.differs(edits.remove_fix, once, 'release of the pin in do_swap_page(): found 1 times')
        self.differs(edits.remove_fix, MEMORY_C.replace('read_cluster()', 'read_cluster(need_clear_cache)'), 'release')
        self.differs(edits.remove_fix, MEMORY_C.replace('need_clear_cache = false', 'need_clear_cache = 0'),
                     'declaration of need_clear_cache: found nowhere')

    def test_relax_differs(self):
        text = MEMORY_C.replace('schedule_timeout_uninterruptible(1)', 'wait_event(1)')
        self.differs(lambda text: edits.set_relax(text, edits.ONE_TICK), text, 'calls wait_event(1)')

    def test_synchronous_flag(self):
        self.assertEqual(edits.never_direct(SWAPFILE_C),
                         SWAPFILE_C.replace('\t\tp->flags |= SWP_SYNCHRONOUS_IO', '\t\tp->flags |= 0'))
        self.differs(edits.never_direct, edits.never_direct(SWAPFILE_C), 'device in swapon(): found nowhere')
        self.differs(edits.never_direct, SWAPFILE_C * 2, 'found 2 times')

    def test_read_delay(self):
        got = edits.add_read_delay(BRD_C)
        order = ['#include <linux/module.h>', '#include <linux/delay.h>', 'static unsigned int lab_delay_us;',
                 'static int brd_rw_page(', 'err = brd_do_bvec(', 'if (!op_is_write(op) && lab_delay_us)',
                 'page_endio(']
        places = [got.index(text) for text in order]
        self.assertEqual(places, sorted(places))
        self.differs(edits.add_read_delay, got, 'is there already')
        self.differs(edits.add_read_delay, BRD_C.replace('page_endio', 'folio_end'), 'copy of a page in brd_rw_page()')
        self.differs(edits.add_read_delay, BRD_C.replace('brd_rw_page(struct', 'brd_submit(struct'), 'brd_rw_page()')
        self.differs(edits.add_read_delay, BRD_C.replace('linux/module', 'linux/export'), 'include of linux/module.h')


def recorded(name):
    """As the console sent it."""
    with open(os.path.join(TESTS, 'lab_logs', name + '.log'), encoding='utf-8') as file:
        return file.read().replace('\n', '\r\n').replace('\r\nhost: ', '\nhost: ')


def race(name):
    return verdict.read_race(name, recorded(name))


class Verdict(unittest.TestCase):
    def setUp(self):
        self.unfixed = [race('unfixed') for _ in range(verdict.BOOTS_MIN)]
        self.fixed = race('fixed')

    def not_shown(self, what):
        status, line = verdict.judge(self.unfixed, self.fixed)
        self.assertEqual(status, verdict.NOT_SHOWN)
        self.assertIn(what, line)

    def test_recorded(self):
        self.assertTrue(self.unfixed[0]['lost'])
        self.assertGreater(self.unfixed[0]['first_loss'], 0)
        self.assertFalse(self.fixed['lost'])
        self.assertGreaterEqual(self.fixed['seconds'], 60)
        misload = race('misload')
        self.assertTrue(misload['lost'])
        self.assertEqual(misload['pages_lost'], 0)
        self.assertEqual(self.fixed['version'].split('.')[:2], ['6', '1'])

    def test_progress_is_overwritten(self):
        log = recorded('unfixed').replace('{"target', '\r  0.7 s, 2 rounds, 0 pages lost \r{"target')
        self.assertEqual(verdict.read_race('unfixed', log), self.unfixed[0])

    def test_loss_without_a_time(self):
        log = recorded('misload')
        record = json.loads(log[log.index('{'):log.index('}') + 1])
        log = log.replace(f'"first_loss_ns": {record["first_loss_ns"]}', '"first_loss_ns": 0')
        self.assertEqual(verdict.read_race('misload', log)['first_loss'], record['elapsed_ns'] / 1e9)

    def test_shown(self):
        status, line = verdict.judge(self.unfixed, self.fixed)
        self.assertEqual(status, verdict.SHOWN)
        self.assertIn('all 5 boots', line)

    def test_too_few_boots(self):
        self.unfixed.pop()
        self.not_shown('4 boots of the unfixed kernel are too few')

    def test_one_boot_without_loss(self):
        self.unfixed[3] = self.fixed
        self.not_shown('only 4 of 5')

    def test_fixed_loses(self):
        self.fixed = self.unfixed[0]
        self.not_shown('the fixed kernel lost data too')
        self.fixed = {**race('fixed'), 'misloads': 1, 'lost': True}
        self.not_shown('1 misloads')

    def test_too_short(self):
        self.fixed['seconds'] = 59.9
        self.not_shown('60.0 s are needed')
        self.fixed['seconds'] = 61
        self.unfixed[2]['first_loss'] = 6.2
        self.assertEqual(verdict.seconds_needed(self.unfixed), 62)
        self.not_shown('62.0 s are needed')

    def test_vacuous(self):
        for key in ('pages_in', 'pages_out'):
            self.fixed = {**race('fixed'), key: self.unfixed[0][key] - 1}
            self.not_shown('the fixed kernel swapped')
            self.fixed[key] = 0
            self.unfixed = [{**boot, key: 0} for boot in self.unfixed]
            self.not_shown('the fixed kernel swapped 0 pages')

    def test_tables(self):
        rows = list(verdict.race_rows([self.unfixed[0], self.fixed]))
        self.assertIn('DATA LOST', rows[1])
        self.assertIn('nothing lost', rows[2])
        losers = {'tick': verdict.read_boot('losers', recorded('losers'), 2)}
        self.assertIn('tick', list(verdict.losers_rows(losers))[1])
        swapin = verdict.read_boot('swapin', recorded('swapin'), 1)
        self.assertIn('1.000', list(verdict.swapin_rows({'unfixed': swapin}))[1])


class Unusable(unittest.TestCase):
    """Logs from which nothing follows: no verdict, one line."""

    def check(self, log, what, read=verdict.read_race):
        with self.assertRaises(CannotRun) as caught:
            read('boot', log)
        self.assertIn(what, str(caught.exception))
        self.assertNotIn('\n', str(caught.exception))

    def test_hang(self):
        log = recorded('fixed')
        self.check(log[:log.index('{"target')] + '\nhost: killed after 180\n', 'the guest hangs: not done after 180 s')

    def test_silence(self):
        self.check('', 'qemu ended too early: it said nothing')
        self.check("qemu: could not load kernel 'x'\nhost: status 1\n", "could not load kernel 'x'")

    def test_panic(self):
        self.check(recorded('fixed').replace('lab: end', 'Kernel panic - not syncing: out of memory'), 'out of memory')

    def test_failed(self):
        self.check('lab: failed: swapon: Invalid argument\n', 'swapon: Invalid argument')
        self.check(recorded('fixed').replace('lab: status 0', 'lab: killed by signal 11'), 'killed by signal 11')
        self.check(recorded('fixed').replace('lab: status 0', 'weir: race: no swap is active\nlab: status 2'),
                   'no swap is active')

    def test_clock(self):
        self.check(recorded('fixed').replace('lab: clock after tsc', 'lab: clock after jiffies'),
                   'clock is unstable: it came to jiffies')
        log = recorded('fixed')
        start = log.index('host: seconds ')
        self.check(log[:start] + 'host: seconds 80.0\n', 'clock is unstable')

    def test_processors(self):
        self.check(recorded('fixed').replace('2 processors', '1 processors'), 'has 1 processors, not 2')

    def test_records(self):
        self.check(recorded('fixed').replace('{"target', '"target'), 'and no record')
        self.check(recorded('fixed').replace('{"target"', '{target'), 'is damaged')
        self.check(recorded('fixed').replace('"pages_in"', '"pages"'), 'has no pages_in')
        self.check(recorded('fixed').replace('lab: status 0', 'lab: status 1'), 'differ')


MAKEFILE = '''\
# A stand-in for the kernel's.
VERSION = {version}
PATCHLEVEL = {patchlevel}
SUBLEVEL = 999
tinyconfig:
	: >.config
olddefconfig:
	{olddefconfig}
bzImage:
	{bzimage}
	mkdir -p arch/x86/boot
	cat mm/memory.c mm/swapfile.c drivers/block/brd.c >arch/x86/boot/bzImage
	if grep -q '(swapcache_prepare(entry)) {{' mm/memory.c; then \\
		echo 'int swapcache_prepare(void); int f(void); int f(void) {{ return swapcache_prepare(); }}'; \\
	else echo 'int f(void); int f(void) {{ return 0; }}'; fi | gcc -x c -c -o mm/memory.o -
'''


def source_package(path, files=None, version=6, patchlevel=1, olddefconfig='true', bzimage='true'):
    files = {'Makefile': MAKEFILE.format(version=version, patchlevel=patchlevel, olddefconfig=olddefconfig,
                                         bzimage=bzimage),
             'mm/memory.c': MEMORY_C, 'mm/swapfile.c': SWAPFILE_C, 'drivers/block/brd.c': BRD_C, **(files or {})}
    with tarfile.open(path, 'w') as tar:
        for name, text in files.items():
            if text is None:
                continue
            info = tarfile.TarInfo('linux-source/' + name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))


# Plays a recorded log, or what the test has put in its place; "hang" hangs.
QEMU = '''\
#!/usr/bin/env python3
import os, sys, time
image = os.path.basename(sys.argv[sys.argv.index('-kernel') + 1])
words = sys.argv[sys.argv.index('-append') + 1].split()
kind = image if 'race' in words else 'losers' if 'losers' in words else 'swapin'
here = os.path.dirname(os.path.realpath(__file__))
with open(os.path.join(here, 'boots'), 'a') as file:
    print(kind, os.getpid(), file=file)
log = os.path.join(here, kind + '.log')
text = open(log).read()
sys.stdout.write(text)
sys.stdout.flush()
time.sleep(1000 if text == 'hang' else 0)
'''


# lab/lab as it is, whatever else fills this machine at the moment.
ROOMY = '''\
import os, runpy, sys
sys.dont_write_bytecode = True
lab = sys.argv.pop(1)
sys.path.insert(0, lab)
import images
images.check_room = lambda *_: None
runpy.run_path(os.path.join(lab, 'lab'), run_name='__main__')
'''


class Rig(unittest.TestCase):
    """lab/lab with a stand-in for the source, and one for qemu."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='weir-test-lab-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.bin = os.path.join(self.folder, 'bin')
        os.mkdir(self.bin)
        for tool in ('flex', 'bison', 'bc', 'perl', 'xz', 'cpio'):
            self.program(tool, '#!/bin/sh\nexit 0\n')
        self.program(guest.QEMU, QEMU)
        for name, log in (('unfixed', 'unfixed'), ('fixed', 'fixed'), ('yield', 'fixed'), ('losers', 'losers'),
                          ('swapin', 'swapin')):
            # The recorded times of the host are not those of this boot.
            self.plays(name, recorded(log).split('\nhost: ')[0] + '\r\n')
        self.source = os.path.join(self.folder, 'source.tar')
        source_package(self.source)

    def program(self, name, text):
        path = os.path.join(self.bin, name)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        os.chmod(path, 0o755)

    def plays(self, name, log):
        with open(os.path.join(self.bin, name + '.log'), 'w', encoding='utf-8', newline='') as file:
            file.write(log)

    def start(self, *words, path=None):
        environment = {**os.environ, 'PATH': path or f'{self.bin}:{os.environ["PATH"]}'}
        command = [sys.executable, '-c', ROOMY, LAB, '--cache', os.path.join(self.folder, 'cache'),
                   '--source', self.source, '--guest', GUEST_FOLDER, *words]
        return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run_lab(self, *words, path=None):
        process = self.start(*words, path=path)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def cannot_run(self, what, *words, path=None):
        status, _, err = self.run_lab(*words, path=path)
        self.assertEqual((status, err.count('\n')), (2, 1), err)
        self.assertIn(what, err)

    def boots(self):
        with open(os.path.join(self.bin, 'boots'), encoding='ascii') as file:
            return [line.split() for line in file]

    def wait_for_boot(self, process):
        for _ in range(600):
            if os.path.exists(os.path.join(self.bin, 'boots')):
                return
            if process.poll() is not None:
                self.fail(process.stderr.read())
            time.sleep(0.05)
        self.fail('no boot')

    def assert_gone(self, pid):
        for _ in range(200):
            try:
                with open(f'/proc/{pid}/stat', encoding='ascii') as file:
                    state = file.read().rpartition(')')[2].split()[0]
            except OSError:
                return
            if state == 'Z':  # dead; some inits do not wait for what they inherit
                return
            time.sleep(0.05)
        self.fail(f'{pid} is still there')


class Whole(Rig):
    def test_shown_and_kept(self):
        status, out, err = self.run_lab()
        self.assertEqual((status, err), (0, ''), out + err)
        self.assertIn('build unfixed', out)
        self.assertIn('lab: SHOWN: data lost in all 5 boots', out)
        self.assertEqual([kind for kind, _ in self.boots()],
                         5 * ['unfixed'] + ['fixed', 'yield'] + 2 * ['losers'] + 6 * ['swapin'])
        self.assertEqual(sorted(os.listdir(os.path.join(self.folder, 'cache'))),
                         ['images', 'initramfs', 'lock', 'logs'])
        with open(os.path.join(self.folder, 'cache', 'images', 'unfixed'), encoding='utf-8') as file:
            self.assertNotIn(FIX, file.read())
        status, out, err = self.run_lab()
        self.assertEqual(status, 0)
        self.assertNotIn('build unfixed', out)
        # Kept images do without the source; another source does not do with them.
        os.rename(self.source, self.source + '.away')
        self.assertEqual(self.run_lab()[0], 0)
        source_package(self.source, {'README': 'another'})
        self.assertIn('build unfixed', self.run_lab()[1])

    def test_not_shown(self):
        self.plays('unfixed', recorded('fixed').split('\nhost: ')[0] + '\r\n')
        status, out, err = self.run_lab()
        self.assertEqual(status, 1, err)
        self.assertIn('NOT SHOWN: only 0 of 5 boots', out)

    def test_yield_loses(self):
        self.plays('yield', recorded('unfixed').split('\nhost: ')[0] + '\r\n')
        status, out, err = self.run_lab()
        self.assertEqual(status, 1, err)
        self.assertIn('NOT SHOWN: the kernel whose losers call schedule() lost data', out)

    def test_unstable_clock(self):
        self.plays('fixed', recorded('fixed').split('\nhost: ')[0].replace('after tsc', 'after jiffies') + '\r\n')
        self.cannot_run("fixed: the guest's clock is unstable")

    def test_bad_input(self):
        self.cannot_run('at least 5', '--boots', '4')
        self.cannot_run('lab-init is missing; run make first', '--guest', self.folder)
        self.cannot_run('scripts/setup lab', path=self.folder)
        os.unlink(self.source)
        self.cannot_run('source.tar is missing; run scripts/setup lab')
        with open(self.source, 'wb') as file:
            file.write(b'no archive')
        self.cannot_run('unpack: failed')

    def test_another_source(self):
        source_package(self.source, version=6, patchlevel=8)
        self.cannot_run('this is Linux 6.8.999; the changes of the lab are made for 6.1')
        source_package(self.source, {'Makefile': 'all:\n'})
        self.cannot_run('not the source of a Linux kernel')
        source_package(self.source, {'mm/memory.c': edits.remove_fix(MEMORY_C)})
        self.cannot_run('found nowhere, wanted once; the lab has to be taught this source')
        source_package(self.source, {'mm/memory.c': None})
        self.cannot_run('has no mm/memory.c')
        source_package(self.source, olddefconfig='sed -i s/CONFIG_SWAP=y// .config')
        self.cannot_run('configure: CONFIG_SWAP=y is not what this source makes of it')
        source_package(self.source, bzimage='false')
        self.cannot_run('build fixed: failed')
        self.assertNotIn('source', os.listdir(os.path.join(self.folder, 'cache')))

    def test_two_labs(self):
        self.plays('unfixed', 'hang')
        first = self.start()
        self.wait_for_boot(first)
        self.cannot_run('another lab uses')
        first.send_signal(signal.SIGTERM)
        _, err = first.communicate(timeout=30)
        self.assertEqual((first.returncode, err), (2, 'lab: cannot run: stopped by SIGTERM\n'))
        self.assert_gone(self.boots()[0][1])

    def test_killed(self):
        self.plays('unfixed', 'hang')
        lab = self.start()
        self.wait_for_boot(lab)
        lab.kill()
        lab.communicate(timeout=30)
        self.assert_gone(self.boots()[0][1])


class Parts(Rig):
    def test_hang(self):
        """The host's own limit ends a guest that does not."""
        os.makedirs(os.path.join(self.folder, 'logs'))
        self.plays('fixed', 'lab: clock before tsc\nlab: the rest is missing\n')
        self.program(guest.QEMU, QEMU.replace("text == 'hang'", 'True'))
        path, seconds = os.environ['PATH'], guest.BOOT_SECONDS
        os.environ['PATH'] = f'{self.bin}:{path}'
        guest.BOOT_SECONDS = 1
        try:
            log = guest.Guest(GUEST_FOLDER, self.folder).boot('fixed', 'fixed', ['race'], 0, ('ram0', 33))
        finally:
            os.environ['PATH'], guest.BOOT_SECONDS = path, seconds
        self.assertEqual(verdict.why_unfinished(log), 'the guest hangs: not done after 1 s')
        self.assert_gone(self.boots()[0][1])

    def test_room(self):
        with self.assertRaisesRegex(CannotRun, 'MiB free in .*; choose another --cache'):
            images.check_room(self.folder, disk_min=1 << 60)
        with self.assertRaisesRegex(CannotRun, 'MiB of memory available'):
            images.check_room(self.folder, disk_min=0, memory_min=1 << 60)
        images.check_room(self.folder, 0, 0)

    def test_damaged_images(self):
        kept = images.Images(self.folder, self.source, lambda _: None)
        self.assertFalse(kept.are_kept())
        os.mkdir(kept.folder)
        for name in edits.IMAGES:
            open(kept.path(name), 'wb').close()
        about = {'recipe': images.recipe(), 'source': images.file_digest(self.source)}
        for change, good in (({}, True), ({'recipe': 'older'}, False), ({'source': 'other'}, False)):
            with open(kept.path('about.json'), 'w', encoding='utf-8') as file:
                json.dump({**about, **change}, file)
            self.assertEqual(kept.are_kept(), good)
        with open(kept.path('about.json'), 'w', encoding='utf-8') as file:
            file.write('{')
        self.assertFalse(kept.are_kept())


class Guest(unittest.TestCase):
    """The guest's weir is weir's own main with less under it."""

    def check(self, status, what, *words):
        done = subprocess.run([os.path.join(GUEST_FOLDER, 'lab-weir'), *words], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(what, done.stdout + done.stderr)

    def test_refusals(self):
        self.check(2, 'race and bench only', 'run', '--', 'true')
        self.check(2, 'only --target kernel here', 'race')
        self.check(2, 'only --target kernel here', 'bench', 'swapin')
        with open('/proc/swaps', encoding='ascii') as file:
            if len(file.readlines()) > 1:
                self.skipTest('swap is active here')
        self.check(2, 'no swap is active', 'race', '--target', 'kernel')

    def test_static(self):
        for program in ('lab-init', 'lab-weir'):
            out = subprocess.run(['readelf', '-l', os.path.join(GUEST_FOLDER, program)], capture_output=True, text=True,
                                 check=True).stdout
            self.assertNotIn('INTERP', out)


if __name__ == '__main__':
    if not GUEST_FOLDER:
        sys.exit('usage: test_lab.py GUEST-FOLDER [TEST...]')
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])

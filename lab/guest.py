# SPDX-License-Identifier: MIT
"""One boot of an image under qemu: what it said, with the times of the host."""

import os
import shutil
import subprocess
import tempfile
import time

from failure import CannotRun
from processes import run_watched

QEMU = 'qemu-system-x86_64'
PROGRAMS = {'lab-init': 'init', 'lab-weir': 'weir', 'lab-tsc': None}
MEMORY = '256'
BOOT_SECONDS = 60  # and twice the time that the guest means to take


def check_programs(folder):
    for tool in (QEMU, 'cpio'):
        if not shutil.which(tool):
            raise CannotRun(f'{tool} is not installed; run scripts/setup lab')
    for program in PROGRAMS:
        if not os.access(os.path.join(folder, program), os.X_OK):
            raise CannotRun(f'{os.path.join(folder, program)} is missing; run make first')


def initramfs(folder, out):
    """The archive that is the guest's root: /init and /weir."""
    with tempfile.TemporaryDirectory(prefix='weir-lab-') as root:
        for directory in ('dev', 'proc', 'sys'):
            os.mkdir(os.path.join(root, directory))
        for program, name in PROGRAMS.items():
            if name:
                shutil.copy(os.path.join(folder, program), os.path.join(root, name))
        names = '\n'.join(['.', *sorted(os.listdir(root))]) + '\n'
        with open(out, 'wb') as file:
            done = subprocess.run(['cpio', '-o', '-H', 'newc', '--quiet', '-R', '0:0'], cwd=root, stdout=file,
                                  input=names.encode(), stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise CannotRun(f'cpio: {done.stderr.decode(errors="replace").strip()}')


def host_tsc_khz(folder):
    return int(subprocess.run([os.path.join(folder, 'lab-tsc')], capture_output=True, check=True).stdout)


class Guest:
    """What all boots have in common."""

    def __init__(self, folder, cache):
        self.logs = os.path.join(cache, 'logs')
        self.root = os.path.join(cache, 'initramfs')
        self.khz = host_tsc_khz(folder)
        for old in os.listdir(self.logs):
            if old != 'build.log':
                os.unlink(os.path.join(self.logs, old))
        initramfs(folder, self.root)

    def command(self, image, words, swap, delay_us, by_instructions):
        """With by_instructions time is a nanosecond an instruction, on one processor: the same in every run."""
        if by_instructions:
            machine = ['-accel', 'tcg,thread=single', '-icount', 'shift=0', '-smp', '1']
            khz = 1000000
            extra = ['nolapic']  # to calibrate that timer takes qemu half a minute of its own
        else:
            # Without ACPI the processors are found in the firmware's table, which has one for each socket.
            machine = ['-accel', 'tcg,thread=multi', '-smp', '2,sockets=2']
            khz = self.khz
            extra = ['no_timer_check']  # which panics where the host is too busy to bring ten ticks in time
        line = ['console=ttyS0', 'quiet', 'panic=-1', 'tsc=reliable', f'tsc_early_khz={khz}',
                f'brd.lab_delay_us={delay_us}', f'LAB_SWAP={swap[0]}', f'LAB_PAGES={swap[1]}', *extra, '--', *words]
        return [QEMU, *machine, '-m', MEMORY, '-cpu', 'max', '-nodefaults', '-no-user-config', '-nographic',
                '-serial', 'stdio', '-monitor', 'none', '-no-reboot', '-kernel', image, '-initrd', self.root,
                '-append', ' '.join(line)]

    def boot(self, name, image, words, seconds, swap, delay_us=1000, by_instructions=False):
        """The log. What the host adds begins with "host: ", so a log can be judged later."""
        marks = {b'lab: clock before': None, b'lab: clock after': None}
        log = bytearray()

        def see(data):
            log.extend(data)
            for mark, at in marks.items():
                if at is None and mark in log:
                    marks[mark] = time.monotonic()

        limit = 2 * seconds + BOOT_SECONDS
        status = run_watched(self.command(image, words, swap, delay_us, by_instructions), limit, see)
        before, after = marks.values()
        if before and after:
            log += f'\nhost: seconds {after - before:.3f}'.encode()
        end = f'killed after {limit}' if status is None else f'status {status}'
        log += f'\nhost: {end}\n'.encode()
        with open(os.path.join(self.logs, name + '.log'), 'wb') as file:
            file.write(log)
        return log.decode(errors='replace')

# SPDX-License-Identifier: MIT
"""Children of the lab: each in a session of its own, with an end by the clock, and gone with the lab."""

import ctypes
import os
import select
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(command, where=None, environment=None, output=subprocess.PIPE):
    return subprocess.Popen(command, cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent)


def is_done(process, seconds):
    """Waits, and leaves the process to be reaped: until then its number is nobody else's."""
    descriptor = os.pidfd_open(process.pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def end(process):
    """Kills what is left of the process and of those that it started; its status."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def run_logged(command, log, where, environment, seconds):
    """The status, or None if it was killed for its time. The output is added to the log."""
    with open(log, 'ab') as file:
        process = start(command, where, environment, file)
    done = False
    try:
        done = is_done(process, seconds)
    finally:
        status = end(process)
    return status if done else None


def run_watched(command, seconds, see):
    """Calls see() with each piece of the output. The status, or None if it was killed for its time."""
    process = start(command)
    limit = time.monotonic() + seconds
    done = False
    try:
        while (left := limit - time.monotonic()) > 0 and not done:
            if select.select([process.stdout], [], [], left)[0]:
                data = os.read(process.stdout.fileno(), 1 << 16)
                if data:
                    see(data)
                else:
                    done = is_done(process, max(left, 1))
    finally:
        status = end(process)
        process.stdout.close()
    return status if done else None

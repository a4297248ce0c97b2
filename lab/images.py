# SPDX-License-Identifier: MIT
"""From the kernel's source package to the images: unpack, change, configure, build; kept in the cache."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time

import edits
from failure import CannotRun
from processes import run_logged

CONFIG = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kernel.config')
SUPPORTED = '6.1'
BUILD_SECONDS_MAX = 3600
DISK_MIN = 2 << 30  # source, objects and images take 1.5 GB
MEMORY_MIN = 1 << 30
TOOLS = ('make', 'gcc', 'ld', 'nm', 'flex', 'bison', 'bc', 'tar', 'xz', 'perl')
SETUP = 'run scripts/setup lab'


def file_digest(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def recipe():
    """Changes when the edits or the configuration do."""
    return hashlib.sha256((file_digest(edits.__file__) + file_digest(CONFIG)).encode()).hexdigest()


def memory_available():
    with open('/proc/meminfo', encoding='ascii') as file:
        return int(re.search(r'MemAvailable:\s+(\d+)', file.read()).group(1)) << 10


def check_room(cache, disk_min=DISK_MIN, memory_min=MEMORY_MIN):
    free = shutil.disk_usage(cache).free
    if free < disk_min:
        raise CannotRun(f'{free >> 20} MiB free in {cache}, {disk_min >> 20} MiB are needed; choose another --cache')
    available = memory_available()
    if available < memory_min:
        raise CannotRun(f'{available >> 20} MiB of memory available, {memory_min >> 20} MiB are needed')


def check_tools():
    for tool in TOOLS:
        if not shutil.which(tool):
            raise CannotRun(f'{tool} is not installed; {SETUP}')


class Images:
    """The images in a cache folder, and how they came to be."""

    def __init__(self, cache, source, say):
        self.source = source
        self.say = say
        self.cache = cache
        self.folder = os.path.join(cache, 'images')
        self.tree = os.path.join(cache, 'source')
        self.log = os.path.join(cache, 'logs', 'build.log')
        self.recipe = recipe()
        self.about = {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def are_kept(self):
        """Made by this recipe, and from this source if it is still there."""
        try:
            with open(self.path('about.json'), encoding='utf-8') as file:
                self.about = json.load(file)
        except (OSError, ValueError):
            return False
        return (self.about.get('recipe') == self.recipe and
                (not os.path.exists(self.source) or self.about.get('source') == file_digest(self.source)) and
                all(os.path.exists(self.path(name)) for name in edits.IMAGES))

    def make(self, jobs, keep_source):
        if not os.path.exists(self.source):
            raise CannotRun(f'{self.source} is missing; {SETUP}, or name it with --source')
        check_tools()
        check_room(self.cache)
        open(self.log, 'wb').close()
        begin = time.monotonic()
        try:
            self.unpack()
            self.configure()
            self.build(jobs, begin)
        finally:
            shutil.rmtree(self.folder + '.new', ignore_errors=True)
            if not keep_source:
                shutil.rmtree(self.tree, ignore_errors=True)

    # ---- steps ----

    def step(self, what, command, where=None, seconds=BUILD_SECONDS_MAX):
        environment = {name: os.environ[name] for name in ('PATH', 'HOME', 'TMPDIR') if name in os.environ}
        environment.update(LC_ALL='C', KBUILD_BUILD_USER='weir', KBUILD_BUILD_HOST='lab',
                           KBUILD_BUILD_TIMESTAMP='1970-01-01')
        begin = time.monotonic()
        status = run_logged(command, self.log, where or self.tree, environment, seconds)
        if status is None:
            raise CannotRun(f'{what}: not done after {seconds} s; see {self.log}')
        if status != 0:
            raise CannotRun(f'{what}: failed; see the end of {self.log}')
        self.say(f'{what}: {time.monotonic() - begin:.0f} s')

    def unpack(self):
        shutil.rmtree(self.tree, ignore_errors=True)
        os.makedirs(self.tree)
        self.step('unpack', ['tar', '-xf', self.source, '--strip-components=1'], self.tree)
        version = re.match(r'(?:#[^\n]*\n)*VERSION = (\d+)\nPATCHLEVEL = (\d+)\nSUBLEVEL = (\d+)\n',
                           self.read('Makefile'))
        if not version:
            raise CannotRun(f'{self.source}: this is not the source of a Linux kernel')
        self.about = {'version': '.'.join(version.groups())}
        if '.'.join(version.group(1, 2)) != SUPPORTED:
            raise CannotRun(f'{self.source}: this is Linux {self.about["version"]}; the changes of the lab are made '
                            f'for {SUPPORTED}')

    def configure(self):
        with open(CONFIG, encoding='ascii') as file:
            wanted = [line.strip() for line in file if line.startswith('CONFIG_') or line.endswith(' is not set\n')]
        self.step('configure, smallest', ['make', 'tinyconfig'])
        with open(os.path.join(self.tree, '.config'), 'a', encoding='ascii') as file:
            file.write('\n'.join(wanted) + '\n')
        self.step('configure', ['make', 'olddefconfig'])
        got = self.read('.config').split('\n')
        values = {line.split('=')[0] for line in got if line.startswith('CONFIG_')}
        for line in wanted:
            if line not in got and (line.startswith('CONFIG_') or line.split()[1] in values):
                raise CannotRun(f'configure: {line} is not what this source makes of it')

    def build(self, jobs, begin):
        originals = {path: self.read(path) for files in edits.IMAGES.values() for path in files}
        try:
            for path, edit in edits.COMMON.items():
                self.write(path, edit(self.read(path)))
            # All edits before the first build: what differs is told at once.
            texts = {name: {path: files.get(path, str)(text) for path, text in originals.items()}
                     for name, files in edits.IMAGES.items()}
        except edits.Differs as differs:
            raise CannotRun(f'Linux {self.about["version"]}: {differs}; the lab has to be taught this source') from None
        new = self.folder + '.new'
        shutil.rmtree(new, ignore_errors=True)
        os.makedirs(new)
        for name, files in texts.items():
            for path, text in files.items():
                self.write(path, text)
            self.step(f'build {name}', ['nice', '-n', '5', 'make', f'-j{jobs}', 'bzImage'])
            self.check_pin(name)
            shutil.copy(os.path.join(self.tree, 'arch/x86/boot/bzImage'), os.path.join(new, name))
        self.about.update(recipe=self.recipe, source=file_digest(self.source), seconds=round(time.monotonic() - begin))
        with open(os.path.join(new, 'about.json'), 'w', encoding='utf-8') as file:
            json.dump(self.about, file, indent=1)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.rename(new, self.folder)

    def check_pin(self, name):
        """Looks at what was compiled: only the unfixed image may have no pin in do_swap_page()'s file."""
        symbols = subprocess.run(['nm', os.path.join(self.tree, 'mm/memory.o')], capture_output=True, text=True,
                                 check=False).stdout
        if ('U swapcache_prepare' in symbols) == (name == 'unfixed'):
            raise CannotRun(f'build {name}: mm/memory.o has {"a" if name == "unfixed" else "no"} call that pins a slot')

    # ---- files of the tree ----

    def read(self, path):
        try:
            with open(os.path.join(self.tree, path), encoding='utf-8') as file:
                return file.read()
        except FileNotFoundError:
            raise CannotRun(f'{self.source}: has no {path}') from None

    def write(self, path, text):
        """Only if it differs: make looks at times."""
        if self.read(path) != text:
            with open(os.path.join(self.tree, path), 'w', encoding='utf-8') as file:
                file.write(text)

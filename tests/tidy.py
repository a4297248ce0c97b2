#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Enforces the rules of the house that a compiler does not know. Prints FILE:LINE: RULE and exits 1 on findings."""

import os
import re
import subprocess
import sys

FILE_LINES_MAX = 1200
COLUMNS_MAX = 120
FUNCTION_LINES_MAX = 70

# No malloc and no stdio here: the code runs in signal handlers and under the allocator.
BARE_DIRECTORIES = tuple(f'src/{d}/' for d in ('base', 'sync', 'vm', 'mm', 'swap', 'fault', 'tree', 'preload'))
BARE_CALL = re.compile(r'(?<![\w.>])(malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|free|strn?dup|'
                       r'v?a?s?n?printf|v?[fd]printf|f?puts|putchar|fputc|perror|fopen|fwrite|fread|fflush)\s*\(')

MM_INCLUDE = re.compile(r'"(base/[\w/]+\.h|sync/[\w/]+\.h|mm/[\w/]+\.h|vm/vm\.h|swap/swap_device\.h|weir\.h)"|'
                        r'<(string|errno|stddef|stdint|stdbool|stdarg)\.h>')

PRIVATE_PATH = re.compile(r'(?<![\w.$}])/(?:home|root|work|Users)/\w')
UNFINISHED = re.compile(r'\b(?:FIX' r'ME|TO' r'DO|XX' r'X)\b')
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

findings = []


def report(path, number, rule):
    findings.append(f'{path}:{number}: {rule}')


def list_files():
    """What git tracks or would track; without git everything but build trees."""
    git = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                         capture_output=True, check=False)
    if git.returncode == 0:
        return sorted(p for p in set(os.fsdecode(git.stdout).split('\0')) if os.path.isfile(p))
    files = []
    for top, dirs, names in os.walk('.'):
        dirs[:] = [d for d in dirs if not d.startswith('build') and d not in ('.git', '.cache', '__pycache__')]
        files += [os.path.relpath(os.path.join(top, name), '.') for name in names]
    return sorted(files)


def blank(match):
    """A comment or a string without its words, over as many lines."""
    text = match.group(0)
    return '""' if text[0] in '"\'' else '\n' * text.count('\n') or ' '


def is_code(path, lines):
    return (path.endswith(('.c', '.h', '.sh', '.py', '.build')) or bool(lines) and lines[0].startswith('#!') or
            os.path.basename(path) in ('Makefile', 'meson_options.txt'))


def check_text(path, lines):
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            report(path, number, 'white space at the end of the line')
        if PRIVATE_PATH.search(line):
            report(path, number, 'path of a home or work directory')
        if UNFINISHED.search(line):
            report(path, number, 'unfinished business')


def check_code(path, lines):
    if len(lines) > FILE_LINES_MAX:
        report(path, len(lines), f'file of more than {FILE_LINES_MAX} lines')
    if not any('SPDX-License-Identifier: MIT' in line for line in lines[:3]):
        report(path, 1, 'no SPDX line')
    for number, line in enumerate(lines, 1):
        if len(line.expandtabs(8)) > COLUMNS_MAX:
            report(path, number, f'line of more than {COLUMNS_MAX} columns')


def check_functions(path, lines):
    begin = 0
    for number, line in enumerate(lines, 1):
        if line == '{':
            begin = number
        elif line == '}' and begin:
            if number - begin - 1 > FUNCTION_LINES_MAX:
                report(path, begin, f'function of {number - begin - 1} lines, more than {FUNCTION_LINES_MAX}')
            begin = 0


def check_source(path, lines):
    bare = TOKEN.sub(blank, '\n'.join(lines)).split('\n')
    for number, line in enumerate(bare, 1):
        original = lines[number - 1] if number <= len(lines) else ''
        if re.search(r'\bvolatile\b', re.sub(r'\b(?:asm|__asm__)\s+(?:volatile|__volatile__)\b', '', line)) and \
                'tidy: volatile:' not in original:
            report(path, number, 'volatile')
        call = BARE_CALL.search(line)
        if call and path.startswith(BARE_DIRECTORIES):
            report(path, number, f'call of {call.group(1)}()')
    for number, line in enumerate(lines, 1):
        include = re.match(r'\s*#\s*include\s+(\S+)', line)
        if include and path.startswith('src/mm/') and not MM_INCLUDE.fullmatch(include.group(1)):
            report(path, number, f'src/mm may not include {include.group(1)}')
    if path.startswith('src/'):
        check_functions(path, lines)


def check_file(path):
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.read().split('\n')
    except UnicodeDecodeError:
        return
    if lines and not lines[-1]:
        lines.pop()
    check_text(path, lines)
    if is_code(path, lines):
        check_code(path, lines)
    if path.endswith(('.c', '.h')):
        check_source(path, lines)
    if lines and lines[0].startswith('#!') and not os.access(path, os.X_OK):
        report(path, 1, 'script without the executable bit')


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
    files = list_files()
    for path in files:
        check_file(path)
    for finding in findings:
        print(finding)
    print(f'tidy: {len(files)} files, {len(findings)} findings')
    return 1 if findings else 0


sys.exit(main())

# SPDX-License-Identifier: MIT
"""The lab's changes to the kernel's source.

No kernel text is kept here. Each edit finds its place by what the code does there, checks all that it relies on, and
raises Differs, one line, where the source is not what it was written for: better no verdict than a false one.
"""

import re

ONE_TICK = 'schedule_timeout_uninterruptible(1)'
BARE_SCHEDULE = 'schedule()'

QUIET = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


class Differs(Exception):
    """The source is not what the edit was written for."""


def blank(text):
    """The text without the words of comments and strings; offsets and lines stay."""
    return QUIET.sub(lambda match: re.sub(r'[^\n]', ' ', match.group(0)), text)


def only(pattern, code, what, start=0, end=None):
    """The one match of a pattern in which a space stands for any white space, also none."""
    regex = re.compile(pattern.replace(' ', r'\s*'))
    matches = list(regex.finditer(code, start, len(code) if end is None else end))
    if len(matches) != 1:
        raise Differs(f'{what}: found {len(matches) or "nowhere"}{" times" if matches else ""}, wanted once')
    return matches[0]


def function(code, name):
    """Where the definition's first line begins, and the ends of its body. The kernel's style: braces in column 0."""
    match = only(rf'(?m)^[a-zA-Z_][^;{{}}\n]*\b{name}\([^;{{}}]*\)\n\{{', code, f'the definition of {name}()')
    end = code.find('\n}', match.end())
    if end < 0:
        raise Differs(f'the definition of {name}(): has no end')
    return match.start(), match.end(), end


def find_pin(text):
    """The fix in do_swap_page(): (start of its text with its comment, end, start of the relax call, its end)."""
    code = blank(text)
    _, start, end = function(code, 'do_swap_page')
    pin = only(r'SWP_SYNCHRONOUS_IO \) && __swap_count \( entry \) == 1 \) \{'
               r'(?P<fix> if \( swapcache_prepare \( entry \) \) \{ (?P<relax>\w+ \([^;(){}]*\)) ; goto out ; \}'
               r' need_clear_cache = true ;)', code, 'the pin of the direct swap-in in do_swap_page()', start, end)
    only(r'\bswapcache_prepare\b', code, 'swapcache_prepare in do_swap_page()', start, end)
    only(r'\bneed_clear_cache = true\b', code, 'the mark of a pinned slot in do_swap_page()', start, end)
    only(r'\bbool need_clear_cache = false ;', code, 'the declaration of need_clear_cache', start, end)
    clears = re.findall(r'if\s*\(need_clear_cache\)\s*swapcache_clear\s*\(', code[start:end])
    if len(clears) != 2 or len(re.findall(r'\bneed_clear_cache\b', code[start:end])) != 4:
        raise Differs(f'the release of the pin in do_swap_page(): found {len(clears)} times, wanted twice')
    if pin.group('relax') not in (ONE_TICK, BARE_SCHEDULE):
        raise Differs(f'the loser of the pin in do_swap_page() calls {pin.group("relax")}, '
                      f'neither {ONE_TICK} nor {BARE_SCHEDULE}')
    return (*pin.span('fix'), *pin.span('relax'))


def remove_fix(text):
    """mm/memory.c as before the fix: nothing else changes, as the releases of the pin depend on the mark."""
    start, end, _, _ = find_pin(text)
    return text[:start] + text[end:]


def set_relax(text, call):
    """mm/memory.c with a loser that relaxes so."""
    _, _, start, end = find_pin(text)
    return text[:start] + call + text[end:]


def never_direct(text):
    """mm/swapfile.c where no device is known as synchronous: the swap cache is never skipped."""
    flag = only(r'->flags \|= (SWP_SYNCHRONOUS_IO) ;', blank(text), 'the mark of a synchronous device in swapon()')
    return text[:flag.start(1)] + '0' + text[flag.end(1):]


DELAY = '''\
/* Reads become stale for that long before they are done. */
static unsigned int lab_delay_us;
module_param(lab_delay_us, uint, 0644);

'''


def add_read_delay(text):
    """drivers/block/brd.c with a sleep between the copy and the end of a read of one page."""
    code = blank(text)
    if 'lab_delay_us' in code:
        raise Differs('the read delay: is there already')
    define, start, end = function(code, 'brd_rw_page')
    copy = only(r'\berr = brd_do_bvec \([^;{}]*\) ;(?= page_endio \( page , op_is_write \( op \) , err \) ;)', code,
                'the copy of a page in brd_rw_page()', start, end)
    include = only(r'(?m)^# include <linux/module\.h>\n', code, 'the include of linux/module.h in brd.c')
    delay = ('\n\tif (!op_is_write(op) && lab_delay_us)\n'
             '\t\tusleep_range(lab_delay_us, lab_delay_us + lab_delay_us / 4);')
    return (text[:include.end()] + '#include <linux/delay.h>\n' + text[include.end():define] + DELAY +
            text[define:copy.end()] + delay + text[copy.end():])


# What each image is made of: a function for each file that is changed. The first is what the others are compared with.
COMMON = {'drivers/block/brd.c': add_read_delay}
IMAGES = {
    'fixed': {'mm/memory.c': lambda text: set_relax(text, ONE_TICK)},
    'unfixed': {'mm/memory.c': remove_fix},
    'yield': {'mm/memory.c': lambda text: set_relax(text, BARE_SCHEDULE)},
    'cached': {'mm/memory.c': lambda text: set_relax(text, ONE_TICK), 'mm/swapfile.c': never_direct},
}

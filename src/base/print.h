/* SPDX-License-Identifier: MIT */
/*
 * Formatting without stdio, locale or malloc: for signal handlers and for code under the allocator.
 *
 * Knows %s %c %d %u %x %ld %lu %lx %lld %llu %llx %zu %p %%, width, zero padding, precision of %s. What does not fit
 * is cut; the result is always NUL-terminated.
 */
#pragma once

#include <stdarg.h>

#include "base/types.h"

/* Returns the length written, without the NUL. */
size_t print_to(char *buf, size_t size, const char *fmt, ...) printf_like(3, 4);
size_t print_va(char *buf, size_t size, const char *fmt, va_list ap);

/* One line "weir: ..." on stderr in a single write(2). Context: any, also signal handlers. */
void print_err(const char *fmt, ...) printf_like(1, 2);

/* 1536 MiB -> "1.5G"; exact multiples print without a fraction. Returns buf. */
char *print_size(char *buf, size_t size, u64 bytes);

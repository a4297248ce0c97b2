/* SPDX-License-Identifier: MIT */
/*
 * Numbers as people write them. 0 or -EINVAL (not a number of that form) or -ERANGE; *out is set only on success.
 */
#pragma once

#include "base/types.h"

/* "512M", "1.5G", "64k", "4096": binary units K M G T P, optional B or iB after them, any case. Bytes. */
int must_check parse_size(const char *text, u64 *bytes);

/* "10ns", "5us", "1ms", "2.5s": nanoseconds; a bare number is refused unless it is 0. */
int must_check parse_duration(const char *text, u64 *ns);

int must_check parse_int(const char *text, s64 min, s64 max, s64 *out);

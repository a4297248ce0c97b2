/* SPDX-License-Identifier: MIT */
/*
 * What has changed of a page, as a list of runs of 64-bit words: two bytes of where the run begins (9 bits) and how
 * many words it has, less one (7 bits), and the words. Context of all: any.
 */
#pragma once

#include "base/types.h"

enum { PATCH_MAX = 256 }; /* bytes: with more than that, a page is better compressed again */

/* Leaves in `patch` what makes `page` of `old`. Its bytes, 0 if the two are equal, or -E2BIG. */
int patch_make(const void *old, const void *page, u8 patch[static PATCH_MAX]);

/* Makes the page of the old one. 0, or -EIO: this is no patch. Safe with any input. */
int must_check patch_apply(void *page, const u8 *patch, u32 size);

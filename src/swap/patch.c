// SPDX-License-Identifier: MIT
#include "swap/patch.h"

#include <errno.h>
#include <string.h>

enum {
	WORD = sizeof(u64),
	PAGE_WORDS = PAGE_SIZE / WORD,
	BLOCK = 8, /* words that are compared at once */
	WHERE_BITS = 9,
	RUN_MAX = 1 << (16 - WHERE_BITS),
};

_Static_assert(PAGE_WORDS == 1 << WHERE_BITS, "a word's number fills its bits");

/* From `at` on, the first word that differs, or PAGE_WORDS. */
static u32 next_difference(const u8 *old, const u8 *page, u32 at)
{
	while (at < PAGE_WORDS) {
		if (at % BLOCK == 0 && !memcmp(old + at * WORD, page + at * WORD, (size_t)BLOCK * WORD))
			at += BLOCK;
		else if (!memcmp(old + at * WORD, page + at * WORD, WORD))
			at++;
		else
			break;
	}
	return at;
}

int patch_make(const void *old, const void *page, u8 patch[static PATCH_MAX])
{
	const u8 *a = old, *b = page;
	u32 size = 0;

	for (u32 at = next_difference(a, b, 0); at < PAGE_WORDS; at = next_difference(a, b, at)) {
		u32 first = at, bytes;
		u16 head;

		while (at < PAGE_WORDS && at - first < RUN_MAX && memcmp(a + at * WORD, b + at * WORD, WORD))
			at++;
		bytes = (at - first) * WORD;
		if (size + sizeof(head) + bytes > PATCH_MAX)
			return -E2BIG;
		head = (u16)(first | (at - first - 1) << WHERE_BITS);
		memcpy(patch + size, &head, sizeof(head));
		memcpy(patch + size + sizeof(head), b + first * WORD, bytes);
		size += (u32)sizeof(head) + bytes;
	}
	return (int)size;
}

int patch_apply(void *page, const u8 *patch, u32 size)
{
	u8 *to = page;

	while (size) {
		u32 first, bytes;
		u16 head;

		if (size < sizeof(head))
			return -EIO;
		memcpy(&head, patch, sizeof(head));
		first = head & (PAGE_WORDS - 1);
		bytes = ((u32)(head >> WHERE_BITS) + 1) * WORD;
		if (size - sizeof(head) < bytes || first * WORD + bytes > PAGE_SIZE)
			return -EIO;
		memcpy(to + first * WORD, patch + sizeof(head), bytes);
		patch += sizeof(head) + bytes;
		size -= (u32)sizeof(head) + bytes;
	}
	return 0;
}

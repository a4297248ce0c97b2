// SPDX-License-Identifier: MIT
#include "hash.h"

/* Four lanes, so that the multiplications overlap. */
u64 hash_memory(u64 seed, const void *data, size_t bytes)
{
	const u64 *word = data;
	size_t nr = bytes / sizeof(u64), i = 0;
	u64 a = seed, b = seed + 1, c = seed + 2, d = seed + 3;

	for (; i + 8 <= nr; i += 8) {
		a = hash_mix(a ^ word[i], word[i + 1]);
		b = hash_mix(b ^ word[i + 2], word[i + 3]);
		c = hash_mix(c ^ word[i + 4], word[i + 5]);
		d = hash_mix(d ^ word[i + 6], word[i + 7]);
	}
	for (; i < nr; i++)
		a = hash_mix(a ^ word[i], 0x2545f4914f6cdd1dull);
	return hash_mix(a ^ (c << 1 | c >> 63), b ^ (d << 1 | d >> 63)) + bytes;
}

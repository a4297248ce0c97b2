// SPDX-License-Identifier: MIT
/* A patch makes a page of the old one, fits, and is refused if it is none. */
#include "swap/patch.h"

#include <errno.h>
#include <string.h>

#include "test.h"

enum { WORD = sizeof(u64), WORDS = PAGE_SIZE / WORD };

static u8 old[PAGE_SIZE], page[PAGE_SIZE], patch[PATCH_MAX + 64], guarded[3 * PAGE_SIZE];

static void make_old(u64 *seed)
{
	for (u32 i = 0; i < PAGE_SIZE; i++)
		old[i] = (u8)test_random(seed);
	memcpy(page, old, PAGE_SIZE);
}

/* Its size, having made of the old page what it should. */
static int there_and_back(void)
{
	u8 made[PAGE_SIZE];
	int size;

	memset(patch, 0xa5, sizeof(patch));
	size = patch_make(old, page, patch);
	for (size_t i = PATCH_MAX; i < sizeof(patch); i++)
		expect_eq(patch[i], 0xa5);
	if (size < 0)
		return size;
	expect(size <= PATCH_MAX);
	memcpy(made, old, PAGE_SIZE);
	expect_eq(patch_apply(made, patch, (u32)size), 0);
	expect(memcmp(made, page, PAGE_SIZE) == 0);
	return size;
}

static void test_sizes(void)
{
	u64 seed = 1;

	make_old(&seed);
	expect_eq(there_and_back(), 0);
	for (u32 at = 0; at < PAGE_SIZE; at++) {
		memcpy(page, old, PAGE_SIZE);
		page[at] ^= 0x10;
		expect_eq(there_and_back(), 2 + WORD);
	}
	/* A run of words is one piece, and the longest that fits is this. */
	for (u32 nr = 1; nr < 40; nr++) {
		memcpy(page, old, PAGE_SIZE);
		for (u32 i = 0; i < nr * WORD; i++)
			page[PAGE_SIZE - 1 - i] ^= 0xff;
		expect_eq(there_and_back(), 2 + nr * WORD <= PATCH_MAX ? (int)(2 + nr * WORD) : -E2BIG);
	}
}

static void test_any_changes(void)
{
	u64 seed = 2;
	u32 fitting = 0;

	for (u32 n = 0; n < 20000; n++) {
		u32 changes = (u32)(test_random(&seed) % 40);

		make_old(&seed);
		for (u32 i = 0; i < changes; i++) {
			u32 word = (u32)(test_random(&seed) % WORDS), nr = 1 + (u32)(test_random(&seed) % 3);

			for (u32 at = word; at < word + nr && at < WORDS; at++)
				page[at * WORD + test_random(&seed) % WORD] ^= (u8)(1 + test_random(&seed) % 255);
		}
		fitting += there_and_back() >= 0;
	}
	expect(fitting > 2000 && fitting < 18000);
}

/* Never a byte outside of the page. */
static void test_what_is_no_patch(void)
{
	u64 seed = 3;
	u32 refused = 0;

	for (u32 n = 0; n < 200000; n++) {
		u32 size = (u32)(test_random(&seed) % PATCH_MAX);

		for (u32 i = 0; i < size; i++)
			patch[i] = (u8)test_random(&seed);
		memset(guarded, 0x5a, sizeof(guarded));
		refused += patch_apply(guarded + PAGE_SIZE, patch, size) == -EIO;
		for (u32 i = 0; n % 64 == 0 && i < PAGE_SIZE; i++)
			expect(guarded[i] == 0x5a && guarded[2 * PAGE_SIZE + i] == 0x5a);
		expect(guarded[PAGE_SIZE - 1] == 0x5a && guarded[2 * PAGE_SIZE] == 0x5a);
	}
	expect(refused > 100000);
}

int main(void)
{
	run_test(test_sizes);
	run_test(test_any_changes);
	run_test(test_what_is_no_patch);
	return 0;
}

// SPDX-License-Identifier: MIT
/*
 * Errors by plan. Every decision follows from the rules and from the numbers of the operations, which each rule counts
 * for itself, so one thread meets the same errors every time.
 */
#include <errno.h>
#include <string.h>

#include "base/os.h"
#include "swap/filter.h"

/* What becomes of an operation, in swap_io.err until it has a result; or a negative errno. */
enum { FATE_PASS = 0, FATE_CORRUPT = 1 };

struct filter_error {
	struct swap_filter filter;
	struct swap_errors errors;
	struct {
		struct atomic64 seen, failed;
	} counts[SWAP_ERROR_RULES_MAX];
};

static struct filter_error *error_of(struct swap_device *dev)
{
	return container_of(dev, struct filter_error, filter.dev);
}

/* splitmix64: a number's fate has nothing to do with its neighbours'. */
static u64 mix(u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static bool rule_hits(struct filter_error *e, u32 i, u32 slot, bool is_write)
{
	const struct swap_error_rule *rule = &e->errors.rules[i];
	u64 number;

	if (!(is_write ? rule->writes : rule->reads) || slot < rule->first_slot || slot > rule->last_slot)
		return false;
	number = atomic64_fetch_add(&e->counts[i].seen, 1);
	if (number < rule->after || mix(number + mix(rule->seed)) % rule->rate_of >= rule->rate_part)
		return false;
	/* The counter may run past `count`; only who finds it below has an error. */
	return atomic64_read(&e->counts[i].failed) < rule->count &&
	       atomic64_fetch_add(&e->counts[i].failed, 1) < rule->count;
}

/* The first rule that hits decides; the others count the operation all the same. */
static int error_fate(struct filter_error *e, u32 slot, bool is_write)
{
	static const int fates[] = { -EIO, -ENOSPC, FATE_CORRUPT };
	int fate = FATE_PASS;

	for (u32 i = 0; i < e->errors.nr; i++) {
		if (rule_hits(e, i, slot, is_write) && fate == FATE_PASS)
			fate = fates[e->errors.rules[i].kind];
	}
	if (fate < 0)
		atomic64_fetch_add(is_write ? &e->filter.failed_writes : &e->filter.failed_reads, 1);
	return fate;
}

static void corrupt(u32 slot, void *page)
{
	u64 bit = mix(slot) % (PAGE_SIZE * 8);

	((u8 *)page)[bit / 8] ^= (u8)(1 << bit % 8);
}

/* Apart, as its page lies on the stack. */
static __attribute__((noinline)) int write_corrupted(struct filter_error *e, u32 slot, const void *page)
{
	_Alignas(64) u8 copy[PAGE_SIZE];

	memcpy(copy, page, PAGE_SIZE);
	corrupt(slot, copy);
	return e->filter.below->ops->write(e->filter.below, slot, copy);
}

static int error_read(struct swap_device *dev, u32 slot, void *page)
{
	struct filter_error *e = error_of(dev);
	int fate = error_fate(e, slot, false), ret;

	if (fate < 0)
		return fate;
	ret = e->filter.below->ops->read(e->filter.below, slot, page);
	if (!ret && fate == FATE_CORRUPT)
		corrupt(slot, page);
	return ret;
}

static int error_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct filter_error *e = error_of(dev);
	int fate = error_fate(e, slot, true);

	if (fate < 0)
		return fate;
	if (fate == FATE_CORRUPT)
		return write_corrupted(e, slot, page);
	return e->filter.below->ops->write(e->filter.below, slot, page);
}

/* Decides over each page, into its err, and gathers in `pass` those that go on together. Returns how many. */
static u32 gather(struct filter_error *e, struct swap_io *io, u32 nr, struct swap_io *pass, bool is_write)
{
	u32 nr_pass = 0;

	for (u32 i = 0; i < nr; i++) {
		io[i].err = error_fate(e, io[i].slot, is_write);
		if (io[i].err == FATE_PASS || (io[i].err == FATE_CORRUPT && !is_write))
			pass[nr_pass++] = io[i];
	}
	return nr_pass;
}

static void error_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_error *e = error_of(dev);
	struct swap_io pass[SWAP_BATCH_MAX];
	u32 nr_pass = gather(e, io, nr, pass, false), at = 0;

	swap_device_read_pages(e->filter.below, pass, nr_pass);
	for (u32 i = 0; i < nr; i++) {
		int fate = io[i].err;

		if (fate < 0)
			continue;
		io[i].err = pass[at++].err;
		if (!io[i].err && fate == FATE_CORRUPT)
			corrupt(io[i].slot, io[i].page);
	}
}

static void error_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_error *e = error_of(dev);
	struct swap_io pass[SWAP_BATCH_MAX];
	u32 nr_pass = gather(e, io, nr, pass, true), at = 0;

	swap_device_write_pages(e->filter.below, pass, nr_pass);
	for (u32 i = 0; i < nr; i++) {
		if (io[i].err == FATE_PASS)
			io[i].err = pass[at++].err;
		else if (io[i].err == FATE_CORRUPT)
			io[i].err = write_corrupted(e, io[i].slot, io[i].page);
	}
}

static void error_close(struct swap_device *dev)
{
	struct filter_error *e = error_of(dev);

	filter_close(&e->filter);
	os_unreserve(e, sizeof(*e));
}

static const struct swap_device_ops error_ops = {
	.read = error_read,
	.write = error_write,
	.read_pages = error_read_pages,
	.write_pages = error_write_pages,
	.discard = filter_discard,
	.stats = filter_report,
	FILTER_PASSES_ON,
	.fork_child = filter_fork_child,
	.close = error_close,
};

int filter_error_open(struct swap_device *below, const struct swap_errors *errors, struct swap_device **out)
{
	struct filter_error *e = os_reserve(sizeof(*e));

	if (!e)
		return -ENOMEM;
	filter_init(&e->filter, &error_ops, below);
	e->errors = *errors;
	*out = &e->filter.dev;
	return 0;
}

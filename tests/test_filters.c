// SPDX-License-Identifier: MIT
/*
 * The filters over a device of the test's own, whose contents the test can see and change behind their backs. That
 * stacks of them are good devices is test_device_conformance.c's business.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "device_pages.h"
#include "swap/aead.h"
#include "swap/filter.h"

enum { NR_SLOTS = 1024 };

/* The device below: shared with forked children, so that both write to one medium. */
static struct {
	struct swap_device dev;
	u8 (*pages)[PAGE_SIZE];
	u32 calls, batches; /* operations one by one, and batches */
	u32 fail_slot; /* an operation on it fails */
	bool closed;
} disk;

static struct page_limit account;
static u8 page[PAGE_SIZE], back[PAGE_SIZE];
static u8 pages[SWAP_BATCH_MAX][PAGE_SIZE];

static int disk_read(struct swap_device *dev, u32 slot, void *to)
{
	expect(dev == &disk.dev && !disk.closed && slot < NR_SLOTS);
	disk.calls++;
	memcpy(to, disk.pages[slot], PAGE_SIZE);
	return slot == disk.fail_slot ? -EIO : 0;
}

static int disk_write(struct swap_device *dev, u32 slot, const void *from)
{
	expect(dev == &disk.dev && !disk.closed && slot < NR_SLOTS);
	disk.calls++;
	if (slot == disk.fail_slot)
		return -EIO;
	memcpy(disk.pages[slot], from, PAGE_SIZE);
	return 0;
}

static void disk_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	disk.batches++;
	for (u32 i = 0; i < nr; i++, disk.calls--)
		io[i].err = disk_read(dev, io[i].slot, io[i].page);
}

static void disk_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	disk.batches++;
	for (u32 i = 0; i < nr; i++, disk.calls--)
		io[i].err = disk_write(dev, io[i].slot, io[i].page);
}

static void disk_discard(struct swap_device *dev, u32 slot)
{
	expect(dev == &disk.dev && slot < NR_SLOTS);
}

static void disk_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	expect(dev == &disk.dev);
	*stats = (struct swap_device_stats){ 0 };
}

static void disk_close(struct swap_device *dev)
{
	expect(dev == &disk.dev && !disk.closed);
	disk.closed = true;
}

static const struct swap_device_ops disk_ops = {
	.read = disk_read,
	.write = disk_write,
	.read_pages = disk_read_pages,
	.write_pages = disk_write_pages,
	.discard = disk_discard,
	.stats = disk_stats,
	.close = disk_close,
};

static struct swap_device *disk_open(void)
{
	if (!disk.pages)
		disk.pages =
			mmap(NULL, NR_SLOTS * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	expect(disk.pages != MAP_FAILED);
	disk.dev = (struct swap_device){
		.ops = &disk_ops,
		.name = "disk",
		.flags = SWAP_SYNCHRONOUS_IO | SWAP_DISCARD,
		.nr_slots = NR_SLOTS,
	};
	disk.calls = disk.batches = 0;
	disk.fail_slot = UINT32_MAX;
	disk.closed = false;
	return &disk.dev;
}

static struct swap_device *counted(struct swap_device *dev)
{
	dev->memory = page_limit_hooks(&account);
	return dev;
}

static struct swap_device *open_checksum(void)
{
	struct swap_device *dev;

	expect_eq(filter_checksum_open(disk_open(), &dev), 0);
	return counted(dev);
}

static struct swap_device *open_crypt(void)
{
	struct swap_device *dev;

	expect_eq(filter_crypt_open(disk_open(), &dev), 0);
	return counted(dev);
}

static struct swap_device *open_errors(const char *text)
{
	struct swap_errors errors;
	struct swap_device *dev;

	expect_eq(swap_errors_parse(text, &errors), 0);
	expect_eq(filter_error_open(disk_open(), &errors, &dev), 0);
	return counted(dev);
}

static void close_all(struct swap_device *dev)
{
	dev->ops->close(dev);
	expect(disk.closed);
	expect_eq(atomic64_read(&account.charged), 0);
}

static int put(struct swap_device *dev, u32 slot, u64 number)
{
	page_make(page, PAGE_TEXT, number);
	return dev->ops->write(dev, slot, page);
}

/* 0 only if what was written came back. */
static int get(struct swap_device *dev, u32 slot, u64 number)
{
	int ret = dev->ops->read(dev, slot, back);

	page_make(page, PAGE_TEXT, number);
	expect(ret || memcmp(page, back, PAGE_SIZE) == 0);
	return ret;
}

static u64 failed_reads(struct swap_device *dev)
{
	struct swap_device_stats stats;

	dev->ops->stats(dev, &stats);
	return stats.failed_reads;
}

/* ---- wrong data ---- */

static void check_wrong_data(struct swap_device *dev)
{
	static u8 old[PAGE_SIZE];
	u64 seed = 5;

	for (u32 i = 0; i < 8; i++)
		expect_eq(put(dev, i, i), 0);
	/* Any bit of it. */
	for (u32 n = 0; n < 200; n++) {
		u64 bit = n < 8 ? n : test_random(&seed) % (PAGE_SIZE * 8);

		disk.pages[3][bit / 8] ^= (u8)(1 << bit % 8);
		expect_eq(get(dev, 3, 3), -EBADMSG);
		disk.pages[3][bit / 8] ^= (u8)(1 << bit % 8);
		expect_eq(get(dev, 3, 3), 0);
	}
	expect_eq(failed_reads(dev), 200);
	/* Two slots exchanged. */
	memcpy(old, disk.pages[1], PAGE_SIZE);
	memcpy(disk.pages[1], disk.pages[2], PAGE_SIZE);
	memcpy(disk.pages[2], old, PAGE_SIZE);
	expect_eq(get(dev, 1, 1), -EBADMSG);
	expect_eq(get(dev, 2, 2), -EBADMSG);
	/* Data of an earlier write. */
	memcpy(old, disk.pages[4], PAGE_SIZE);
	expect_eq(put(dev, 4, 104), 0);
	expect_eq(get(dev, 4, 104), 0);
	memcpy(disk.pages[4], old, PAGE_SIZE);
	expect_eq(get(dev, 4, 104), -EBADMSG);
	/* A slot without data, though the medium has some; and one that never had any. */
	dev->ops->discard(dev, 5);
	expect_eq(get(dev, 5, 5), -EIO);
	expect_eq(get(dev, NR_SLOTS - 1, 0), -EIO);
	/* A failed write leaves the old data, and the same slot works again. */
	disk.fail_slot = 6;
	expect_eq(put(dev, 6, 106), -EIO);
	disk.fail_slot = UINT32_MAX;
	expect_eq(get(dev, 6, 6), 0);
	expect_eq(put(dev, 6, 206), 0);
	expect_eq(get(dev, 6, 206), 0);
}

static void test_checksum_wrong_data(void)
{
	struct swap_device *dev = open_checksum();

	check_wrong_data(dev);
	close_all(dev);
}

static void test_crypt_wrong_data(void)
{
	struct swap_device *dev = open_crypt();

	check_wrong_data(dev);
	/* What cannot be trusted is not in the buffer either. */
	disk.pages[7][99] ^= 1;
	memset(back, 0xa5, PAGE_SIZE);
	expect_eq(get(dev, 7, 7), -EBADMSG);
	for (u32 i = 0; i < PAGE_SIZE; i++)
		expect_eq(back[i], 0);
	close_all(dev);
}

/* ---- batches ---- */

/* Slots of a batch that fail below, or whose data is wrong, and no others. */
static void check_batches(struct swap_device *dev)
{
	struct swap_io io[SWAP_BATCH_MAX];

	for (u32 i = 0; i < SWAP_BATCH_MAX; i++) {
		page_make(pages[i], PAGE_TEXT, i);
		io[i] = (struct swap_io){ .slot = 10 * i, .page = pages[i], .err = 1 };
	}
	disk.fail_slot = 70;
	swap_device_write_pages(dev, io, SWAP_BATCH_MAX);
	for (u32 i = 0; i < SWAP_BATCH_MAX; i++)
		expect_eq(io[i].err, i == 7 ? -EIO : 0);
	expect_eq(disk.calls, 0);
	expect(disk.batches <= 2);
	disk.fail_slot = 90;
	disk.pages[200][0] ^= 1;
	memset(pages, 0xa5, sizeof(pages));
	swap_device_read_pages(dev, io, SWAP_BATCH_MAX);
	for (u32 i = 0; i < SWAP_BATCH_MAX; i++) {
		expect_eq(io[i].err, i == 7 || i == 9 ? -EIO : i == 20 ? -EBADMSG : 0);
		page_make(page, PAGE_TEXT, i);
		expect(io[i].err || memcmp(page, pages[i], PAGE_SIZE) == 0);
	}
	expect_eq(disk.calls, 0);
	disk.fail_slot = UINT32_MAX;
}

static void test_batches(void)
{
	struct swap_device *dev = open_checksum();

	check_batches(dev);
	close_all(dev);
	dev = open_crypt();
	check_batches(dev);
	close_all(dev);
}

/* Tables for what is written may be had, or not; batches need no memory to get on. */
static void check_refused_charges(struct swap_device *dev, u32 tables)
{
	struct swap_io io[SWAP_BATCH_MAX];

	for (u32 limit = 0; limit <= tables + 2; limit++) {
		atomic64_set(&account.limit, limit);
		for (u32 i = 0; i < SWAP_BATCH_MAX; i++) {
			page_make(pages[i], PAGE_TEXT, limit + i);
			io[i] = (struct swap_io){ .slot = i, .page = pages[i], .err = 1 };
		}
		swap_device_write_pages(dev, io, SWAP_BATCH_MAX);
		for (u32 i = 0; i < SWAP_BATCH_MAX; i++)
			expect_eq(io[i].err, limit < tables ? -ENOSPC : 0);
		expect(atomic64_read(&account.charged) <= limit);
		expect_eq(put(dev, 1, 1), limit < tables ? -ENOSPC : 0);
		for (u32 i = 2; limit >= tables && i < SWAP_BATCH_MAX; i++)
			expect_eq(get(dev, i, limit + i), 0);
	}
}

static void test_refused_charges(void)
{
	struct swap_device *dev = open_checksum();
	struct swap_device_stats stats;

	check_refused_charges(dev, 1);
	dev->ops->stats(dev, &stats);
	expect_eq(stats.failed_writes, SWAP_BATCH_MAX + 1);
	expect_eq(stats.mem_used_total, PAGE_SIZE);
	close_all(dev);
	dev = open_crypt();
	check_refused_charges(dev, 2);
	close_all(dev);
}

/* ---- crypt ---- */

/* Another implementation (OpenSSL 3.0) made the tag and the last bytes. */
static void test_known_answer(void)
{
	static const u8 tag_expected[AEAD_TAG_BYTES] = { 0x09, 0x7e, 0x13, 0x92, 0x56, 0x2e, 0xc2, 0x63,
							 0x8e, 0x4f, 0x21, 0xa0, 0xeb, 0x31, 0x89, 0xea };
	static const u8 end_expected[16] = { 0xcc, 0x43, 0xb3, 0x97, 0x09, 0x6b, 0xb4, 0x79,
					     0x87, 0xae, 0x4d, 0xf6, 0x44, 0xe4, 0x6a, 0xd5 };
	u8 raw[AEAD_KEY_BYTES], nonce[AEAD_NONCE_BYTES], tag[AEAD_TAG_BYTES];
	static struct aead_key key;

	for (u32 i = 0; i < sizeof(raw); i++)
		raw[i] = (u8)i;
	for (u32 i = 0; i < sizeof(nonce); i++)
		nonce[i] = (u8)(0xa0 + i);
	for (u32 i = 0; i < PAGE_SIZE; i++)
		page[i] = (u8)(i * 7 + (i >> 8));
	expect_eq(aead_init(), 0);
	aead_key_set(&key, raw);
	aead_seal(&key, nonce, 7, page, back, tag);
	expect(memcmp(tag, tag_expected, sizeof(tag)) == 0);
	expect(memcmp(back + PAGE_SIZE - 16, end_expected, 16) == 0);
	expect_eq(aead_open(&key, nonce, 7, back, tag), 0);
	expect(memcmp(back, page, PAGE_SIZE) == 0);
	aead_seal(&key, nonce, 7, page, back, tag);
	expect_eq(aead_open(&key, nonce, 8, back, tag), -EBADMSG);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
static struct {
	ucontext_t here, there;
	struct swap_device *dev;
	u8 stack[64 << 10] __attribute__((aligned(64)));
} painted;

static void write_and_read(void)
{
	expect_eq(painted.dev->ops->write(painted.dev, 0, page), 0);
	expect_eq(painted.dev->ops->read(painted.dev, 0, page), 0);
}

static u32 untouched_bytes(void)
{
	u32 n = 0;

	while (painted.stack[n] == 0x5a)
		n++;
	return n;
}

/* It runs in signal handlers: the page that is sealed, and no more than another. */
static void test_stack(void)
{
	u32 used;

	painted.dev = open_crypt();
	memset(painted.stack, 0x5a, sizeof(painted.stack));
	expect_eq(getcontext(&painted.there), 0);
	painted.there.uc_stack = (stack_t){ .ss_sp = painted.stack, .ss_size = sizeof(painted.stack) };
	painted.there.uc_link = &painted.here;
	page_make(page, PAGE_TEXT, 1);
	makecontext(&painted.there, write_and_read, 0);
	expect_eq(swapcontext(&painted.here, &painted.there), 0);
	expect_eq(get(painted.dev, 0, 1), 0);
	used = (u32)sizeof(painted.stack) - untouched_bytes();
	printf("with crypt a write takes %u bytes of stack\n", used);
	expect(used < 2 * PAGE_SIZE);
	close_all(painted.dev);
}
#else
static void test_stack(void)
{
}
#endif

/* Nothing of the page is to be seen below, and the same page twice is not the same below. */
static void test_crypt_hides(void)
{
	struct swap_device *dev = open_crypt();

	memset(page, 0, PAGE_SIZE);
	for (u32 slot = 0; slot < 2; slot++)
		expect_eq(dev->ops->write(dev, slot, page), 0);
	for (u32 i = 0; i < PAGE_SIZE; i += 16) {
		expect(memcmp(disk.pages[0] + i, page, 16) != 0);
		expect(memcmp(disk.pages[0] + i, disk.pages[1] + i, 16) != 0);
	}
	memcpy(back, disk.pages[0], PAGE_SIZE);
	expect_eq(dev->ops->write(dev, 0, page), 0);
	for (u32 i = 0; i < PAGE_SIZE; i += 16)
		expect(memcmp(disk.pages[0] + i, back + i, 16) != 0);
	close_all(dev);
}

/*
 * Parent and child write the same page to the same slot by the same counter: the same nonce under one key would make
 * the same bytes. `told` is whether the device hears of the fork.
 */
static bool fork_repeats_nonce(bool told)
{
	struct swap_device *dev = open_crypt();
	int status;
	pid_t pid;

	for (u32 slot = 0; slot < 8; slot++)
		expect_eq(put(dev, slot, slot), 0);
	pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		if (told)
			expect_eq(swap_device_fork_child(dev), 0);
		for (u32 slot = 0; slot < 8; slot++)
			expect_eq(get(dev, slot, slot), 0);
		expect_eq(put(dev, 3, 103), 0);
		expect_eq(get(dev, 3, 103), 0);
		_exit(0);
	}
	expect_eq(waitpid(pid, &status, 0), pid);
	expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	memcpy(back, disk.pages[3], PAGE_SIZE);
	/* What the child wrote is not the parent's. */
	expect_eq(dev->ops->read(dev, 3, page), -EBADMSG);
	expect_eq(put(dev, 3, 103), 0);
	status = memcmp(back, disk.pages[3], PAGE_SIZE) == 0;
	expect_eq(get(dev, 3, 103), 0);
	close_all(dev);
	return status;
}

static void test_fork(void)
{
	expect(fork_repeats_nonce(false)); /* else this would test nothing */
	expect(!fork_repeats_nonce(true));
}

/* A chain of forks: each generation keeps one page of its own, and reads all that it inherited. */
static void test_generations(void)
{
	struct swap_device *dev = open_crypt();

	for (u32 i = 0; i < 256; i++) {
		expect_eq(put(dev, i, i), 0);
		expect_eq(swap_device_fork_child(dev), i < 255 ? 0 : -EMFILE);
	}
	for (u32 i = 0; i < 256; i++)
		expect_eq(get(dev, i, i), 0);
	/* A key whose pages are gone makes room for another. */
	dev->ops->discard(dev, 77);
	expect_eq(swap_device_fork_child(dev), 0);
	expect_eq(put(dev, 300, 300), 0);
	for (u32 i = 0; i < 256; i++)
		expect_eq(get(dev, i, i), i == 77 ? -EIO : 0);
	expect_eq(get(dev, 300, 300), 0);
	close_all(dev);
}

/* ---- error ---- */

static void test_error_schedules(void)
{
	struct swap_device *dev = open_errors("read:after=3:count=2");

	for (u32 n = 0; n < 10; n++) {
		expect_eq(put(dev, n, n), 0);
		expect_eq(get(dev, n, n), n == 3 || n == 4 ? -EIO : 0);
	}
	expect_eq(failed_reads(dev), 2);
	close_all(dev);
	dev = open_errors("enospc:slot=4-5+write:eio:slot=7:after=1");
	for (u32 n = 0; n < 10; n++)
		expect_eq(put(dev, n, n), n == 4 || n == 5 ? -ENOSPC : 0);
	expect_eq(put(dev, 7, 7), -EIO);
	for (u32 n = 0; n < 4; n++)
		expect_eq(get(dev, n, n), 0);
	close_all(dev);
	/* The first rule that hits decides, and the other one has counted. */
	dev = open_errors("write:enospc:count=1+write:eio:count=2");
	expect_eq(put(dev, 0, 0), -ENOSPC);
	expect_eq(put(dev, 0, 0), -EIO);
	expect_eq(put(dev, 0, 0), 0);
	close_all(dev);
}

static u32 rate_errors(const char *text, u64 *pattern)
{
	struct swap_device *dev = open_errors(text);
	u32 nr = 0;

	*pattern = 0;
	for (u32 n = 0; n < 10000; n++) {
		bool failed = dev->ops->read(dev, 0, back) != 0;

		nr += failed;
		if (failed && n < 64)
			*pattern |= (u64)1 << n;
	}
	close_all(dev);
	return nr;
}

static void test_error_rate(void)
{
	u64 first, again, other;
	u32 nr = rate_errors("read:rate=1/10", &first);

	expect(nr > 850 && nr < 1150);
	expect_eq(rate_errors("read:rate=1/10", &again), nr);
	expect_eq(first, again);
	rate_errors("read:rate=1/10:seed=1", &other);
	expect(first != other);
	expect_eq(rate_errors("read:rate=0/10", &first), 0);
	expect_eq(rate_errors("write", &first), 0);
}

static void test_error_batches(void)
{
	struct swap_device *dev = open_errors("slot=3+write:corrupt:slot=5+read:corrupt:slot=6");
	struct swap_io io[10];

	for (u32 i = 0; i < ARRAY_SIZE(io); i++) {
		page_make(pages[i], PAGE_TEXT, i);
		io[i] = (struct swap_io){ .slot = i, .page = pages[i], .err = 1 };
		memset(disk.pages[i], 0, PAGE_SIZE);
	}
	disk.fail_slot = 8;
	swap_device_write_pages(dev, io, ARRAY_SIZE(io));
	for (u32 i = 0; i < ARRAY_SIZE(io); i++) {
		expect_eq(io[i].err, i == 3 || i == 8 ? -EIO : 0);
		expect_eq(memcmp(disk.pages[i], pages[i], PAGE_SIZE) != 0, i == 3 || i == 5 || i == 8);
	}
	expect_eq(disk.batches, 1);
	swap_device_read_pages(dev, io, ARRAY_SIZE(io));
	for (u32 i = 0; i < ARRAY_SIZE(io); i++) {
		expect_eq(io[i].err, i == 3 || i == 8 ? -EIO : 0);
		page_make(page, PAGE_TEXT, i);
		if (!io[i].err)
			expect_eq(memcmp(page, pages[i], PAGE_SIZE) != 0, i == 5 || i == 6);
	}
	expect_eq(disk.batches, 2);
	close_all(dev);
}

/* Injected damage lies below what looks for it, in whatever order the options are given. */
static void test_error_is_found(void)
{
	static const char *const specs[] = {
		"brd:checksum=on,error=read:corrupt:slot=2",
		"brd:error=write:corrupt:slot=2,checksum=on",
		"brd:crypt=on,error=read:corrupt:slot=2",
		"brd:error=write:corrupt:slot=2,crypt=on",
		"zram:crypt=on,error=corrupt:slot=2:rate=1/1",
		"zram:stats=on,error=corrupt:slot=2,crypt=on,checksum=on",
	};

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct swap_device *dev = device_open(specs[i], NR_SLOTS, &account);

		for (u32 slot = 0; slot < 4; slot++)
			expect_eq(put(dev, slot, slot), 0);
		for (u32 slot = 0; slot < 4; slot++) {
			/* A bit that is wrong twice is right again: only by `corrupt` in both ways. */
			bool both = i >= 4;

			expect_eq(get(dev, slot, slot), slot == 2 && !both ? -EBADMSG : 0);
		}
		dev->ops->close(dev);
		expect_eq(atomic64_read(&account.charged), 0);
	}
}

/* ---- defaults ---- */

enum { HIDES = 1, FINDS = 2 };

/* What is done for pages on an external device, or a device in memory. */
static int done_for(bool external, enum swap_switch crypt, enum swap_switch checksum)
{
	const struct swap_device_config cfg = { .crypt = crypt, .checksum = checksum };
	struct swap_device *dev = disk_open();
	int done = 0;

	expect_eq(filters_open(&cfg, external, &dev), 0);
	counted(dev);
	expect_eq(put(dev, 0, 1), 0);
	if (memcmp(disk.pages[0], page, PAGE_SIZE) != 0)
		done |= HIDES;
	disk.pages[0][0] ^= 1;
	if (dev->ops->read(dev, 0, back) == -EBADMSG)
		done |= FINDS;
	dev->ops->close(dev);
	expect(disk.closed);
	return done;
}

static void test_defaults(void)
{
	expect_eq(done_for(false, SWITCH_DEFAULT, SWITCH_DEFAULT), 0);
	expect_eq(done_for(false, SWITCH_ON, SWITCH_DEFAULT), HIDES | FINDS);
	expect_eq(done_for(false, SWITCH_DEFAULT, SWITCH_ON), FINDS);
	expect_eq(done_for(true, SWITCH_DEFAULT, SWITCH_DEFAULT), HIDES | FINDS);
	expect_eq(done_for(true, SWITCH_DEFAULT, SWITCH_OFF), HIDES | FINDS);
	expect_eq(done_for(true, SWITCH_OFF, SWITCH_DEFAULT), FINDS);
	expect_eq(done_for(true, SWITCH_OFF, SWITCH_OFF), 0);
}

/* ---- delay, stats ---- */

static void test_delay(void)
{
	const struct swap_delay delay = { .read_ns = 2000000, .write_ns = 1000000, .async = true };
	struct swap_io io[4];
	struct swap_device *dev;
	struct swap_times times;

	memset(&times, 0, sizeof(times));
	expect_eq(filter_delay_open(disk_open(), &delay, &dev), 0);
	expect(!(dev->flags & SWAP_SYNCHRONOUS_IO));
	expect_eq(filter_stats_open(dev, &times, &dev), 0);
	expect(!(dev->flags & SWAP_SYNCHRONOUS_IO) && dev->flags & SWAP_DISCARD);
	counted(dev);
	expect_eq(put(dev, 0, 0), 0);
	expect_eq(get(dev, 0, 0), 0);
	/* A sleep is never shorter; longer it may be. */
	expect(atomic64_read(&times.write.ns) >= delay.write_ns);
	expect(atomic64_read(&times.read.ns) >= delay.read_ns);
	for (u32 i = 0; i < ARRAY_SIZE(io); i++)
		io[i] = (struct swap_io){ .slot = i, .page = pages[i], .err = 1 };
	swap_device_write_pages(dev, io, ARRAY_SIZE(io));
	swap_device_read_pages(dev, io, ARRAY_SIZE(io));
	expect_eq(disk.batches, 2);
	close_all(dev);
}

static void test_stats(void)
{
	struct swap_device *dev = open_errors("write:slot=5");
	struct swap_device_stats stats;
	struct swap_times times;
	struct swap_io io[6];
	u64 calls;

	memset(&times, 0, sizeof(times));
	expect_eq(filter_stats_open(dev, &times, &dev), 0);
	counted(dev);
	expect_eq(swap_times_percentile(&times.read, 50), 0);
	for (u32 i = 0; i < ARRAY_SIZE(io); i++)
		io[i] = (struct swap_io){ .slot = i, .page = pages[i], .err = 1 };
	swap_device_write_pages(dev, io, ARRAY_SIZE(io));
	for (u32 i = 0; i < 3; i++)
		expect_eq(dev->ops->read(dev, i, page), 0);
	expect_eq(dev->ops->write(dev, 5, page), -EIO);
	expect_eq(atomic64_read(&times.write.pages), 7);
	expect_eq(atomic64_read(&times.write.errors), 2);
	expect_eq(swap_times_calls(&times.write), 2);
	expect_eq(atomic64_read(&times.read.pages), 3);
	expect_eq(atomic64_read(&times.read.errors), 0);
	expect_eq(swap_times_calls(&times.read), 3);
	expect(atomic64_read(&times.read.ns_max) <= atomic64_read(&times.read.ns));
	expect(swap_times_percentile(&times.read, 50) <= swap_times_percentile(&times.read, 99));
	expect(swap_times_percentile(&times.read, 100) <= atomic64_read(&times.read.ns_max));
	/* A child counts for itself, from where its parent was. */
	expect_eq(swap_device_fork_child(dev), 0);
	expect_eq(dev->ops->read(dev, 0, page), 0);
	calls = swap_times_calls(&times.read);
	dev->ops->stats(dev, &stats);
	expect_eq(calls, 3);
	expect_eq(swap_times_calls(&stats.times->read), 4);
	close_all(dev);
}

static void test_percentiles(void)
{
	struct swap_op_times t;

	memset(&t, 0, sizeof(t));
	atomic64_set(&t.calls[10], 98);
	atomic64_set(&t.calls[20], 1);
	atomic64_set(&t.calls[SWAP_TIMES_BUCKETS - 1], 1);
	atomic64_set(&t.ns_max, (u64)1 << 41);
	expect_eq(swap_times_percentile(&t, 50), 1 << 10);
	expect_eq(swap_times_percentile(&t, 98), 1 << 10);
	expect_eq(swap_times_percentile(&t, 99), 1 << 20);
	expect_eq(swap_times_percentile(&t, 100), (u64)1 << 41);
}

/* ---- options ---- */

static void test_good_options(void)
{
	struct swap_errors e;
	struct swap_delay d;

	expect_eq(swap_delay_parse("10us", &d), 0);
	expect(d.read_ns == 10000 && d.write_ns == 10000 && !d.async);
	expect_eq(swap_delay_parse("read:1ms+write:2s+async", &d), 0);
	expect(d.read_ns == 1000000 && d.write_ns == 2000000000 && d.async);
	expect_eq(swap_delay_parse("async", &d), 0);
	expect(d.read_ns == 0 && d.write_ns == 0 && d.async);
	expect_eq(swap_errors_parse("read", &e), 0);
	expect(e.nr == 1 && e.rules[0].reads && !e.rules[0].writes && e.rules[0].kind == SWAP_ERROR_EIO);
	expect(e.rules[0].first_slot == 0 && e.rules[0].last_slot == UINT32_MAX && e.rules[0].count == UINT64_MAX);
	expect_eq(swap_errors_parse("corrupt:slot=7:rate=3/8:seed=9+enospc:slot=1-2:after=4:count=5", &e), 0);
	expect(e.nr == 2 && e.rules[0].reads && e.rules[0].writes && e.rules[0].kind == SWAP_ERROR_CORRUPT);
	expect(e.rules[0].first_slot == 7 && e.rules[0].last_slot == 7 && e.rules[0].seed == 9);
	expect(e.rules[0].rate_part == 3 && e.rules[0].rate_of == 8);
	expect(!e.rules[1].reads && e.rules[1].writes && e.rules[1].kind == SWAP_ERROR_ENOSPC);
	expect(e.rules[1].first_slot == 1 && e.rules[1].last_slot == 2 && e.rules[1].after == 4 &&
	       e.rules[1].count == 5);
}

static void test_bad_options(void)
{
	static const char *const delays[] = {
		"", "5", "1ms+", "+1ms", "read:", "read:x", "61s", "write:1ms+slow", "1ms,read:1ms", "async:1ms",
	};
	static const char *const errors[] = {
		"",
		"+",
		"read+",
		"+read",
		"read++write",
		"read:",
		":read",
		"reed",
		"rate=1",
		"rate=2/1",
		"rate=1/0",
		"rate=",
		"slot=5-4",
		"slot=-1",
		"slot=4294967296",
		"slot=",
		"slot=1-",
		"count=-1",
		"count=x",
		"after=",
		"seed=x",
		"read:enospc",
		"eio=5",
		"read+read+read+read+read",
		"rate=1/10000000000000000000000000000000000000000000",
	};
	struct swap_device_config cfg;
	struct swap_errors e;
	struct swap_delay d;
	char err[256];

	for (size_t i = 0; i < ARRAY_SIZE(delays); i++)
		expect_eq(swap_delay_parse(delays[i], &d), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		expect_eq(swap_errors_parse(errors[i], &e), -EINVAL);
	expect_eq(swap_device_parse("brd:delay=soon", &cfg, err, sizeof(err)), -EINVAL);
	expect(strcmp(err,
		      "brd: delay=soon: expected a time up to 60s, or read:TIME+write:TIME, with +async for a slow "
		      "device") == 0);
	expect_eq(swap_device_parse("brd:error=some", &cfg, err, sizeof(err)), -EINVAL);
	expect(strcmp(err, "brd: error=some: expected up to 4 rules joined by +, such as read:eio:rate=1/100 or "
			   "write:corrupt:slot=0-9:after=5:count=1") == 0);
}

int main(void)
{
	run_test(test_good_options);
	run_test(test_bad_options);
	run_test(test_checksum_wrong_data);
	run_test(test_crypt_wrong_data);
	run_test(test_batches);
	run_test(test_refused_charges);
	run_test(test_known_answer);
	run_test(test_stack);
	run_test(test_crypt_hides);
	run_test(test_fork);
	run_test(test_generations);
	run_test(test_error_schedules);
	run_test(test_error_rate);
	run_test(test_error_batches);
	run_test(test_error_is_found);
	run_test(test_defaults);
	run_test(test_delay);
	run_test(test_stats);
	run_test(test_percentiles);
	return 0;
}

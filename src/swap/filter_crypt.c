// SPDX-License-Identifier: MIT
/*
 * Each page is sealed with a key that exists in this process's memory only. A slot's nonce and tag are kept there as
 * well, so nothing but the very bytes of the slot's last write is ever accepted.
 *
 * No nonce is used twice under one key: it is a counter, one for each group of slots, and the group. A forked child
 * would count on from the same numbers, so it draws a key of its own for what it writes, and keeps those that it
 * inherited for the pages that they sealed. Each slot says which key is its.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"
#include "swap/aead.h"
#include "swap/filter.h"
#include "swap/slot_table.h"
#include "sync/lock.h"

enum {
	KEYS_MAX = 256, /* in use at once: as many generations of forks, each with pages of its own still out */
	KEY_BITS = 8, /* of a slot's word */
	NONCE_GROUPS = 16, /* slots by 64s, as their writers are often different threads */
	NONCE_GROUP_SHIFT = 6,
	BUFFERS = 4, /* batches sealed at once; those who find none free go page by page */
	BUFFER_PAGES = 32,
};

_Static_assert(1 << KEY_BITS == KEYS_MAX, "a key's number fills its field");

/* What a slot's page was sealed with. */
struct seal {
	u64 word; /* counter << KEY_BITS | key number; 0: the slot holds nothing */
	u8 tag[AEAD_TAG_BYTES];
};

/* Sealed pages on their way to the device below. The holder of `lock` has all of it; nobody waits for it. */
struct crypt_buffer {
	struct mutex lock;
	u32 nr_charged; /* pages that may be touched: grows to BUFFER_PAGES */
	struct swap_io io[BUFFER_PAGES];
	struct seal seals[BUFFER_PAGES];
	u8 (*pages)[PAGE_SIZE];
};

struct filter_crypt {
	struct swap_filter filter;
	struct slot_table words; /* u64, by slot: struct seal's */
	struct slot_table tags;
	struct aead_key *keys; /* KEYS_MAX; locked in memory, as far as that is allowed, and in no core dump */
	u32 nr_keys; /* that were ever made; changed while nobody works, like `key` */
	u32 key; /* for what is written now */
	struct {
		struct atomic64 next;
	} __attribute__((aligned(64))) nonces[NONCE_GROUPS];
	struct crypt_buffer buffers[BUFFERS];
};

static struct filter_crypt *crypt_of(struct swap_device *dev)
{
	return container_of(dev, struct filter_crypt, filter.dev);
}

static u64 *crypt_word(const struct filter_crypt *c, u32 slot)
{
	return slot_table_entry(&c->words, slot);
}

static u8 *crypt_tag(const struct filter_crypt *c, u32 slot)
{
	return slot_table_entry(&c->tags, slot);
}

static u32 nonce_group(u32 slot)
{
	return (slot >> NONCE_GROUP_SHIFT) % NONCE_GROUPS;
}

static void nonce_make(u8 nonce[AEAD_NONCE_BYTES], u32 slot, u64 word)
{
	u64 counter = word >> KEY_BITS;
	u32 group = nonce_group(slot);

	memcpy(nonce, &counter, sizeof(counter));
	memcpy(nonce + sizeof(counter), &group, sizeof(group));
}

static void crypt_seal(struct filter_crypt *c, u32 slot, const void *page, void *out, struct seal *seal)
{
	u8 nonce[AEAD_NONCE_BYTES];

	/* From 1, so that the word is not 0. */
	seal->word = (atomic64_fetch_add(&c->nonces[nonce_group(slot)].next, 1) + 1) << KEY_BITS | c->key;
	nonce_make(nonce, slot, seal->word);
	aead_seal(&c->keys[c->key], nonce, slot, page, out, seal->tag);
}

/* The result of a read that the device below says went well. */
static int crypt_unseal(struct swap_filter *f, u32 slot, void *page)
{
	struct filter_crypt *c = crypt_of(&f->dev);
	u64 word = *crypt_word(c, slot);
	u8 nonce[AEAD_NONCE_BYTES];
	int ret = -EIO;

	if (word) {
		nonce_make(nonce, slot, word);
		ret = aead_open(&c->keys[word % KEYS_MAX], nonce, slot, page, crypt_tag(c, slot));
	}
	if (ret)
		atomic64_fetch_add(&f->failed_reads, 1);
	return ret;
}

static int crypt_charge_slot(struct filter_crypt *c, u32 slot)
{
	int ret = slot_table_charge(&c->words, slot);

	if (!ret)
		ret = slot_table_charge(&c->tags, slot);
	if (ret)
		atomic64_fetch_add(&c->filter.failed_writes, 1);
	return ret ? -ENOSPC : 0;
}

/* Once the data is on the device; until then the old data and the old seal belong together. */
static void crypt_set(struct filter_crypt *c, u32 slot, const struct seal *seal)
{
	*crypt_word(c, slot) = seal->word;
	memcpy(crypt_tag(c, slot), seal->tag, AEAD_TAG_BYTES);
}

/* Needs no buffer, so it always gets on. Apart, as its page lies on the stack. */
static __attribute__((noinline)) int write_by_stack(struct filter_crypt *c, u32 slot, const void *page)
{
	_Alignas(64) u8 sealed[PAGE_SIZE];
	struct seal seal;
	int ret;

	crypt_seal(c, slot, page, sealed, &seal);
	ret = c->filter.below->ops->write(c->filter.below, slot, sealed);
	if (!ret)
		crypt_set(c, slot, &seal);
	return ret;
}

/* A free buffer with up to `nr` pages, *nr being how many; NULL: none, or no memory for it. */
static struct crypt_buffer *buffer_get(struct filter_crypt *c, u32 *nr)
{
	u32 wanted = (u32)min_u64(*nr, BUFFER_PAGES);

	for (u32 i = 0; i < BUFFERS; i++) {
		struct crypt_buffer *b = &c->buffers[i];

		if (!mutex_trylock(&b->lock))
			continue;
		while (b->nr_charged < wanted && !page_account_charge(&c->filter.account, 1))
			b->nr_charged++;
		*nr = (u32)min_u64(wanted, b->nr_charged);
		if (*nr)
			return b;
		mutex_unlock(&b->lock);
	}
	return NULL;
}

/* Writes those without an error yet, and unlocks the buffer. */
static void write_by_buffer(struct filter_crypt *c, struct crypt_buffer *b, struct swap_io *io, u32 nr)
{
	u32 nr_sealed = 0, at = 0;

	for (u32 i = 0; i < nr; i++) {
		if (io[i].err)
			continue;
		crypt_seal(c, io[i].slot, io[i].page, b->pages[nr_sealed], &b->seals[nr_sealed]);
		b->io[nr_sealed] = (struct swap_io){ .slot = io[i].slot, .page = b->pages[nr_sealed] };
		nr_sealed++;
	}
	swap_device_write_pages(c->filter.below, b->io, nr_sealed);
	for (u32 i = 0; i < nr; i++) {
		if (io[i].err)
			continue;
		io[i].err = b->io[at].err;
		if (!io[i].err)
			crypt_set(c, io[i].slot, &b->seals[at]);
		at++;
	}
	must(at == nr_sealed);
	mutex_unlock(&b->lock);
}

static void crypt_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct filter_crypt *c = crypt_of(dev);

	/* First, as slots cannot do without memory and buffers can. */
	for (u32 i = 0; i < nr; i++)
		io[i].err = crypt_charge_slot(c, io[i].slot);
	for (u32 done; nr; io += done, nr -= done) {
		struct crypt_buffer *b;

		done = nr;
		b = buffer_get(c, &done);
		if (b) {
			write_by_buffer(c, b, io, done);
			continue;
		}
		done = 1;
		if (!io->err)
			io->err = write_by_stack(c, io->slot, io->page);
	}
}

static int crypt_write(struct swap_device *dev, u32 slot, const void *page)
{
	struct filter_crypt *c = crypt_of(dev);
	int ret = crypt_charge_slot(c, slot);

	return ret ? ret : write_by_stack(c, slot, page);
}

static void crypt_discard(struct swap_device *dev, u32 slot)
{
	struct filter_crypt *c = crypt_of(dev);

	if (slot_table_is_charged(&c->words, slot))
		*crypt_word(c, slot) = 0;
	filter_discard(dev, slot);
}

/* ---- keys ---- */

/* The kernel's own swap is the only way out that is left: where locking is not allowed, it stays open. */
static void lock_keys(struct filter_crypt *c)
{
	sys2(SYS_mlock, c->keys, c->nr_keys * sizeof(*c->keys));
}

/* The number of a key that no slot is sealed with, or -EMFILE. */
static int unused_key(const struct filter_crypt *c)
{
	u64 used[KEYS_MAX / 64] = { 0 };

	if (c->nr_keys < KEYS_MAX)
		return (int)c->nr_keys;
	for (u32 slot = 0; slot < c->words.nr_slots; slot++) {
		u64 word = slot_table_is_charged(&c->words, slot) ? *crypt_word(c, slot) : 0;

		if (word)
			used[word % KEYS_MAX / 64] |= (u64)1 << word % 64;
	}
	for (int i = 0; i < KEYS_MAX; i++) {
		if (!(used[i / 64] >> i % 64 & 1))
			return i;
	}
	return -EMFILE;
}

/* Makes a key for all that is written from here on. No operation runs. */
static int change_key(struct filter_crypt *c)
{
	u8 raw[AEAD_KEY_BYTES];
	int number = unused_key(c);
	long ret;

	if (number < 0)
		return number;
	do
		ret = sys3(SYS_getrandom, raw, sizeof(raw), 0);
	while (ret == -EINTR);
	if (ret != sizeof(raw))
		return ret < 0 ? (int)ret : -EIO;
	c->key = (u32)number;
	c->nr_keys = (u32)max_u64(c->nr_keys, c->key + 1);
	lock_keys(c);
	aead_key_set(&c->keys[c->key], raw);
	explicit_bzero(raw, sizeof(raw));
	return 0;
}

static int crypt_fork_child(struct swap_device *dev)
{
	int ret = filter_fork_child(dev);

	return ret ? ret : change_key(crypt_of(dev));
}

/* ---- life ---- */

static void crypt_free(struct filter_crypt *c)
{
	for (u32 i = 0; i < BUFFERS; i++)
		os_unreserve(c->buffers[i].pages, BUFFER_PAGES * PAGE_SIZE);
	if (c->keys)
		explicit_bzero(c->keys, c->nr_keys * sizeof(*c->keys));
	os_unreserve(c->keys, KEYS_MAX * sizeof(*c->keys));
	slot_table_destroy(&c->words);
	slot_table_destroy(&c->tags);
	os_unreserve(c, sizeof(*c));
}

static void crypt_close(struct swap_device *dev)
{
	struct filter_crypt *c = crypt_of(dev);

	filter_close(&c->filter);
	crypt_free(c);
}

static const struct swap_device_ops crypt_ops = {
	.read = filter_read,
	.write = crypt_write,
	.read_pages = filter_read_pages,
	.write_pages = crypt_write_pages,
	.discard = crypt_discard,
	.stats = filter_report,
	FILTER_PASSES_ON,
	.fork_child = crypt_fork_child,
	.close = crypt_close,
};

static int crypt_reserve(struct filter_crypt *c, u32 nr_slots)
{
	int ret = slot_table_init(&c->words, nr_slots, sizeof(u64), &c->filter.account);

	if (!ret)
		ret = slot_table_init(&c->tags, nr_slots, AEAD_TAG_BYTES, &c->filter.account);
	c->keys = pages_reserve(KEYS_MAX * sizeof(*c->keys));
	if (!c->keys)
		ret = -ENOMEM;
	for (u32 i = 0; i < BUFFERS; i++) {
		c->buffers[i].pages = pages_reserve(BUFFER_PAGES * PAGE_SIZE);
		if (!c->buffers[i].pages)
			ret = -ENOMEM;
	}
	return ret;
}

int filter_crypt_open(struct swap_device *below, struct swap_device **out)
{
	struct filter_crypt *c;
	int ret = aead_init();

	if (ret)
		return ret;
	c = os_reserve(sizeof(*c));
	if (!c)
		return -ENOMEM;
	ret = crypt_reserve(c, below->nr_slots);
	if (!ret)
		ret = change_key(c);
	if (ret) {
		crypt_free(c);
		return ret;
	}
	filter_init(&c->filter, &crypt_ops, below);
	c->filter.verify = crypt_unseal;
	*out = &c->filter.dev;
	return 0;
}

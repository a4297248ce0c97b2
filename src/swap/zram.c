// SPDX-License-Identifier: MIT
/*
 * A slot holds nothing, one repeated 64-bit word, a compressed page or a raw one; the last two lie in the size-class
 * store. A checksum over what is stored is made at write and compared at read before anything is decompressed, so
 * that damaged memory is told as -EIO and never handed on.
 *
 * A slot that is written again keeps its compressed page if little has changed, and gets a patch behind it: that takes
 * a decompression and a comparison, where a compression takes several times as long. It is the core that keeps slots
 * for this, and asks first whether it pays.
 *
 * With a lower device, cold objects move there as they are (swap/lower.h). Which are cold is known by a clock of 256
 * ticks: a tick is some writes long, each object is stamped with the tick of its last use, and it is counted how many
 * objects of each tick there are. The clock stands still before a tick that still has objects from the last round.
 *
 * Slot entries need no lock: each is used by the holder of the slot's pin alone, but for looks at its tag and place,
 * which are hints to whoever has no pin. The store, the compression streams and the lower device have locks of their
 * own, and no lock is held from one call to the other.
 */
#include "swap/zram.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/os.h"
#include "swap/counters.h"
#include "swap/lower.h"
#include "swap/pages.h"
#include "swap/patch.h"
#include "swap/recompress.h"
#include "swap/slot_table.h"
#include "swap/zcomp.h"
#include "swap/zsmalloc.h"
#include "sync/score.h"
#include "sync/wait.h"

enum zram_slot_state {
	SLOT_EMPTY = 0, /* untouched table memory reads as this */
	SLOT_SAME,
	SLOT_COMPRESSED,
	SLOT_RAW,
	SLOT_LOWER, /* a compressed page on the lower device */
	SLOT_LOWER_RAW,
	SLOT_LOWER_HARDER, /* compressed by `recompress` on its way there */
	SLOT_PATCHED, /* a compressed page, its patch, and the bytes of that as a u16; not with a lower device */
};

/* An entry of the slot table. */
struct zram_entry {
	struct atomic64 word; /* struct zram_slot's */
	u32 checksum;
	struct atomic32 tag; /* its size, state and stamp */
};

_Static_assert(sizeof(struct zram_entry) == 16, "the slot table is part of the cost of a stored page");

/* What an entry says. */
struct zram_slot {
	u64 word; /* SLOT_SAME: the element; below: its place there; else the object's handle */
	u32 checksum; /* of the element's or the object's bytes */
	u16 size; /* of the object */
	u8 state; /* enum zram_slot_state */
	u8 stamp; /* of what is in the store, with a lower device: the tick of its last use */
	bool warm; /* the same: it has been used */
};

enum {
	CLOCK_TICKS = 256,
	TICK_WRITES_MIN = 64,
	TICK_SHIFT = 8,
	COLDEST_SHIFT = 4,
	NEW_SHIFT = 3, /* the part of all that the others have */
	RAW_MIN = 64,
};

/* Relaxed all: what is chosen by it is looked at again under its pin. */
struct zram_clock {
	struct atomic32 now;
	struct atomic32 writes; /* since the last tick */
	struct atomic32 objects[2][CLOCK_TICKS]; /* in the store, by warm and stamp */
	struct atomic64 ended_ns[CLOCK_TICKS]; /* when the tick ended the last time */
	struct atomic32 nr_raw; /* in the store */
};

struct zram {
	struct swap_device dev;
	struct zcomp *zcomp;
	struct zs_pool *store;
	struct page_account account; /* pages of the table */
	struct slot_table table; /* of struct zram_entry; pages never written to cost nothing when they are read */
	struct swap_counters counters;
	struct lower *lower; /* NULL: there is none */
	struct recompress recompress;
	struct atomic32 patch_score; /* whether what is written again has changed little */
	struct zram_clock clock;
	struct atomic32 high_water; /* slots that were ever written */
	u32 hand; /* where coldest() goes on; the demoter's */
	u32 compact_hand; /* where sparse() goes on; the compactor's, as the next */
	bool compacting;
};

/* Pages are looked at as words here, whatever the program keeps in them. */
typedef u64 __attribute__((may_alias)) page_word;

enum { PAGE_WORDS = PAGE_SIZE / sizeof(u64) };

static struct zram *zram_of(struct swap_device *dev)
{
	return container_of(dev, struct zram, dev);
}

/* Of the tag: 13 bits of size, 3 of state, 8 of stamp, 1 of warm. */
static u32 tag_of(const struct zram_slot *s)
{
	return s->size | (u32)s->state << 13 | (u32)s->stamp << 16 | (u32)s->warm << 24;
}

static bool tag_is_warm(u32 tag)
{
	return tag >> 24 & 1;
}

static enum zram_slot_state tag_state(u32 tag)
{
	return (enum zram_slot_state)(tag >> 13 & 7);
}

static struct zram_entry *zram_entry(struct zram *z, u32 slot)
{
	must(slot < z->dev.nr_slots);
	return (struct zram_entry *)z->table.entries + slot;
}

static struct zram_slot zram_slot(struct zram *z, u32 slot)
{
	const struct zram_entry *e = zram_entry(z, slot);
	u32 tag = atomic32_read(&e->tag);

	return (struct zram_slot){ .word = atomic64_read(&e->word),
				   .checksum = e->checksum,
				   .size = tag & 0x1fff,
				   .state = (u8)tag_state(tag),
				   .stamp = (u8)(tag >> 16),
				   .warm = tag_is_warm(tag) };
}

static void zram_set(struct zram *z, u32 slot, const struct zram_slot *s)
{
	struct zram_entry *e = zram_entry(z, slot);

	atomic64_set(&e->word, s->word);
	e->checksum = s->checksum;
	atomic32_set(&e->tag, tag_of(s));
}

static bool is_in_store(enum zram_slot_state state)
{
	return state == SLOT_COMPRESSED || state == SLOT_RAW || state == SLOT_PATCHED;
}

static bool is_below(enum zram_slot_state state)
{
	return state == SLOT_LOWER || state == SLOT_LOWER_RAW || state == SLOT_LOWER_HARDER;
}

static struct lower_object slot_object(const struct zram_slot *s)
{
	must(is_below(s->state));
	return (struct lower_object){ s->word, s->size };
}

static struct zs_handle slot_handle(const struct zram_slot *s)
{
	must(is_in_store(s->state));
	return (struct zs_handle){ s->word };
}

static u32 checksum(const void *data, size_t len)
{
	return (u32)XXH3_64bits(data, len);
}

static bool page_is_same_filled(const void *page, u64 *element)
{
	const page_word *w = page;

	/* Most pages that begin with a run end differently. */
	if (w[0] != w[PAGE_WORDS - 1])
		return false;
	for (int i = 1; i < PAGE_WORDS; i++) {
		if (w[i] != w[0])
			return false;
	}
	*element = w[0];
	return true;
}

static void page_fill(void *page, u64 element)
{
	page_word *w = page;

	for (int i = 0; i < PAGE_WORDS; i++)
		w[i] = element;
}

/* ---- the clock ---- */

static u32 clock_objects(const struct zram_clock *c, u32 stamp)
{
	return atomic32_read(&c->objects[false][stamp]) + atomic32_read(&c->objects[true][stamp]);
}

/* Two at once may end the tick a little early. */
static void clock_tick(struct zram_clock *c)
{
	u32 now = atomic32_read(&c->now), next = (now + 1) % CLOCK_TICKS;

	if (clock_objects(c, next))
		return;
	atomic64_set(&c->ended_ns[now], sync_clock_ns());
	atomic32_set(&c->writes, 0);
	atomic32_set(&c->now, next);
}

static void clock_add(struct zram *z, const struct zram_slot *s, u32 n)
{
	if (!z->lower || !is_in_store(s->state))
		return;
	atomic32_add_return(&z->clock.objects[s->warm][s->stamp], n);
	if (s->state == SLOT_RAW)
		atomic32_add_return(&z->clock.nr_raw, n);
}

/* Stamps what is new in the store. */
static void clock_stamp(struct zram *z, u32 slot, struct zram_slot *s)
{
	struct zram_clock *c = &z->clock;
	u32 high = atomic32_read(&z->high_water);

	while (slot >= high && !atomic32_cas_acquire(&z->high_water, &high, slot + 1))
		;
	if (!z->lower)
		return;
	if (atomic32_add_return(&c->writes, 1) >= max_u64(high >> TICK_SHIFT, TICK_WRITES_MIN))
		clock_tick(c);
	s->stamp = (u8)atomic32_read(&c->now);
	clock_add(z, s, 1);
}

static void clock_use(struct zram *z, u32 slot, struct zram_slot *s)
{
	u8 now = (u8)atomic32_read(&z->clock.now);

	if (!z->lower || !is_in_store(s->state) || (s->stamp == now && s->warm))
		return;
	clock_add(z, s, -1u);
	s->stamp = now;
	s->warm = true;
	clock_add(z, s, 1);
	zram_set(z, slot, s);
}

/* From which ages on, in ticks, objects are to go, by warm; CLOCK_TICKS: none. */
struct clock_ages {
	u32 of[2];
};

/* Of those that are or are not warm, the oldest: at least `nr`, or all that have been idle. */
static u32 clock_oldest(const struct zram_clock *c, bool warm, u32 nr, u64 idle_ns)
{
	u32 now = atomic32_read(&c->now), age = CLOCK_TICKS, seen = 0;
	u64 now_ns = idle_ns ? sync_clock_ns() : 0;

	while (age > 0 && (idle_ns || seen < nr)) {
		u32 stamp = (now - (age - 1)) % CLOCK_TICKS, objects = atomic32_read(&c->objects[warm][stamp]);

		if (idle_ns && objects && (age == 1 || atomic64_read(&c->ended_ns[stamp]) + idle_ns > now_ns))
			break;
		seen += objects;
		age--;
	}
	return seen ? age : CLOCK_TICKS;
}

/*
 * Without idle_ns what goes is of the new ones, as long as they are more than their part, and a sixteenth of all, so
 * that a sweep over the slots finds some soon.
 */
static struct clock_ages clock_coldest(struct zram_clock *c, u64 idle_ns, u32 nr)
{
	struct clock_ages ages = { { CLOCK_TICKS, CLOCK_TICKS } };
	u32 nr_new = 0, nr_warm = 0;
	bool warm;

	if (idle_ns == UINT64_MAX)
		return ages;
	if (idle_ns) {
		if (clock_objects(c, atomic32_read(&c->now)))
			clock_tick(c); /* although nobody writes */
		for (int i = 0; i < 2; i++)
			ages.of[i] = clock_oldest(c, i, 0, idle_ns);
		return ages;
	}
	for (u32 i = 0; i < CLOCK_TICKS; i++) {
		nr_new += atomic32_read(&c->objects[false][i]);
		nr_warm += atomic32_read(&c->objects[true][i]);
	}
	/* The clock does not wait for those that were used a whole round ago, either. */
	warm = nr_new <= (nr_new + nr_warm) >> NEW_SHIFT ||
	       atomic32_read(&c->objects[true][(atomic32_read(&c->now) + 1) % CLOCK_TICKS]);
	ages.of[warm] = clock_oldest(c, warm, (u32)max_u64((nr_new + nr_warm) >> COLDEST_SHIFT, nr), 0);
	return ages;
}

/* ---- what is stored ---- */

/* Puts bytes into the store and describes them in *s. 0 or what zs_alloc() returns. */
static int zram_store(struct zram *z, struct zram_slot *s, enum zram_slot_state state, const void *data, u32 size)
{
	struct zs_handle handle;
	int ret = zs_alloc(z->store, size, &handle);

	if (ret)
		return ret;
	memcpy(zs_map(z->store, handle), data, size);
	*s = (struct zram_slot){
		.word = handle.value,
		.checksum = checksum(data, size),
		.size = (u16)size,
		.state = (u8)state,
	};
	return 0;
}

static int zram_store_page(struct zram *z, struct zram_slot *s, const void *page)
{
	struct zcomp_stream *stream = zcomp_stream_get(z->zcomp);
	u32 len = zcomp_compress(z->zcomp, stream, page);
	int ret = 0;

	if (len)
		ret = zram_store(z, s, SLOT_COMPRESSED, stream->result, len);
	zcomp_stream_put(z->zcomp, stream);
	return len ? ret : zram_store(z, s, SLOT_RAW, page, PAGE_SIZE);
}

/* sign is 1 for a slot that got its data, -1 for one that loses it. */
static void zram_count(struct zram *z, u32 slot, const struct zram_slot *s, int sign)
{
	const u64 one = (u64)(s64)sign;

	swap_counter_add(&z->counters, slot, COUNT_PAGES, one);
	if (s->state == SLOT_SAME)
		swap_counter_add(&z->counters, slot, COUNT_SAME_PAGES, one);
	else
		swap_counter_add(&z->counters, slot, COUNT_COMPR_BYTES, one * s->size);
	if (s->state == SLOT_RAW || s->state == SLOT_LOWER_RAW)
		swap_counter_add(&z->counters, slot, COUNT_HUGE_PAGES, one);
}

/* Gives the object's place back, in the store or below. */
static void zram_free_object(struct zram *z, const struct zram_slot *s)
{
	if (is_in_store(s->state)) {
		clock_add(z, s, -1u);
		zs_free(z->store, slot_handle(s));
	} else if (is_below(s->state)) {
		struct lower_object object = slot_object(s);

		lower_free(z->lower, &object);
	}
}

static void zram_discard(struct swap_device *dev, u32 slot)
{
	struct zram *z = zram_of(dev);
	struct zram_slot s = zram_slot(z, slot);

	if (s.state == SLOT_EMPTY)
		return;
	zram_count(z, slot, &s, -1);
	zram_free_object(z, &s);
	zram_set(z, slot, &(struct zram_slot){ .state = SLOT_EMPTY });
}

/* Before the entry is written to: 0 or -ENOMEM. What the store keeps empty may make room. */
static int zram_charge_entry(struct zram *z, u32 slot)
{
	int ret = slot_table_charge(&z->table, slot);

	if (likely(!ret))
		return 0;
	zs_trim(z->store);
	return slot_table_charge(&z->table, slot);
}

static int zram_fail_write(struct zram *z, u32 slot)
{
	swap_counter_add(&z->counters, slot, COUNT_FAILED_WRITES, 1);
	return -ENOSPC;
}

/* ---- patches ---- */

static bool is_patchable(enum zram_slot_state state)
{
	return state == SLOT_COMPRESSED || state == SLOT_PATCHED;
}

/* The bytes of the compressed page at an object's beginning; 0: the object is damaged. */
static u32 compressed_size(const struct zram_slot *s, const u8 *data)
{
	u16 patch;

	if (s->state != SLOT_PATCHED)
		return s->size;
	memcpy(&patch, data + s->size - sizeof(patch), sizeof(patch));
	return patch + sizeof(patch) < s->size ? s->size - (u32)sizeof(patch) - patch : 0;
}

static int zram_decode_patched(struct zram *z, const struct zram_slot *s, const u8 *data, void *page)
{
	u32 len = compressed_size(s, data);
	int ret = len ? zcomp_decompress(z->zcomp, data, len, page) : -EIO;

	return ret ? ret : patch_apply(page, data + len, s->size - len - (u32)sizeof(u16));
}

/* The compressed page of an object, with another patch or none: in its place if there is room. */
static bool zram_set_patch(struct zram *z, u32 slot, u32 len, const u8 *patch, u16 patch_size)
{
	struct zram_slot old = zram_slot(z, slot), new = old;
	struct zs_handle handle = slot_handle(&old);
	u8 *data = zs_map(z->store, handle);

	new.state = patch_size ? SLOT_PATCHED : SLOT_COMPRESSED;
	new.size = (u16)(patch_size ? len + patch_size + sizeof(patch_size) : len);
	if (new.size > zs_room(z->store, handle)) {
		if (zs_alloc(z->store, new.size, &handle))
			return false;
		memcpy(zs_map(z->store, handle), data, len);
		data = zs_map(z->store, handle);
		new.word = handle.value;
	}
	if (patch_size) {
		memcpy(data + len, patch, patch_size);
		memcpy(data + len + patch_size, &patch_size, sizeof(patch_size));
	}
	new.checksum = checksum(data, new.size);
	zram_count(z, slot, &old, -1);
	if (new.word != old.word)
		zram_free_object(z, &old);
	zram_set(z, slot, &new);
	zram_count(z, slot, &new, 1);
	return true;
}

/*
 * What the page has changed since it was compressed, as patch_make(); or -EIO. What it is compared with is what any
 * reader would decompress: so the patch is right even for data that is damaged.
 */
static int zram_compare(struct zram *z, const u8 *data, u32 len, const void *page, u8 patch[static PATCH_MAX])
{
	struct zcomp_stream *stream = zcomp_stream_get(z->zcomp); /* for its memory */
	int ret = len ? zcomp_decompress(z->zcomp, data, len, stream->result) : -EIO;

	if (!ret)
		ret = patch_make(stream->result, page, patch);
	zcomp_stream_put(z->zcomp, stream);
	return ret;
}

/* Is the slot's data the page's now, at the price of a patch? */
static bool zram_patch(struct zram *z, u32 slot, const void *page)
{
	struct zram_slot s = zram_slot(z, slot);
	u8 patch[PATCH_MAX];
	const u8 *data;
	bool done;
	int size;
	u32 len;

	if (z->lower || !is_patchable(s.state))
		return false;
	data = zs_map(z->store, slot_handle(&s));
	len = compressed_size(&s, data);
	size = zram_compare(z, data, len, page, patch);
	done = (size == 0 && s.state == SLOT_COMPRESSED) ||
	       (size >= 0 && zram_set_patch(z, slot, len, patch, (u16)size));
	if (done) {
		swap_counter_add(&z->counters, slot, COUNT_PATCHED_WRITES, 1);
		score_up(&z->patch_score, 1);
	} else {
		score_down(&z->patch_score, 1);
	}
	return done;
}

static bool zram_patches(struct swap_device *dev, u32 slot)
{
	struct zram *z = zram_of(dev);

	return is_patchable(tag_state(atomic32_read(&zram_entry(z, slot)->tag))) &&
	       score_pays_or_tries(&z->patch_score, slot);
}

static int zram_store_slot(struct zram *z, u32 slot, const void *page, bool warm)
{
	struct zram_slot new;
	u64 element;

	if (zram_charge_entry(z, slot))
		return zram_fail_write(z, slot);
	if (page_is_same_filled(page, &element)) {
		new = (struct zram_slot){
			.word = element,
			.checksum = checksum(&element, sizeof(element)),
			.state = SLOT_SAME,
		};
	} else if (zram_patch(z, slot, page)) {
		return 0;
	} else if ((z->lower && lower_prepare(z->lower)) || zram_store_page(z, &new, page) != 0) {
		/* The old contents stay until the new ones are safe. */
		return zram_fail_write(z, slot);
	}
	zram_discard(&z->dev, slot);
	new.warm = warm;
	clock_stamp(z, slot, &new);
	zram_set(z, slot, &new);
	zram_count(z, slot, &new, 1);
	return 0;
}

static int zram_write(struct swap_device *dev, u32 slot, const void *page)
{
	return zram_store_slot(zram_of(dev), slot, page, false);
}

/* One by one, but that a page says how long it is to stay. */
static void zram_write_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		io[i].err = zram_store_slot(zram_of(dev), io[i].slot, io[i].page, io[i].warm);
}

/* The page of an object's bytes. */
static int zram_decode(struct zram *z, const struct zram_slot *s, const void *data, void *page)
{
	if (checksum(data, s->size) != s->checksum)
		return -EIO;
	if (s->state == SLOT_RAW || s->state == SLOT_LOWER_RAW) {
		memcpy(page, data, PAGE_SIZE);
		return 0;
	}
	if (s->state == SLOT_LOWER_HARDER)
		return recompress_decode(&z->recompress, data, s->size, page);
	if (s->state == SLOT_PATCHED)
		return zram_decode_patched(z, s, data, page);
	return zcomp_decompress(z->zcomp, data, s->size, page);
}

static int zram_load_below(struct zram *z, const struct zram_slot *s, void *page)
{
	struct lower_object object = slot_object(s);
	struct lower_loan *loan;
	const void *data;
	int ret = -EIO;

	(void)lower_borrow(z->lower, &object, 1, &loan);
	data = lower_data(loan, &object);
	if (data)
		ret = zram_decode(z, s, data, page);
	lower_return(loan);
	return ret;
}

static int zram_load(struct zram *z, const struct zram_slot *s, void *page)
{
	switch ((enum zram_slot_state)s->state) {
	case SLOT_EMPTY:
		return -EIO;
	case SLOT_SAME:
		if (checksum(&s->word, sizeof(s->word)) != s->checksum)
			return -EIO;
		page_fill(page, s->word);
		return 0;
	case SLOT_COMPRESSED:
	case SLOT_RAW:
	case SLOT_PATCHED:
		return zram_decode(z, s, zs_map(z->store, slot_handle(s)), page);
	case SLOT_LOWER:
	case SLOT_LOWER_RAW:
	case SLOT_LOWER_HARDER:
		return zram_load_below(z, s, page);
	}
	return -EIO;
}

static int zram_read(struct swap_device *dev, u32 slot, void *page)
{
	struct zram *z = zram_of(dev);
	struct zram_slot s = zram_slot(z, slot);
	int ret = zram_load(z, &s, page);

	if (ret)
		swap_counter_add(&z->counters, slot, COUNT_FAILED_READS, 1);
	clock_use(z, slot, &s);
	return ret;
}

/* ---- compaction ---- */

/* A look at so many slots is some hundred microseconds. A round that finds nothing has nothing more to move. */
enum { COMPACT_LOOKS = 65536, COMPACT_BEGIN_SHIFT = 4, COMPACT_END_SHIFT = 6, COMPACT_PAGES_MIN = 64 };

/* Begins where it would give a quarter of the store back, and ends where it is next to nothing. */
static bool compact_is_due(struct zram *z)
{
	u64 pages = zs_compactable_pages(z->store);
	struct zs_stats store;

	if (pages < COMPACT_PAGES_MIN) {
		z->compacting = false;
		return false;
	}
	zs_stats(z->store, &store);
	z->compacting = pages > store.nr_pages >> (z->compacting ? COMPACT_END_SHIFT : COMPACT_BEGIN_SHIFT);
	return z->compacting;
}

/* The objects' places are found by way of the slots: the store need not know whose its objects are. */
static u32 zram_sparse(struct swap_device *dev, u32 *slots, u32 nr)
{
	struct zram *z = zram_of(dev);
	u32 high = atomic32_read(&z->high_water), looks = high < COMPACT_LOOKS ? high : COMPACT_LOOKS, got = 0;

	zcomp_train(z->zcomp);
	if (!compact_is_due(z))
		return 0;
	for (; looks > 0 && got < nr; looks--) {
		u32 slot = z->compact_hand < high ? z->compact_hand : 0;

		z->compact_hand = slot + 1;
		/* Word and tag may be of two objects: then the word is one that the store refuses, or a wrong hint. */
		if (is_in_store(tag_state(atomic32_read(&zram_entry(z, slot)->tag))) &&
		    zs_is_sparse(z->store, (struct zs_handle){ atomic64_read(&zram_entry(z, slot)->word) }))
			slots[got++] = slot;
	}
	return got;
}

static u32 zram_compact(struct swap_device *dev, const u32 *slots, u32 nr, u32 *nr_pages)
{
	struct zram *z = zram_of(dev);
	u32 moved = 0;

	*nr_pages = 0;
	for (u32 i = 0; i < nr; i++) {
		struct zram_slot s = zram_slot(z, slots[i]);
		struct zs_handle old, new;

		if (!is_in_store(s.state))
			continue;
		old = slot_handle(&s);
		if (!zs_alloc_fuller(z->store, old, &new))
			continue;
		memcpy(zs_map(z->store, new), zs_map(z->store, old), s.size);
		s.word = new.value;
		zram_set(z, slots[i], &s);
		*nr_pages += zs_free(z->store, old);
		moved++;
	}
	return moved;
}

/* ---- the lower device ---- */

/* Objects below of a batch, in the order of its pages. */
struct below {
	struct lower_object object[SWAP_BATCH_MAX];
	u8 index[SWAP_BATCH_MAX];
	u32 nr;
};

static void zram_read_below(struct zram *z, struct swap_io *io, const struct below *b)
{
	for (u32 at = 0, nr; at < b->nr; at += nr) {
		struct lower_loan *loan;

		nr = lower_borrow(z->lower, &b->object[at], b->nr - at, &loan);
		for (u32 i = at; i < at + nr; i++) {
			struct swap_io *one = &io[b->index[i]];
			struct zram_slot s = zram_slot(z, one->slot);
			const void *data = lower_data(loan, &b->object[i]);

			one->err = data ? zram_decode(z, &s, data, one->page) : -EIO;
			if (one->err)
				swap_counter_add(&z->counters, one->slot, COUNT_FAILED_READS, 1);
		}
		lower_return(loan);
	}
}

/* What is below is read in few calls. */
static void zram_read_pages(struct swap_device *dev, struct swap_io *io, u32 nr)
{
	struct zram *z = zram_of(dev);
	struct below below;

	must(nr <= SWAP_BATCH_MAX);
	below.nr = 0;
	for (u32 i = 0; i < nr; i++) {
		struct zram_slot s = zram_slot(z, io[i].slot);

		if (!is_below(s.state)) {
			io[i].err = zram_read(dev, io[i].slot, io[i].page);
			continue;
		}
		below.object[below.nr] = slot_object(&s);
		below.index[below.nr++] = (u8)i;
	}
	zram_read_below(z, io, &below);
}

static bool zram_is_below(struct swap_device *dev, u32 slot)
{
	return is_below(tag_state(atomic32_read(&zram_entry(zram_of(dev), slot)->tag)));
}

/* Where little of a page below is live, and pages are short, it is packed again. */
static bool is_sparse(struct zram *z, u32 slot, u32 tag)
{
	struct lower_object object = { atomic64_read(&zram_entry(z, slot)->word), tag & 0x1fff };

	return is_below(tag_state(tag)) && (object.place >> PAGE_SHIFT) < lower_device(z->lower)->nr_slots &&
	       lower_is_sparse(z->lower, &object);
}

static u64 zram_hollow(struct swap_device *dev)
{
	struct zs_stats store;

	zs_stats(zram_of(dev)->store, &store);
	return store.nr_pages - min_u64(store.nr_pages, store.nr_table_pages + bytes_to_pages(store.object_bytes));
}

static u32 zram_coldest(struct swap_device *dev, u64 idle_ns, u32 *slots, u32 nr)
{
	struct zram *z = zram_of(dev);
	struct clock_ages ages = clock_coldest(&z->clock, idle_ns, nr);
	u32 high = atomic32_read(&z->high_water), now = atomic32_read(&z->clock.now), got = 0;
	bool is_short = lower_is_short(z->lower);

	if (ages.of[false] == CLOCK_TICKS && ages.of[true] == CLOCK_TICKS && !is_short &&
	    atomic32_read(&z->clock.nr_raw) < RAW_MIN)
		return 0;
	for (u32 looks = high; looks > 0 && got < nr; looks--) {
		u32 slot = z->hand < high ? z->hand : 0, tag = atomic32_read(&zram_entry(z, slot)->tag);

		z->hand = slot + 1;
		if (tag_state(tag) == SLOT_RAW || (is_short && is_sparse(z, slot, tag)) ||
		    (tag_state(tag) == SLOT_COMPRESSED &&
		     (now - (tag >> 16)) % CLOCK_TICKS >= ages.of[tag_is_warm(tag)]))
			slots[got++] = slot;
	}
	return got;
}

/* An object on its way down. */
struct packed {
	s64 position; /* in the batch, or -errno: there is no room, or it cannot be or need not be moved */
	struct zram_slot slot; /* as its entry is to be, but for the place */
};

/* From the store; smaller, if it can be made so. What is damaged goes as it is, for its reader to find. */
static s64 zram_pack_stored(struct zram *z, struct zram_slot *s, bool harder)
{
	const void *data = zs_map(z->store, slot_handle(s));
	u32 len = 0;

	if (harder && s->state == SLOT_COMPRESSED && checksum(data, s->size) == s->checksum)
		len = recompress(&z->recompress, z->zcomp, data, s->size);
	s->state = s->state == SLOT_RAW ? SLOT_LOWER_RAW : SLOT_LOWER;
	if (!len)
		return lower_pack(z->lower, data, s->size);
	s->state = SLOT_LOWER_HARDER;
	s->size = (u16)len;
	s->checksum = checksum(z->recompress.result, len);
	return lower_pack(z->lower, z->recompress.result, len);
}

static s64 zram_pack(struct zram *z, struct zram_slot *s, bool harder)
{
	struct lower_object object;
	struct lower_loan *loan;
	const void *data;
	s64 position = -EIO;

	if (is_in_store(s->state))
		return zram_pack_stored(z, s, harder);
	if (!is_below(s->state))
		return -ENOENT;
	object = slot_object(s);
	if (!lower_is_sparse(z->lower, &object))
		return -ENOENT;
	(void)lower_borrow(z->lower, &object, 1, &loan);
	data = lower_data(loan, &object);
	if (data)
		position = lower_pack(z->lower, data, s->size);
	lower_return(loan);
	return position;
}

/* The store's copy goes when the other has been written, and not before. */
static bool zram_moved(struct zram *z, u32 slot, const struct packed *packed)
{
	struct zram_slot old = zram_slot(z, slot), new = packed->slot;
	struct lower_object object = { .size = new.size };

	if (!lower_commit(z->lower, packed->position, &object))
		return false;
	new.word = object.place;
	zram_count(z, slot, &old, -1);
	zram_free_object(z, &old);
	zram_set(z, slot, &new);
	zram_count(z, slot, &new, 1);
	if (new.size < old.size)
		lower_count_saved(z->lower, old.size - new.size);
	return true;
}

static u32 zram_demote(struct swap_device *dev, const u32 *slots, u32 nr, bool urgent)
{
	struct zram *z = zram_of(dev);
	struct packed packed[SWAP_BATCH_MAX];
	bool is_full = false, harder = !urgent || z->recompress.always;
	u32 moved = 0;

	must(nr <= SWAP_BATCH_MAX);
	if (!atomic32_read(&z->high_water) || lower_prepare(z->lower) || !lower_begin(z->lower))
		return 0;
	/* Whole pages come first, each in one of its own. */
	for (int raw = 1; raw >= 0; raw--) {
		for (u32 i = 0; i < nr; i++) {
			struct zram_slot s = zram_slot(z, slots[i]);

			if ((s.size == PAGE_SIZE) != raw)
				continue;
			packed[i].slot = s;
			packed[i].position = zram_pack(z, &packed[i].slot, harder && !is_full);
			is_full |= packed[i].position == -ENOSPC;
		}
	}
	lower_write(z->lower);
	for (u32 i = 0; i < nr; i++)
		moved += packed[i].position >= 0 && zram_moved(z, slots[i], &packed[i]);
	lower_end(z->lower);
	/* What did not fit is next. */
	for (u32 i = 0; i < nr; i++) {
		if (packed[i].position == -ENOSPC) {
			z->hand = slots[i];
			break;
		}
	}
	return moved;
}

/* Of an entry that is being changed, word and tag may not belong together. */
static void zram_place(struct swap_device *dev, u32 slot, struct swap_place *place)
{
	struct zram_slot s = zram_slot(zram_of(dev), slot);
	struct lower_object object = { s.word, s.size };

	if (is_below(s.state))
		lower_place(zram_of(dev)->lower, &object, place);
}

static int zram_begin(struct swap_device *dev, bool forked, int *fds)
{
	return swap_device_begin(lower_device(zram_of(dev)->lower), forked, fds);
}

static int zram_fork_begin(struct swap_device *dev)
{
	return swap_device_fork_begin(lower_device(zram_of(dev)->lower));
}

static void zram_fork_parent(struct swap_device *dev, int pid)
{
	swap_device_fork_parent(lower_device(zram_of(dev)->lower), pid);
}

static int zram_fork_child(struct swap_device *dev)
{
	struct zram *z = zram_of(dev);

	lower_fork_child(z->lower);
	return swap_device_fork_child(lower_device(z->lower));
}

/* ---- life ---- */

static void zram_stats(struct swap_device *dev, struct swap_device_stats *stats)
{
	struct zram *z = zram_of(dev);
	struct zs_stats store;

	zs_stats(z->store, &store);
	swap_counters_report(&z->counters, stats);
	stats->mem_used_total =
		pages_to_bytes(store.nr_pages + atomic64_read(&z->account.nr_pages) + zcomp_nr_pages(z->zcomp));
	stats->mem_used_max =
		pages_to_bytes(store.nr_pages_max + atomic64_read(&z->account.nr_pages_max) + zcomp_nr_pages(z->zcomp));
	if (z->lower)
		lower_report(z->lower, stats);
}

static void zram_close(struct swap_device *dev)
{
	struct zram *z = zram_of(dev);

	if (z->lower)
		lower_close(z->lower);
	recompress_close(&z->recompress);
	if (z->store)
		zs_destroy(z->store);
	if (z->zcomp)
		zcomp_close(z->zcomp);
	slot_table_destroy(&z->table);
	page_account_uncharge(&z->account, atomic64_read(&z->account.nr_pages));
	os_unreserve(z, sizeof(*z));
}

static const struct swap_device_ops zram_ops = {
	.read = zram_read,
	.write = zram_write,
	.discard = zram_discard,
	.stats = zram_stats,
	.sparse = zram_sparse,
	.compact = zram_compact,
	.patches = zram_patches,
	.close = zram_close,
};

static const struct swap_device_ops zram_lower_ops = {
	.read = zram_read,
	.write = zram_write,
	.read_pages = zram_read_pages,
	.write_pages = zram_write_pages,
	.discard = zram_discard,
	.stats = zram_stats,
	.coldest = zram_coldest,
	.demote = zram_demote,
	.hollow = zram_hollow,
	.is_below = zram_is_below,
	.place = zram_place,
	.sparse = zram_sparse,
	.compact = zram_compact,
	.begin = zram_begin,
	.fork_begin = zram_fork_begin,
	.fork_parent = zram_fork_parent,
	.fork_child = zram_fork_child,
	.close = zram_close,
};

/* The last that can fail: the lower device is the caller's until then. */
static int zram_open_lower(struct zram *z, const struct swap_device_config *cfg)
{
	int ret;

	if (!cfg->lower)
		return 0;
	ret = recompress_open(&z->recompress, cfg->algo == ZCOMP_LZ4 ? cfg->recompress : SWITCH_OFF);
	if (ret)
		return ret;
	ret = lower_open(cfg->lower, &z->dev.memory, cfg->lower_counts, &z->lower);
	if (ret)
		return ret;
	z->dev.ops = &zram_lower_ops;
	z->dev.flags |= SWAP_DEMOTES;
	z->dev.flags &= ~(u32)SWAP_PATCHES;
	return 0;
}

static int zram_open(const struct swap_device_config *cfg, struct swap_device **out)
{
	struct zram *z;
	int ret;

	if (!zcomp_level_is_valid(cfg->algo, cfg->level))
		return -EINVAL;
	z = os_reserve(sizeof(*z));
	if (!z)
		return -ENOMEM;
	z->dev = (struct swap_device){
		.ops = &zram_ops,
		.name = zram_driver.name,
		.flags = SWAP_SYNCHRONOUS_IO | SWAP_DISCARD | SWAP_COMPACTS | SWAP_PATCHES,
		.nr_slots = (u32)(cfg->size >> PAGE_SHIFT),
	};
	z->account.memory = &z->dev.memory;
	atomic32_set(&z->patch_score, SCORE_MAX);
	ret = slot_table_init(&z->table, z->dev.nr_slots, sizeof(struct zram_entry), &z->account);
	if (!ret)
		ret = zcomp_open(cfg->algo, cfg->level, &z->zcomp);
	if (!ret)
		zcomp_set_memory(z->zcomp, &z->dev.memory);
	if (!ret)
		ret = zs_create(z->dev.nr_slots, &z->dev.memory, &z->store);
	if (!ret)
		ret = zram_open_lower(z, cfg);
	if (ret) {
		zram_close(&z->dev);
		return ret;
	}
	*out = &z->dev;
	return 0;
}

const struct swap_driver zram_driver = {
	.name = "zram",
	.help = "compressed memory: algo=lz4|zstd|zstd:dict, level=1..19, size=SIZE",
	.open = zram_open,
};

void zram_corrupt_for_test(struct swap_device *dev, u32 slot)
{
	struct zram *z = zram_of(dev);
	struct zram_slot s = zram_slot(z, slot);

	must(s.state != SLOT_EMPTY);
	if (is_in_store(s.state)) {
		((u8 *)zs_map(z->store, slot_handle(&s)))[s.size / 2] ^= 1;
		return;
	}
	if (s.state == SLOT_SAME)
		s.word ^= 1;
	else
		s.checksum ^= 1;
	zram_set(z, slot, &s);
}

u64 zram_metadata_bytes(struct swap_device *dev)
{
	struct zram *z = zram_of(dev);
	struct zs_stats store;

	zs_stats(z->store, &store);
	return swap_counter_sum(&z->counters, COUNT_PAGES) * sizeof(struct zram_entry) + store.metadata_bytes;
}

u64 zram_table_pages(struct swap_device *dev)
{
	struct zram *z = zram_of(dev);
	struct zs_stats store;

	zs_stats(z->store, &store);
	return atomic64_read(&z->account.nr_pages) + store.nr_table_pages;
}

bool zram_is_valid(struct swap_device *dev)
{
	return zs_is_valid(zram_of(dev)->store);
}

// SPDX-License-Identifier: MIT
/*
 * The states of a zspage, with the list that holds it in that state:
 *
 *                        take                take            take
 *   VACANT ------------------> partial 0 <----> partial 3 <----> full (on no list)
 *     ^  no memory behind it      |  ^   free             free
 *     |                           v  |
 *     +--- zs_trim: release --- EMPTY   still charged; when they hold EMPTY_PAGES_MAX pages, all go at once
 *
 * Objects are taken from the fullest partial list first, so that the thin zspages run empty. In a zspage, freed ones
 * come first; a new one is carved off behind the last, and the pages that it is the first to touch are charged then.
 * A zspage is opened only when no other of its class has a place, so at most one per class is partly carved.
 *
 * Compaction moves objects from sparse zspages to fuller ones, so that the sparse run empty. Who owns an object is not
 * known here: the pool's user finds those that should move, and moves them.
 *
 * Locks: pool->trim_lock, then one class->lock at a time. The charge hook is called under a class lock; memory is
 * released under trim_lock alone.
 */
#include "swap/zsmalloc.h"

#include <errno.h>

#include "base/assert.h"
#include "base/os.h"
#include "swap/pages.h"
#include "sync/lock.h"

enum {
	SIZE_STEP = 64, /* half of it is lost per object on average: 2 % of a typical one */
	NR_SIZES = (int)PAGE_SIZE / SIZE_STEP,
	ZSPAGE_PAGES_MAX = 8,
	TAIL_LOSS_MAX_PERCENT = 1, /* of a zspage; the shortest run that keeps to it is chosen */
	NR_PARTIAL = 4,
	SPARE_OBJECTS = 1024, /* a replacing write holds two objects for a moment */
	EMPTY_PAGES_MAX = 64, /* what one flush of all other CPUs' TLBs is spread over */
};

#define ARENA_BYTES_MAX ((u64)4 << 40)
#define ARENA_BYTES_MIN ((u64)64 << 20)

#define ZSPAGE_NONE 0xffffffffu /* ends a list */
#define ZSPAGE_FULL 0xfffffffeu /* on no list */
#define OBJ_NONE 0xffffu

/*
 * A class whose zspage is one object keeps only `next` per zspage, as it is full or empty and so never partial: the
 * other fields must not be touched there.
 */
struct zspage {
	u32 next; /* within the list of its state */
	u32 prev; /* partial lists only */
	u16 nr_used;
	u16 nr_carved; /* objects from here on were never used: reading them would touch their pages */
	u16 free; /* first of the freed objects below nr_carved; the chain runs through the objects themselves */
	u16 reserved;
};

_Static_assert(sizeof(struct zspage) == 16, "at most 8 bytes per object of half a page");
_Static_assert(ZSPAGE_PAGES_MAX * (int)PAGE_SIZE / SIZE_STEP < (int)OBJ_NONE, "object numbers fit 16 bits");

/* Everything below `lock` is written and read under it, except what zs_create() sets once. */
struct zs_class {
	char *base; /* set once, as the next five */
	char *zspages;
	u32 size;
	u32 nr_objs; /* per zspage */
	u32 nr_pages; /* per zspage */
	u32 nr_zspages_max;

	struct mutex lock;
	u32 nr_zspages; /* ever used: they have a state; those above have none and count as vacant */
	u32 nr_idle; /* of these, vacant and empty ones, and those on their way from empty to vacant */
	u32 partial[NR_PARTIAL]; /* list heads */
	u32 empty;
	u32 vacant;
	u64 nr_objects;
} __attribute__((aligned(64)));

struct zs_pool {
	struct page_account account;
	void *arena;
	size_t arena_bytes;
	void *descriptors;
	size_t descriptor_bytes;
	u32 nr_classes;
	u8 class_of_size[NR_SIZES + 1]; /* by size / SIZE_STEP, rounded up */
	struct zs_class classes[NR_SIZES];

	/* Pages of all empty zspages. Changed under the class lock, read by anyone: a stale value trims late. */
	struct atomic64 nr_empty_pages;
	struct mutex trim_lock; /* guards what follows */
	u32 trimmed[NR_SIZES]; /* zspages taken off their class's empty list, by class */
	struct page_batch batch;
};

/* A handle: class in bits 48..55, object in 32..47, zspage in 0..31. */
static struct zs_handle handle_make(u32 class, u32 zspage, u32 obj)
{
	return (struct zs_handle){ (u64)class << 48 | (u64)obj << 32 | zspage };
}

static u32 handle_class(struct zs_handle handle)
{
	return (u32)(handle.value >> 48);
}

static u32 handle_obj(struct zs_handle handle)
{
	return (u32)(handle.value >> 32) & 0xffff;
}

static u32 handle_zspage(struct zs_handle handle)
{
	return (u32)handle.value;
}

static size_t class_zspage_bytes(const struct zs_class *class)
{
	return (size_t)class->nr_pages << PAGE_SHIFT;
}

static size_t class_descriptor_bytes(const struct zs_class *class)
{
	return class->nr_objs == 1 ? sizeof(u32) : sizeof(struct zspage);
}

static struct zspage *class_zspage(const struct zs_class *class, u32 no)
{
	must(no < class->nr_zspages);
	return (void *)(class->zspages + no * class_descriptor_bytes(class));
}

static char *class_zspage_addr(const struct zs_class *class, u32 no)
{
	return class->base + no * class_zspage_bytes(class);
}

static u16 *class_free_link(const struct zs_class *class, u32 no, u32 obj)
{
	return (void *)(class_zspage_addr(class, no) + (size_t)obj * class->size);
}

/* Lists. Empty and vacant ones are stacks linked by `next`; partial ones lose members from their middle. */

static void stack_push_locked(struct zs_class *class, u32 *head, u32 no)
{
	must(mutex_is_locked(&class->lock));
	class_zspage(class, no)->next = *head;
	*head = no;
}

static u32 stack_pop_locked(struct zs_class *class, u32 *head)
{
	u32 no = *head;

	must(mutex_is_locked(&class->lock));
	if (no != ZSPAGE_NONE) {
		struct zspage *zspage = class_zspage(class, no);

		*head = zspage->next;
		zspage->next = ZSPAGE_FULL;
	}
	return no;
}

/* The list for a zspage with nr_used objects; NULL for an empty or full one. */
static u32 *class_partial_head(struct zs_class *class, u32 nr_used)
{
	if (nr_used == 0 || nr_used == class->nr_objs)
		return NULL;
	return &class->partial[nr_used * NR_PARTIAL / class->nr_objs];
}

static void partial_add_locked(struct zs_class *class, u32 *head, u32 no)
{
	struct zspage *zspage = class_zspage(class, no);

	zspage->next = *head;
	zspage->prev = ZSPAGE_NONE;
	if (*head != ZSPAGE_NONE)
		class_zspage(class, *head)->prev = no;
	*head = no;
}

static void partial_del_locked(struct zs_class *class, u32 *head, u32 no)
{
	struct zspage *zspage = class_zspage(class, no);

	if (zspage->next != ZSPAGE_NONE)
		class_zspage(class, zspage->next)->prev = zspage->prev;
	if (zspage->prev != ZSPAGE_NONE) {
		class_zspage(class, zspage->prev)->next = zspage->next;
	} else {
		must(*head == no);
		*head = zspage->next;
	}
	zspage->next = ZSPAGE_FULL;
}

static void zspage_set_used_locked(struct zs_class *class, u32 no, u32 nr_used)
{
	struct zspage *zspage = class_zspage(class, no);
	u32 *from = class_partial_head(class, zspage->nr_used);
	u32 *to = class_partial_head(class, nr_used);

	zspage->nr_used = (u16)nr_used;
	if (from == to)
		return;
	if (from)
		partial_del_locked(class, from, no);
	if (to)
		partial_add_locked(class, to, no);
}

/* Pages that n objects from the start of a zspage touch. */
static u32 class_pages_of(const struct zs_class *class, u32 nr_objs)
{
	return (u32)bytes_to_pages((u64)nr_objs * class->size);
}

/* What is charged for a zspage that is not vacant. */
static u32 class_zspage_pages(const struct zs_class *class, u32 no)
{
	return class->nr_objs == 1 ? class->nr_pages : class_pages_of(class, class_zspage(class, no)->nr_carved);
}

/* Pages that the next object of an open zspage is the first to touch. */
static u32 zspage_next_pages(const struct zs_class *class, u32 no)
{
	const struct zspage *zspage = class_zspage(class, no);

	if (class->nr_objs == 1 || zspage->free != OBJ_NONE)
		return 0;
	return class_pages_of(class, zspage->nr_carved + 1u) - class_pages_of(class, zspage->nr_carved);
}

/* A partial or empty zspage; unless may_charge, one whose next object needs no new page. Does not take it. */
static u32 class_find_locked(const struct zs_class *class, bool may_charge)
{
	for (int i = NR_PARTIAL - 1; i >= 0; i--) {
		u32 no = class->partial[i];

		/* Skips one at most, as all but one are carved up. */
		while (!may_charge && no != ZSPAGE_NONE && zspage_next_pages(class, no) > 0)
			no = class_zspage(class, no)->next;
		if (no != ZSPAGE_NONE)
			return no;
	}
	return class->empty;
}

/* Pages that the first nr_zspages descriptors lie on: each is charged with the first one, and stays. */
static u64 class_table_pages(const struct zs_class *class, u32 nr_zspages)
{
	return bytes_to_pages(nr_zspages * class_descriptor_bytes(class));
}

static int class_open_zspage_locked(struct zs_pool *pool, struct zs_class *class, u32 *no)
{
	bool is_new = class->vacant == ZSPAGE_NONE;
	u32 nr = class->nr_zspages;
	u64 nr_pages = class_pages_of(class, 1);
	int ret;

	if (is_new && nr == class->nr_zspages_max)
		return -ENOSPC;
	if (is_new)
		nr_pages += class_table_pages(class, nr + 1) - class_table_pages(class, nr);
	ret = page_account_charge(&pool->account, nr_pages);
	if (ret)
		return ret;
	if (!is_new) {
		*no = stack_pop_locked(class, &class->vacant);
		class->nr_idle--;
		return 0;
	}
	*no = class->nr_zspages++;
	class_zspage(class, *no)->next = ZSPAGE_FULL;
	if (class->nr_objs > 1)
		class_zspage(class, *no)->free = OBJ_NONE;
	return 0;
}

/* Finds or makes a zspage with a place whose pages are charged. */
static int class_get_zspage_locked(struct zs_pool *pool, struct zs_class *class, bool may_charge, u32 *no)
{
	u32 nr_pages;
	int ret;

	*no = class_find_locked(class, may_charge);
	if (*no == ZSPAGE_NONE)
		return may_charge ? class_open_zspage_locked(pool, class, no) : -ENOMEM;
	nr_pages = zspage_next_pages(class, *no);
	ret = nr_pages ? page_account_charge(&pool->account, nr_pages) : 0;
	if (!ret && *no == class->empty) {
		stack_pop_locked(class, &class->empty);
		class->nr_idle--;
		atomic64_fetch_sub(&pool->nr_empty_pages, class_zspage_pages(class, *no));
	}
	return ret;
}

static u32 zspage_take_object_locked(struct zs_class *class, u32 no)
{
	struct zspage *zspage = class_zspage(class, no);
	u32 obj;

	class->nr_objects++;
	if (class->nr_objs == 1)
		return 0;
	if (zspage->free != OBJ_NONE) {
		obj = zspage->free;
		zspage->free = *class_free_link(class, no, obj);
	} else {
		obj = zspage->nr_carved++;
	}
	must(obj < class->nr_objs);
	zspage_set_used_locked(class, no, zspage->nr_used + 1u);
	return obj;
}

/* Returns true if the zspage is empty now. */
static bool zspage_give_object_locked(struct zs_class *class, u32 no, u32 obj)
{
	struct zspage *zspage = class_zspage(class, no);

	must(class->nr_objects > 0);
	class->nr_objects--;
	if (class->nr_objs == 1) {
		must(zspage->next == ZSPAGE_FULL);
		return true;
	}
	must(obj < zspage->nr_carved);
	must(zspage->nr_used > 0);
	*class_free_link(class, no, obj) = zspage->free;
	zspage->free = (u16)obj;
	zspage_set_used_locked(class, no, zspage->nr_used - 1u);
	return zspage->nr_used == 0;
}

static int class_alloc(struct zs_pool *pool, u32 index, bool may_charge, struct zs_handle *handle)
{
	struct zs_class *class = &pool->classes[index];
	u32 no;
	int ret;

	mutex_lock(&class->lock);
	ret = class_get_zspage_locked(pool, class, may_charge, &no);
	if (!ret)
		*handle = handle_make(index, no, zspage_take_object_locked(class, no));
	mutex_unlock(&class->lock);
	return ret;
}

/* Takes the class's empty zspages off it and hands their pages to the batch; returns the first, linked by `next`. */
static u32 class_detach_empty(struct zs_pool *pool, struct zs_class *class)
{
	u32 first;

	mutex_lock(&class->lock);
	first = class->empty;
	class->empty = ZSPAGE_NONE;
	for (u32 no = first; no != ZSPAGE_NONE; no = class_zspage(class, no)->next) {
		u32 nr_pages = class_zspage_pages(class, no);

		page_batch_add(&pool->batch, class_zspage_addr(class, no), nr_pages);
		atomic64_fetch_sub(&pool->nr_empty_pages, nr_pages);
		if (class->nr_objs > 1) {
			class_zspage(class, no)->free = OBJ_NONE;
			class_zspage(class, no)->nr_carved = 0;
		}
	}
	mutex_unlock(&class->lock);
	return first;
}

static void class_attach_vacant(struct zs_class *class, u32 first)
{
	mutex_lock(&class->lock);
	while (first != ZSPAGE_NONE) {
		u32 next = class_zspage(class, first)->next;

		stack_push_locked(class, &class->vacant, first);
		first = next;
	}
	mutex_unlock(&class->lock);
}

/* Gives all empty zspages back. They are nobody's between leaving the empty list and entering the vacant one. */
static void zs_trim_locked(struct zs_pool *pool)
{
	must(mutex_is_locked(&pool->trim_lock));
	for (u32 i = 0; i < pool->nr_classes; i++)
		pool->trimmed[i] = class_detach_empty(pool, &pool->classes[i]);
	page_account_uncharge(&pool->account, page_batch_flush(&pool->batch));
	for (u32 i = 0; i < pool->nr_classes; i++) {
		if (pool->trimmed[i] != ZSPAGE_NONE)
			class_attach_vacant(&pool->classes[i], pool->trimmed[i]);
	}
}

/*
 * Whoever finds the lock taken leaves the work to its holder, who looks again after unlocking: the pages were added
 * before the lock was tried.
 */
static void zs_trim_if_needed(struct zs_pool *pool)
{
	while (atomic64_read(&pool->nr_empty_pages) > EMPTY_PAGES_MAX && mutex_trylock(&pool->trim_lock)) {
		zs_trim_locked(pool);
		mutex_unlock(&pool->trim_lock);
	}
}

void zs_trim(struct zs_pool *pool)
{
	mutex_lock(&pool->trim_lock);
	zs_trim_locked(pool);
	mutex_unlock(&pool->trim_lock);
}

int zs_alloc(struct zs_pool *pool, u32 size, struct zs_handle *handle)
{
	u32 index;
	int ret;

	must(size > 0);
	must(size <= PAGE_SIZE);
	index = pool->class_of_size[DIV_ROUND_UP(size, SIZE_STEP)];
	ret = class_alloc(pool, index, true, handle);
	if (!ret)
		return 0;
	/* No memory to be had: empty zspages of other classes may make room, or a larger place lies ready. */
	zs_trim(pool);
	ret = class_alloc(pool, index, true, handle);
	for (; ret && index < pool->nr_classes; index++) {
		int err = class_alloc(pool, index, ret == -ENOSPC, handle);

		ret = err ? ret : 0;
	}
	return ret;
}

static struct zs_class *zs_class_of(struct zs_pool *pool, struct zs_handle handle)
{
	must(handle_class(handle) < pool->nr_classes);
	return &pool->classes[handle_class(handle)];
}

u32 zs_free(struct zs_pool *pool, struct zs_handle handle)
{
	struct zs_class *class = zs_class_of(pool, handle);
	u32 no = handle_zspage(handle), emptied = 0;

	mutex_lock(&class->lock);
	if (zspage_give_object_locked(class, no, handle_obj(handle))) {
		stack_push_locked(class, &class->empty, no);
		class->nr_idle++;
		emptied = class_zspage_pages(class, no);
		atomic64_fetch_add(&pool->nr_empty_pages, emptied);
	}
	mutex_unlock(&class->lock);
	zs_trim_if_needed(pool);
	return emptied;
}

u32 zs_room(const struct zs_pool *pool, struct zs_handle handle)
{
	must(handle_class(handle) < pool->nr_classes);
	return pool->classes[handle_class(handle)].size;
}

void *zs_map(const struct zs_pool *pool, struct zs_handle handle)
{
	const struct zs_class *class;

	must(handle_class(handle) < pool->nr_classes);
	class = &pool->classes[handle_class(handle)];
	must(handle_zspage(handle) < class->nr_zspages_max);
	must(handle_obj(handle) < class->nr_objs);
	return class_zspage_addr(class, handle_zspage(handle)) + (size_t)handle_obj(handle) * class->size;
}

/*
 * Compaction. An object goes to a zspage that is at least as full as its own, so the sum of squares of what zspages
 * hold grows with each, and it ends: with at most one partial zspage in a class.
 */

/* Of a class's places in use or once used, those that are free; but for a partly carved zspage, which has none yet. */
static u64 class_nr_free_locked(const struct zs_class *class)
{
	return (u64)(class->nr_zspages - class->nr_idle) * class->nr_objs - class->nr_objects;
}

/* The zspage for an object of zspage `no` to move to, with a place that needs no new page; or none. */
static u32 class_find_fuller_locked(const struct zs_class *class, u32 no)
{
	u32 nr_used = class_zspage(class, no)->nr_used;

	for (int i = NR_PARTIAL - 1; i >= (int)(nr_used * NR_PARTIAL / class->nr_objs); i--) {
		u32 to = class->partial[i];

		/* Skips two at most, as all but one are carved up. */
		while (to != ZSPAGE_NONE && (to == no || zspage_next_pages(class, to) > 0))
			to = class_zspage(class, to)->next;
		if (to != ZSPAGE_NONE && class_zspage(class, to)->nr_used >= nr_used)
			return to;
	}
	return ZSPAGE_NONE;
}

static bool class_is_sparse_locked(const struct zs_class *class, u32 no)
{
	u32 nr_used;

	if (class->nr_objs == 1 || class_nr_free_locked(class) < class->nr_objs || no >= class->nr_zspages)
		return false;
	nr_used = class_zspage(class, no)->nr_used;
	return nr_used > 0 && nr_used < class->nr_objs && class_find_fuller_locked(class, no) != ZSPAGE_NONE;
}

bool zs_is_sparse(struct zs_pool *pool, struct zs_handle handle)
{
	struct zs_class *class;
	bool sparse;

	if (handle_class(handle) >= pool->nr_classes)
		return false;
	class = &pool->classes[handle_class(handle)];
	mutex_lock(&class->lock);
	sparse = class_is_sparse_locked(class, handle_zspage(handle));
	mutex_unlock(&class->lock);
	return sparse;
}

bool zs_alloc_fuller(struct zs_pool *pool, struct zs_handle handle, struct zs_handle *fuller)
{
	struct zs_class *class = zs_class_of(pool, handle);
	u32 no = handle_zspage(handle), to = ZSPAGE_NONE;

	mutex_lock(&class->lock);
	if (class_is_sparse_locked(class, no))
		to = class_find_fuller_locked(class, no);
	if (to != ZSPAGE_NONE)
		*fuller = handle_make(handle_class(handle), to, zspage_take_object_locked(class, to));
	mutex_unlock(&class->lock);
	return to != ZSPAGE_NONE;
}

u64 zs_compactable_pages(struct zs_pool *pool)
{
	u64 nr_pages = 0;

	for (u32 i = 0; i < pool->nr_classes; i++) {
		struct zs_class *class = &pool->classes[i];

		mutex_lock(&class->lock);
		nr_pages += class_nr_free_locked(class) / class->nr_objs * class->nr_pages;
		mutex_unlock(&class->lock);
	}
	return nr_pages;
}

/* Making and ending a pool */

/* The shortest run of pages whose tail loses little, else the one that loses least. */
static u32 best_zspage_pages(u32 size)
{
	u64 best_loss = UINT64_MAX; /* of one page, scaled */
	u32 best = 1;

	for (u32 nr_pages = 1; nr_pages <= ZSPAGE_PAGES_MAX; nr_pages++) {
		u64 bytes = pages_to_bytes(nr_pages);
		u64 loss = bytes % size * 1000 / nr_pages;

		if (loss < best_loss) {
			best_loss = loss;
			best = nr_pages;
		}
		if (loss * 100 <= TAIL_LOSS_MAX_PERCENT * 1000 * PAGE_SIZE)
			break;
	}
	return best;
}

/* Sizes that would fit as often into a run of the same length share a class, as big as it can be. */
static void zs_choose_classes(struct zs_pool *pool)
{
	for (u32 step = 1; step <= NR_SIZES; step++) {
		u32 size = step * SIZE_STEP;
		u32 nr_pages = best_zspage_pages(size);
		u32 nr_objs = (u32)(pages_to_bytes(nr_pages) / size);
		struct zs_class *last = pool->nr_classes ? &pool->classes[pool->nr_classes - 1] : NULL;

		if (!last || last->nr_pages != nr_pages || last->nr_objs != nr_objs)
			last = &pool->classes[pool->nr_classes++];
		last->size = size;
		last->nr_pages = nr_pages;
		last->nr_objs = nr_objs;
		pool->class_of_size[step] = (u8)(pool->nr_classes - 1);
	}
}

/* Sizes the stretches of arena and descriptors for nr_objects in every class. */
static void zs_measure(struct zs_pool *pool, u64 nr_objects)
{
	pool->arena_bytes = 0;
	pool->descriptor_bytes = 0;
	for (u32 i = 0; i < pool->nr_classes; i++) {
		struct zs_class *class = &pool->classes[i];

		class->nr_zspages_max = (u32)DIV_ROUND_UP(nr_objects, class->nr_objs);
		pool->arena_bytes += class->nr_zspages_max * class_zspage_bytes(class);
		pool->descriptor_bytes += ALIGN_UP(class->nr_zspages_max * class_descriptor_bytes(class), PAGE_SIZE);
	}
}

static void zs_lay_out(struct zs_pool *pool)
{
	char *arena = pool->arena;
	char *descriptors = pool->descriptors;

	for (u32 i = 0; i < pool->nr_classes; i++) {
		struct zs_class *class = &pool->classes[i];

		class->base = arena;
		class->zspages = descriptors;
		arena += class->nr_zspages_max * class_zspage_bytes(class);
		descriptors += ALIGN_UP(class->nr_zspages_max * class_descriptor_bytes(class), PAGE_SIZE);
		for (int p = 0; p < NR_PARTIAL; p++)
			class->partial[p] = ZSPAGE_NONE;
		class->empty = ZSPAGE_NONE;
		class->vacant = ZSPAGE_NONE;
	}
}

/* Any class may have to hold everything. Where that much address space is not to be had, a full class overflows. */
static bool zs_reserve_arena(struct zs_pool *pool, u64 nr_objects)
{
	for (; !pool->arena; nr_objects /= 2) {
		zs_measure(pool, nr_objects);
		if (pool->arena_bytes <= ARENA_BYTES_MAX)
			pool->arena = pages_reserve(pool->arena_bytes);
		if (!pool->arena && pool->arena_bytes < ARENA_BYTES_MIN)
			return false;
	}
	pool->descriptors = pages_reserve(pool->descriptor_bytes);
	return pool->descriptors;
}

int zs_create(u64 nr_objects, const struct swap_memory *memory, struct zs_pool **out)
{
	struct zs_pool *pool = pages_reserve(sizeof(*pool));

	must(nr_objects > 0);
	must(nr_objects <= ZSPAGE_FULL - SPARE_OBJECTS);
	if (!pool)
		return -ENOMEM;
	pool->account.memory = memory;
	zs_choose_classes(pool);
	if (!zs_reserve_arena(pool, nr_objects + SPARE_OBJECTS)) {
		zs_destroy(pool);
		return -ENOMEM;
	}
	zs_lay_out(pool);
	*out = pool;
	return 0;
}

void zs_destroy(struct zs_pool *pool)
{
	os_unreserve(pool->arena, pool->arena_bytes);
	os_unreserve(pool->descriptors, pool->descriptor_bytes);
	page_account_uncharge(&pool->account, atomic64_read(&pool->account.nr_pages));
	os_unreserve(pool, sizeof(*pool));
}

void zs_stats(struct zs_pool *pool, struct zs_stats *stats)
{
	*stats = (struct zs_stats){
		.nr_pages = atomic64_read(&pool->account.nr_pages),
		.nr_pages_max = atomic64_read(&pool->account.nr_pages_max),
	};
	for (u32 i = 0; i < pool->nr_classes; i++) {
		struct zs_class *class = &pool->classes[i];

		mutex_lock(&class->lock);
		stats->nr_table_pages += class_table_pages(class, class->nr_zspages);
		stats->nr_objects += class->nr_objects;
		stats->object_bytes += class->nr_objects * class->size;
		stats->metadata_bytes += class->nr_zspages * class_descriptor_bytes(class);
		mutex_unlock(&class->lock);
	}
}

/* The walker: what is true of every zspage while nothing runs. */

struct zs_walk {
	u64 nr_objects;
	u64 nr_zspages; /* seen on a list */
	u64 nr_idle;
	u64 nr_pages;
	u64 nr_empty_pages;
	u64 nr_partly_carved;
};

static bool free_chain_is_valid(const struct zs_class *class, u32 no)
{
	const struct zspage *zspage = class_zspage(class, no);
	u32 nr_free = 0;

	for (u32 obj = zspage->free; obj != OBJ_NONE; obj = *class_free_link(class, no, obj)) {
		if (obj >= zspage->nr_carved || ++nr_free > class->nr_objs)
			return false;
	}
	return zspage->nr_carved <= class->nr_objs && zspage->nr_used + nr_free == zspage->nr_carved;
}

static bool partial_is_valid(struct zs_class *class, u32 *head, struct zs_walk *walk)
{
	u32 prev = ZSPAGE_NONE;

	for (u32 no = *head; no != ZSPAGE_NONE; no = class_zspage(class, no)->next) {
		const struct zspage *zspage;

		if (no >= class->nr_zspages || ++walk->nr_zspages > class->nr_zspages)
			return false;
		zspage = class_zspage(class, no);
		if (zspage->prev != prev || class_partial_head(class, zspage->nr_used) != head)
			return false;
		if (!free_chain_is_valid(class, no))
			return false;
		walk->nr_objects += zspage->nr_used;
		walk->nr_pages += class_zspage_pages(class, no);
		walk->nr_partly_carved += zspage->nr_carved < class->nr_objs;
		prev = no;
	}
	return true;
}

static bool empty_is_valid(const struct zs_class *class, struct zs_walk *walk)
{
	for (u32 no = class->empty; no != ZSPAGE_NONE; no = class_zspage(class, no)->next) {
		const struct zspage *zspage;

		if (no >= class->nr_zspages || ++walk->nr_zspages > class->nr_zspages)
			return false;
		zspage = class_zspage(class, no);
		if (class->nr_objs > 1 && (zspage->nr_used || !zspage->nr_carved || !free_chain_is_valid(class, no)))
			return false;
		walk->nr_idle++;
		walk->nr_pages += class_zspage_pages(class, no);
		walk->nr_empty_pages += class_zspage_pages(class, no);
		walk->nr_partly_carved += class->nr_objs > 1 && zspage->nr_carved < class->nr_objs;
	}
	return true;
}

static bool vacant_is_valid(const struct zs_class *class, struct zs_walk *walk)
{
	for (u32 no = class->vacant; no != ZSPAGE_NONE; no = class_zspage(class, no)->next) {
		const struct zspage *zspage;

		if (no >= class->nr_zspages || ++walk->nr_zspages > class->nr_zspages)
			return false;
		zspage = class_zspage(class, no);
		if (class->nr_objs > 1 && (zspage->nr_used || zspage->nr_carved || zspage->free != OBJ_NONE))
			return false;
		walk->nr_idle++;
	}
	return true;
}

/* Those on no list must be full. */
static bool full_is_valid(const struct zs_class *class, struct zs_walk *walk)
{
	u64 nr_full = 0;

	for (u32 no = 0; no < class->nr_zspages; no++) {
		const struct zspage *zspage = class_zspage(class, no);

		if (zspage->next != ZSPAGE_FULL)
			continue;
		if (class->nr_objs > 1 && (zspage->nr_used != class->nr_objs || zspage->free != OBJ_NONE))
			return false;
		nr_full++;
		walk->nr_pages += class_zspage_pages(class, no);
	}
	walk->nr_objects += nr_full * class->nr_objs;
	return walk->nr_zspages + nr_full == class->nr_zspages;
}

static bool class_is_valid_locked(struct zs_class *class, struct zs_walk *walk)
{
	walk->nr_objects = 0;
	walk->nr_zspages = 0;
	walk->nr_idle = 0;
	walk->nr_partly_carved = 0;
	walk->nr_pages += class_table_pages(class, class->nr_zspages);
	for (int i = 0; i < NR_PARTIAL; i++) {
		if (!partial_is_valid(class, &class->partial[i], walk))
			return false;
	}
	return empty_is_valid(class, walk) && vacant_is_valid(class, walk) && full_is_valid(class, walk) &&
	       walk->nr_objects == class->nr_objects && walk->nr_idle == class->nr_idle && walk->nr_partly_carved <= 1;
}

bool zs_is_valid(struct zs_pool *pool)
{
	struct zs_walk walk = { 0 };

	for (u32 i = 0; i < pool->nr_classes; i++) {
		struct zs_class *class = &pool->classes[i];
		bool valid;

		mutex_lock(&class->lock);
		valid = class_is_valid_locked(class, &walk);
		mutex_unlock(&class->lock);
		if (!valid)
			return false;
	}
	return walk.nr_pages == atomic64_read(&pool->account.nr_pages) &&
	       walk.nr_empty_pages == atomic64_read(&pool->nr_empty_pages);
}

// SPDX-License-Identifier: MIT
#include "swap/space.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/print.h"
#include "base/process.h"
#include "base/syscall.h"
#include "swap/pages.h"
#include "sync/wait.h"

enum {
	MAGIC = 0x73706163,
	BITS = 64,
	ROW_ALIGN_WORDS = PAGE_SIZE / sizeof(u64),
	TAKE_PASSES = 4,
	ROOMY = SPACE_EXTENT / 4, /* free locations that make an extent worth returning to, rather than a new one */
	LOOK_MAX = 64, /* extents looked at for that */
	TIME_BITS = 27,
	TIME_SHIFT = 1,
	NAME_SHIFT = TIME_SHIFT + TIME_BITS,
	PENDING = 1, /* in a name: of a child that has not begun yet */
	TICK_NS = 10000000, /* of the time in a name */
	PENDING_TICKS = 1000, /* so long a forked child may take to begin, unless its parent has named its row */
};

#define REAP_NS 1000000000ull

_Static_assert(PROCESS_ID_BITS + TIME_BITS + 1 == 64, "process, time and kind are one word");
_Static_assert(sizeof(struct space_shared) % sizeof(u64) == 0, "the rows follow");

struct space_extent {
	u64 used[SPACE_EXTENT / BITS]; /* locations that this process uses */
	u16 nr;
	bool held; /* as our row says */
	bool ours; /* nobody else holds it: stays true until we fork */
};

/* ---- names ---- */

static u64 name_process(u64 name)
{
	return name >> NAME_SHIFT;
}

static u64 ticks_now(void)
{
	return sync_clock_ns() / TICK_NS & ((1u << TIME_BITS) - 1);
}

/* Of a row that is reserved for a child, or inherited from the dead: no two of them are alike. */
static u64 name_now(u64 process, u64 kind)
{
	return process << NAME_SHIFT | ticks_now() << TIME_SHIFT | kind;
}

/* A stopped or starved child loses its row rather late, a dead one never too early. */
static bool name_is_dead(u64 name)
{
	u64 age = (ticks_now() - (name >> TIME_SHIFT)) & ((1u << TIME_BITS) - 1);

	return name & PENDING ? age > PENDING_TICKS : process_is_dead(name_process(name));
}

/* ---- rows ---- */

static struct atomic64 *row_word(const struct space *space, u32 row, u32 word)
{
	return &space->shared->bits[(size_t)row * space->shared->words + word];
}

static u32 nr_rows(const struct space *space)
{
	return atomic32_load_acquire(&space->shared->nr_used);
}

/*
 * What rows other than these two hold of a word. Our own bits are set before (full barrier): of two that set the same
 * bit at least one sees the other's. A bit that moves to a child's row while we look is found by looking again.
 */
static u64 held_by_others(const struct space *space, u32 word, u32 row, u32 other)
{
	struct space_shared *s = space->shared;
	u32 moves;
	u64 held;

	do {
		moves = atomic32_load_acquire(&s->moves);
		held = 0;
		atomic_full_barrier(); /* our bits are set, and `moves` read, before we look; meets row_copy */
		for (u32 i = 0; i < nr_rows(space); i++) {
			if (i != row && i != other && atomic64_load_acquire(&s->name[i]))
				held |= atomic64_load_acquire(row_word(space, i, word));
		}
		atomic_full_barrier();
	} while (atomic32_load_acquire(&s->moves) != moves);
	return held;
}

static bool is_alone(const struct space *space, u32 extent)
{
	return !(held_by_others(space, extent / BITS, space->row, SPACE_ROWS_MAX) & (u64)1 << extent % BITS);
}

/* A free row by that name, without a bit set. SPACE_ROWS_MAX: there is none. */
static u32 row_claim(struct space *space, u64 name)
{
	struct space_shared *s = space->shared;

	for (u32 row = 0; row < SPACE_ROWS_MAX; row++) {
		u32 seen = nr_rows(space);
		u64 none = 0;

		/* Before the row is taken: who looks from then on looks at it. */
		while (seen <= row && !atomic32_cas_acquire(&s->nr_used, &seen, row + 1))
			;
		if (!atomic64_cas_acq_rel(&s->name[row], &none, name))
			continue;
		/* What its last owner left there counts as held until here, which does no harm. */
		for (u32 w = 0; w < s->words; w++) {
			if (atomic64_read(row_word(space, row, w)))
				atomic64_fetch_and(row_word(space, row, w), 0);
		}
		return row;
	}
	return SPACE_ROWS_MAX;
}

static void discard_run(struct space *space, u32 extent, u32 nr)
{
	u64 first = (u64)extent << SPACE_EXTENT_SHIFT;
	u64 end = min_u64(first + ((u64)nr << SPACE_EXTENT_SHIFT), space->shared->nr_locations);

	if (space->ops.discard)
		space->ops.discard(space->ops.ctx, (u32)first, (u32)(end - first));
}

/* Of a word's extents, while their bits are set in a row of ours and in no other. */
static void discard_word(struct space *space, u32 word, u64 bits)
{
	while (bits) {
		u32 first = (u32)__builtin_ctzll(bits), nr = 1;

		while (first + nr < BITS && bits >> (first + nr) & 1)
			nr++;
		discard_run(space, word * BITS + first, nr);
		bits &= nr == BITS ? 0 : ~((((u64)1 << nr) - 1) << first);
	}
}

/* Gives back all that a row of ours holds, and the row. `but`: another row that is ours and holds nothing of it. */
static void row_release(struct space *space, u32 row, u32 but)
{
	struct space_shared *s = space->shared;

	for (u32 w = 0; w < s->words; w++) {
		u64 bits = atomic64_read(row_word(space, row, w));

		if (!bits)
			continue;
		discard_word(space, w, bits & ~held_by_others(space, w, row, but));
		atomic64_fetch_and(row_word(space, row, w), 0);
	}
	atomic64_store_release(&s->name[row], 0);
}

/* Inherits the rows of the dead, now and then. True: there were some. */
static bool reap(struct space *space, bool now)
{
	struct space_shared *s = space->shared;
	u64 last = atomic64_read(&s->reaped_ns), clock = sync_clock_ns();
	bool any = false;

	if (!now && (clock - last < REAP_NS || !atomic64_cas_relaxed(&s->reaped_ns, &last, clock)))
		return false;
	if (!process_can_judge(space->self))
		return false;
	for (u32 row = 0; row < nr_rows(space); row++) {
		u64 name = atomic64_load_acquire(&s->name[row]);

		if (!name || !name_is_dead(name))
			continue;
		if (!atomic64_cas_acq_rel(&s->name[row], &name, name_now(space->self, 0)))
			continue;
		row_release(space, row, SPACE_ROWS_MAX);
		any = true;
	}
	return any;
}

/* What an earlier program of this process held has gone with its memory. */
static void forget_earlier(struct space *space)
{
	struct process self;

	process_read_self(&self);
	for (u32 row = 0; row < nr_rows(space); row++) {
		u64 name = atomic64_load_acquire(&space->shared->name[row]);

		if (name && !(name & PENDING) && process_is(name_process(name), &self))
			row_release(space, row, SPACE_ROWS_MAX);
	}
}

/* ---- extents ---- */

static u32 extent_size(const struct space *space, u32 extent)
{
	return (u32)min_u64(SPACE_EXTENT, space->shared->nr_locations - ((u64)extent << SPACE_EXTENT_SHIFT));
}

static u32 extent_room(const struct space *space, u32 extent)
{
	return extent_size(space, extent) - space->extents[extent].nr;
}

/* Sets the extent's bit in our row, if nobody else holds it. Context: lock held. */
static bool extent_try(struct space *space, u32 extent)
{
	struct atomic64 *word = row_word(space, space->row, extent / BITS);
	u64 bit = (u64)1 << extent % BITS;

	must(!(atomic64_fetch_or(word, bit) & bit));
	if (is_alone(space, extent))
		return true;
	atomic64_fetch_and(word, ~bit);
	return false;
}

/* The child's bit is there before ours can go: who has missed both sees `moves`. Meets held_by_others(). */
static void extent_share(struct space *space, u32 extent)
{
	atomic64_fetch_or(row_word(space, space->child_row, extent / BITS), (u64)1 << extent % BITS);
	atomic32_add_return(&space->shared->moves, 1);
	atomic_full_barrier();
}

static void extent_begin(struct space *space, u32 extent)
{
	struct space_extent *e = &space->extents[extent];

	must(!e->held && e->nr == 0);
	e->held = e->ours = true;
	/* On the way to a fork: the child has it as well. */
	if (space->child_row != SPACE_ROWS_MAX)
		extent_share(space, extent);
	space->current = extent;
	space->fresh = extent / BITS;
	if (space->high_water <= extent)
		space->high_water = extent + 1;
}

/* Takes an extent that nobody holds, from where it last took one on. Context: lock held. */
static bool take_fresh(struct space *space)
{
	u32 words = DIV_ROUND_UP(space->shared->nr_extents, BITS);

	for (u32 i = 0; i < words * TAKE_PASSES; i++) {
		u32 w = (space->fresh + i) % words;
		u64 held = held_by_others(space, w, SPACE_ROWS_MAX, SPACE_ROWS_MAX);

		if (w == words - 1 && space->shared->nr_extents % BITS)
			held |= ~(u64)0 << space->shared->nr_extents % BITS;
		for (u64 free = ~held; free; free &= free - 1) {
			u32 extent = w * BITS + (u32)__builtin_ctzll(free);

			/* Another was as quick: elsewhere there is less of a crowd. */
			if (!extent_try(space, extent))
				break;
			extent_begin(space, extent);
			return true;
		}
	}
	return false;
}

/* Returns to an extent of ours with at least so much room, among the next `nr`. Context: lock held. */
static bool take_again(struct space *space, u32 room, u32 nr)
{
	for (u32 i = 0; i < nr && i < space->high_water; i++) {
		u32 extent = space->hand++ % space->high_water;
		struct space_extent *e = &space->extents[extent];

		if (!e->held || extent_room(space, extent) < room)
			continue;
		if (!e->ours)
			e->ours = is_alone(space, extent);
		if (!e->ours)
			continue;
		space->current = extent;
		return true;
	}
	return false;
}

/* A row for the child of a fork that is under way. */
static bool claim_child_row(struct space *space)
{
	space->child_name = name_now(space->self, PENDING);
	space->child_row = row_claim(space, space->child_name);
	return space->child_row != SPACE_ROWS_MAX;
}

int space_enter(struct space *space)
{
	space->row = row_claim(space, space->self << NAME_SHIFT);
	return space->row == SPACE_ROWS_MAX ? -EAGAIN : 0;
}

/* As in extent_share(): our bit is there before that of who has it can go. */
void space_hold(struct space *space, u32 location)
{
	u32 extent = location >> SPACE_EXTENT_SHIFT;

	must(space->row != SPACE_ROWS_MAX && extent < space->shared->nr_extents);
	atomic64_fetch_or(row_word(space, space->row, extent / BITS), (u64)1 << extent % BITS);
	atomic32_add_return(&space->shared->moves, 1);
	atomic_full_barrier();
}

/* Context: lock held. */
static bool next_extent(struct space *space)
{
	if (space->forking && space->child_row == SPACE_ROWS_MAX && !claim_child_row(space))
		return false;
	if (space->row == SPACE_ROWS_MAX) {
		if (space_enter(space))
			return false;
		/* Others begin elsewhere, so that neighbouring extents are one process's. */
		space->fresh = space->row % DIV_ROUND_UP(space->shared->nr_extents, BITS);
	}
	return take_again(space, ROOMY, LOOK_MAX) || take_fresh(space) || take_again(space, 1, UINT32_MAX);
}

/* Gives a held extent without locations back. Context: no lock; nobody else of this process has it in hand. */
static void extent_give(struct space *space, u32 extent)
{
	struct atomic64 *word = row_word(space, space->row, extent / BITS);
	u64 bit = (u64)1 << extent % BITS;
	bool alone = is_alone(space, extent);

	if (alone)
		discard_run(space, extent, 1);
	atomic64_fetch_and(word, ~bit);
	atomic_full_barrier(); /* gone, before we look who is left: of two that go at once the later finds nobody */
	if (alone || !is_alone(space, extent))
		return;
	mutex_lock(&space->lock);
	alone = !space->extents[extent].held && !(atomic64_read(word) & bit) && extent_try(space, extent);
	mutex_unlock(&space->lock);
	if (!alone)
		return;
	discard_run(space, extent, 1);
	atomic64_fetch_and(word, ~bit);
}

/* ---- locations ---- */

/* The next free location of the current extent, upwards. UINT32_MAX: it has none. */
static u32 take_one(struct space *space)
{
	struct space_extent *e = &space->extents[space->current];
	u32 size = extent_size(space, space->current);

	for (u32 w = 0; w * BITS < size; w++) {
		u64 free = ~e->used[w];
		u32 at;

		if (!free)
			continue;
		at = w * BITS + (u32)__builtin_ctzll(free);
		if (at >= size)
			break;
		e->used[w] |= free & -free;
		e->nr++;
		return (space->current << SPACE_EXTENT_SHIFT) + at;
	}
	return UINT32_MAX;
}

static u32 take_locked(struct space *space, u32 *locations, u32 nr)
{
	u32 got = 0;

	while (got < nr) {
		u32 at = UINT32_MAX;

		if (space->current < space->shared->nr_extents)
			at = take_one(space);
		if (at == UINT32_MAX && !next_extent(space))
			break;
		if (at != UINT32_MAX)
			locations[got++] = at;
	}
	return got;
}

u32 space_take(struct space *space, u32 *locations, u32 nr)
{
	u32 got, before;

	mutex_lock(&space->lock);
	before = space->current;
	got = take_locked(space, locations, nr);
	before ^= space->current;
	mutex_unlock(&space->lock);
	if (before)
		reap(space, false);
	if (got || !reap(space, true))
		return got;
	mutex_lock(&space->lock);
	got = take_locked(space, locations, nr);
	mutex_unlock(&space->lock);
	return got;
}

void space_give(struct space *space, u32 location)
{
	u32 extent = location >> SPACE_EXTENT_SHIFT, at = location % SPACE_EXTENT;
	struct space_extent *e = &space->extents[extent];
	bool empty;

	mutex_lock(&space->lock);
	must(e->held && (e->used[at / BITS] & (u64)1 << at % BITS));
	e->used[at / BITS] &= ~((u64)1 << at % BITS);
	empty = --e->nr == 0 && extent != space->current;
	if (empty)
		e->held = e->ours = false;
	mutex_unlock(&space->lock);
	if (empty)
		extent_give(space, extent);
}

bool space_is_ours(struct space *space, u32 location)
{
	struct space_extent *e = &space->extents[location >> SPACE_EXTENT_SHIFT];
	bool ours;

	mutex_lock(&space->lock);
	ours = e->held && (e->ours || is_alone(space, location >> SPACE_EXTENT_SHIFT));
	mutex_unlock(&space->lock);
	return ours;
}

/* ---- fork ---- */

/*
 * From here on nobody takes locations of what is held, on neither side, until it is alone again. True: something is.
 */
static bool share_extents(struct space *space)
{
	bool any = false;

	space->current = space->shared->nr_extents;
	for (u32 i = 0; i < space->high_water; i++) {
		struct space_extent *e = &space->extents[i];

		if (e->ours)
			e->ours = false;
		if (e->held && !e->nr) {
			e->held = false;
			extent_give(space, i);
		}
		any |= e->held;
	}
	return any;
}

static void row_copy(struct space *space, u32 to)
{
	for (u32 w = 0; w < space->shared->words; w++) {
		u64 bits = atomic64_read(row_word(space, space->row, w));

		if (bits)
			atomic64_fetch_or(row_word(space, to, w), bits);
	}
	/* As in extent_share(). */
	atomic32_add_return(&space->shared->moves, 1);
	atomic_full_barrier();
}

int space_fork_begin(struct space *space)
{
	space->forking = true;
	if (space->row == SPACE_ROWS_MAX || !share_extents(space))
		return 0;
	reap(space, false);
	if (!claim_child_row(space) && !(reap(space, true) && claim_child_row(space))) {
		space->forking = false;
		return -EAGAIN;
	}
	row_copy(space, space->child_row);
	return 0;
}

void space_fork_parent(struct space *space, int pid)
{
	struct space_shared *s = space->shared;
	u64 name = space->child_name;
	u32 row = space->child_row;
	struct process child;
	char text[12];

	space->child_row = SPACE_ROWS_MAX;
	space->forking = false;
	if (row == SPACE_ROWS_MAX)
		return;
	share_extents(space);
	if (pid == 0)
		return;
	if (pid < 0) {
		if (atomic64_cas_acq_rel(&s->name[row], &name, name_now(space->self, 0)))
			row_release(space, row, SPACE_ROWS_MAX);
		return;
	}
	/* The child may have done so itself, and may have ended since. */
	print_to(text, sizeof(text), "%d", pid);
	if (!process_read(text, &child))
		(void)!atomic64_cas_acq_rel(&s->name[row], &name, process_id(&child) << NAME_SHIFT);
}

/* What the parent gave back on its way to the fork, after the copy. */
static void row_trim(struct space *space)
{
	for (u32 w = 0; w < space->shared->words; w++) {
		u64 bits = atomic64_read(row_word(space, space->row, w)), held = 0;

		for (u64 left = bits; left; left &= left - 1) {
			u32 bit = (u32)__builtin_ctzll(left);

			held |= (u64)space->extents[w * BITS + bit].held << bit;
		}
		if (bits != held)
			atomic64_fetch_and(row_word(space, space->row, w), held);
	}
}

int space_fork_child(struct space *space)
{
	u64 name = space->child_name, mine;
	struct process self;

	process_read_self(&self);
	space->self = process_id(&self);
	space->lock = (struct mutex){ 0 };
	mine = space->self << NAME_SHIFT;
	space->row = space->child_row;
	space->child_row = SPACE_ROWS_MAX;
	space->forking = false;
	if (space->row == SPACE_ROWS_MAX)
		return 0;
	if (!atomic64_cas_acq_rel(&space->shared->name[space->row], &name, mine) &&
	    (name & PENDING || !process_is(name_process(name), &self)))
		return -ESTALE;
	share_extents(space);
	row_trim(space);
	return 0;
}

/* ---- life ---- */

static u32 row_words(u32 nr)
{
	u32 extents = (u32)DIV_ROUND_UP((u64)nr, SPACE_EXTENT);

	return ALIGN_UP(DIV_ROUND_UP(extents, BITS), (u32)ROW_ALIGN_WORDS);
}

static size_t shared_bytes(u32 nr)
{
	return ALIGN_UP(sizeof(struct space_shared) + (size_t)SPACE_ROWS_MAX * row_words(nr) * sizeof(u64), PAGE_SIZE);
}

static struct space_shared *map_shared(long fd, size_t bytes, int *err)
{
	long flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED;
	long addr = sys6(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	*err = (unsigned long)addr > -4096ul ? (int)addr : 0;
	if (*err)
		return NULL;
	sys3(SYS_madvise, addr, bytes, MADV_DONTDUMP);
	return (struct space_shared *)addr;
}

static void shared_init(struct space_shared *s, u32 nr)
{
	s->nr_locations = nr;
	s->nr_extents = (u32)DIV_ROUND_UP((u64)nr, SPACE_EXTENT);
	s->words = row_words(nr);
	s->magic = MAGIC;
}

int space_create(u32 nr, int *fd)
{
	size_t bytes = shared_bytes(nr);
	struct space_shared *s;
	int err;

	*fd = os_shared_create("weir-space", bytes);
	if (*fd < 0)
		return *fd;
	s = map_shared(*fd, bytes, &err);
	if (s) {
		shared_init(s, nr);
		sys2(SYS_munmap, s, bytes);
	} else {
		sys1(SYS_close, *fd);
	}
	return err;
}

static int open_shared(struct space *space, u32 nr, const char *path)
{
	long fd = sys4(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return (int)fd;
	err = sys3(SYS_lseek, fd, 0, SEEK_END) == (long)space->shared_bytes ? 0 : -EINVAL;
	if (!err)
		space->shared = map_shared(fd, space->shared_bytes, &err);
	sys1(SYS_close, fd);
	if (!err && (space->shared->magic != MAGIC || space->shared->nr_locations != nr))
		err = -EINVAL;
	return err;
}

int space_open(struct space *space, u32 nr, const char *path, const struct space_ops *ops)
{
	int err = 0;

	must(nr > 0 && nr < UINT32_MAX);
	*space = (struct space){
		.shared_bytes = shared_bytes(nr), .ops = *ops, .row = SPACE_ROWS_MAX, .child_row = SPACE_ROWS_MAX
	};
	if (path)
		err = open_shared(space, nr, path);
	else
		space->shared = map_shared(-1, space->shared_bytes, &err);
	if (!err && !path)
		shared_init(space->shared, nr);
	if (!err) {
		space->current = space->shared->nr_extents;
		space->extents = pages_reserve(space->shared->nr_extents * sizeof(*space->extents));
		err = space->extents ? 0 : -ENOMEM;
	}
	if (err) {
		space_close(space);
		return err;
	}
	space_begin(space);
	forget_earlier(space);
	return 0;
}

void space_begin(struct space *space)
{
	struct process self;

	must(space->row == SPACE_ROWS_MAX);
	process_read_self(&self);
	space->self = process_id(&self);
}

void space_close(struct space *space)
{
	struct space_shared *s = space->shared;

	if (s && space->row != SPACE_ROWS_MAX)
		row_release(space, space->row, SPACE_ROWS_MAX);
	if (space->extents)
		os_unreserve(space->extents, s->nr_extents * sizeof(*space->extents));
	if (s)
		sys2(SYS_munmap, s, space->shared_bytes);
	space->shared = NULL;
	space->extents = NULL;
	space->row = SPACE_ROWS_MAX;
}

bool space_is_shared(struct space *space)
{
	reap(space, true);
	for (u32 w = 0; w < space->shared->words; w++) {
		if (held_by_others(space, w, space->row, SPACE_ROWS_MAX))
			return true;
	}
	return false;
}

u32 space_nr_held(const struct space *space)
{
	u32 nr = 0;

	for (u32 w = 0; w < space->shared->words; w++)
		nr += (u32)__builtin_popcountll(held_by_others(space, w, SPACE_ROWS_MAX, SPACE_ROWS_MAX));
	return nr;
}

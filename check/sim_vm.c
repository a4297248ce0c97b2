// SPDX-License-Identifier: MIT
/*
 * The second seam, simulated: each call is one step. The real calls work page by page; that matters to nobody, as each
 * page's PTE lock is held, except while pages are read: that is one step a page.
 */
#include <errno.h>
#include <string.h>

#include "trace.h"
#include "world.h"

static const u8 zeros[VM_ZERO_PAGES][PAGE_SIZE];

int vm_open(struct vm *vm, const struct vm_config *cfg)
{
	*vm = (struct vm){
		.window = 1 << 20,
		.nr_pages = cfg->nr_pages,
		.nr_steal_frames = cfg->nr_steal_frames,
		.nr_frames = cfg->nr_steal_frames + cfg->nr_plain_frames,
		.zeros = zeros,
		.method = cfg->method,
		.uffd = -1,
		.pagemap = -1,
	};
	must(cfg->nr_pages <= WORLD_PAGES && vm->nr_frames <= WORLD_FRAMES_MAX);
	return 0;
}

void vm_close(struct vm *vm)
{
	vm->registered = false;
}

int vm_register(struct vm *vm)
{
	vm->registered = true;
	if (vm->method == VM_METHOD_AUTO)
		vm->method = VM_METHOD_MOVE;
	return 0;
}

int vm_manage(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	for (u32 i = 0; i < nr; i++)
		world->page[vpn.val + i].unmanaged = false;
	return 0;
}

int vm_restore(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	return 0;
}

/*
 * Begins a step on a run of pages, and on as many frames that they are copied from (`write_frames` not set) or to.
 * No device may be at work on a frame that is written, or write one that is read.
 */
static void step_begin(vpn_t vpn, u32 nr, bool write, const struct content *frame, bool write_frames)
{
	struct sched_use uses[2 * WORLD_PAGES];
	bool is_frame = world_is_frame(frame);
	u32 used = 0;

	must(vpn.val + nr <= WORLD_PAGES);
	if (!sched_running())
		return;
	for (u32 i = 0; i < nr; i++)
		uses[used++] = (struct sched_use){ .obj = sched_object_of(&world->page[vpn.val + i]), .write = write };
	for (u32 i = 0; i < nr && is_frame; i++)
		uses[used++] = (struct sched_use){ .obj = sched_object_of(frame + i), .write = write_frames };
	sched_op_many(uses, used);
	for (u32 i = 0; i < nr && is_frame; i++)
		world_frame_check((u32)(frame + i - world->frame), write_frames);
}

static void pages_begin(vpn_t vpn, u32 nr, bool write)
{
	step_begin(vpn, nr, write, NULL, false);
}

static void page_changed(u32 vpn)
{
	if (sched_running())
		sched_changed(sched_object_of(&world->page[vpn]));
}

long vm_install(struct vm *vm, vpn_t vpn, const void *src, u32 nr, bool protect)
{
	long done = 0;

	must(nr > 0 && nr <= VM_RUN_MAX && vpn.val + nr <= vm->nr_pages);
	step_begin(vpn, nr, true, src, false);
	for (; done < (long)nr; done++) {
		struct sim_page *page = &world->page[vpn.val + done];

		if (page->present)
			break;
		page->data = world_is_frame(src) ? ((const struct content *)src)[done] : *(const struct content *)src;
		page->present = true;
		page->protect = protect;
		page_changed(vpn.val + (u32)done);
		trace_page(protect ? "install protected" : "install", vpn.val + (u32)done, &page->data);
	}
	return done ? done : -EEXIST;
}

static void take_page(u32 vpn, u32 frame)
{
	struct sim_page *page = &world->page[vpn];

	must(!world->frame_full[frame]);
	world->frame[frame] = page->data;
	world->frame_full[frame] = true;
}

static void drop_page(u32 vpn)
{
	struct sim_page *page = &world->page[vpn];

	page->present = page->protect = false;
	memset(&page->data, 0, sizeof(page->data));
	page_changed(vpn);
}

long vm_steal(struct vm *vm, vpn_t vpn, frame_t frame, u32 nr)
{
	long done = 0;

	must(vm->method == VM_METHOD_MOVE);
	must(nr > 0 && vpn.val + nr <= vm->nr_pages && frame.val + nr <= vm->nr_steal_frames);
	step_begin(vpn, nr, true, &world->frame[frame.val], true);
	for (; done < (long)nr && world->page[vpn.val + done].present; done++) {
		trace_page("move out", vpn.val + (u32)done, &world->page[vpn.val + done].data);
		take_page(vpn.val + (u32)done, frame.val + (u32)done);
		drop_page(vpn.val + (u32)done);
	}
	return done ? done : -ENOENT;
}

/* Faults are not by thread here. */
long vm_steal_unwritable(struct vm *vm, vpn_t vpn, frame_t frame, unsigned int prot)
{
	(void)vm, (void)vpn, (void)frame, (void)prot;
	must(false);
	return -EBUSY;
}

u32 vm_read_pages(struct vm *vm, const vpn_t *vpns, frame_t frame, u32 nr)
{
	must(nr > 0 && frame.val >= vm->nr_steal_frames && frame.val + nr <= vm->nr_frames);
	for (u32 i = 0; i < nr; i++) {
		const struct sim_page *page = &world->page[vpns[i].val];

		step_begin(vpns[i], 1, false, &world->frame[frame.val + i], true);
		if (!page->present || !page->rights)
			return i;
		world->frame[frame.val + i] = page->data;
		trace_page("copy out", vpns[i].val, &page->data);
	}
	return nr;
}

int vm_unprotect(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	pages_begin(vpn, nr, true);
	for (u32 i = 0; i < nr; i++) {
		struct sim_page *page = &world->page[vpn.val + i];

		if (page->present && page->protect) {
			page->protect = false;
			page_changed(vpn.val + i);
			trace_page("unprotect", vpn.val + i, &page->data);
		}
	}
	return 0;
}

int vm_protect(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	pages_begin(vpn, nr, true);
	for (u32 i = 0; i < nr; i++) {
		struct sim_page *page = &world->page[vpn.val + i];

		if (page->unmanaged)
			return -ENOENT;
		if (page->present && !page->protect) {
			page->protect = true;
			page_changed(vpn.val + i);
			trace_page("write-protect", vpn.val + i, &page->data);
		}
	}
	return 0;
}

int vm_fork_child(struct vm *vm)
{
	must(vm->registered && !sched_running());
	return 0;
}

void vm_zap(struct vm *vm, vpn_t vpn, u32 nr)
{
	must(vpn.val + nr <= vm->nr_pages);
	pages_begin(vpn, nr, true);
	for (u32 i = 0; i < nr; i++) {
		trace_page("drop", vpn.val + i, &world->page[vpn.val + i].data);
		if (world->page[vpn.val + i].present)
			drop_page(vpn.val + i);
	}
}

void vm_zap_pages(struct vm *vm, const vpn_t *vpns, u32 nr)
{
	for (u32 i = 0; i < nr; i++)
		vm_zap(vm, vpns[i], 1);
}

void vm_zap_frames(struct vm *vm, frame_t frame, u32 nr)
{
	must(frame.val + nr <= vm->nr_frames);
	for (u32 i = frame.val; i < frame.val + nr; i++) {
		if (sched_running())
			sched_op(sched_object_of(&world->frame[i]), true);
		world_frame_check(i, true);
		world->frame_full[i] = false;
		world->frame[i] = (struct content){ { GARBAGE, GARBAGE } };
	}
}

void *vm_frame_data(const struct vm *vm, frame_t frame)
{
	must(frame.val < vm->nr_frames);
	return &world->frame[frame.val];
}

int vm_protect_range(struct vm *vm, vpn_t vpn, u32 nr, unsigned int prot)
{
	must(vpn.val + nr <= vm->nr_pages);
	pages_begin(vpn, nr, true);
	for (u32 i = 0; i < nr; i++) {
		if (world->page[vpn.val + i].rights != prot)
			page_changed(vpn.val + i);
		world->page[vpn.val + i].rights = (u8)prot;
	}
	return 0;
}

/* mremap, mlock and fork have no scenario: nothing of them is simulated. */
int vm_lock_range(struct vm *vm, vpn_t vpn, u32 nr, bool lock)
{
	must(vpn.val + nr <= vm->nr_pages && lock);
	return -ENOSYS;
}

int vm_move(struct vm *vm, vpn_t from, vpn_t to)
{
	must(from.val < vm->nr_pages && to.val < vm->nr_pages);
	return -ENOSYS;
}

int vm_remap(struct vm *vm, vpn_t from, vpn_t to, u32 nr)
{
	must(from.val + nr <= vm->nr_pages && to.val + nr <= vm->nr_pages);
	return -ENOSYS;
}

int vm_resident(struct vm *vm, vpn_t vpn, u32 nr, u8 *present)
{
	must(vpn.val + nr <= vm->nr_pages && nr <= VM_RESIDENT_MAX);
	pages_begin(vpn, nr, false);
	for (u32 i = 0; i < nr; i++)
		present[i] = world->page[vpn.val + i].present;
	return 0;
}

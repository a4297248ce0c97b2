// SPDX-License-Identifier: MIT
#include "trace.h"

#include <inttypes.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mm/pte.h"
#include "mm/swap_table.h"

enum { TEXT_CHARS = 64, LOCATION_CHARS = 40, COLUMN_MIN = 26, SITES_MAX = 4096 };

/* ---- words ---- */

static u32 entry_number(u64 pte)
{
	swp_entry_t entry = pte_to_swp_entry(pte);

	return swp_offset(entry) + 10 * swp_type(entry);
}

static void pte_text(u64 pte, char text[TEXT_CHARS])
{
	if (pte_is_swap(pte))
		snprintf(text, TEXT_CHARS, "swap %u", entry_number(pte));
	else if (pte_has_entry(pte))
		snprintf(text, TEXT_CHARS, "%s, slot %u", pte_is_clean(pte) ? "clean" : "stale", entry_number(pte));
	else
		snprintf(text, TEXT_CHARS, "%s", pte_is_present(pte) ? "present" : "none");
}

static void trace_pte_change(u32 n, u64 old, u64 new)
{
	char from[TEXT_CHARS], to[TEXT_CHARS];

	pte_text(old, from);
	pte_text(new, to);
	if (!pte_same(old, new))
		sched_note(false, "PTE %u: %s -> %s", n, from, to);
	else if ((new & ~old) & PTE_LOCKED)
		sched_note(true, "lock PTE %u (%s)", n, to);
	else if ((old & ~new) & PTE_LOCKED)
		sched_note(true, "unlock PTE %u (%s)", n, to);
	else if ((old ^ new) & PTE_HOLD_MASK)
		sched_note(false, "PTE %u: %s", n, new > old ? "hold" : "release hold");
	else
		sched_note(true, "PTE %u: somebody waits", n);
}

static void slot_text(u64 word, char text[TEXT_CHARS])
{
	snprintf(text, TEXT_CHARS, "%u%s%s%s%s%s%s", slot_count(word), word & SLOT_FRAME ? ", cached" : "",
		 (word & SLOT_HAS_CACHE) && !(word & SLOT_FRAME) ? ", pinned" : "",
		 word & SLOT_LOCKED ? ", locked" : "", word & SLOT_WRITEBACK ? ", writeback" : "",
		 word & SLOT_DIRTY ? ", dirty" : "", word & SLOT_WAITERS ? ", waiters" : "");
}

/* The step of swap_table.c that made this change. */
static const char *slot_verb(u64 old, u64 new)
{
	u64 set = new & ~old, gone = old & ~new;

	if (slot_count(new) > slot_count(old))
		return old ? "raise the count of" : "take";
	if (set & SLOT_WRITEBACK)
		return "begin writeback of";
	if (gone & SLOT_WRITEBACK)
		return "end writeback of";
	if (set & SLOT_FRAME)
		return set & SLOT_LOCKED ? "lock a new frame under" : "publish the frame of";
	if (gone & SLOT_FRAME)
		return "take the frame from";
	if (set & SLOT_LOCKED)
		return "lock the frame of";
	if (gone & SLOT_LOCKED)
		return "unlock the frame of";
	if (slot_count(new) < slot_count(old))
		return "free";
	if (set & SLOT_HAS_CACHE)
		return "pin";
	if (gone & SLOT_HAS_CACHE)
		return slot_count(new) ? "unpin" : "release";
	return NULL;
}

static void trace_slot_change(u32 n, u64 old, u64 new)
{
	const char *verb = slot_verb(old, new);
	char to[TEXT_CHARS];

	slot_text(new, to);
	if (verb)
		sched_note(false, "%s slot %u (%s)", verb, n, to);
	else
		sched_note(true, "slot %u: %s", n, to);
}

void trace_change(uintptr_t addr, u64 old, u64 new)
{
	char name[NAME_CHARS];
	u32 n;

	if (!sched_tracing())
		return;
	switch (world_place(addr, &n)) {
	case PLACE_PTE:
		trace_pte_change(n, old, new);
		break;
	case PLACE_SLOT:
		trace_slot_change(n, old, new);
		break;
	default:
		world_name(addr, name);
		/* The numbers that are waited for are part of the story. */
		sched_note(strcmp(name, "area sequence") != 0, "%s: %" PRIx64 " -> %" PRIx64, name, old, new);
		break;
	}
}

void trace_read(uintptr_t addr, u64 value)
{
	char name[NAME_CHARS], text[TEXT_CHARS];
	u32 n;

	if (!sched_tracing())
		return;
	switch (world_place(addr, &n)) {
	case PLACE_PTE:
		pte_text(value, text);
		sched_note(true, "look at PTE %u: %s%s", n, text, value & PTE_LOCKED ? ", locked" : "");
		break;
	case PLACE_SLOT:
		slot_text(value, text);
		sched_note(true, "look at slot %u: %s", n, text);
		break;
	default:
		world_name(addr, name);
		sched_note(true, "look at %s: %" PRIx64, name, value);
		break;
	}
}

void trace_sleep(uintptr_t addr)
{
	char name[NAME_CHARS];

	if (!sched_tracing())
		return;
	world_name(addr, name);
	sched_note(false, "sleep on %s", name);
}

void trace_wake(uintptr_t addr)
{
	char name[NAME_CHARS];

	if (!sched_tracing())
		return;
	world_name(addr, name);
	sched_note(false, "wake all on %s", name);
}

void trace_page(const char *what, u32 vpn, const struct content *data)
{
	char name[NAME_CHARS];

	if (!sched_tracing())
		return;
	content_name(data, name);
	sched_note(false, "%s page %u (%s)", what, vpn, name);
}

void trace_slot(const char *what, const struct sim_device *d, u32 slot, const struct content *data)
{
	char name[NAME_CHARS];
	u32 n = slot + 10 * (u32)(d - world->device);

	if (!sched_tracing())
		return;
	if (!data) {
		sched_note(false, "%s slot %u", what, n);
		return;
	}
	content_name(data, name);
	sched_note(false, "%s slot %u %s %s", what, n, what[0] == 'w' ? "<-" : "->", name);
}

/* ---- source lines ---- */

struct site {
	uintptr_t pc;
	char location[LOCATION_CHARS];
	bool tells; /* in one of the files that tell the story */
};

static struct {
	struct site *sites;
	u32 nr;
} source;

static int find_bias(struct dl_phdr_info *info, size_t size, void *bias)
{
	(void)size;
	*(uintptr_t *)bias = info->dlpi_addr;
	return 1; /* the first is the program itself */
}

static struct site *site_of(uintptr_t pc)
{
	for (u32 i = 0; i < source.nr; i++) {
		if (source.sites[i].pc == pc)
			return &source.sites[i];
	}
	if (source.nr == SITES_MAX)
		return NULL;
	source.sites[source.nr] = (struct site){ .pc = pc };
	return &source.sites[source.nr++];
}

static bool tells_the_story(const char *file)
{
	static const char *const files[] = { "fault.c:", "reclaim.c:", "mm.c:", "scenarios.c:" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		if (!strncmp(file, files[i], strlen(files[i])))
			return true;
	}
	return false;
}

/* One line of addr2line -i: the innermost function first, then those that it is inlined into. */
static void take_line(struct site *site, char *line)
{
	const char *base = strrchr(line, '/');
	bool in_mm = strstr(line, "/mm/") != NULL;

	base = base ? base + 1 : line;
	line[strcspn(line, " \n")] = '\0';
	if (site->tells)
		return;
	if (tells_the_story(base)) {
		site->tells = true;
		snprintf(site->location, sizeof(site->location), "%.*s", LOCATION_CHARS - 1, base);
	} else if (in_mm && !site->location[0]) {
		snprintf(site->location, sizeof(site->location), "%.*s", LOCATION_CHARS - 1, base);
	}
}

/* Asks binutils' addr2line about all call sites at once. Without it the trace has no source lines. */
static void resolve_sites(void)
{
	char *command = malloc(SITES_MAX * 20 + 100), line[512];
	struct site *site = NULL;
	uintptr_t bias = 0;
	size_t len;
	FILE *in;

	if (!command)
		return;
	dl_iterate_phdr(find_bias, &bias);
	len = (size_t)sprintf(command, "addr2line -a -i -e /proc/%d/exe", (int)getpid());
	for (u32 i = 0; i < source.nr; i++)
		len += (size_t)sprintf(command + len, " 0x%zx", (size_t)(source.sites[i].pc - bias - 1));
	sprintf(command + len, " 2>/dev/null");
	in = popen(command, "r");
	free(command);
	if (!in)
		return;
	while (fgets(line, sizeof(line), in)) {
		if (!strncmp(line, "0x", 2))
			site = site_of((uintptr_t)strtoull(line, NULL, 16) + bias + 1);
		else if (site)
			take_line(site, line);
	}
	pclose(in);
}

static const char *note_location(const struct note *n)
{
	const char *location = "";

	for (int i = 0; i < NOTE_FRAMES && n->pcs[i]; i++) {
		const struct site *site = site_of((uintptr_t)n->pcs[i]);

		if (!site)
			break;
		if (site->tells)
			return site->location;
		if (!location[0])
			location = site->location;
	}
	return location;
}

static void collect_sites(void)
{
	source.nr = 0;
	for (u32 i = 0; i < sched_nr_notes(); i++) {
		const struct note *n = sched_get_note(i);

		for (int f = 0; f < NOTE_FRAMES && n->pcs[f]; f++)
			(void)site_of((uintptr_t)n->pcs[f]);
	}
}

/* ---- columns ---- */

static int column_width(u32 thread, bool all)
{
	int width = COLUMN_MIN;

	for (u32 i = 0; i < sched_nr_notes(); i++) {
		const struct note *n = sched_get_note(i);
		int len = (int)strlen(n->text);

		if (n->thread == thread && (all || !n->minor) && len > width)
			width = len;
	}
	return width;
}

void trace_print(FILE *out, bool all)
{
	int width[THREADS_MAX];

	source.sites = calloc(SITES_MAX, sizeof(*source.sites));
	if (!source.sites)
		return;
	collect_sites();
	resolve_sites();
	for (u32 t = 0; t < sched_nr_threads(); t++) {
		char head[TEXT_CHARS];

		width[t] = column_width(t, all);
		snprintf(head, sizeof(head), "CPU%u (%s)", t, sched_thread_name((int)t));
		fprintf(out, "%-*s  ", width[t], head);
	}
	fputc('\n', out);
	for (u32 i = 0; i < sched_nr_notes(); i++) {
		const struct note *n = sched_get_note(i);
		int indent = 0, right = 0;

		if (n->minor && !all)
			continue;
		for (u32 t = 0; t < sched_nr_threads(); t++) {
			if (t < n->thread)
				indent += width[t] + 2;
			else
				right += width[t] + 2;
		}
		fprintf(out, "%*s%-*s%s\n", indent, "", right, n->text, note_location(n));
	}
	free(source.sites);
}

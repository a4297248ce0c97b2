/* SPDX-License-Identifier: MIT */
/*
 * A dictionary for zstd, made of the program's own pages: samples of the first pages that are compressed, from which
 * the stretches are chosen that most other pages have parts of. It is made once, by whoever calls zcomp_dict_train().
 *
 * libzstd's own trainer allocates, which nothing of weir's may do inside of a program, so the choice is made here,
 * after its "fast cover", in memory that is taken before the first sample. The dictionary is plain content; one with
 * tables of codes as well was not smaller on real pages (docs/benchmarks.md).
 *
 * Context of all but open and close: any thread; sample, compress and decompress also in signal handlers.
 */
#pragma once

#include "base/types.h"
#include "swap/swap_device.h"

struct zcomp_dict;

/* 0 or -ENOMEM (address space). */
int must_check zcomp_dict_open(int level, struct zcomp_dict **out);
void zcomp_dict_close(struct zcomp_dict *dict);

/* Whom its memory is charged to, before the first sample; NULL: nobody. Where it is refused there is no dictionary. */
void zcomp_dict_set_memory(struct zcomp_dict *dict, const struct swap_memory *memory);
u64 zcomp_dict_nr_pages(const struct zcomp_dict *dict);

/*
 * Makes the dictionary, once there are enough samples: some 50 ms. Not from a signal handler; one thread at a time,
 * while any compress and decompress. Is there one now?
 */
bool zcomp_dict_train(struct zcomp_dict *dict);

/*
 * A dictionary of anything, and none again, so that the library can be tried before it is needed. Before that no
 * samples are taken.
 */
bool must_check zcomp_dict_begin_test(struct zcomp_dict *dict);
void zcomp_dict_end_test(struct zcomp_dict *dict);

/* The streams' states (struct zcomp_ops): their dictionary, which may not be trained as yet. */
void zcomp_dict_attach(void *state, struct zcomp_dict *dict);

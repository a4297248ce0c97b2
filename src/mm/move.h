/* SPDX-License-Identifier: MIT */
/* mremap's heart: pages go from one place of the window to another, those on devices without being read. */
#pragma once

#include "mm/types.h"

/*
 * Moves what pages `from` has to `to`, where both are accessible and nothing is yet; pages that a racing thread touched
 * there keep what it made of them. 0 or -errno: some have moved, none is lost.
 * Context: areas.lock held, the mm adopted, signals blocked; sleeps.
 */
int must_check move_pages(struct mm *mm, vpn_t from, vpn_t to, u32 nr);

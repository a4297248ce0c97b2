/* SPDX-License-Identifier: MIT */
/*
 * The zram driver: compressed memory as a swap device. For everyone but tests it is reached through swap_drivers[].
 */
#pragma once

#include "swap/swap_device.h"

extern const struct swap_driver zram_driver;

/* Flips a bit of what is stored for the slot, which must hold data: the next read must fail with -EIO. */
void zram_corrupt_for_test(struct swap_device *dev, u32 slot);

/* What slot table and store take to describe the slots in use: bytes of table entries and descriptors ever used. */
u64 zram_metadata_bytes(struct swap_device *dev);

/* Of what is charged, the pages that these lie on: they stay until the end. */
u64 zram_table_pages(struct swap_device *dev);

/* Walks the store. Context: no operation in flight. */
bool zram_is_valid(struct swap_device *dev);

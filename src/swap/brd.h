/* SPDX-License-Identifier: MIT */
/*
 * The brd driver: plain memory as a swap device, with an optional delay after each read. Reached through
 * swap_drivers[].
 */
#pragma once

#include "swap/swap_device.h"

extern const struct swap_driver brd_driver;

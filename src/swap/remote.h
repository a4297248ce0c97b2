/* SPDX-License-Identifier: MIT */
/*
 * The nbd and rados drivers: a network block device and a Ceph cluster as swap devices. Reached through swap_drivers[].
 *
 * Both speak to an engine (src/engine), a process beside the run, through the ring that swap_device_config.ring names;
 * `weir run` starts it. Locations come from the space (swap/space.h) that swap_device_config.space names.
 */
#pragma once

#include "swap/swap_device.h"

extern const struct swap_driver nbd_driver;
extern const struct swap_driver rados_driver;

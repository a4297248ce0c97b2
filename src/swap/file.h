/* SPDX-License-Identifier: MIT */
/*
 * The file device: pages in a file, or on a block device (file_backing.h), whose space all processes of a run share
 * (space.h). `weir run` opens and claims it once, and the programs of the run join it by a specification that names
 * the descriptors of the holder.
 */
#pragma once

#include "swap/swap_device.h"

extern const struct swap_driver file_driver;

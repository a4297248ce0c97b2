/* SPDX-License-Identifier: MIT */
/*
 * The simulated swap device. A read copies the slot and then may be held up for any time before the core goes on: the
 * delay of the patch's reproducer is just one of the schedules.
 */
#pragma once

#include "world.h"

void sim_device_init(struct sim_device *d, const char *name, const struct world_config *cfg);

/* Lets a stuck write go on. */
void sim_device_unstick(struct sim_device *d);

/* SPDX-License-Identifier: MIT */
/* A fast hash of memory, for telling states apart: 64 bits, so that millions of states do not collide. */
#pragma once

#include "base/types.h"

static inline u64 hash_mix(u64 a, u64 b)
{
	__uint128_t product = (__uint128_t)(a ^ 0x9e3779b97f4a7c15ull) * (b ^ 0xd1342543de82ef95ull);

	return (u64)product ^ (u64)(product >> 64);
}

/* `bytes` is a multiple of 8. */
u64 hash_memory(u64 seed, const void *data, size_t bytes);

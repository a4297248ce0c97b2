/* SPDX-License-Identifier: MIT */
/*
 * AES-256-GCM over pages, by libIPSec_MB (Intel's multi-buffer crypto library), which works on memory that it is given:
 * no allocation, no lock, no state of its own. Sealing and opening are for any thread, also signal handlers; they take
 * less than 4 KiB of stack.
 */
#pragma once

#include "base/types.h"

enum { AEAD_KEY_BYTES = 32, AEAD_NONCE_BYTES = 12, AEAD_TAG_BYTES = 16 };

/* A key, expanded: as secret as the key itself. */
struct aead_key {
	u8 data[1024];
} __attribute__((aligned(64)));

/*
 * Before all else; may be repeated. 0; -EOPNOTSUPP: a processor without AES; -ELIBBAD: the library fails its own tests;
 * -ENOMEM. Allocates nothing from libc: the shim may be inside of the program's allocator.
 */
int must_check aead_init(void);

void aead_key_set(struct aead_key *key, const u8 raw[AEAD_KEY_BYTES]);

/* No nonce may ever be used twice with one key. `out` may be `page`. */
void aead_seal(const struct aead_key *key, const u8 nonce[AEAD_NONCE_BYTES], u64 associated, const void *page,
	       void *out, u8 tag[AEAD_TAG_BYTES]);

/* In place. 0, or -EBADMSG: anything is not as it was sealed, and the page is zeros. */
int must_check aead_open(const struct aead_key *key, const u8 nonce[AEAD_NONCE_BYTES], u64 associated, void *page,
			 const u8 tag[AEAD_TAG_BYTES]);

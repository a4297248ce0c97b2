// SPDX-License-Identifier: MIT
#include "swap/aead.h"

#include <errno.h>
#include <intel-ipsec-mb.h>
#include <string.h>

#include "base/os.h"
#include "sync/lock.h"

_Static_assert(sizeof(struct gcm_key_data) <= sizeof(struct aead_key), "room for the library's key schedule");

/* Written once, under the lock; whoever has a device has seen it. */
static struct {
	struct mutex lock;
	aes_gcm_pre_t expand;
	aes_gcm_enc_dec_t seal, open;
} library;

/* By what the kernel saves as well as what the processor has. */
static int init_manager(IMB_MGR *manager)
{
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("aes") || !__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.2"))
		return -EOPNOTSUPP;
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl"))
		init_mb_mgr_avx512(manager);
	else if (__builtin_cpu_supports("avx2"))
		init_mb_mgr_avx2(manager);
	else
		init_mb_mgr_sse(manager);
	/* Also where a program has functions of its own by the names of the library's. */
	if (imb_get_errno(manager))
		return -ELIBBAD;
	if ((manager->features & IMB_FEATURE_SELF_TEST) && !(manager->features & IMB_FEATURE_SELF_TEST_PASS))
		return -ELIBBAD;
	return 0;
}

/* The manager, with its queues for jobs, is needed only for what it knows: which code suits this processor. */
int aead_init(void)
{
	size_t bytes = imb_get_mb_mgr_size();
	void *mem = os_reserve(bytes);
	IMB_MGR *manager;
	int ret;

	if (!mem)
		return -ENOMEM;
	manager = imb_set_pointers_mb_mgr(mem, 0, 1);
	ret = init_manager(manager);
	mutex_lock(&library.lock);
	if (!ret && !library.seal) {
		library.expand = manager->gcm256_pre;
		library.seal = manager->gcm256_enc;
		library.open = manager->gcm256_dec;
	}
	mutex_unlock(&library.lock);
	os_unreserve(mem, bytes);
	return ret;
}

static const struct gcm_key_data *key_data(const struct aead_key *key)
{
	return (const void *)key;
}

void aead_key_set(struct aead_key *key, const u8 raw[AEAD_KEY_BYTES])
{
	library.expand(raw, (void *)key);
}

void aead_seal(const struct aead_key *key, const u8 nonce[AEAD_NONCE_BYTES], u64 associated, const void *page,
	       void *out, u8 tag[AEAD_TAG_BYTES])
{
	struct gcm_context_data context;

	library.seal(key_data(key), &context, out, page, PAGE_SIZE, nonce, (const u8 *)&associated, sizeof(associated),
		     tag, AEAD_TAG_BYTES);
}

int aead_open(const struct aead_key *key, const u8 nonce[AEAD_NONCE_BYTES], u64 associated, void *page,
	      const u8 tag[AEAD_TAG_BYTES])
{
	struct gcm_context_data context;
	u64 found[2], expected[2];

	_Static_assert(sizeof(found) == AEAD_TAG_BYTES, "a tag is two words");
	library.open(key_data(key), &context, page, page, PAGE_SIZE, nonce, (const u8 *)&associated, sizeof(associated),
		     (u8 *)found, AEAD_TAG_BYTES);
	memcpy(expected, tag, sizeof(expected));
	/* All of it, whatever differs: the time tells nothing. */
	if (!((found[0] ^ expected[0]) | (found[1] ^ expected[1])))
		return 0;
	memset(page, 0, PAGE_SIZE);
	return -EBADMSG;
}

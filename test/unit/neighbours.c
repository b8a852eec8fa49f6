/*
 * neighbours.c
 *	  Unit tests of what the process shares with others who use OpenSSL: its secure heap, its queue of
 *	  errors, and providers that lack something.
 */
#include "units.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>

/* filter_provider.c */
extern OSSL_provider_init_fn OSSL_provider_init;

#define THEIRS		ERR_PACK(ERR_LIB_USER, 0, 101)
#define THEIRS_TOO	ERR_PACK(ERR_LIB_USER, 0, 102)
#define SIGNED_BY_JEFE	"effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"

static bool
can_sign_with_sha1(void)
{
	return mac_is(CRYPTO_SHA1, "Jefe", 4, "what do ya want for nothing?", 28, SIGNED_BY_JEFE);
}

/* Everything once, and what fails in every way that it can without a lack of memory. */
static bool
use_all(void)
{
	CryptoKey  *key = key_of(3);
	uint8_t		sealed[SEALED_LENGTH];
	uint8_t		bytes[CRYPTO_HASH_BYTES];
	size_t		length;
	bool		good;

	seal_plain(key, sealed);
	good = opens(key, sealed) && can_sign_with_sha1() && crypto_sha256("a", 1, NULL, 0, bytes) == CRYPTO_OK &&
		crypto_random(bytes, sizeof(bytes)) == CRYPTO_OK;
	sealed[SEALED_LENGTH - 1] ^= 1;
	good = good && !opens(key, sealed) && crypto_hmac(CRYPTO_SHA256, "", 0, "m", 1, bytes) == CRYPTO_BROKEN &&
		!crypto_base64_decode("c2V*cmV0", 8, bytes, sizeof(bytes), &length);
	crypto_key_free(key);
	return good;
}

static bool
leaves_errors_alone(int unused)
{
	bool		good;

	(void) unused;
	ERR_raise(ERR_LIB_USER, 101);
	good = use_all() && ERR_peek_error() == THEIRS && ERR_peek_last_error() == THEIRS;
	good = good && ERR_set_mark() == 1;
	ERR_raise(ERR_LIB_USER, 102);
	good = good && use_all() && ERR_peek_last_error() == THEIRS_TOO && ERR_pop_to_mark() == 1;
	return good && ERR_get_error() == THEIRS && ERR_get_error() == 0;
}

static bool
leaves_no_errors(int unused)
{
	(void) unused;
	return use_all() && ERR_peek_error() == 0;
}

/* From here on OpenSSL lacks these algorithms. */
static bool
filter_out(const char *names)
{
	return setenv("FILTERED_OUT", names, 1) == 0 && OSSL_PROVIDER_add_builtin(NULL, "filter", OSSL_provider_init) == 1 &&
		OSSL_PROVIDER_load(NULL, "filter") != NULL;
}

static bool
is_missing(CryptoStatus status, const char *name)
{
	return status == CRYPTO_MISSING && strcmp(crypto_missing_algorithm(), name) == 0 && ERR_peek_error() == 0;
}

static bool
misses_nothing(int unused)
{
	(void) unused;
	return filter_out("") && use_all();
}

static bool
misses_sha1_alone(int unused)
{
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	uint8_t		sealed[SEALED_LENGTH];
	CryptoKey  *key;

	(void) unused;
	memset(mac, 1, sizeof(mac));
	if (!filter_out("SHA1") || !is_missing(crypto_hash_ready(CRYPTO_SHA1), "SHA-1") ||
		!is_missing(crypto_hmac(CRYPTO_SHA1, "key", 3, "m", 1, mac), "SHA-1") || !is_zero(mac, 20))
		return false;
	key = key_of(3);
	seal_plain(key, sealed);
	return opens(key, sealed) && crypto_hash_ready(CRYPTO_SHA256) == CRYPTO_OK &&
		mac_is(CRYPTO_SHA256, "key", 3, NULL, 0, "5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0");
}

static bool
misses_sha256_alone(int unused)
{
	uint8_t		digest[CRYPTO_HASH_BYTES];

	(void) unused;
	memset(digest, 1, sizeof(digest));
	return filter_out("SHA2-256") && is_missing(crypto_sha256("a", 1, NULL, 0, digest), "SHA-256") && is_zero(digest, 32) &&
		can_sign_with_sha1();
}

static bool
misses_gcm_alone(int unused)
{
	uint8_t		raw[CRYPTO_KEY_BYTES] = {7};
	CryptoKey  *key;

	(void) unused;
	return filter_out("AES-256-GCM") && is_missing(crypto_key_make(raw, &key), "AES-256-GCM") && key == NULL &&
		can_sign_with_sha1();
}

/* Tests that need a process in which no algorithm is fetched. */
void
neighbour_tests_before_use(void)
{
	ok(in_child(leaves_errors_alone, 0), "others' errors stay in the queue, at first use");
	ok(in_child(leaves_no_errors, 0), "and none of ours");
	ok(in_child(misses_nothing, 0), "another provider than the default one");
	ok(in_child(misses_sha1_alone, 0), "where SHA-1 is missing, it alone is missed, by its name");
	ok(in_child(misses_sha256_alone, 0), "SHA-256");
	ok(in_child(misses_gcm_alone, 0), "AES-256-GCM");
}

/* The last of all. */
void
neighbour_tests(void)
{
	ok(in_child(leaves_errors_alone, 0), "others' errors stay in the queue");
	ok(leaves_no_errors(0), "and none of ours");
	ok(CRYPTO_secure_malloc_initialized() == 0, "after all this, OpenSSL's secure heap is as others left it");
}

/*
 * crypto.c
 *	  What OpenSSL does for keyrot: randomness, XAES-256-GCM, HMAC, SHA-256.
 *
 * Owns the fetched algorithms and the kept contexts.  Locked memory is in arena.c, the choice of keys in
 * seal.c, and the conversion of a status to an error in the rooms above: nothing here throws or depends on
 * PostgreSQL, so no OpenSSL object is ever left open by an error.
 *
 * Why not the obvious way?
 *
 * Fetching an algorithm and creating a context for each call costs more than the operation itself, so both
 * are kept.  But a context is in the ordinary heap and contains the key schedule, which begins with the key
 * itself: with a context that stays keyed, every core dump would contain the key.  So a context is emptied
 * after each use (a third of a microsecond in total for sealing), and only the arena keeps keys between
 * calls.
 *
 * OpenSSL is shared with libpq, with the server's own TLS and with other extensions.  So no process-wide
 * setting is changed; a failure removes its own errors from the queue, but not those of others; and each
 * algorithm is fetched when it is needed, so that a missing one affects only its users.  The library context
 * is the default one: it has the providers that the administrator's configuration activates, including a
 * validated one, and has tested and seeded them.
 *
 * Nothing is created when the library is loaded, only on first use, which happens in a backend or worker,
 * never in the postmaster.  A fork would do no harm: each process has its own copy, and OpenSSL reseeds its
 * generator in a child.  As everywhere in a backend, a single thread is assumed.
 */
#include "crypto/crypto.h"

#include <limits.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "crypto/arena.h"

#if !defined(OPENSSL_VERSION_MAJOR) || OPENSSL_VERSION_MAJOR < 3
#error "keyrot needs OpenSSL 3.0 or later"
#endif

#define BLOCK_BYTES			16	/* of AES */
#define GCM_NONCE_BYTES		12
#define HASH_BLOCK_BYTES	64	/* of both */
#define INNER_PAD			0x36	/* of HMAC */
#define OUTER_PAD			0x5c

/* Raw key and CMAC's K1. The whole object is in locked memory. */
struct CryptoKey
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	uint8_t		k1[BLOCK_BYTES];
};

/* Fetched on first use, and kept. */
typedef struct Cipher
{
	const char *name;
	EVP_CIPHER *fetched;
	EVP_CIPHER_CTX *context;	/* without a key between calls */
} Cipher;

typedef struct Hash
{
	const char *name;
	size_t		bytes;
	EVP_MD	   *fetched;
	EVP_MD_CTX *context;		/* with nothing of a key in it */
} Hash;

static Cipher aes = {.name = "AES-256-ECB"};
static Cipher gcm = {.name = "AES-256-GCM"};
static Hash hashes[] = {
	[CRYPTO_SHA1] = {.name = "SHA-1", .bytes = 20},
	[CRYPTO_SHA256] = {.name = "SHA-256", .bytes = CRYPTO_HASH_BYTES}
};

static const char *missing = "";

/* ---------- OpenSSL's errors ---------- */

static bool marked;				/* there were errors, and they are not ours */

/* Before calls that can fail. */
static void
mark_errors(void)
{
	marked = ERR_set_mark() == 1;
}

/*
 * After them: what became of it, as far as OpenSSL says so, which it seldom does for memory.  Takes away the
 * errors since the mark; a fetch that succeeds can leave some, too, and so can the generator.
 */
static CryptoStatus
settle(bool good)
{
	int			reason = good ? 0 : ERR_GET_REASON(ERR_peek_last_error());

	(void) ERR_pop_to_mark();
	if (good)
		return CRYPTO_OK;
	return reason == ERR_R_MALLOC_FAILURE ? CRYPTO_NO_MEMORY : CRYPTO_BROKEN;
}

/* The same after ciphers and hashes, which leave none where they succeed: each look at the queue takes 25 ns. */
static CryptoStatus
settle_operation(bool good)
{
	return good && !marked ? CRYPTO_OK : settle(good);
}

/* The same after a fetch, which tells where no provider has the algorithm. */
static CryptoStatus
settle_fetch(bool good, const char *name)
{
	bool		is_missing = !good && ERR_GET_REASON(ERR_peek_last_error()) == ERR_R_UNSUPPORTED;
	CryptoStatus status = settle(good);

	if (!is_missing)
		return status;
	missing = name;
	return CRYPTO_MISSING;
}

/* The algorithm that the latest CRYPTO_MISSING was about, as "SHA-1"; a constant. */
const char *
crypto_missing_algorithm(void)
{
	return missing;
}

/* ---------- memory ---------- */

/* Overwrites length bytes in a way that the compiler cannot optimize away. */
void
crypto_wipe(void *bytes, size_t length)
{
	OPENSSL_cleanse(bytes, length);
}

/* Compares length bytes in a time that does not depend on them. */
bool
crypto_equal(const void *a, const void *b, size_t length)
{
	return CRYPTO_memcmp(a, b, length) == 0;
}

/* The version of the OpenSSL in use, like "OpenSSL 3.0.19 27 Jan 2026"; a constant. */
const char *
crypto_library_version(void)
{
	return OpenSSL_version(OPENSSL_VERSION);
}

/* ---------- randomness ---------- */

/* Fills bytes from OpenSSL's private generator.  On failure they are zero. */
CryptoStatus
crypto_random(void *bytes, size_t length)
{
	CryptoStatus status;

	mark_errors();
	status = settle(length <= INT_MAX && RAND_priv_bytes(bytes, (int) length) == 1);
	if (status != CRYPTO_OK)
		OPENSSL_cleanse(bytes, length);
	return status;
}

/*
 * Returns random bytes from the draw, which is refilled as a whole when too few are left and is empty when
 * all zero.  A draw must not be used across a fork: both processes would return the same bytes.  On failure
 * the bytes are zero and the draw is empty.
 */
CryptoStatus
crypto_take(CryptoDraw *draw, void *bytes, size_t length)
{
	uint8_t    *piece;

	if (length > CRYPTO_DRAW_BYTES)
		return crypto_random(bytes, length);
	if (length > draw->left)
	{
		CryptoStatus status;

		draw->left = 0;
		status = crypto_random(draw->bytes, CRYPTO_DRAW_BYTES);
		if (status != CRYPTO_OK)
		{
			OPENSSL_cleanse(bytes, length);
			return status;
		}
		draw->left = CRYPTO_DRAW_BYTES;
	}
	piece = draw->bytes + (CRYPTO_DRAW_BYTES - draw->left);
	memcpy(bytes, piece, length);
	OPENSSL_cleanse(piece, length);
	draw->left -= length;
	return CRYPTO_OK;
}

/* ---------- algorithms and contexts ---------- */

static CryptoStatus
start_cipher(Cipher *cipher)
{
	if (cipher->context != NULL)
		return CRYPTO_OK;
	mark_errors();
	if (cipher->fetched == NULL)
		cipher->fetched = EVP_CIPHER_fetch(NULL, cipher->name, NULL);
	if (cipher->fetched != NULL)
		cipher->context = EVP_CIPHER_CTX_new();
	return settle_fetch(cipher->context != NULL, cipher->name);
}

/* What sealing and opening need.  A failure can be retried. */
static CryptoStatus
start_ciphers(void)
{
	CryptoStatus status = start_cipher(&aes);

	return status == CRYPTO_OK ? start_cipher(&gcm) : status;
}

static CryptoStatus
start_hash(Hash *hash)
{
	if (hash->fetched != NULL)
		return CRYPTO_OK;
	mark_errors();
	hash->fetched = EVP_MD_fetch(NULL, hash->name, NULL);
	return settle_fetch(hash->fetched != NULL, hash->name);
}

/* ---------- XAES-256-GCM (c2sp.org/XAES-256-GCM) ---------- */

/* AES-256 of whole blocks, each for itself.  Without a final call no padding comes into play. */
static bool
encrypt_blocks(const uint8_t raw[CRYPTO_KEY_BYTES], const uint8_t *blocks, int length, uint8_t *encrypted)
{
	int			done = 0;
	bool		ok;

	ok = EVP_EncryptInit_ex2(aes.context, aes.fetched, raw, NULL, NULL) == 1 &&
		EVP_EncryptUpdate(aes.context, encrypted, &done, blocks, length) == 1 &&
		done == length;
	(void) EVP_CIPHER_CTX_reset(aes.context);
	return ok;
}

/* CMAC's K1: the encrypted zero block, doubled in GF(2^128), without a branch on the carry. */
static bool
derive_k1(CryptoKey *key)
{
	static const uint8_t zero[BLOCK_BYTES];
	uint8_t		l[BLOCK_BYTES];
	bool		ok = encrypt_blocks(key->raw, zero, BLOCK_BYTES, l);

	for (int i = 0; i < BLOCK_BYTES - 1; i++)
		key->k1[i] = (uint8_t) (l[i] << 1 | l[i + 1] >> 7);
	key->k1[BLOCK_BYTES - 1] = (uint8_t) (l[BLOCK_BYTES - 1] << 1 ^ (l[0] >> 7) * 0x87);
	OPENSSL_cleanse(l, sizeof(l));
	return ok;
}

/* The key of one nonce: CMAC of two one-block messages, "counter 1" and "counter 2". */
static bool
derive_subkey(const CryptoKey *key, const uint8_t *nonce, uint8_t subkey[CRYPTO_KEY_BYTES])
{
	uint8_t		blocks[2 * BLOCK_BYTES] = {0, 1, 'X', 0, [BLOCK_BYTES] = 0, 2, 'X', 0};
	bool		ok;

	memcpy(blocks + 4, nonce, GCM_NONCE_BYTES);
	memcpy(blocks + BLOCK_BYTES + 4, nonce, GCM_NONCE_BYTES);
	for (int i = 0; i < 2 * BLOCK_BYTES; i++)
		blocks[i] ^= key->k1[i % BLOCK_BYTES];
	ok = encrypt_blocks(key->raw, blocks, 2 * BLOCK_BYTES, subkey);
	OPENSSL_cleanse(blocks, sizeof(blocks));
	return ok;
}

/*
 * Makes a key ready for use.  The caller keeps (and wipes) raw; *key is freed with crypto_key_free, and
 * NULL on failure.
 */
CryptoStatus
crypto_key_make(const uint8_t raw[CRYPTO_KEY_BYTES], CryptoKey **key)
{
	CryptoStatus status = start_ciphers();

	*key = NULL;
	if (status != CRYPTO_OK)
		return status;
	*key = arena_alloc(sizeof(CryptoKey));
	if (*key == NULL)
		return CRYPTO_NO_MEMORY;
	memcpy((*key)->raw, raw, CRYPTO_KEY_BYTES);
	mark_errors();
	status = settle_operation(derive_k1(*key));
	if (status == CRYPTO_OK)
		return CRYPTO_OK;
	crypto_key_free(*key);
	*key = NULL;
	return status;
}

/* The key's CRYPTO_KEY_BYTES raw bytes, in its own locked memory: not to be freed. */
const uint8_t *
crypto_key_raw(const CryptoKey *key)
{
	return key->raw;
}

/* Wipes and frees a key.  NULL is allowed. */
void
crypto_key_free(CryptoKey *key)
{
	arena_free(key, sizeof(CryptoKey));
}

static bool
gcm_start(const CryptoKey *key, const uint8_t nonce[CRYPTO_NONCE_BYTES], int sealing)
{
	uint8_t		subkey[CRYPTO_KEY_BYTES];
	bool		ok;

	ok = derive_subkey(key, nonce, subkey) &&
		EVP_CipherInit_ex2(gcm.context, gcm.fetched, subkey, nonce + GCM_NONCE_BYTES, sealing,
						   NULL) == 1;
	OPENSSL_cleanse(subkey, sizeof(subkey));
	return ok;
}

/* Puts length bytes through; without an output they are additional data. */
static bool
gcm_update(const void *input, size_t length, uint8_t *output)
{
	int			done;

	if (length == 0)
		return true;
	return length <= INT_MAX &&
		EVP_CipherUpdate(gcm.context, output, &done, input, (int) length) == 1;
}

/* Emptying the context wipes its key schedule and what it keeps of the last block's key stream. */
static void
gcm_end(void)
{
	(void) EVP_CIPHER_CTX_reset(gcm.context);
}

static bool
seal_into(const CryptoKey *key, const uint8_t *nonce, const void *aad, size_t aad_length,
		  const void *plaintext, size_t length, uint8_t *sealed)
{
	int			done;

	return gcm_start(key, nonce, 1) &&
		gcm_update(aad, aad_length, NULL) &&
		gcm_update(plaintext, length, sealed) &&
		EVP_CipherFinal_ex(gcm.context, sealed + length, &done) == 1 &&
		EVP_CIPHER_CTX_ctrl(gcm.context, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_BYTES, sealed + length) == 1;
}

/*
 * Writes the ciphertext and the tag (length + CRYPTO_TAG_BYTES bytes) to sealed, which must not overlap
 * the plaintext.  A nonce is used once only.  On failure sealed is zero.
 */
CryptoStatus
crypto_seal(CryptoKey *key, const uint8_t nonce[CRYPTO_NONCE_BYTES],
			const void *aad, size_t aad_length,
			const void *plaintext, size_t length, uint8_t *sealed)
{
	CryptoStatus status = start_ciphers();

	if (status == CRYPTO_OK)
	{
		mark_errors();
		status = settle_operation(seal_into(key, nonce, aad, aad_length, plaintext, length, sealed));
		gcm_end();
	}
	if (status != CRYPTO_OK)
		OPENSSL_cleanse(sealed, length + CRYPTO_TAG_BYTES);
	return status;
}

static CryptoStatus
open_into(const CryptoKey *key, const uint8_t *nonce, const void *aad, size_t aad_length,
		  const uint8_t *sealed, size_t length, uint8_t *plaintext)
{
	uint8_t		tag[CRYPTO_TAG_BYTES];
	uint8_t		rest[BLOCK_BYTES];
	CryptoStatus status;
	bool		refused;
	bool		good;
	int			done;

	memcpy(tag, sealed + length, CRYPTO_TAG_BYTES);
	mark_errors();
	good = gcm_start(key, nonce, 0) &&
		gcm_update(aad, aad_length, NULL) &&
		gcm_update(sealed, length, plaintext) &&
		EVP_CIPHER_CTX_ctrl(gcm.context, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG_BYTES, tag) == 1;
	refused = good && EVP_CipherFinal_ex(gcm.context, rest, &done) != 1;
	status = settle_operation(good && !refused);
	return refused ? CRYPTO_REFUSED : status;
}

/*
 * Opens what crypto_seal made; sealed_length counts the tag.  Writes sealed_length - CRYPTO_TAG_BYTES
 * bytes to plaintext, which must not overlap sealed; they are zero unless CRYPTO_OK is returned.
 */
CryptoStatus
crypto_open(CryptoKey *key, const uint8_t nonce[CRYPTO_NONCE_BYTES],
			const void *aad, size_t aad_length,
			const uint8_t *sealed, size_t sealed_length, void *plaintext)
{
	CryptoStatus status;

	if (sealed_length < CRYPTO_TAG_BYTES)
		return CRYPTO_REFUSED;
	status = start_ciphers();
	if (status == CRYPTO_OK)
	{
		status = open_into(key, nonce, aad, aad_length, sealed, sealed_length - CRYPTO_TAG_BYTES,
						   plaintext);
		gcm_end();
	}
	if (status != CRYPTO_OK)
		OPENSSL_cleanse(plaintext, sealed_length - CRYPTO_TAG_BYTES);
	return status;
}

/* ---------- HMAC and SHA-256 ---------- */

/* The length in bytes of a hash, and so of its MAC. */
size_t
crypto_hash_bytes(CryptoHash hash)
{
	return hashes[hash].bytes;
}

/* Whether OpenSSL has the hash: CRYPTO_OK, or CRYPTO_MISSING, or what kept it from telling. */
CryptoStatus
crypto_hash_ready(CryptoHash hash)
{
	return start_hash(&hashes[hash]);
}

/*
 * Hashes a followed by b, either of which may be empty.  A context that failed may still contain its input,
 * so it is freed, and created again on next use.
 */
static bool
hash_two(Hash *hash, const void *a, size_t a_length, const void *b, size_t b_length, uint8_t *digest)
{
	if (hash->context == NULL)
		hash->context = EVP_MD_CTX_new();
	if (hash->context != NULL &&
		EVP_DigestInit_ex2(hash->context, hash->fetched, NULL) == 1 &&
		(a_length == 0 || EVP_DigestUpdate(hash->context, a, a_length) == 1) &&
		(b_length == 0 || EVP_DigestUpdate(hash->context, b, b_length) == 1) &&
		EVP_DigestFinal_ex(hash->context, digest, NULL) == 1)
		return true;
	EVP_MD_CTX_free(hash->context);
	hash->context = NULL;
	return false;
}

static bool
hmac_into(Hash *hash, const void *key, size_t key_length, const void *message, size_t length, uint8_t *mac)
{
	uint8_t		pad[HASH_BLOCK_BYTES] = {0};
	uint8_t		inner[CRYPTO_MAX_MAC_BYTES];
	bool		good = true;

	if (key_length > sizeof(pad))
		good = hash_two(hash, key, key_length, NULL, 0, pad);
	else
		memcpy(pad, key, key_length);

	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= INNER_PAD;
	good = good && hash_two(hash, pad, sizeof(pad), message, length, inner);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= INNER_PAD ^ OUTER_PAD;
	good = good && hash_two(hash, pad, sizeof(pad), inner, hash->bytes, mac);
	OPENSSL_cleanse(pad, sizeof(pad));
	OPENSSL_cleanse(inner, sizeof(inner));
	return good;
}

/*
 * Writes the HMAC (RFC 2104), crypto_hash_bytes(which) bytes, to mac; on failure they are zero.  The key
 * must not be empty.  It is two hashes over the padded key, written out: OpenSSL's EVP_MAC takes twice the
 * time, and keeps the key in its context until it is keyed anew.  A finished hash keeps nothing of it.
 */
CryptoStatus
crypto_hmac(CryptoHash which, const void *key, size_t key_length,
			const void *message, size_t length, uint8_t *mac)
{
	Hash	   *hash = &hashes[which];
	CryptoStatus status = start_hash(hash);

	if (status == CRYPTO_OK && (key == NULL || key_length == 0))
		status = CRYPTO_BROKEN;
	if (status == CRYPTO_OK)
	{
		mark_errors();
		status = settle_operation(hmac_into(hash, key, key_length, message, length, mac));
	}
	if (status != CRYPTO_OK)
		OPENSSL_cleanse(mac, hash->bytes);
	return status;
}

/* Writes the SHA-256 of a followed by b; on failure the digest is zero.  Both may be empty. */
CryptoStatus
crypto_sha256(const void *a, size_t a_length, const void *b, size_t b_length,
			  uint8_t digest[CRYPTO_HASH_BYTES])
{
	Hash	   *hash = &hashes[CRYPTO_SHA256];
	CryptoStatus status = start_hash(hash);

	if (status == CRYPTO_OK)
	{
		mark_errors();
		status = settle_operation(hash_two(hash, a, a_length, b, b_length, digest));
	}
	if (status != CRYPTO_OK)
		OPENSSL_cleanse(digest, CRYPTO_HASH_BYTES);
	return status;
}

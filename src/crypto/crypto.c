/*
 * crypto.c
 *	  The only file that sees OpenSSL: randomness, XAES-256-GCM, HMAC, SHA-256, base64, locked memory.
 *
 * Owns the fetched algorithms, the kept contexts and the locked heap.  Leaves to others which key seals
 * what (seal.c) and how a status becomes an error (the floors above): nothing here throws or knows
 * PostgreSQL, so no OpenSSL object is ever open while an error flies by.
 *
 * Why not the obvious way?
 *
 * Fetching an algorithm and making a context for each call costs more than the operation itself, so both
 * are kept.  But a context lies in the ordinary heap, beyond the reach of the locked one, and holds the
 * key schedule, which begins with the key itself: a context that stays keyed puts the key into every core
 * dump.  So a context is emptied after each use (a third of a microsecond in all for a seal), and what
 * stays between calls is in locked memory only.
 *
 * Nothing is made when the library is loaded, only at first need, which PostgreSQL reaches in a backend
 * or worker, never in the postmaster.  A fork would do no harm to the state itself (each process has its
 * copy, and OpenSSL seeds its generator anew in a child), but a child inherits no memory lock: hence the
 * pid beside it.  One thread is assumed, as everywhere in a backend.
 */
#include "crypto/crypto.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#define BLOCK_BYTES			16	/* of AES */
#define GCM_NONCE_BYTES		12
#define LOCKED_HEAP_BYTES	32768
#define LOCKED_HEAP_UNIT	32
#define HASHES				2
#define HASH_BLOCK_BYTES	64	/* of both */
#define INNER_PAD			0x36	/* of HMAC */
#define OUTER_PAD			0x5c

/* Raw key and CMAC's K1.  The whole object lies in locked memory. */
struct CryptoKey
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	uint8_t		k1[BLOCK_BYTES];
};

static struct
{
	bool		started;
	bool		locked;
	bool		spilled;		/* something had to go to the ordinary heap */
	pid_t		pid;			/* the process whose memory was locked */
} heap;

static struct
{
	bool		ready;
	EVP_CIPHER *aes;
	EVP_CIPHER *gcm;
	EVP_MD	   *hash[HASHES];
	EVP_CIPHER_CTX *aes_context;	/* without a key between calls */
	EVP_CIPHER_CTX *gcm_context;	/* likewise */
	EVP_MD_CTX *hash_context[HASHES];	/* with nothing of a key in it */
} tools;

/*
 * What the OpenSSL call that just failed died of, as far as OpenSSL says so: it seldom does for memory.
 * Empties the error queue, which libpq and the server's own TLS share with us.
 */
static CryptoStatus
failure(void)
{
	CryptoStatus status = CRYPTO_BROKEN;
	unsigned long code;

	while ((code = ERR_get_error()) != 0)
	{
		if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE)
			status = CRYPTO_NO_MEMORY;
	}
	return status;
}

/* ---------- locked memory ---------- */

static void
start_heap(void)
{
	if (heap.started)
		return;
	heap.started = true;
	heap.pid = getpid();
	if (CRYPTO_secure_malloc_initialized())
	{
		heap.locked = true;
		return;
	}
	heap.locked = CRYPTO_secure_malloc_init(LOCKED_HEAP_BYTES, LOCKED_HEAP_UNIT) == 1;
	if (!heap.locked)
		ERR_clear_error();
}

/*
 * Allocates length zeroed bytes in memory that is neither swapped nor dumped; in ordinary memory where the
 * system allows no locking or the heap is half full: its other half is for OpenSSL, whose HMAC and
 * generator fail when they find no room there.  Free with crypto_locked_free.  NULL: no memory.
 */
void *
crypto_locked_alloc(size_t length)
{
	void	   *bytes = NULL;

	start_heap();
	if (length <= LOCKED_HEAP_BYTES / 2 &&
		CRYPTO_secure_used() <= LOCKED_HEAP_BYTES / 2 - length)
		bytes = OPENSSL_secure_zalloc(length);
	if (bytes == NULL)
	{
		heap.spilled = true;
		bytes = OPENSSL_zalloc(length);
	}
	if (bytes == NULL)
		ERR_clear_error();
	return bytes;
}

/* Wipes and frees what crypto_locked_alloc gave; length as it was then.  NULL is allowed. */
void
crypto_locked_free(void *bytes, size_t length)
{
	OPENSSL_secure_clear_free(bytes, length);
}

/*
 * Is all that crypto_locked_alloc ever gave in this process really locked?  Of a heap that another library
 * started before us OpenSSL does not tell, and it is believed to be.
 */
bool
crypto_memory_is_locked(void)
{
	start_heap();
	return heap.locked && !heap.spilled && heap.pid == getpid();
}

/* Overwrites length bytes in a way that the compiler may not leave out. */
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

/*
 * Fills bytes from OpenSSL's private generator.  On failure they are zero.  The generator can start and
 * leave errors in the queue.
 */
CryptoStatus
crypto_random(void *bytes, size_t length)
{
	start_heap();
	if (length <= INT_MAX && RAND_priv_bytes(bytes, (int) length) == 1)
	{
		if (ERR_peek_error() != 0)
			ERR_clear_error();
		return CRYPTO_OK;
	}
	OPENSSL_cleanse(bytes, length);
	return failure();
}

/*
 * Hands out random bytes from the draw, which is filled anew as a whole when too few are left and is empty
 * when all zero.  A draw must not live across a fork: both processes would hand out the same bytes.  On
 * failure the bytes are zero and the draw is empty.
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

static void
drop_tools(void)
{
	EVP_CIPHER_CTX_free(tools.aes_context);
	EVP_CIPHER_CTX_free(tools.gcm_context);
	EVP_CIPHER_free(tools.aes);
	EVP_CIPHER_free(tools.gcm);
	EVP_MD_free(tools.hash[CRYPTO_SHA1]);
	EVP_MD_free(tools.hash[CRYPTO_SHA256]);
	memset(&tools, 0, sizeof(tools));
}

/*
 * Everything but the HMAC contexts, which are made one by one.  All or nothing: a failure can be retried.
 * The error queue is emptied on success, too: a fetch can succeed and leave errors there.
 */
static CryptoStatus
start_tools(void)
{
	CryptoStatus status;

	if (tools.ready)
		return CRYPTO_OK;
	start_heap();
	tools.aes = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
	tools.gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	tools.hash[CRYPTO_SHA1] = EVP_MD_fetch(NULL, "SHA1", NULL);
	tools.hash[CRYPTO_SHA256] = EVP_MD_fetch(NULL, "SHA256", NULL);
	tools.aes_context = EVP_CIPHER_CTX_new();
	tools.gcm_context = EVP_CIPHER_CTX_new();
	tools.ready = tools.aes != NULL && tools.gcm != NULL && tools.hash[CRYPTO_SHA1] != NULL &&
		tools.hash[CRYPTO_SHA256] != NULL && tools.aes_context != NULL && tools.gcm_context != NULL;
	status = failure();
	if (tools.ready)
		return CRYPTO_OK;
	drop_tools();
	return status;
}

/* ---------- XAES-256-GCM (c2sp.org/XAES-256-GCM) ---------- */

/* AES-256 of whole blocks, each for itself.  Without a final call no padding comes into play. */
static bool
encrypt_blocks(const uint8_t raw[CRYPTO_KEY_BYTES], const uint8_t *blocks, int length, uint8_t *encrypted)
{
	int			done = 0;
	bool		ok;

	ok = EVP_EncryptInit_ex2(tools.aes_context, tools.aes, raw, NULL, NULL) == 1 &&
		EVP_EncryptUpdate(tools.aes_context, encrypted, &done, blocks, length) == 1 &&
		done == length;
	(void) EVP_CIPHER_CTX_reset(tools.aes_context);
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
	CryptoStatus status = start_tools();

	*key = NULL;
	if (status != CRYPTO_OK)
		return status;
	*key = crypto_locked_alloc(sizeof(CryptoKey));
	if (*key == NULL)
		return CRYPTO_NO_MEMORY;
	memcpy((*key)->raw, raw, CRYPTO_KEY_BYTES);
	if (derive_k1(*key))
		return CRYPTO_OK;
	status = failure();
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
	crypto_locked_free(key, sizeof(CryptoKey));
}

static bool
gcm_start(const CryptoKey *key, const uint8_t nonce[CRYPTO_NONCE_BYTES], int sealing)
{
	uint8_t		subkey[CRYPTO_KEY_BYTES];
	bool		ok;

	ok = derive_subkey(key, nonce, subkey) &&
		EVP_CipherInit_ex2(tools.gcm_context, tools.gcm, subkey, nonce + GCM_NONCE_BYTES, sealing,
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
		EVP_CipherUpdate(tools.gcm_context, output, &done, input, (int) length) == 1;
}

/* Emptying the context wipes its key schedule and what it keeps of the last block's key stream. */
static void
gcm_end(void)
{
	(void) EVP_CIPHER_CTX_reset(tools.gcm_context);
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
	CryptoStatus status = start_tools();
	int			done;

	if (status == CRYPTO_OK &&
		!(gcm_start(key, nonce, 1) &&
		  gcm_update(aad, aad_length, NULL) &&
		  gcm_update(plaintext, length, sealed) &&
		  EVP_CipherFinal_ex(tools.gcm_context, sealed + length, &done) == 1 &&
		  EVP_CIPHER_CTX_ctrl(tools.gcm_context, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_BYTES,
							  sealed + length) == 1))
		status = failure();
	gcm_end();
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
	int			done;

	memcpy(tag, sealed + length, CRYPTO_TAG_BYTES);
	if (!(gcm_start(key, nonce, 0) &&
		  gcm_update(aad, aad_length, NULL) &&
		  gcm_update(sealed, length, plaintext) &&
		  EVP_CIPHER_CTX_ctrl(tools.gcm_context, EVP_CTRL_AEAD_SET_TAG, CRYPTO_TAG_BYTES, tag) == 1))
		return failure();
	if (EVP_CipherFinal_ex(tools.gcm_context, rest, &done) == 1)
		return CRYPTO_OK;
	ERR_clear_error();
	return CRYPTO_REFUSED;
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
	status = start_tools();
	if (status == CRYPTO_OK)
		status = open_into(key, nonce, aad, aad_length, sealed, sealed_length - CRYPTO_TAG_BYTES,
						   plaintext);
	gcm_end();
	if (status != CRYPTO_OK)
		OPENSSL_cleanse(plaintext, sealed_length - CRYPTO_TAG_BYTES);
	return status;
}

/* ---------- HMAC and SHA-256 ---------- */

/* The length in bytes of a hash, and so of its MAC. */
size_t
crypto_hash_bytes(CryptoHash hash)
{
	return hash == CRYPTO_SHA1 ? 20 : CRYPTO_HASH_BYTES;
}

/*
 * Hashes a followed by b, either of which may be empty.  A context that failed may hold what it was given,
 * so it is dropped, and made anew at the next need.
 */
static CryptoStatus
hash_two(CryptoHash hash, const void *a, size_t a_length, const void *b, size_t b_length, uint8_t *digest)
{
	EVP_MD_CTX **context = &tools.hash_context[hash];
	CryptoStatus status;

	if (*context == NULL)
		*context = EVP_MD_CTX_new();
	if (*context != NULL &&
		EVP_DigestInit_ex2(*context, tools.hash[hash], NULL) == 1 &&
		(a_length == 0 || EVP_DigestUpdate(*context, a, a_length) == 1) &&
		(b_length == 0 || EVP_DigestUpdate(*context, b, b_length) == 1) &&
		EVP_DigestFinal_ex(*context, digest, NULL) == 1)
		return CRYPTO_OK;
	status = failure();
	OPENSSL_cleanse(digest, crypto_hash_bytes(hash));
	EVP_MD_CTX_free(*context);
	*context = NULL;
	return status;
}

/*
 * Writes the HMAC (RFC 2104), crypto_hash_bytes(hash) bytes, to mac; on failure they are zero.  The key
 * must not be empty.  It is two hashes over the padded key, written out: OpenSSL's EVP_MAC takes twice the
 * time, and keeps the key in its context until it is keyed anew.  A finished hash keeps nothing of it.
 */
CryptoStatus
crypto_hmac(CryptoHash hash, const void *key, size_t key_length,
			const void *message, size_t length, uint8_t *mac)
{
	CryptoStatus status = start_tools();
	uint8_t		pad[HASH_BLOCK_BYTES] = {0};
	uint8_t		inner[CRYPTO_MAX_MAC_BYTES];

	if (status == CRYPTO_OK && (key == NULL || key_length == 0))
		status = CRYPTO_BROKEN;
	if (status == CRYPTO_OK && key_length > sizeof(pad))
		status = hash_two(hash, key, key_length, NULL, 0, pad);
	else if (status == CRYPTO_OK)
		memcpy(pad, key, key_length);

	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= INNER_PAD;
	if (status == CRYPTO_OK)
		status = hash_two(hash, pad, sizeof(pad), message, length, inner);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= INNER_PAD ^ OUTER_PAD;
	if (status == CRYPTO_OK)
		status = hash_two(hash, pad, sizeof(pad), inner, crypto_hash_bytes(hash), mac);
	if (status != CRYPTO_OK)
		OPENSSL_cleanse(mac, crypto_hash_bytes(hash));
	OPENSSL_cleanse(pad, sizeof(pad));
	OPENSSL_cleanse(inner, sizeof(inner));
	return status;
}

/* Writes the SHA-256 of a followed by b; on failure the digest is zero.  Both may be empty. */
CryptoStatus
crypto_sha256(const void *a, size_t a_length, const void *b, size_t b_length,
			  uint8_t digest[CRYPTO_HASH_BYTES])
{
	CryptoStatus status = start_tools();

	if (status != CRYPTO_OK)
	{
		OPENSSL_cleanse(digest, CRYPTO_HASH_BYTES);
		return status;
	}
	return hash_two(CRYPTO_SHA256, a, a_length, b, b_length, digest);
}

/* ---------- base64 ---------- */

/*
 * Writes at most CRYPTO_BASE64_MAX_BYTES bytes as padded base64, CRYPTO_BASE64_TEXT(length) characters and
 * a NUL, and returns the number of characters; 0 and an empty text where the bytes are too many.
 */
size_t
crypto_base64_encode(const void *bytes, size_t length, char *text)
{
	text[0] = '\0';
	if (length > CRYPTO_BASE64_MAX_BYTES)
		return 0;
	return (size_t) EVP_EncodeBlock((unsigned char *) text, bytes, (int) length);
}

/* How many bytes a text of base64 stands for, judging from its length and padding alone; 0: none. */
static size_t
base64_bytes(const char *text, size_t length)
{
	size_t		padding;

	if (length == 0 || length % 4 != 0 || length > CRYPTO_BASE64_TEXT(CRYPTO_BASE64_MAX_BYTES))
		return 0;
	padding = text[length - 1] != '=' ? 0 : text[length - 2] != '=' ? 1 : 2;
	return length / 4 * 3 - padding;
}

/*
 * Decodes canonical, padded base64 of 1 to room bytes (and at most CRYPTO_BASE64_MAX_BYTES).  OpenSSL
 * skips blanks and overlooks wrong padding and stray bits, so the result must encode to the very same
 * text.  False: nothing was written.
 */
bool
crypto_base64_decode(const char *text, size_t length, uint8_t *bytes, size_t room, size_t *decoded)
{
	uint8_t		made[CRYPTO_BASE64_MAX_BYTES];
	char		again[CRYPTO_BASE64_TEXT(CRYPTO_BASE64_MAX_BYTES) + 1];
	size_t		count = base64_bytes(text, length);
	bool		ok = false;

	if (count == 0 || count > room)
		return false;
	if (EVP_DecodeBlock(made, (const unsigned char *) text, (int) length) == (int) length / 4 * 3)
		ok = crypto_base64_encode(made, count, again) == length && crypto_equal(again, text, length);
	else
		ERR_clear_error();
	if (ok)
	{
		memcpy(bytes, made, count);
		*decoded = count;
	}
	OPENSSL_cleanse(made, sizeof(made));
	OPENSSL_cleanse(again, sizeof(again));
	return ok;
}

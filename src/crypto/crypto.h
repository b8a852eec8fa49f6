/*
 * crypto.h
 *	  The only interface to OpenSSL: randomness, XAES-256-GCM, HMAC, SHA-256, base64, locked memory.
 *
 * Nothing here depends on PostgreSQL: functions return a status, never throw, and leave no OpenSSL object
 * open.  Everything that is fetched or kept belongs to the process that first needs it, never to the
 * postmaster, so that no two backends share state across a fork.
 */
#ifndef KEYROT_CRYPTO_H
#define KEYROT_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_KEY_BYTES	32
#define CRYPTO_NONCE_BYTES	24
#define CRYPTO_TAG_BYTES	16
#define CRYPTO_HASH_BYTES	32	/* SHA-256 */
#define CRYPTO_MAX_MAC_BYTES	32

typedef enum CryptoStatus
{
	CRYPTO_OK = 0,
	CRYPTO_REFUSED,				/* authentication failed, or not a sealed value */
	CRYPTO_NO_MEMORY,
	CRYPTO_MISSING,				/* no provider of OpenSSL's has the algorithm */
	CRYPTO_BROKEN				/* OpenSSL refused an operation that it should know */
} CryptoStatus;

typedef enum CryptoHash
{
	CRYPTO_SHA1,
	CRYPTO_SHA256
} CryptoHash;

/* A key that is ready for use, all of it in locked memory. */
typedef struct CryptoKey CryptoKey;

/* Random bytes drawn at once and returned piece by piece; each piece is wiped here when it is returned. */
#define CRYPTO_DRAW_BYTES	64
typedef struct CryptoDraw
{
	uint8_t		bytes[CRYPTO_DRAW_BYTES];
	size_t		left;
} CryptoDraw;

extern CryptoStatus crypto_take(CryptoDraw *draw, void *bytes, size_t length);
extern CryptoStatus crypto_random(void *bytes, size_t length);

extern void crypto_wipe(void *bytes, size_t length);
extern bool crypto_equal(const void *a, const void *b, size_t length);

extern const char *crypto_library_version(void);
extern const char *crypto_missing_algorithm(void);

extern CryptoStatus crypto_key_make(const uint8_t raw[CRYPTO_KEY_BYTES], CryptoKey **key);
extern const uint8_t *crypto_key_raw(const CryptoKey *key);
extern void crypto_key_free(CryptoKey *key);

extern CryptoStatus crypto_seal(CryptoKey *key, const uint8_t nonce[CRYPTO_NONCE_BYTES],
								const void *aad, size_t aad_length,
								const void *plaintext, size_t length, uint8_t *sealed);
extern CryptoStatus crypto_open(CryptoKey *key, const uint8_t nonce[CRYPTO_NONCE_BYTES],
								const void *aad, size_t aad_length,
								const uint8_t *sealed, size_t sealed_length, void *plaintext);

extern size_t crypto_hash_bytes(CryptoHash hash);
extern CryptoStatus crypto_hash_ready(CryptoHash hash);
extern CryptoStatus crypto_hmac(CryptoHash which, const void *key, size_t key_length,
								const void *message, size_t length, uint8_t *mac);
extern CryptoStatus crypto_sha256(const void *a, size_t a_length, const void *b, size_t b_length,
								  uint8_t digest[CRYPTO_HASH_BYTES]);

/* Canonical, padded base64 of up to 192 bytes; a text has room for a NUL beside its characters. */
#define CRYPTO_BASE64_MAX_BYTES 192
#define CRYPTO_BASE64_TEXT(bytes)	((size_t) ((bytes) + 2) / 3 * 4)
extern size_t crypto_base64_encode(const void *bytes, size_t length, char *text);
extern bool crypto_base64_decode(const char *text, size_t length,
								 uint8_t *bytes, size_t room, size_t *decoded);

#endif

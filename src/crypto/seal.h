/*
 * seal.h
 *	  The stored format of a secret: which key sealed it, and what it is bound to.
 *
 * sealed value:  format byte 1 | data key id (4, big-endian) | nonce (24) | ciphertext | tag (16)
 * AAD:           those first five bytes | kind (1) | length of the identifier (2, big-endian)
 *                | identifier | version (4, big-endian)
 *
 * A sealed value that is moved to another row, kind or version cannot be opened.
 */
#ifndef KEYROT_SEAL_H
#define KEYROT_SEAL_H

#include "crypto/crypto.h"

#define SEAL_FORMAT			1
#define SEAL_HEADER_BYTES	5	/* format byte and data key id */
#define SEAL_OVERHEAD		(SEAL_HEADER_BYTES + CRYPTO_NONCE_BYTES + CRYPTO_TAG_BYTES)
#define SEAL_MAX_IDENTIFIER 128
#define SEAL_MAX_PLAINTEXT	128

/* The data key id of values that the master key seals: the data keys themselves. */
#define SEAL_BY_MASTER_KEY	0

typedef enum CredentialKind
{
	CREDENTIAL_APP = 1,
	CREDENTIAL_ZONE = 2,
	CREDENTIAL_DATA_KEY = 3
} CredentialKind;

/* What a sealed value is bound to. */
typedef struct SealBinding
{
	CredentialKind	kind;
	const char *identifier;
	size_t		identifier_length;
	uint32_t	version;
} SealBinding;

extern bool seal_read_key_id(const uint8_t *sealed, size_t sealed_length, uint32_t *key_id);
extern CryptoStatus seal_secret(CryptoKey *key, uint32_t key_id, const SealBinding *binding,
								const uint8_t nonce[CRYPTO_NONCE_BYTES],
								const void *plaintext, size_t length, uint8_t *sealed);
extern CryptoStatus seal_open(CryptoKey *key, const SealBinding *binding,
							  const uint8_t *sealed, size_t sealed_length,
							  void *plaintext, size_t room, size_t *length);

#endif

/*
 * seal.c
 *	  The stored format of a secret (see seal.h): written and read here and nowhere else.
 *
 * The cipher is in crypto.c; the keyring finds the key for a data key id.
 *
 * Why not just encrypt the value?  Because anyone who can write a row could then replace its value with a
 * sealed value of another row, or with an older one of the same row.  The identifier is included in the
 * authenticated data with its length before it, so that different bindings always have different bytes.
 */
#include "crypto/seal.h"

#include <string.h>

#define MAX_AAD (SEAL_HEADER_BYTES + 1 + 2 + SEAL_MAX_IDENTIFIER + 4)

static uint8_t *
put_number(uint32_t number, uint8_t *to, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--)
		*to++ = (uint8_t) (number >> 8 * i);
	return to;
}

static size_t
make_aad(uint8_t aad[MAX_AAD], const uint8_t *header, const SealBinding *binding)
{
	uint8_t    *to = aad;

	memcpy(to, header, SEAL_HEADER_BYTES);
	to += SEAL_HEADER_BYTES;
	to = put_number((uint32_t) binding->kind, to, 1);
	to = put_number((uint32_t) binding->identifier_length, to, 2);
	if (binding->identifier_length > 0)
		memcpy(to, binding->identifier, binding->identifier_length);
	to += binding->identifier_length;
	to = put_number(binding->version, to, 4);
	return (size_t) (to - aad);
}

/* Returns the id of the data key that sealed a value. False: not a sealed value. */
bool
seal_read_key_id(const uint8_t *sealed, size_t sealed_length, uint32_t *key_id)
{
	if (sealed_length < SEAL_OVERHEAD || sealed[0] != SEAL_FORMAT)
		return false;
	*key_id = (uint32_t) sealed[1] << 24 | (uint32_t) sealed[2] << 16 |
		(uint32_t) sealed[3] << 8 | sealed[4];
	return true;
}

/*
 * Seals length bytes of plaintext under the key, whose id is key_id, with a random nonce that was never
 * used before.  Writes length + SEAL_OVERHEAD bytes to sealed.  CRYPTO_BROKEN: the identifier or the
 * plaintext is longer than the format allows.
 */
CryptoStatus
seal_secret(CryptoKey *key, uint32_t key_id, const SealBinding *binding,
			const uint8_t nonce[CRYPTO_NONCE_BYTES],
			const void *plaintext, size_t length, uint8_t *sealed)
{
	uint8_t		aad[MAX_AAD];
	uint8_t    *to = sealed;
	size_t		aad_length;

	if (binding->identifier_length > SEAL_MAX_IDENTIFIER || length > SEAL_MAX_PLAINTEXT)
		return CRYPTO_BROKEN;
	to = put_number(SEAL_FORMAT, to, 1);
	to = put_number(key_id, to, 4);
	memcpy(to, nonce, CRYPTO_NONCE_BYTES);
	aad_length = make_aad(aad, sealed, binding);
	return crypto_seal(key, nonce, aad, aad_length, plaintext, length, to + CRYPTO_NONCE_BYTES);
}

/*
 * Opens a sealed value under the key that seal_read_key_id named.  Writes *length bytes, at most room, to
 * plaintext.  CRYPTO_REFUSED: not a sealed value, not this key, not bound to this, or too long for room; then
 * *length is 0 and no plaintext is left.
 */
CryptoStatus
seal_open(CryptoKey *key, const SealBinding *binding,
		  const uint8_t *sealed, size_t sealed_length,
		  void *plaintext, size_t room, size_t *length)
{
	uint8_t		aad[MAX_AAD];
	size_t		aad_length;
	size_t		plain_length;
	uint32_t	key_id;
	CryptoStatus status;

	*length = 0;
	if (!seal_read_key_id(sealed, sealed_length, &key_id) ||
		binding->identifier_length > SEAL_MAX_IDENTIFIER)
		return CRYPTO_REFUSED;
	plain_length = sealed_length - SEAL_OVERHEAD;
	if (plain_length > SEAL_MAX_PLAINTEXT || plain_length > room)
		return CRYPTO_REFUSED;
	aad_length = make_aad(aad, sealed, binding);
	sealed += SEAL_HEADER_BYTES;
	status = crypto_open(key, sealed, aad, aad_length,
						 sealed + CRYPTO_NONCE_BYTES, plain_length + CRYPTO_TAG_BYTES, plaintext);
	if (status == CRYPTO_OK)
		*length = plain_length;
	return status;
}

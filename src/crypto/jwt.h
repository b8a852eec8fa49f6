/*
 * jwt.h
 *	  The compact form of a JSON Web Token (RFC 7515), and what its JSON has to be to be read safely.
 */
#ifndef KEYROT_JWT_H
#define KEYROT_JWT_H

#include "crypto/crypto.h"

#define JWT_MAX_BYTES	8192
#define JWT_MAX_DEPTH	100		/* of objects and arrays within each other */

/* Characters of unpadded base64url for so many bytes. */
#define JWT_ENCODED(bytes)	(((size_t) (bytes) * 4 + 2) / 3)

/* A token taken apart; the pointers point into its text. */
typedef struct JwtParts
{
	const char *header;			/* in base64url, as the payload is; the two are signed with the dot between */
	size_t		header_length;
	const char *payload;
	size_t		payload_length;
	size_t		signed_length;	/* from the header on */
	uint8_t		mac[CRYPTO_HASH_BYTES];
} JwtParts;

extern bool jwt_split(const char *token, size_t length, JwtParts *parts);

extern size_t jwt_encode(const void *bytes, size_t length, char *text);
extern bool jwt_decode(const char *text, size_t length, char *bytes, size_t *decoded);

extern bool jwt_resolve_escapes(char *json, size_t *length);
extern bool jwt_number_fits(const char *number, size_t length);

#endif

/*
 * secret.h
 *	  Secrets in memory: their buffer, their forms as text, how they are generated and wiped.
 *
 * The bytes of a Secret are the text of the AppSecret or SecretKey, ASCII without a NUL, and the HMAC key.
 */
#ifndef KEYROT_SECRET_H
#define KEYROT_SECRET_H

#include "crypto/crypto.h"

#define SECRET_MAX_BYTES		128
#define SECRET_RANDOM_BYTES		32
#define APP_SECRET_MIN			16
#define APP_SECRET_MAX			128
#define APP_SECRET_PREFIX_MAX	40
#define APP_SECRET_RANDOM		43	/* digits of base62: 256 bits */
#define APP_SECRET_CHECK		6	/* digits of base62: 32 bits */
#define SECRET_KEY_MIN_BYTES	32
#define SECRET_KEY_MAX_BYTES	48

typedef struct Secret
{
	uint8_t		bytes[SECRET_MAX_BYTES];
	size_t		length;
} Secret;

extern void secret_wipe(Secret *secret);
extern bool secret_equal(const Secret *a, const Secret *b);

extern bool secret_from_app_secret(const char *text, size_t length, Secret *secret);
extern bool secret_from_secret_key(const char *text, size_t length, Secret *secret);

extern CryptoStatus secret_make_app_secret(CryptoDraw *draw, Secret *secret);
extern bool secret_is_prefix(const char *text, size_t length);
extern CryptoStatus secret_make_prefixed_app_secret(CryptoDraw *draw, const char *prefix, Secret *secret);
extern bool secret_is_checked(const char *text, size_t length);
extern CryptoStatus secret_make_secret_key(CryptoDraw *draw, Secret *secret);

#endif

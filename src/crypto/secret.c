/*
 * secret.c
 *	  Secrets in memory: which texts are one, how they are made, compared and wiped.
 *
 * Leaves sealing to seal.c and messages to the floors above: a bad text is only refused here, since any
 * message about it could hold it.
 *
 * Why not strlen and isgraph?  A text comes from SQL with its length and may hold any byte, and what
 * isgraph accepts changes with the locale.
 */
#include "crypto/secret.h"

#include <string.h>

/* Overwrites all of a secret; its length is 0 then. */
void
secret_wipe(Secret *secret)
{
	crypto_wipe(secret, sizeof(*secret));
}

/* Compares in a time that depends on the lengths only. */
bool
secret_equal(const Secret *a, const Secret *b)
{
	return a->length == b->length && crypto_equal(a->bytes, b->bytes, a->length);
}

/*
 * Reads an AppSecret: 16 to 128 printable ASCII characters without blanks.  False: it is not one, and the
 * secret is empty.
 */
bool
secret_from_app_secret(const char *text, size_t length, Secret *secret)
{
	secret_wipe(secret);
	if (length < APP_SECRET_MIN || length > APP_SECRET_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (text[i] < '!' || text[i] > '~')
			return false;
	}
	memcpy(secret->bytes, text, length);
	secret->length = length;
	return true;
}

/*
 * Reads a SecretKey: canonical, padded base64 of 32 to 48 bytes.  False: it is not one, and the secret is
 * empty.
 */
bool
secret_from_secret_key(const char *text, size_t length, Secret *secret)
{
	secret_wipe(secret);
	if (!crypto_base64_decode(text, length, secret->bytes, SECRET_KEY_MAX_BYTES, &secret->length))
		return false;
	if (secret->length >= SECRET_KEY_MIN_BYTES)
		return true;
	secret_wipe(secret);
	return false;
}

/*
 * Writes a SecretKey as base64 and a NUL, at most SECRET_KEY_MAX_TEXT + 1 characters, and returns the
 * length without the NUL; 0 and an empty text for a secret that is too long to be a SecretKey.
 */
size_t
secret_key_to_text(const Secret *secret, char *text)
{
	text[0] = '\0';
	if (secret->length > SECRET_KEY_MAX_BYTES)
		return 0;
	return crypto_base64_encode(secret->bytes, secret->length, text);
}

/* Makes an AppSecret: 32 random bytes as 64 lowercase hex digits.  On failure the secret is empty. */
CryptoStatus
secret_make_app_secret(CryptoDraw *draw, Secret *secret)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t		random[SECRET_RANDOM_BYTES];
	CryptoStatus status = crypto_take(draw, random, sizeof(random));

	secret_wipe(secret);
	if (status != CRYPTO_OK)
		return status;
	for (size_t i = 0; i < sizeof(random); i++)
	{
		secret->bytes[secret->length++] = (uint8_t) digits[random[i] >> 4];
		secret->bytes[secret->length++] = (uint8_t) digits[random[i] & 15];
	}
	crypto_wipe(random, sizeof(random));
	return CRYPTO_OK;
}

/* Makes a SecretKey: 32 random bytes.  On failure the secret is empty. */
CryptoStatus
secret_make_secret_key(CryptoDraw *draw, Secret *secret)
{
	CryptoStatus status;

	secret_wipe(secret);
	status = crypto_take(draw, secret->bytes, SECRET_RANDOM_BYTES);
	if (status == CRYPTO_OK)
		secret->length = SECRET_RANDOM_BYTES;
	return status;
}

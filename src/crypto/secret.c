/*
 * secret.c
 *	  Secrets in memory: which texts are valid, how they are generated, compared and wiped.
 *
 * Sealing is in seal.c, and messages are in the rooms above: this file only refuses a bad text, because any
 * message about it could contain it.
 *
 * Why not strlen and isgraph?  A text from SQL has a length and may contain any byte, and what isgraph
 * accepts depends on the locale.
 */
#include "crypto/secret.h"

#include <string.h>

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#define BASE62		62
#define FAIR_BYTES	248			/* the greatest multiple of that in a byte: what is above would be drawn more often */

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
 * Reads an AppSecret: 16 to 128 printable ASCII characters without spaces.  False: it is not one, and the
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
 * Reads a SecretKey: canonical, padded base64 of 32 to 48 bytes, of which the text is kept.  False: it is not
 * one, and the secret is empty.
 */
bool
secret_from_secret_key(const char *text, size_t length, Secret *secret)
{
	uint8_t		bytes[SECRET_KEY_MAX_BYTES];
	size_t		count = 0;
	bool		good = crypto_base64_decode(text, length, bytes, sizeof(bytes), &count) &&
		count >= SECRET_KEY_MIN_BYTES;

	crypto_wipe(bytes, sizeof(bytes));
	secret_wipe(secret);
	if (!good)
		return false;
	memcpy(secret->bytes, text, length);
	secret->length = length;
	return true;
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

/* Whether generated AppSecrets may begin with it: up to 40 of A-Za-z0-9_. */
bool
secret_is_prefix(const char *text, size_t length)
{
	if (length > APP_SECRET_PREFIX_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (text[i] != '_' && (text[i] == '\0' || strchr(base62, text[i]) == NULL))
			return false;
	return true;
}

/* The CRC-32 of zlib, PNG and Ethernet. */
static uint32_t
crc32_of(const uint8_t *bytes, size_t length)
{
	uint32_t	crc = 0xFFFFFFFF;

	for (size_t i = 0; i < length; i++)
	{
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (0xEDB88320 & (0 - (crc & 1)));
	}
	return ~crc;
}

/* Writes the checksum of so many bytes, the most significant digit first. */
static void
write_check(const uint8_t *bytes, size_t length, uint8_t digits[APP_SECRET_CHECK])
{
	uint32_t	check = crc32_of(bytes, length);

	for (int i = APP_SECRET_CHECK - 1; i >= 0; i--, check /= BASE62)
		digits[i] = (uint8_t) base62[check % BASE62];
}

static CryptoStatus
append_random_digits(CryptoDraw *draw, Secret *secret, size_t end)
{
	CryptoStatus status = CRYPTO_OK;

	while (secret->length < end && status == CRYPTO_OK)
	{
		uint8_t		byte;

		status = crypto_take(draw, &byte, 1);
		if (byte < FAIR_BYTES)
			secret->bytes[secret->length++] = (uint8_t) base62[byte % BASE62];
		crypto_wipe(&byte, 1);
	}
	return status;
}

/*
 * Generates an AppSecret that scanners for leaked secrets recognize: the prefix, which secret_is_prefix() has
 * accepted, 43 random digits of base62, and the CRC-32 of all these as 6 more digits, the most significant
 * first.  On failure the secret is empty.
 */
CryptoStatus
secret_make_prefixed_app_secret(CryptoDraw *draw, const char *prefix, Secret *secret)
{
	CryptoStatus status;

	secret_wipe(secret);
	secret->length = strlen(prefix);
	memcpy(secret->bytes, prefix, secret->length);
	status = append_random_digits(draw, secret, secret->length + APP_SECRET_RANDOM);
	if (status != CRYPTO_OK)
	{
		secret_wipe(secret);
		return status;
	}
	write_check(secret->bytes, secret->length, secret->bytes + secret->length);
	secret->length += APP_SECRET_CHECK;
	return CRYPTO_OK;
}

/* Whether a text ends as such an AppSecret does, with 43 digits of base62 and the CRC-32 of all before that. */
bool
secret_is_checked(const char *text, size_t length)
{
	uint8_t		check[APP_SECRET_CHECK];
	size_t		checked = length - APP_SECRET_CHECK;

	if (length < APP_SECRET_RANDOM + APP_SECRET_CHECK || length > APP_SECRET_MAX)
		return false;
	for (size_t i = checked - APP_SECRET_RANDOM; i < length; i++)
		if (text[i] == '\0' || strchr(base62, text[i]) == NULL)
			return false;
	write_check((const uint8_t *) text, checked, check);
	return crypto_equal(check, text + checked, sizeof(check));
}

/* Makes a SecretKey: 32 random bytes as base64.  On failure the secret is empty. */
CryptoStatus
secret_make_secret_key(CryptoDraw *draw, Secret *secret)
{
	uint8_t		random[SECRET_RANDOM_BYTES];
	CryptoStatus status = crypto_take(draw, random, sizeof(random));

	secret_wipe(secret);
	if (status == CRYPTO_OK)
		secret->length = crypto_base64_encode(random, sizeof(random), (char *) secret->bytes);
	crypto_wipe(random, sizeof(random));
	return status;
}

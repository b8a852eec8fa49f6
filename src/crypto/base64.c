/*
 * base64.c
 *	  Canonical, padded base64, using OpenSSL's coder.
 *
 * Why not PostgreSQL's?  This room does not depend on PostgreSQL, and its decoder skips whitespace, as
 * OpenSSL's does.
 */
#include "crypto/crypto.h"

#include <string.h>

#include <openssl/evp.h>

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
 * Decodes canonical, padded base64 of 1 to room bytes (and at most CRYPTO_BASE64_MAX_BYTES).  OpenSSL skips
 * whitespace and ignores wrong padding and trailing bits, so the result must encode to exactly the same text.
 * False: nothing was written.
 */
bool
crypto_base64_decode(const char *text, size_t length, uint8_t *bytes, size_t room, size_t *decoded)
{
	uint8_t		made[CRYPTO_BASE64_MAX_BYTES];
	char		again[CRYPTO_BASE64_TEXT(CRYPTO_BASE64_MAX_BYTES) + 1];
	size_t		count = base64_bytes(text, length);
	bool		ok;

	if (count == 0 || count > room)
		return false;
	ok = EVP_DecodeBlock(made, (const unsigned char *) text, (int) length) == (int) length / 4 * 3 &&
		crypto_base64_encode(made, count, again) == length && crypto_equal(again, text, length);
	if (ok)
	{
		memcpy(bytes, made, count);
		*decoded = count;
	}
	crypto_wipe(made, sizeof(made));
	crypto_wipe(again, sizeof(again));
	return ok;
}

/*
 * master_text.c
 *	  Reads and writes master keys as text.  master.c provides the text.
 *
 * Does not depend on PostgreSQL, so that it can be fuzzed without a server.
 */
#include "keys/master_text.h"

#include <string.h>

static const char fingerprint_domain[] = "keyrot master key";

static int
hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

static void
format_hex(const uint8_t *bytes, size_t length, char *digits)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++)
	{
		digits[2 * i] = hex[bytes[i] >> 4];
		digits[2 * i + 1] = hex[bytes[i] & 15];
	}
	digits[2 * length] = '\0';
}

static bool
parse_key(const char *digits, size_t length, uint8_t raw[CRYPTO_KEY_BYTES])
{
	if (length != MASTER_TEXT_DIGITS)
		return false;
	for (size_t i = 0; i < CRYPTO_KEY_BYTES; i++)
	{
		int			high = hex_value(digits[2 * i]);
		int			low = hex_value(digits[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		raw[i] = (uint8_t) (high * 16 + low);
	}
	return true;
}

static MasterTextStatus
parse_line(const char *digits, size_t length, MasterKeys *keys)
{
	MasterKey  *key;
	uint8_t		digest[CRYPTO_HASH_BYTES];

	if (keys->count == MASTER_TEXT_MAX_KEYS)
		return MASTER_TEXT_TOO_MANY_KEYS;
	key = &keys->keys[keys->count];
	if (!parse_key(digits, length, key->raw))
		return MASTER_TEXT_MALFORMED_LINE;
	if (crypto_sha256(fingerprint_domain, sizeof(fingerprint_domain) - 1,
					  key->raw, CRYPTO_KEY_BYTES, digest) != CRYPTO_OK)
		return MASTER_TEXT_CRYPTO_FAILED;
	memcpy(key->fingerprint, digest, MASTER_TEXT_FINGERPRINT_BYTES);
	keys->count++;
	return MASTER_TEXT_OK;
}

/*
 * Reads the keys of a text, whose last line need not end with a newline; empty lines are ignored.  On
 * failure, keys is wiped and *line is the number of the invalid line.  The caller keeps both text and keys in
 * memory of its choice and wipes them.
 */
MasterTextStatus
master_text_parse(const char *text, size_t length, MasterKeys *keys, int *line)
{
	const char *end = text + length;
	MasterTextStatus status = MASTER_TEXT_OK;

	keys->count = 0;
	*line = 0;
	while (status == MASTER_TEXT_OK && text < end)
	{
		const char *newline = memchr(text, '\n', (size_t) (end - text));
		const char *line_end = newline ? newline : end;

		++*line;
		if (line_end > text)
			status = parse_line(text, (size_t) (line_end - text), keys);
		text = newline ? newline + 1 : end;
	}
	if (status == MASTER_TEXT_OK && keys->count == 0)
		status = MASTER_TEXT_EMPTY;
	if (status != MASTER_TEXT_OK)
		crypto_wipe(keys, sizeof(*keys));
	return status;
}

/* Writes a key as its line of text, without a newline; the caller wipes it. */
void
master_text_format_key(const uint8_t raw[CRYPTO_KEY_BYTES], char digits[MASTER_TEXT_DIGITS + 1])
{
	format_hex(raw, CRYPTO_KEY_BYTES, digits);
}

/* Writes the fingerprint of a key, by which rows and messages name it. */
void
master_text_format_fingerprint(const uint8_t fingerprint[MASTER_TEXT_FINGERPRINT_BYTES],
							   char digits[MASTER_TEXT_FINGERPRINT_DIGITS + 1])
{
	format_hex(fingerprint, MASTER_TEXT_FINGERPRINT_BYTES, digits);
}

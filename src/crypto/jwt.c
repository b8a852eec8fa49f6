/*
 * jwt.c
 *	  Parses tokens in the compact form of RFC 7515, and makes the JSON in them safe to read.
 *
 * Does not interpret header and claims.  All input may be hostile, so anything that does not conform exactly
 * to the RFC is refused: base64url with padding, whitespace or trailing bits is invalid.
 *
 * Why check JSON here, when PostgreSQL has a parser?  Because that raises an error instead of returning one
 * for some input: JSON nested too deeply for the stack, an escape for a character that the database's
 * encoding does not have, a number out of the range of numeric.  This file refuses or converts such input
 * first.
 */
#include "crypto/jwt.h"

#include <limits.h>
#include <string.h>

/* The limits of numeric: digits before and after the decimal point, and the largest exponent. */
#define NUMERIC_MAX_WHOLE		131072
#define NUMERIC_MAX_FRACTION	16383
#define NUMERIC_MAX_EXPONENT	(INT_MAX / 2 - 1)

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ---------- base64url ---------- */

/* Writes length bytes as JWT_ENCODED(length) characters, without a NUL, and returns their number. */
size_t
jwt_encode(const void *bytes, size_t length, char *text)
{
	const uint8_t *from = bytes;
	char	   *to = text;
	uint32_t	bits = 0;
	int			held = 0;

	for (size_t i = 0; i < length; i++)
	{
		bits = (bits << 8 | from[i]) & 0xffff;
		for (held += 8; held >= 6; held -= 6)
			*to++ = digits[bits >> (held - 6) & 63];
	}
	if (held > 0)
		*to++ = digits[bits << (6 - held) & 63];
	return (size_t) (to - text);
}

static int
digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/*
 * Decodes unpadded, canonical base64url to at most length / 4 * 3 + 2 bytes; they may be none.  False: it is not that,
 * and what was written means nothing.
 */
bool
jwt_decode(const char *text, size_t length, char *bytes, size_t *decoded)
{
	uint32_t	bits = 0;
	int			held = 0;

	*decoded = 0;
	if (length % 4 == 1)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		int			value = digit_value(text[i]);

		if (value < 0)
			return false;
		bits = bits << 6 | (uint32_t) value;
		held += 6;
		if (held < 8)
			continue;
		held -= 8;
		bytes[(*decoded)++] = (char) (bits >> held & 0xff);
		bits &= (1U << held) - 1;
	}
	return bits == 0;
}

/*
 * Takes a token apart: three parts between two dots, the last of them a MAC of SHA-256.  False: it is none, or longer
 * than JWT_MAX_BYTES.
 */
bool
jwt_split(const char *token, size_t length, JwtParts *parts)
{
	char		mac[CRYPTO_HASH_BYTES + 2];
	const char *end = token + length;
	const char *dot;
	const char *last_dot;
	size_t		mac_length;

	if (length > JWT_MAX_BYTES)
		return false;
	dot = memchr(token, '.', length);
	if (dot == NULL)
		return false;
	last_dot = memchr(dot + 1, '.', (size_t) (end - dot - 1));
	if (last_dot == NULL || end - last_dot - 1 != JWT_ENCODED(CRYPTO_HASH_BYTES) ||
		!jwt_decode(last_dot + 1, JWT_ENCODED(CRYPTO_HASH_BYTES), mac, &mac_length))
		return false;
	*parts = (JwtParts) {
		.header = token,
		.header_length = (size_t) (dot - token),
		.payload = dot + 1,
		.payload_length = (size_t) (last_dot - dot - 1),
		.signed_length = (size_t) (last_dot - token),
	};
	memcpy(parts->mac, mac, sizeof(parts->mac));
	return true;
}

/* ---------- JSON ---------- */

/* Reads the four hexadecimal digits of an escape; -1: they are not there. */
static int
read_unit(const char *at, const char *end)
{
	int			unit = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = at[i];

		if (c >= '0' && c <= '9')
			unit = unit * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			unit = unit * 16 + ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return unit;
}

static char *
put_utf8(int32_t character, char *to)
{
	if (character >= 0x10000)
	{
		*to++ = (char) (0xf0 | character >> 18);
		*to++ = (char) (0x80 | (character >> 12 & 0x3f));
	}
	else if (character >= 0x800)
		*to++ = (char) (0xe0 | character >> 12);
	if (character >= 0x800)
		*to++ = (char) (0x80 | (character >> 6 & 0x3f));
	else
		*to++ = (char) (0xc0 | character >> 6);
	*to++ = (char) (0x80 | (character & 0x3f));
	return to;
}

/*
 * Copies an escape, which begins at its backslash, and moves on behind it.  One of a character beyond ASCII becomes that
 * character.  False: it is none, or stands for NUL or half a pair of surrogates.
 */
static bool
copy_escape(const char **from, const char *end, char **to)
{
	const char *at = *from;
	bool		is_unicode = end - at >= 2 && at[1] == 'u';
	int32_t		character = is_unicode ? read_unit(at + 2, end) : 0;
	size_t		length = is_unicode ? 6 : 2;

	if (end - at < 2 || at[1] == '\0' || strchr("\"\\/bfnrtu", at[1]) == NULL ||
		(is_unicode && (character <= 0 || (character >= 0xdc00 && character <= 0xdfff))))
		return false;
	if (character >= 0xd800 && character <= 0xdbff)
	{
		int			low = end - at >= 12 && at[6] == '\\' && at[7] == 'u' ? read_unit(at + 8, end) : -1;

		if (low < 0xdc00 || low > 0xdfff)
			return false;
		character = 0x10000 + ((character - 0xd800) << 10) + (low - 0xdc00);
		length = 12;
	}
	*from = at + length;
	if (character >= 0x80)
		*to = put_utf8(character, *to);
	else
	{
		memmove(*to, at, length);
		*to += length;
	}
	return true;
}

/*
 * Replaces the escapes of characters beyond ASCII in a JSON text, which is UTF-8 then as it was before, and shortens it.
 * False: it has a wrong escape, a NUL, half a pair of surrogates, or is nested deeper than JWT_MAX_DEPTH, and is spoilt.
 * Whether it is JSON else, and UTF-8, is not looked at.
 */
bool
jwt_resolve_escapes(char *json, size_t *length)
{
	const char *from = json;
	const char *end = json + *length;
	char	   *to = json;
	bool		in_string = false;
	int			depth = 0;

	while (from < end)
	{
		if (*from == '\\' && in_string)
		{
			if (!copy_escape(&from, end, &to))
				return false;
			continue;
		}
		if (*from == '"')
			in_string = !in_string;
		else if (*from == '\0' || *from == '\\')
			return false;
		else if (!in_string && (*from == '{' || *from == '['))
			depth++;
		else if (!in_string && (*from == '}' || *from == ']'))
			depth--;
		if (depth > JWT_MAX_DEPTH)
			return false;
		*to++ = *from++;
	}
	*length = (size_t) (to - json);
	return true;
}

/* The exponent of a number behind its "e", or one that is too large for numeric. */
static int64_t
read_exponent(const char *at, const char *end)
{
	bool		is_negative = at < end && *at == '-';
	int64_t		exponent = 0;

	if (at < end && (*at == '-' || *at == '+'))
		at++;
	for (; at < end && exponent <= NUMERIC_MAX_EXPONENT; at++)
		exponent = exponent * 10 + (*at - '0');
	return is_negative ? -exponent : exponent;
}

/* Whether PostgreSQL's numeric can hold a number, which is one as JSON has it. */
bool
jwt_number_fits(const char *number, size_t length)
{
	const char *end = number + length;
	const char *at = number;
	bool		after_point = false;
	bool		is_zero = true;
	int64_t		whole = 0;			/* digits from the first that is not zero to the point; negative: zeros behind that */
	int64_t		fraction = 0;
	int64_t		exponent = 0;

	for (; at < end && *at != 'e' && *at != 'E'; at++)
	{
		if (*at == '.')
			after_point = true;
		if (*at < '0' || *at > '9')
			continue;
		is_zero = is_zero && *at == '0';
		fraction += after_point;
		if (after_point ? is_zero : !is_zero)
			whole += after_point ? -1 : 1;
	}
	if (at < end)
		exponent = read_exponent(at + 1, end);
	if (exponent > NUMERIC_MAX_EXPONENT || exponent < -NUMERIC_MAX_EXPONENT)
		return false;
	return fraction - exponent <= NUMERIC_MAX_FRACTION && (is_zero || whole + exponent <= NUMERIC_MAX_WHOLE);
}

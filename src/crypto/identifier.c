/*
 * identifier.c
 *	  The public names: which are well-formed, and how new ones are generated.
 *
 * Whether a name is taken is checked by the tables; messages about a bad one are in errors.c.
 *
 * Why not isalnum and random % 36?  What isalnum accepts changes with the locale, and 256 is no multiple of
 * 36: the first four characters would come up more often than the rest.
 */
#include "crypto/identifier.h"

#include <string.h>

#include "crypto/secret.h"

#define SECRET_LOOK_LENGTH	64	/* as many hex digits are what a made AppSecret looks like */

static const char alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyz";

#define ALPHABET_LENGTH		(sizeof(alphabet) - 1)
#define FAIR_BYTES			(256 - 256 % ALPHABET_LENGTH)	/* bytes from here on are rejected */

static bool
in_range(char c, char first, char last)
{
	return c >= first && c <= last;
}

static bool
is_letter_or_digit(char c)
{
	return in_range(c, '0', '9') || in_range(c, 'A', 'Z') || in_range(c, 'a', 'z');
}

static bool
is_hex_digit(char c)
{
	return in_range(c, '0', '9') || in_range(c, 'A', 'F') || in_range(c, 'a', 'f');
}

/* Begins with a letter or digit and continues with those or the given marks; length is at least 1. */
static bool
is_name(const char *text, size_t length, const char *marks)
{
	if (!is_letter_or_digit(text[0]))
		return false;
	for (size_t i = 1; i < length; i++)
	{
		if (!is_letter_or_digit(text[i]) && (text[i] == '\0' || strchr(marks, text[i]) == NULL))
			return false;
	}
	return true;
}

static bool
looks_like_a_secret(const char *text, size_t length)
{
	if (secret_is_checked(text, length))
		return true;
	if (length != SECRET_LOOK_LENGTH)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (!is_hex_digit(text[i]))
			return false;
	}
	return true;
}

/* 4 to 128 of A-Za-z0-9_.- beginning with a letter or digit, but nothing that looks like a made AppSecret. */
bool
identifier_is_app_key(const char *text, size_t length)
{
	return length >= APP_KEY_MIN && length <= APP_KEY_MAX &&
		is_name(text, length, "_.-") && !looks_like_a_secret(text, length);
}

/* 1 to 64 of A-Za-z0-9_- beginning with a letter or digit.  GatewayIds have the same form. */
bool
identifier_is_zone_id(const char *text, size_t length)
{
	return length >= 1 && length <= ZONE_ID_MAX && is_name(text, length, "_-") && !looks_like_a_secret(text, length);
}

/* 1 to 64 printable ASCII characters without spaces. */
bool
identifier_is_client_token(const char *text, size_t length)
{
	if (length < 1 || length > CLIENT_TOKEN_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (!in_range(text[i], '!', '~'))
			return false;
	}
	return true;
}

/* Writes prefix, as many unbiased characters as length leaves room for, and a NUL. */
static CryptoStatus
make_name(CryptoDraw *draw, const char *prefix, size_t length, char *text)
{
	size_t		at = strlen(prefix);

	memcpy(text, prefix, at);
	while (at < length)
	{
		uint8_t		byte;
		CryptoStatus status = crypto_take(draw, &byte, 1);

		if (status != CRYPTO_OK)
		{
			text[0] = '\0';
			return status;
		}
		if (byte < FAIR_BYTES)
			text[at++] = alphabet[byte % ALPHABET_LENGTH];
	}
	text[at] = '\0';
	return CRYPTO_OK;
}

/* Writes a new AppKey and a NUL; an empty text on failure. */
CryptoStatus
identifier_make_app_key(CryptoDraw *draw, char text[APP_KEY_MADE_LENGTH + 1])
{
	return make_name(draw, "ak", APP_KEY_MADE_LENGTH, text);
}

/* Writes a new GatewayId and a NUL; an empty text on failure. */
CryptoStatus
identifier_make_gateway_id(CryptoDraw *draw, char text[GATEWAY_ID_MADE_LENGTH + 1])
{
	return make_name(draw, "mpgw-", GATEWAY_ID_MADE_LENGTH, text);
}

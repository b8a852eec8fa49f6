/*
 * fuzz_values.c
 *	  Texts from callers: secrets, public names, base64.  What is accepted is told a second time here, from
 *	  the contract, in another way than in src/, and both have to agree on every text.
 */
#include "fuzz.h"

#include "crypto/identifier.h"
#include "crypto/secret.h"

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Whether all of a text stands in the alphabet. */
static bool
is_all_of(const char *text, size_t length, const char *letters)
{
	for (size_t i = 0; i < length; i++)
		if (memchr(letters, text[i], strlen(letters)) == NULL)
			return false;
	return true;
}

static bool
is_name(const char *text, size_t length, size_t least, size_t most, const char *marks)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	char		letters[sizeof(plain) + 8];

	strcpy(letters, plain);
	strcat(letters, marks);
	return length >= least && length <= most && is_all_of(text, 1, plain) && is_all_of(text, length, letters);
}

static bool
is_printable(const char *text, size_t length, size_t least, size_t most)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char) text[i] <= 32 || (unsigned char) text[i] >= 127)
			return false;
	return length >= least && length <= most;
}

/* Decodes bit by bit; false where the text is not the one that these bytes are written as. */
static bool
decode(const char *text, size_t length, uint8_t *bytes, size_t *count)
{
	size_t		padding = 0;
	uint32_t	bits = 0;
	int			held = 0;

	*count = 0;
	while (padding < length && text[length - 1 - padding] == '=')
		padding++;
	if (length == 0 || length % 4 != 0 || padding > 2 || !is_all_of(text, length - padding, base64))
		return false;
	for (size_t i = 0; i < length - padding; i++)
	{
		bits = bits << 6 | (uint32_t) (strchr(base64, text[i]) - base64);
		held += 6;
		if (held >= 8)
		{
			held -= 8;
			bytes[(*count)++] = (uint8_t) (bits >> held);
		}
	}
	return (bits & ((1U << held) - 1)) == 0;
}

static void
test_base64(const char *text, size_t length, size_t room)
{
	uint8_t    *expected = malloc(length + 1);
	uint8_t    *bytes = malloc(room > 0 ? room : 1);
	char		again[CRYPTO_BASE64_TEXT(CRYPTO_BASE64_MAX_BYTES) + 1];
	size_t		expected_count;
	size_t		count = 0;
	bool		is_good;

	if (expected == NULL || bytes == NULL)
		abort();
	is_good = decode(text, length, expected, &expected_count) && expected_count <= room &&
		expected_count <= CRYPTO_BASE64_MAX_BYTES;
	expect(crypto_base64_decode(text, length, bytes, room, &count) == is_good, "base64 is canonical or refused");
	if (is_good)
	{
		expect(count == expected_count && memcmp(bytes, expected, count) == 0, "base64 decodes to its bytes");
		expect(crypto_base64_encode(bytes, count, again) == length && memcmp(again, text, length) == 0,
			   "base64 comes back as it was");
	}
	free(expected);
	free(bytes);
}

static void
test_secrets(const char *text, size_t length)
{
	static const Secret nothing;
	Secret		secret;
	uint8_t		bytes[3 * 1024];
	size_t		count;
	bool		is_good = is_printable(text, length, 16, 128);

	memset(&secret, 1, sizeof(secret));
	expect(secret_from_app_secret(text, length, &secret) == is_good, "an AppSecret is what the contract says");
	expect(is_good ? secret.length == length && memcmp(secret.bytes, text, length) == 0 :
		   memcmp(&secret, &nothing, sizeof(secret)) == 0, "an AppSecret is its bytes, and nothing is left of a bad one");

	memset(&secret, 1, sizeof(secret));
	is_good = length < sizeof(bytes) && decode(text, length, bytes, &count) && count >= 32 && count <= 48;
	expect(secret_from_secret_key(text, length, &secret) == is_good, "a SecretKey is what the contract says");
	count_end(is_good, "SecretKeys", "other texts");
	if (!is_good)
	{
		expect(memcmp(&secret, &nothing, sizeof(secret)) == 0, "nothing is left of a bad SecretKey");
		return;
	}
	expect(secret.length == length && memcmp(secret.bytes, text, length) == 0, "a SecretKey is its text");
}

static void
test_names(const char *text, size_t length)
{
	bool		looks_secret = length == 64 && is_all_of(text, length, "0123456789abcdefABCDEF");
	bool		is_zone = is_name(text, length, 1, 64, "_-") && !looks_secret;

	expect(identifier_is_app_key(text, length) == (is_name(text, length, 4, 128, "_.-") && !looks_secret),
		   "an AppKey is what the contract says");
	expect(identifier_is_zone_id(text, length) == is_zone, "a ZoneId is what the contract says");
	expect(identifier_is_client_token(text, length) == is_printable(text, length, 1, 64),
		   "a client_token is what the contract says");
}

/* Makes a text of one alphabet from the bytes, since chance finds few well-formed ones. */
static void
shape(char *text, size_t length, uint8_t how)
{
	static const char *const alphabets[] = {base64, "0123456789abcdef", "0123456789abcdefABCDEF", "aZ0_-.", "!~a1"};
	const char *letters = alphabets[how % lengthof(alphabets)];

	for (size_t i = 0; i < length; i++)
		text[i] = letters[(uint8_t) text[i] % strlen(letters)];
	if (how >= 128 && length > 1)
		memset(text + length - 1 - how % 2, '=', 1 + how % 2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	Input		input = {bytes, length};
	uint8_t		how = take_byte(&input);
	size_t		room = take_number(&input, 256);
	size_t		size;
	char	   *text = (char *) take_bytes(&input, 1024, &size);

	if (how % 8 != 0)
		shape(text, size, how);
	test_base64(text, size, room);
	test_secrets(text, size);
	test_names(text, size);
	free(text);
	return 0;
}

/*
 * fuzz_token.c
 *	  Texts as tokens and as the JSON in them: base64url is what standard base64 says of the same digits; a token is taken
 *	  apart where its dots are; and what JSON comes to has no escape beyond ASCII left, and is UTF-8 where it was ASCII.
 *
 * Chance finds no token, so the input puts texts together from pieces that mean something.
 */
#include "fuzz.h"

#include "crypto/jwt.h"

#define MAX_TEXT 1024

static const char *const pieces[] = {
	".", "..", "eyJhbGciOiJIUzI1NiJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "eyJhbGciOiJIUzI1NiJ9", "e30", "e31", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "-", "_", "=", "+",
	"{", "}", "[", "]", "\"", "\\", "\\\\", "\\\"", "\\u", "\\u00", "\\u0000", "\\u0041", "\\u00e9", "\\u20ac", "\\ud83d", "\\ude00",
	"\\ud83d\\ude00", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "0", "1", "9", "e", "E-", "99999", "16383", "131072", "a", " "
};

/* Base64url, as padded base64 has it, of at most 64 digits. */
static void
test_base64url(const char *text, size_t length)
{
	char		padded[72];
	char		bytes[MAX_TEXT];
	char		again[MAX_TEXT];
	uint8_t		expected[64];
	size_t		expected_length = 0;
	size_t		decoded = 0;
	size_t		size = 0;
	bool		good = jwt_decode(text, length, bytes, &decoded);
	bool		is_good = length > 0;

	if (good)
		expect(decoded <= length && jwt_encode(bytes, decoded, again) == length && memcmp(again, text, length) == 0,
			   "base64url comes back as it was");
	if (length > 64)
		return;
	for (; size < length; size++)
	{
		is_good = is_good && text[size] != '+' && text[size] != '/' && text[size] != '=';
		padded[size] = text[size] == '-' ? '+' : text[size] == '_' ? '/' : text[size];
	}
	while (size % 4 != 0)
		padded[size++] = '=';
	is_good = length == 0 ||
		(is_good && crypto_base64_decode(padded, size, expected, sizeof(expected), &expected_length));
	expect(good == is_good, "base64url is base64 in another alphabet");
	if (good)
		expect(decoded == expected_length && memcmp(bytes, expected, decoded) == 0, "and stands for the same bytes");
}

static void
test_token(const char *text, size_t length)
{
	JwtParts	parts;
	size_t		dots = 0;
	const char *last = NULL;
	bool		good = jwt_split(text, length, &parts);

	for (size_t i = 0; i < length; i++)
	{
		dots += text[i] == '.';
		last = text[i] == '.' ? text + i : last;
	}
	count_end(good, "tokens", "other texts");
	if (!good)
	{
		char		bytes[MAX_TEXT];
		size_t		decoded;

		expect(dots != 2 || text + length - last != 44 || !jwt_decode(last + 1, 43, bytes, &decoded), "what is a token is taken apart");
		return;
	}
	expect(dots == 2 && parts.header == text && parts.payload == text + parts.header_length + 1 &&
		   text + parts.signed_length == last && parts.payload + parts.payload_length == last, "it is cut at its dots");
}

static bool
is_utf8(const uint8_t *at, const uint8_t *end)
{
	while (at < end)
	{
		int			more = *at < 0x80 ? 0 : *at < 0xc2 ? -1 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : -1;

		if (more < 0 || end - at <= more || (*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f) ||
			(*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f))
			return false;
		for (at++; more > 0; more--, at++)
			if ((*at & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static void
test_json(const char *text, size_t length)
{
	char	   *json = malloc(length + 1);
	char	   *once = malloc(length + 1);
	size_t		resolved = length;
	size_t		again;

	if (json == NULL || once == NULL)
		abort();
	memcpy(json, text, length);
	if (jwt_resolve_escapes(json, &resolved))
	{
		expect(resolved <= length, "it gets no longer");
		expect(memchr(json, '\0', resolved) == NULL, "there is no NUL in it");
		expect(!is_utf8((const uint8_t *) text, (const uint8_t *) text + length) ||
			   is_utf8((const uint8_t *) json, (const uint8_t *) json + resolved), "UTF-8 stays so");
		memcpy(once, json, resolved);
		again = resolved;
		expect(jwt_resolve_escapes(json, &again) && again == resolved && memcmp(json, once, resolved) == 0, "nothing is left to be resolved");
		for (size_t i = 0; i + 5 < resolved; i++)
			if (once[i] == '\\' && once[++i] == 'u')
				expect(once[i + 1] == '0' && once[i + 2] == '0' && once[i + 3] >= '0' && once[i + 3] <= '7', "escapes are of ASCII");
	}
	free(json);
	free(once);
}

/* A number as JSON has it: digits, perhaps a point and more of them, perhaps an exponent. */
static void
test_number(Input *input)
{
	char		text[600];
	int			whole = 1 + (int) take_number(input, 200);
	int			fraction = (int) take_number(input, 200);
	int			exponent = (int) take_number(input, 65536) * (take_byte(input) % 3 == 0 ? 3 : 1) * (take_byte(input) % 2 == 0 ? 1 : -1);
	bool		is_zero = take_byte(input) % 8 == 0;
	int			length = 0;

	memset(text, is_zero ? '0' : '7', sizeof(text));
	length = is_zero ? 1 : whole;
	whole = length;
	text[length] = '.';
	length += fraction > 0 ? fraction + 1 : 0;
	length += snprintf(text + length, 20, "e%d", exponent);
	expect(jwt_number_fits(text, (size_t) length) ==
		   (fraction - exponent <= 16383 && (is_zero || whole + exponent <= 131072)), "numeric holds a number or not");
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	Input		input = {bytes, length};
	char		composed[MAX_TEXT];
	size_t		size = 0;
	char	   *text;

	if (take_byte(&input) % 4 == 0)
		text = (char *) take_bytes(&input, MAX_TEXT, &size);
	else
	{
		test_number(&input);
		while (input.left > 0)
		{
			const char *piece = pieces[take_byte(&input) % lengthof(pieces)];

			if (size + strlen(piece) > MAX_TEXT)
				break;
			memcpy(composed + size, piece, strlen(piece));
			size += strlen(piece);
		}
		text = malloc(size > 0 ? size : 1);
		if (text == NULL)
			abort();
		memcpy(text, composed, size);
	}
	test_base64url(text, size);
	test_token(text, size);
	test_json(text, size);
	free(text);
	return 0;
}

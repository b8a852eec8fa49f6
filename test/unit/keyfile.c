/*
 * master_text.c
 *	  Unit tests of master keys as text: which texts are a key file, and what is told of those that are not.
 */
#include "units.h"

#include "keys/master_text.h"

#include <stdio.h>
#include <string.h>

#define DIGITS_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define DIGITS_B "FFEEDDCCBBAA99887766554433221100FFEEDDCCBBAA99887766554433221100"

static const struct
{
	const char *name;
	const char *text;
	KeyfileStatus status;
	int			keys;
	int			line;
}			texts[] = {
	{"a key and a newline", DIGITS_A "\n", KEYFILE_OK, 1, 1},
	{"a key without a newline", DIGITS_A, KEYFILE_OK, 1, 1},
	{"two keys, one in upper case", DIGITS_A "\n" DIGITS_B "\n", KEYFILE_OK, 2, 2},
	{"empty lines count for nothing", "\n\n" DIGITS_A "\n\n" DIGITS_B "\n\n", KEYFILE_OK, 2, 6},
	{"nothing", "", KEYFILE_EMPTY, 0, 0},
	{"empty lines only", "\n\n", KEYFILE_EMPTY, 0, 2},
	{"a digit too few", &DIGITS_A[1], KEYFILE_MALFORMED_LINE, 0, 1},
	{"a digit too many", DIGITS_A "0\n", KEYFILE_MALFORMED_LINE, 0, 1},
	{"a carriage return", DIGITS_A "\r\n", KEYFILE_MALFORMED_LINE, 0, 1},
	{"a blank before the key", " " DIGITS_A "\n", KEYFILE_MALFORMED_LINE, 0, 1},
	{"a letter that is no digit", "g" "0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", KEYFILE_MALFORMED_LINE, 0, 1},
	{"a bad second line", DIGITS_A "\nkey\n", KEYFILE_MALFORMED_LINE, 0, 2},
};

static void
test_texts(void)
{
	static MasterKeys keys;

	for (size_t i = 0; i < lengthof(texts); i++)
	{
		int			line = -1;
		char		name[80];
		bool		good = keyfile_parse(texts[i].text, strlen(texts[i].text), &keys, &line) == texts[i].status &&
			keys.count == texts[i].keys && line == texts[i].line;

		snprintf(name, sizeof(name), "key file: %s", texts[i].name);
		ok(good, name);
	}
	ok(keyfile_parse(DIGITS_A "\0\n", KEYFILE_DIGITS + 2, &keys, &(int) {0}) == KEYFILE_MALFORMED_LINE,
	   "key file: a zero byte");
	ok(keyfile_parse(DIGITS_A "\nx", KEYFILE_DIGITS + 2, &keys, &(int) {0}) == KEYFILE_MALFORMED_LINE &&
	   is_zero(&keys, sizeof(keys)), "key file: a refused one leaves no key in memory");
}

static void
test_too_many(void)
{
	static MasterKeys keys;
	char		text[(KEYFILE_MAX_KEYS + 1) * (KEYFILE_DIGITS + 1)];
	int			line;

	for (int i = 0; i <= KEYFILE_MAX_KEYS; i++)
		memcpy(&text[i * (KEYFILE_DIGITS + 1)], DIGITS_A "\n", KEYFILE_DIGITS + 1);
	ok(keyfile_parse(text, sizeof(text) - (KEYFILE_DIGITS + 1), &keys, &line) == KEYFILE_OK &&
	   keys.count == KEYFILE_MAX_KEYS, "key file: as many keys as may be");
	ok(keyfile_parse(text, sizeof(text), &keys, &line) == KEYFILE_TOO_MANY_KEYS &&
	   line == KEYFILE_MAX_KEYS + 1, "key file: one key too many");
}

/* The fingerprint as design and README tell it; computed with sha256sum. */
static void
test_formats(void)
{
	static MasterKeys keys;
	char		digits[KEYFILE_DIGITS + 1];
	char		fingerprint[KEYFILE_FINGERPRINT_DIGITS + 1];

	(void) keyfile_parse(DIGITS_A, KEYFILE_DIGITS, &keys, &(int) {0});
	keyfile_format_key(keys.keys[0].raw, digits);
	ok(strcmp(digits, DIGITS_A) == 0, "key file: a key is written as it was read");
	keyfile_format_fingerprint(keys.keys[0].fingerprint, fingerprint);
	ok(strcmp(fingerprint, "e928ff2b10c91057") == 0, "key file: fingerprint");
}

void
keyfile_tests(void)
{
	test_texts();
	test_too_many();
	test_formats();
}

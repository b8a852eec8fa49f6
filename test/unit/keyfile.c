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
	MasterTextStatus status;
	int			keys;
	int			line;
}			texts[] = {
	{"a key and a newline", DIGITS_A "\n", MASTER_TEXT_OK, 1, 1},
	{"a key without a newline", DIGITS_A, MASTER_TEXT_OK, 1, 1},
	{"two keys, one in upper case", DIGITS_A "\n" DIGITS_B "\n", MASTER_TEXT_OK, 2, 2},
	{"empty lines count for nothing", "\n\n" DIGITS_A "\n\n" DIGITS_B "\n\n", MASTER_TEXT_OK, 2, 6},
	{"nothing", "", MASTER_TEXT_EMPTY, 0, 0},
	{"empty lines only", "\n\n", MASTER_TEXT_EMPTY, 0, 2},
	{"a digit too few", &DIGITS_A[1], MASTER_TEXT_MALFORMED_LINE, 0, 1},
	{"a digit too many", DIGITS_A "0\n", MASTER_TEXT_MALFORMED_LINE, 0, 1},
	{"a carriage return", DIGITS_A "\r\n", MASTER_TEXT_MALFORMED_LINE, 0, 1},
	{"a blank before the key", " " DIGITS_A "\n", MASTER_TEXT_MALFORMED_LINE, 0, 1},
	{"a letter that is no digit", "g" "0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", MASTER_TEXT_MALFORMED_LINE, 0, 1},
	{"a bad second line", DIGITS_A "\nkey\n", MASTER_TEXT_MALFORMED_LINE, 0, 2},
};

static void
test_texts(void)
{
	static MasterKeys keys;

	for (size_t i = 0; i < lengthof(texts); i++)
	{
		int			line = -1;
		char		name[80];
		bool		good = master_text_parse(texts[i].text, strlen(texts[i].text), &keys, &line) == texts[i].status &&
			keys.count == texts[i].keys && line == texts[i].line;

		snprintf(name, sizeof(name), "key file: %s", texts[i].name);
		ok(good, name);
	}
	ok(master_text_parse(DIGITS_A "\0\n", MASTER_TEXT_DIGITS + 2, &keys, &(int) {0}) == MASTER_TEXT_MALFORMED_LINE,
	   "key file: a zero byte");
	ok(master_text_parse(DIGITS_A "\nx", MASTER_TEXT_DIGITS + 2, &keys, &(int) {0}) == MASTER_TEXT_MALFORMED_LINE &&
	   is_zero(&keys, sizeof(keys)), "key file: a refused one leaves no key in memory");
}

static void
test_too_many(void)
{
	static MasterKeys keys;
	char		text[(MASTER_TEXT_MAX_KEYS + 1) * (MASTER_TEXT_DIGITS + 1)];
	int			line;

	for (int i = 0; i <= MASTER_TEXT_MAX_KEYS; i++)
		memcpy(&text[i * (MASTER_TEXT_DIGITS + 1)], DIGITS_A "\n", MASTER_TEXT_DIGITS + 1);
	ok(master_text_parse(text, sizeof(text) - (MASTER_TEXT_DIGITS + 1), &keys, &line) == MASTER_TEXT_OK &&
	   keys.count == MASTER_TEXT_MAX_KEYS, "key file: as many keys as may be");
	ok(master_text_parse(text, sizeof(text), &keys, &line) == MASTER_TEXT_TOO_MANY_KEYS &&
	   line == MASTER_TEXT_MAX_KEYS + 1, "key file: one key too many");
}

/* The fingerprint as design and README tell it; computed with sha256sum. */
static void
test_formats(void)
{
	static MasterKeys keys;
	char		digits[MASTER_TEXT_DIGITS + 1];
	char		fingerprint[MASTER_TEXT_FINGERPRINT_DIGITS + 1];

	(void) master_text_parse(DIGITS_A, MASTER_TEXT_DIGITS, &keys, &(int) {0});
	master_text_format_key(keys.keys[0].raw, digits);
	ok(strcmp(digits, DIGITS_A) == 0, "key file: a key is written as it was read");
	master_text_format_fingerprint(keys.keys[0].fingerprint, fingerprint);
	ok(strcmp(fingerprint, "e928ff2b10c91057") == 0, "key file: fingerprint");
}

void
master_text_tests(void)
{
	test_texts();
	test_too_many();
	test_formats();
}

/*
 * fuzz_keyfile.c
 *	  Texts as key files: a second reader, which goes character by character, has to find the same keys, or
 *	  the same fault in the same line; what is read and written again is what was read.
 *
 * Chance finds no line of 64 digits, so the input puts lines together from good ones, bad ones and its own
 * bytes.
 */
#include "fuzz.h"

#include "keys/master_text.h"

#define MAX_TEXT (2 * MASTER_TEXT_MAX_BYTES)

/* A file as the second reader has it. */
typedef struct Expected
{
	MasterTextStatus status;
	int			line;
	int			keys;
	char		digits[MASTER_TEXT_MAX_KEYS][MASTER_TEXT_DIGITS + 1];	/* in lower case */
} Expected;

static const char hex[] = "0123456789abcdef";

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static void
end_line(Expected *expected, const char *line, size_t length)
{
	if (length == 0 || expected->status != MASTER_TEXT_OK)
		return;
	if (expected->keys == MASTER_TEXT_MAX_KEYS)
		expected->status = MASTER_TEXT_TOO_MANY_KEYS;
	else if (length != MASTER_TEXT_DIGITS)
		expected->status = MASTER_TEXT_MALFORMED_LINE;
	for (size_t i = 0; i < length && expected->status == MASTER_TEXT_OK; i++)
	{
		if (!is_hex(line[i]))
			expected->status = MASTER_TEXT_MALFORMED_LINE;
		else
			expected->digits[expected->keys][i] = (char) (line[i] >= 'A' && line[i] <= 'F' ? line[i] + 'a' - 'A' : line[i]);
	}
	if (expected->status == MASTER_TEXT_OK)
		expected->keys++;
}

static void
read_again(Expected *expected, const char *text, size_t length)
{
	size_t		start = 0;

	memset(expected, 0, sizeof(*expected));
	for (size_t i = 0; i <= length && expected->status == MASTER_TEXT_OK; i++)
	{
		if (i < length && text[i] != '\n')
			continue;
		if (i < length || i > start)
			expected->line++;
		end_line(expected, text + start, i - start);
		start = i + 1;
	}
	if (expected->status == MASTER_TEXT_OK && expected->keys == 0)
		expected->status = MASTER_TEXT_EMPTY;
}

static void
compare(const char *text, size_t length)
{
	static const MasterKeys nothing;
	static MasterKeys keys;
	static Expected expected;
	int			line = -1;

	read_again(&expected, text, length);
	memset(&keys, 1, sizeof(keys));
	expect(master_text_parse(text, length, &keys, &line) == expected.status, "both readers judge the file alike");
	expect(line == expected.line, "both readers stop at the same line");
	count_end(expected.status == MASTER_TEXT_OK, "key files", "refused");
	if (expected.status != MASTER_TEXT_OK)
	{
		expect(memcmp(&keys, &nothing, sizeof(keys)) == 0, "a refused file leaves no key in memory");
		return;
	}
	expect(keys.count == expected.keys, "both readers find as many keys");
	for (int i = 0; i < keys.count; i++)
	{
		char		digits[MASTER_TEXT_DIGITS + 1];
		char		fingerprint[MASTER_TEXT_FINGERPRINT_DIGITS + 1];

		master_text_format_key(keys.keys[i].raw, digits);
		expect(strcmp(digits, expected.digits[i]) == 0, "a key is written as it was read");
		master_text_format_fingerprint(keys.keys[i].fingerprint, fingerprint);
		expect(strlen(fingerprint) == MASTER_TEXT_FINGERPRINT_DIGITS, "a key has a fingerprint");
	}
}

/* Adds up to count characters that the input chooses from the letters. */
static size_t
add(char *text, size_t length, size_t count, const char *letters, Input *input)
{
	for (size_t i = 0; i < count && length < MAX_TEXT; i++)
		text[length++] = letters[take_byte(input) % strlen(letters)];
	return length;
}

/* Puts a text together, line by line. */
static size_t
compose(char *text, Input *input)
{
	size_t		length = 0;

	while (input->left > 0 && length < MAX_TEXT)
	{
		uint8_t		how = take_byte(input);
		size_t		digits = how % 16 == 0 ? take_byte(input) : MASTER_TEXT_DIGITS;

		if (how % 8 == 1)
			length = add(text, length, 1 + how % 3, "\n\r\t G\\", input);
		else if (how % 8 != 2)
			length = add(text, length, digits, how % 8 == 3 ? "0123456789ABCDEFabcdef" : hex, input);
		if (how % 64 == 4 && length > 0)
			text[take_number(input, length)] = (char) take_byte(input);
		if (how < 240)
			length = add(text, length, 1, "\n", input);
	}
	return length;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	Input		input = {bytes, length};
	size_t		size = 0;
	char	   *text;

	if (take_byte(&input) % 4 == 0)
		text = (char *) take_bytes(&input, MAX_TEXT, &size);
	else
	{
		static char composed[MAX_TEXT];

		size = compose(composed, &input);
		text = malloc(size > 0 ? size : 1);
		if (text == NULL)
			abort();
		memcpy(text, composed, size);
	}
	compare(text, size);
	free(text);
	return 0;
}

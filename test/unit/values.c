/*
 * values.c
 *	  Unit tests of the values: which texts are an identifier or a secret, what generated ones look like,
 *	  base64, UUIDs.
 */
#include "units.h"

#include "crypto/identifier.h"
#include "crypto/uuid7.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

/* ---------- forms ---------- */

/* Bad values must be refused and good ones accepted; 'x' × length where there is no text. */
typedef struct Form
{
	const char *text;
	size_t		length;			/* 0: that of the text */
	bool		good;
} Form;

typedef bool (*FormCheck) (const char *text, size_t length);

static bool inconsistent;		/* set by a check whose value was accepted, but changed */

static void
check_forms(const char *name, FormCheck check, const Form *forms, size_t count)
{
	char		message[128];
	char		filler[256];

	memset(filler, 'x', sizeof(filler));
	for (size_t i = 0; i < count; i++)
	{
		const char *text = forms[i].text != NULL ? forms[i].text : filler;
		size_t		length = forms[i].length > 0 ? forms[i].length : strlen(text);
		char	   *exact = malloc(length > 0 ? length : 1);

		if (exact == NULL)
			abort();
		/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): so that a read too far is noticed */
		memcpy(exact, text, length);
		(void) snprintf(message, sizeof(message), "%s: form %zu is %s", name, i,
						forms[i].good ? "good" : "bad");
		inconsistent = false;
		ok(check(exact, length) == forms[i].good && !inconsistent && ERR_peek_error() == 0, message);
		free(exact);
	}
}

#define HEX32 "0123456789abcdefABCDEF9876543210"

static const Form app_key_forms[] = {
	{"60030986", 0, true}, {"0007", 0, true}, {"a_.-", 0, true}, {"Zz09", 0, true}, {NULL, 128, true},
	{HEX32 HEX32 "0", 0, true}, {HEX32 HEX32, 63, true}, {HEX32 HEX32 "x", 0, true},
	{HEX32 "0123456789abcdefABCDEF987654321g", 0, true},
	{HEX32 HEX32, 0, false}, {NULL, 129, false}, {"", 0, false}, {"abc", 0, false},
	{"_abc", 0, false}, {".abc", 0, false}, {"-abc", 0, false}, {" abcd", 0, false}, {"abcd ", 0, false},
	{"ab cd", 0, false}, {"abcd\n", 0, false}, {"abcd", 5, false}, {"ab\0d", 4, false}, {"abc\xc3\xa9", 0, false},
	{"abc/", 0, false}, {"abc:", 0, false}, {"abc@", 0, false}, {"abc[", 0, false}, {"abc`", 0, false},
	{"abc{", 0, false}, {"abc,", 0, false}
};

static const Form zone_id_forms[] = {
	{"z", 0, true}, {"zone-27q0p0bal192", 0, true}, {"0_-", 0, true}, {NULL, 64, true},
	{NULL, 65, false}, {"", 0, false}, {"-z", 0, false}, {"_z", 0, false}, {"z.z", 0, false},
	{"z z", 0, false}, {"z", 2, false}, {"z\xff", 0, false},
	{"0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef", 0, false}
};

static const Form app_secret_forms[] = {
	{NULL, 16, true}, {NULL, 128, true}, {"!\"#$%&'()*+,-./~", 0, true},
	{NULL, 15, false}, {NULL, 129, false}, {"", 0, false}, {"0123456789 abcdef", 0, false},
	{"0123456789\tabcdef", 0, false}, {"0123456789\0abcdef", 17, false}, {"0123456789\x7f" "abcdef", 0, false},
	{"0123456789abcd\xc3\xa9", 0, false}, {"0123456789\x80" "abcdef", 0, false}
};

/* 42 characters of base64, to which the last two are added: 44 are 32 bytes. */
#define B42 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh"

static const Form secret_key_forms[] = {
	{B42 "8=", 0, true}, {B42 "/+", 0, true}, {B42 "8/", 0, true}, {B42 "8/AA==", 0, true},
	{B42 "8/AAA=", 0, true}, {NULL, 64, true},
	{B42 "8", 0, false}, {B42 "8==", 0, false}, {B42 "==", 0, false}, {B42 "9=", 0, false},
	{B42 "8/AB==", 0, false}, {B42 "8/AAB=", 0, false}, {B42 "8/====", 0, false}, {B42 "8/A===", 0, false},
	{B42 "-_", 0, false}, {B42 "8=\n", 0, false}, {" " B42 "8=", 0, false}, {B42 " 8=", 0, false},
	{B42 "8=    ", 0, false}, {"    " B42 "8=", 0, false}, {B42 "8=\n\n\n\n", 0, false}, {B42 "  ", 0, false},
	{B42 "8\0", 44, false}, {B42 "\0\0", 44, false}, {B42 "8=\0\0\0\0", 48, false}, {"\0\0\0\0" B42 "8=", 48, false},
	{"AAE=" "Aw==" B42 "AA", 0, false}, {B42 "8=AAAA", 0, false}, {B42 "8--AAA", 0, false}, {B42 "\xc3\xa9", 0, false},
	{B42, 40, false}, {B42, 42, false}, {NULL, 68, false}, {NULL, 65, false}, {NULL, 256, false}, {"", 0, false},
	{"====", 0, false}
};

static bool
is_app_secret(const char *text, size_t length)
{
	Secret		secret = {{1}, 1};
	bool		good = secret_from_app_secret(text, length, &secret);

	inconsistent = good ? secret.length != length || memcmp(secret.bytes, text, length) != 0 ||
		!is_zero(secret.bytes + length, SECRET_MAX_BYTES - length) : !is_zero(&secret, sizeof(secret));
	return good;
}

static bool
is_secret_key(const char *text, size_t length)
{
	Secret		secret = {{1}, 1};
	bool		good = secret_from_secret_key(text, length, &secret);

	inconsistent = good ? secret.length != length || memcmp(secret.bytes, text, length) != 0 ||
		!is_zero(secret.bytes + length, SECRET_MAX_BYTES - length) : !is_zero(&secret, sizeof(secret));
	return good;
}

static void
form_tests(void)
{
	check_forms("AppKey", identifier_is_app_key, app_key_forms, lengthof(app_key_forms));
	check_forms("ZoneId", identifier_is_zone_id, zone_id_forms, lengthof(zone_id_forms));
	check_forms("AppSecret", is_app_secret, app_secret_forms, lengthof(app_secret_forms));
	check_forms("SecretKey", is_secret_key, secret_key_forms, lengthof(secret_key_forms));
}

static void
base64_tests(void)
{
	static const char *const texts[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
	uint8_t		bytes[CRYPTO_BASE64_MAX_BYTES + 1] = {0};
	char		text[CRYPTO_BASE64_TEXT(CRYPTO_BASE64_MAX_BYTES) + 1];
	bool		good = true;
	size_t		length = 0;

	for (size_t i = 1; i < lengthof(texts); i++)
		good = good && crypto_base64_encode("foobar", i, text) == strlen(texts[i]) &&
			strcmp(text, texts[i]) == 0 && crypto_base64_decode(text, strlen(text), bytes, i, &length) &&
			length == i && memcmp(bytes, "foobar", i) == 0;
	ok(good, "base64 as in RFC 4648");
	ok(!crypto_base64_decode("Zm9v", 4, bytes, 2, &length), "base64 without room");
	ok(crypto_base64_encode(bytes, sizeof(bytes), text) == 0 && text[0] == '\0', "base64 of too many bytes");
	ok(crypto_base64_encode(bytes, CRYPTO_BASE64_MAX_BYTES, text) == 256 &&
	   crypto_base64_decode(text, 256, bytes, CRYPTO_BASE64_MAX_BYTES, &length) && length == 192,
	   "base64 of the longest value");
}

/* ---------- generated values ---------- */

#define MADE	2000

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(a, b);
}

static bool
all_distinct(char texts[MADE][SECRET_MAX_BYTES])
{
	qsort(texts, MADE, SECRET_MAX_BYTES, compare_texts);
	for (int i = 1; i < MADE; i++)
	{
		if (strcmp(texts[i - 1], texts[i]) == 0)
			return false;
	}
	return true;
}

/* Each maker writes a text and tells whether it is well formed. */
static bool
make_app_key(CryptoDraw *draw, char *text)
{
	return identifier_make_app_key(draw, text) == CRYPTO_OK && strlen(text) == APP_KEY_MADE_LENGTH &&
		strncmp(text, "ak", 2) == 0 && strspn(text, "0123456789abcdefghijklmnopqrstuvwxyz") == 22 &&
		identifier_is_app_key(text, APP_KEY_MADE_LENGTH);
}

static bool
make_gateway_id(CryptoDraw *draw, char *text)
{
	return identifier_make_gateway_id(draw, text) == CRYPTO_OK && strlen(text) == GATEWAY_ID_MADE_LENGTH &&
		strncmp(text, "mpgw-", 5) == 0 && strspn(text + 5, "0123456789abcdefghijklmnopqrstuvwxyz") == 10 &&
		identifier_is_zone_id(text, GATEWAY_ID_MADE_LENGTH);
}

static bool
make_app_secret(CryptoDraw *draw, char *text)
{
	Secret		secret;
	bool		good = secret_make_app_secret(draw, &secret) == CRYPTO_OK && secret.length == 64;

	memcpy(text, secret.bytes, 64);
	text[64] = '\0';
	return good && strspn(text, "0123456789abcdef") == 64 && !identifier_is_app_key(text, 64);
}

static bool
make_secret_key(CryptoDraw *draw, char *text)
{
	Secret		secret;
	bool		good = secret_make_secret_key(draw, &secret) == CRYPTO_OK && secret.length == 44;

	memcpy(text, secret.bytes, 44);
	text[44] = '\0';
	return good && is_secret_key(text, 44) && !inconsistent;
}

/*
 * Makes many, all well formed and different, and of the 20 (or 10) drawn characters each of the 36 about
 * as often as the others.  With 20 000 draws one comes 556 times, give or take 23; with bytes over 251 not
 * rejected, the first four would come 78 times more than the rest.
 */
static void
made_well(const char *name, bool (*make) (CryptoDraw *draw, char *text), size_t drawn_from)
{
	static char texts[MADE][SECRET_MAX_BYTES];
	CryptoDraw	draw = {{0}, 0};
	int			seen[256] = {0};
	int			kinds = 0;
	bool		good = true;

	for (int i = 0; i < MADE; i++)
	{
		good = make(&draw, texts[i]) && good;
		for (const char *at = texts[i] + drawn_from; *at != '\0'; at++)
			seen[(unsigned char) *at]++;
	}
	for (int i = 0; i < 256; i++)
		kinds += seen[i] > 0;
	ok(good && all_distinct(texts), name);
	if (drawn_from > 0)
	{
		ok(kinds == 36, "all 36 characters occur");
		ok(abs(seen['0'] + seen['1'] + seen['2'] + seen['3'] -
			   seen['w'] - seen['x'] - seen['y'] - seen['z']) < 6 * 90, "without bias");
	}
}

static void
fair_bytes_test(void)
{
	CryptoDraw	draw = {{0}, CRYPTO_DRAW_BYTES};
	char		text[APP_KEY_MADE_LENGTH + 1];

	for (int i = 0; i < 44; i++)
		draw.bytes[i] = (uint8_t) (i % 2 == 0 ? 252 + i / 2 % 4 : 252 - i);
	ok(identifier_make_app_key(&draw, text) == CRYPTO_OK && draw.left == 24 &&
	   text[2] == 'z' && text[3] == 'x' && text[21] == 'x', "bytes from 252 on are rejected");
}

static void
known_draw_test(void)
{
	CryptoDraw	draw = {{0}, CRYPTO_DRAW_BYTES};
	Secret		made;

	for (int i = 0; i < CRYPTO_DRAW_BYTES; i++)
		draw.bytes[i] = (uint8_t) (i * 7);
	ok(secret_make_app_secret(&draw, &made) == CRYPTO_OK && made.length == 64 &&
	   memcmp(made.bytes, "00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9", 64) == 0,
	   "an AppSecret is its random bytes in hex");
	ok(secret_make_secret_key(&draw, &made) == CRYPTO_OK && made.length == 44 && draw.left == 0 &&
	   memcmp(made.bytes, "4Ofu9fwDChEYHyYtNDtCSVBXXmVsc3qBiI+WnaSrsrk=", 44) == 0,
	   "a SecretKey is its random bytes in base64");
}

/* Bytes that would favour some digits are passed over; the check was computed by zlib. */
static void
prefixed_secret_test(void)
{
	CryptoDraw	draw = {{0}, CRYPTO_DRAW_BYTES};
	Secret		made;

	for (int i = 0; i < CRYPTO_DRAW_BYTES; i++)
		draw.bytes[i] = (uint8_t) (i < 2 ? 255 - 7 * i : i == 2 ? 247 : i - 3);
	ok(secret_make_prefixed_app_secret(&draw, "acme_", &made) == CRYPTO_OK && made.length == 54 &&
	   memcmp(made.bytes, "acme_z0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef", 48) == 0 &&
	   memcmp(made.bytes + 48, "1Zf9tT", 6) == 0, "a prefixed AppSecret: fair digits, then their check");
	ok(secret_make_prefixed_app_secret(&draw, "", &made) == CRYPTO_OK && made.length == 49, "an empty prefix");
	ok(secret_is_prefix("", 0) && secret_is_prefix("acme_Live_0123456789012345678901234567890", 40) &&
	   !secret_is_prefix("acme_Live_01234567890123456789012345678901", 41) && !secret_is_prefix("a-b", 3) &&
	   !secret_is_prefix("a b", 3) && !secret_is_prefix("a\0b", 3) && !secret_is_prefix("\xc3\xa4", 2),
	   "what a prefix may be");
}

static void
secret_tests(void)
{
	Secret		a = {"0123456789abcdef", 16};
	Secret		b = a;

	ok(secret_equal(&a, &b), "equal secrets");
	b.bytes[15] ^= 1;
	ok(!secret_equal(&a, &b), "different secrets");
	b = a;
	b.length--;
	ok(!secret_equal(&a, &b), "secrets of different length");
	secret_wipe(&a);
	ok(is_zero(&a, sizeof(a)), "a wiped secret");
}

/* ---------- UUID version 7 ---------- */

static bool
is_version_7(const uint8_t *uuid)
{
	return uuid[6] >> 4 == 7 && uuid[8] >> 6 == 2;
}

/* Ids of a clock that moves by step microseconds must rise. */
static bool
rises(int64_t start, int64_t step, int count)
{
	CryptoDraw	draw = {{0}, 0};
	uint8_t		last[UUID7_BYTES] = {0};
	uint8_t		uuid[UUID7_BYTES];

	for (int i = 0; i < count; i++)
	{
		if (uuid7_make(start + i * step, &draw, uuid) != CRYPTO_OK || !is_version_7(uuid) ||
			memcmp(last, uuid, 8) >= 0)
			return false;
		memcpy(last, uuid, sizeof(last));
	}
	return true;
}

/* Each microsecond's smallest id is of version 7, is of that time, and is above all of the microsecond before. */
static bool
floors_tell_time(void)
{
	uint8_t		last[UUID7_BYTES] = {0};
	uint8_t		uuid[UUID7_BYTES];
	const int64_t start = INT64_C(0x017F22E279B0) * 1000;

	for (int64_t time = start; time < start + 2001; time++)
	{
		uuid7_floor(time, uuid);
		if (!is_version_7(uuid) || uuid7_time(uuid) != time || uuid[8] != 0x80 || memcmp(last, uuid, sizeof(uuid)) >= 0)
			return false;
		memset(last, 0xff, sizeof(last));
		memcpy(last, uuid, 8);
		if (uuid7_time(last) != -1)
			return false;
		last[8] = 0xbf;
		if (uuid7_time(last) != time)
			return false;
		last[6] ^= 0x10;
		if (uuid7_time(last) != -1)
			return false;
		last[6] ^= 0x10;
	}
	return true;
}

static void
uuid7_tests(void)
{
	CryptoDraw	draw = {{0}, CRYPTO_DRAW_BYTES};
	uint8_t		uuid[UUID7_BYTES];
	uint8_t		next[UUID7_BYTES];

	ok(uuid7_make(-1, &draw, uuid) == CRYPTO_OK && is_version_7(uuid) && is_zero(uuid, 6) && draw.left == 56,
	   "a clock before 1970");
	memset(draw.bytes, 0xff, sizeof(draw.bytes));
	draw.left = CRYPTO_DRAW_BYTES;
	/* the example of RFC 9562: 2022-02-22 19:22:22 UTC; half a millisecond is 0x800 */
	ok(uuid7_make(INT64_C(0x017F22E279B0) * 1000 + 500, &draw, uuid) == CRYPTO_OK &&
	   equals_hex(uuid, 16, "017f22e279b07800bfffffffffffffff"), "time, fraction, version and variant");
	ok(uuid7_make(INT64_C(0x017F22E279B0) * 1000 + 499, &draw, next) == CRYPTO_OK &&
	   equals_hex(next, 8, "017f22e279b07801"), "a clock one step back");
	ok(uuid7_make(INT64_C(0x017F22E279B0) * 1000 + 999, &draw, next) == CRYPTO_OK &&
	   equals_hex(next, 8, "017f22e279b07ffc"), "the last microsecond of a millisecond");
	ok(floors_tell_time(), "the smallest id of a time, and the time of an id");
	ok(rises(INT64_C(1700000000000000), 0, 100000), "100 000 ids while the clock stands still");
	ok(rises(INT64_C(1700000000000000), -1000, 100000), "100 000 ids while the clock runs back");
	ok(rises(INT64_C(1710000000000000), 1, 100000), "100 000 ids a microsecond apart");
}

void
value_tests(void)
{
	form_tests();
	base64_tests();
	secret_tests();
	fair_bytes_test();
	prefixed_secret_test();
	known_draw_test();
	made_well("generated AppKeys", make_app_key, 2);
	made_well("generated GatewayIds", make_gateway_id, 5);
	made_well("generated AppSecrets", make_app_secret, 0);
	made_well("generated SecretKeys", make_secret_key, 0);
	uuid7_tests();
}

/*
 * jwt.c
 *	  Unit tests of tokens: RFC 7515's example, base64url by the letter, and JSON made safe to be read.
 *
 * The key of that example is no SecretKey, so no zone can have it; here it signs.
 */
#include "units.h"

#include "crypto/jwt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* RFC 7515, A.1. */
#define RFC_HEADER	"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
#define RFC_PAYLOAD	"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
#define RFC_MAC		"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define RFC_TOKEN	RFC_HEADER "." RFC_PAYLOAD "." RFC_MAC

static bool
decodes(const char *text, const char *expected)
{
	char		bytes[JWT_MAX_BYTES];
	size_t		length;

	return jwt_decode(text, strlen(text), bytes, &length) && length == strlen(expected) &&
		memcmp(bytes, expected, length) == 0;
}

static void
rfc_test(void)
{
	static const char key_text[] = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
	JwtParts	parts;
	char		key[JWT_MAX_BYTES];
	size_t		key_length;
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	char		text[JWT_ENCODED(CRYPTO_HASH_BYTES)];

	ok(jwt_decode(key_text, strlen(key_text), key, &key_length) && key_length == 64, "the key of RFC 7515, A.1");
	ok(jwt_split(RFC_TOKEN, strlen(RFC_TOKEN), &parts) &&
	   parts.signed_length == strlen(RFC_HEADER "." RFC_PAYLOAD) && parts.header_length == strlen(RFC_HEADER) &&
	   parts.payload_length == strlen(RFC_PAYLOAD), "its token is taken apart");
	ok(decodes(RFC_HEADER, "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}"), "its header");
	ok(decodes(RFC_PAYLOAD, "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"), "its payload");
	ok(crypto_hmac(CRYPTO_SHA256, key, key_length, parts.header, parts.signed_length, mac) == CRYPTO_OK &&
	   memcmp(mac, parts.mac, CRYPTO_HASH_BYTES) == 0, "its MAC");
	ok(jwt_encode(mac, CRYPTO_HASH_BYTES, text) == sizeof(text) && memcmp(text, RFC_MAC, sizeof(text)) == 0, "and that as text");
}

static bool
splits(const char *token)
{
	JwtParts	parts;
	size_t		length = strlen(token);
	char	   *copy = malloc(length > 0 ? length : 1);
	bool		good;

	if (copy == NULL)
		return false;
	memcpy(copy, token, length);
	good = jwt_split(copy, length, &parts);
	free(copy);
	return good;
}

static void
form_tests(void)
{
	static const char *const refused[] = {
		"", ".", "..", "...", "a.b", "a.b.", "a.b.c", "." RFC_MAC, RFC_HEADER "." RFC_PAYLOAD, RFC_TOKEN ".", RFC_TOKEN "=",
		RFC_TOKEN " ", RFC_TOKEN "A", "a.b.c." RFC_MAC, "a.b.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl",
		"a.b.dBjftJeZ4CVP+mB92K27uhbUJU1p1r/wW1gFWFOEjXk", "a.b.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjX"
	};
	static const char *const bad[] = {"A", "AAAAA", "AB", "A_", "AAB", "AA=", "AA==", "A A", "AA\n", "+AAA", "/AAA", "AA.A", "\xc3\xa9"};
	static const struct
	{
		const char *text;
		const char *bytes;
	}			good[] = {{"", ""}, {"Zg", "f"}, {"Zm8", "fo"}, {"Zm9v", "foo"}, {"Zm9vYmFy", "foobar"}, {"--__", "\xfb\xef\xff"}};
	char		text[16];

	for (size_t i = 0; i < lengthof(refused); i++)
		ok(!splits(refused[i]), "no token");
	ok(splits(".." RFC_MAC), "what header and payload are is not its to say");
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!decodes(bad[i], ""), "no base64url");
	for (size_t i = 0; i < lengthof(good); i++)
		ok(decodes(good[i].text, good[i].bytes) &&
		   jwt_encode(good[i].bytes, strlen(good[i].bytes), text) == strlen(good[i].text) &&
		   memcmp(text, good[i].text, strlen(good[i].text)) == 0, "base64url");
}

static void
length_test(void)
{
	static char token[JWT_MAX_BYTES + 1];
	JwtParts	parts;

	memset(token, 'A', sizeof(token));
	token[1] = '.';
	token[JWT_MAX_BYTES - JWT_ENCODED(CRYPTO_HASH_BYTES) - 1] = '.';
	ok(jwt_split(token, JWT_MAX_BYTES, &parts), "a token as long as they may be");
	token[JWT_MAX_BYTES - JWT_ENCODED(CRYPTO_HASH_BYTES) - 1] = 'A';
	token[JWT_MAX_BYTES - JWT_ENCODED(CRYPTO_HASH_BYTES)] = '.';
	ok(!jwt_split(token, JWT_MAX_BYTES + 1, &parts), "and a byte longer");
}

/* Resolves the escapes of a text; expected NULL: it is refused. */
static bool
resolves(const char *json, const char *expected)
{
	size_t		length = strlen(json);
	char	   *copy = malloc(length > 0 ? length : 1);
	bool		good;

	if (copy == NULL)
		return false;
	memcpy(copy, json, length);
	good = jwt_resolve_escapes(copy, &length);
	good = expected == NULL ? !good : good && length == strlen(expected) && memcmp(copy, expected, length) == 0;
	free(copy);
	return good;
}

static void
escape_tests(void)
{
	static const struct
	{
		const char *json;
		const char *expected;
	}			texts[] = {
		{"", ""},
		{"{\"a\": [1, \"b\"]}", "{\"a\": [1, \"b\"]}"},
		{"\"\\n\\\"\\\\\\/\\u0041\\u007f\\u0001\"", "\"\\n\\\"\\\\\\/\\u0041\\u007f\\u0001\""},
		{"\"\\u0080\\u00e9\\u07FF\"", "\"\xc2\x80\xc3\xa9\xdf\xbf\""},
		{"\"\\u0800\\u20ac\\ud7ff\\ue000\\uFFFF\"", "\"\xe0\xa0\x80\xe2\x82\xac\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\""},
		{"\"\\ud800\\udc00\\uDBFF\\uDFFF\"", "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""},
		{"\"\\\\u00e9\"", "\"\\\\u00e9\""},
		{"\"\\\\\\u00e9\"", "\"\\\\\xc3\xa9\""},
		{"\"a\\\"[[[\\u00e9\"", "\"a\\\"[[[\xc3\xa9\""},
		{"]]]", "]]]"},
		{"\"\\u0000\"", NULL}, {"\"\\ud800\"", NULL}, {"\"\\ud800\\n\"", NULL}, {"\"\\ud800\\ud800\"", NULL},
		{"\"\\udc00\"", NULL}, {"\"\\udc00\\ud800\"", NULL}, {"\"\\u00g0\"", NULL}, {"\"\\u 0e9\"", NULL}, {"\"\\u00e", NULL},
		{"\"\\ud83d\\ude0", NULL}, {"\"\\ud83d\\u", NULL}, {"\"\\", NULL}, {"\"\\u", NULL}, {"\\u00e9", NULL}, {"{\\n}", NULL}
	};
	char		deep[JWT_MAX_DEPTH + 2] = {0};

	for (size_t i = 0; i < lengthof(texts); i++)
		ok(resolves(texts[i].json, texts[i].expected), texts[i].json);
	memset(deep, '[', JWT_MAX_DEPTH);
	ok(resolves(deep, deep), "as deep as may be");
	deep[JWT_MAX_DEPTH] = '{';
	ok(resolves(deep, NULL), "and one deeper");
	ok(!jwt_resolve_escapes((char[]) {'"', '\0', '"'}, &(size_t) {3}), "a NUL");
}

static void
number_tests(void)
{
	static const char *const good[] = {
		"0", "-0", "1", "1e131071", "-9.99e131071", "0.1e131072", "0.001E+131074", "100e131069", "1e-16383", "1.5e-16382",
		"0e1073741822", "0e-16383", "0.0e-16382", "1e00000000000000000007"
	};
	static const char *const bad[] = {
		"1e131072", "10e131071", "0.1e131073", "0.001e131075", "1e-16384", "1.5e-16383", "0e1073741823", "0e-16384", "0.0e-16383",
		"1e99999999999999999999999999", "1e-99999999999999999999999999", "-1E+131072"
	};

	for (size_t i = 0; i < lengthof(good); i++)
		ok(jwt_number_fits(good[i], strlen(good[i])), good[i]);
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!jwt_number_fits(bad[i], strlen(bad[i])), bad[i]);
}

void
jwt_tests(void)
{
	rfc_test();
	form_tests();
	length_test();
	escape_tests();
	number_tests();
}

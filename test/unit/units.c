/*
 * units.c
 *	  Unit tests of the lowest floor, without a server: ciphers, the stored format, HMAC.  Prints TAP; with
 *	  --bench timings instead.
 *
 * make unit
 */
#include "units.h"

#include "crypto/arena.h"
#include "crypto/identifier.h"
#include "crypto/uuid7.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/evp.h>

static int	tests;
static int	failures;

/* The TAP line of one test. */
void
ok(bool good, const char *name)
{
	tests++;
	if (!good)
		failures++;
	printf("%sok %d - %s\n", good ? "" : "not ", tests, name);
}

/* ---------- helpers ---------- */

bool
is_zero(const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < length; i++)
	{
		if (at[i] != 0)
			return false;
	}
	return true;
}

bool
equals_hex(const uint8_t *bytes, size_t length, const char *hex)
{
	char		text[1025] = "";

	for (size_t i = 0; i < length && i < 512; i++)
		(void) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return strcmp(text, hex) == 0;
}

CryptoKey *
key_of(int byte)
{
	uint8_t		raw[CRYPTO_KEY_BYTES];
	CryptoKey  *key;

	memset(raw, byte, sizeof(raw));
	return crypto_key_make(raw, &key) == CRYPTO_OK ? key : NULL;
}

/* ---------- XAES-256-GCM ---------- */

static void
xaes_vector(int byte, const char *aad, const char *expected)
{
	static const char plaintext[] = "XAES-256-GCM";
	const uint8_t *nonce = (const uint8_t *) "ABCDEFGHIJKLMNOPQRSTUVWX";
	CryptoKey  *key = key_of(byte);
	uint8_t		sealed[28];
	uint8_t		opened[12];

	ok(crypto_seal(key, nonce, aad, strlen(aad), plaintext, 12, sealed) == CRYPTO_OK &&
	   equals_hex(sealed, 28, expected), "XAES vector seals");
	ok(crypto_open(key, nonce, aad, strlen(aad), sealed, 28, opened) == CRYPTO_OK &&
	   memcmp(opened, plaintext, 12) == 0, "XAES vector opens");
	crypto_key_free(key);
}

/* One round of the accumulated test; returns what it took from the stream. */
static size_t
accumulate(const uint8_t *stream, EVP_MD_CTX *digest, bool *good)
{
	const uint8_t *nonce = stream + CRYPTO_KEY_BYTES;
	const uint8_t *plaintext = nonce + CRYPTO_NONCE_BYTES + 1;
	const uint8_t *aad = plaintext + plaintext[-1] + 1;
	uint8_t		sealed[255 + CRYPTO_TAG_BYTES];
	uint8_t		opened[255];
	size_t		length = plaintext[-1];
	CryptoKey  *key;

	*good = crypto_key_make(stream, &key) == CRYPTO_OK &&
		crypto_seal(key, nonce, aad, aad[-1], plaintext, length, sealed) == CRYPTO_OK &&
		crypto_open(key, nonce, aad, aad[-1], sealed, length + CRYPTO_TAG_BYTES, opened) == CRYPTO_OK &&
		memcmp(opened, plaintext, length) == 0 &&
		EVP_DigestUpdate(digest, sealed, length + CRYPTO_TAG_BYTES) == 1;
	crypto_key_free(key);
	return (size_t) (aad - stream) + aad[-1];
}

static void
xaes_accumulated(void)
{
	size_t		room = (size_t) 10000 * (32 + 24 + 2 * 256);
	uint8_t    *stream = malloc(room);
	uint8_t    *at = stream;
	uint8_t		result[32];
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	bool		good = stream != NULL &&
		EVP_DigestInit_ex2(digest, EVP_shake128(), NULL) == 1 &&
		EVP_DigestFinalXOF(digest, stream, room) == 1 &&
		EVP_DigestInit_ex2(digest, EVP_shake128(), NULL) == 1;

	for (int i = 0; good && i < 10000; i++)
		at += accumulate(at, digest, &good);
	ok(good && EVP_DigestFinalXOF(digest, result, sizeof(result)) == 1 &&
	   equals_hex(result, 32, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"),
	   "XAES accumulated test of 10 000 rounds");
	EVP_MD_CTX_free(digest);
	free(stream);
}

/* ---------- the stored format ---------- */

const SealBinding binding = {CREDENTIAL_APP, "60030986", 8, 7};
const char plain[] = "0123456789abcdef";	/* 16 bytes are used */

void
seal_plain(CryptoKey *key, uint8_t sealed[SEALED_LENGTH])
{
	uint8_t		nonce[CRYPTO_NONCE_BYTES];

	if (crypto_random(nonce, sizeof(nonce)) != CRYPTO_OK ||
		seal_secret(key, 0x01020304, &binding, nonce, plain, 16, sealed) != CRYPTO_OK)
		memset(sealed, 0, SEALED_LENGTH);
}

/* Refused, and neither a plaintext nor an error of OpenSSL left behind. */
static bool
refuses(CryptoKey *key, const SealBinding *with, const uint8_t *sealed, size_t sealed_length, size_t room)
{
	uint8_t		opened[SEAL_MAX_PLAINTEXT] = {0};
	size_t		length = 99;

	return seal_open(key, with, sealed, sealed_length, opened, room, &length) == CRYPTO_REFUSED &&
		length == 0 && is_zero(opened, sizeof(opened)) && ERR_peek_error() == 0;
}

bool
opens(CryptoKey *key, const uint8_t *sealed)
{
	uint8_t		opened[SEAL_MAX_PLAINTEXT];
	size_t		length;

	return seal_open(key, &binding, sealed, SEALED_LENGTH, opened, 16, &length) == CRYPTO_OK &&
		length == 16 && memcmp(opened, plain, 16) == 0;
}

static void
sealed_value_is_authentic(CryptoKey *key, uint8_t sealed[SEALED_LENGTH])
{
	bool		good = true;

	for (size_t bit = 0; bit < (size_t) 8 * SEALED_LENGTH; bit++)
	{
		sealed[bit / 8] ^= (uint8_t) (1 << bit % 8);
		good = good && refuses(key, &binding, sealed, SEALED_LENGTH, SEAL_MAX_PLAINTEXT);
		sealed[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	ok(good, "every flipped bit is refused");
	good = true;
	for (size_t length = 0; length < SEALED_LENGTH; length++)
		good = good && refuses(key, &binding, sealed, length, SEAL_MAX_PLAINTEXT);
	ok(good, "every truncation is refused");
	ok(opens(key, sealed), "the value opens after all refusals");
	ok(refuses(key, &binding, sealed, SEALED_LENGTH, 15), "too little room is refused");
}

static void
sealed_value_is_bound(CryptoKey *key, const uint8_t sealed[SEALED_LENGTH])
{
	const SealBinding others[] = {
		{CREDENTIAL_ZONE, "60030986", 8, 7}, {CREDENTIAL_DATA_KEY, "60030986", 8, 7},
		{CREDENTIAL_APP, "60030987", 8, 7}, {CREDENTIAL_APP, "70030986", 8, 7}, {CREDENTIAL_APP, "60030986", 7, 7},
		{CREDENTIAL_APP, "60030986x", 9, 7}, {CREDENTIAL_APP, "", 0, 7}, {CREDENTIAL_APP, "60030986", 8, 6},
		{CREDENTIAL_APP, "60030986", 8, 7 + 0x100}, {CREDENTIAL_APP, "60030986", 8, 7 + 0x10000},
		{CREDENTIAL_APP, "60030986", 8, 7 + 0x1000000}, {CREDENTIAL_APP, "60030986", 129, 7}
	};
	CryptoKey  *other_key = key_of(0x43);
	bool		good = true;

	for (size_t i = 0; i < lengthof(others); i++)
		good = good && refuses(key, &others[i], sealed, SEALED_LENGTH, SEAL_MAX_PLAINTEXT);
	ok(good, "another kind, identifier or version is refused");
	ok(refuses(other_key, &binding, sealed, SEALED_LENGTH, SEAL_MAX_PLAINTEXT), "another key is refused");
	crypto_key_free(other_key);
}

static void
seal_limits(CryptoKey *key)
{
	static const char zeros[SEAL_MAX_PLAINTEXT + 1];
	static const uint8_t nonce[CRYPTO_NONCE_BYTES];
	const SealBinding longest = {CREDENTIAL_ZONE, zeros, SEAL_MAX_IDENTIFIER, UINT32_MAX};
	const SealBinding too_long = {CREDENTIAL_ZONE, zeros, SEAL_MAX_IDENTIFIER + 1, 1};
	uint8_t		sealed[SEAL_MAX_PLAINTEXT + 1 + SEAL_OVERHEAD];
	uint8_t		opened[SEAL_MAX_PLAINTEXT];
	uint8_t		big_end[SEALED_LENGTH] = {SEAL_FORMAT, 0xfe, 0xdc, 0xba, 0x98};
	size_t		length;
	uint32_t	key_id = 0;

	ok(seal_secret(key, 1, &longest, nonce, zeros, SEAL_MAX_PLAINTEXT, sealed) == CRYPTO_OK &&
	   seal_open(key, &longest, sealed, SEAL_MAX_PLAINTEXT + SEAL_OVERHEAD, opened, sizeof(opened),
				 &length) == CRYPTO_OK && length == SEAL_MAX_PLAINTEXT, "the longest values pass");
	ok(seal_secret(key, 1, &longest, nonce, NULL, 0, sealed) == CRYPTO_OK &&
	   seal_open(key, &longest, sealed, SEAL_OVERHEAD, opened, 0, &length) == CRYPTO_OK && length == 0,
	   "an empty value passes");
	ok(seal_secret(key, 1, &too_long, nonce, zeros, 1, sealed) == CRYPTO_BROKEN &&
	   seal_secret(key, 1, &longest, nonce, zeros, SEAL_MAX_PLAINTEXT + 1, sealed) == CRYPTO_BROKEN,
	   "longer values are not sealed");
	ok(seal_read_key_id(big_end, sizeof(big_end), &key_id) && key_id == UINT32_C(0xfedcba98),
	   "the key id is big-endian");
	ok(!seal_read_key_id(big_end, SEAL_OVERHEAD - 1, &key_id), "too short for a key id");
	big_end[0] = 2;
	ok(!seal_read_key_id(big_end, sizeof(big_end), &key_id), "another format byte has no key id");
}

/*
 * The layout of the headers' comments, told from outside: what seal_secret wrote must open with crypto_open
 * and additional data that is spelled out here.  An error in both directions of seal.c would show only so.
 */
static void
seal_layout(CryptoKey *key, const uint8_t sealed[SEALED_LENGTH])
{
	static const uint8_t aad[] = {1, 1, 2, 3, 4, 1, 0, 8, '6', '0', '0', '3', '0', '9', '8', '6', 0, 0, 0, 7};
	uint8_t		opened[16];

	ok(memcmp(sealed, aad, SEAL_HEADER_BYTES) == 0 &&
	   crypto_open(key, sealed + 5, aad, sizeof(aad), sealed + 29, 32, opened) == CRYPTO_OK &&
	   memcmp(opened, plain, 16) == 0, "the stored format is as documented");
}

static void
seal_tests(void)
{
	CryptoKey  *key = key_of(0x42);
	uint8_t		sealed[SEALED_LENGTH];

	seal_plain(key, sealed);
	ok(opens(key, sealed), "a sealed value opens");
	seal_layout(key, sealed);
	sealed_value_is_authentic(key, sealed);
	sealed_value_is_bound(key, sealed);
	seal_limits(key);
	crypto_key_free(key);
}

/* ---------- HMAC, SHA-256 ---------- */

/* A key or message is text, or byte × length, or (byte -1) 1, 2, 3 … */
typedef struct MacCase
{
	CryptoHash	hash;
	int			key_byte;
	size_t		key_length;
	const char *text;
	int			byte;
	size_t		length;
	const char *expected;
} MacCase;

#define LARGER_KEY "Test Using Larger Than Block-Size Key - Hash Key First"

static const MacCase mac_cases[] = {
	/* RFC 4231: 1, 3, 4, 6, 7 */
	{CRYPTO_SHA256, 0x0b, 20, "Hi There", 0, 0, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
	{CRYPTO_SHA256, 0xaa, 20, NULL, 0xdd, 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
	{CRYPTO_SHA256, -1, 25, NULL, 0xcd, 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
	{CRYPTO_SHA256, 0xaa, 131, LARGER_KEY, 0, 0, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	{CRYPTO_SHA256, 0xaa, 131, "This is a test using a larger than block-size key and a larger than block-size data. "
	"The key needs to be hashed before being used by the HMAC algorithm.", 0, 0,
	"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	/* RFC 2202: 1, 3, 4, 5, 6, 7 */
	{CRYPTO_SHA1, 0x0b, 20, "Hi There", 0, 0, "b617318655057264e28bc0b6fb378c8ef146be00"},
	{CRYPTO_SHA1, 0xaa, 20, NULL, 0xdd, 50, "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
	{CRYPTO_SHA1, -1, 25, NULL, 0xcd, 50, "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
	{CRYPTO_SHA1, 0x0c, 20, "Test With Truncation", 0, 0, "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"},
	{CRYPTO_SHA1, 0xaa, 80, LARGER_KEY, 0, 0, "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
	{CRYPTO_SHA1, 0xaa, 80, "Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data", 0, 0,
	"e8e99d0f45237d786d6bbaa7965c7808bbff1a91"}
};

bool
mac_is(CryptoHash hash, const void *key, size_t key_length, const void *message, size_t length,
	   const char *expected)
{
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];

	return crypto_hmac(hash, key, key_length, message, length, mac) == CRYPTO_OK &&
		equals_hex(mac, crypto_hash_bytes(hash), expected);
}

static void
mac_case(const MacCase *this)
{
	uint8_t		key[131];
	uint8_t		message[50];

	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t) (this->key_byte < 0 ? (int) i + 1 : this->key_byte);
	memset(message, this->byte, sizeof(message));
	ok(mac_is(this->hash, key, this->key_length,
			  this->text != NULL ? this->text : (const char *) message,
			  this->text != NULL ? strlen(this->text) : this->length, this->expected),
	   this->hash == CRYPTO_SHA1 ? "RFC 2202" : "RFC 4231");
}

static void
mac_tests(void)
{
	static const char ask[] = "what do ya want for nothing?";
	static const char answer256[] = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
	uint8_t		digest[CRYPTO_HASH_BYTES];

	for (size_t i = 0; i < lengthof(mac_cases); i++)
		mac_case(&mac_cases[i]);
	ok(mac_is(CRYPTO_SHA1, "Jefe", 4, ask, 28, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"), "RFC 2202, 2");
	ok(mac_is(CRYPTO_SHA256, "Jefe", 4, ask, 28, answer256), "RFC 4231, 2");
	ok(mac_is(CRYPTO_SHA256, "key", 3, NULL, 0,
			  "5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0"), "an empty message");
	memset(digest, 1, sizeof(digest));
	ok(crypto_hmac(CRYPTO_SHA256, "", 0, ask, 28, digest) == CRYPTO_BROKEN && is_zero(digest, 32),
	   "an empty key is no key");
	memset(digest, 1, sizeof(digest));
	ok(crypto_hmac(CRYPTO_SHA256, NULL, 4, ask, 28, digest) == CRYPTO_BROKEN && is_zero(digest, 32),
	   "no key is not the key of before");
	ok(mac_is(CRYPTO_SHA256, "Jefe", 4, ask, 28, answer256), "the context is usable afterwards");
	ok(crypto_sha256("a", 1, "bc", 2, digest) == CRYPTO_OK &&
	   equals_hex(digest, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
	   "SHA-256 of two parts");
	ok(crypto_sha256(NULL, 0, NULL, 0, digest) == CRYPTO_OK &&
	   equals_hex(digest, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
	   "SHA-256 of nothing");
}

/* ---------- timings ---------- */

static double
now_ns(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec * 1e9 + (double) now.tv_nsec;
}

#define TIME(name, operation) \
	do { \
		double		start = now_ns(); \
		for (int i = 0; i < 300000; i++) \
			good = (operation) && good; \
		printf("%-32s %6.0f ns\n", name, (now_ns() - start) / 300000); \
	} while (0)

static void
bench(void)
{
	CryptoKey  *key = key_of(1);
	CryptoDraw	draw = {{0}, 0};
	uint8_t		sealed[64 + SEAL_OVERHEAD];
	uint8_t		bytes[128] = {7};
	char		text[32];
	size_t		length;
	bool		good = true;

	TIME("draw of 64 bytes", crypto_take(&draw, bytes, 64) == CRYPTO_OK);
	TIME("seal of 64 bytes", seal_secret(key, 1, &binding, bytes, bytes, 64, sealed) == CRYPTO_OK);
	TIME("open of 64 bytes", seal_open(key, &binding, sealed, sizeof(sealed), bytes, 64, &length) == CRYPTO_OK);
	TIME("HMAC-SHA256 of 100 bytes", crypto_hmac(CRYPTO_SHA256, sealed, 64, bytes, 100, bytes) == CRYPTO_OK);
	TIME("HMAC-SHA1 of 100 bytes", crypto_hmac(CRYPTO_SHA1, sealed, 64, bytes, 100, bytes) == CRYPTO_OK);
	TIME("SHA-256 of 49 bytes", crypto_sha256("keyrot master key", 17, bytes, 32, bytes) == CRYPTO_OK);
	TIME("UUID version 7", uuid7_make(1700000000000000 + i, &draw, bytes) == CRYPTO_OK);
	TIME("AppKey", identifier_make_app_key(&draw, text) == CRYPTO_OK);
	printf("%s, memory %s, %s\n", crypto_library_version(),
		   arena_is_locked() ? "locked" : "not locked", good ? "all good" : "SOMETHING FAILED");
	crypto_key_free(key);
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--bench") == 0)
	{
		bench();
		return 0;
	}
	neighbour_tests_before_use();
	exhaustion_tests_before_use();
	xaes_vector(1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271");
	xaes_vector(3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d");
	xaes_accumulated();
	seal_tests();
	mac_tests();
	arena_tests();
	memory_tests();
	value_tests();
	jwt_tests();
	master_text_tests();
	clean_tests();
	exhaustion_tests();
	neighbour_tests();
	printf("1..%d\n", tests);
	return failures > 0;
}

/*
 * memory.c
 *	  Unit tests of what memory may do to the lowest floor, and of what it may keep: allocations that fail,
 *	  keys outside locked memory, draws.
 */
#include "units.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* Runs a test in a process of its own, for what would spoil this one. */
static bool
in_child(bool (*test) (int), int argument)
{
	int			status = -1;
	pid_t		child;

	(void) fflush(stdout);
	child = fork();
	if (child == 0)
		_exit(test(argument) ? 0 : 1);
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

/* ---------- failing allocations ---------- */

/* OpenSSL's allocations go through here, so that the one of our choice can fail. */
static int	fail_in;			/* 0: none */
static bool failed;

static bool
must_fail(void)
{
	if (fail_in == 0 || --fail_in > 0)
		return false;
	failed = true;
	return true;
}

static void *
test_malloc(size_t size, const char *file, int line)
{
	(void) file;
	(void) line;
	return must_fail() ? NULL : malloc(size);
}

static void *
test_realloc(void *old, size_t size, const char *file, int line)
{
	(void) file;
	(void) line;
	return must_fail() ? NULL : realloc(old, size);
}

static void
test_free(void *old, const char *file, int line)
{
	(void) file;
	(void) line;
	free(old);
}

typedef struct Outcome
{
	CryptoKey  *key;
	CryptoStatus status;
	bool		good;			/* right on success, zero on failure */
} Outcome;

static void
try_key(Outcome *it)
{
	uint8_t		raw[CRYPTO_KEY_BYTES] = {0};
	CryptoKey  *key;

	it->status = crypto_key_make(raw, &key);
	it->good = (key != NULL) == (it->status == CRYPTO_OK);
	crypto_key_free(key);
}

static void
try_seal(Outcome *it)
{
	static const uint8_t nonce[CRYPTO_NONCE_BYTES];
	uint8_t		sealed[SEALED_LENGTH];

	memset(sealed, 1, sizeof(sealed));
	it->status = seal_secret(it->key, 0x01020304, &binding, nonce, plain, 16, sealed);
	fail_in = 0;
	it->good = it->status == CRYPTO_OK ? opens(it->key, sealed) :
		is_zero(sealed + SEAL_HEADER_BYTES + CRYPTO_NONCE_BYTES, 16 + CRYPTO_TAG_BYTES);
}

static void
try_open(Outcome *it)
{
	uint8_t		sealed[SEALED_LENGTH];
	uint8_t		opened[16];
	size_t		length;
	int			later = fail_in;

	fail_in = 0;
	seal_plain(it->key, sealed);
	fail_in = later;
	memset(opened, 1, sizeof(opened));
	it->status = seal_open(it->key, &binding, sealed, SEALED_LENGTH, opened, 16, &length);
	it->good = it->status == CRYPTO_OK ? memcmp(opened, plain, 16) == 0 :
		length == 0 && is_zero(opened, 16);
}

static void
try_mac(Outcome *it)
{
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];

	memset(mac, 1, sizeof(mac));
	it->status = crypto_hmac(CRYPTO_SHA256, "key", 3, NULL, 0, mac);
	it->good = it->status != CRYPTO_OK ? is_zero(mac, 32) :
		equals_hex(mac, 32, "5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0");
}

static void
try_hash(Outcome *it)
{
	uint8_t		digest[CRYPTO_HASH_BYTES];

	it->status = crypto_sha256("a", 1, "bc", 2, digest);
	it->good = it->status != CRYPTO_OK ? is_zero(digest, 32) :
		equals_hex(digest, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void (*const tries[]) (Outcome *it) = {try_key, try_seal, try_open, try_mac, try_hash};

/* With the n-th allocation failing: no wrong result, no error left in the queue, and the next call is right. */
static bool
survives(void (*try) (Outcome *it), Outcome *it, int n)
{
	bool		good;

	failed = false;
	fail_in = n;
	try(it);
	fail_in = 0;
	good = it->good && (failed || it->status == CRYPTO_OK) && it->status != CRYPTO_REFUSED &&
		ERR_peek_error() == 0;
	try(it);
	return good && it->good && it->status == CRYPTO_OK;
}

/*
 * In a process whose contexts are not made yet.  What OpenSSL does not survive is done before: it aborts
 * where it can't allocate the book-keeping of the locked heap, and never finds an algorithm again whose
 * first fetch failed half-way.
 */
static bool
survives_first_use(int n)
{
	Outcome		it = {NULL, CRYPTO_OK, true};

	(void) crypto_memory_is_locked();
	return survives(try_key, &it, n) && survives(try_mac, &it, n);
}

static void
failure_tests(void)
{
	Outcome		it = {key_of(5), CRYPTO_OK, true};

	for (size_t i = 0; i < lengthof(tries); i++)
	{
		bool		good = true;
		int			n = 0;

		do
			good = survives(tries[i], &it, ++n) && good;
		while (failed);
		ok(good, "a call survives each failing allocation");
	}
	crypto_key_free(it.key);
}

/* ---------- memory and randomness ---------- */

static uint8_t
pattern(size_t i)
{
	return (uint8_t) (i * 37 + 11);
}

/* How many times the pattern (never stored by this function) occurs in a piece of memory. */
static int
occurrences(const uint8_t *bytes, size_t length)
{
	int			found = 0;

	for (size_t start = 0; start + CRYPTO_KEY_BYTES <= length; start++)
	{
		size_t		i = 0;

		while (i < CRYPTO_KEY_BYTES && bytes[start + i] == pattern(i))
			i++;
		if (i == CRYPTO_KEY_BYTES)
			found++;
	}
	return found;
}

/* Counts the pattern in this process's writable memory, but for the mapping that holds an address. */
static int
occurrences_outside(const void *inside)
{
	static uint8_t buffer[1 << 20];
	FILE	   *maps = fopen("/proc/self/maps", "r");
	int			memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char		line[512];
	int			found = 0;

	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
	{
		char	   *rest;
		uintptr_t	first = strtoul(line, &rest, 16);
		uintptr_t	end = strtoul(rest + 1, &rest, 16);

		if (strncmp(rest, " rw", 3) != 0 || end - first > (uintptr_t) 1 << 28 ||
			((uintptr_t) inside >= first && (uintptr_t) inside < end))
			continue;
		for (uintptr_t at = first; at < end; at += sizeof(buffer) / 2)
		{
			ssize_t		got = pread(memory, buffer, sizeof(buffer), (off_t) at);

			found += got > 0 ? occurrences(buffer, (size_t) got) : 0;
			OPENSSL_cleanse(buffer, sizeof(buffer));
		}
	}
	if (maps != NULL)
		(void) fclose(maps);
	(void) close(memory);
	return maps == NULL ? -1 : found;
}

/* After every kind of use the key is where it was put, in locked memory, and nowhere else. */
static void
memory_test(void)
{
	uint8_t    *raw = crypto_locked_alloc(CRYPTO_KEY_BYTES);
	Outcome		it = {NULL, CRYPTO_OK, true};
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];

	for (size_t i = 0; i < CRYPTO_KEY_BYTES; i++)
		raw[i] = pattern(i);
	if (occurrences_outside(raw) != 0 || !CRYPTO_secure_allocated(raw))
	{
		ok(true, "keys stay in locked memory # SKIP this system cannot tell");
		crypto_locked_free(raw, CRYPTO_KEY_BYTES);
		return;
	}
	ok(crypto_key_make(raw, &it.key) == CRYPTO_OK && memcmp(crypto_key_raw(it.key), raw, 32) == 0,
	   "a key keeps its raw bytes");
	try_seal(&it);
	try_open(&it);
	ok(crypto_hmac(CRYPTO_SHA256, raw, CRYPTO_KEY_BYTES, "m", 1, mac) == CRYPTO_OK &&
	   crypto_hmac(CRYPTO_SHA1, raw, CRYPTO_KEY_BYTES, "m", 1, mac) == CRYPTO_OK &&
	   crypto_sha256("keyrot master key", 17, raw, CRYPTO_KEY_BYTES, mac) == CRYPTO_OK &&
	   occurrences_outside(raw) == 0, "keys stay in locked memory");
	memcpy(mac, raw, sizeof(mac));
	ok(occurrences_outside(raw) > 0, "a copy in ordinary memory would be seen");
	crypto_wipe(mac, sizeof(mac));
	ok(is_zero(mac, sizeof(mac)), "wiping wipes");
	crypto_key_free(it.key);
	crypto_locked_free(raw, CRYPTO_KEY_BYTES);
}

#define TOO_MANY	600

static bool
spills_when_full(int unused)
{
	uint8_t    *pieces[TOO_MANY];
	bool		good = true;

	(void) unused;
	for (int i = 0; i < TOO_MANY; i++)
	{
		pieces[i] = crypto_locked_alloc(64);
		good = good && pieces[i] != NULL && is_zero(pieces[i], 64);
	}
	good = good && !crypto_memory_is_locked() &&
		CRYPTO_secure_used() <= 16384 && ERR_peek_error() == 0 &&
		mac_is(CRYPTO_SHA256, "Jefe", 4, "what do ya want for nothing?", 28,
			   "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	for (int i = 0; i < TOO_MANY; i++)
		crypto_locked_free(pieces[i], 64);
	return good;
}

static bool
is_unlocked(int unused)
{
	(void) unused;
	return !crypto_memory_is_locked();
}

static void
draw_tests(void)
{
	CryptoDraw	draw = {{0}, 0};
	uint8_t		piece[80] = {0};

	ok(crypto_take(&draw, piece, 10) == CRYPTO_OK && draw.left == 54 && !is_zero(piece, 10) &&
	   is_zero(draw.bytes, 10) && !is_zero(draw.bytes + 10, 54), "a piece is wiped as it leaves");
	ok(crypto_take(&draw, piece, 54) == CRYPTO_OK && draw.left == 0 && is_zero(draw.bytes, 64),
	   "the last piece leaves an empty draw");
	ok(crypto_take(&draw, piece, 64) == CRYPTO_OK && draw.left == 0 && is_zero(draw.bytes, 64),
	   "the whole draw at once");
	(void) crypto_take(&draw, piece, 60);
	ok(crypto_take(&draw, piece, 5) == CRYPTO_OK && draw.left == 59 && is_zero(draw.bytes, 5) &&
	   !is_zero(draw.bytes + 5, 59), "too few left: the whole draw is new");
	memset(piece, 0, sizeof(piece));
	ok(crypto_take(&draw, piece, 65) == CRYPTO_OK && draw.left == 59 && !is_zero(piece + 49, 16) &&
	   is_zero(piece + 65, 15), "a large request passes the draw by");
	ok(crypto_take(&draw, piece, 0) == CRYPTO_OK && draw.left == 59, "nothing asked, nothing taken");
	ok(crypto_equal("abc", "abd", 2) && !crypto_equal("abc", "abd", 3), "equality");
}

/* Tests that need a process in which OpenSSL has allocated nothing yet, or our own state is not made. */
void
memory_tests_before_use(void)
{
	bool		good = true;

	if (CRYPTO_set_mem_functions(test_malloc, test_realloc, test_free) != 1)
		abort();
	ok(in_child(spills_when_full, 0), "a full locked heap spills over, and tells");
	EVP_CIPHER_free(EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL));
	EVP_MAC_free(EVP_MAC_fetch(NULL, "HMAC", NULL));
	EVP_MD_free(EVP_MD_fetch(NULL, "SHA256", NULL));
	for (int n = 1; n <= 60; n++)
		good = in_child(survives_first_use, n) && good;
	ok(good, "the first use survives each failing allocation");
}

void
memory_tests(void)
{
	failure_tests();
	memory_test();
	draw_tests();
	ok(in_child(is_unlocked, 0), "a child does not inherit locked memory, and knows it");
}

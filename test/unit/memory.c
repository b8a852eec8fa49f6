/*
 * memory.c
 *	  Unit tests of what memory may keep: keys outside locked memory, draws.
 */
#include "units.h"

#include "crypto/arena.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

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
			size_t		wanted = end - at < sizeof(buffer) ? end - at : sizeof(buffer);
			ssize_t		got = pread(memory, buffer, wanted, (off_t) at);

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
	uint8_t    *raw = arena_alloc(CRYPTO_KEY_BYTES);
	CryptoKey  *key = NULL;
	uint8_t		sealed[SEALED_LENGTH];
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];

	for (size_t i = 0; i < CRYPTO_KEY_BYTES; i++)
		raw[i] = pattern(i);
	if (occurrences_outside(raw) != 0)
	{
		ok(true, "keys stay in locked memory # SKIP this system cannot tell");
		arena_free(raw, CRYPTO_KEY_BYTES);
		return;
	}
	ok(crypto_key_make(raw, &key) == CRYPTO_OK && memcmp(crypto_key_raw(key), raw, 32) == 0,
	   "a key keeps its raw bytes");
	seal_plain(key, sealed);
	ok(opens(key, sealed) &&
	   crypto_hmac(CRYPTO_SHA256, raw, CRYPTO_KEY_BYTES, "m", 1, mac) == CRYPTO_OK &&
	   crypto_hmac(CRYPTO_SHA1, raw, CRYPTO_KEY_BYTES, "m", 1, mac) == CRYPTO_OK &&
	   crypto_sha256("keyrot master key", 17, raw, CRYPTO_KEY_BYTES, mac) == CRYPTO_OK &&
	   occurrences_outside(raw) == 0, "keys stay in locked memory");
	memcpy(mac, raw, sizeof(mac));
	ok(occurrences_outside(raw) > 0, "a copy in ordinary memory would be seen");
	crypto_wipe(mac, sizeof(mac));
	ok(is_zero(mac, sizeof(mac)), "wiping wipes");
	crypto_key_free(key);
	arena_free(raw, CRYPTO_KEY_BYTES);
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

void
memory_tests(void)
{
	memory_test();
	draw_tests();
}

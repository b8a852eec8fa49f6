/*
 * exhaustion.c
 *	  Unit tests of memory that runs out: every function that can need some, with each of its allocations
 *	  failing once.  Nothing wrong comes out, nothing is left behind, and the next call is right.
 *
 * OpenSSL's allocations go through this file, so the n-th can fail and all can be counted.  The arena of
 * keys is mapped; there the test takes all but a few slots.
 */
#include "units.h"

#include "keys/master_text.h"
#include "crypto/arena.h"
#include "crypto/identifier.h"
#include "crypto/uuid7.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

/* Runs a test in a process of its own, for what would spoil this one. */
bool
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

/* ---------- OpenSSL's allocations ---------- */

static int	fail_in;			/* 0: none */
static bool failed;
static long alive;				/* allocated and not freed */

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
	void	   *made = must_fail() ? NULL : malloc(size);

	(void) file;
	(void) line;
	alive += made != NULL;
	return made;
}

static void *
test_realloc(void *old, size_t size, const char *file, int line)
{
	void	   *made = must_fail() ? NULL : realloc(old, size);

	(void) file;
	(void) line;
	alive += old == NULL && made != NULL;
	return made;
}

static void
test_free(void *old, const char *file, int line)
{
	(void) file;
	(void) line;
	alive -= old != NULL;
	free(old);
}

/* ---------- what is tried ---------- */

/*
 * Each does one thing and undoes what it made.  It sets the status, and tells whether the result is right,
 * or, where there is none, whether it is as empty as the headers promise.
 */
typedef bool (*Trial) (CryptoStatus *status);

static CryptoKey *a_key;
static uint8_t a_sealed_value[SEALED_LENGTH];

#define DIGITS "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"
#define MAC_OF_NOTHING_1	"f42bb0eeb018ebbd4597ae7213711ec60760843f"
#define MAC_OF_NOTHING_256	"5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0"

static bool
try_random(CryptoStatus *status)
{
	uint8_t		bytes[100];

	memset(bytes, 1, sizeof(bytes));
	*status = crypto_random(bytes, sizeof(bytes));
	return is_zero(bytes, sizeof(bytes)) == (*status != CRYPTO_OK);
}

static bool
try_take(CryptoStatus *status)
{
	CryptoDraw	draw = {{0}, 0};
	uint8_t		bytes[32];

	memset(bytes, 1, sizeof(bytes));
	*status = crypto_take(&draw, bytes, sizeof(bytes));
	return *status == CRYPTO_OK ? !is_zero(bytes, sizeof(bytes)) && draw.left == CRYPTO_DRAW_BYTES - sizeof(bytes) :
		is_zero(bytes, sizeof(bytes)) && is_zero(&draw, sizeof(draw));
}

static bool
try_key(CryptoStatus *status)
{
	uint8_t		raw[CRYPTO_KEY_BYTES] = {7};
	CryptoKey  *key = a_key;
	bool		good;

	*status = crypto_key_make(raw, &key);
	good = *status == CRYPTO_OK ? memcmp(crypto_key_raw(key), raw, sizeof(raw)) == 0 : key == NULL;
	crypto_key_free(key);
	return good;
}

static bool
try_seal(CryptoStatus *status)
{
	static const uint8_t nonce[CRYPTO_NONCE_BYTES];
	uint8_t		sealed[SEALED_LENGTH];

	memset(sealed, 1, sizeof(sealed));
	*status = seal_secret(a_key, 0x01020304, &binding, nonce, plain, 16, sealed);
	fail_in = 0;
	return *status == CRYPTO_OK ? opens(a_key, sealed) :
		is_zero(sealed + SEAL_HEADER_BYTES + CRYPTO_NONCE_BYTES, 16 + CRYPTO_TAG_BYTES);
}

static bool
try_open(CryptoStatus *status)
{
	uint8_t		opened[16];
	size_t		length = 99;

	memset(opened, 1, sizeof(opened));
	*status = seal_open(a_key, &binding, a_sealed_value, SEALED_LENGTH, opened, 16, &length);
	return *status == CRYPTO_OK ? memcmp(opened, plain, 16) == 0 && length == 16 :
		length == 0 && is_zero(opened, 16);
}

/* The first need of it all in one: what a session's first verification or rotation does. */
static bool
try_all_at_once(CryptoStatus *status)
{
	static const uint8_t nonce[CRYPTO_NONCE_BYTES];
	uint8_t		raw[CRYPTO_KEY_BYTES] = {7};
	uint8_t		sealed[SEALED_LENGTH] = {0};
	uint8_t		opened[16];
	size_t		length = 0;
	CryptoKey  *key;
	bool		good = true;

	*status = crypto_key_make(raw, &key);
	if (*status == CRYPTO_OK)
		*status = seal_secret(key, 1, &binding, nonce, plain, 16, sealed);
	if (*status == CRYPTO_OK)
		*status = seal_open(key, &binding, sealed, SEALED_LENGTH, opened, 16, &length);
	if (*status == CRYPTO_OK)
		good = length == 16 && memcmp(opened, plain, 16) == 0;
	crypto_key_free(key);
	return good;
}

static bool
mac_is_right(CryptoHash hash, const char *expected, CryptoStatus *status)
{
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	size_t		length = crypto_hash_bytes(hash);

	memset(mac, 1, sizeof(mac));
	*status = crypto_hmac(hash, "key", 3, NULL, 0, mac);
	return *status == CRYPTO_OK ? equals_hex(mac, length, expected) : is_zero(mac, length);
}

static bool
try_hmac_sha1(CryptoStatus *status)
{
	return mac_is_right(CRYPTO_SHA1, MAC_OF_NOTHING_1, status);
}

static bool
try_hmac_sha256(CryptoStatus *status)
{
	return mac_is_right(CRYPTO_SHA256, MAC_OF_NOTHING_256, status);
}

/* A key that is longer than a block is hashed first. */
static bool
try_hmac_long_key(CryptoStatus *status)
{
	uint8_t		key[131];
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];

	memset(key, 0xaa, sizeof(key));
	memset(mac, 1, sizeof(mac));
	*status = crypto_hmac(CRYPTO_SHA256, key, sizeof(key), "Test Using Larger Than Block-Size Key - Hash Key First", 54, mac);
	return *status != CRYPTO_OK ? is_zero(mac, sizeof(mac)) :
		equals_hex(mac, sizeof(mac), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static bool
try_sha256(CryptoStatus *status)
{
	uint8_t		digest[CRYPTO_HASH_BYTES];

	memset(digest, 1, sizeof(digest));
	*status = crypto_sha256("a", 1, "bc", 2, digest);
	return *status != CRYPTO_OK ? is_zero(digest, sizeof(digest)) :
		equals_hex(digest, sizeof(digest), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static bool
try_base64(CryptoStatus *status)
{
	char		text[9];
	uint8_t		bytes[6];
	size_t		length = 0;

	*status = CRYPTO_OK;
	return crypto_base64_encode("secret", 6, text) == 8 && strcmp(text, "c2VjcmV0") == 0 &&
		crypto_base64_decode(text, 8, bytes, sizeof(bytes), &length) && length == 6 &&
		memcmp(bytes, "secret", 6) == 0 && !crypto_base64_decode("c2V*cmV0", 8, bytes, sizeof(bytes), &length);
}

static bool
try_app_secret(CryptoStatus *status)
{
	CryptoDraw	draw = {{0}, 0};
	Secret		secret;
	Secret		again;

	memset(&secret, 1, sizeof(secret));
	*status = secret_make_app_secret(&draw, &secret);
	return *status != CRYPTO_OK ? is_zero(&secret, sizeof(secret)) :
		secret_from_app_secret((const char *) secret.bytes, secret.length, &again) && secret_equal(&secret, &again);
}

static bool
try_prefixed_app_secret(CryptoStatus *status)
{
	CryptoDraw	draw = {{0}, 0};
	Secret		secret;

	memset(&secret, 1, sizeof(secret));
	*status = secret_make_prefixed_app_secret(&draw, "prefix_", &secret);
	return *status != CRYPTO_OK ? is_zero(&secret, sizeof(secret)) : secret.length == 7 + APP_SECRET_RANDOM + APP_SECRET_CHECK;
}

static bool
try_secret_key(CryptoStatus *status)
{
	CryptoDraw	draw = {{0}, 0};
	Secret		secret;
	Secret		again;

	memset(&secret, 1, sizeof(secret));
	*status = secret_make_secret_key(&draw, &secret);
	return *status != CRYPTO_OK ? is_zero(&secret, sizeof(secret)) :
		secret_from_secret_key((const char *) secret.bytes, secret.length, &again) && secret_equal(&secret, &again);
}

static bool
try_key_file(CryptoStatus *status)
{
	static MasterKeys keys;
	int			line;

	memset(&keys, 1, sizeof(keys));
	switch (master_text_parse(DIGITS DIGITS, strlen(DIGITS DIGITS), &keys, &line))
	{
		case MASTER_TEXT_OK:
			*status = CRYPTO_OK;
			return keys.count == 2 && memcmp(&keys.keys[0], &keys.keys[1], sizeof(MasterKey)) == 0;
		case MASTER_TEXT_CRYPTO_FAILED:
			*status = CRYPTO_BROKEN;
			return is_zero(&keys, sizeof(keys));
		default:
			return false;
	}
}

static bool
try_request_id(CryptoStatus *status)
{
	CryptoDraw	draw = {{0}, 0};
	uint8_t		uuid[UUID7_BYTES] = {0};

	*status = uuid7_make(1700000000000000, &draw, uuid);
	return is_zero(uuid, sizeof(uuid)) == (*status != CRYPTO_OK);
}

static bool
try_names(CryptoStatus *status)
{
	CryptoDraw	draw = {{0}, 0};
	char		app_key[APP_KEY_MADE_LENGTH + 1] = "x";
	char		gateway_id[GATEWAY_ID_MADE_LENGTH + 1] = "x";

	*status = identifier_make_app_key(&draw, app_key);
	if (*status != CRYPTO_OK)
		return app_key[0] == '\0';
	*status = identifier_make_gateway_id(&draw, gateway_id);
	return *status != CRYPTO_OK ? gateway_id[0] == '\0' :
		identifier_is_app_key(app_key, strlen(app_key)) && identifier_is_zone_id(gateway_id, strlen(gateway_id));
}

static const struct
{
	const char *name;
	Trial		trial;
	bool		needs_key;		/* and so can't be the first of all */
}			trials[] = {
	{"random bytes", try_random, false},
	{"a draw", try_take, false},
	{"making a key", try_key, false},
	{"making a key, sealing and opening", try_all_at_once, false},
	{"sealing", try_seal, true},
	{"opening", try_open, true},
	{"HMAC-SHA1", try_hmac_sha1, false},
	{"HMAC-SHA256", try_hmac_sha256, false},
	{"HMAC-SHA256 with a long key", try_hmac_long_key, false},
	{"SHA-256", try_sha256, false},
	{"base64", try_base64, false},
	{"making an AppSecret", try_app_secret, false},
	{"making an AppSecret with a prefix", try_prefixed_app_secret, false},
	{"making a SecretKey", try_secret_key, false},
	{"reading a key file", try_key_file, false},
	{"making a RequestId", try_request_id, false},
	{"making public names", try_names, false},
};

/* ---------- failing once ---------- */

#define ERRORS_KEPT		16		/* by OpenSSL */

#define WRONG_RESULT	1
#define WRONG_STATUS	2
#define ERROR_LEFT		4
#define WRONG_AGAIN		8		/* the result of the call after it */
#define FAILS_AGAIN		16		/* that call, with nothing wrong in its result */

/* Has the n-th allocation of a trial fail, and the trial tried again; returns what is wrong. */
static int
fail_once(Trial trial, int n)
{
	CryptoStatus status;
	int			wrongs = 0;

	failed = false;
	fail_in = n;
	if (!trial(&status))
		wrongs |= WRONG_RESULT;
	fail_in = 0;
	if (status == CRYPTO_REFUSED || (!failed && status != CRYPTO_OK))
		wrongs |= WRONG_STATUS;
	if (ERR_peek_error() != 0)
		wrongs |= ERROR_LEFT;
	if (!trial(&status) || status == CRYPTO_REFUSED || ERR_peek_error() != 0)
		wrongs |= WRONG_AGAIN;
	if (status != CRYPTO_OK)
		wrongs |= FAILS_AGAIN;
	return wrongs;
}

static void
report(int wrongs, int tried, const char *name, const char *where)
{
	char		line[200];

	(void) snprintf(line, sizeof(line), "%s %s: %d allocations failing one by one", name, where, tried);
	ok(wrongs == 0, line);
	if (wrongs != 0)
		printf("# wrong:%s%s%s%s%s\n", wrongs & WRONG_RESULT ? " the result" : "", wrongs & WRONG_STATUS ? " the status" : "",
			   wrongs & ERROR_LEFT ? " an error is left in OpenSSL's queue" : "",
			   wrongs & WRONG_AGAIN ? " the result of the call after it" : "",
			   wrongs & FAILS_AGAIN ? " the call after it fails" : "");
}

/* Each allocation of a trial, one by one, and how many there are. */
static int
fail_each(Trial trial, int *tried)
{
	int			wrongs = 0;
	int			n = 0;

	do
		wrongs |= fail_once(trial, ++n);
	while (failed);
	*tried = n - 1;
	return wrongs;
}

/*
 * In this process, where everything is fetched already: no allocation may outlive it.  OpenSSL keeps some
 * with each of its last sixteen errors, so it has to have had those.
 */
static void
exhaust_used(size_t i)
{
	int			wrongs = 0;
	int			tried;
	long		before = alive;

	for (int round = 0; round < 2 * ERRORS_KEPT; round++)
	{
		if (round == ERRORS_KEPT)
			before = alive;
		wrongs |= fail_each(trials[i].trial, &tried);
	}
	report(wrongs, tried, trials[i].name, "in a process in use");
	ok(alive == before, "and nothing is left allocated");
}

/* ---------- failing at the first use of all ---------- */

#define A_LONG_TIME		20		/* seconds */
#define MAY_BE_GIVEN_UP 5		/* two in OpenSSL 3.0 */

/* What a child tells. */
typedef struct Told
{
	int			wrongs;
	bool		failed;
} Told;

static Told *told;
static size_t told_trial;

static bool
fail_at_first_use(int n)
{
	(void) alarm(A_LONG_TIME);
	told->wrongs = fail_once(trials[told_trial].trial, n);
	told->failed = failed;
	return true;
}

/*
 * In processes where this trial is the first of all.  What OpenSSL does not survive is done before: it
 * never finds an algorithm again whose first fetch failed half-way.  Nor does it try again to make what its
 * random generators share; so here, and only here, the next call may fail as well.
 */
static void
exhaust_first_use(size_t i)
{
	int			wrongs = 0;
	int			given_up = 0;
	int			n = 0;
	bool		lived;
	char		line[100];

	told_trial = i;
	do
	{
		lived = in_child(fail_at_first_use, ++n);
		wrongs |= told->wrongs & ~FAILS_AGAIN;
		given_up += (told->wrongs & FAILS_AGAIN) != 0;
	} while (lived && told->failed);
	report(wrongs, n - 1, trials[i].name, "at first use");
	(void) snprintf(line, sizeof(line), "and every process lives; in %d of them OpenSSL gives up", given_up);
	ok(lived && given_up <= MAY_BE_GIVEN_UP, line);
}

static void
fetch_algorithms(void)
{
	static const char *const ciphers[] = {"AES-256-ECB", "AES-256-CTR", "AES-256-GCM"};
	static const char *const digests[] = {"SHA-1", "SHA-256"};
	static const char *const generators[] = {"CTR-DRBG", "SEED-SRC"};

	for (size_t i = 0; i < lengthof(ciphers); i++)
		EVP_CIPHER_free(EVP_CIPHER_fetch(NULL, ciphers[i], NULL));
	for (size_t i = 0; i < lengthof(digests); i++)
		EVP_MD_free(EVP_MD_fetch(NULL, digests[i], NULL));
	for (size_t i = 0; i < lengthof(generators); i++)
		EVP_RAND_free(EVP_RAND_fetch(NULL, generators[i], NULL));
}

/* ---------- a full arena ---------- */

#define SLOTS (ARENA_REGION_BYTES / ARENA_SLOT_BYTES)

/* Takes all of the arena but so many slots, tries everything, and again when all is given back. */
static bool
lives_with_slots(int left)
{
	static void *slots[SLOTS];
	CryptoStatus status;
	bool		good = true;
	int			count = 0;

	(void) alarm(A_LONG_TIME);
	if (a_key != NULL)
		a_key = key_of(5);
	slots[count++] = arena_alloc(ARENA_SLOT_BYTES);
	while (arena_alloc(ARENA_REGION_BYTES) != NULL)
		;
	while (count < SLOTS && (slots[count] = arena_alloc(ARENA_SLOT_BYTES)) != NULL)
		count++;
	for (; left > 0 && count > 0; left--)
		arena_free(slots[--count], ARENA_SLOT_BYTES);
	for (size_t i = 0; i < lengthof(trials); i++)
	{
		if (trials[i].needs_key && a_key == NULL)
			continue;
		good = trials[i].trial(&status) && status != CRYPTO_REFUSED && ERR_peek_error() == 0 && good;
	}
	while (count > 0)
		arena_free(slots[--count], ARENA_SLOT_BYTES);
	for (size_t i = 0; i < lengthof(trials); i++)
	{
		if (trials[i].needs_key && a_key == NULL)
			continue;
		good = trials[i].trial(&status) && status == CRYPTO_OK && good;
	}
	return good;
}

static void
fill_arena(const char *name)
{
	bool		good = true;

	for (int left = 0; left <= 64; left++)
		good = in_child(lives_with_slots, left) && good;
	ok(good, name);
}

/* Tests that need a process in which OpenSSL has allocated nothing yet, or our own state is not made. */
void
exhaustion_tests_before_use(void)
{
	if (CRYPTO_set_mem_functions(test_malloc, test_realloc, test_free) != 1)
		abort();
	told = mmap(NULL, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		abort();
	fill_arena("the arena full but for 0 to 64 slots, at first use");
	fetch_algorithms();
	for (size_t i = 0; i < lengthof(trials); i++)
	{
		if (!trials[i].needs_key)
			exhaust_first_use(i);
	}
}

void
exhaustion_tests(void)
{
	a_key = key_of(5);
	seal_plain(a_key, a_sealed_value);
	for (size_t i = 0; i < lengthof(trials); i++)
		exhaust_used(i);
	fill_arena("the arena full but for 0 to 64 slots, in a process in use");
	crypto_key_free(a_key);
}

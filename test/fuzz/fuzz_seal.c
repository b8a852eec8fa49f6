/*
 * fuzz_seal.c
 *	  Sealed values that were changed: only the untouched one opens, under its own key and binding.
 *
 * The input says what is sealed, for which binding, and what is changed then: bytes of the sealed value,
 * its length, the kind, the identifier, the version, the key.  The oracle is plain: where nothing differs
 * the plaintext comes back, else the value is refused, and no byte of plaintext is left.
 */
#include "fuzz.h"

#include "crypto/seal.h"

#define MAX_SEALED (SEAL_MAX_PLAINTEXT + SEAL_OVERHEAD)
#define MAX_GROWN (MAX_SEALED + 32)

/* One sealed value with all that opens it. */
typedef struct Sealing
{
	uint8_t		key_byte;
	CredentialKind	kind;
	size_t		identifier_length;
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	uint32_t	version;
	size_t		length;
	uint8_t		sealed[MAX_GROWN];
} Sealing;

static CryptoKey *
make_key(uint8_t byte)
{
	static CryptoKey *kept[256];
	uint8_t		raw[CRYPTO_KEY_BYTES];

	memset(raw, byte, sizeof(raw));
	if (kept[byte] == NULL && crypto_key_make(raw, &kept[byte]) != CRYPTO_OK)
		abort();
	return kept[byte];
}

static SealBinding
binding_of(const Sealing *sealing)
{
	return (SealBinding) {
		.kind = sealing->kind, .identifier = sealing->identifier,
		.identifier_length = sealing->identifier_length, .version = sealing->version
	};
}

static void
change_identifier(Sealing *sealing, Input *input)
{
	switch (take_byte(input) % 3)
	{
		case 0:
			if (sealing->identifier_length > 0)
				sealing->identifier[take_byte(input) % sealing->identifier_length] ^= (char) (1 << take_byte(input) % 8);
			break;
		case 1:
			if (sealing->identifier_length > 0)
				sealing->identifier[--sealing->identifier_length] = '\0';
			break;
		default:
			/* One more than may be sealed, too. */
			if (sealing->identifier_length < sizeof(sealing->identifier))
				sealing->identifier[sealing->identifier_length++] = (char) take_byte(input);
			break;
	}
}

/* Changes one thing, or nothing where the input has it so. */
static void
change(Sealing *sealing, Input *input)
{
	switch (take_byte(input) % 8)
	{
		case 0:
			sealing->sealed[take_number(input, sealing->length + 1) % MAX_GROWN] ^= take_byte(input);
			break;
		case 1:
			sealing->length = take_number(input, sealing->length + 1);
			break;
		case 2:
			if (sealing->length < MAX_GROWN)
				sealing->sealed[sealing->length++] = take_byte(input);
			break;
		case 3:
			sealing->kind = (CredentialKind) (take_byte(input) % 5);
			break;
		case 4:
			change_identifier(sealing, input);
			break;
		case 5:
			sealing->version ^= 1U << take_byte(input) % 32;
			break;
		case 6:
			sealing->key_byte ^= take_byte(input);
			break;
		default:
			break;
	}
}

static bool
is_same(const Sealing *a, const Sealing *b)
{
	return a->key_byte == b->key_byte && a->kind == b->kind && a->version == b->version && a->length == b->length &&
		a->identifier_length == b->identifier_length &&
		memcmp(a->identifier, b->identifier, a->identifier_length) == 0 && memcmp(a->sealed, b->sealed, a->length) == 0;
}

/* Opens a value from memory of its own size into room of the given size, and tells whether it opened. */
static bool
opens(const Sealing *sealing, size_t room, const uint8_t *plain, size_t plain_length)
{
	SealBinding binding = binding_of(sealing);
	uint8_t    *sealed = malloc(sealing->length > 0 ? sealing->length : 1);
	uint8_t    *opened = malloc(room > 0 ? room : 1);
	size_t		length = 12345;
	uint32_t	key_id = 0;
	bool		is_sealed;
	CryptoStatus status;

	if (sealed == NULL || opened == NULL)
		abort();
	memcpy(sealed, sealing->sealed, sealing->length);
	memset(opened, 0, room);
	is_sealed = seal_read_key_id(sealed, sealing->length, &key_id);
	status = seal_open(make_key(sealing->key_byte), &binding, sealed, sealing->length, opened, room, &length);
	expect(status == CRYPTO_OK || status == CRYPTO_REFUSED, "a sealed value opens or is refused");
	expect(is_sealed || status == CRYPTO_REFUSED, "what has no key id does not open");
	if (status == CRYPTO_OK)
		expect(length == plain_length && memcmp(opened, plain, length) == 0, "what opens is what was sealed");
	else
	{
		expect(length == 0, "what is refused has no length");
		for (size_t i = 0; i < room; i++)
			expect(opened[i] == 0, "what is refused leaves no plaintext");
	}
	count_end(status == CRYPTO_OK, "opened", "refused");
	free(sealed);
	free(opened);
	return status == CRYPTO_OK;
}

/* Bytes that nobody sealed; a header as ours gets them past the first check. */
static void
open_anything(Input *input)
{
	Sealing		sealing = {.kind = CREDENTIAL_APP, .version = 1};
	size_t		length;
	uint8_t    *bytes = take_bytes(input, MAX_GROWN, &length);

	memcpy(sealing.sealed, bytes, length);
	sealing.length = length;
	expect(!opens(&sealing, SEAL_MAX_PLAINTEXT, NULL, 0), "what was never sealed does not open");
	free(bytes);
}

static void
seal_and_change(Input *input)
{
	Sealing		original = {.key_byte = take_byte(input), .kind = (CredentialKind) (1 + take_byte(input) % 3)};
	Sealing		changed;
	SealBinding binding;
	uint8_t		nonce[CRYPTO_NONCE_BYTES];
	size_t		wanted = take_byte(input) % (SEAL_MAX_PLAINTEXT + 2);
	size_t		plain_length;
	uint8_t    *plain;
	size_t		room;
	CryptoStatus status;

	original.version = (uint32_t) take_number(input, 65536) << 16 | (uint32_t) take_number(input, 65536);
	original.identifier_length = take_byte(input) % sizeof(original.identifier);
	for (size_t i = 0; i < original.identifier_length; i++)
		original.identifier[i] = (char) ('a' + (original.version + i) % 26);
	memset(nonce, take_byte(input), sizeof(nonce));
	plain = take_bytes(input, wanted, &plain_length);

	binding = binding_of(&original);
	status = seal_secret(make_key(original.key_byte), (uint32_t) take_number(input, 65536), &binding, nonce, plain,
						 plain_length, original.sealed);
	expect((status == CRYPTO_OK) == (plain_length <= SEAL_MAX_PLAINTEXT), "all that the format allows is sealed");
	if (status == CRYPTO_OK)
	{
		original.length = plain_length + SEAL_OVERHEAD;
		changed = original;
		for (int changes = 1 + take_byte(input) % 3; changes > 0; changes--)
			change(&changed, input);
		room = take_byte(input) % 4 == 0 ? take_byte(input) : SEAL_MAX_PLAINTEXT;
		expect(opens(&changed, room, plain, plain_length) == (is_same(&changed, &original) && plain_length <= room),
			   "only the untouched value opens");
	}
	free(plain);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	Input		input = {bytes, length};

	if (take_byte(&input) % 8 == 0)
		open_anything(&input);
	else
		seal_and_change(&input);
	return 0;
}

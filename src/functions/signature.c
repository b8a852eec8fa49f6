/*
 * signature.c
 *	  Verify and sign: HMAC under a secret that never leaves the server.
 *
 * A verification that fails must not tell why, nor by its time.  So it opens two secrets and computes
 * two HMACs whether the credential is known, retired, in grace or malformed: what is missing is replaced
 * by a decoy, sealed under the same data key.  It reads the row as its statement's snapshot sees it,
 * takes no lock on it and writes nothing, so that it runs on a standby and in parallel workers.
 */
#include "base/compat.h"

#include <limits.h>

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/argument.h"
#include "core/credential.h"
#include "core/lifetime.h"
#include "keys/keyring.h"
#include "store/rows.h"
#include "store/tables.h"

PG_FUNCTION_INFO_V1(keyrot_verify_app_signature);
PG_FUNCTION_INFO_V1(keyrot_verify_zone_signature);
PG_FUNCTION_INFO_V1(keyrot_verify_gateway_signature);
PG_FUNCTION_INFO_V1(keyrot_verify_app_string);
PG_FUNCTION_INFO_V1(keyrot_verify_zone_string);
PG_FUNCTION_INFO_V1(keyrot_verify_gateway_string);
PG_FUNCTION_INFO_V1(keyrot_sign_for_app);
PG_FUNCTION_INFO_V1(keyrot_sign_for_zone);
PG_FUNCTION_INFO_V1(keyrot_sign_string_for_app);
PG_FUNCTION_INFO_V1(keyrot_sign_string_for_zone);

#define DECOY_NAME "decoy"
#define BASE64_MAC_ROOM 64

/* A signature that was presented, or none where it was NULL or malformed. */
typedef struct Presented
{
	CryptoHash	hash;
	Bytes		message;
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	size_t		mac_length;		/* 0: nothing that could be right */
} Presented;

static bool
is_ascii(Bytes text)
{
	for (size_t i = 0; i < text.length; i++)
		if (IS_HIGHBIT_SET(text.bytes[i]))
			return false;
	return true;
}

/* Text as the bytes that clients hash: UTF-8.  Tells whether it can be written so. */
static bool
to_utf8(Bytes text, Bytes *utf8)
{
	int			encoding = GetDatabaseEncoding();
	size_t		room = text.length * MAX_CONVERSION_GROWTH + 1;
	Oid			conversion;
	char	   *converted;

	*utf8 = text;
	if (encoding == PG_UTF8 || is_ascii(text))
		return true;
	if (encoding == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, text.bytes, (int) text.length, true);
	conversion = FindDefaultConversionProc(encoding, PG_UTF8);
	if (!OidIsValid(conversion))
		return false;
	converted = MemoryContextAllocHuge(CurrentMemoryContext, room);
	if (pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8, (unsigned char *) text.bytes, (int) text.length,
									  (unsigned char *) converted, (int) Min(room, INT_MAX), true) < (int) text.length)
		return false;
	*utf8 = (Bytes) {converted, strlen(converted)};
	return true;
}

/* A sealed value of the credential's kind for which there is no row, to spend the same work on. */
static Credential *
decoy_for(CredentialKind kind)
{
	static Credential decoys[2];
	static const uint8_t zeros[2 * SECRET_RANDOM_BYTES];
	Credential *decoy = &decoys[kind == CREDENTIAL_APP];
	size_t		length = kind == CREDENTIAL_APP ? sizeof(zeros) : SECRET_RANDOM_BYTES;
	SealBinding binding = {kind, DECOY_NAME, sizeof(DECOY_NAME) - 1, 1};
	uint8_t		nonce[CRYPTO_NONCE_BYTES];
	int32		key_id = 0;
	uint32_t	sealed_by;
	CryptoKey  *key = keyring_newest(&key_id);

	if (seal_read_key_id(decoy->secret.bytes, decoy->secret.length, &sealed_by) && sealed_by == (uint32_t) key_id)
		return decoy;
	decoy->kind = kind;
	decoy->version = 1;
	strlcpy(decoy->identifier, DECOY_NAME, sizeof(decoy->identifier));
	decoy->secret.length = 0;
	if (key != NULL && crypto_random(nonce, sizeof(nonce)) == CRYPTO_OK &&
		seal_secret(key, (uint32_t) key_id, &binding, nonce, zeros, length, decoy->secret.bytes) == CRYPTO_OK)
		decoy->secret.length = length + SEAL_OVERHEAD;
	return decoy;
}

/* Opens one sealed secret, computes the HMAC and compares; no secret outlives the call. */
static CryptoStatus
compare(const Presented *presented, const Credential *credential, const Sealed *sealed, int32 version, bool *equal)
{
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	Secret		secret;
	CryptoStatus status = credential_try_open(credential, sealed, version, &secret);

	if (status == CRYPTO_OK)
		status = crypto_hmac(presented->hash, secret.bytes, secret.length,
							 presented->message.bytes, presented->message.length, mac);
	secret_wipe(&secret);
	*equal = status == CRYPTO_OK && presented->mac_length == crypto_hash_bytes(presented->hash) &&
		crypto_equal(mac, presented->mac, presented->mac_length);
	crypto_wipe(mac, sizeof(mac));
	return status;
}

/* Compares with a secret of a known credential; raises XX001 where it does not open. */
static bool
matches(const Presented *presented, const Credential *credential, const Sealed *sealed, int32 version)
{
	bool		equal;
	CryptoStatus status = compare(presented, credential, sealed, version, &equal);

	if (status == CRYPTO_REFUSED)
		error_does_not_open(credential->kind, credential->identifier, version);
	if (status != CRYPTO_OK)
		error_crypto(status);
	return equal;
}

/* Does the same work as matches(), for nothing. */
static void
match_decoy(const Presented *presented, CredentialKind kind)
{
	Credential *decoy = decoy_for(kind);
	bool		equal;

	if (compare(presented, decoy, &decoy->secret, decoy->version, &equal) != CRYPTO_OK)
		decoy->secret.length = 0;
}

/*
 * Whether what was presented was signed by the credential that the snapshot sees; a NULL identifier is
 * one that is malformed.
 */
static bool
is_signed_by(const Presented *presented, CredentialKind kind, const char *identifier)
{
	Credential	credential;
	bool		found = identifier != NULL &&
		rows_find_credential(kind, identifier, GetActiveSnapshot(), &credential);
	bool		has_current = found && lifetime_current_verifies(&credential);
	bool		has_previous = found && lifetime_previous_verifies(&credential);
	bool		signed_by_current = false;
	bool		signed_by_previous = false;

	if (has_current)
		signed_by_current = matches(presented, &credential, &credential.secret, credential.version);
	else
		match_decoy(presented, kind);
	if (has_previous)
		signed_by_previous = matches(presented, &credential, &credential.previous_secret,
									 credential_previous_version(&credential));
	else
		match_decoy(presented, kind);
	return signed_by_current || signed_by_previous;
}

/* Reads message, signature and algorithm, which stand in this order from a position on. */
static Presented
read_presented_bytes(FunctionCallInfo fcinfo, int position)
{
	Presented	presented = {.hash = argument_algorithm(fcinfo, position + 2), .message = {"", 0}};
	Bytes		signature;

	if (fcinfo->args[position].isnull || fcinfo->args[position + 1].isnull)
		return presented;
	presented.message = argument_bytes(fcinfo, position);
	signature = argument_bytes(fcinfo, position + 1);
	if (signature.length > sizeof(presented.mac))
		return presented;
	memcpy(presented.mac, signature.bytes, signature.length);
	presented.mac_length = signature.length;
	return presented;
}

/* The same for a text and a base64 signature. */
static Presented
read_presented_text(FunctionCallInfo fcinfo, int position)
{
	Presented	presented = {.hash = argument_algorithm(fcinfo, position + 2), .message = {"", 0}};
	Bytes		signature;

	if (fcinfo->args[position].isnull || fcinfo->args[position + 1].isnull)
		return presented;
	if (!to_utf8(argument_bytes(fcinfo, position), &presented.message))
		return presented;
	signature = argument_bytes(fcinfo, position + 1);
	if (!crypto_base64_decode(signature.bytes, signature.length, presented.mac, sizeof(presented.mac),
							  &presented.mac_length))
		presented.mac_length = 0;
	return presented;
}

typedef Presented (*PresentedReader) (FunctionCallInfo fcinfo, int position);

/* Copies an identifier argument, or tells that it is NULL or malformed. */
static bool
read_identifier(FunctionCallInfo fcinfo, int position, bool (*form) (const char *, size_t),
				char identifier[SEAL_MAX_IDENTIFIER + 1])
{
	Bytes		value;

	if (fcinfo->args[position].isnull)
		return false;
	value = argument_bytes(fcinfo, position);
	if (!form(value.bytes, value.length))
		return false;
	memcpy(identifier, value.bytes, value.length);
	identifier[value.length] = '\0';
	return true;
}

static Datum
verify(FunctionCallInfo fcinfo, CredentialKind kind, PresentedReader reader)
{
	Presented	presented = reader(fcinfo, 1);
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	bool		well_formed = read_identifier(fcinfo, 0, kind == CREDENTIAL_APP ? identifier_is_app_key : identifier_is_zone_id,
											  identifier);

	tables_lock_shared();
	if (!keyring_ready())
		return BoolGetDatum(false);
	return BoolGetDatum(is_signed_by(&presented, kind, well_formed ? identifier : NULL));
}

static Datum
verify_gateway(FunctionCallInfo fcinfo, PresentedReader reader)
{
	Presented	presented = reader(fcinfo, 2);
	char		zone_id[SEAL_MAX_IDENTIFIER + 1];
	char		gateway_id[SEAL_MAX_IDENTIFIER + 1];
	bool		zone_well_formed = read_identifier(fcinfo, 0, identifier_is_zone_id, zone_id);
	bool		gateway_well_formed = read_identifier(fcinfo, 1, identifier_is_gateway_id, gateway_id);
	bool		signed_by_zone;

	tables_lock_shared();
	if (!keyring_ready())
		return BoolGetDatum(false);
	signed_by_zone = is_signed_by(&presented, CREDENTIAL_ZONE, zone_well_formed ? zone_id : NULL);
	return BoolGetDatum(zone_well_formed && gateway_well_formed &&
						rows_gateway_exists(zone_id, gateway_id, GetActiveSnapshot()) && signed_by_zone);
}

/* verify_app_signature(app_key, message, signature, algorithm) */
Datum
keyrot_verify_app_signature(PG_FUNCTION_ARGS)
{
	return verify(fcinfo, CREDENTIAL_APP, read_presented_bytes);
}

/* verify_zone_signature(zone_id, message, signature, algorithm) */
Datum
keyrot_verify_zone_signature(PG_FUNCTION_ARGS)
{
	return verify(fcinfo, CREDENTIAL_ZONE, read_presented_bytes);
}

/* verify_gateway_signature(zone_id, gateway_id, message, signature, algorithm) */
Datum
keyrot_verify_gateway_signature(PG_FUNCTION_ARGS)
{
	return verify_gateway(fcinfo, read_presented_bytes);
}

/* verify_app_string(app_key, string_to_sign, signature, algorithm) */
Datum
keyrot_verify_app_string(PG_FUNCTION_ARGS)
{
	return verify(fcinfo, CREDENTIAL_APP, read_presented_text);
}

/* verify_zone_string(zone_id, string_to_sign, signature, algorithm) */
Datum
keyrot_verify_zone_string(PG_FUNCTION_ARGS)
{
	return verify(fcinfo, CREDENTIAL_ZONE, read_presented_text);
}

/* verify_gateway_string(zone_id, gateway_id, string_to_sign, signature, algorithm) */
Datum
keyrot_verify_gateway_string(PG_FUNCTION_ARGS)
{
	return verify_gateway(fcinfo, read_presented_text);
}

/* Computes the HMAC of a message under a credential that the caller may act on; returns its length. */
static size_t
sign(CredentialKind kind, const char *identifier, CryptoHash hash, Bytes message, uint8_t mac[CRYPTO_MAX_MAC_BYTES])
{
	Credential	credential;
	Secret		secret;
	CryptoStatus status;

	tables_lock_shared();
	credential_find(GetUserId(), kind, identifier, &credential);
	credential_require_usable(&credential);
	credential_open(&credential, &secret);
	status = crypto_hmac(hash, secret.bytes, secret.length, message.bytes, message.length, mac);
	secret_wipe(&secret);
	if (status != CRYPTO_OK)
		error_crypto(status);
	return crypto_hash_bytes(hash);
}

static void
read_signer(FunctionCallInfo fcinfo, CredentialKind kind, const char *function, char identifier[SEAL_MAX_IDENTIFIER + 1])
{
	if (InSecurityRestrictedOperation())
		error_restricted(function);
	if (kind == CREDENTIAL_APP)
		argument_app_key(fcinfo, 0, PARAM_APP_KEY, identifier);
	else
		argument_zone_id(fcinfo, 0, identifier);
}

static Datum
sign_bytes(FunctionCallInfo fcinfo, CredentialKind kind, const char *function)
{
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	CryptoHash	hash = argument_algorithm(fcinfo, 2);
	size_t		length;
	bytea	   *result;

	read_signer(fcinfo, kind, function, identifier);
	if (PG_ARGISNULL(1))
		error_missing(PARAM_MESSAGE);
	length = sign(kind, identifier, hash, argument_bytes(fcinfo, 1), mac);
	result = palloc(VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), mac, length);
	PG_RETURN_BYTEA_P(result);
}

static Datum
sign_string(FunctionCallInfo fcinfo, CredentialKind kind, const char *function)
{
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	char		text[BASE64_MAC_ROOM];
	CryptoHash	hash = argument_algorithm(fcinfo, 2);
	Bytes		message;
	size_t		length;

	read_signer(fcinfo, kind, function, identifier);
	if (PG_ARGISNULL(1))
		error_missing(PARAM_STRING_TO_SIGN);
	if (!to_utf8(argument_bytes(fcinfo, 1), &message))
		error_malformed(PARAM_STRING_TO_SIGN);
	length = sign(kind, identifier, hash, message, mac);
	length = crypto_base64_encode(mac, length, text);
	return PointerGetDatum(cstring_to_text_with_len(text, (int) length));
}

/* sign_for_app(app_key, message, algorithm) */
Datum
keyrot_sign_for_app(PG_FUNCTION_ARGS)
{
	return sign_bytes(fcinfo, CREDENTIAL_APP, "sign_for_app");
}

/* sign_for_zone(zone_id, message, algorithm) */
Datum
keyrot_sign_for_zone(PG_FUNCTION_ARGS)
{
	return sign_bytes(fcinfo, CREDENTIAL_ZONE, "sign_for_zone");
}

/* sign_string_for_app(app_key, string_to_sign, algorithm) */
Datum
keyrot_sign_string_for_app(PG_FUNCTION_ARGS)
{
	return sign_string(fcinfo, CREDENTIAL_APP, "sign_string_for_app");
}

/* sign_string_for_zone(zone_id, string_to_sign, algorithm) */
Datum
keyrot_sign_string_for_zone(PG_FUNCTION_ARGS)
{
	return sign_string(fcinfo, CREDENTIAL_ZONE, "sign_string_for_zone");
}

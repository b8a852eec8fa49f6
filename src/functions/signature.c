/*
 * signature.c
 *	  Verifying and signing: HMAC with a secret that never leaves the server.
 *
 * This file converts arguments to a signer, a message and a MAC, from bytes or from text as used by clients;
 * core/signing.c computes the result.  A problem with an argument of a verification is not an error, but a
 * result.
 */
#include "functions/function.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "functions/signature.h"
#include "core/argument.h"
#include "core/encoding.h"
#include "core/result.h"

#define BASE64_MAC_ROOM 64

/* Reads message, signature and algorithm, which are consecutive arguments from the given position on. */
static Presented
read_presented_bytes(FunctionCallInfo fcinfo, int position)
{
	Presented	presented = {.hash = argument_algorithm(fcinfo, position + 2), .message = {"", 0}, .worth = REASON_OK};
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
	Presented	presented = {.hash = argument_algorithm(fcinfo, position + 2), .message = {"", 0}, .worth = REASON_OK};
	Bytes		signature;

	if (fcinfo->args[position].isnull || fcinfo->args[position + 1].isnull ||
		!encoding_to_utf8(argument_bytes(fcinfo, position), &presented.message))
		return presented;
	signature = argument_bytes(fcinfo, position + 1);
	if (!crypto_base64_decode(signature.bytes, signature.length, presented.mac, sizeof(presented.mac),
							  &presented.mac_length))
		presented.mac_length = 0;
	return presented;
}

typedef Presented (*PresentedReader) (FunctionCallInfo fcinfo, int position);

/* Reads the alleged signer: the first argument and, with a gateway, the second. Raises no errors. */
Signer
signature_read_signer(FunctionCallInfo fcinfo, CredentialKind kind, bool has_gateway)
{
	Signer		signer = {.kind = kind, .has_gateway = has_gateway};

	signer.well_formed =
		argument_copy_identifier(fcinfo, 0, kind == CREDENTIAL_APP ? identifier_is_app_key : identifier_is_zone_id,
								 signer.identifier) &&
		(!has_gateway || argument_copy_identifier(fcinfo, 1, identifier_is_zone_id, signer.gateway_id));
	return signer;
}

static Datum
verify_presented(FunctionCallInfo fcinfo, CredentialKind kind, bool has_gateway, PresentedReader reader)
{
	Presented	presented = reader(fcinfo, has_gateway ? 2 : 1);
	Signer		signer = signature_read_signer(fcinfo, kind, has_gateway);

	return BoolGetDatum(signing_judge(&signer, &presented).reason == REASON_OK);
}

/* A verdict as a row: valid, reason, version, previous and, unless it is NULL, claims. */
Datum
signature_answer(FunctionCallInfo fcinfo, const Verdict *verdict, const NullableDatum *claims)
{
	bool		nobody_signed = verdict->version == 0;
	Datum		values[] = {
		BoolGetDatum(verdict->reason == REASON_OK),
		CStringGetTextDatum(signing_reason(verdict->reason)),
		Int32GetDatum(verdict->version),
		BoolGetDatum(verdict->previous),
		claims == NULL ? (Datum) 0 : claims->value,
	};
	bool		nulls[lengthof(values)] = {false, false, nobody_signed, nobody_signed, claims == NULL || claims->isnull};

	return result_row(fcinfo, values, nulls, claims == NULL ? lengthof(values) - 1 : lengthof(values));
}

static Datum
check_string(FunctionCallInfo fcinfo, CredentialKind kind, bool has_gateway)
{
	Presented	presented = read_presented_text(fcinfo, has_gateway ? 2 : 1);
	Signer		signer = signature_read_signer(fcinfo, kind, has_gateway);
	Verdict		verdict = signing_judge(&signer, &presented);

	return signature_answer(fcinfo, &verdict, NULL);
}

/* verify_app_signature(app_key, message, signature, algorithm), and by zone_id, or zone_id and gateway_id */
SQL_FUNCTION(verify_app_signature, verify_presented(fcinfo, CREDENTIAL_APP, false, read_presented_bytes));
SQL_FUNCTION(verify_zone_signature, verify_presented(fcinfo, CREDENTIAL_ZONE, false, read_presented_bytes));
SQL_FUNCTION(verify_gateway_signature, verify_presented(fcinfo, CREDENTIAL_ZONE, true, read_presented_bytes));

/* verify_app_string(app_key, string_to_sign, signature, algorithm), and so on */
SQL_FUNCTION(verify_app_string, verify_presented(fcinfo, CREDENTIAL_APP, false, read_presented_text));
SQL_FUNCTION(verify_zone_string, verify_presented(fcinfo, CREDENTIAL_ZONE, false, read_presented_text));
SQL_FUNCTION(verify_gateway_string, verify_presented(fcinfo, CREDENTIAL_ZONE, true, read_presented_text));

/* check_app_string(app_key, string_to_sign, signature, algorithm, OUT valid, OUT reason, OUT version, OUT previous), and so on */
SQL_FUNCTION(check_app_string, check_string(fcinfo, CREDENTIAL_APP, false));
SQL_FUNCTION(check_zone_string, check_string(fcinfo, CREDENTIAL_ZONE, false));
SQL_FUNCTION(check_gateway_string, check_string(fcinfo, CREDENTIAL_ZONE, true));

/* Reads whose secret signs, the first argument; raises 22004 and 22023, and 42501 if nothing may be signed. */
void
signature_read_own(FunctionCallInfo fcinfo, CredentialKind kind, const char *function, char identifier[SEAL_MAX_IDENTIFIER + 1])
{
	if (InSecurityRestrictedOperation())
		error_restricted(function);
	argument_target(fcinfo, kind, identifier);
}

static Datum
sign_bytes(FunctionCallInfo fcinfo, CredentialKind kind, const char *function)
{
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	CryptoHash	hash = argument_algorithm(fcinfo, 2);
	size_t		length;

	signature_read_own(fcinfo, kind, function, identifier);
	argument_require(fcinfo, 1, PARAM_MESSAGE);
	length = signing_sign(kind, identifier, hash, argument_bytes(fcinfo, 1), mac);
	PG_RETURN_BYTEA_P(cstring_to_text_with_len((const char *) mac, (int) length));
}

static Bytes
read_string_to_sign(FunctionCallInfo fcinfo)
{
	Bytes		message;

	argument_require(fcinfo, 1, PARAM_STRING_TO_SIGN);
	if (!encoding_to_utf8(argument_bytes(fcinfo, 1), &message))
		error_malformed(PARAM_STRING_TO_SIGN);
	return message;
}

/* A MAC as base64 text. */
static Datum
mac_text(const uint8_t *mac, CryptoHash hash)
{
	char		base64[BASE64_MAC_ROOM];
	size_t		length = crypto_base64_encode(mac, crypto_hash_bytes(hash), base64);

	return PointerGetDatum(cstring_to_text_with_len(base64, (int) length));
}

static Datum
sign_string(FunctionCallInfo fcinfo, CredentialKind kind, const char *function)
{
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	CryptoHash	hash = argument_algorithm(fcinfo, 2);

	signature_read_own(fcinfo, kind, function, identifier);
	(void) signing_sign(kind, identifier, hash, read_string_to_sign(fcinfo), mac);
	return mac_text(mac, hash);
}

static Datum
sign_string_with_all(FunctionCallInfo fcinfo, CredentialKind kind, const char *function)
{
	char		identifier[SEAL_MAX_IDENTIFIER + 1];
	Signature	signatures[SIGNING_MAX_VERSIONS];
	CryptoHash	hash = argument_algorithm(fcinfo, 2);
	int			count;

	signature_read_own(fcinfo, kind, function, identifier);
	count = signing_sign_with_all(kind, identifier, hash, read_string_to_sign(fcinfo), signatures);
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
		Datum		row[] = {
			CStringGetTextDatum(signatures[i].identifier),
			Int32GetDatum(signatures[i].version),
			mac_text(signatures[i].mac, hash),
		};
		bool		nulls[lengthof(row)] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
	}
	return (Datum) 0;
}

/* sign_for_app(app_key, message, algorithm), sign_for_zone(zone_id, message, algorithm) */
SQL_FUNCTION(sign_for_app, sign_bytes(fcinfo, CREDENTIAL_APP, "sign_for_app"));
SQL_FUNCTION(sign_for_zone, sign_bytes(fcinfo, CREDENTIAL_ZONE, "sign_for_zone"));

/* sign_string_for_app(app_key, string_to_sign, algorithm), and by zone_id */
SQL_FUNCTION(sign_string_for_app, sign_string(fcinfo, CREDENTIAL_APP, "sign_string_for_app"));
SQL_FUNCTION(sign_string_for_zone, sign_string(fcinfo, CREDENTIAL_ZONE, "sign_string_for_zone"));

/* sign_string_with_all_for_app(app_key, string_to_sign, algorithm, OUT id, OUT version, OUT signature), and by zone_id */
SQL_FUNCTION(sign_string_with_all_for_app, sign_string_with_all(fcinfo, CREDENTIAL_APP, "sign_string_with_all_for_app"));
SQL_FUNCTION(sign_string_with_all_for_zone, sign_string_with_all(fcinfo, CREDENTIAL_ZONE, "sign_string_with_all_for_zone"));

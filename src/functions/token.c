/*
 * token.c
 *	  JSON Web Tokens signed with a zone's key: verified for a gateway, with or without a reason, and signed.
 *
 * A token comes from an untrusted client.  Regardless of its contents, it raises no error: anything that does
 * not conform exactly is malformed, and PostgreSQL's parsers, which raise errors for some input, are given
 * only what crypto/jwt.c has checked.  A malformed token takes the same work as any other.
 */
#include "functions/function.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "functions/signature.h"
#include "core/encoding.h"
#include "core/result.h"
#include "crypto/jwt.h"

PG_FUNCTION_INFO_V1(keyrot_verify_gateway_token);
PG_FUNCTION_INFO_V1(keyrot_check_gateway_token);
PG_FUNCTION_INFO_V1(keyrot_sign_token_for_zone);

#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

/* A token; if it is malformed, its parts are empty, and nothing matches them. */
typedef struct Token
{
	Presented	presented;
	Bytes		claims;			/* JSON in the database's encoding, with a NUL behind it */
	Numeric		expires_at;		/* seconds since 1970, or NULL */
	Numeric		valid_from;		/* likewise */
} Token;

/* A member to search for in a JSON object, and the result. */
typedef struct Member
{
	const char *name;
	int			count;
	JsonTokenType type;			/* of a scalar; else JSON_TOKEN_INVALID */
	char	   *value;			/* the string, or the number as it was written */
} Member;

#define MEMBERS 2

/* The state of a parser run. */
typedef struct Reading
{
	JsonLexContext *lexer;
	bool		is_object;
	bool		is_unfit;		/* some number is none for numeric */
	List	   *names;			/* of all members of the object itself */
	Member	   *current;		/* the one whose value comes next */
	Member		members[MEMBERS];
} Reading;

static KEYROT_JSON_RESULT
on_object(void *state)
{
	Reading    *reading = state;

	if (reading->lexer->lex_level == 0)
		reading->is_object = true;
	KEYROT_JSON_GO_ON;
}

static KEYROT_JSON_RESULT
on_member(void *state, char *name, bool is_null)
{
	Reading    *reading = state;

	if (reading->lexer->lex_level != 1)
		KEYROT_JSON_GO_ON;
	reading->names = lappend(reading->names, name);
	for (int i = 0; i < MEMBERS; i++)
	{
		if (strcmp(name, reading->members[i].name) != 0)
			continue;
		reading->current = &reading->members[i];
		reading->current->count++;
	}
	KEYROT_JSON_GO_ON;
}

static KEYROT_JSON_RESULT
on_member_end(void *state, char *name, bool is_null)
{
	Reading    *reading = state;

	if (reading->lexer->lex_level == 1)
		reading->current = NULL;
	KEYROT_JSON_GO_ON;
}

static KEYROT_JSON_RESULT
on_scalar(void *state, char *value, JsonTokenType type)
{
	Reading    *reading = state;

	if (type == JSON_TOKEN_NUMBER && !jwt_number_fits(value, strlen(value)))
		reading->is_unfit = true;
	if (reading->lexer->lex_level == 1 && reading->current != NULL)
	{
		reading->current->type = type;
		reading->current->value = value;
	}
	KEYROT_JSON_GO_ON;
}

/*
 * Decodes a part of a token, a JSON object, as NUL-terminated UTF-8; false if jsonb could not hold it in a UTF-8
 * database.
 */
static bool
read_part(const char *text, size_t length, Reading *reading, Bytes *json)
{
	char	   *decoded = palloc(length + 1);
	JsonSemAction actions = {
		.semstate = reading,
		.object_start = on_object,
		.object_field_start = on_member,
		.object_field_end = on_member_end,
		.scalar = on_scalar,
	};
	size_t		decoded_length;

	if (!jwt_decode(text, length, decoded, &decoded_length) ||
		!jwt_resolve_escapes(decoded, &decoded_length) ||
		!pg_verify_mbstr(PG_UTF8, decoded, (int) decoded_length, true))
		return false;
	decoded[decoded_length] = '\0';
	*json = (Bytes) {decoded, decoded_length};
	reading->lexer = KEYROT_JSON_LEXER(decoded, decoded_length, PG_UTF8);
	return pg_parse_json(reading->lexer, &actions) == JSON_SUCCESS && reading->is_object && !reading->is_unfit;
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Whether a name occurs twice; sorts the names. */
static bool
has_duplicates(List *names)
{
	const char *before = NULL;
	ListCell   *cell;

	list_sort(names, compare_names);
	foreach(cell, names)
	{
		if (before != NULL && strcmp(before, lfirst(cell)) == 0)
			return true;
		before = lfirst(cell);
	}
	return false;
}

static bool
read_header(const char *text, size_t length)
{
	Reading		reading = {.members = {{.name = "alg"}, {.name = "crit"}}};
	Member	   *algorithm = &reading.members[0];
	Bytes		json;

	return read_part(text, length, &reading, &json) && !has_duplicates(reading.names) &&
		reading.members[1].count == 0 && algorithm->type == JSON_TOKEN_STRING && strcmp(algorithm->value, "HS256") == 0;
}

/* Reads a time from the claims, which may be absent; false if it is not a number, or occurs twice. */
static bool
read_time(const Member *member, Numeric *seconds)
{
	if (member->count == 0)
		return true;
	if (member->count > 1 || member->type != JSON_TOKEN_NUMBER)
		return false;
	*seconds = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(member->value),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return true;
}

static bool
read_claims(const char *text, size_t length, Token *token)
{
	Reading		reading = {.members = {{.name = "exp"}, {.name = "nbf"}}};
	Bytes		json;

	return read_part(text, length, &reading, &json) &&
		read_time(&reading.members[0], &token->expires_at) &&
		read_time(&reading.members[1], &token->valid_from) &&
		encoding_from_utf8(json, &token->claims);
}

/* Reads the third argument, a token. */
static Token
read_token(FunctionCallInfo fcinfo)
{
	Token		token = {.presented = {.hash = CRYPTO_SHA256, .message = {"", 0}}};
	JwtParts	parts;
	Bytes		text;

	if (PG_ARGISNULL(2))
		return token;
	text = argument_bytes(fcinfo, 2);
	if (!jwt_split(text.bytes, text.length, &parts))
		return token;
	token.presented.message = (Bytes) {text.bytes, parts.signed_length};
	if (!read_header(parts.header, parts.header_length) ||
		!read_claims(parts.payload, parts.payload_length, &token))
		return token;
	memcpy(token.presented.mac, parts.mac, sizeof(parts.mac));
	token.presented.mac_length = sizeof(parts.mac);
	return token;
}

/* Checks the times of a token whose signature is valid, by the server's clock. */
static Reason
judge_times(const Token *token)
{
	Datum		now = NumericGetDatum(int64_div_fast_to_numeric(request_unix_time(GetCurrentTimestamp()), 6));

	if (token->expires_at != NULL &&
		DatumGetBool(DirectFunctionCall2(numeric_ge, now, NumericGetDatum(token->expires_at))))
		return REASON_TOKEN_EXPIRED;
	if (token->valid_from != NULL &&
		DatumGetBool(DirectFunctionCall2(numeric_lt, now, NumericGetDatum(token->valid_from))))
		return REASON_TOKEN_NOT_YET_VALID;
	return REASON_OK;
}

/* Checks a token's signature, and then its times. */
static Verdict
judge_token(FunctionCallInfo fcinfo, Token *token)
{
	Signer		signer = signature_read_signer(fcinfo, CREDENTIAL_ZONE, true);

	token->presented.worth = judge_times(token);
	return signing_judge(&signer, &token->presented);
}

/* verify_gateway_token(zone_id, gateway_id, token) */
Datum
keyrot_verify_gateway_token(PG_FUNCTION_ARGS)
{
	Token		token = read_token(fcinfo);

	PG_RETURN_BOOL(judge_token(fcinfo, &token).reason == REASON_OK);
}

/* check_gateway_token(zone_id, gateway_id, token, OUT valid, OUT reason, OUT version, OUT previous, OUT claims) */
Datum
keyrot_check_gateway_token(PG_FUNCTION_ARGS)
{
	Token		token = read_token(fcinfo);
	Verdict		verdict = judge_token(fcinfo, &token);
	NullableDatum claims = {.isnull = verdict.version == 0};

	if (!claims.isnull)
		claims.value = DirectFunctionCall1(jsonb_in, CStringGetDatum(token.claims.bytes));
	return signature_answer(fcinfo, &verdict, &claims);
}

/* Reads the claims to sign as JSON in UTF-8; raises 22004 and 22023. */
static Bytes
read_claims_to_sign(FunctionCallInfo fcinfo)
{
	Jsonb	   *claims;
	char	   *text;
	Bytes		json;

	argument_require(fcinfo, 1, PARAM_CLAIMS);
	claims = PG_GETARG_JSONB_P(1);
	if (!JB_ROOT_IS_OBJECT(claims))
		error_malformed(PARAM_CLAIMS);
	text = JsonbToCString(NULL, &claims->root, VARSIZE(claims));
	if (!encoding_to_utf8((Bytes) {text, strlen(text)}, &json))
		error_malformed(PARAM_CLAIMS);
	return json;
}

/* sign_token_for_zone(zone_id, claims) */
Datum
keyrot_sign_token_for_zone(PG_FUNCTION_ARGS)
{
	char		zone_id[SEAL_MAX_IDENTIFIER + 1];
	uint8_t		mac[CRYPTO_MAX_MAC_BYTES];
	char		text[JWT_MAX_BYTES];
	Bytes		claims;
	size_t		length;

	signature_read_own(fcinfo, CREDENTIAL_ZONE, "sign_token_for_zone", zone_id);
	claims = read_claims_to_sign(fcinfo);
	if (JWT_ENCODED(strlen(HEADER)) + 1 + JWT_ENCODED(claims.length) + 1 + JWT_ENCODED(CRYPTO_HASH_BYTES) > sizeof(text))
		error_malformed(PARAM_CLAIMS);
	length = jwt_encode(HEADER, strlen(HEADER), text);
	text[length++] = '.';
	length += jwt_encode(claims.bytes, claims.length, text + length);
	(void) signing_sign(CREDENTIAL_ZONE, zone_id, CRYPTO_SHA256, (Bytes) {text, length}, mac);
	text[length++] = '.';
	length += jwt_encode(mac, CRYPTO_HASH_BYTES, text + length);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text, (int) length));
}

/*
 * argument.c
 *	  Reads the arguments of SQL functions and checks their form.
 *
 * identifier.c and secret.c decide which forms are valid; this file turns a NULL or malformed value into the
 * error that names its parameter.  If reading a secret makes a copy, the copy is wiped.
 */
#include "core/argument.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/lifetime.h"
#include "record/usage.h"
#include "store/tables.h"
#include "base/settings.h"

#define MAX_BATCH_SIZE 100000
#define APP_NAME_MAX_CHARACTERS 128
#define DESCRIPTION_MAX_CHARACTERS 1000

/* The bytes of a text or bytea argument that is not NULL. */
Bytes
argument_bytes(FunctionCallInfo fcinfo, int position)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(position);

	return (Bytes) {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

static bool
is_word(Bytes value, const char *word)
{
	return value.length == strlen(word) && memcmp(value.bytes, word, value.length) == 0;
}

/* Raises 22004 for NULL. */
void
argument_require(FunctionCallInfo fcinfo, int position, Parameter parameter)
{
	if (PG_ARGISNULL(position))
		error_missing(parameter);
}

/* Copies an identifier; false, and the empty string, for NULL and for one without this form. */
bool
argument_copy_identifier(FunctionCallInfo fcinfo, int position, IdentifierForm form, char *identifier)
{
	Bytes		value;

	identifier[0] = '\0';
	if (PG_ARGISNULL(position))
		return false;
	value = argument_bytes(fcinfo, position);
	if (!form(value.bytes, value.length))
		return false;
	memcpy(identifier, value.bytes, value.length);
	identifier[value.length] = '\0';
	return true;
}

static void
read_optional(FunctionCallInfo fcinfo, int position, Parameter parameter, IdentifierForm form, char *identifier)
{
	if (!argument_copy_identifier(fcinfo, position, form, identifier) && !PG_ARGISNULL(position))
		error_malformed(parameter);
}

/* An AppKey; raises 22004 for NULL and 22023 for anything malformed. */
void
argument_app_key(FunctionCallInfo fcinfo, int position, Parameter parameter, char app_key[APP_KEY_MAX + 1])
{
	argument_require(fcinfo, position, parameter);
	read_optional(fcinfo, position, parameter, identifier_is_app_key, app_key);
}

/* An AppKey, or the empty string for NULL, as for the next ones. */
void
argument_optional_app_key(FunctionCallInfo fcinfo, int position, Parameter parameter,
						  char app_key[APP_KEY_MAX + 1])
{
	read_optional(fcinfo, position, parameter, identifier_is_app_key, app_key);
}

/* A GatewayId; may be NULL. */
void
argument_gateway_id(FunctionCallInfo fcinfo, int position, char gateway_id[ZONE_ID_MAX + 1])
{
	read_optional(fcinfo, position, PARAM_GATEWAY_ID, identifier_is_zone_id, gateway_id);
}

/* A client_token; may be NULL. */
void
argument_client_token(FunctionCallInfo fcinfo, int position, char client_token[CLIENT_TOKEN_MAX + 1])
{
	read_optional(fcinfo, position, PARAM_CLIENT_TOKEN, identifier_is_client_token, client_token);
}

/* A ZoneId; raises 22004 for NULL and 22023 for anything malformed. */
void
argument_zone_id(FunctionCallInfo fcinfo, int position, char zone_id[ZONE_ID_MAX + 1])
{
	argument_require(fcinfo, position, PARAM_ZONE_ID);
	read_optional(fcinfo, position, PARAM_ZONE_ID, identifier_is_zone_id, zone_id);
}

/* The first argument: the AppKey or ZoneId that the request is about. */
void
argument_target(FunctionCallInfo fcinfo, CredentialKind kind, char identifier[SEAL_MAX_IDENTIFIER + 1])
{
	if (kind == CREDENTIAL_APP)
		argument_app_key(fcinfo, 0, PARAM_APP_KEY, identifier);
	else
		argument_zone_id(fcinfo, 0, identifier);
}

/* Wipes the copy of an argument that detoasting may have made. */
static void
wipe_copy(FunctionCallInfo fcinfo, int position, struct varlena *value)
{
	if ((Pointer) value == DatumGetPointer(PG_GETARG_DATUM(position)))
		return;
	crypto_wipe(value, VARSIZE_ANY(value));
	pfree(value);
}

/* Reads a secret by its form. */
static void
read_secret(FunctionCallInfo fcinfo, int position, Parameter parameter,
			bool (*form) (const char *, size_t, Secret *), Secret *secret)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(position);
	bool		well_formed = form(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), secret);

	wipe_copy(fcinfo, position, value);
	if (!well_formed)
		error_malformed(parameter);
}

/* An AppSecret; for NULL the secret's length remains 0. */
void
argument_app_secret(FunctionCallInfo fcinfo, int position, Parameter parameter, Secret *secret)
{
	if (!PG_ARGISNULL(position))
		read_secret(fcinfo, position, parameter, secret_from_app_secret, secret);
}

/* A SecretKey; for NULL the secret's length remains 0. */
void
argument_secret_key(FunctionCallInfo fcinfo, int position, Secret *secret)
{
	if (!PG_ARGISNULL(position))
		read_secret(fcinfo, position, PARAM_SECRET_KEY, secret_from_secret_key, secret);
}

/* A secret of either kind: read in both forms, and empty in one that it does not have. */
void
argument_any_secret(FunctionCallInfo fcinfo, int position, Secret *app_secret, Secret *secret_key)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(position);

	(void) secret_from_app_secret(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), app_secret);
	(void) secret_from_secret_key(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), secret_key);
	wipe_copy(fcinfo, position, value);
}

/* Whether the database's encoding has control characters at 0x80 to 0x9f, as in ISO 8859. */
static bool
is_iso_8859(int encoding)
{
	return (encoding >= PG_LATIN1 && encoding <= PG_LATIN10) ||
		(encoding >= PG_ISO_8859_5 && encoding <= PG_ISO_8859_8);
}

/* Whether a byte, or in UTF-8 the pair that it starts, is a control character. */
static bool
starts_control(const unsigned char *c, const unsigned char *end)
{
	int			encoding = GetDatabaseEncoding();

	if (*c < 0x20 || *c == 0x7f)
		return true;
	if (encoding == PG_UTF8)
		return *c == 0xc2 && c + 1 < end && c[1] < 0xa0;
	return is_iso_8859(encoding) && *c >= 0x80 && *c < 0xa0;
}

static bool
is_title(Bytes value, int max_characters)
{
	const unsigned char *start = (const unsigned char *) value.bytes;
	const unsigned char *end = start + value.length;

	if (value.length == 0 || value.length > (size_t) max_characters * MAX_MULTIBYTE_CHAR_LEN)
		return false;
	if (start[0] == ' ' || end[-1] == ' ')
		return false;
	for (const unsigned char *c = start; c < end; c++)
		if (starts_control(c, end))
			return false;
	return pg_mbstrlen_with_len(value.bytes, (int) value.length) <= max_characters;
}

static NullableDatum
read_title(FunctionCallInfo fcinfo, int position, Parameter parameter, int max_characters)
{
	NullableDatum result = {(Datum) 0, true};

	if (PG_ARGISNULL(position))
		return result;
	if (!is_title(argument_bytes(fcinfo, position), max_characters))
		error_malformed(parameter);
	result.value = PG_GETARG_DATUM(position);
	result.isnull = false;
	return result;
}

/* An app's name, which may be NULL; raises 22023 for a malformed one. */
NullableDatum
argument_app_name(FunctionCallInfo fcinfo, int position)
{
	return read_title(fcinfo, position, PARAM_APP_NAME, APP_NAME_MAX_CHARACTERS);
}

/* An app's description, which may be NULL; raises 22023 for a malformed one. */
NullableDatum
argument_description(FunctionCallInfo fcinfo, int position)
{
	return read_title(fcinfo, position, PARAM_DESCRIPTION, DESCRIPTION_MAX_CHARACTERS);
}

/*
 * A non-negative interval in microseconds, with months of 30 days and days of 24 hours, as in comparisons of
 * intervals; the maximum if it is too long for that. Raises 22004 for NULL, and 22023 for a negative or infinite
 * interval.
 */
int64
argument_age(FunctionCallInfo fcinfo, int position, Parameter parameter)
{
	const Interval *duration;
	int64		days;
	int64		microseconds;

	argument_require(fcinfo, position, parameter);
	duration = PG_GETARG_INTERVAL_P(position);
	if (KEYROT_INTERVAL_IS_INFINITE(duration))
		error_malformed(parameter);
	days = (int64) duration->month * DAYS_PER_MONTH + duration->day;
	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &microseconds) ||
		pg_add_s64_overflow(microseconds, duration->time, &microseconds))
		microseconds = days > 0 ? PG_INT64_MAX : PG_INT64_MIN;
	if (microseconds < 0)
		error_malformed(parameter);
	return microseconds;
}

/* A grace period, read likewise; raises 22023 also for one longer than keyrot.max_grace. */
int64
argument_grace(FunctionCallInfo fcinfo, int position)
{
	int64		grace = argument_age(fcinfo, position, PARAM_GRACE_PERIOD);

	if (grace > (int64) keyrot_max_grace * USECS_PER_SEC)
		error_grace_too_long();
	return grace;
}

/*
 * Whether the grace period begins with the first use of the new version, not with the rotation. Raises 22004 for
 * NULL, 22023 for any other word, 55000 if uses are not noted, and 0A000 if the tables are distributed.
 */
bool
argument_from_first_use(FunctionCallInfo fcinfo, int position)
{
	Bytes		value;

	argument_require(fcinfo, position, PARAM_GRACE_FROM);
	value = argument_bytes(fcinfo, position);
	if (is_word(value, "rotation"))
		return false;
	if (!is_word(value, "first_use"))
		error_malformed(PARAM_GRACE_FROM);
	if (tables_are_distributed())
		error_not_distributable("grace_from \"first_use\"", "Uses of credentials are noted on each node for itself.");
	if (!usage_exists())
		error_no_first_use(settings_preloaded());
	return true;
}

/* An interval of a policy, or all zeros for NULL; raises 22023 if a policy cannot have it. */
void
argument_optional_period(FunctionCallInfo fcinfo, int position, Parameter parameter, Interval *period)
{
	memset(period, 0, sizeof(*period));
	if (PG_ARGISNULL(position))
		return;
	*period = *PG_GETARG_INTERVAL_P(position);
	if (!lifetime_is_period(period))
		error_malformed(parameter);
}

/*
 * The role given as an owner, and its name in the current memory context; raises 22004 for NULL, 42704 if there is no
 * such role, and 22021 if its name is not valid in the database's encoding.
 */
Oid
argument_owner(FunctionCallInfo fcinfo, int position, const char **name)
{
	Oid			role;

	argument_require(fcinfo, position, PARAM_OWNER);
	role = PG_GETARG_OID(position);
	*name = GetUserNameFromId(role, true);
	if (*name == NULL)
		error_no_such_owner(role);
	if (!pg_verifymbstr(*name, (int) strlen(*name), true))
		error_role_name(role);
	return role;
}

/* True or false; raises 22004 for NULL. */
bool
argument_boolean(FunctionCallInfo fcinfo, int position, Parameter parameter)
{
	argument_require(fcinfo, position, parameter);
	return PG_GETARG_BOOL(position);
}

/* A number of at least 1; raises 22004 for NULL, 22023 for less. */
int
argument_positive(FunctionCallInfo fcinfo, int position, Parameter parameter)
{
	argument_require(fcinfo, position, parameter);
	if (PG_GETARG_INT32(position) < 1)
		error_malformed(parameter);
	return PG_GETARG_INT32(position);
}

/* The maximum number of rows per transaction; raises 22004 for NULL, 22023 if out of range. */
int
argument_batch_size(FunctionCallInfo fcinfo, int position)
{
	int			size = argument_positive(fcinfo, position, PARAM_BATCH_SIZE);

	if (size > MAX_BATCH_SIZE)
		error_malformed(PARAM_BATCH_SIZE);
	return size;
}

/*
 * The identifiers of an array of AppKeys or ZoneIds that is not NULL, and their number, in the current memory context;
 * raises 22004 for a NULL among them, and 22023 for one that is malformed.
 */
char **
argument_identifiers(FunctionCallInfo fcinfo, int position, CredentialKind kind, int *count)
{
	Parameter	parameter = kind == CREDENTIAL_APP ? PARAM_APP_KEYS : PARAM_ZONE_IDS;
	IdentifierForm form = kind == CREDENTIAL_APP ? identifier_is_app_key : identifier_is_zone_id;
	Datum	   *values;
	bool	   *nulls;
	char	  **identifiers;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(position), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, count);
	identifiers = palloc(*count * sizeof(char *) + 1);
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			error_missing(parameter);
		identifiers[i] = TextDatumGetCString(values[i]);
		if (!form(identifiers[i], strlen(identifiers[i])))
			error_malformed(parameter);
	}
	return identifiers;
}

/* The algorithm of a signature; raises 22023 for an unknown one and for NULL. */
CryptoHash
argument_algorithm(FunctionCallInfo fcinfo, int position)
{
	CryptoHash	hash = CRYPTO_SHA256;
	Bytes		value;
	CryptoStatus status;

	if (PG_ARGISNULL(position))
		error_malformed(PARAM_ALGORITHM);
	value = argument_bytes(fcinfo, position);
	if (is_word(value, "sha1"))
		hash = CRYPTO_SHA1;
	else if (!is_word(value, "sha256"))
		error_malformed(PARAM_ALGORITHM);
	status = crypto_hash_ready(hash);
	if (status != CRYPTO_OK)
		error_crypto(status);
	return hash;
}

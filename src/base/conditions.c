/*
 * conditions.c
 *	  The subjects of errors, in two tables: the parameters, and the conditions that callers can distinguish,
 *	  with their SQLSTATEs and their names in the two clouds.
 *
 * The messages are in errors.c.  A caught error alone does not show which condition it is, because one
 * SQLSTATE stands for several: so every error that errors.c raises is noted here, and looked up when it is
 * caught.
 */
#include "base/conditions.h"

#include "lib/stringinfo.h"

#define A_SECRET_KEY "the canonical, padded base64 of 32 to 48 bytes"
#define AN_APP_KEY "4 to 128 characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", beginning with a letter or digit, " \
	"and not resembling a generated AppSecret"
#define AN_APP_SECRET "16 to 128 printable ASCII characters without spaces"
#define A_PERIOD "a positive interval whose end is within the range of timestamptz"
#define UNAVAILABLE "ServiceUnavailable", "InvalidParameter.ActionInProgress"
#define A_ZONE_ID "1 to 64 characters of A-Z, a-z, 0-9, \"_\" and \"-\", beginning with a letter or digit, " \
	"and not 64 hex digits like a secret"

static const struct
{
	const char *name;
	const char *api_name;		/* NULL: api() takes no such parameter */
	const char *accepted;
}			parameters[] = {
#define PARAMETER(id, name, api_name, accepted) [id] = {name, api_name, accepted},
#include "base/parameter_list.h"
#undef PARAMETER
};

/* From this one, the SQLSTATE alone identifies the condition, no matter where the error was raised. */
#define FIRST_BY_SQLSTATE CONDITION_NOT_ALLOWED

static const struct
{
	int			sqlstate;
	int			http_status;
	const char *alibaba;
	const char *tencent;
}			conditions[] = {
	[CONDITION_UNEXPECTED] = {ERRCODE_INTERNAL_ERROR, 500, "InternalError", "InternalError"},
	[CONDITION_MISSING] = {ERRCODE_NULL_VALUE_NOT_ALLOWED, 400, "Missing%s", "MissingParameter"},
	[CONDITION_MALFORMED] = {ERRCODE_INVALID_PARAMETER_VALUE, 400, "Invalid%s", "InvalidParameterValue"},
	[CONDITION_WRONG_TYPE] = {ERRCODE_INVALID_PARAMETER_VALUE, 400, "Invalid%s", "InvalidParameter"},
	[CONDITION_UNKNOWN_PARAMETER] = {ERRCODE_INVALID_PARAMETER_VALUE, 400, "Invalid%s", "UnknownParameter"},
	[CONDITION_TAKEN] = {ERRCODE_UNIQUE_VIOLATION, 400, "Duplicate%s", "OperationDenied"},
	[CONDITION_NO_SUCH] = {ERRCODE_NO_DATA_FOUND, 400, "NotFoundApp", "ResourceNotFound.ZoneNotFound"},
	[CONDITION_TOKEN_MISMATCH] = {ERRCODE_INVALID_PARAMETER_VALUE, 400, "IdempotentParameterMismatch", "InvalidParameter"},
	[CONDITION_UNKNOWN_ACTION] = {ERRCODE_FEATURE_NOT_SUPPORTED, 404, "InvalidAction.NotFound", "InvalidAction"},
	[CONDITION_UNKNOWN_VERSION] = {ERRCODE_FEATURE_NOT_SUPPORTED, 404, "InvalidAction.NotFound", "NoSuchVersion"},
	[CONDITION_NOT_ALLOWED] = {ERRCODE_INSUFFICIENT_PRIVILEGE, 403, "NoPermission", "UnauthorizedOperation"},
	[CONDITION_TOO_MANY] = {ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, 400, "Throttling.User", "RequestLimitExceeded"},
	[CONDITION_LOCKED] = {ERRCODE_LOCK_NOT_AVAILABLE, 503, UNAVAILABLE},
	[CONDITION_NOT_SERIALIZABLE] = {ERRCODE_T_R_SERIALIZATION_FAILURE, 503, UNAVAILABLE},
	[CONDITION_DEADLOCK] = {ERRCODE_T_R_DEADLOCK_DETECTED, 503, UNAVAILABLE},
};

/* The error that was last raised here: an SQLSTATE identifies neither the parameter nor what is wrong with it. */
static struct
{
	Condition	condition;
	Parameter	parameter;
}			noted;

/* Like errcode(), for a condition of the table, which is noted together with the parameter concerned. */
int
conditions_errcode(Condition condition, Parameter parameter)
{
	noted.condition = condition;
	noted.parameter = parameter;
	return errcode(conditions[condition].sqlstate);
}

/* The parameter's name in keyrot's functions. */
const char *
conditions_parameter(Parameter parameter)
{
	return parameters[parameter].name;
}

/* The values that it accepts, as the end of a sentence. */
const char *
conditions_accepted(Parameter parameter)
{
	return parameters[parameter].accepted;
}

/* Forgets errors raised before, so that no later error is mistaken for them. */
void
conditions_begin(void)
{
	noted.condition = CONDITION_UNEXPECTED;
}

/* The parameter's name in api(); NULL if api() has no such parameter. */
const char *
conditions_parameter_name(Parameter parameter)
{
	return parameters[parameter].api_name;
}

/* Whether an error cannot be the answer to a request: a cancellation, a shutdown, out of memory. */
bool
conditions_must_be_raised(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		error->sqlerrcode == ERRCODE_OUT_OF_MEMORY ||
		error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION;
}

/* Whether the noted error is this caught error. */
static bool
is_noted(const ErrorData *error)
{
	return noted.condition != CONDITION_UNEXPECTED && conditions[noted.condition].sqlstate == error->sqlerrcode;
}

/* The row of the table that a caught error belongs to. */
static Condition
condition_of(const ErrorData *error)
{
	for (Condition kind = FIRST_BY_SQLSTATE; kind < lengthof(conditions); kind++)
		if (conditions[kind].sqlstate == error->sqlerrcode)
			return kind;
	return is_noted(error) ? noted.condition : CONDITION_UNEXPECTED;
}

/*
 * The message and hint of a caught error, in the current memory context.  If the message begins with the
 * parameter's name, that is replaced by the clouds' name.
 */
char *
conditions_message(const ErrorData *error)
{
	const char *message = error->message != NULL ? error->message : "unknown error";
	const char *name = parameters[noted.parameter].name;
	const char *api_name = parameters[noted.parameter].api_name;
	const char *hint = error->hint;
	StringInfoData text;

	initStringInfo(&text);
	if (is_noted(error) && api_name != NULL &&
		strncmp(message, name, strlen(name)) == 0 && message[strlen(name)] == ' ')
	{
		appendStringInfoString(&text, api_name);
		message += strlen(name);
	}
	appendStringInfoString(&text, message);
	if (hint != NULL)
		appendStringInfo(&text, ". %s", hint);
	return text.data;
}

/* Alibaba's code for a caught error, in the current memory context, and its HTTP status there. */
char *
conditions_alibaba_code(const ErrorData *error, int *http_status)
{
	Condition	kind = condition_of(error);
	const char *code = conditions[kind].alibaba;
	const char *place = strstr(code, "%s");
	const char *name = parameters[noted.parameter].api_name;

	*http_status = conditions[kind].http_status;
	if (place == NULL || name == NULL)
		return pstrdup(place == NULL ? code : "InvalidParameter");
	return psprintf("%.*s%s%s", (int) (place - code), code, name, place + 2);
}

/* Tencent's code for a caught error. */
const char *
conditions_tencent_code(const ErrorData *error)
{
	return conditions[condition_of(error)].tencent;
}

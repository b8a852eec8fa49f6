/*
 * conditions.c
 *	  What errors are about, in two tables: the parameters, and the conditions that the contract tells
 *	  apart, with their SQLSTATE and what the two clouds call them.
 *
 * The sentences are errors.c's.  Which condition a caught error is cannot be read off it alone, for one
 * SQLSTATE stands for several: so what errors.c raises is noted here, and read when it is caught.
 */
#include "base/conditions.h"

#include "lib/stringinfo.h"

#define A_SECRET_KEY "the canonical, padded base64 of 32 to 48 bytes"
#define AN_APP_KEY "4 to 128 characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", the first a letter or digit, " \
	"and not what a generated AppSecret looks like"
#define AN_APP_SECRET "16 to 128 printable ASCII characters without blanks"
#define A_PERIOD "an interval above 0 that ends at a time which timestamptz can hold"
#define UNAVAILABLE "ServiceUnavailable", "InvalidParameter.ActionInProgress"
#define A_ZONE_ID "1 to 64 characters of A-Z, a-z, 0-9, \"_\" and \"-\", the first a letter or digit, " \
	"and not 64 hex digits as a secret has"

static const struct
{
	const char *name;
	const char *api_name;		/* NULL: api() takes no such parameter */
	const char *accepted;
}			parameters[] = {
	[PARAM_APP_ID] = {"app_id", "AppId", "a number of at least 1"},
	[PARAM_APP_NAME] = {"app_name", "AppName", "1 to 128 characters, none a control character, no blank at either end"},
	[PARAM_APP_KEY] = {"app_key", "AppKey", AN_APP_KEY},
	[PARAM_NEW_APP_KEY] = {"new_app_key", "NewAppKey", AN_APP_KEY},
	[PARAM_APP_SECRET] = {"app_secret", "AppSecret", AN_APP_SECRET},
	[PARAM_NEW_APP_SECRET] = {"new_app_secret", "NewAppSecret", AN_APP_SECRET},
	[PARAM_DESCRIPTION] = {"description", "Description", "1 to 1000 characters, none a control character, no blank at either end"},
	[PARAM_ZONE_ID] = {"zone_id", "ZoneId", A_ZONE_ID},
	[PARAM_SECRET_KEY] = {"secret_key", "SecretKey", A_SECRET_KEY},
	[PARAM_GATEWAY_ID] = {"gateway_id", NULL, A_ZONE_ID},
	[PARAM_GRACE_PERIOD] = {"grace_period", "GracePeriod", "an interval from 0 to keyrot.max_grace"},
	[PARAM_GRACE_SECONDS] = {"grace_period", "GracePeriod", "whole seconds from 0 to keyrot.max_grace"},
	[PARAM_GRACE_FROM] = {"grace_from", "GraceFrom", "\"rotation\" or \"first_use\""},
	[PARAM_ROTATE_AFTER] = {"rotate_after", NULL, A_PERIOD},
	[PARAM_LIFETIME] = {"lifetime", NULL, A_PERIOD},
	[PARAM_CLIENT_TOKEN] = {"client_token", "ClientToken", "1 to 64 printable ASCII characters without blanks"},
	[PARAM_OWNER] = {"owner", NULL, "a role"},
	[PARAM_PAGE_NUMBER] = {"page_number", "PageNumber", "at least 1"},
	[PARAM_PAGE_SIZE] = {"page_size", "PageSize", "at least 1"},
	[PARAM_BOUNDED_PAGE_SIZE] = {"page_size", "PageSize", "from 1 to 100"},
	[PARAM_NEWEST_FIRST] = {"newest_first", "Sort", "true or false"},
	[PARAM_SORT] = {"newest_first", "Sort", "\"desc\" or \"asc\""},
	[PARAM_DISABLED] = {"disabled", "Disabled", "true or false"},
	[PARAM_SECRET] = {"secret", NULL, "an AppSecret or a SecretKey"},
	[PARAM_ALGORITHM] = {"algorithm", NULL, "\"sha256\" or \"sha1\""},
	[PARAM_MESSAGE] = {"message", NULL, "bytes"},
	[PARAM_STRING_TO_SIGN] = {"string_to_sign", NULL, "text that can be written in UTF-8"},
	[PARAM_CLAIMS] = {"claims", NULL, "a JSON object whose token has at most 8192 bytes"},
	[PARAM_PARAMS] = {"params", "Params", "a JSON object"},
	[PARAM_OLDER_THAN] = {"older_than", NULL, "a finite interval from 0 on"},
	[PARAM_REWRAP] = {"rewrap", NULL, "true or false"},
	[PARAM_BATCH_SIZE] = {"batch_size", NULL, "from 1 to 100000"},
	[PARAM_AFTER] = {"after", NULL, "a position that changes() has given, or null"},
	[PARAM_MAX_COUNT] = {"max_count", NULL, "at least 1"},
	[PARAM_MOMENT] = {"moment", NULL, "a finite time of the year 10889 at the latest"},
	[PARAM_MAX_AGE] = {"max_age", NULL, "a finite interval from 0 on"},
	[PARAM_ALL_OWNERS] = {"all_owners", NULL, "true or false"},
	[PARAM_APP_KEYS] = {"app_keys", NULL, "an array of AppKeys without nulls"},
	[PARAM_ZONE_IDS] = {"zone_ids", NULL, "an array of ZoneIds without nulls"},
};

/* From here on the SQLSTATE alone tells the condition, whoever raised it. */
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

/* What was last raised here: an SQLSTATE does not tell which parameter, nor what is wrong with it. */
static struct
{
	Condition	condition;
	Parameter	parameter;
}			noted;

/* As errcode(), for a condition of the table, which is noted beside the parameter that it is about. */
int
conditions_errcode(Condition condition, Parameter parameter)
{
	noted.condition = condition;
	noted.parameter = parameter;
	return errcode(conditions[condition].sqlstate);
}

/* What keyrot's functions call the parameter. */
const char *
conditions_parameter(Parameter parameter)
{
	return parameters[parameter].name;
}

/* Which values it takes, as the end of a sentence. */
const char *
conditions_accepted(Parameter parameter)
{
	return parameters[parameter].accepted;
}

/* Forgets what was raised before, so that no later error is taken for it. */
void
conditions_begin(void)
{
	noted.condition = CONDITION_UNEXPECTED;
}

/* What api() calls the parameter; NULL where it takes no such one. */
const char *
conditions_parameter_name(Parameter parameter)
{
	return parameters[parameter].api_name;
}

/* Whether an error is no answer to a request, but says that there can be none: cancelled, shutdown, no memory. */
bool
conditions_must_be_raised(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
		error->sqlerrcode == ERRCODE_OUT_OF_MEMORY ||
		error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION;
}

/* Whether what was noted is what this caught error is about. */
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
 * The message and hint of a caught error, in the current memory context.  Where the message begins with
 * the parameter, that gets the clouds' name.
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

/* Alibaba's code for a caught error, in the current memory context, and the HTTP status that it has there. */
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

/*
 * api_shape.c
 *	  Writes the JSON in which the two clouds answer: values, success, failure.
 *
 * Pushed values are not copied before the answer is finished, so they must live until then.  A finished
 * answer may contain a secret, and the caller must wipe it.
 */
#include "functions/api_shape.h"

#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "core/result.h"
#include "base/errors.h"

/*
 * Alibaba returns the name of the host that answered.  There is no such name here that would be the same for every
 * client.
 */
#define HOST_ID "keyrot"

#define HTTP_OK 200

/* Writes a field's value, behind its key. */
static void
put_value(JsonbParseState **state, const char *key, JsonbValue value)
{
	api_shape_put_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static JsonbValue
string_value(const char *bytes, size_t length)
{
	return (JsonbValue) {.type = jbvString, .val.string = {(int) length, (char *) bytes}};
}

/* Begins a field; its value is to follow. */
void
api_shape_put_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value = string_value(key, strlen(key));

	pushJsonbValue(state, WJB_KEY, &value);
}

/* A field with a string, which must live until the answer is finished. */
void
api_shape_put_string(JsonbParseState **state, const char *key, const char *string)
{
	put_value(state, key, string_value(string, strlen(string)));
}

/* A field with a text, which must live until the answer is finished. */
void
api_shape_put_text(JsonbParseState **state, const char *key, Datum value)
{
	text	   *packed = DatumGetTextPP(value);

	put_value(state, key, string_value(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed)));
}

/* A field with a whole number. */
void
api_shape_put_number(JsonbParseState **state, const char *key, int64 number)
{
	put_value(state, key, (JsonbValue) {.type = jbvNumeric, .val.numeric = int64_to_numeric(number)});
}

/* A field with a time: ISO 8601, UTC, whole seconds. */
void
api_shape_put_time(JsonbParseState **state, const char *key, TimestampTz value)
{
	struct pg_tm tm;
	fsec_t		fraction;

	if (timestamp2tm(value, NULL, &tm, &fraction, NULL, NULL) != 0)
		elog(ERROR, "timestamp out of range");
	api_shape_put_string(state, key, psprintf("%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year, tm.tm_mon, tm.tm_mday,
											  tm.tm_hour, tm.tm_min, tm.tm_sec));
}

/* A field with true or false. */
void
api_shape_put_boolean(JsonbParseState **state, const char *key, bool value)
{
	put_value(state, key, (JsonbValue) {.type = jbvBool, .val.boolean = value});
}

/* A field without a value. */
void
api_shape_put_null(JsonbParseState **state, const char *key)
{
	put_value(state, key, (JsonbValue) {.type = jbvNull});
}

/* The RequestId of the answer, lower case as PostgreSQL writes a UUID. */
static char *
request_id(Request *request)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, result_request_id(request)));
}

static void
put_upper_case_id(JsonbParseState **state, Request *request)
{
	char	   *id = request_id(request);

	for (char *c = id; *c != '\0'; c++)
		*c = (char) pg_ascii_toupper((unsigned char) *c);
	api_shape_put_string(state, "RequestId", id);
}

/* {"RequestId": "CEF72CEB-…", field, …} */
static Jsonb *
alibaba_success(Request *request, ApiFields fields)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_upper_case_id(&state, request);
	fields(request, &state);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* {"RequestId", "HostId", "Code", "Message"}, with the error's own status */
static Jsonb *
alibaba_failure(Request *request, const ErrorData *error, int *http_status)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	put_upper_case_id(&state, request);
	api_shape_put_string(&state, "HostId", HOST_ID);
	api_shape_put_string(&state, "Code", conditions_alibaba_code(error, http_status));
	api_shape_put_string(&state, "Message", conditions_message(error));
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

const ApiShape api_alibaba = {"2016-07-14", NULL, alibaba_success, alibaba_failure};


/* {"Response": {field, …, "RequestId": "a622678d-…"}} */
static Jsonb *
tencent_success(Request *request, ApiFields fields)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	api_shape_put_key(&state, "Response");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	fields(request, &state);
	api_shape_put_string(&state, "RequestId", request_id(request));
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* {"Response": {"Error": {"Code", "Message"}, "RequestId"}}, with the status of a success */
static Jsonb *
tencent_failure(Request *request, const ErrorData *error, int *http_status)
{
	JsonbParseState *state = NULL;

	*http_status = HTTP_OK;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	api_shape_put_key(&state, "Response");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	api_shape_put_key(&state, "Error");
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	api_shape_put_string(&state, "Code", conditions_tencent_code(error));
	api_shape_put_string(&state, "Message", conditions_message(error));
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	api_shape_put_string(&state, "RequestId", request_id(request));
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static const char *const tencent_common[] = {
	"Action", "Version", "Region", "Timestamp", "Nonce", "SecretId", "Signature", "SignatureMethod", "Token",
	"Language", "RequestClient", NULL
};

const ApiShape api_tencent = {"2022-09-01", tencent_common, tencent_success, tencent_failure};

/*
 * api_read.c
 *	  Reads the parameters of a call of api() according to its row in the table of actions.
 *
 * The JSON is searched, but never converted to text, because it may have any size and depth.  Each parameter
 * becomes an argument of the function that the action stands for, and the arguments are read by that
 * function's own reader, so that values are checked as in SQL; only unknown parameters and wrong JSON types
 * are checked here.  Copies of secrets are wiped.
 */
#include "functions/api_read.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "core/rights.h"
#include "crypto/identifier.h"

#define LONGEST_TEXT 4000		/* bytes of the longest text that can be well formed, a description */
#define LONGEST_NAME 40			/* of a parameter; the clouds' own have fewer letters */
#define LONGEST_NUMBER 19		/* digits of the largest int64 */

/* The value of a parameter in the JSON, or NULL where it is absent or null.  Strings are not copied. */
static const JsonbValue *
find_value(const ApiCall *call, const char *name)
{
	JsonbValue *value;

	if (call->params == NULL || !JB_ROOT_IS_OBJECT(call->params))
		return NULL;
	value = getKeyJsonValueFromContainer(&call->params->root, name, (int) strlen(name), NULL);
	return value == NULL || value->type == jbvNull ? NULL : value;
}

static const JsonbValue *
find_parameter(const ApiCall *call, const ApiParameter *parameter)
{
	const JsonbValue *value = find_value(call, conditions_parameter_name(parameter->parameter));

	if (value != NULL && parameter->presence == OPTIONAL_OR_EMPTY &&
		value->type == jbvString && value->val.string.len == 0)
		return NULL;
	return value;
}

static bool
is_string(const JsonbValue *value, const char *string)
{
	return value->type == jbvString && (size_t) value->val.string.len == strlen(string) &&
		memcmp(value->val.string.val, string, strlen(string)) == 0;
}

/* Whether a value is a well-formed name of what the request is about. */
static bool
is_target(const ApiParameter *p, const JsonbValue *value)
{
	if (value == NULL || value->type != jbvString)
		return false;
	if (p->parameter == PARAM_APP_KEY)
		return identifier_is_app_key(value->val.string.val, value->val.string.len);
	return p->parameter == PARAM_ZONE_ID && identifier_is_zone_id(value->val.string.val, value->val.string.len);
}

/* Sets the target to be recorded, which applies even if the request fails for another reason. */
static void
note_target(const ApiCall *call, Request *request)
{
	for (const ApiParameter *p = call->row->parameters; p->kind != VALUE_NONE; p++)
	{
		const JsonbValue *value = find_parameter(call, p);

		if (!is_target(p, value))
			continue;
		memcpy(request->target, value->val.string.val, value->val.string.len);
		request->target[value->val.string.len] = '\0';
	}
}

static bool
is_one_of(const char *const *names, const JsonbValue *key)
{
	for (; *names != NULL; names++)
		if (is_string(key, *names))
			return true;
	return false;
}

static bool
is_parameter(const ApiAction *row, const JsonbValue *key)
{
	for (const ApiParameter *p = row->parameters; p->kind != VALUE_NONE; p++)
		if (is_string(key, conditions_parameter_name(p->parameter)))
			return true;
	return false;
}

/* A copy of a parameter's name if it looks like one; otherwise NULL. */
static char *
possible_name(const JsonbValue *key)
{
	const char *name = key->val.string.val;
	int			length = key->val.string.len;

	if (length < 1 || length > LONGEST_NAME || name[0] < 'A' || name[0] > 'Z')
		return NULL;
	for (int i = 1; i < length; i++)
		if (!((name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= 'a' && name[i] <= 'z') ||
			  (name[i] >= '0' && name[i] <= '9')))
			return NULL;
	return pnstrdup(name, length);
}

KEYROT_NORETURN static void
refuse_unknown_parameter(const ApiAction *row, const char *name)
{
	StringInfoData known;

	initStringInfo(&known);
	for (const ApiParameter *p = row->parameters; p->kind != VALUE_NONE; p++)
		appendStringInfo(&known, "%s%s", known.len > 0 ? ", " : "", conditions_parameter_name(p->parameter));
	error_unknown_parameter(name, known.data);
}

/* Raises 22023 for a parameter that is neither one of the action's nor common to all actions of its cloud. */
static void
require_known_parameters(const ApiCall *call)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	bool		known = true;
	char	   *name = NULL;

	if (call->params == NULL || call->shape->common == NULL)
		return;
	iterator = JsonbIteratorInit(&call->params->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		if (token == WJB_KEY)
		{
			known = is_parameter(call->row, &item) || is_one_of(call->shape->common, &item);
			name = known ? NULL : possible_name(&item);
		}
		else if (token == WJB_VALUE && !known && item.type != jbvNull)
			refuse_unknown_parameter(call->row, name);
	}
}

/* Raises 22004 if a required parameter is missing. */
static void
require_parameters(const ApiCall *call)
{
	bool		needs_app = false;
	bool		has_app = false;

	for (const ApiParameter *p = call->row->parameters; p->kind != VALUE_NONE; p++)
	{
		bool		present = find_parameter(call, p) != NULL;

		if (p->presence == REQUIRED && !present)
			error_missing(p->parameter);
		needs_app = needs_app || p->presence == NAMES_APP;
		has_app = has_app || (p->presence == NAMES_APP && present);
	}
	if (needs_app && !has_app)
		error_missing_app();
}

/* A copy of a text. A text that is too long for any form is not copied. */
static Datum
read_text(const ApiParameter *p, const JsonbValue *value)
{
	if (value->type != jbvString)
		error_wrong_type(p->parameter);
	if (value->val.string.len > LONGEST_TEXT)
		error_malformed(p->parameter);
	return PointerGetDatum(cstring_to_text_with_len(value->val.string.val, value->val.string.len));
}

/* Digits, as a JSON number or as text, whose value is in the parameter's range. */
static int64
read_number(const ApiParameter *p, const JsonbValue *value)
{
	const char *digits;
	int			length;
	uint64		number = 0;

	if (value->type == jbvNumeric)
	{
		digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		length = (int) strlen(digits);
	}
	else if (value->type == jbvString)
	{
		digits = value->val.string.val;
		length = value->val.string.len;
	}
	else
		error_wrong_type(p->parameter);

	if (length < 1 || length > LONGEST_NUMBER)
		error_malformed(p->parameter);
	for (int i = 0; i < length; i++)
	{
		if (digits[i] < '0' || digits[i] > '9')
			error_malformed(p->parameter);
		number = number * 10 + (uint64) (digits[i] - '0');
	}
	if (number < (uint64) p->least || number > (uint64) p->most)
		error_malformed(p->parameter);
	return (int64) number;
}

/* "desc" or "asc", as whether the newest comes first; if absent, it does. */
static Datum
read_order(const ApiParameter *p, const JsonbValue *value)
{
	if (value == NULL || is_string(value, "desc"))
		return BoolGetDatum(true);
	if (value->type != jbvString)
		error_wrong_type(p->parameter);
	if (!is_string(value, "asc"))
		error_malformed(p->parameter);
	return BoolGetDatum(false);
}

/* Whether to disable or enable an app: true or false, as JSON booleans or as text; NOT_SWITCHED if absent. */
static Switched
switch_of(const JsonbValue *value)
{
	if (value == NULL)
		return NOT_SWITCHED;
	if (value->type == jbvBool)
		return value->val.boolean ? SWITCHED_OFF : SWITCHED_ON;
	return is_string(value, "true") ? SWITCHED_OFF : is_string(value, "false") ? SWITCHED_ON : NOT_SWITCHED;
}

static Switched
find_switch(const ApiCall *call)
{
	for (const ApiParameter *p = call->row->parameters; p->kind != VALUE_NONE; p++)
		if (p->kind == VALUE_SWITCH)
			return switch_of(find_parameter(call, p));
	return NOT_SWITCHED;
}

static Switched
read_switch(const ApiParameter *p, const JsonbValue *value)
{
	Switched	switched = switch_of(value);

	if (value == NULL || switched != NOT_SWITCHED)
		return switched;
	if (value->type != jbvString)
		error_wrong_type(p->parameter);
	error_malformed(p->parameter);
}

static Datum
interval_of_seconds(int64 seconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = seconds * USECS_PER_SEC;
	return IntervalPGetDatum(interval);
}

/* Turns a parameter's value into the argument that it stands for; raises 22023 for a wrong type. */
static void
read_parameter(ApiCall *call, Request *request, const ApiParameter *p)
{
	const JsonbValue *value = find_parameter(call, p);
	NullableDatum *argument = &call->arguments[p->position];
	bool		is_text = p->kind == VALUE_TEXT || p->kind == VALUE_SECRET || p->kind == VALUE_GRACE_FROM;
	bool		is_number = !is_text && p->kind != VALUE_ORDER && p->kind != VALUE_SWITCH;
	int64		number = is_number && value != NULL ? read_number(p, value) : p->otherwise;

	if (p->kind == VALUE_APP_ID)
	{
		request->arguments.app_id = number;
		return;
	}
	if (p->kind == VALUE_SWITCH)
	{
		request->arguments.switched = read_switch(p, value);
		return;
	}
	if (value == NULL && p->kind == VALUE_GRACE_FROM)
		argument->value = CStringGetTextDatum("rotation");
	else if (value == NULL && (is_text || p->kind == VALUE_INT8))
		return;
	else if (is_text)
		argument->value = read_text(p, value);
	else if (p->kind == VALUE_ORDER)
		argument->value = read_order(p, value);
	else if (p->kind == VALUE_INT8)
		argument->value = Int64GetDatum(number);
	else if (p->kind == VALUE_INT4)
		argument->value = Int32GetDatum((int32) number);
	else
		argument->value = interval_of_seconds(number);
	argument->isnull = false;
}

/* Has the function's own reader read the arguments. */
static void
read_arguments(const ApiCall *call, Request *request)
{
	LOCAL_FCINFO(inner, API_MAX_ARGUMENTS);

	InitFunctionCallInfoData(*inner, NULL, API_MAX_ARGUMENTS, InvalidOid, NULL, NULL);
	memcpy(inner->args, call->arguments, sizeof(call->arguments));
	request->fcinfo = inner;
	if (call->row->action->read != NULL)
		call->row->action->read(request);
	request->fcinfo = call->fcinfo;
}

/* Raises 0A000 for an action that no cloud has, or that its cloud has in another version. */
static void
require_known_action(ApiCall *call)
{
	const JsonbValue *version = find_value(call, "Version");

	if (call->row == NULL)
	{
		if (version != NULL && is_string(version, api_tencent.version))
			call->shape = &api_tencent;
		error_unknown_action();
	}
	if (version != NULL && !is_string(version, call->shape->version))
		error_unknown_version(call->shape->version);
}

static void
require_right(const Request *request, const char *function)
{
	if (!rights_may_call(request->caller, function))
		error_may_not_call(function);
}

/* Whether the call changes anything of the app besides disabling or enabling it. */
static bool
modifies_more(const ApiCall *call)
{
	for (const ApiParameter *p = call->row->parameters; p->kind != VALUE_NONE; p++)
		if (p->presence == OPTIONAL && p->kind != VALUE_SWITCH && find_parameter(call, p) != NULL)
			return true;
	return false;
}

/*
 * Requires the right to the function that the call stands for, which is recorded. A call that only disables or
 * enables an app stands for that function; if it also changes the app otherwise, both rights are required.
 */
static void
require_rights(ApiCall *call, const Request *request)
{
	Switched	switched = find_switch(call);
	const char *function = switched == SWITCHED_OFF ? "disable_app" : "enable_app";

	if (switched != NOT_SWITCHED && !modifies_more(call))
		call->action.name = function;
	else if (switched != NOT_SWITCHED)
		require_right(request, function);
	require_right(request, call->action.name);
}

static void
judge_call(ApiCall *call, Request *request)
{
	if (call->row != NULL)
		note_target(call, request);
	require_known_action(call);
	require_rights(call, request);
	if (call->params != NULL && !JB_ROOT_IS_OBJECT(call->params))
		error_wrong_type(PARAM_PARAMS);
	require_known_parameters(call);
	require_parameters(call);
	for (const ApiParameter *p = call->row->parameters; p->kind != VALUE_NONE; p++)
		read_parameter(call, request, p);
	read_arguments(call, request);
}

/* Wipes the copies that a call made of secrets, and of the JSON that contained them. Raises no errors. */
void
api_forget(ApiCall *call)
{
	if (call->params_copied)
		crypto_wipe(call->params, VARSIZE_ANY(call->params));
	call->params = NULL;
	if (call->row == NULL)
		return;
	for (const ApiParameter *p = call->row->parameters; p->kind != VALUE_NONE; p++)
	{
		NullableDatum *argument = &call->arguments[p->position];

		if (p->kind == VALUE_SECRET && !argument->isnull)
			crypto_wipe(DatumGetPointer(argument->value), VARSIZE_ANY(DatumGetPointer(argument->value)));
	}
}

/*
 * Reads a call of api(): the request's target and arguments. NULL params count as empty. Raises 0A000 for an unknown
 * action or version, 42501 for a caller without the right to the function, 22004 and 22023 for parameters that are
 * missing, unknown, of the wrong type, or malformed. The caller must wipe the copies with api_forget() when the call
 * ends.
 */
void
api_read(Request *request)
{
	ApiCall    *call = api_call_of(request);
	FunctionCallInfo fcinfo = call->fcinfo;

	if (!PG_ARGISNULL(1))
	{
		call->params = PG_GETARG_JSONB_P(1);
		call->params_copied = (Pointer) call->params != DatumGetPointer(PG_GETARG_DATUM(1));
	}
	judge_call(call, request);
}

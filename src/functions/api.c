/*
 * api.c
 *	  api(): the two clouds' actions, called as in their APIs and answered in their JSON.
 *
 * One table says which action stands for which function, and which of its parameters is which argument of
 * that function.  The parameters are read by api_read.c, actions are executed by app.c and zone.c, answers
 * are formatted by api_shape.c, and the names of failures are in conditions.c.
 *
 * To add an action, add a row to the table, and a function that writes its answer.
 */
#include "base/compat.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "functions/api_read.h"
#include "functions/api_shape.h"
#include "functions/function.h"
#include "core/request.h"
#include "core/result.h"
#include "store/app_statements.h"
#include "base/errors.h"

PG_FUNCTION_INFO_V1(keyrot_api);

#define HTTP_OK 200

/*
 * What the actions answer beside the RequestId
 */

static void
answer_nothing(Request *request pg_attribute_unused(), JsonbParseState **state pg_attribute_unused())
{
}

/* Begins a list in Alibaba's form: an object whose only field is an array. */
static void
begin_list(JsonbParseState **state, const char *key, const char *element)
{
	api_shape_put_key(state, key);
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	api_shape_put_key(state, element);
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
}

static void
end_list(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static void
answer_app_id(Request *request, JsonbParseState **state)
{
	api_shape_put_number(state, "AppId", request->credential.app_id);
}

static void
answer_app_security(Request *request, JsonbParseState **state)
{
	const Credential *app = &request->credential;

	api_shape_put_string(state, "AppKey", app->identifier);
	api_shape_put_text(state, "AppSecret", result_secret(request));
	api_shape_put_time(state, "CreatedTime", app->created_at);
	api_shape_put_time(state, "ModifiedTime", app->modified_at);
}

/* The one pair of AppKey and AppSecret that an app has here, as a list. */
static void
answer_app_securities(Request *request, JsonbParseState **state)
{
	begin_list(state, "AppSecuritys", "AppSecurity");
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	answer_app_security(request, state);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
	end_list(state);
}

static void
answer_no_tags(Request *request pg_attribute_unused(), JsonbParseState **state)
{
	begin_list(state, "TagResources", "TagResource");
	end_list(state);
}

static void
answer_secret_key(Request *request, JsonbParseState **state)
{
	api_shape_put_text(state, "SecretKey", result_secret(request));
}

static void
put_app(JsonbParseState **state, const ListedApp *app)
{
	api_shape_put_number(state, "AppId", app->app_id);
	api_shape_put_text(state, "AppName", app->app_name);
	if (app->description.isnull)
		api_shape_put_null(state, "Description");
	else
		api_shape_put_text(state, "Description", app->description.value);
	api_shape_put_time(state, "CreatedTime", app->created_at);
	api_shape_put_time(state, "ModifiedTime", app->modified_at);
	api_shape_put_boolean(state, "Disabled", app->disabled);
}

static void
answer_app(Request *request, JsonbParseState **state)
{
	put_app(state, &api_call_of(request)->apps[0]);
}

static void
answer_apps(Request *request, JsonbParseState **state)
{
	const ApiCall *call = api_call_of(request);
	const AppFilter *filter = &request->arguments.filter;

	api_shape_put_number(state, "TotalCount", call->total_count);
	api_shape_put_number(state, "PageNumber", filter->offset / filter->limit + 1);
	api_shape_put_number(state, "PageSize", filter->limit);
	begin_list(state, "Apps", "AppAttribute");
	for (int i = 0; i < call->app_count; i++)
	{
		pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		put_app(state, &call->apps[i]);
		pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
	end_list(state);
}


/*
 * The table of actions
 */

#define NAME(parameter, position, presence) {parameter, VALUE_TEXT, position, presence, 0, 0, 0}
#define SECRET(parameter, position, presence) {parameter, VALUE_SECRET, position, presence, 0, 0, 0}
#define APP_ID {PARAM_APP_ID, VALUE_APP_ID, 0, NAMES_APP, 1, PG_INT64_MAX, 0}
#define TOKEN(position) NAME(PARAM_CLIENT_TOKEN, position, OPTIONAL)
#define GRACE_FROM(position) {PARAM_GRACE_FROM, VALUE_GRACE_FROM, position, OPTIONAL, 0, 0, 0}
#define GRACE(position) {PARAM_GRACE_SECONDS, VALUE_SECONDS, position, OPTIONAL, 0, PG_INT32_MAX, 0}

static const ApiAction actions[] = {
	{"CreateApp", &api_alibaba, &create_app_action, answer_app_id,
		{NAME(PARAM_APP_NAME, 0, REQUIRED), NAME(PARAM_APP_KEY, 1, OPTIONAL), SECRET(PARAM_APP_SECRET, 2, OPTIONAL),
		NAME(PARAM_DESCRIPTION, 3, OPTIONAL)}},
	{"DescribeAppSecurity", &api_alibaba, &describe_app_security_action, answer_app_security,
		{APP_ID, NAME(PARAM_APP_KEY, 0, NAMES_APP)}},
	{"DescribeAppSecurities", &api_alibaba, &describe_app_security_action, answer_app_securities,
		{APP_ID}},
	{"ResetAppSecret", &api_alibaba, &reset_app_secret_action, answer_nothing,
		{NAME(PARAM_APP_KEY, 0, REQUIRED), NAME(PARAM_NEW_APP_KEY, 1, OPTIONAL),
		SECRET(PARAM_NEW_APP_SECRET, 2, OPTIONAL), GRACE(3), TOKEN(4), GRACE_FROM(5)}},
	{"ModifyApp", &api_alibaba, &modify_app_action, answer_nothing,
		{APP_ID, NAME(PARAM_APP_KEY, 0, NAMES_APP), NAME(PARAM_APP_NAME, 1, OPTIONAL),
		NAME(PARAM_DESCRIPTION, 2, OPTIONAL), {PARAM_DISABLED, VALUE_SWITCH, 0, OPTIONAL, 0, 0, 0}}},
	{"DescribeAppAttributes", &api_alibaba, &list_apps_action, answer_apps,
		{{PARAM_APP_ID, VALUE_INT8, 0, OPTIONAL, 1, PG_INT64_MAX, 0}, NAME(PARAM_APP_KEY, 1, OPTIONAL),
		NAME(PARAM_APP_NAME, 2, OPTIONAL), {PARAM_PAGE_NUMBER, VALUE_INT4, 3, OPTIONAL, 1, PG_INT32_MAX, 1},
		{PARAM_BOUNDED_PAGE_SIZE, VALUE_INT4, 4, OPTIONAL, 1, API_LARGEST_PAGE, 10},
		{PARAM_SORT, VALUE_ORDER, 5, OPTIONAL, 0, 0, 0}}},
	{"DescribeApp", &api_alibaba, &describe_app_action, answer_app,
		{APP_ID}},
	/* Apps have no tags here; this action exists for clients that ask for them before each read. */
	{"ListTagResources", &api_alibaba, &list_nothing_action, answer_no_tags,
		{{0}}},
	{"DeleteApp", &api_alibaba, &delete_app_action, answer_nothing,
		{APP_ID, NAME(PARAM_APP_KEY, 0, NAMES_APP)}},
	{"CreateMultiPathGatewaySecretKey", &api_tencent, &create_zone_key_action, answer_nothing,
		{NAME(PARAM_ZONE_ID, 0, REQUIRED), SECRET(PARAM_SECRET_KEY, 1, OPTIONAL_OR_EMPTY)}},
	{"DescribeMultiPathGatewaySecretKey", &api_tencent, &describe_zone_key_action, answer_secret_key,
		{NAME(PARAM_ZONE_ID, 0, REQUIRED)}},
	{"RefreshMultiPathGatewaySecretKey", &api_tencent, &refresh_zone_key_action, answer_secret_key,
		{NAME(PARAM_ZONE_ID, 0, REQUIRED), GRACE(1), TOKEN(2), GRACE_FROM(3)}},
	{"ModifyMultiPathGatewaySecretKey", &api_tencent, &modify_zone_key_action, answer_nothing,
		{NAME(PARAM_ZONE_ID, 0, REQUIRED), SECRET(PARAM_SECRET_KEY, 1, REQUIRED), GRACE(2), TOKEN(3), GRACE_FROM(4)}},
};

/* The row of an action; NULL if it is unknown or NULL. */
static const ApiAction *
find_action(FunctionCallInfo fcinfo)
{
	text	   *name;

	if (PG_ARGISNULL(0))
		return NULL;
	name = PG_GETARG_TEXT_PP(0);
	for (size_t i = 0; i < lengthof(actions); i++)
	{
		if (strlen(actions[i].name) == VARSIZE_ANY_EXHDR(name) &&
			memcmp(actions[i].name, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == 0)
			return &actions[i];
	}
	return NULL;
}


/*
 * Acting and answering
 */

/* Keeps a copy of an app that the answer lists, because its row does not live long enough. */
static void
collect_app(const Datum *values, const bool *nulls, void *reader_state)
{
	ApiCall    *call = api_call_of(reader_state);
	MemoryContext previous = MemoryContextSwitchTo(call->context);
	ListedApp  *app = &call->apps[call->app_count++];

	app->app_id = DatumGetInt64(values[LISTED_APP_ID]);
	app->app_name = PointerGetDatum(DatumGetTextPCopy(values[LISTED_APP_NAME]));
	app->description.isnull = nulls[LISTED_DESCRIPTION];
	if (!app->description.isnull)
		app->description.value = PointerGetDatum(DatumGetTextPCopy(values[LISTED_DESCRIPTION]));
	app->created_at = DatumGetTimestampTz(values[LISTED_CREATED_AT]);
	app->modified_at = DatumGetTimestampTz(values[LISTED_MODIFIED_AT]);
	app->disabled = DatumGetBool(values[LISTED_DISABLED]);
	call->total_count = DatumGetInt64(values[LISTED_TOTAL_COUNT]);
	MemoryContextSwitchTo(previous);
}

/* Performs the function's action; for a list of apps, collects them and, if the page is empty, counts them. */
static void
act_on_call(Request *request)
{
	ApiCall    *call = api_call_of(request);

	request->arguments.listed = collect_app;
	call->row->action->act(request);
	if (call->row->action == &list_apps_action && call->app_count == 0)
		call->total_count = app_statements_count(&request->arguments.filter);
	/* It was deleted between the two lookups. */
	if (call->row->action == &describe_app_action && call->app_count == 0)
		error_no_such_app_id(request->arguments.app_id);
}

/* The row of api()'s result.  The JSON may hold a secret, and is wiped when the request ends. */
static Datum
make_result(Request *request, int http_status, Jsonb *body)
{
	Datum		values[] = {Int32GetDatum(http_status), JsonbPGetDatum(body)};

	if (request->result_text != NULL)
		crypto_wipe(request->result_text, VARSIZE_ANY(request->result_text));
	request->result_text = (text *) body;
	return result_row(api_call_of(request)->fcinfo, values, NULL, lengthof(values));
}

static Datum
answer_call(Request *request)
{
	const ApiCall *call = api_call_of(request);

	return make_result(request, HTTP_OK, call->shape->success(request, call->row->fields));
}

static Datum
refuse_call(Request *request, const ErrorData *error)
{
	int			http_status;
	Jsonb	   *body = api_call_of(request)->shape->failure(request, error, &http_status);

	return make_result(request, http_status, body);
}

/* api(action, params, OUT http_status, OUT body) */
Datum
keyrot_api(PG_FUNCTION_ARGS)
{
	const ApiAction *row = find_action(fcinfo);
	ApiCall		call;
	volatile Datum result;

	memset(&call, 0, sizeof(call));
	for (int i = 0; i < API_MAX_ARGUMENTS; i++)
		call.arguments[i].isnull = true;
	call.fcinfo = fcinfo;
	call.row = row;
	call.shape = row == NULL ? &api_alibaba : row->shape;
	call.context = CurrentMemoryContext;
	call.action = (Action) {"api", REQUEST_OF_ADMINISTRATION, api_read, act_on_call, answer_call};
	if (row != NULL)
	{
		call.action.name = row->action->name;
		call.action.family = row->action->family;
	}
	PG_TRY();
	{
		result = request_run_answering(fcinfo, &call.action, refuse_call);
	}
	PG_FINALLY();
	{
		api_forget(&call);
	}
	PG_END_TRY();
	return result;
}

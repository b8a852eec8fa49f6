/*
 * app.c
 *	  The SQL functions on apps.
 */
#include "compat.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "credential.h"
#include "request.h"
#include "result.h"
#include "rights.h"
#include "store.h"

PG_FUNCTION_INFO_V1(keyrot_create_app);
PG_FUNCTION_INFO_V1(keyrot_reset_app_secret);
PG_FUNCTION_INFO_V1(keyrot_describe_app_security);
PG_FUNCTION_INFO_V1(keyrot_modify_app);
PG_FUNCTION_INFO_V1(keyrot_set_app_owner);
PG_FUNCTION_INFO_V1(keyrot_delete_app);
PG_FUNCTION_INFO_V1(keyrot_end_app_grace);
PG_FUNCTION_INFO_V1(keyrot_list_apps);

/* Reads the AppKey in the first argument, the request's target, and locks its app. */
static void
lock_target(Request *request, Credential *app)
{
	credential_lock(request->caller, SEAL_APP, request->target, app);
}

static void
read_target(Request *request)
{
	argument_app_key(request->fcinfo, 0, PARAM_APP_KEY, request->target);
}

/* Inserts an app under the AppKey asked for, or under one that is made until it is free. */
static void
insert_app(Request *request, Credential *app, bool has_app_key, Datum app_name, NullableDatum description)
{
	CryptoStatus status;

	app->kind = SEAL_APP;
	if (has_app_key)
	{
		credential_issue(request, app);
		if (!store_insert_app(app, app_name, description))
			error_app_key_taken(PARAM_APP_KEY, app->identifier);
		return;
	}
	do
	{
		status = identifier_make_app_key(&request->draw, app->identifier);
		if (status != CRYPTO_OK)
			error_crypto(status);
		credential_issue(request, app);
	} while (!store_insert_app(app, app_name, description));
}

static Datum
create_app(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	Credential	app = {0};
	NullableDatum app_name = argument_app_name(fcinfo, 0);
	bool		has_app_key = argument_optional_app_key(fcinfo, 1, PARAM_APP_KEY, app.identifier);
	NullableDatum description = argument_description(fcinfo, 3);
	Datum		values[3];

	strlcpy(request->target, app.identifier, sizeof(request->target));
	if (app_name.isnull)
		error_missing(PARAM_APP_NAME);
	argument_app_secret(fcinfo, 2, PARAM_APP_SECRET, &request->secret);

	insert_app(request, &app, has_app_key, app_name.value, description);
	strlcpy(request->target, app.identifier, sizeof(request->target));
	values[0] = Int64GetDatum(app.app_id);
	values[1] = CStringGetTextDatum(app.identifier);
	values[2] = UUIDPGetDatum(&request->id);
	return result_row(fcinfo, values, lengthof(values));
}

/* create_app(app_name, OUT app_id, INOUT app_key, app_secret, description, OUT request_id) */
Datum
keyrot_create_app(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "create_app", create_app);
}

static Datum
reset_app_secret(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	Credential	app;
	char		new_app_key[APP_KEY_MAX + 1];
	bool		has_new_app_key;
	int64		grace;

	read_target(request);
	has_new_app_key = argument_optional_app_key(fcinfo, 1, PARAM_NEW_APP_KEY, new_app_key);
	argument_app_secret(fcinfo, 2, PARAM_NEW_APP_SECRET, &request->secret);
	grace = argument_grace(fcinfo, 3);

	lock_target(request, &app);
	if (has_new_app_key)
		credential_succeed(request, &app, new_app_key, grace);
	else
		credential_rotate(request, &app, PARAM_NEW_APP_SECRET, grace);
	return result_request_id(request);
}

/* reset_app_secret(app_key, new_app_key, new_app_secret, grace_period) */
Datum
keyrot_reset_app_secret(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "reset_app_secret", reset_app_secret);
}

static Datum
describe_app_security(Request *request)
{
	Credential	app;
	Datum		values[7];
	Datum		row;

	read_target(request);
	credential_find(request->caller, SEAL_APP, request->target, &app);
	credential_open(&app, &request->secret);

	values[0] = Int64GetDatum(app.app_id);
	values[1] = CStringGetTextDatum(app.identifier);
	values[2] = result_secret_text((const char *) request->secret.bytes, request->secret.length);
	values[3] = Int32GetDatum(app.version);
	values[4] = TimestampTzGetDatum(app.created_at);
	values[5] = TimestampTzGetDatum(app.modified_at);
	values[6] = UUIDPGetDatum(&request->id);
	row = result_row(request->fcinfo, values, lengthof(values));
	result_wipe_text(values[2]);
	return row;
}

/* describe_app_security(OUT app_id, INOUT app_key, OUT app_secret, OUT version, ..., OUT request_id) */
Datum
keyrot_describe_app_security(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "describe_app_security", describe_app_security);
}

static Datum
modify_app(Request *request)
{
	Credential	app;
	NullableDatum app_name;
	NullableDatum description;

	read_target(request);
	app_name = argument_app_name(request->fcinfo, 1);
	description = argument_description(request->fcinfo, 2);

	lock_target(request, &app);
	if (!app_name.isnull || !description.isnull)
		store_modify_app(app.identifier, app_name, description);
	return result_request_id(request);
}

/* modify_app(app_key, app_name, description) */
Datum
keyrot_modify_app(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "modify_app", modify_app);
}

static Datum
set_app_owner(Request *request)
{
	Credential	app;
	char	   *owner_name;

	read_target(request);
	owner_name = argument_owner(request->fcinfo, 1);
	lock_target(request, &app);
	credential_set_owner(request->caller, &app, DatumGetObjectId(request->fcinfo->args[1].value), owner_name);
	return result_request_id(request);
}

/* set_app_owner(app_key, owner) */
Datum
keyrot_set_app_owner(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "set_app_owner", set_app_owner);
}

static Datum
delete_app(Request *request)
{
	Credential	app;

	read_target(request);
	lock_target(request, &app);
	credential_retire(&app);
	return result_request_id(request);
}

/* delete_app(app_key) */
Datum
keyrot_delete_app(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "delete_app", delete_app);
}

static Datum
end_app_grace(Request *request)
{
	Credential	app;

	read_target(request);
	lock_target(request, &app);
	credential_end_grace(&app);
	return result_request_id(request);
}

/* end_app_grace(app_key) */
Datum
keyrot_end_app_grace(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "end_app_grace", end_app_grace);
}

/* Adds one listed app to the result, with the RequestId as its last column. */
static void
list_app(const Datum *values, const bool *nulls, void *reader_state)
{
	const Request *request = reader_state;
	ReturnSetInfo *result = (ReturnSetInfo *) request->fcinfo->resultinfo;
	Datum		row[APP_LISTING_COLUMNS + 1];
	bool		row_nulls[APP_LISTING_COLUMNS + 1] = {false};

	memcpy(row, values, APP_LISTING_COLUMNS * sizeof(Datum));
	memcpy(row_nulls, nulls, APP_LISTING_COLUMNS * sizeof(bool));
	row[APP_LISTING_COLUMNS] = UUIDPGetDatum(&request->id);
	tuplestore_putvalues(result->setResult, result->setDesc, row, row_nulls);
}

static Datum
list_apps(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	AppFilter	filter = {0};
	bool		has_app_key = argument_optional_app_key(fcinfo, 1, PARAM_APP_KEY, request->target);
	int			page_number = argument_positive(fcinfo, 3, PARAM_PAGE_NUMBER);

	filter.app_id = fcinfo->args[0];
	filter.app_key.isnull = !has_app_key;
	filter.app_key.value = fcinfo->args[1].value;
	filter.app_name = argument_app_name(fcinfo, 2);
	filter.limit = argument_positive(fcinfo, 4, PARAM_PAGE_SIZE);
	filter.offset = (int64) (page_number - 1) * filter.limit;
	filter.caller = request->caller;
	filter.sees_all = rights_is_operator(request->caller);

	InitMaterializedSRF(fcinfo, 0);
	store_list_apps(&filter, list_app, request);
	return (Datum) 0;
}

/* list_apps(INOUT app_id, INOUT app_key, INOUT app_name, page_number, page_size, OUT description, ...) */
Datum
keyrot_list_apps(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "list_apps", list_apps);
}

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

static void
read_target(Request *request)
{
	argument_app_key(request->fcinfo, 0, PARAM_APP_KEY, request->target);
}

/* Locks the app that the request is about, once all arguments are known to be well formed. */
static void
lock_target(Request *request)
{
	credential_lock(request->caller, SEAL_APP, request->target, &request->credential);
}

/* Inserts an app under the AppKey asked for, or under one that is made until it is free. */
static void
insert_app(Request *request, bool has_app_key, Datum app_name, NullableDatum description)
{
	Credential *app = &request->credential;
	CryptoStatus status;

	if (has_app_key)
	{
		credential_issue(request, SEAL_APP, request->target);
		if (!store_insert_app(app, app_name, description))
			error_app_key_taken(PARAM_APP_KEY, request->target);
		return;
	}
	do
	{
		status = identifier_make_app_key(&request->draw, request->target);
		if (status != CRYPTO_OK)
			error_crypto(status);
		credential_issue(request, SEAL_APP, request->target);
	} while (!store_insert_app(app, app_name, description));
}

static void
create_app(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	bool		has_app_key = argument_optional_app_key(fcinfo, 1, PARAM_APP_KEY, request->target);
	NullableDatum app_name = argument_app_name(fcinfo, 0);
	NullableDatum description = argument_description(fcinfo, 3);

	if (app_name.isnull)
		error_missing(PARAM_APP_NAME);
	argument_app_secret(fcinfo, 2, PARAM_APP_SECRET, &request->secret);
	insert_app(request, has_app_key, app_name.value, description);
}

static Datum
answer_created_app(Request *request)
{
	Datum		values[3];

	values[0] = Int64GetDatum(request->credential.app_id);
	values[1] = CStringGetTextDatum(request->credential.identifier);
	values[2] = UUIDPGetDatum(&request->id);
	return result_row(request->fcinfo, values, lengthof(values));
}

/* create_app(app_name, OUT app_id, INOUT app_key, app_secret, description, OUT request_id) */
Datum
keyrot_create_app(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "create_app", create_app, answer_created_app);
}

static void
reset_app_secret(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	char		new_app_key[APP_KEY_MAX + 1];
	bool		has_new_app_key;
	int64		grace;

	read_target(request);
	has_new_app_key = argument_optional_app_key(fcinfo, 1, PARAM_NEW_APP_KEY, new_app_key);
	argument_app_secret(fcinfo, 2, PARAM_NEW_APP_SECRET, &request->secret);
	grace = argument_grace(fcinfo, 3);

	lock_target(request);
	if (has_new_app_key)
		credential_succeed(request, new_app_key, grace);
	else
		credential_rotate(request, PARAM_NEW_APP_SECRET, grace);
}

/* reset_app_secret(app_key, new_app_key, new_app_secret, grace_period) */
Datum
keyrot_reset_app_secret(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "reset_app_secret", reset_app_secret, result_request_id);
}

static void
describe_app_security(Request *request)
{
	read_target(request);
	credential_find(request->caller, SEAL_APP, request->target, &request->credential);
	credential_open(&request->credential, &request->secret);
}

static Datum
answer_app_security(Request *request)
{
	const Credential *app = &request->credential;
	Datum		values[7];

	values[0] = Int64GetDatum(app->app_id);
	values[1] = CStringGetTextDatum(app->identifier);
	values[2] = result_app_secret(request);
	values[3] = Int32GetDatum(app->version);
	values[4] = TimestampTzGetDatum(app->created_at);
	values[5] = TimestampTzGetDatum(app->modified_at);
	values[6] = UUIDPGetDatum(&request->id);
	return result_row(request->fcinfo, values, lengthof(values));
}

/* describe_app_security(OUT app_id, INOUT app_key, OUT app_secret, OUT version, ..., OUT request_id) */
Datum
keyrot_describe_app_security(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "describe_app_security", describe_app_security, answer_app_security);
}

static void
modify_app(Request *request)
{
	NullableDatum app_name;
	NullableDatum description;

	read_target(request);
	app_name = argument_app_name(request->fcinfo, 1);
	description = argument_description(request->fcinfo, 2);

	lock_target(request);
	if (!app_name.isnull || !description.isnull)
		store_modify_app(request->target, app_name, description);
}

/* modify_app(app_key, app_name, description) */
Datum
keyrot_modify_app(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "modify_app", modify_app, result_request_id);
}

static void
set_app_owner(Request *request)
{
	Owner		owner;

	read_target(request);
	owner = argument_owner(request->fcinfo, 1);
	lock_target(request);
	credential_set_owner(request, owner.role, owner.name);
}

/* set_app_owner(app_key, owner) */
Datum
keyrot_set_app_owner(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "set_app_owner", set_app_owner, result_request_id);
}

static void
delete_app(Request *request)
{
	read_target(request);
	lock_target(request);
	credential_retire(request);
}

/* delete_app(app_key) */
Datum
keyrot_delete_app(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "delete_app", delete_app, result_request_id);
}

static void
end_app_grace(Request *request)
{
	read_target(request);
	lock_target(request);
	credential_end_grace(request);
}

/* end_app_grace(app_key) */
Datum
keyrot_end_app_grace(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "end_app_grace", end_app_grace, result_request_id);
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

static void
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
}

/* The listed apps are in the result set already. */
static Datum
answer_listing(Request *request pg_attribute_unused())
{
	return (Datum) 0;
}

/* list_apps(INOUT app_id, INOUT app_key, INOUT app_name, page_number, page_size, OUT description, ...) */
Datum
keyrot_list_apps(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "list_apps", list_apps, answer_listing);
}

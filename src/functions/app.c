/*
 * app.c
 *	  The SQL functions on apps.
 *
 * An app is identified by its AppKey or, if api() reads the arguments, by its number, which is looked up only
 * after all checks that do not need the tables.
 */
#include "functions/function.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/argument.h"
#include "core/credential.h"
#include "core/result.h"
#include "core/retry.h"
#include "core/rights.h"
#include "core/rotation.h"
#include "store/app_statements.h"

/* Reads the AppKey that the request is about, which may be missing where the app's number is known. */
static void
read_app_key(Request *request)
{
	if (request->arguments.app_id == 0)
		argument_app_key(request->fcinfo, 0, PARAM_APP_KEY, request->target);
	else
		argument_optional_app_key(request->fcinfo, 0, PARAM_APP_KEY, request->target);
}

/* Finds the AppKey of an app by its number. Only a caller that may act on the app learns it. */
static void
find_app_key(Request *request, const char *given)
{
	int64		app_id = request->arguments.app_id;
	Credential *app = &request->credential;

	if (!app_statements_find(app_id, app))
		error_no_such_app_id(app_id);
	if (given[0] != '\0' && strcmp(given, app->identifier) != 0)
		error_other_app();
	if (rights_over(request->caller, app->owner, app->owner_name) != RIGHTS_GRANTED)
		error_not_owner_of_app_id(app_id);
	strlcpy(request->target, app->identifier, sizeof(request->target));
}

/* Locks the app that the request is about. */
static void
lock_app(Request *request)
{
	char		given[APP_KEY_MAX + 1];

	if (request->arguments.app_id == 0)
	{
		credential_lock(request, CREDENTIAL_APP);
		return;
	}
	strlcpy(given, request->target, sizeof(given));
	/* While we wait for its row, another transaction may give the app a new AppKey. */
	do
		find_app_key(request, given);
	while (!rows_lock_credential(CREDENTIAL_APP, request->target, credential_require_rights, request->caller,
								 &request->credential) ||
		   request->credential.secret.length == 0);
}


static void
read_new_app(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	Arguments  *arguments = &request->arguments;

	argument_optional_app_key(fcinfo, 1, PARAM_APP_KEY, request->target);
	arguments->app_name = argument_app_name(fcinfo, 0);
	argument_require(fcinfo, 0, PARAM_APP_NAME);
	argument_app_secret(fcinfo, 2, PARAM_APP_SECRET, &request->secret);
	arguments->description = argument_description(fcinfo, 3);
}

/* Inserts the app with the given AppKey, or with generated ones until one is free. */
static void
create_app(Request *request)
{
	const Arguments *arguments = &request->arguments;
	bool		given = request->target[0] != '\0';
	bool		inserted;

	do
	{
		CryptoStatus status = given ? CRYPTO_OK : identifier_make_app_key(&request->draw, request->target);

		if (status != CRYPTO_OK)
			error_crypto(status);
		credential_issue(request, CREDENTIAL_APP, request->target);
		inserted = app_statements_insert(&request->credential, arguments->app_name.value, arguments->description);
		if (given && !inserted)
			error_app_key_taken(PARAM_APP_KEY, request->target);
	} while (!inserted);
}

static Datum
answer_created_app(Request *request)
{
	Datum		values[] = {
		Int64GetDatum(request->credential.app_id),
		CStringGetTextDatum(request->credential.identifier),
		UUIDPGetDatum(&request->id),
	};

	return result_row(request->fcinfo, values, NULL, lengthof(values));
}

/* create_app(app_name, OUT app_id, INOUT app_key, app_secret, description, OUT request_id) */
REQUEST_FUNCTION(create_app, REQUEST_OF_APPS, read_new_app, create_app, answer_created_app);


static void
read_reset(Request *request)
{
	read_app_key(request);
	argument_optional_app_key(request->fcinfo, 1, PARAM_NEW_APP_KEY, request->arguments.new_app_key);
	argument_app_secret(request->fcinfo, 2, PARAM_NEW_APP_SECRET, &request->secret);
	request->arguments.grace = argument_grace(request->fcinfo, 3);
	argument_client_token(request->fcinfo, 4, request->arguments.client_token);
	request->arguments.from_first_use = argument_from_first_use(request->fcinfo, 5);
}

static void
reset_app_secret(Request *request)
{
	if (retry_is_repetition(request, CREDENTIAL_APP))
		return;
	if (request->arguments.new_app_key[0] != '\0')
	{
		lock_app(request);
		credential_succeed(request);
	}
	else
		rotation_rotate(request, CREDENTIAL_APP);
	retry_remember(request, request->version);
}

/* reset_app_secret(app_key, new_app_key, new_app_secret, grace_period, client_token, grace_from) */
REQUEST_FUNCTION(reset_app_secret, REQUEST_OF_APPS, read_reset, reset_app_secret, result_request_id);


static void
describe_app_security(Request *request)
{
	if (request->arguments.app_id != 0)
		find_app_key(request, request->target);
	credential_find(request->caller, CREDENTIAL_APP, request->target, &request->credential);
	credential_open(&request->credential, &request->secret);
}

static Datum
answer_app_security(Request *request)
{
	const Credential *app = &request->credential;
	Datum		values[] = {
		Int64GetDatum(app->app_id),
		CStringGetTextDatum(app->identifier),
		result_secret(request),
		Int32GetDatum(app->version),
		TimestampTzGetDatum(app->created_at),
		TimestampTzGetDatum(app->modified_at),
		UUIDPGetDatum(&request->id),
	};

	return result_row(request->fcinfo, values, NULL, lengthof(values));
}

/* describe_app_security(OUT app_id, INOUT app_key, OUT app_secret, OUT version, ..., OUT request_id) */
REQUEST_FUNCTION(describe_app_security, REQUEST_OF_APPS, read_app_key, describe_app_security, answer_app_security);


static void
read_modification(Request *request)
{
	read_app_key(request);
	request->arguments.app_name = argument_app_name(request->fcinfo, 1);
	request->arguments.description = argument_description(request->fcinfo, 2);
}

static void
modify_app(Request *request)
{
	const Arguments *arguments = &request->arguments;

	lock_app(request);
	if (arguments->switched == SWITCHED_OFF)
		credential_disable(request);
	if (arguments->switched == SWITCHED_ON)
		credential_enable(request);
	if (!arguments->app_name.isnull || !arguments->description.isnull)
		app_statements_modify(request->target, arguments->app_name, arguments->description);
}

/* modify_app(app_key, app_name, description) */
REQUEST_FUNCTION(modify_app, REQUEST_OF_APPS, read_modification, modify_app, result_request_id);


static void
delete_app(Request *request)
{
	lock_app(request);
	credential_retire(request);
}

/* delete_app(app_key) */
REQUEST_FUNCTION(delete_app, REQUEST_OF_APPS, read_app_key, delete_app, result_request_id);


/* Adds one listed app to the result, with the RequestId before its last column. */
static void
list_app(const Datum *values, const bool *nulls, void *reader_state)
{
	const Request *request = reader_state;
	ReturnSetInfo *result = (ReturnSetInfo *) request->fcinfo->resultinfo;
	Datum		row[APP_LISTING_COLUMNS + 1];
	bool		row_nulls[APP_LISTING_COLUMNS + 1] = {false};

	memcpy(row, values, APP_LISTING_COLUMNS * sizeof(Datum));
	memcpy(row_nulls, nulls, APP_LISTING_COLUMNS * sizeof(bool));
	row[LISTED_DISABLED] = UUIDPGetDatum(&request->id);
	row[LISTED_DISABLED + 1] = values[LISTED_DISABLED];
	tuplestore_putvalues(result->setResult, result->setDesc, row, row_nulls);
}

static void
read_listing(Request *request)
{
	FunctionCallInfo fcinfo = request->fcinfo;
	AppFilter  *filter = &request->arguments.filter;

	filter->app_id = fcinfo->args[0];
	argument_optional_app_key(fcinfo, 1, PARAM_APP_KEY, request->target);
	filter->app_key = request->target;
	filter->app_name = argument_app_name(fcinfo, 2);
	filter->offset = argument_positive(fcinfo, 3, PARAM_PAGE_NUMBER) - 1;
	filter->limit = argument_positive(fcinfo, 4, PARAM_PAGE_SIZE);
	filter->offset *= filter->limit;
	filter->newest_first = argument_boolean(fcinfo, 5, PARAM_NEWEST_FIRST);
	request->arguments.listed = list_app;
}

static void
list_apps(Request *request)
{
	AppFilter  *filter = &request->arguments.filter;

	filter->caller = request->caller;
	filter->sees_all = rights_is_operator(request->caller);
	app_statements_list(filter, request->arguments.listed, request);
}

/* list_apps(INOUT app_id, INOUT app_key, INOUT app_name, page_number, page_size, newest_first, OUT ...) */
ROWS_FUNCTION(list_apps, REQUEST_OF_APPS, read_listing, list_apps);

/* Lists the one app that the request names, by its number. */
static void
describe_app(Request *request)
{
	AppFilter  *filter = &request->arguments.filter;

	find_app_key(request, request->target);
	filter->app_id.value = Int64GetDatum(request->arguments.app_id);
	filter->app_key = request->target;
	filter->app_name.isnull = true;
	filter->sees_all = true;
	filter->limit = 1;
	app_statements_list(filter, request->arguments.listed, request);
}

const Action describe_app_action = {"list_apps", REQUEST_OF_APPS, read_app_key, describe_app, NULL};

/* Returns an empty list, because apps have no tags. */
static void
list_nothing(Request *request pg_attribute_unused())
{
}

const Action list_nothing_action = {"list_apps", REQUEST_OF_APPS, NULL, list_nothing, NULL};

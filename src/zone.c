/*
 * zone.c
 *	  The SQL functions on zones, their keys and gateways.
 */
#include "compat.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "argument.h"
#include "credential.h"
#include "request.h"
#include "result.h"
#include "store.h"
#include "rows.h"

PG_FUNCTION_INFO_V1(keyrot_create_zone_key);
PG_FUNCTION_INFO_V1(keyrot_refresh_zone_key);
PG_FUNCTION_INFO_V1(keyrot_modify_zone_key);
PG_FUNCTION_INFO_V1(keyrot_describe_zone_key);
PG_FUNCTION_INFO_V1(keyrot_set_zone_owner);
PG_FUNCTION_INFO_V1(keyrot_delete_zone_key);
PG_FUNCTION_INFO_V1(keyrot_end_zone_grace);
PG_FUNCTION_INFO_V1(keyrot_add_gateway);
PG_FUNCTION_INFO_V1(keyrot_remove_gateway);

/* Reads the ZoneId in the first argument, the request's target. */
static void
read_target(Request *request)
{
	argument_zone_id(request->fcinfo, 0, request->target);
}

static void
lock_target(Request *request, Credential *zone)
{
	credential_lock(request->caller, SEAL_ZONE, request->target, zone);
}

/* The request's secret as the text of a SecretKey, to be wiped by result_wipe_text(). */
static Datum
secret_key_text(const Request *request)
{
	char		text[SECRET_KEY_MAX_TEXT + 1];
	size_t		length = secret_key_to_text(&request->secret, text);
	Datum		result = result_secret_text(text, length);

	crypto_wipe(text, sizeof(text));
	return result;
}

/* Issues the first key of a zone that had none before. */
static void
issue_first_key(Request *request, Credential *zone)
{
	zone->kind = SEAL_ZONE;
	strlcpy(zone->identifier, request->target, sizeof(zone->identifier));
	credential_issue(request, zone);
	if (!store_insert_zone(zone))
		error_zone_has_key(zone->identifier);
}

static Datum
create_zone_key(Request *request)
{
	Credential	zone;

	read_target(request);
	argument_secret_key(request->fcinfo, 1, &request->secret);

	if (!rows_lock_credential(SEAL_ZONE, request->target, &zone))
	{
		issue_first_key(request, &zone);
		return result_request_id(request);
	}
	if (zone.secret.length > 0)
		error_zone_has_key(zone.identifier);
	credential_require_rights(request->caller, &zone);
	credential_reissue(request, &zone);
	store_revive_zone(&zone);
	return result_request_id(request);
}

/* create_zone_key(zone_id, secret_key) */
Datum
keyrot_create_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "create_zone_key", create_zone_key);
}

static Datum
refresh_zone_key(Request *request)
{
	Credential	zone;
	int64		grace;
	Datum		values[2];
	Datum		row;

	read_target(request);
	grace = argument_grace(request->fcinfo, 1);
	lock_target(request, &zone);
	credential_rotate(request, &zone, PARAM_SECRET_KEY, grace);

	values[0] = secret_key_text(request);
	values[1] = UUIDPGetDatum(&request->id);
	row = result_row(request->fcinfo, values, lengthof(values));
	result_wipe_text(values[0]);
	return row;
}

/* refresh_zone_key(zone_id, grace_period, OUT secret_key, OUT request_id) */
Datum
keyrot_refresh_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "refresh_zone_key", refresh_zone_key);
}

static Datum
modify_zone_key(Request *request)
{
	Credential	zone;
	int64		grace;

	read_target(request);
	if (request->fcinfo->args[1].isnull)
		error_missing(PARAM_SECRET_KEY);
	argument_secret_key(request->fcinfo, 1, &request->secret);
	grace = argument_grace(request->fcinfo, 2);

	lock_target(request, &zone);
	credential_rotate(request, &zone, PARAM_SECRET_KEY, grace);
	return result_request_id(request);
}

/* modify_zone_key(zone_id, secret_key, grace_period) */
Datum
keyrot_modify_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "modify_zone_key", modify_zone_key);
}

static Datum
describe_zone_key(Request *request)
{
	Credential	zone;
	Datum		values[5];
	Datum		row;

	read_target(request);
	credential_find(request->caller, SEAL_ZONE, request->target, &zone);
	credential_open(&zone, &request->secret);

	values[0] = secret_key_text(request);
	values[1] = Int32GetDatum(zone.version);
	values[2] = TimestampTzGetDatum(zone.created_at);
	values[3] = TimestampTzGetDatum(zone.modified_at);
	values[4] = UUIDPGetDatum(&request->id);
	row = result_row(request->fcinfo, values, lengthof(values));
	result_wipe_text(values[0]);
	return row;
}

/* describe_zone_key(zone_id, OUT secret_key, OUT version, OUT created_at, OUT modified_at, OUT request_id) */
Datum
keyrot_describe_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "describe_zone_key", describe_zone_key);
}

static Datum
set_zone_owner(Request *request)
{
	Credential	zone;
	char	   *owner_name;

	read_target(request);
	owner_name = argument_owner(request->fcinfo, 1);
	lock_target(request, &zone);
	credential_set_owner(request->caller, &zone, DatumGetObjectId(request->fcinfo->args[1].value), owner_name);
	return result_request_id(request);
}

/* set_zone_owner(zone_id, owner) */
Datum
keyrot_set_zone_owner(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "set_zone_owner", set_zone_owner);
}

static Datum
delete_zone_key(Request *request)
{
	Credential	zone;

	read_target(request);
	lock_target(request, &zone);
	store_delete_gateways(zone.identifier);
	credential_retire(&zone);
	return result_request_id(request);
}

/* delete_zone_key(zone_id) */
Datum
keyrot_delete_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "delete_zone_key", delete_zone_key);
}

static Datum
end_zone_grace(Request *request)
{
	Credential	zone;

	read_target(request);
	lock_target(request, &zone);
	credential_end_grace(&zone);
	return result_request_id(request);
}

/* end_zone_grace(zone_id) */
Datum
keyrot_end_zone_grace(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "end_zone_grace", end_zone_grace);
}

/* Adds a gateway under an id that is made until it is free. */
static void
add_made_gateway(Request *request, char gateway_id[GATEWAY_ID_MADE_LENGTH + 1])
{
	CryptoStatus status;

	do
	{
		status = identifier_make_gateway_id(&request->draw, gateway_id);
		if (status != CRYPTO_OK)
			error_crypto(status);
	} while (!store_insert_gateway(request->target, gateway_id, request->started_at));
}

static Datum
add_gateway(Request *request)
{
	Credential	zone;
	char		gateway_id[ZONE_ID_MAX + 1];
	bool		has_gateway_id;
	Datum		values[2];

	read_target(request);
	has_gateway_id = argument_optional_gateway_id(request->fcinfo, 1, gateway_id);
	lock_target(request, &zone);
	if (!has_gateway_id)
		add_made_gateway(request, gateway_id);
	else if (!store_insert_gateway(zone.identifier, gateway_id, request->started_at))
		error_gateway_exists(zone.identifier, gateway_id);

	values[0] = CStringGetTextDatum(gateway_id);
	values[1] = UUIDPGetDatum(&request->id);
	return result_row(request->fcinfo, values, lengthof(values));
}

/* add_gateway(zone_id, INOUT gateway_id, OUT request_id) */
Datum
keyrot_add_gateway(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "add_gateway", add_gateway);
}

static Datum
remove_gateway(Request *request)
{
	Credential	zone;
	char		gateway_id[ZONE_ID_MAX + 1];

	read_target(request);
	if (!argument_optional_gateway_id(request->fcinfo, 1, gateway_id))
		error_missing(PARAM_GATEWAY_ID);
	lock_target(request, &zone);
	if (!store_delete_gateway(zone.identifier, gateway_id))
		error_no_such_gateway(zone.identifier, gateway_id);
	return result_request_id(request);
}

/* remove_gateway(zone_id, gateway_id) */
Datum
keyrot_remove_gateway(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "remove_gateway", remove_gateway);
}

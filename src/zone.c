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

static void
read_target(Request *request)
{
	argument_zone_id(request->fcinfo, 0, request->target);
}

/* Locks the zone that the request is about, once all arguments are known to be well formed. */
static void
lock_target(Request *request)
{
	credential_lock(request->caller, SEAL_ZONE, request->target, &request->credential);
}

static void
create_zone_key(Request *request)
{
	Credential *zone = &request->credential;

	read_target(request);
	argument_secret_key(request->fcinfo, 1, &request->secret);

	if (!rows_lock_credential(SEAL_ZONE, request->target, zone))
	{
		credential_issue(request, SEAL_ZONE, request->target);
		if (!store_insert_zone(zone))
			error_zone_has_key(request->target);
		return;
	}
	if (zone->secret.length > 0)
		error_zone_has_key(request->target);
	credential_require_rights(request->caller, zone);
	credential_reissue(request);
	store_revive_zone(zone);
}

/* create_zone_key(zone_id, secret_key) */
Datum
keyrot_create_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "create_zone_key", create_zone_key, result_request_id);
}

static void
refresh_zone_key(Request *request)
{
	int64		grace;

	read_target(request);
	grace = argument_grace(request->fcinfo, 1);
	lock_target(request);
	credential_rotate(request, PARAM_SECRET_KEY, grace);
}

static Datum
answer_new_key(Request *request)
{
	Datum		values[2];

	values[0] = result_secret_key(request);
	values[1] = UUIDPGetDatum(&request->id);
	return result_row(request->fcinfo, values, lengthof(values));
}

/* refresh_zone_key(zone_id, grace_period, OUT secret_key, OUT request_id) */
Datum
keyrot_refresh_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "refresh_zone_key", refresh_zone_key, answer_new_key);
}

static void
modify_zone_key(Request *request)
{
	int64		grace;

	read_target(request);
	if (request->fcinfo->args[1].isnull)
		error_missing(PARAM_SECRET_KEY);
	argument_secret_key(request->fcinfo, 1, &request->secret);
	grace = argument_grace(request->fcinfo, 2);

	lock_target(request);
	credential_rotate(request, PARAM_SECRET_KEY, grace);
}

/* modify_zone_key(zone_id, secret_key, grace_period) */
Datum
keyrot_modify_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "modify_zone_key", modify_zone_key, result_request_id);
}

static void
describe_zone_key(Request *request)
{
	read_target(request);
	credential_find(request->caller, SEAL_ZONE, request->target, &request->credential);
	credential_open(&request->credential, &request->secret);
}

static Datum
answer_zone_key(Request *request)
{
	const Credential *zone = &request->credential;
	Datum		values[5];

	values[0] = result_secret_key(request);
	values[1] = Int32GetDatum(zone->version);
	values[2] = TimestampTzGetDatum(zone->created_at);
	values[3] = TimestampTzGetDatum(zone->modified_at);
	values[4] = UUIDPGetDatum(&request->id);
	return result_row(request->fcinfo, values, lengthof(values));
}

/* describe_zone_key(zone_id, OUT secret_key, OUT version, OUT created_at, OUT modified_at, OUT request_id) */
Datum
keyrot_describe_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "describe_zone_key", describe_zone_key, answer_zone_key);
}

static void
set_zone_owner(Request *request)
{
	Owner		owner;

	read_target(request);
	owner = argument_owner(request->fcinfo, 1);
	lock_target(request);
	credential_set_owner(request, owner.role, owner.name);
}

/* set_zone_owner(zone_id, owner) */
Datum
keyrot_set_zone_owner(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "set_zone_owner", set_zone_owner, result_request_id);
}

static void
delete_zone_key(Request *request)
{
	read_target(request);
	lock_target(request);
	store_delete_gateways(request->target);
	credential_retire(request);
}

/* delete_zone_key(zone_id) */
Datum
keyrot_delete_zone_key(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "delete_zone_key", delete_zone_key, result_request_id);
}

static void
end_zone_grace(Request *request)
{
	read_target(request);
	lock_target(request);
	credential_end_grace(request);
}

/* end_zone_grace(zone_id) */
Datum
keyrot_end_zone_grace(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "end_zone_grace", end_zone_grace, result_request_id);
}

/* Adds a gateway under an id that is made until it is free. */
static void
add_made_gateway(Request *request)
{
	CryptoStatus status;

	do
	{
		status = identifier_make_gateway_id(&request->draw, request->gateway_id);
		if (status != CRYPTO_OK)
			error_crypto(status);
	} while (!store_insert_gateway(request->target, request->gateway_id, request->started_at));
}

static void
add_gateway(Request *request)
{
	bool		has_gateway_id;

	read_target(request);
	has_gateway_id = argument_optional_gateway_id(request->fcinfo, 1, request->gateway_id);
	lock_target(request);
	if (!has_gateway_id)
		add_made_gateway(request);
	else if (!store_insert_gateway(request->target, request->gateway_id, request->started_at))
		error_gateway_exists(request->target, request->gateway_id);
}

static Datum
answer_gateway(Request *request)
{
	Datum		values[2];

	values[0] = CStringGetTextDatum(request->gateway_id);
	values[1] = UUIDPGetDatum(&request->id);
	return result_row(request->fcinfo, values, lengthof(values));
}

/* add_gateway(zone_id, INOUT gateway_id, OUT request_id) */
Datum
keyrot_add_gateway(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "add_gateway", add_gateway, answer_gateway);
}

static void
remove_gateway(Request *request)
{
	read_target(request);
	if (!argument_optional_gateway_id(request->fcinfo, 1, request->gateway_id))
		error_missing(PARAM_GATEWAY_ID);
	lock_target(request);
	if (!store_delete_gateway(request->target, request->gateway_id))
		error_no_such_gateway(request->target, request->gateway_id);
}

/* remove_gateway(zone_id, gateway_id) */
Datum
keyrot_remove_gateway(PG_FUNCTION_ARGS)
{
	return request_run(fcinfo, "remove_gateway", remove_gateway, result_request_id);
}

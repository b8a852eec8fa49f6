/*
 * zone.c
 *	  The SQL functions on zones, their keys and gateways.
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
#include "store/rows.h"
#include "store/zone_statements.h"

/* Reads the ZoneId that the request is about. */
static void
read_zone_id(Request *request)
{
	argument_zone_id(request->fcinfo, 0, request->target);
}

static void
read_new_key(Request *request)
{
	read_zone_id(request);
	argument_secret_key(request->fcinfo, 1, &request->secret);
}

/* Refuses a zone of another owner: with 23505 if it has a key, as for every caller, else with 42501. */
static void
judge_zone_to_create(Oid caller, const Credential *zone)
{
	if (zone->secret.length > 0 && rights_over(caller, zone->owner, zone->owner_name) != RIGHTS_GRANTED)
		error_zone_has_key(zone->identifier);
	credential_require_rights(caller, zone);
}

/* Issues the first key of a new zone, or the next one of a zone whose key was deleted. */
static void
create_zone_key(Request *request)
{
	Credential *zone = &request->credential;

	while (!rows_lock_credential(CREDENTIAL_ZONE, request->target, judge_zone_to_create, request->caller, zone))
	{
		credential_issue(request, CREDENTIAL_ZONE, request->target);
		if (zone_statements_insert(zone))
			return;
		/* Another transaction has created the zone. */
	}
	if (zone->secret.length > 0)
		error_zone_has_key(zone->identifier);
	credential_reissue(request);
	zone_statements_revive(zone);
}

/* create_zone_key(zone_id, secret_key) */
REQUEST_FUNCTION(create_zone_key, REQUEST_OF_ZONES, read_new_key, create_zone_key, result_request_id);


static void
read_refresh(Request *request)
{
	read_zone_id(request);
	request->arguments.grace = argument_grace(request->fcinfo, 1);
	argument_client_token(request->fcinfo, 2, request->arguments.client_token);
	request->arguments.from_first_use = argument_from_first_use(request->fcinfo, 3);
}

static void
refresh_zone_key(Request *request)
{
	if (retry_is_repetition(request, CREDENTIAL_ZONE))
		return;
	rotation_rotate(request, CREDENTIAL_ZONE);
	retry_remember(request, request->version);
}

static Datum
answer_new_key(Request *request)
{
	Datum		values[] = {result_secret(request), result_request_id(request)};

	return result_row(request->fcinfo, values, NULL, lengthof(values));
}

/* refresh_zone_key(zone_id, grace_period, client_token, grace_from, OUT secret_key, OUT request_id) */
REQUEST_FUNCTION(refresh_zone_key, REQUEST_OF_ZONES, read_refresh, refresh_zone_key, answer_new_key);


static void
read_given_key(Request *request)
{
	read_zone_id(request);
	argument_require(request->fcinfo, 1, PARAM_SECRET_KEY);
	argument_secret_key(request->fcinfo, 1, &request->secret);
	request->arguments.grace = argument_grace(request->fcinfo, 2);
	argument_client_token(request->fcinfo, 3, request->arguments.client_token);
	request->arguments.from_first_use = argument_from_first_use(request->fcinfo, 4);
}

/*
 * Sets the given key. If it is the current one, nothing changes, so that declarative clients can set it repeatedly.
 */
static void
modify_zone_key(Request *request)
{
	if (retry_is_repetition(request, CREDENTIAL_ZONE))
		return;
	rotation_set(request, CREDENTIAL_ZONE);
	retry_remember(request, request->credential.version);
}

/* modify_zone_key(zone_id, secret_key, grace_period, client_token, grace_from) */
REQUEST_FUNCTION(modify_zone_key, REQUEST_OF_ZONES, read_given_key, modify_zone_key, result_request_id);


static void
describe_zone_key(Request *request)
{
	credential_find(request->caller, CREDENTIAL_ZONE, request->target, &request->credential);
	credential_open(&request->credential, &request->secret);
}

static Datum
answer_zone_key(Request *request)
{
	const Credential *zone = &request->credential;
	Datum		values[] = {
		result_secret(request),
		Int32GetDatum(zone->version),
		TimestampTzGetDatum(zone->created_at),
		TimestampTzGetDatum(zone->modified_at),
		UUIDPGetDatum(&request->id),
	};

	return result_row(request->fcinfo, values, NULL, lengthof(values));
}

/* describe_zone_key(zone_id, OUT secret_key, OUT version, OUT created_at, OUT modified_at, OUT request_id) */
REQUEST_FUNCTION(describe_zone_key, REQUEST_OF_ZONES, read_zone_id, describe_zone_key, answer_zone_key);


static void
delete_zone_key(Request *request)
{
	credential_lock(request, CREDENTIAL_ZONE);
	zone_statements_delete_gateways(request->target);
	credential_retire(request);
}

/* delete_zone_key(zone_id) */
REQUEST_FUNCTION(delete_zone_key, REQUEST_OF_ZONES, read_zone_id, delete_zone_key, result_request_id);


static void
read_gateway(Request *request)
{
	read_zone_id(request);
	argument_gateway_id(request->fcinfo, 1, request->arguments.gateway_id);
}

/*
 * Adds the gateway with the given id, or with generated ids until one is free. The zone's row is written unchanged,
 * so that a concurrent delete_zone_key whose snapshot does not see the gateway fails.
 */
static void
add_gateway(Request *request)
{
	char	   *gateway_id = request->arguments.gateway_id;
	bool		given = gateway_id[0] != '\0';
	bool		inserted;

	credential_lock(request, CREDENTIAL_ZONE);
	do
	{
		CryptoStatus status = given ? CRYPTO_OK : identifier_make_gateway_id(&request->draw, gateway_id);

		if (status != CRYPTO_OK)
			error_crypto(status);
		inserted = zone_statements_insert_gateway(request->target, gateway_id, request->started_at);
		if (given && !inserted)
			error_gateway_exists(request->target, gateway_id);
	} while (!inserted);
	rows_write_credential(&request->credential);
}

static Datum
answer_gateway(Request *request)
{
	Datum		values[] = {CStringGetTextDatum(request->arguments.gateway_id), UUIDPGetDatum(&request->id)};

	return result_row(request->fcinfo, values, NULL, lengthof(values));
}

/* add_gateway(zone_id, INOUT gateway_id, OUT request_id) */
REQUEST_FUNCTION(add_gateway, REQUEST_OF_ZONES, read_gateway, add_gateway, answer_gateway);


static void
read_known_gateway(Request *request)
{
	read_gateway(request);
	argument_require(request->fcinfo, 1, PARAM_GATEWAY_ID);
}

static void
remove_gateway(Request *request)
{
	credential_lock(request, CREDENTIAL_ZONE);
	if (!zone_statements_delete_gateway(request->target, request->arguments.gateway_id))
		error_no_such_gateway(request->target, request->arguments.gateway_id);
}

/* remove_gateway(zone_id, gateway_id) */
REQUEST_FUNCTION(remove_gateway, REQUEST_OF_ZONES, read_known_gateway, remove_gateway, result_request_id);

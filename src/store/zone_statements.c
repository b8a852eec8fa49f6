/*
 * zone_statements.c
 *	  The statements on zones and their gateways; see statement.c for their rules.
 */
#include "store/zone_statements.h"

#include "catalog/pg_type.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/credential_statements.h"
#include "store/statement.h"
#include "base/errors.h"

static bool
gateway_exists(const char *zone_id, const char *gateway_id)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	bool		found = rows_gateway_exists(zone_id, gateway_id, snapshot);

	UnregisterSnapshot(snapshot);
	return found;
}

/* Inserts a zone that never had a key; returns whether it was free, waiting as app_statements_insert() does. */
bool
zone_statements_insert(const Credential *zone)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.zone (zone_id, version, owner, owner_name, secret, created_at, modified_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (zone_id) DO NOTHING"
		" RETURNING zone_id OPERATOR(pg_catalog.=) $1 AND version OPERATOR(pg_catalog.=) $2"
		"       AND secret OPERATOR(pg_catalog.=) $5",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {TEXTOID, INT4OID, OIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, zone->identifier);
	parameters_add(&parameters, Int32GetDatum(zone->version));
	parameters_add(&parameters, ObjectIdGetDatum(zone->owner));
	parameters_add_text(&parameters, zone->owner_name);
	parameters_add_sealed(&parameters, &zone->secret);
	parameters_add_time(&parameters, zone->created_at);
	parameters_add_time(&parameters, zone->modified_at);
	if (statement_try_write(&insert, &parameters, "zone"))
	{
		rows_require_as_written(zone);
		return true;
	}
	if (!credential_statements_exists(CREDENTIAL_ZONE, zone->identifier))
		error_not_written("zone");
	return false;
}

/* Gives a key to a deleted zone, whose row the caller has locked. */
void
zone_statements_revive(const Credential *zone)
{
	static Statement update = {
		.text = "UPDATE keyrot.zone SET version = $2, secret = $3, previous_secret = NULL,"
		"       previous_valid_until = NULL, created_at = $4, modified_at = $5, disabled_at = NULL,"
		"       valid_until = NULL, due_at = NULL, rotate_after = NULL, lifetime = NULL, policy_grace = NULL,"
		"       grace_after_use = NULL"
		" WHERE zone_id OPERATOR(pg_catalog.=) $1"
		" RETURNING version OPERATOR(pg_catalog.=) $2 AND secret OPERATOR(pg_catalog.=) $3 AND previous_secret IS NULL",
		.success = SPI_OK_UPDATE_RETURNING,
		.types = {TEXTOID, INT4OID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, zone->identifier);
	parameters_add(&parameters, Int32GetDatum(zone->version));
	parameters_add_sealed(&parameters, &zone->secret);
	parameters_add_time(&parameters, zone->created_at);
	parameters_add_time(&parameters, zone->modified_at);
	statement_write_one(&update, &parameters, "zone");
	rows_require_as_written(zone);
}

/* Adds a gateway to a zone; returns whether it is new. */
bool
zone_statements_insert_gateway(const char *zone_id, const char *gateway_id, TimestampTz added_at)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.gateway (zone_id, gateway_id, added_at) VALUES ($1, $2, $3)"
		" ON CONFLICT (zone_id, gateway_id) DO NOTHING"
		" RETURNING zone_id OPERATOR(pg_catalog.=) $1 AND gateway_id OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, zone_id);
	parameters_add_text(&parameters, gateway_id);
	parameters_add_time(&parameters, added_at);
	if (statement_try_write(&insert, &parameters, "gateway"))
		return true;
	if (!gateway_exists(zone_id, gateway_id))
		error_not_written("gateway");
	return false;
}

/* Removes a gateway; returns whether it existed. */
bool
zone_statements_delete_gateway(const char *zone_id, const char *gateway_id)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1"
		" AND gateway_id OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_DELETE,
		.types = {TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, zone_id);
	parameters_add_text(&parameters, gateway_id);
	if (statement_run_without_rows(&delete, &parameters) == 1)
		return true;
	if (gateway_exists(zone_id, gateway_id))
		error_not_written("gateway");
	return false;
}

/* Removes all gateways of a zone; raises 55000 if one could not be removed. */
void
zone_statements_delete_gateways(const char *zone_id)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_DELETE,
		.types = {TEXTOID},
	};
	static Statement left = {
		.text = "SELECT FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1 LIMIT 1",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, zone_id);
	statement_run_without_rows(&delete, &parameters);
	if (statement_run_without_rows(&left, &parameters) > 0)
		error_not_written("gateway");
}

/*
 * store.c
 *	  Every SQL statement of keyrot, but for those on apps, in app_statements.c, on the request log and for the
 *	  worker, in request_statements.c, and on data keys, in key_statements.c: constant text, typed parameters, plans
 *	  that are kept.  The store alone uses SPI.  What each rotation does to its row and to the log is done by
 *	  rows.c, without SQL.
 *
 * Statements run as the owner of keyrot's tables, on PostgreSQL's own search_path (owner.c), and write
 * OPERATOR(pg_catalog.=) wherever an operator stands, with none of the constructs that hide one: a kept
 * plan is analysed anew when the caller's search_path has changed, and would take the operators that it
 * finds there.
 *
 * No parameter ever holds a plaintext secret.  Who may do what is not decided here.
 */
#include "store/store.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "store/statement.h"


/*
 * Credentials
 */

/* Hands a credential over, an app with the AppKeys that it had. */
void
store_set_owner(const Credential *credential, Oid owner, const char *owner_name)
{
	static Statement set_app_owner = {
		.text = "UPDATE keyrot.app SET owner = $2, owner_name = $3 WHERE app_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_UPDATE,
		.types = {INT8OID, OIDOID, TEXTOID},
	};
	static Statement set_zone_owner = {
		.text = "UPDATE keyrot.zone SET owner = $2, owner_name = $3 WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_UPDATE,
		.types = {TEXTOID, OIDOID, TEXTOID},
	};
	Parameters	parameters = {0};

	if (credential->kind == SEAL_APP)
		add(&parameters, Int64GetDatum(credential->app_id));
	else
		add_text(&parameters, credential->identifier);
	add(&parameters, ObjectIdGetDatum(owner));
	add_text(&parameters, owner_name);
	run_without_rows(credential->kind == SEAL_APP ? &set_app_owner : &set_zone_owner, &parameters);
}

/*
 * Where an owner's OID and name disagree, sets both to the role of that name or, where none has it, to
 * the role of that OID.  Returns the number of rows changed.
 */
int64
store_rebind_owners(void)
{
#define REBIND(table) \
	"UPDATE keyrot." table " AS c SET owner = r.oid, owner_name = r.rolname" \
	"  FROM pg_catalog.pg_roles AS r" \
	" WHERE r.oid OPERATOR(pg_catalog.=)" \
	"       coalesce((SELECT n.oid FROM pg_catalog.pg_roles AS n" \
	"                  WHERE n.rolname OPERATOR(pg_catalog.=) c.owner_name), c.owner)" \
	"   AND (r.oid OPERATOR(pg_catalog.<>) c.owner OR r.rolname OPERATOR(pg_catalog.<>) c.owner_name)"
	static Statement rebind_apps = {
		.text = REBIND("app"),
		.success = SPI_OK_UPDATE,
	};
	static Statement rebind_zones = {
		.text = REBIND("zone"),
		.success = SPI_OK_UPDATE,
	};
	Parameters	none = {0};

	return (int64) (run_without_rows(&rebind_apps, &none) + run_without_rows(&rebind_zones, &none));
#undef REBIND
}


/*
 * Zones and gateways
 */

/* Inserts a zone that never had a key; tells whether it was free, waiting as store_insert_app does. */
bool
store_insert_zone(const Credential *zone)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.zone (zone_id, version, owner, owner_name, secret, created_at, modified_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (zone_id) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {TEXTOID, INT4OID, OIDOID, TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone->identifier);
	add(&parameters, Int32GetDatum(zone->version));
	add(&parameters, ObjectIdGetDatum(zone->owner));
	add_text(&parameters, zone->owner_name);
	add_sealed(&parameters, &zone->secret);
	add_time(&parameters, zone->created_at);
	add_time(&parameters, zone->modified_at);
	return run_without_rows(&insert, &parameters) == 1;
}

/* Gives a deleted zone, whose row the caller has locked, a key again. */
void
store_revive_zone(const Credential *zone)
{
	static Statement update = {
		.text = "UPDATE keyrot.zone SET version = $2, secret = $3, previous_secret = NULL,"
		"       previous_valid_until = NULL, created_at = $4, modified_at = $5"
		" WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_UPDATE,
		.types = {TEXTOID, INT4OID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone->identifier);
	add(&parameters, Int32GetDatum(zone->version));
	add_sealed(&parameters, &zone->secret);
	add_time(&parameters, zone->created_at);
	add_time(&parameters, zone->modified_at);
	run_without_rows(&update, &parameters);
}

/* Adds a gateway to a zone; tells whether it was not there yet. */
bool
store_insert_gateway(const char *zone_id, const char *gateway_id, TimestampTz added_at)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.gateway (zone_id, gateway_id, added_at) VALUES ($1, $2, $3)"
		" ON CONFLICT (zone_id, gateway_id) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone_id);
	add_text(&parameters, gateway_id);
	add_time(&parameters, added_at);
	return run_without_rows(&insert, &parameters) == 1;
}

/* Removes a gateway; tells whether it was there. */
bool
store_delete_gateway(const char *zone_id, const char *gateway_id)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1"
		" AND gateway_id OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_DELETE,
		.types = {TEXTOID, TEXTOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone_id);
	add_text(&parameters, gateway_id);
	return run_without_rows(&delete, &parameters) == 1;
}

/* Removes all gateways of a zone. */
void
store_delete_gateways(const char *zone_id)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_DELETE,
		.types = {TEXTOID},
	};
	Parameters	parameters = {0};

	add_text(&parameters, zone_id);
	run_without_rows(&delete, &parameters);
}


/*
 * Retries
 */

/*
 * Notes what a client_token is used for.  Tells whether the caller has not used it before; where another
 * transaction is just using it, waits for that one to end.
 */
bool
store_reserve_token(const TokenRow *token)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.retry (caller_oid, client_token, request_id, action, target, new_app_key,"
		"                          grace_period, secret_given, created_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (caller_oid, client_token) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {OIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, BOOLOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add(&parameters, ObjectIdGetDatum(token->caller));
	add_text(&parameters, token->client_token);
	add(&parameters, UUIDPGetDatum(&token->request_id));
	add_text(&parameters, token->action);
	add_text(&parameters, token->target);
	if (token->new_app_key[0] == '\0')
		add_null(&parameters);
	else
		add_text(&parameters, token->new_app_key);
	add(&parameters, Int64GetDatum(token->grace));
	add(&parameters, BoolGetDatum(token->secret_given));
	add_time(&parameters, token->created_at);
	return run_without_rows(&insert, &parameters) == 1;
}

static void
read_token_text(HeapTuple tuple, TupleDesc desc, int column, char *buffer, size_t size)
{
	bool		is_null;
	Datum		value = SPI_getbinval(tuple, desc, column, &is_null);

	buffer[0] = '\0';
	if (!is_null)
		text_to_cstring_buffer(DatumGetTextPP(value), buffer, size);
}

static void
read_token(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	TokenRow   *token = reader_state;
	bool		is_null;

	token->request_id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, 1, &is_null));
	read_token_text(tuple, desc, 2, token->action, sizeof(token->action));
	read_token_text(tuple, desc, 3, token->target, sizeof(token->target));
	read_token_text(tuple, desc, 4, token->new_app_key, sizeof(token->new_app_key));
	token->grace = DatumGetInt64(SPI_getbinval(tuple, desc, 5, &is_null));
	token->secret_given = DatumGetBool(SPI_getbinval(tuple, desc, 6, &is_null));
	token->version = DatumGetInt32(SPI_getbinval(tuple, desc, 7, &is_null));
}

/* Reads what the caller used a client_token for; tells whether it is there. */
bool
store_find_token(Oid caller, const char *client_token, TokenRow *token)
{
	static Statement select = {
		.text = "SELECT request_id, action, target, new_app_key, grace_period, secret_given, version"
		"  FROM keyrot.retry WHERE caller_oid OPERATOR(pg_catalog.=) $1"
		"   AND client_token OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_SELECT,
		.types = {OIDOID, TEXTOID},
	};
	Parameters	parameters = {0};

	add(&parameters, ObjectIdGetDatum(caller));
	add_text(&parameters, client_token);
	return store_run(&select, &parameters, read_token, token) == 1;
}

/* Adds the version that the request of a reserved client_token made. */
void
store_finish_token(Oid caller, const char *client_token, int32 version)
{
	static Statement update = {
		.text = "UPDATE keyrot.retry SET version = $3 WHERE caller_oid OPERATOR(pg_catalog.=) $1"
		"   AND client_token OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_UPDATE,
		.types = {OIDOID, TEXTOID, INT4OID},
	};
	Parameters	parameters = {0};

	add(&parameters, ObjectIdGetDatum(caller));
	add_text(&parameters, client_token);
	add(&parameters, Int32GetDatum(version));
	run_without_rows(&update, &parameters);
}

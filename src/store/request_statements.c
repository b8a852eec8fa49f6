/*
 * request_statements.c
 *	  The statements on the request log, and those that find and wipe expired versions.
 */
#include "store/store.h"

#include "catalog/pg_type.h"

#include "store/statement.h"

/* Records a request from outside its transaction, unless it is on record already. */
void
store_record_request(const RequestRow *row)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.request (request_id, target, requested_at, action, caller, caller_oid,"
		"  \"session_user\", session_user_oid, client_addr, pid, outcome, version, retry_of)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
		" ON CONFLICT (request_id, target) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {UUIDOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID, INETOID,
		INT4OID, TEXTOID, INT4OID, UUIDOID},
	};
	Parameters	parameters = {0};

	add(&parameters, UUIDPGetDatum(&row->id));
	add_text(&parameters, row->target);
	add_time(&parameters, row->requested_at);
	add_text(&parameters, row->action);
	add_text(&parameters, row->caller.name);
	add(&parameters, ObjectIdGetDatum(row->caller.oid));
	add_text(&parameters, row->session_user.name);
	add(&parameters, ObjectIdGetDatum(row->session_user.oid));
	if (row->client_addr[0] != 0)
		add(&parameters, PointerGetDatum(row->client_addr));
	else
		add_null(&parameters);
	add(&parameters, Int32GetDatum(row->pid));
	add_text(&parameters, row->outcome);
	if (row->version > 0)
		add(&parameters, Int32GetDatum(row->version));
	else
		add_null(&parameters);
	if (row->is_repetition)
		add(&parameters, UUIDPGetDatum(&row->retry_of));
	else
		add_null(&parameters);
	run_without_rows(&insert, &parameters);
}

/* Removes the requests with a lesser RequestId, which the primary key finds; returns how many. */
int64
store_prune_requests(const pg_uuid_t *before)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.request WHERE request_id OPERATOR(pg_catalog.<) $1",
		.success = SPI_OK_DELETE,
		.types = {UUIDOID},
	};
	Parameters	parameters = {0};

	add(&parameters, UUIDPGetDatum(before));
	return (int64) run_without_rows(&delete, &parameters);
}

/* Forgets what client_tokens were used for that long ago. */
void
store_prune_tokens(TimestampTz before)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.retry WHERE created_at OPERATOR(pg_catalog.<) $1",
		.success = SPI_OK_DELETE,
		.types = {TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_time(&parameters, before);
	run_without_rows(&delete, &parameters);
}

/* The blocks of a table, from the first on and before the next, as two tids. */
static void
add_blocks(Parameters *parameters, BlockNumber first, BlockNumber next)
{
	ItemPointer tids = palloc(2 * sizeof(ItemPointerData));

	ItemPointerSet(&tids[0], first, 0);
	ItemPointerSet(&tids[1], next, 0);
	add(parameters, PointerGetDatum(&tids[0]));
	add(parameters, PointerGetDatum(&tids[1]));
}

/* Wipes the previous versions, in these blocks, whose grace has ended; leaves rows that somebody holds. */
void
store_wipe_expired(SealKind kind, BlockNumber first, BlockNumber next, TimestampTz now)
{
#define WIPE(table) \
	"UPDATE keyrot." table " SET previous_secret = NULL, previous_valid_until = NULL" \
	" WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(" \
	"       SELECT ctid FROM keyrot." table \
	"        WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2" \
	"          AND previous_valid_until OPERATOR(pg_catalog.<=) $3 FOR NO KEY UPDATE SKIP LOCKED))"
	static Statement wipe_apps = {
		.text = WIPE("app"),
		.success = SPI_OK_UPDATE,
		.types = {TIDOID, TIDOID, TIMESTAMPTZOID},
	};
	static Statement wipe_zones = {
		.text = WIPE("zone"),
		.success = SPI_OK_UPDATE,
		.types = {TIDOID, TIDOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	add_blocks(&parameters, first, next);
	add_time(&parameters, now);
	run_without_rows(kind == SEAL_APP ? &wipe_apps : &wipe_zones, &parameters);
#undef WIPE
}

static void
read_time(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	bool		is_null;
	Datum		value = SPI_getbinval(tuple, desc, 1, &is_null);

	if (!is_null)
		*(TimestampTz *) reader_state = DatumGetTimestampTz(value);
}

/* When the first grace of these blocks ends; DT_NOEND where there is none. */
TimestampTz
store_next_expiry(SealKind kind, BlockNumber first, BlockNumber next)
{
#define NEXT(table) \
	"SELECT pg_catalog.min(previous_valid_until) FROM keyrot." table \
	" WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2"
	static Statement next_of_apps = {
		.text = NEXT("app"),
		.success = SPI_OK_SELECT,
		.types = {TIDOID, TIDOID},
	};
	static Statement next_of_zones = {
		.text = NEXT("zone"),
		.success = SPI_OK_SELECT,
		.types = {TIDOID, TIDOID},
	};
	Parameters	parameters = {0};
	TimestampTz result = DT_NOEND;

	add_blocks(&parameters, first, next);
	(void) store_run(kind == SEAL_APP ? &next_of_apps : &next_of_zones, &parameters, read_time, &result);
	return result;
#undef NEXT
}

/*
 * request_statements.c
 *	  The statements on the request log, and those that find and wipe expired versions.
 */
#include "store/request_statements.h"

#include "catalog/pg_type.h"

#include "store/statement.h"

/* Records a request from outside its transaction, unless it is on record already. */
void
request_statements_record(const RequestRow *row)
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

	parameters_add(&parameters, UUIDPGetDatum(&row->id));
	parameters_add_text(&parameters, row->target);
	parameters_add_time(&parameters, row->requested_at);
	parameters_add_text(&parameters, row->action);
	parameters_add_text(&parameters, row->caller.name);
	parameters_add(&parameters, ObjectIdGetDatum(row->caller.oid));
	parameters_add_text(&parameters, row->session_user.name);
	parameters_add(&parameters, ObjectIdGetDatum(row->session_user.oid));
	if (row->client_addr[0] != 0)
		parameters_add(&parameters, PointerGetDatum(row->client_addr));
	else
		parameters_add_null(&parameters);
	parameters_add(&parameters, Int32GetDatum(row->pid));
	parameters_add_text(&parameters, row->outcome);
	if (row->version > 0)
		parameters_add(&parameters, Int32GetDatum(row->version));
	else
		parameters_add_null(&parameters);
	if (row->is_repetition)
		parameters_add(&parameters, UUIDPGetDatum(&row->retry_of));
	else
		parameters_add_null(&parameters);
	statement_run_without_rows(&insert, &parameters);
}

/* Removes the requests with a lesser RequestId, which the primary key finds; returns how many. */
int64
request_statements_prune(const pg_uuid_t *before)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.request WHERE request_id OPERATOR(pg_catalog.<) $1",
		.success = SPI_OK_DELETE,
		.types = {UUIDOID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, UUIDPGetDatum(before));
	return (int64) statement_run_without_rows(&delete, &parameters);
}

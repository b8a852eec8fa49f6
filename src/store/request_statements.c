/*
 * request_statements.c
 *	  The statements on the request log, and those that find and wipe expired versions.
 */
#include "store/request_statements.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/xid8.h"

#include "store/statement.h"

#define INSERT(then, ends_with) { \
	.text = "INSERT INTO keyrot.request (request_id, target, requested_at, action, caller, caller_oid," \
	"  \"session_user\", session_user_oid, client_addr, pid, outcome, version, retry_of, changed_kind, changed_in)" \
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) " then, \
	.success = (ends_with), \
	.types = {UUIDOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID, INETOID, \
	INT4OID, TEXTOID, INT4OID, UUIDOID, TEXTOID, XID8OID}, \
}

/* What a request changed, and by which transaction; nothing where none did. */
static void
add_change(Parameters *parameters, CredentialKind changed)
{
	if (changed == 0)
	{
		parameters_add_null(parameters);
		parameters_add_null(parameters);
		return;
	}
	parameters_add_text(parameters, changed == CREDENTIAL_APP ? "app" : "zone");
	parameters_add(parameters, FullTransactionIdGetDatum(GetTopFullTransactionId()));
}

static Parameters
parameters_of(const RequestRow *row)
{
	Parameters	parameters = {0};

	parameters_add(&parameters, UUIDPGetDatum(&row->id));
	parameters_add_text(&parameters, row->target);
	parameters_add_time(&parameters, row->requested_at);
	parameters_add_text(&parameters, row->action);
	parameters_add_text(&parameters, row->caller.name);
	parameters_add(&parameters, ObjectIdGetDatum(row->caller.oid));
	parameters_add_text(&parameters, row->session_user.name);
	parameters_add(&parameters, ObjectIdGetDatum(row->session_user.oid));
	parameters_add_nullable(&parameters, PointerGetDatum(row->client_addr), row->client_addr[0] == 0);
	parameters_add(&parameters, Int32GetDatum(row->pid));
	parameters_add_text(&parameters, row->outcome);
	parameters_add_nullable(&parameters, Int32GetDatum(row->version), row->version == 0);
	parameters_add_nullable(&parameters, UUIDPGetDatum(&row->retry_of), !row->is_repetition);
	return parameters;
}

/*
 * Records a request that succeeded, in its own transaction; raises 55000 where something keeps the row from being
 * written, or changes what it is found by or its version.
 */
void
request_statements_insert(const RequestRow *row)
{
	static Statement insert = INSERT("RETURNING request_id OPERATOR(pg_catalog.=) $1 AND target OPERATOR(pg_catalog.=) $2"
									 " AND outcome OPERATOR(pg_catalog.=) $11 AND " SAME("version", "$12"),
									 SPI_OK_INSERT_RETURNING);
	Parameters	parameters = parameters_of(row);

	add_change(&parameters, row->changed);
	statement_write_one(&insert, &parameters, "request");
}

/* Whether a request is on record, as the transaction sees the log now. */
static bool
is_on_record(const RequestRow *row)
{
	static Statement find = {
		.text = "SELECT FROM keyrot.request WHERE request_id OPERATOR(pg_catalog.=) $1 AND target OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_SELECT,
		.types = {UUIDOID, TEXTOID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, UUIDPGetDatum(&row->id));
	parameters_add_text(&parameters, row->target);
	return statement_run_without_rows(&find, &parameters) > 0;
}

/*
 * Records a request from outside its transaction, unless it is on record already.  Tells whether it is then: somebody's
 * trigger may keep the row from being written.
 */
bool
request_statements_record(const RequestRow *row)
{
	static Statement insert = INSERT("ON CONFLICT (request_id, target) DO NOTHING", SPI_OK_INSERT);
	Parameters	parameters = parameters_of(row);

	/* It was undone. */
	add_change(&parameters, 0);
	return statement_run_without_rows(&insert, &parameters) == 1 || is_on_record(row);
}
#undef INSERT

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

/*
 * request_statements.c
 *	  The statements on the request log, and those that find and wipe expired versions.
 */
#include "store/request_statements.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/xid8.h"

#include "store/statement.h"
#include "store/tables.h"
#include "base/errors.h"

#define INSERT(then, ends_with) { \
	.text = "INSERT INTO keyrot.request (request_id, target, requested_at, action, caller, caller_oid," \
	"  \"session_user\", session_user_oid, client_addr, pid, outcome, version, retry_of, changed_kind, changed_in)" \
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) " then, \
	.success = (ends_with), \
	.types = {UUIDOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID, INETOID, \
	INT4OID, TEXTOID, INT4OID, UUIDOID, TEXTOID, XID8OID}, \
}

/* What a request changed, and its transaction; NULLs if it changed nothing. */
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

static bool
is_text(Datum value, const char *given)
{
	text	   *packed = DatumGetTextPP(value);

	return VARSIZE_ANY_EXHDR(packed) == strlen(given) && memcmp(VARDATA_ANY(packed), given, strlen(given)) == 0;
}

/* Whether the key, the outcome and the version of the row that was written are those of the request. */
static bool
is_as_given(HeapTuple tuple, TupleDesc desc, const void *given)
{
	const RequestRow *row = given;
	Datum		values[4];
	bool		nulls[4];

	heap_deform_tuple(tuple, desc, values, nulls);
	return memcmp(DatumGetUUIDP(values[0]), &row->id, UUID_LEN) == 0 && is_text(values[1], row->target) &&
		is_text(values[2], row->outcome) && (nulls[3] ? 0 : DatumGetInt32(values[3])) == row->version;
}

/*
 * Records a request that succeeded, in its own transaction; raises 55000 if the row was not written, or was written
 * with another key, outcome or version.
 */
void
request_statements_insert(const RequestRow *row)
{
	static Statement insert = INSERT("RETURNING request_id, target, outcome, version", SPI_OK_INSERT_RETURNING);
	Parameters	parameters = parameters_of(row);

	add_change(&parameters, row->changed);
	if (!statement_try_write_checked(&insert, &parameters, "request", is_as_given, row))
		error_not_written("request");
}

/* Whether a request is on record, in the transaction's snapshot. */
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
 * Records a request from outside its transaction, unless it is already on record. Returns whether it is on record
 * then: a trigger may prevent that.
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

static int64
delete_before(const pg_uuid_t *before)
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

static bool
any_before(const pg_uuid_t *before)
{
	static Statement find = {
		.text = "SELECT FROM keyrot.request WHERE request_id OPERATOR(pg_catalog.<) $1 LIMIT 1",
		.success = SPI_OK_SELECT,
		.types = {UUIDOID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, UUIDPGetDatum(before));
	return statement_run_without_rows(&find, &parameters) > 0;
}

/*
 * Removes the requests with a smaller RequestId, which the primary key finds; returns their number. Raises 55000 if a
 * trigger prevents the removal of one.
 */
int64
request_statements_prune(const pg_uuid_t *before)
{
	int64		removed = delete_before(before);

	if (!tables_have_triggers(tables_get()->request) || !any_before(before))
		return removed;
	/*
	 * Another session may have recorded a request in the meantime, which is removed now; what a trigger keeps is
	 * still there then.
	 */
	removed += delete_before(before);
	if (any_before(before))
		error_not_written("request");
	return removed;
}

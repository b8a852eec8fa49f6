/*
 * change_statements.c
 *	  The statement that reads the changes of credentials from the request log, each once.
 *
 * The obvious order, by time or by RequestId, would skip changes: a transaction that began earlier may commit later,
 * when a reader is already past it.  So changes are ordered by their transactions, and read only below the oldest
 * transaction that is still open: all those below have ended, and nothing will be added to them.  A standby's snapshot
 * knows the primary's open transactions from the WAL, at least those at top level.
 */
#include "store/change_statements.h"

#include "catalog/pg_type.h"
#include "utils/xid8.h"

#include "store/statement.h"

enum
{
	CHANGE_TRANSACTION = 1,
	CHANGE_REQUEST_ID,
	CHANGE_KIND,
	CHANGE_TARGET,
	CHANGE_VERSION,
	CHANGE_ACTION,
	CHANGE_CHANGED_AT
};

typedef struct Reading
{
	ChangeReader reader;
	void	   *reader_state;
} Reading;

static void
read_change(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	const Reading *reading = reader_state;
	Change		change = {0};
	bool		is_null;
	Datum		version = SPI_getbinval(tuple, desc, CHANGE_VERSION, &is_null);

	change.version = is_null ? 0 : DatumGetInt32(version);
	change.place.transaction =
		U64FromFullTransactionId(DatumGetFullTransactionId(SPI_getbinval(tuple, desc, CHANGE_TRANSACTION, &is_null)));
	change.place.request_id = *DatumGetUUIDP(SPI_getbinval(tuple, desc, CHANGE_REQUEST_ID, &is_null));
	change.kind = strcmp(SPI_getvalue(tuple, desc, CHANGE_KIND), "app") == 0 ? CREDENTIAL_APP : CREDENTIAL_ZONE;
	change.changed_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, CHANGE_CHANGED_AT, &is_null));
	strlcpy(change.target, SPI_getvalue(tuple, desc, CHANGE_TARGET), sizeof(change.target));
	strlcpy(change.action, SPI_getvalue(tuple, desc, CHANGE_ACTION), sizeof(change.action));
	reading->reader(&change, reading->reader_state);
}

/*
 * Whether the log has the change at this position, or may have it: if its transaction has not ended in the query's
 * snapshot, the change may still be committed; if it is older than everything in the log, it may have been pruned.
 */
bool
change_statements_know(const ChangePlace *place)
{
	static Statement find = {
		.text = "SELECT WHERE $1 OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())"
		"    OR EXISTS (SELECT FROM keyrot.request AS r"
		"                WHERE r.request_id OPERATOR(pg_catalog.=) $2 AND r.changed_in OPERATOR(pg_catalog.=) $1)"
		"    OR NOT EXISTS (SELECT FROM keyrot.request AS r"
		"                    WHERE r.request_id OPERATOR(pg_catalog.<) $2 AND r.changed_in IS NOT NULL)",
		.success = SPI_OK_SELECT,
		.types = {XID8OID, UUIDOID},
		.stable = true,
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, FullTransactionIdGetDatum(FullTransactionIdFromU64(place->transaction)));
	parameters_add(&parameters, UUIDPGetDatum(&place->request_id));
	return statement_run_without_rows(&find, &parameters) == 1;
}

/*
 * Passes the first changes after a position to the reader, in their order: those that are visible to the current
 * query, and to the caller in the log.
 */
void
change_statements_read(const ChangePlace *after, int max_count, Oid caller, bool sees_all, ChangeReader reader,
					   void *reader_state)
{
	static Statement read = {
		.text = "SELECT changed_in, request_id, changed_kind, target, version, action, requested_at"
		"  FROM keyrot.request"
		" WHERE changed_in IS NOT NULL"
		"   AND changed_in OPERATOR(pg_catalog.<) pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())"
		"   AND ROW(changed_in, request_id) OPERATOR(pg_catalog.>) ROW($1, $2)"
		"   AND ($3 OR (pg_catalog.pg_has_role($4, caller_oid, 'USAGE')"
		"               AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r"
		"                            WHERE r.oid OPERATOR(pg_catalog.=) caller_oid"
		"                              AND r.rolname OPERATOR(pg_catalog.=) caller)))"
		" ORDER BY changed_in, request_id LIMIT $5",
		.success = SPI_OK_SELECT,
		.types = {XID8OID, UUIDOID, BOOLOID, OIDOID, INT4OID},
		.custom_plans = true,
		.stable = true,
	};
	Reading		reading = {reader, reader_state};
	Parameters	parameters = {0};

	parameters_add(&parameters, FullTransactionIdGetDatum(FullTransactionIdFromU64(after->transaction)));
	parameters_add(&parameters, UUIDPGetDatum(&after->request_id));
	parameters_add(&parameters, BoolGetDatum(sees_all));
	parameters_add(&parameters, ObjectIdGetDatum(caller));
	parameters_add(&parameters, Int32GetDatum(max_count));
	statement_run(&read, &parameters, read_change, &reading);
}

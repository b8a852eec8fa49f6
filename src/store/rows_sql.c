/*
 * rows_sql.c
 *	  Single rows of tables that are not plain: partitioned or distributed ones, and those to which somebody has added
 *	  what SQL statements heed.
 *
 * The functions do what those of rows.c say.  Each that writes says what it has written, and raises 55000 where it is
 * another row, or none: nothing that is not stored may be handed out.
 */
#include "store/rows_sql.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "store/request_statements.h"
#include "store/rows_decode.h"
#include "store/statement.h"
#include "store/tables.h"
#include "base/errors.h"

#define BATCH 500				/* credentials that are read at once */

/* Runs a statement that reads with this snapshot, and returns the number of its rows. */
static uint64
read_as_of(Snapshot snapshot, Statement *statement, const Parameters *parameters, RowReader reader, void *reader_state)
{
	uint64		count;

	PushActiveSnapshot(snapshot);
	count = statement_run(statement, parameters, reader, reader_state);
	PopActiveSnapshot();
	return count;
}

/*
 * A credential and, after its columns, the transaction that wrote it, which the row of a statement itself does not
 * contain.
 */
static void
read_credential(CredentialKind kind, HeapTuple tuple, TupleDesc desc, Credential *credential)
{
	bool		is_null;
	Datum		writer = SPI_getbinval(tuple, desc, desc->natts, &is_null);

	decode_credential(kind, tuple, desc, credential);
	credential->writer = is_null ? InvalidTransactionId : DatumGetTransactionId(writer);
	/*
	 * A transaction ID of another node is meaningless here: then every row counts as this transaction's own once it
	 * has written.
	 */
	if (tables_are_distributed())
		credential->is_own = TransactionIdIsValid(GetTopTransactionIdIfAny());
	else
		credential->is_own = !is_null && TransactionIdIsCurrentTransactionId(credential->writer);
}

static void
read_app(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	read_credential(CREDENTIAL_APP, tuple, desc, reader_state);
}

static void
read_zone(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	read_credential(CREDENTIAL_ZONE, tuple, desc, reader_state);
}

static RowReader
reader_of(CredentialKind kind)
{
	return kind == CREDENTIAL_APP ? read_app : read_zone;
}

bool
rows_sql_find_credential(CredentialKind kind, const char *identifier, Snapshot snapshot, Credential *credential)
{
	static Statement find_app = {
		.text = "SELECT a.*, a.xmin FROM keyrot.app AS a WHERE app_key OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID},
		.stable = true,
		.by_key = true,
	};
	static Statement find_zone = {
		.text = "SELECT z.*, z.xmin FROM keyrot.zone AS z WHERE zone_id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID},
		.stable = true,
		.by_key = true,
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, identifier);
	return read_as_of(snapshot, kind == CREDENTIAL_APP ? &find_app : &find_zone, &parameters, reader_of(kind),
					  credential) == 1;
}

/* Credentials that were read at once. */
typedef struct Batch
{
	CredentialKind kind;
	int			count;
	Credential *credentials;
} Batch;

static void
read_into_batch(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Batch	   *batch = reader_state;

	read_credential(batch->kind, tuple, desc, &batch->credentials[batch->count++]);
}

void
rows_sql_read_credentials(CredentialKind kind, Snapshot snapshot, CredentialReader reader, void *reader_state)
{
	static Statement next_apps = {
		.text = "SELECT a.*, a.xmin FROM keyrot.app AS a WHERE app_key OPERATOR(pg_catalog.>) $1 ORDER BY app_key LIMIT $2",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID, INT4OID},
		.stable = true,
		.custom_plans = true,
	};
	static Statement next_zones = {
		.text = "SELECT z.*, z.xmin FROM keyrot.zone AS z WHERE zone_id OPERATOR(pg_catalog.>) $1 ORDER BY zone_id LIMIT $2",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID, INT4OID},
		.stable = true,
		.custom_plans = true,
	};
	Batch		batch = {.kind = kind,.credentials = palloc(BATCH * sizeof(Credential))};
	char		after[SEAL_MAX_IDENTIFIER + 1] = "";

	do
	{
		Parameters	parameters = {0};

		batch.count = 0;
		parameters_add_text(&parameters, after);
		parameters_add(&parameters, Int32GetDatum(BATCH));
		(void) read_as_of(snapshot, kind == CREDENTIAL_APP ? &next_apps : &next_zones, &parameters, read_into_batch,
						  &batch);
		for (int i = 0; i < batch.count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			reader(&batch.credentials[i], reader_state);
		}
		if (batch.count > 0)
			strlcpy(after, batch.credentials[batch.count - 1].identifier, sizeof(after));
	} while (batch.count == BATCH);
	pfree(batch.credentials);
}

/* Finds a credential in its current state, with or without SQL. */
static bool
find_now(CredentialKind kind, const char *identifier, Credential *credential)
{
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	bool		found = rows_find_credential(kind, identifier, snapshot, credential);

	UnregisterSnapshot(snapshot);
	return found;
}

bool
rows_sql_lock_credential(CredentialKind kind, const char *identifier, CredentialJudge judge, Oid caller,
						 Credential *credential)
{
	static Statement lock_app = {
		.text = "SELECT a.*, a.xmin FROM keyrot.app AS a WHERE app_key OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID},
		.by_key = true,
	};
	static Statement lock_zone = {
		.text = "SELECT z.*, z.xmin FROM keyrot.zone AS z WHERE zone_id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID},
		.by_key = true,
	};
	Parameters	parameters = {0};

	if (!find_now(kind, identifier, credential))
		return false;
	judge(caller, credential);
	parameters_add_text(&parameters, identifier);
	if (statement_run(kind == CREDENTIAL_APP ? &lock_app : &lock_zone, &parameters, reader_of(kind), credential) == 1)
	{
		credential->is_locked = true;
		return true;
	}
	/* It was just deleted, or a policy allows reading it but not writing it. */
	if (find_now(kind, identifier, credential))
		error_not_written(kind == CREDENTIAL_APP ? "app" : "zone");
	return false;
}

/* Locks a credential's row as rows_lock_credential() does, but does not wait; returns whether it did. */
bool
rows_sql_try_lock(CredentialKind kind, const char *identifier)
{
#define TRY(table, identifier) { \
	.text = "SELECT FROM keyrot." table " WHERE " identifier " OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED", \
	.success = SPI_OK_SELECT, \
	.types = {TEXTOID}, \
}
	static Statement try[] = FOR_BOTH_KINDS(TRY);
	Parameters	parameters = {0};

	parameters_add_text(&parameters, identifier);
	return statement_run_without_rows(STATEMENT_FOR(kind, try), &parameters) == 1;
#undef TRY
}

/* The columns of a credential's row that rows_write_credential() may change, after its identifier. */
static Parameters
parameters_of(const Credential *credential)
{
	Parameters	parameters = {0};

	parameters_add_text(&parameters, credential->identifier);
	parameters_add(&parameters, Int32GetDatum(credential->version));
	parameters_add_sealed(&parameters, &credential->secret);
	parameters_add_sealed(&parameters, &credential->previous_secret);
	parameters_add_time(&parameters, credential->previous_valid_until);
	parameters_add_time(&parameters, credential->modified_at);
	parameters_add_time(&parameters, credential->disabled_at);
	parameters_add_time(&parameters, credential->valid_until);
	parameters_add_time(&parameters, credential->due_at);
	parameters_add_policy(&parameters, credential);
	return parameters;
}

static bool
is_sealed(Datum value, bool is_null, const Sealed *sealed)
{
	bytea	   *packed;

	if (is_null || sealed->length == 0)
		return is_null && sealed->length == 0;
	packed = DatumGetByteaPP(value);
	return VARSIZE_ANY_EXHDR(packed) == sealed->length && memcmp(VARDATA_ANY(packed), sealed->bytes, sealed->length) == 0;
}

/* Whether the version and the two secrets that were written are the credential's. */
static bool
is_as_given(HeapTuple tuple, TupleDesc desc, const void *given)
{
	const Credential *credential = given;
	Datum		values[3];
	bool		nulls[3];

	heap_deform_tuple(tuple, desc, values, nulls);
	return DatumGetInt32(values[0]) == credential->version && is_sealed(values[1], nulls[1], &credential->secret) &&
		is_sealed(values[2], nulls[2], &credential->previous_secret);
}

#define WRITE(table, identifier, condition) { \
	.text = "UPDATE keyrot." table " SET version = $2, secret = $3, previous_secret = $4, previous_valid_until = $5," \
	"       modified_at = $6, disabled_at = $7, valid_until = $8, due_at = $9, rotate_after = $10, lifetime = $11," \
	"       policy_grace = $12, grace_after_use = $13" \
	" WHERE " identifier " OPERATOR(pg_catalog.=) $1" condition \
	" RETURNING version, secret, previous_secret", \
	.success = SPI_OK_UPDATE_RETURNING, \
	.by_key = true, \
	.types = {TEXTOID, INT4OID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, \
	TIMESTAMPTZOID, INTERVALOID, INTERVALOID, INT8OID, INT8OID, XIDOID}, \
}
#define UNLESS_CHANGED " AND xmin OPERATOR(pg_catalog.=) $14"

void
rows_sql_write_credential(const Credential *credential)
{
	static Statement write_app = WRITE("app", "app_key", "");
	static Statement write_zone = WRITE("zone", "zone_id", "");
	bool		is_app = credential->kind == CREDENTIAL_APP;
	Parameters	parameters = parameters_of(credential);

	if (!statement_try_write_checked(is_app ? &write_app : &write_zone, &parameters, is_app ? "app" : "zone", is_as_given,
									 credential))
		error_not_written(is_app ? "app" : "zone");
	rows_require_as_written(credential);
}

/*
 * Writes a credential whose row is not locked, unless another transaction has changed the row since it was read, or
 * something keeps it from being written. Returns whether it was written.
 */
static bool
try_write(const Credential *credential)
{
	static Statement write_app = WRITE("app", "app_key", UNLESS_CHANGED);
	static Statement write_zone = WRITE("zone", "zone_id", UNLESS_CHANGED);
	bool		is_app = credential->kind == CREDENTIAL_APP;
	Parameters	parameters = parameters_of(credential);

	parameters_add(&parameters, TransactionIdGetDatum(credential->writer));
	if (!statement_try_write_checked(is_app ? &write_app : &write_zone, &parameters, is_app ? "app" : "zone", is_as_given,
									 credential))
		return false;
	rows_require_as_written(credential);
	return true;
}
#undef WRITE
#undef UNLESS_CHANGED

/* Changes a credential whose row must be locked first. */
static bool
change_locked(const char *identifier, const CredentialChange *change, Credential *credential)
{
	if (!rows_sql_lock_credential(change->kind, identifier, change->judge, change->caller, credential))
		return false;
	change->judge(change->caller, credential);
	if (change->make(credential, change->state) == CHANGE_MADE)
		rows_sql_write_credential(credential);
	return true;
}

bool
rows_sql_change_credential(const char *identifier, const CredentialChange *change, Credential *credential)
{
	if (!find_now(change->kind, identifier, credential))
		return false;
	change->judge(change->caller, credential);
	switch (change->make(credential, change->state))
	{
		case CHANGE_NONE:
			return true;
		case CHANGE_MADE:
			if (try_write(credential))
				return true;
			break;
		case CHANGE_NEEDS_LOCK:
			break;
	}
	return change_locked(identifier, change, credential);
}

void
rows_sql_insert_request(const RequestRow *request)
{
	request_statements_insert(request);
}

bool
rows_sql_gateway_exists(const char *zone_id, const char *gateway_id, Snapshot snapshot)
{
	static Statement find = {
		.text = "SELECT FROM keyrot.gateway WHERE zone_id OPERATOR(pg_catalog.=) $1 AND gateway_id OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID, TEXTOID},
		.stable = true,
		.by_key = true,
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, zone_id);
	parameters_add_text(&parameters, gateway_id);
	return read_as_of(snapshot, &find, &parameters, NULL, NULL) == 1;
}

/* An array of data keys, which grows. */
typedef struct DataKeys
{
	DataKeyRow *rows;
	int			count;
} DataKeys;

static void
read_data_key(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	DataKeys   *keys = reader_state;

	keys->rows = repalloc(keys->rows, (keys->count + 1) * sizeof(DataKeyRow));
	decode_data_key(tuple, desc, &keys->rows[keys->count++]);
}

int
rows_sql_read_data_keys(Snapshot snapshot, DataKeyRow **rows)
{
	static Statement select = {
		.text = "SELECT k.* FROM keyrot.data_key AS k",
		.success = SPI_OK_SELECT,
		.stable = true,
	};
	Parameters	none = {0};
	DataKeys	keys = {.rows = palloc(sizeof(DataKeyRow))};

	snapshot = RegisterSnapshot(snapshot != NULL ? snapshot : GetCatalogSnapshot(tables_get()->data_key));
	(void) read_as_of(snapshot, &select, &none, read_data_key, &keys);
	UnregisterSnapshot(snapshot);
	*rows = keys.rows;
	return keys.count;
}

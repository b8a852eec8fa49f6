/*
 * key_statements.c
 *	  The statements on data keys, and on which secrets are sealed with which.
 *
 * The id of the data key stands in bytes 2 to 5 of a sealed value, big-endian, so that bytea's order is that of
 * the ids.
 */
#include "store/key_statements.h"

#include "catalog/pg_type.h"
#include "port/pg_bswap.h"

#include "store/statement.h"
#include "store/tables.h"

#define KEY_OF(column) "pg_catalog.substr(" column ", 2, 4)"

/* A data key's id in the form in which a sealed value contains it. */
static void
add_key_id(Parameters *parameters, int32 data_key)
{
	uint32		big_endian = pg_hton32((uint32) data_key);

	parameters_add_bytes(parameters, &big_endian, sizeof(big_endian));
}

/* Inserts a wrapped data key. */
void
key_statements_insert(const DataKeyRow *row, TimestampTz created_at)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.data_key (id, wrapped, master_key, check_value, created_at)"
		" VALUES ($1, $2, $3, $4, $5)"
		" RETURNING id OPERATOR(pg_catalog.=) $1 AND wrapped OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_INSERT_RETURNING,
		.types = {INT4OID, BYTEAOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, Int32GetDatum(row->id));
	parameters_add_sealed(&parameters, &row->wrapped);
	parameters_add_bytes(&parameters, row->master_key, DATA_KEY_TAG_BYTES);
	parameters_add_bytes(&parameters, row->check_value, DATA_KEY_TAG_BYTES);
	parameters_add_time(&parameters, created_at);
	statement_write_one(&insert, &parameters, "data_key");
}

/* Stores a rewrapped data key. False: the transaction's snapshot does not see its row, which is newer. */
bool
key_statements_rewrap(const DataKeyRow *row)
{
	static Statement update = {
		.text = "UPDATE keyrot.data_key SET wrapped = $2, master_key = $3 WHERE id OPERATOR(pg_catalog.=) $1"
		" RETURNING wrapped OPERATOR(pg_catalog.=) $2 AND master_key OPERATOR(pg_catalog.=) $3",
		.success = SPI_OK_UPDATE_RETURNING,
		.types = {INT4OID, BYTEAOID, BYTEAOID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, Int32GetDatum(row->id));
	parameters_add_sealed(&parameters, &row->wrapped);
	parameters_add_bytes(&parameters, row->master_key, DATA_KEY_TAG_BYTES);
	return statement_try_write(&update, &parameters, "data_key");
}

/* Removes a data key. */
void
key_statements_delete(int32 id)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.data_key WHERE id OPERATOR(pg_catalog.=) $1",
		.success = SPI_OK_DELETE,
		.types = {INT4OID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, Int32GetDatum(id));
	statement_touch_one(&delete, &parameters, "data_key");
}

/* Whether any secret, current or previous, is sealed with a data key; reads all credentials if none is. */
bool
key_statements_seals_anything(int32 data_key)
{
#define SEALED_WITH(table) { \
	.text = "SELECT FROM keyrot." table " WHERE " KEY_OF("secret") " OPERATOR(pg_catalog.=) $1" \
	" OR " KEY_OF("previous_secret") " OPERATOR(pg_catalog.=) $1 LIMIT 1", \
	.success = SPI_OK_SELECT, \
	.types = {BYTEAOID}, \
}
	static Statement find_app = SEALED_WITH("app");
	static Statement find_zone = SEALED_WITH("zone");
	Parameters	parameters = {0};

	add_key_id(&parameters, data_key);
	return statement_run_without_rows(&find_app, &parameters) > 0 || statement_run_without_rows(&find_zone, &parameters) > 0;
#undef SEALED_WITH
}

#define SEALED_BEFORE(parameter) \
	"(" KEY_OF("secret") " OPERATOR(pg_catalog.<) " parameter \
	" OR " KEY_OF("previous_secret") " OPERATOR(pg_catalog.<) " parameter ")"

/* The number of credentials with a secret that is sealed with an older data key than this one; reads them all. */
int64
key_statements_count_sealed_before(int32 data_key)
{
#define COUNT(table, identifier) { \
	.text = "SELECT pg_catalog.count(*) FROM keyrot." table " WHERE " SEALED_BEFORE("$1"), \
	.success = SPI_OK_SELECT, \
	.types = {BYTEAOID}, \
}
	static Statement count[] = FOR_BOTH_KINDS(COUNT);
	Parameters	parameters = {0};

	add_key_id(&parameters, data_key);
	return statement_count(&count[0], &parameters) + statement_count(&count[1], &parameters);
#undef COUNT
}

/* An array of identifiers, with room for all that the statement returns. */
typedef struct Identifiers
{
	int			count;
	char		(*texts)[SEAL_MAX_IDENTIFIER + 1];
} Identifiers;

static void
read_identifier(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	Identifiers *identifiers = reader_state;
	bool		is_null;
	text	   *identifier = DatumGetTextPP(SPI_getbinval(tuple, desc, 1, &is_null));

	text_to_cstring_buffer(identifier, identifiers->texts[identifiers->count++], sizeof(identifiers->texts[0]));
}

/*
 * Locks the next credentials of a kind, in the order of their identifiers, that have a secret sealed with an older
 * data key than this one, and copies their identifiers; at most "count", and skipping locked rows. Returns their
 * number. If the tables are distributed, nothing is locked, because rows of several shards cannot be.
 */
int
key_statements_lock_sealed_before(CredentialKind kind, int32 data_key, const char *after, int32 limit,
								  char (*identifiers)[SEAL_MAX_IDENTIFIER + 1])
{
#define FIND_AND(table, identifier, lock) { \
	.text = "SELECT " identifier " FROM keyrot." table " WHERE " identifier " OPERATOR(pg_catalog.>) $2 AND " SEALED_BEFORE("$1") \
	" ORDER BY " identifier " LIMIT $3" lock, \
	.success = SPI_OK_SELECT, \
	.types = {BYTEAOID, TEXTOID, INT4OID}, \
	.custom_plans = true, \
}
#define FIND(table, identifier) FIND_AND(table, identifier, "")
#define LOCK(table, identifier) FIND_AND(table, identifier, " FOR NO KEY UPDATE SKIP LOCKED")
	static Statement find[] = FOR_BOTH_KINDS(FIND);
	static Statement lock[] = FOR_BOTH_KINDS(LOCK);
	Parameters	parameters = {0};
	Identifiers read = {.texts = identifiers};

	add_key_id(&parameters, data_key);
	parameters_add_text(&parameters, after);
	parameters_add(&parameters, Int32GetDatum(limit));
	(void) statement_run(tables_are_distributed() ? STATEMENT_FOR(kind, find) : STATEMENT_FOR(kind, lock), &parameters,
						 read_identifier, &read);
	return read.count;
#undef LOCK
#undef FIND
#undef FIND_AND
}

/* Records the progress of the reseal to a data key. */
void
key_statements_note_reseal(const ResealRow *row)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.reseal AS r (data_key, started_at, updated_at, ended_at, done, total)"
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (data_key) DO UPDATE"
		"   SET started_at = $2, updated_at = $3, ended_at = $4, done = $5, total = $6",
		.success = SPI_OK_INSERT,
		.types = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID},
	};
	Parameters	parameters = {0};

	parameters_add(&parameters, Int32GetDatum(row->data_key));
	parameters_add_time(&parameters, row->started_at);
	parameters_add_time(&parameters, row->updated_at);
	parameters_add_time(&parameters, row->ended_at);
	parameters_add(&parameters, Int64GetDatum(row->done));
	parameters_add(&parameters, Int64GetDatum(row->total));
	statement_touch_one(&insert, &parameters, "reseal");
}

static void
read_reseal(HeapTuple tuple, TupleDesc desc, void *reader_state)
{
	ResealRow  *row = reader_state;
	bool		is_null;

	row->data_key = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &is_null));
	row->started_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &is_null));
	row->updated_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 3, &is_null));
	row->ended_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &is_null));
	if (is_null)
		row->ended_at = NO_TIME;
	row->done = DatumGetInt64(SPI_getbinval(tuple, desc, 5, &is_null));
	row->total = DatumGetInt64(SPI_getbinval(tuple, desc, 6, &is_null));
}

/* The recorded progress of the latest reseal; returns whether there was any. */
bool
key_statements_find_reseal(ResealRow *row)
{
	static Statement select = {
		.text = "SELECT data_key, started_at, updated_at, ended_at, done, total FROM keyrot.reseal"
		" ORDER BY started_at DESC LIMIT 1",
		.success = SPI_OK_SELECT,
	};
	Parameters	none = {0};

	return statement_run(&select, &none, read_reseal, row) == 1;
}

/*
 * Commits the transaction and begins another, as COMMIT does in a procedure.  No snapshot may be active but the
 * caller's portal's.
 */
void
key_statements_commit(void)
{
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	SPI_finish();
}

/*
 * retry_statements.c
 *	  The statements on what client_tokens were used for.
 */
#include "store/retry_statements.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "store/statement.h"
#include "base/errors.h"

#define FROM_FIRST_USE "first_use"

/*
 * Records what a client_token is used for. Returns whether no caller of this name has used it before; if another
 * transaction is just using it, waits for that transaction to end.
 */
bool
retry_statements_reserve(const TokenRow *token)
{
	static Statement insert = {
		.text = "INSERT INTO keyrot.retry (caller, caller_oid, client_token, request_id, action, target, new_app_key,"
		"                          grace_period, grace_from, secret_given, created_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (caller, client_token) DO NOTHING",
		.success = SPI_OK_INSERT,
		.types = {TEXTOID, OIDOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, BOOLOID,
		TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, token->caller.name);
	parameters_add(&parameters, ObjectIdGetDatum(token->caller.oid));
	parameters_add_text(&parameters, token->client_token);
	parameters_add(&parameters, UUIDPGetDatum(&token->request_id));
	parameters_add_text(&parameters, token->action);
	parameters_add_text(&parameters, token->target);
	parameters_add_text_or_null(&parameters, token->new_app_key);
	parameters_add(&parameters, Int64GetDatum(token->grace));
	parameters_add_text(&parameters, token->from_first_use ? FROM_FIRST_USE : "rotation");
	parameters_add(&parameters, BoolGetDatum(token->secret_given));
	parameters_add_time(&parameters, token->created_at);
	return statement_run_without_rows(&insert, &parameters) == 1;
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
	token->caller.oid = DatumGetObjectId(SPI_getbinval(tuple, desc, 8, &is_null));
	token->from_first_use = DatumGetBool(SPI_getbinval(tuple, desc, 9, &is_null));
}

/*
 * Reads what a caller of this name, and with which OID, used a client_token for; returns whether there is such a
 * record.
 */
bool
retry_statements_find(const char *caller, const char *client_token, TokenRow *token)
{
	static Statement select = {
		.text = "SELECT request_id, action, target, new_app_key, grace_period, secret_given, version, caller_oid,"
		"       grace_from OPERATOR(pg_catalog.=) '" FROM_FIRST_USE "'"
		"  FROM keyrot.retry WHERE caller OPERATOR(pg_catalog.=) $1"
		"   AND client_token OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_SELECT,
		.types = {TEXTOID, TEXTOID},
		.by_key = true,
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, caller);
	parameters_add_text(&parameters, client_token);
	return statement_run(&select, &parameters, read_token, token) == 1;
}

/* Adds the version created by the request of a reserved client_token. */
void
retry_statements_finish(const char *caller, const char *client_token, int32 version)
{
	static Statement update = {
		.text = "UPDATE keyrot.retry SET version = $3 WHERE caller OPERATOR(pg_catalog.=) $1"
		"   AND client_token OPERATOR(pg_catalog.=) $2",
		.success = SPI_OK_UPDATE,
		.types = {TEXTOID, TEXTOID, INT4OID},
		.by_key = true,
	};
	Parameters	parameters = {0};

	parameters_add_text(&parameters, caller);
	parameters_add_text(&parameters, client_token);
	parameters_add(&parameters, Int32GetDatum(version));
	statement_touch_one(&update, &parameters, "retry");
}

static int64
rebind(Statement *update, Statement *find)
{
	Parameters	none = {0};
	uint64		count = statement_run_without_rows(update, &none);

	if (statement_run_without_rows(find, &none) > 0)
		error_not_written("retry");
	return (int64) count;
}

/*
 * For tokens whose caller's OID and name disagree, sets both to the role of that name or, if there is none, of that
 * OID, unless that role has such a token of its own. Returns the number of rows changed. Raises 22021 for a role
 * whose name is not valid in the database's encoding, and 55000 if a row was not written.
 */
int64
retry_statements_rebind(void)
{
#define OF_THAT_NAME \
	" pg_catalog.pg_roles AS r" \
	" WHERE r.rolname OPERATOR(pg_catalog.=) t.caller AND r.oid OPERATOR(pg_catalog.<>) t.caller_oid"
	/* If several tokens would become the same, only the one that was last used is kept. */
#define RENAMED \
	" pg_catalog.pg_roles AS r" \
	" WHERE r.oid OPERATOR(pg_catalog.=) t.caller_oid AND r.rolname OPERATOR(pg_catalog.<>) t.caller" \
	"   AND NOT EXISTS (SELECT FROM keyrot.retry AS other" \
	"                    WHERE other.client_token OPERATOR(pg_catalog.=) t.client_token" \
	"                      AND other.caller_oid OPERATOR(pg_catalog.=) t.caller_oid" \
	"                      AND (other.caller OPERATOR(pg_catalog.=) r.rolname" \
	"                           OR ROW(other.created_at, other.caller) OPERATOR(pg_catalog.>)" \
	"                              ROW(t.created_at, t.caller)))"
	static Statement rebind_named = {
		.text = "UPDATE keyrot.retry AS t SET caller_oid = r.oid FROM" OF_THAT_NAME,
		.success = SPI_OK_UPDATE,
	};
	static Statement find_named = {
		.text = "SELECT FROM keyrot.retry AS t," OF_THAT_NAME " LIMIT 1",
		.success = SPI_OK_SELECT,
	};
	static Statement rebind_renamed = {
		.text = "UPDATE keyrot.retry AS t SET caller = " VALID_NAME_OF("r") " FROM" RENAMED,
		.success = SPI_OK_UPDATE,
	};
	static Statement find_renamed = {
		.text = "SELECT FROM keyrot.retry AS t," RENAMED " LIMIT 1",
		.success = SPI_OK_SELECT,
	};
	int64		named = rebind(&rebind_named, &find_named);

	return named + rebind(&rebind_renamed, &find_renamed);
#undef RENAMED
#undef OF_THAT_NAME
}

/* Removes the records of client_tokens that were used before this time. */
void
retry_statements_prune(TimestampTz before)
{
	static Statement delete = {
		.text = "DELETE FROM keyrot.retry WHERE created_at OPERATOR(pg_catalog.<) $1",
		.success = SPI_OK_DELETE,
		.types = {TIMESTAMPTZOID},
	};
	Parameters	parameters = {0};

	parameters_add_time(&parameters, before);
	statement_run_without_rows(&delete, &parameters);
}

/*
 * administration.c
 *	  Owners made whole again, the state of keyrot, and the views' question whose rows a reader may see.
 */
#include "compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "errors.h"
#include "keyring.h"
#include "limit.h"
#include "master_key.h"
#include "request.h"
#include "rights.h"
#include "settings.h"
#include "store.h"
#include "tables.h"
#include "rows.h"

PG_FUNCTION_INFO_V1(keyrot_has_rights_of);
PG_FUNCTION_INFO_V1(keyrot_rebind_owners);
PG_FUNCTION_INFO_V1(keyrot_status);

#define STATUS_COLUMNS 9
#define MAX_DEGRADED 8

/* has_rights_of(role_id, role_name): NULL for a NULL, as SQL's functions answer */
Datum
keyrot_has_rights_of(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(rights_over(GetUserId(), PG_GETARG_OID(0), TextDatumGetCString(PG_GETARG_DATUM(1))) ==
				   RIGHTS_GRANTED);
}

static void
read_nothing(Request *request pg_attribute_unused())
{
}

static void
rebind_owners(Request *request)
{
	if (!superuser_arg(request->caller))
		error_superuser_only(request->action->name);
	request->rows = store_rebind_owners();
}

static Datum
answer_rows(Request *request)
{
	return Int64GetDatum(request->rows);
}

/* rebind_owners() */
Datum
keyrot_rebind_owners(PG_FUNCTION_ARGS)
{
	static const Action action = {
		"rebind_owners", REQUEST_OF_ADMINISTRATION, read_nothing, rebind_owners, answer_rows
	};

	return request_run(fcinfo, &action);
}

/* Adds a sentence to what is degraded. */
static void
degrade(Datum *degraded, int *count, const char *sentence)
{
	if (*count < MAX_DEGRADED)
		degraded[(*count)++] = CStringGetTextDatum(sentence);
}

static ArrayType *
list_degraded(const KeyringStatus *keys)
{
	Datum		degraded[MAX_DEGRADED];
	int			count = 0;

	if (keys->has_problem)
		degrade(degraded, &count, keys->problem.message);
	if (master_key_is_in_data_directory())
		degrade(degraded, &count, "the master key file is in the data directory, so every base backup holds it");
	if (!crypto_memory_is_locked())
		degrade(degraded, &count, "keys are in memory that may be swapped out: the limit on locked memory is too low");
	if (!settings_preloaded())
		degrade(degraded, &count, "rate limits hold per session: keyrot is not preloaded");
	degrade(degraded, &count, "failed requests are in the server log only, and requests that are rolled back nowhere");
	return construct_array(degraded, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/* status(OUT version, OUT openssl, OUT preloaded, OUT locked_memory, OUT master_key, OUT data_key, ...) */
Datum
keyrot_status(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[STATUS_COLUMNS] = {0};
	bool		nulls[STATUS_COLUMNS] = {false};
	KeyringStatus keys;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != STATUS_COLUMNS)
		elog(ERROR, "status() does not return a row of %d columns", STATUS_COLUMNS);
	tables_hold();
	keyring_examine(&keys);

	values[0] = CStringGetTextDatum(KEYROT_VERSION);
	values[1] = CStringGetTextDatum(crypto_library_version());
	values[2] = BoolGetDatum(settings_preloaded());
	values[3] = BoolGetDatum(crypto_memory_is_locked());
	nulls[4] = keys.master_key[0] == '\0';
	if (!nulls[4])
		values[4] = CStringGetTextDatum(keys.master_key);
	nulls[5] = keys.current == 0;
	values[5] = Int32GetDatum(keys.current);
	values[6] = Int32GetDatum(keys.data_keys);
	values[7] = Int64GetDatum(limit_overflows());
	values[8] = PointerGetDatum(list_degraded(&keys));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

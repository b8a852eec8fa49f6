/*
 * keys.c
 *	  The functions that replace master key and data keys.  They are no requests: no credential is theirs.
 */
#include "base/compat.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "core/request.h"
#include "keys/keyring.h"
#include "keys/master.h"
#include "store/tables.h"
#include "base/errors.h"

PG_FUNCTION_INFO_V1(keyrot_rotate_master_key);
PG_FUNCTION_INFO_V1(keyrot_rewrap_data_keys);
PG_FUNCTION_INFO_V1(keyrot_rotate_data_key);

static void
begin(const char *function)
{
	request_require_writable(function);
	tables_lock_shared();
}

/* Raises 55000 where the keys that are in use cannot be read: no new one is made beside them. */
static void
require_usable_keys(void)
{
	KeyringStatus status;

	(void) keyring_hold();
	keyring_examine(&status);
	if (status.has_problem)
		error_unusable_key(&status.problem);
}

/*
 * rotate_master_key(rewrap): the new key is in the file, durably and beside the older ones, before anything
 * depends on it; a rollback leaves a line more.
 */
Datum
keyrot_rotate_master_key(PG_FUNCTION_ARGS)
{
	char		fingerprint[MASTER_TEXT_FINGERPRINT_DIGITS + 1];
	KeyProblem	problem;
	MasterKeys *masters;

	begin("rotate_master_key");
	if (PG_ARGISNULL(0))
		error_missing(PARAM_REWRAP);
	require_usable_keys();
	masters = master_add(&problem);
	if (masters == NULL)
		error_unusable_key(&problem);
	master_text_format_fingerprint(masters->keys[0].fingerprint, fingerprint);
	master_free(masters);
	if (PG_GETARG_BOOL(0))
		(void) keyring_rewrap();
	PG_RETURN_TEXT_P(cstring_to_text(fingerprint));
}

/* rewrap_data_keys() */
Datum
keyrot_rewrap_data_keys(PG_FUNCTION_ARGS)
{
	begin("rewrap_data_keys");
	PG_RETURN_INT32(keyring_rewrap());
}

/* rotate_data_key() */
Datum
keyrot_rotate_data_key(PG_FUNCTION_ARGS)
{
	begin("rotate_data_key");
	PG_RETURN_INT32(keyring_add());
}

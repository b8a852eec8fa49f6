/*
 * keys.c
 *	  The functions that create and replace the master key and data keys, as requests whose target is the
 *	  fingerprint of the resulting master key, or the id of the resulting data key.
 */
#include "functions/function.h"

#include "utils/builtins.h"

#include "core/argument.h"
#include "keys/keyring.h"
#include "keys/master.h"
#include "keys/master_file.h"
#include "base/errors.h"
#include "base/notices.h"


static Datum
answer_fingerprint(Request *request)
{
	return PointerGetDatum(cstring_to_text(request->target));
}

static Datum
answer_rows(Request *request)
{
	return Int32GetDatum((int32) request->rows);
}

/* Locks the data keys and checks all keys: no key is created while there are data keys that cannot be read. */
static void
hold_and_examine(KeyringStatus *status)
{
	(void) keyring_lock_share_row_exclusive();
	keyring_examine(status);
}

/* Names the current one of these master keys as the request's target, and frees them. */
static void
take_fingerprint(Request *request, MasterKeys *masters)
{
	master_text_format_fingerprint(masters->keys[0].fingerprint, request->target);
	master_free(masters);
}

/* A rollback leaves the file, but then nothing depends on it. */
static void
create_master_key(Request *request)
{
	KeyringStatus status;
	KeyProblem	problem;
	MasterKeys *masters;
	bool		made;

	hold_and_examine(&status);
	if (status.data_keys > 0 && status.has_problem)
		error_unusable_key(&status.problem);
	masters = master_create(&made, &problem);
	if (masters == NULL)
		error_unusable_key(&problem);
	take_fingerprint(request, masters);
	if (!made)
		tell_master_key_exists(request->target);
	else if (master_file_is_in_data_directory())
		warn_key_in_data_directory();
}

/* create_master_key() */
REQUEST_FUNCTION(create_master_key, REQUEST_OF_ADMINISTRATION, NULL, create_master_key, answer_fingerprint);

static void
read_rotate_master_key(Request *request)
{
	argument_require(request->fcinfo, 0, PARAM_REWRAP);
}

/*
 * The new key is durably in the file, together with the older ones, before anything depends on it; a rollback
 * leaves an extra line.
 */
static void
rotate_master_key(Request *request)
{
	KeyringStatus status;
	KeyProblem	problem;
	MasterKeys *masters;

	hold_and_examine(&status);
	if (status.has_problem)
		error_unusable_key(&status.problem);
	masters = master_add(&problem);
	if (masters == NULL)
		error_unusable_key(&problem);
	take_fingerprint(request, masters);
	if (DatumGetBool(request->fcinfo->args[0].value))
		(void) keyring_rewrap(request->target);
}

/* rotate_master_key(rewrap) */
REQUEST_FUNCTION(rotate_master_key, REQUEST_OF_ADMINISTRATION, read_rotate_master_key, rotate_master_key, answer_fingerprint);

static void
rewrap_data_keys(Request *request)
{
	request->rows = keyring_rewrap(request->target);
}

/* rewrap_data_keys() */
REQUEST_FUNCTION(rewrap_data_keys, REQUEST_OF_ADMINISTRATION, NULL, rewrap_data_keys, answer_rows);

static void
rotate_data_key(Request *request)
{
	request->rows = keyring_add();
	pg_ltoa((int32) request->rows, request->target);
}

/* rotate_data_key() */
REQUEST_FUNCTION(rotate_data_key, REQUEST_OF_ADMINISTRATION, NULL, rotate_data_key, answer_rows);

/*
 * notices.c
 *	  Messages to users and to the server log that are not errors: LOG, WARNING, NOTICE.
 */
#include "base/notices.h"

#include "base/errors.h"

/* Logs that failed requests wait because the server cannot start a worker. */
REPORT_FUNCTION(LOG, log_no_worker_slot, (void),
				errmsg("could not start the background worker of keyrot"),
				errhint("Failed requests wait to be recorded. max_worker_processes may be too low."));

/*
 * Logs, to the server log only, that a request which returned a secret to its caller was rolled back.  Called
 * while a transaction ends; the statement that ended it is not logged, because it is irrelevant and may
 * contain a secret.
 */
REPORT_FUNCTION(LOG_SERVER_ONLY, log_disclosure_undone, (const char *request_id, const char *action, const char *target),
				errmsg("keyrot request %s: %s of \"%s\" was rolled back after the secret was returned to its caller",
					   request_id, action, target),
				errhidestmt(true),
				errhidecontext(true));

/* Warns that other libraries come after keyrot and see statements before it does. Returns. */
REPORT_FUNCTION(WARNING, warn_not_last, (void),
				errcode(ERRCODE_CONFIG_FILE_ERROR),
				errmsg("keyrot is not the last library in shared_preload_libraries"),
				errdetail("Libraries after it may store or log statements that contain secrets."),
				errhint("Move keyrot to the end of the list."));

/* Warns that a secret could not be moved to the current data key. Returns. */
REPORT_FUNCTION(WARNING, warn_does_not_open, (CredentialKind kind, const char *identifier),
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("could not open a sealed secret of %s \"%s\", leaving it unchanged", kind == CREDENTIAL_APP ? "app" : "zone", identifier),
				errhint("Rotate the credential, or restore its row from a backup, and then call reseal again."));

/* Reports how many credentials a reseal has moved, the total, and the estimated remaining time in microseconds. */
REPORT_FUNCTION(NOTICE, tell_reseal, (int64 done, int64 total, int64 time_left),
				errmsg("moved " INT64_FORMAT " of " INT64_FORMAT " credentials, about " INT64_FORMAT " s left",
					   done, total, (time_left + USECS_PER_SEC - 1) / USECS_PER_SEC));

/* Reports the result of a reseal. */
REPORT_FUNCTION(NOTICE, tell_reseal_end, (int data_key, int64 done, int64 unreadable, int dropped),
				errmsg("credentials moved to data key %d: " INT64_FORMAT "; older data keys dropped: %d",
					   data_key, done, dropped),
				unreadable > 0 ? errdetail("Could not open secrets of " INT64_FORMAT " credentials; their data keys were kept.", unreadable) : 0);

/* Reports that a key file already exists, and is not changed. */
REPORT_FUNCTION(NOTICE, tell_master_key_exists, (const char *fingerprint),
				errmsg("master key file already exists; its current key is %s", fingerprint));

/* Warns that the key is in the data directory, and is lost when that is replaced. Returns. */
REPORT_FUNCTION(WARNING, warn_key_in_data_directory, (void),
				errmsg("the new master key file is in the data directory"),
				errdetail("Base backups include it along with the data that it protects, and pg_rewind, a delta restore, or rebuilding a replica can remove it."),
				errhint("Keep a copy of it elsewhere, or move it out of the data directory and set keyrot.master_key_file."));

/* Reports that there is no data key, and therefore no secret. */
REPORT_FUNCTION(NOTICE, tell_nothing_to_reseal, (void),
				errmsg("nothing to reseal: this database has no data key yet"));

static const char *
plural_name(CredentialKind kind)
{
	return kind == CREDENTIAL_APP ? "apps" : "zones";
}

/* Reports how many credentials will be rotated, and the call that resumes this one if it is stopped. */
REPORT_FUNCTION(NOTICE, tell_bulk_begin, (CredentialKind kind, int64 total, const char *call),
				errmsg("%s to rotate: " INT64_FORMAT, plural_name(kind), total),
				errhint("To resume it after an interruption: %s", call));

/* Reports how many have been rotated, the rate per second, and the estimated remaining time in microseconds. */
REPORT_FUNCTION(NOTICE, tell_bulk, (CredentialKind kind, int64 done, int64 total, int64 rate, int64 time_left),
				errmsg("rotated " INT64_FORMAT " of " INT64_FORMAT " %s, " INT64_FORMAT " per second, about " INT64_FORMAT " s left",
					   done, total, plural_name(kind), rate, (time_left + USECS_PER_SEC - 1) / USECS_PER_SEC));

/* Reports the result of a bulk rotation. */
REPORT_FUNCTION(NOTICE, tell_bulk_end, (CredentialKind kind, int64 done),
				errmsg("%s rotated: " INT64_FORMAT, plural_name(kind), done));

/* Warns that a credential has reached its last version, and was not rotated. Returns. */
REPORT_FUNCTION(WARNING, warn_last_version, (CredentialKind kind, const char *identifier),
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("%s \"%s\" has reached its last version and was not rotated", kind == CREDENTIAL_APP ? "app" : "zone", identifier),
				errhint("Create another %s and delete this one.", kind == CREDENTIAL_APP ? "app" : "zone"));

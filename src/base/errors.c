/*
 * errors.c
 *	  Every error that a user of keyrot can encounter: its SQLSTATE, message and hint.
 *
 * A malformed value is never repeated in a message: it may be a secret in the wrong place.  Well-formed
 * identifiers are public names and are shown.
 */
#include "base/errors.h"

#include "mb/pg_wchar.h"

/* The user-visible name of a kind of credential, and the parameter that identifies one. */
static const char *
kind_name(CredentialKind kind)
{
	return kind == CREDENTIAL_APP ? "app" : "zone";
}

static const char *
kind_parameter(CredentialKind kind)
{
	return conditions_parameter(kind == CREDENTIAL_APP ? PARAM_APP_KEY : PARAM_ZONE_ID);
}

/* Names the constraint that a value collides with, as PostgreSQL's own unique violation does. */
static int
violated(const char *table, const char *constraint)
{
	err_generic_string(PG_DIAG_SCHEMA_NAME, "keyrot");
	err_generic_string(PG_DIAG_TABLE_NAME, table);
	return err_generic_string(PG_DIAG_CONSTRAINT_NAME, constraint);
}

/* A required value is NULL. */
ERROR_FUNCTION(error_missing, (Parameter parameter),
			   conditions_errcode(CONDITION_MISSING, parameter),
			   errmsg("%s must not be null", conditions_parameter(parameter)),
			   errhint("It must be %s.", conditions_accepted(parameter)));

/* A value, possibly an empty one, does not have an accepted form. */
ERROR_FUNCTION(error_malformed, (Parameter parameter),
			   conditions_errcode(CONDITION_MALFORMED, parameter),
			   errmsg("%s must be %s", conditions_parameter(parameter), conditions_accepted(parameter)));

/* A position of the change feed was given by another server, or by this one before it was restored. */
ERROR_FUNCTION(error_foreign_position, (void),
			   conditions_errcode(CONDITION_MALFORMED, PARAM_AFTER),
			   errmsg("after is a position of another database, or of a history that was lost"),
			   errhint("Forget what was learned from changes() and start anew, with null."));

/* The grace period is longer than the setting allows. */
ERROR_FUNCTION(error_grace_too_long, (void),
			   conditions_errcode(CONDITION_MALFORMED, PARAM_GRACE_PERIOD),
			   errmsg("grace_period must be an interval between 0 and keyrot.max_grace"),
			   errhint("A superuser may raise keyrot.max_grace."));

/* A grace period cannot begin with the first use, for uses are not noted. */
ERROR_FUNCTION(error_no_first_use, (bool preloaded),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("grace_from cannot be \"first_use\" where uses of credentials are not noted"),
			   preloaded ? errhint("Set keyrot.usage_entries above 0, and restart the server.") :
			   errhint("Add keyrot to shared_preload_libraries, and restart the server."));

/* The caller has already used the token for a different request. */
ERROR_FUNCTION(error_token_used, (void),
			   conditions_errcode(CONDITION_TOKEN_MISMATCH, PARAM_CLIENT_TOKEN),
			   errmsg("client_token was already used for a different request"),
			   errhint("Repeat the original call with the same parameters, or use another token."));

/* The secret set by the first request with this token is no longer current, so the answer would differ. */
ERROR_FUNCTION(error_token_superseded, (void),
			   conditions_errcode(CONDITION_TOKEN_MISMATCH, PARAM_CLIENT_TOKEN),
			   errmsg("client_token belongs to a request whose secret has since been replaced"),
			   errhint("The first call succeeded, but a later rotation followed. Describe the credential to get its current version."));

/* A role with the caller's name has used the token, but it may have been another role. */
ERROR_FUNCTION(error_token_of_namesake, (void),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for client_token"),
			   errdetail("It was used by a role with the caller's name that has since been dropped, renamed, or restored on another server."),
			   errhint("Use another token. If it is the same role, a superuser can call keyrot.rebind_owners()."));

/* The new secret of a rotation is the current one. */
ERROR_FUNCTION(error_same_secret, (void),
			   conditions_errcode(CONDITION_MALFORMED, PARAM_NEW_APP_SECRET),
			   errmsg("%s must not be the current secret", conditions_parameter(PARAM_NEW_APP_SECRET)),
			   errhint("Omit it to have a new one generated."));

/* The credential's version is the largest that its column can store. */
ERROR_FUNCTION(error_no_more_versions, (CredentialKind kind, const char *identifier),
			   errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			   errmsg("%s \"%s\" cannot have a version higher than %d", kind_name(kind), identifier, PG_INT32_MAX),
			   errhint("Create another %s and delete this one.", kind_name(kind)));

/* The AppKey has been issued before. */
ERROR_FUNCTION(error_app_key_taken, (Parameter parameter, const char *app_key),
			   conditions_errcode(CONDITION_TAKEN, parameter),
			   errmsg("%s \"%s\" is already taken", conditions_parameter(parameter), app_key),
			   errdetail("An AppKey cannot be used again, even after it has been replaced or its app has been deleted."),
			   errhint("Choose another AppKey, or omit it."),
			   violated("app", "app_pkey"));

/* The zone already has its key. */
ERROR_FUNCTION(error_zone_has_key, (const char *zone_id),
			   conditions_errcode(CONDITION_TAKEN, PARAM_ZONE_ID),
			   errmsg("zone \"%s\" already has a key", zone_id),
			   errhint("Use refresh_zone_key or modify_zone_key to replace it."),
			   violated("zone", "zone_pkey"));

/* The zone already has this gateway. */
ERROR_FUNCTION(error_gateway_exists, (const char *zone_id, const char *gateway_id),
			   conditions_errcode(CONDITION_TAKEN, PARAM_GATEWAY_ID),
			   errmsg("gateway \"%s\" of zone \"%s\" already exists", gateway_id, zone_id),
			   violated("gateway", "gateway_pkey"));

/* Another transaction has changed the row since the transaction's snapshot was taken. */
ERROR_FUNCTION(error_concurrent_update, (void),
			   errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			   errmsg("could not serialize access due to concurrent update"),
			   errhint("Retry the transaction."));

/* The calling statement, or a trigger, is changing the same row. */
ERROR_FUNCTION(error_changed_by_command, (void),
			   errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			   errmsg("the credential's row was already modified by the current command"));

/* There is no current app with this AppKey, or no zone with this ZoneId that has a key. */
ERROR_FUNCTION(error_no_such, (CredentialKind kind, const char *identifier),
			   conditions_errcode(CONDITION_NO_SUCH, kind == CREDENTIAL_APP ? PARAM_APP_KEY : PARAM_ZONE_ID),
			   errmsg("%s with %s \"%s\" does not exist", kind_name(kind), kind_parameter(kind), identifier));

/* The zone does not have this gateway. */
ERROR_FUNCTION(error_no_such_gateway, (const char *zone_id, const char *gateway_id),
			   conditions_errcode(CONDITION_NO_SUCH, PARAM_GATEWAY_ID),
			   errmsg("gateway with gateway_id \"%s\" does not exist in zone \"%s\"", gateway_id, zone_id));

/* The new owner was given as an OID that no role has. */
ERROR_FUNCTION(error_no_such_owner, (Oid role),
			   errcode(ERRCODE_UNDEFINED_OBJECT),
			   errmsg("owner role with OID %u does not exist", role));

/*
 * A role was named in a database with another encoding, and its name would make every dump of this one
 * unrestorable.
 */
ERROR_FUNCTION(error_role_name, (Oid role),
			   errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
			   errmsg("name of role with OID %u is not valid in encoding \"%s\"", role, GetDatabaseEncodingName()),
			   errhint("Rename the role from a database that uses the encoding in which its name was given."));

/* The caller does not have the privileges of the credential's owner. */
ERROR_FUNCTION(error_not_owner, (CredentialKind kind, const char *identifier),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for %s \"%s\"", kind_name(kind), identifier),
			   errhint("Only superusers, operators, and roles with the privileges of its owner may act on it."));

/* The owner's OID and name no longer belong to the same role. */
ERROR_FUNCTION(error_owner_changed, (CredentialKind kind, const char *identifier),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for %s \"%s\"", kind_name(kind), identifier),
			   errdetail("The role that owned it has been dropped, renamed, or restored on another server."),
			   errhint("Operators can still act on it. A superuser can call keyrot.rebind_owners()."));

/* The caller does not have the privileges of the new owner. */
ERROR_FUNCTION(error_not_member, (const char *role_name),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("must have the privileges of role \"%s\" to make it the owner", role_name));

/* The action requires a superuser, regardless of grants. */
ERROR_FUNCTION(error_superuser_only, (const char *action),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for %s", action),
			   errhint("Only superusers may call it."));

/* Called where PostgreSQL runs a user's code as another role. */
ERROR_FUNCTION(error_restricted, (const char *action),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("cannot call %s within a security-restricted operation", action));

/* The connection's options contain a value for a setting that its user is not allowed to set. */
ERROR_FUNCTION(error_connection_option, (const char *setting),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied to set parameter \"%s\"", setting),
			   errdetail("It was set in the options of this connection."),
			   errhint("Connect without that option."));

/* A server-wide setting was set for a database, a role or a connection. */
ERROR_FUNCTION(error_servers_setting, (const char *setting),
			   errcode(ERRCODE_CANT_CHANGE_RUNTIME_PARAM),
			   errmsg("parameter \"%s\" cannot be set for a database, a role, or a connection", setting),
			   errhint("Set it in postgresql.conf, and remove the other value with ALTER DATABASE ... RESET or ALTER ROLE ... RESET."));

/* When to try again, in nanoseconds, rounded up so that waiting that long is long enough. */
static int
try_again(int64 wait)
{
	long long	microseconds = (wait + 999) / 1000;

	return errhint("Try again in %lld.%03lld ms.", microseconds / 1000, microseconds % 1000);
}

/* The caller has reached its limit for this second; it may call again after the wait, in nanoseconds. */
ERROR_FUNCTION(error_too_many_requests, (const char *action, int per_second, int64 wait),
			   errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			   errmsg("too many requests: the limit for %s is %d per second", action, per_second),
			   try_again(wait));

/* The call cannot be counted; an entry becomes free after the wait, in nanoseconds, unless others take it. */
ERROR_FUNCTION(error_limit_table_full, (const char *action, int64 wait),
			   errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			   errmsg("too many requests: no room to count this call of %s", action),
			   errdetail("keyrot.rate_limit_entries limits how many callers and functions are counted at the same time."),
			   try_again(wait));

/* Formats the message for a problem with the master key, truncated if it does not fit; %m is supported. */
void
problem_set(KeyProblem *problem, const char *hint, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(problem->message, sizeof(problem->message), format, arguments);
	va_end(arguments);
	problem->missing = false;
	strlcpy(problem->hint, hint, sizeof(problem->hint));
}

/* The master key is missing or wrong, so that no secret can be used. */
ERROR_FUNCTION(error_unusable_key, (const KeyProblem *problem),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("%s", problem->message),
			   errhint("%s", problem->hint));

/* The credential is disabled and cannot sign. */
ERROR_FUNCTION(error_disabled, (CredentialKind kind, const char *identifier),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("%s \"%s\" is disabled", kind_name(kind), identifier),
			   errhint("Enable it with %s().", kind == CREDENTIAL_APP ? "enable_app" : "enable_zone"));

/* The lifetime of the credential's version has ended. */
ERROR_FUNCTION(error_expired, (CredentialKind kind, const char *identifier),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("the secret of %s \"%s\" has expired", kind_name(kind), identifier),
			   errhint("Rotate it to start a new lifetime."));

/* There is no previous version to return to. */
ERROR_FUNCTION(error_nothing_in_grace, (CredentialKind kind, const char *identifier),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("%s \"%s\" has no previous version in a grace period", kind_name(kind), identifier),
			   errhint("A rotation can be reverted only during its grace period."));

/* The previous version belongs to another AppKey, which cannot be restored. */
ERROR_FUNCTION(error_app_key_changed, (const char *app_key),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("cannot revert the last rotation of app \"%s\", because it changed the AppKey", app_key),
			   errhint("Use reset_app_secret(), with new_app_secret to restore an earlier secret."));

/* A sealed secret is not the one that was sealed for this row and version. */
ERROR_FUNCTION(error_does_not_open, (CredentialKind kind, const char *identifier, int version),
			   errcode(ERRCODE_DATA_CORRUPTED),
			   errmsg("could not open the sealed secret of %s \"%s\", version %d", kind_name(kind), identifier, version),
			   errdetail("It was changed in storage, or it belongs to another row or version."),
			   errhint("Rotate the credential, or restore its row from a backup."));

/* OpenSSL failed. */
void
error_crypto(CryptoStatus status)
{
	if (status == CRYPTO_NO_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Failed in a cryptographic operation or while allocating memory for keys.")));
	if (status == CRYPTO_MISSING)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s is not available", crypto_missing_algorithm()),
				 errdetail("No active provider of %s offers it.", crypto_library_version()),
				 errhint("Use another algorithm if possible, or activate a provider that offers this one in "
						 "OpenSSL's configuration and restart the server.")));
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("cryptographic operation failed"),
			 errdetail("%s gave no reason.", crypto_library_version())));
}

/* The tables that a function would access are not those of the extension. */
ERROR_FUNCTION(error_not_installed, (void),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("extension \"keyrot\" is not installed in this database, or its tables were removed from it"),
			   errhint("Use CREATE EXTENSION keyrot. Its tables must remain tables of that extension."));

/* A column that functions read by its position and type was altered. */
ERROR_FUNCTION(error_column_changed, (const char *table, const char *column),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("column \"%s\" of table \"keyrot.%s\" is not as the extension created it", column, table),
			   errdetail("It was dropped or renamed, or its type, collation, or NOT NULL constraint was changed."),
			   errhint("Restore the column with its original definition and position, or restore the table."));

/* Nothing of ours stood in the way, and yet the row is not there, or is another one. */
ERROR_FUNCTION(error_not_written, (const char *table),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("a row of table \"keyrot.%s\" was not written as it should be", table),
			   errhint("Look for a trigger or policy on the table that changes rows, or prevents them from being written."));

/* Somebody has made a rule, which would rewrite what keyrot does. */
ERROR_FUNCTION(error_rule, (const char *table),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("rules on table \"keyrot.%s\" are not supported", table),
			   errhint("Drop the rule, or use a trigger in its place."));


/*
 * Errors that only api() can raise.  An unknown action or parameter is never repeated: it may be a secret in
 * the wrong place.
 */

/* Neither cloud has the action, or none was given. */
ERROR_FUNCTION(error_unknown_action, (void),
			   conditions_errcode(CONDITION_UNKNOWN_ACTION, PARAM_PARAMS),
			   errmsg("unknown action"),
			   errhint("Action names are case-sensitive, as in ResetAppSecret."));

/* The action belongs to another version of its cloud's API. */
ERROR_FUNCTION(error_unknown_version, (const char *accepted),
			   conditions_errcode(CONDITION_UNKNOWN_VERSION, PARAM_PARAMS),
			   errmsg("Version must be \"%s\" for this action", accepted));

/*
 * The action does not have this parameter; "name" is its name, or NULL if it does not look like a parameter
 * name: then it is not repeated, because it may be a secret.
 */
ERROR_FUNCTION(error_unknown_parameter, (const char *name, const char *known),
			   conditions_errcode(CONDITION_UNKNOWN_PARAMETER, PARAM_PARAMS),
			   name == NULL ? errmsg("unknown parameter") : errmsg("unknown parameter \"%s\"", name),
			   errhint("The action accepts %s and the parameters common to all actions.", known));

/* Neither the number nor the AppKey of an app was given. */
ERROR_FUNCTION(error_missing_app, (void),
			   conditions_errcode(CONDITION_MISSING, PARAM_APP_ID),
			   errmsg("AppId or AppKey must be specified"));

/* A value has a JSON type that the parameter does not accept. */
ERROR_FUNCTION(error_wrong_type, (Parameter parameter),
			   conditions_errcode(CONDITION_WRONG_TYPE, parameter),
			   errmsg("%s has the wrong JSON type", conditions_parameter(parameter)),
			   errhint("It must be %s.", conditions_accepted(parameter)));

/* The caller may call api(), but not the function that the action stands for. */
ERROR_FUNCTION(error_may_not_call, (const char *function),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for function %s", function));

/* The number and the AppKey belong to different apps. */
ERROR_FUNCTION(error_other_app, (void),
			   conditions_errcode(CONDITION_MALFORMED, PARAM_APP_KEY),
			   errmsg("app_key does not belong to the app with this AppId"),
			   errhint("Specify only one of the two."));

/* There is no current app with this number. */
ERROR_FUNCTION(error_no_such_app_id, (int64 app_id),
			   conditions_errcode(CONDITION_NO_SUCH, PARAM_APP_ID),
			   errmsg("app with AppId " INT64_FORMAT " does not exist", app_id));

/* The caller does not have the privileges of the app's owner, and must not learn the AppKey from its number. */
ERROR_FUNCTION(error_not_owner_of_app_id, (int64 app_id),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for app with AppId " INT64_FORMAT, app_id),
			   errhint("Only superusers, operators, and roles with the privileges of its owner may act on it."));

/*
 * A procedure that commits was called where it cannot commit: in a transaction block, a function, or an exception
 * block.
 */
ERROR_FUNCTION(error_in_transaction, (const char *procedure),
			   errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			   errmsg("%s cannot run inside a transaction block", procedure),
			   errdetail("It commits after each batch."),
			   errhint("Use CALL at the top level, outside transaction blocks and functions."));

/* Another reseal is running. */
ERROR_FUNCTION(error_reseal_runs, (void),
			   errcode(ERRCODE_OBJECT_IN_USE),
			   errmsg("reseal is already running in this database"),
			   errhint("keyrot.status() shows its progress."));

/* The data key that secrets are moved to no longer exists. */
ERROR_FUNCTION(error_data_key_gone, (int data_key),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("data key %d, to which reseal moves secrets, no longer exists", data_key),
			   errdetail("The extension was re-created, or its tables were restored, in the meantime."),
			   errhint("Call reseal again."));

/* Neither an owner, nor all_owners, nor a list was given. "list" is the parameter for the list. */
ERROR_FUNCTION(error_no_choice, (Parameter list),
			   conditions_errcode(CONDITION_MISSING, PARAM_OWNER),
			   errmsg("one of owner, all_owners and %s must be specified", conditions_parameter(list)));

/* More than one of them was given. */
ERROR_FUNCTION(error_several_choices, (Parameter list),
			   conditions_errcode(CONDITION_MALFORMED, PARAM_OWNER),
			   errmsg("only one of owner, all_owners and %s can be specified", conditions_parameter(list)));

/* The caller does not have the privileges of the owner whose credentials are to be rotated. */
ERROR_FUNCTION(error_not_of_owner, (const char *action, const char *owner_name),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for %s of role \"%s\"", action, owner_name),
			   errhint("Only superusers, operators, and roles with the privileges of that role may act on what it owns."));

/* The caller is not an operator, and gave all_owners. */
ERROR_FUNCTION(error_operator_only, (const char *action),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for %s of all owners", action),
			   errhint("Only superusers, and roles with the privileges of keyrot.operator_role, may use all_owners."));

/* There is no Citus in this database, or one that is too old: its major version; 0: none. */
ERROR_FUNCTION(error_no_citus, (int version),
			   errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			   version == 0 ? errmsg("Citus is not installed in this database") :
			   errmsg("Citus %d is too old for distribute", version),
			   errdetail("Only a cluster of Citus 12 or later can hold keyrot's tables."),
			   errhint("Install it on every node, and create the extension \"citus\" here."));

/* The tables have been distributed before. */
ERROR_FUNCTION(error_is_distributed, (void),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("keyrot's tables are already distributed"));

/* What only a distributed installation has was called elsewhere. */
ERROR_FUNCTION(error_is_not_distributed, (const char *function),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("%s is only for tables that are distributed", function));

/* A table has something that no distributed table may have; the obstacle is in words, as "has a trigger". */
ERROR_FUNCTION(error_cannot_distribute, (const char *table, const char *obstacle),
			   errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			   errmsg("table keyrot.%s cannot be distributed", table),
			   errdetail("It %s.", obstacle),
			   errhint("Remove what was added to the table, and call distribute again."));

/* What a credential's grace period waits for is known on one node only. */
ERROR_FUNCTION(error_awaits_first_use, (void),
			   errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			   errmsg("a grace period waits for the first use of a version"),
			   errdetail("In a cluster each node notes only its own uses, so no grace period can begin with one."),
			   errhint("Wait for its end, or end it: see end_app_grace and end_zone_grace."));

/* No role has the owner's name, which alone identifies an owner if the tables are distributed. */
ERROR_FUNCTION(error_owner_unknown, (CredentialKind kind, const char *identifier),
			   errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			   errmsg("permission denied for %s \"%s\"", kind_name(kind), identifier),
			   errdetail("There is no role on this node that has the name of its owner."),
			   errhint("Operators can still act on it, and give it another owner."));

/* What cannot work if the tables are distributed: its name, and why. */
ERROR_FUNCTION(error_not_distributable, (const char *what, const char *reason),
			   errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			   errmsg("%s is not available where keyrot's tables are distributed", what),
			   errdetail("%s", reason));

/* The caller expects a view's rows to have other columns than they have. */
ERROR_FUNCTION(error_columns_of_view, (void),
			   errcode(ERRCODE_DATATYPE_MISMATCH),
			   errmsg("the columns are not those of the view"));

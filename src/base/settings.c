/*
 * settings.c
 *	  Defines every setting of keyrot and owns its value.
 *
 * The values are read from these variables only, never through current_setting(): there, a placeholder that
 * any user may SET before the library is loaded looks the same as a value set by the administrator.
 */
#include "base/compat.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"

#include "base/errors.h"
#include "base/settings.h"
#include "crypto/secret.h"

#define PREFIX "keyrot"

char	   *keyrot_master_key_file;
char	   *keyrot_master_key_command;
int			keyrot_master_key_timeout;
char	   *keyrot_operator_role;
char	   *keyrot_app_secret_prefix;
int			keyrot_max_grace;
int			keyrot_zone_rate_limit;
int			keyrot_app_rate_limit;
int			keyrot_rate_limit_entries;
char	   *keyrot_database;
int			keyrot_request_queue_size;
int			keyrot_usage_entries;
bool		keyrot_redact_log;
bool		keyrot_notify;

static bool preloaded = false;

static pg_atomic_uint64 own_reloads;
static pg_atomic_uint64 *reloads = &own_reloads;

/* Whether a setting is server-wide, the same in all sessions. */
static bool
is_servers(const char *name)
{
	static const char *const servers[] = {
		"keyrot.master_key_file", "keyrot.master_key_command", "keyrot.master_key_timeout", "keyrot.database",
		"keyrot.rate_limit_entries", "keyrot.request_queue_size", "keyrot.usage_entries"
	};

	for (size_t i = 0; i < lengthof(servers); i++)
		if (pg_strcasecmp(name, servers[i]) == 0)
			return true;
	return false;
}

/*
 * Refuses a session that started with a forbidden value for one of keyrot's settings: given in the
 * connection's options by a user who is not allowed to set it, or, for a server-wide setting, given by anyone
 * for a database, a role or a connection.  Until the library is loaded, such a value replaces the configured
 * one, and when it is rejected the configured one is lost with it: the setting would fall back to its
 * built-in default, and the master key would be looked for, or created, in the wrong place.  (A value that a
 * session SETs does not replace the configured one, and does no harm.)
 */
static void
refuse_session_values(void)
{
	int			count;
	struct config_generic **settings = KEYROT_GUC_VARIABLES(&count);

	for (int i = 0; i < count; i++)
	{
		const struct config_generic *setting = settings[i];

		if (pg_strncasecmp(setting->name, PREFIX ".", strlen(PREFIX ".")) != 0)
			continue;
		if (setting->reset_source > PGC_S_ARGV && is_servers(setting->name))
			error_servers_setting(setting->name);
		if (setting->reset_source == PGC_S_CLIENT && setting->reset_scontext == PGC_BACKEND &&
			pg_parameter_aclcheck(setting->name, setting->reset_srole, ACL_SET) != ACLCHECK_OK)
			error_connection_option(setting->name);
	}
}

/*
 * Counts reloads of the configuration.  A reload assigns every setting that is in a configuration file again,
 * whether it has changed or not: first in the postmaster, which then signals the other processes to reload.
 * If the processes share the counter, only the postmaster counts, because otherwise each process would count
 * the same reload again.
 */
static void
count_reload(const char *value pg_attribute_unused(), void *extra pg_attribute_unused())
{
	if (!preloaded || !IsUnderPostmaster)
		(void) pg_atomic_fetch_add_u64(reloads, 1);
}

static bool
check_app_secret_prefix(char **value, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	if (secret_is_prefix(*value, strlen(*value)))
		return true;
	GUC_check_errdetail("It must consist of at most %d characters of A-Z, a-z, 0-9, and \"_\".", APP_SECRET_PREFIX_MAX);
	return false;
}

/* Settings that hold for the whole server and may change with a reload. */
static void
define_master_key(void)
{
	DefineCustomStringVariable("keyrot.master_key_file",
							   "File with the master key that wraps keyrot's data keys.",
							   "64 hex digits per line, the current key first. A relative path is taken from the data directory.",
							   &keyrot_master_key_file, "keyrot_master.key",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("keyrot.master_key_command",
							   "Shell command that prints the master key that wraps keyrot's data keys.",
							   "64 hex digits per line, the current key first. If empty, keyrot.master_key_file is read.",
							   &keyrot_master_key_command, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, count_reload, NULL);
	DefineCustomIntVariable("keyrot.master_key_timeout",
							"Maximum time that keyrot.master_key_command may take.",
							NULL,
							&keyrot_master_key_timeout, 10000, 100, 600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/*
 * Settings that take effect at server start.  A library that is loaded later cannot define such settings, but would warn
 * about them in the server's configuration if it did not define them at all: so in that case they can be read, but have
 * no effect.
 */
static void
define_server_settings(void)
{
	GucContext	context = preloaded ? PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomStringVariable("keyrot.database",
							   "Database whose failed requests are recorded and whose expired secrets are wiped.",
							   "Takes effect only if keyrot is in shared_preload_libraries. If empty, there is no such database.",
							   &keyrot_database, "",
							   context, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("keyrot.request_queue_size",
							"Maximum number of failed requests that wait in shared memory to be recorded.",
							NULL,
							&keyrot_request_queue_size, 4096, 64, 65536,
							context, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("keyrot.usage_entries",
							"How many credentials' last use is kept in shared memory.",
							"Each takes about 240 bytes. 0: last use is not kept, and no grace period can begin with the first use.",
							&keyrot_usage_entries, 65536, 0, 4194304,
							context, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("keyrot.rate_limit_entries",
							"Maximum number of callers and functions whose calls are counted at the same time.",
							"Each takes 8 kB of shared memory, allocated at server start, if keyrot is preloaded; otherwise of the session's memory, when needed.",
							&keyrot_rate_limit_entries, 512, 16, 65536,
							context, 0, NULL, NULL, NULL);
}

/* Settings of sessions, for superusers. */
static void
define_session_settings(void)
{
	DefineCustomStringVariable("keyrot.operator_role",
							   "Role whose members may act on every credential.",
							   "If empty, or if the role does not exist, only superusers may.",
							   &keyrot_operator_role, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("keyrot.max_grace",
							"Maximum grace period of a rotation.",
							NULL,
							&keyrot_max_grace, 30 * SECS_PER_DAY, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("keyrot.zone_rate_limit",
							"Maximum number of calls per second that a caller may make of each zone function.",
							"0 means no limit.",
							&keyrot_zone_rate_limit, 20, 0, MAX_RATE_LIMIT,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("keyrot.app_rate_limit",
							"Maximum number of calls per second that a caller may make of each app function.",
							"0 means no limit.",
							&keyrot_app_rate_limit, 0, 0, MAX_RATE_LIMIT,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("keyrot.app_secret_prefix",
							   "Prefix of generated AppSecrets, so that scanners for leaked secrets recognize them.",
							   "Secrets with a prefix end with a checksum. If empty, secrets of 64 hex digits are generated.",
							   &keyrot_app_secret_prefix, "",
							   PGC_SUSET, 0, check_app_secret_prefix, NULL, NULL);
	DefineCustomBoolVariable("keyrot.redact_log",
							 "Keeps secrets out of the server log and of statement statistics.",
							 NULL,
							 &keyrot_redact_log, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("keyrot.notify",
							 "Notifies listeners on the channel \"keyrot\" of each committed rotation.",
							 "Transactions that notify commit one after the other, and cannot be prepared.",
							 &keyrot_notify, false,
							 PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Defines the settings; must be called first when the library is loaded. May raise 42501 or 55P02, see above. */
void
settings_init(void)
{
	preloaded = process_shared_preload_libraries_in_progress;
	pg_atomic_init_u64(&own_reloads, 0);
	if (!preloaded)
		refuse_session_values();
	define_master_key();
	define_server_settings();
	define_session_settings();
	MarkGUCPrefixReserved(PREFIX);
}

/* Whether the library was loaded by shared_preload_libraries at server start, not by a session. */
bool
settings_preloaded(void)
{
	return preloaded;
}

/*
 * The number of reloads of the configuration, provided that keyrot.master_key_command is set in a
 * configuration file: since server start if the library is preloaded, else since the start of this session.
 */
uint64
settings_reloads(void)
{
	return pg_atomic_read_u64(reloads);
}

/* Makes reloads be counted in this variable, in memory that all processes share. */
void
settings_count_reloads_in(pg_atomic_uint64 *counter)
{
	reloads = counter;
}

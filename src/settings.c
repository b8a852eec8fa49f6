/*
 * settings.c
 *	  Defines every setting of keyrot and owns its value.
 *
 * The values are read from these variables only, never through current_setting(): a placeholder that
 * any user may SET before the library is loaded looks the same there as the administrator's word.
 */
#include "compat.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "settings.h"

#define SECONDS_PER_DAY 86400
#define DEFAULT_MAX_GRACE (30 * SECONDS_PER_DAY)

char	   *keyrot_master_key_file;
char	   *keyrot_operator_role;
int			keyrot_max_grace;

static bool preloaded = false;

/* Defines the settings; called once, when the library is loaded. */
void
settings_init(void)
{
	DefineCustomStringVariable("keyrot.master_key_file",
							   "File with the master key that wraps keyrot's data keys.",
							   "64 hex digits a line, the current key first. A relative path starts in the data directory.",
							   &keyrot_master_key_file,
							   "keyrot_master.key",
							   PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("keyrot.operator_role",
							   "Role whose members act on every credential.",
							   "Empty, or a role that does not exist: none but superusers.",
							   &keyrot_operator_role,
							   "",
							   PGC_SUSET,
							   0,
							   NULL, NULL, NULL);

	DefineCustomIntVariable("keyrot.max_grace",
							"Longest grace period that a rotation may give the previous version.",
							NULL,
							&keyrot_max_grace,
							DEFAULT_MAX_GRACE,
							0,
							INT_MAX,
							PGC_SUSET,
							GUC_UNIT_S,
							NULL, NULL, NULL);

	MarkGUCPrefixReserved("keyrot");
	preloaded = process_shared_preload_libraries_in_progress;
}

/* Whether the library was loaded by shared_preload_libraries, with the server and not with a session. */
bool
settings_preloaded(void)
{
	return preloaded;
}

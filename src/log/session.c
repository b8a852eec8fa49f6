/*
 * session.c
 *	  What of a text counts in this session: whether keyrot is installed, and what is prepared.
 *
 * In a database without keyrot only names behind "keyrot." count, so that functions and tables of others'
 * keep their messages.  Reports need to know before any statement has run, and may not look into catalogs:
 * the transaction in which a session starts looks, right before its end.
 */
#include "log/session.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "commands/prepare.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* Bits of a cached plan's cursor options that PostgreSQL has no use for: what its text was found to be. */
#define PREPARED_HARMLESS	(1 << 29)
#define PREPARED_CALLS		(1 << 30)

static Oid	schema = InvalidOid;	/* keyrot's, where it is installed */
static bool is_known = false;
static bool watching = false;

static void
forget(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(), uint32 hash pg_attribute_unused())
{
	is_known = false;
}

/* Looks whether keyrot is installed, where it is not known (any more).  To be called in a transaction. */
void
session_learn(void)
{
	if (is_known || !OidIsValid(MyDatabaseId) || !IsTransactionState())
		return;
	if (!watching)
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget, (Datum) 0);
	watching = true;
	is_known = true;
	schema = get_namespace_oid("keyrot", true);
	if (OidIsValid(schema) && !OidIsValid(get_extension_oid("keyrot", true)))
		schema = InvalidOid;
}

/* Whether keyrot is installed, as far as the session knows. */
bool
session_has_keyrot(void)
{
	return OidIsValid(schema);
}

/* Whether a function is keyrot's.  To be called in a transaction that has not failed; may raise errors. */
bool
session_owns_function(unsigned function)
{
	return OidIsValid(schema) && function >= FirstNormalObjectId && get_func_namespace(function) == schema;
}

static void
learn_at_start(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_COMMIT && !watching && !IsBootstrapProcessingMode())
		session_learn();
}

/*
 * What EXECUTE of this name, which may be too long, runs.  A long text is read once, and the answer kept with its
 * plan.
 */
static NamesPrepared
look_up_prepared(const char *name)
{
	char		known[NAMEDATALEN];
	PreparedStatement *statement;
	CachedPlanSource *source;

	strlcpy(known, name, (size_t) pg_mbcliplen(name, (int) strlen(name), NAMEDATALEN - 1) + 1);
	statement = FetchPreparedStatement(known, false);
	if (statement == NULL)
		return NAMES_UNKNOWN;
	source = statement->plansource;
	if ((source->cursor_options & (PREPARED_HARMLESS | PREPARED_CALLS)) == 0)
	{
		NamesText	text = session_text(source->query_string, strlen(source->query_string));

		text.prepared = NULL;
		source->cursor_options |= names_call_occurs(&text) ? PREPARED_CALLS : PREPARED_HARMLESS;
	}
	return (source->cursor_options & PREPARED_CALLS) != 0 ? NAMES_CALLS : NAMES_HARMLESS;
}

/* A text to be judged where nothing may be raised; it is the caller's. */
NamesText
session_text(const char *text, size_t length)
{
	return (NamesText) {
		.text = text, .length = length, .is_installed = OidIsValid(schema), .prepared = look_up_prepared
	};
}

static void
pause_for_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* As session_text(), where judging may be cancelled. */
NamesText
session_text_in_hook(const char *text, size_t length)
{
	NamesText	result = session_text(text, length);

	result.pause = pause_for_interrupts;
	return result;
}

/* Lets each session look when it starts; called once, when the library is loaded. */
void
session_init(void)
{
	RegisterXactCallback(learn_at_start, NULL);
}

/*
 * session.c
 *	  What the judgement of a text depends on in this session: whether keyrot is installed, and what is prepared.
 *
 * In a database without keyrot only names after "keyrot." count, so that other people's functions and tables keep
 * their messages.  Reports need to know this before any statement has run, but must not access catalogs; so it is
 * looked up at the end of the transaction in which the session starts.
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

/* Bits of a plan source's cursor options that PostgreSQL does not use: whether its text was judged, and how. */
#define PREPARED_HARMLESS	(1 << 29)
#define PREPARED_CALLS		(1 << 30)

static Oid	schema = InvalidOid;	/* keyrot's, if it is installed */
static bool is_known = false;
static bool watching = false;

static void
forget(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(), uint32 hash pg_attribute_unused())
{
	is_known = false;
}

/* Looks up whether keyrot is installed, if that is not known or may have changed.  Does nothing outside a transaction. */
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

/* Whether a function is keyrot's.  Must be called in a transaction that has not failed; may raise errors. */
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
 * What EXECUTE of this name, which may have to be truncated, runs.  The answer is kept with the plan source: a text may
 * have thousands of EXECUTEs in it, and the prepared statement may be long.
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

/* A text to be judged where no error may be raised.  It is not copied. */
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

/* The same where judging may be cancelled. */
NamesText
session_text_in_hook(const char *text, size_t length)
{
	NamesText	result = session_text(text, length);

	result.pause = pause_for_interrupts;
	return result;
}

/* Makes each session look when it starts.  Called once, when the library is loaded. */
void
session_init(void)
{
	RegisterXactCallback(learn_at_start, NULL);
}

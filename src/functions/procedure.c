/*
 * procedure.c
 *	  What procedures that commit after each batch have in common.
 */
#include "functions/procedure.h"

#include "access/xact.h"
#include "nodes/parsenodes.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/request.h"
#include "store/key_statements.h"
#include "store/tables.h"
#include "base/errors.h"

/* Raises 25001 if the procedure could not commit. */
void
procedure_require_top_level(FunctionCallInfo fcinfo, const char *name)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic)
		error_in_transaction(name);
}

/*
 * Begins the work of a transaction that has just started: at the isolation level READ COMMITTED, whatever the
 * session's default, and in a memory context of its own.
 */
void
procedure_begin_work(const char *name, MemoryContext context)
{
	XactIsoLevel = XACT_READ_COMMITTED;
	request_require_writable(name);
	tables_lock_access_share();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(context);
}

/* Ends that work and frees its memory; the transaction continues. */
void
procedure_end_work(MemoryContext context)
{
	MemoryContextSwitchTo(MemoryContextGetParent(context));
	MemoryContextReset(context);
	PopActiveSnapshot();
}

/* Ends it, commits, and starts another transaction. */
void
procedure_commit_work(MemoryContext context)
{
	procedure_end_work(context);
	key_statements_commit();
}

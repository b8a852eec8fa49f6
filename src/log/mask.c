/*
 * mask.c
 *	  Statements without secrets, for libraries that store or print them: pg_stat_statements, auto_explain,
 *	  pgaudit and the like.
 *
 * They receive the text of a statement in four hooks, and extract parts of it by position and length, so each
 * hook passes on a copy of the same length.  keyrot is preloaded last, therefore its hooks are called first.
 * The server itself keeps texts with saved plans, and a listing of memory contexts prints them to stderr,
 * bypassing any hook; so those are overwritten in place.  The server needs them only for positions of errors, and
 * shows them in pg_prepared_statements.
 *
 * While a statement that calls keyrot is running, an error context callback is installed.  It marks each report
 * that is raised, in a field of that report, so that no state is left behind when an error is caught.  Whether a
 * statement calls keyrot is stored in its plan, so that the executor's hooks test one bit.
 */
#include "log/mask.h"

#include "executor/executor.h"
#include "nodes/params.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/memutils.h"

#include "log/current.h"
#include "log/logtext.h"
#include "log/session.h"
#include "base/settings.h"

/* Bits of a plan's jitFlags that PostgreSQL does not use.  Parallel workers receive them with the plan. */
#define PLAN_CALLS	(1 << 29)	/* the statement calls keyrot */
#define PLAN_HIDES	(1 << 30)	/* and has to be masked */

/*
 * Whether a statement that was analyzed in this session may have called keyrot.  As long as none has, nothing that is
 * planned or executed does, since all of it was analyzed before.
 */
static bool may_have_called = true;

/* A statement of a source text. */
typedef struct Slice
{
	const char *source;
	size_t		start;
	size_t		length;
} Slice;

static post_parse_analyze_hook_type previous_post_parse_analyze_hook = NULL;
static planner_hook_type previous_planner_hook = NULL;
static ExecutorStart_hook_type previous_ExecutorStart_hook = NULL;
static ExecutorRun_hook_type previous_ExecutorRun_hook = NULL;
static ExecutorFinish_hook_type previous_ExecutorFinish_hook = NULL;
static ProcessUtility_hook_type previous_ProcessUtility_hook = NULL;

/*
 * An error is reported after the callbacks are gone, so the mark is set in the error itself.  The flag is free: the
 * server hides the context of log messages only.
 */
static void
mark_report(void *arg pg_attribute_unused())
{
	if (keyrot_redact_log)
		errhidecontext(true);
}

/* Whether a report was raised while a statement that calls keyrot was running. */
bool
mask_marked(const ErrorData *edata)
{
	if (edata->elevel >= ERROR)
		return edata->hide_ctx;
	for (ErrorContextCallback *context = error_context_stack; context != NULL; context = context->previous)
	{
		if (context->callback == mark_report)
			return true;
	}
	return false;
}

static void
begin_marking(ErrorContextCallback *context)
{
	context->callback = mark_report;
	context->arg = NULL;
	context->previous = error_context_stack;
	error_context_stack = context;
}

static void
end_marking(const ErrorContextCallback *context)
{
	error_context_stack = context->previous;
}

/*
 * Whether the statement at this location calls keyrot; returns it in "slice".  If the location is not known, as for
 * statements that a rule adds, the whole text is taken.
 */
static bool
calls(const char *source, int location, int length, Slice *slice)
{
	NamesText	text;

	*slice = (Slice) {.source = source, .start = location > 0 ? (size_t) location : 0};
	slice->length = location >= 0 && length > 0 ? (size_t) length : current_length(source) - slice->start;
	if (!names_call_may_occur(source + slice->start, slice->length))
		return false;
	if (location < 0 && current_covers(source))
		return current_calls();
	text = session_text_in_hook(source + slice->start, slice->length);
	return names_call_occurs(&text);
}

/*
 * Overwrites the same statement in the texts that are kept with plans, as identifiers of their memory contexts.  The
 * contexts of saved plans are children of CacheMemoryContext; before a plan is saved, they are below MessageContext.
 * Two texts are the same if they agree from the statement on.
 */
static void
mask_plans(MemoryContext parent, const Slice *rest, size_t length, const char *masked)
{
	for (MemoryContext child = parent->firstchild; child != NULL; child = child->nextchild)
	{
		const char *ident = child->ident;

		if (ident != NULL && ident != rest->source &&
			(strcmp(child->name, "CachedPlanSource") == 0 || strcmp(child->name, "CachedPlan") == 0) &&
			strlen(ident) == rest->start + rest->length &&
			memcmp(ident + rest->start, rest->source + rest->start, rest->length) == 0)
			memcpy(unconstify(char *, ident) + rest->start, masked + rest->start, length);
		if (parent != CacheMemoryContext && child->firstchild != NULL)
			mask_plans(child, rest, length, masked);
	}
}

/* Whether this text is itself kept with a plan. */
static bool
is_of_plan(MemoryContext parent, const char *source)
{
	for (MemoryContext child = parent->firstchild; child != NULL; child = child->nextchild)
	{
		if (child->ident == source)
			return true;
		if (parent != CacheMemoryContext && child->firstchild != NULL && is_of_plan(child, source))
			return true;
	}
	return false;
}

/* Overwrites a masked statement wherever its text is kept with a plan; in the source itself last, since it is compared. */
static void
mask_kept(const Slice *slice, const char *masked)
{
	Slice		rest = *slice;

	rest.length = current_length(slice->source) - slice->start;
	if (MessageContext != NULL)
		mask_plans(MessageContext, &rest, slice->length, masked);
	mask_plans(CacheMemoryContext, &rest, slice->length, masked);
	if (is_of_plan(CacheMemoryContext, slice->source) || (MessageContext != NULL && is_of_plan(MessageContext, slice->source)))
		memcpy(unconstify(char *, slice->source) + slice->start, masked + slice->start, slice->length);
}

/*
 * Returns the source text or, if the statement has something to hide, a masked copy of the same length, in the
 * given memory context or in that of the current message.
 */
static const char *
mask_slice(const Slice *slice, MemoryContext context)
{
	const char *kept = current_masked(slice->source);
	NamesText	text = session_text_in_hook(slice->source + slice->start, slice->length);
	char	   *copy;
	size_t		length;

	if (kept != NULL)
		return memcmp(kept + slice->start, text.text, slice->length) == 0 ? slice->source : kept;
	length = current_length(slice->source);
	copy = MemoryContextAllocHuge(context, length + 1);
	memcpy(copy, slice->source, length + 1);
	logtext_mask(&text, copy + slice->start);
	if (memcmp(copy, slice->source, length) != 0)
		return copy;
	pfree(copy);
	return slice->source;
}

static void
mask_analyzed(ParseState *pstate, Query *query, JumbleState *jumble)
{
	const char *source = pstate->p_sourcetext;

	if (keyrot_redact_log && source != NULL)
	{
		Slice		slice;

		session_learn();
		current_reached(source, query->stmt_location);
		if (calls(source, query->stmt_location, query->stmt_len, &slice))
		{
			may_have_called = true;
			pstate->p_sourcetext = mask_slice(&slice, CurrentMemoryContext);
		}
		if (pstate->p_sourcetext != source)
			mask_kept(&slice, pstate->p_sourcetext);
	}
	else
		may_have_called = true;
	if (previous_post_parse_analyze_hook != NULL)
		previous_post_parse_analyze_hook(pstate, query, jumble);
}

static PlannedStmt *
plan(Query *query, const char *source, int options, ParamListInfo parameters)
{
	if (previous_planner_hook != NULL)
		return previous_planner_hook(query, source, options, parameters);
	return standard_planner(query, source, options, parameters);
}

static PlannedStmt *
mask_planned(Query *query, const char *source, int options, ParamListInfo parameters)
{
	ErrorContextCallback context;
	PlannedStmt *result;
	const char *masked;
	Slice		slice;

	if (!may_have_called || !keyrot_redact_log || source == NULL ||
		!calls(source, query->stmt_location, query->stmt_len, &slice))
		return plan(query, source, options, parameters);
	masked = mask_slice(&slice, CurrentMemoryContext);
	begin_marking(&context);
	result = plan(query, masked, options, parameters);
	end_marking(&context);
	result->jitFlags |= PLAN_CALLS | (masked != source ? PLAN_HIDES : 0);
	return result;
}

static void
start(QueryDesc *query, int flags)
{
	if (previous_ExecutorStart_hook != NULL)
		previous_ExecutorStart_hook(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

/*
 * Masks the text that the executor passes on.  Statements that functions run have been saved with a plan since they were
 * analyzed, so they are overwritten there; that of the portal was saved before.
 */
static void
mask_source(QueryDesc *query)
{
	const char *source = query->sourceText;
	Slice		slice;

	if (!calls(source, query->plannedstmt->stmt_location, query->plannedstmt->stmt_len, &slice))
		return;
	query->sourceText = mask_slice(&slice, GetMemoryChunkContext(query));
	if (query->sourceText != source && (ActivePortal == NULL || ActivePortal->sourceText != source))
		mask_kept(&slice, query->sourceText);
}

static void
mask_started(QueryDesc *query, int flags)
{
	ErrorContextCallback context;

	if ((query->plannedstmt->jitFlags & PLAN_CALLS) == 0)
	{
		start(query, flags);
		return;
	}
	if (keyrot_redact_log && (query->plannedstmt->jitFlags & PLAN_HIDES) != 0)
		mask_source(query);
	begin_marking(&context);
	start(query, flags);
	end_marking(&context);
}

static void
run_query(KEYROT_RUN_PARAMETERS)
{
	if (previous_ExecutorRun_hook != NULL)
		previous_ExecutorRun_hook(KEYROT_RUN_ARGUMENTS);
	else
		standard_ExecutorRun(KEYROT_RUN_ARGUMENTS);
}

static void
mask_running(KEYROT_RUN_PARAMETERS)
{
	ErrorContextCallback context;

	if ((query->plannedstmt->jitFlags & PLAN_CALLS) == 0)
	{
		run_query(KEYROT_RUN_ARGUMENTS);
		return;
	}
	begin_marking(&context);
	run_query(KEYROT_RUN_ARGUMENTS);
	end_marking(&context);
}

static void
finish(QueryDesc *query)
{
	if (previous_ExecutorFinish_hook != NULL)
		previous_ExecutorFinish_hook(query);
	else
		standard_ExecutorFinish(query);
}

static void
mask_finished(QueryDesc *query)
{
	ErrorContextCallback context;

	if ((query->plannedstmt->jitFlags & PLAN_CALLS) == 0)
	{
		finish(query);
		return;
	}
	begin_marking(&context);
	finish(query);
	end_marking(&context);
}

static void
mask_utility(PlannedStmt *statement, const char *source, bool read_only_tree, ProcessUtilityContext kind,
			 ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *receiver,
			 QueryCompletion *completion)
{
	ProcessUtility_hook_type next = previous_ProcessUtility_hook;
	ErrorContextCallback context;
	Slice		slice;

	if (next == NULL)
		next = standard_ProcessUtility;
	if (!may_have_called || !keyrot_redact_log ||
		!calls(source, statement->stmt_location, statement->stmt_len, &slice))
	{
		next(statement, source, read_only_tree, kind, parameters, environment, receiver, completion);
		return;
	}
	source = mask_slice(&slice, CurrentMemoryContext);
	begin_marking(&context);
	next(statement, source, read_only_tree, kind, parameters, environment, receiver, completion);
	end_marking(&context);
}

/* Installs the hooks.  Called once, when the library is loaded. */
void
mask_init(void)
{
	/* Loaded later, they have not seen what the session analyzed before. */
	may_have_called = !settings_preloaded();
	previous_post_parse_analyze_hook = post_parse_analyze_hook;
	post_parse_analyze_hook = mask_analyzed;
	previous_planner_hook = planner_hook;
	planner_hook = mask_planned;
	previous_ExecutorStart_hook = ExecutorStart_hook;
	ExecutorStart_hook = mask_started;
	previous_ExecutorRun_hook = ExecutorRun_hook;
	ExecutorRun_hook = mask_running;
	previous_ExecutorFinish_hook = ExecutorFinish_hook;
	ExecutorFinish_hook = mask_finished;
	previous_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = mask_utility;
}

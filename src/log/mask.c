/*
 * mask.c
 *	  Statements without secrets, for the libraries that store or print them: pg_stat_statements,
 *	  auto_explain, pgaudit and their like.
 *
 * They get the text of a statement at four places, and cut it by position and length, so each place hands
 * on a copy of equal length.  Being preloaded last means being called first.  The server itself keeps texts
 * with saved plans, whose names a listing of memory contexts prints to stderr, past any hook; nothing reads
 * them but for positions, and they are overwritten where they are.
 */
#include "base/compat.h"

#include "executor/executor.h"
#include "nodes/params.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/memutils.h"

#include "log/logtext.h"
#include "log/mask.h"
#include "log/redact.h"
#include "base/settings.h"

static post_parse_analyze_hook_type previous_post_parse_analyze_hook = NULL;
static planner_hook_type previous_planner_hook = NULL;
static ExecutorStart_hook_type previous_ExecutorStart_hook = NULL;
static ExecutorRun_hook_type previous_ExecutorRun_hook = NULL;
static ProcessUtility_hook_type previous_ProcessUtility_hook = NULL;

/* How a text has to be treated, given that of the statement that the client sent. */
static LexerVerdict
judge(const LexerText *text, LexerVerdict statement)
{
	LexerVerdict verdict = redact_judge_text(text);

	return statement >= LEXER_ANYWHERE && verdict < LEXER_ANYWHERE ? LEXER_ANYWHERE : verdict;
}

static LexerText
text_of(const char *text)
{
	return (LexerText) {
		.text = text, .length = strlen(text), .form = LEXER_SQL, .takes_secret = redact_takes_secret
	};
}

/*
 * Overwrites the same text where it is kept with plans, as the name of their memory context.  Saved plans are
 * children of the cache's context; while they are made, they are somewhere below a message's.
 */
static void
mask_plans(MemoryContext parent, const char *source, const char *masked, size_t length)
{
	for (MemoryContext child = parent->firstchild; child != NULL; child = child->nextchild)
	{
		if (child->ident != NULL && strcmp(child->ident, source) == 0 &&
			(strcmp(child->name, "CachedPlanSource") == 0 || strcmp(child->name, "CachedPlan") == 0))
			memcpy(unconstify(char *, child->ident), masked, length);
		if (parent != CacheMemoryContext && child->firstchild != NULL)
			mask_plans(child, source, masked, length);
	}
}

/*
 * Returns the text, or, where it holds secrets, a copy of equal length without them in the given memory
 * context.  Sees to it that the statement under way is hidden elsewhere, too.
 */
static const char *
mask(const char *source, MemoryContext context)
{
	LexerVerdict statement = redact_statement();
	LexerVerdict verdict;
	LexerText	text;
	char	   *masked;

	if (source == NULL || !keyrot_redact_log || (statement == LEXER_HARMLESS && source == debug_query_string))
		return source;
	text = text_of(source);
	verdict = judge(&text, statement);
	if (verdict == LEXER_HARMLESS)
		return source;
	masked = MemoryContextAlloc(context, text.length + 1);
	logtext_mask(&text, verdict, masked);
	masked[text.length] = '\0';
	if (memcmp(masked, source, text.length) == 0)
	{
		pfree(masked);
		return source;
	}
	return masked;
}

/* Overwrites a text that was masked where it is kept with plans; it may be one of those itself. */
static void
mask_kept(const char *source, const char *masked)
{
	char	   *original;
	size_t		length;

	if (masked == source)
		return;
	length = strlen(masked);
	original = pstrdup(source);
	if (MessageContext != NULL)
		mask_plans(MessageContext, original, masked, length);
	mask_plans(CacheMemoryContext, original, masked, length);
	memset(original, '*', length);
	pfree(original);
}

static void
mask_analyzed(ParseState *pstate, Query *query, JumbleState *jumble)
{
	const char *source = pstate->p_sourcetext;

	pstate->p_sourcetext = mask(source, CurrentMemoryContext);
	mask_kept(source, pstate->p_sourcetext);
	if (previous_post_parse_analyze_hook != NULL)
		previous_post_parse_analyze_hook(pstate, query, jumble);
}

static PlannedStmt *
mask_planned(Query *query, const char *source, int options, ParamListInfo parameters)
{
	source = mask(source, CurrentMemoryContext);
	if (previous_planner_hook != NULL)
		return previous_planner_hook(query, source, options, parameters);
	return standard_planner(query, source, options, parameters);
}

/* What functions run has been saved since it was analyzed; a portal's own statement was kept before. */
static void
mask_started(QueryDesc *query, int flags)
{
	const char *source = query->sourceText;

	query->sourceText = mask(source, GetMemoryChunkContext(query));
	if (ActivePortal == NULL || ActivePortal->sourceText != source)
		mask_kept(source, query->sourceText);
	if (previous_ExecutorStart_hook != NULL)
		previous_ExecutorStart_hook(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

/* In the extended protocol a message may run what another one started, and sets the session's texts anew. */
static void
mask_running(KEYROT_RUN_PARAMETERS)
{
	LexerVerdict outer;

	(void) redact_statement();
	outer = redact_begin_run(redact_judge(query->sourceText));
	if (previous_ExecutorRun_hook != NULL)
		previous_ExecutorRun_hook(KEYROT_RUN_ARGUMENTS);
	else
		standard_ExecutorRun(KEYROT_RUN_ARGUMENTS);
	redact_end_run(outer);
}

static void
mask_utility(PlannedStmt *statement, const char *source, bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *receiver,
			 QueryCompletion *completion)
{
	ProcessUtility_hook_type next = previous_ProcessUtility_hook;

	if (next == NULL)
		next = standard_ProcessUtility;
	next(statement, mask(source, CurrentMemoryContext), read_only_tree, context, parameters, environment,
		 receiver, completion);
}

/* Installs the hooks; called once, when the library is loaded. */
void
mask_init(void)
{
	previous_post_parse_analyze_hook = post_parse_analyze_hook;
	post_parse_analyze_hook = mask_analyzed;
	previous_planner_hook = planner_hook;
	planner_hook = mask_planned;
	previous_ExecutorStart_hook = ExecutorStart_hook;
	ExecutorStart_hook = mask_started;
	previous_ExecutorRun_hook = ExecutorRun_hook;
	ExecutorRun_hook = mask_running;
	previous_ProcessUtility_hook = ProcessUtility_hook;
	ProcessUtility_hook = mask_utility;
}

/*
 * redact.c
 *	  The server log without secrets: a hook that edits each report before it is written, and the
 *	  statement under way where others look for it (debug_query_string, pg_stat_activity).
 *
 * Nothing here may fail: a report is edited while an error is on its way.  There is no catalog access and
 * no memory that must be had; what cannot be copied is overwritten where it stands.  Whether a report is
 * to be edited is told by its own texts and by the statement under way, since the values of its parameters
 * and the messages of its errors do not say where they come from.
 */
#include "log/redact.h"

#include "access/xact.h"
#include "commands/prepare.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/elog.h"
#include "utils/memutils.h"

#include "log/logtext.h"
#include "log/names.h"
#include "base/errors.h"
#include "base/notices.h"
#include "base/settings.h"

/* The statement under way, as it was found and left. */
typedef struct Statement
{
	const char *text;			/* debug_query_string as we left it */
	TimestampTz started_at;
	LexerVerdict verdict;
} Statement;

#define KEPT 8					/* harmless statements that are known again */
#define MAX_LOOKED_AT 8192		/* bytes of a statement in which a quoted piece is looked for */

/* A report under way. */
typedef struct Report
{
	ErrorData  *edata;
	LexerVerdict statement;		/* of the statement that it is about */
	bool		has_values;		/* an error of such a statement that may repeat its values */
} Report;

static const char hidden_whole[] = LEXER_MARKER;

static emit_log_hook_type previous_emit_log_hook = NULL;
static Statement current;
static bool is_last = false;

/* Of what the executor runs, or ran when the error arose that is still to be reported. */
static LexerVerdict running = LEXER_HARMLESS;

/* The report that readable() is asked about. */
static const ErrorData *asked_about;

/* Whether EXECUTE of this prepared statement hands over a secret; one that this session has not may. */
bool
redact_takes_secret(const char *prepared)
{
	PreparedStatement *statement = FetchPreparedStatement(prepared, false);
	LexerText	text = {.form = LEXER_SQL};

	if (statement == NULL)
		return true;
	if (statement->plansource->query_string == NULL)
		return false;
	text.text = statement->plansource->query_string;
	text.length = strlen(text.text);
	return lexer_judge(&text) != LEXER_HARMLESS;
}

/* Whether what the text says depends on what is prepared in the session. */
static bool
executes(const LexerText *text)
{
	for (size_t i = 0; i + 7 <= text->length; i++)
		if (pg_strncasecmp(text->text + i, "execute", 7) == 0)
			return true;
	return false;
}

/*
 * As lexer_judge(), which reads a text token by token: but a statement that an application repeats is read
 * once, if it is harmless.  It is known again by its hash: no text of a client's is kept.
 */
LexerVerdict
redact_judge_text(const LexerText *text)
{
	static struct
	{
		size_t		length;
		uint64		hash;
	}			harmless[KEPT];
	static int	oldest = 0;
	LexerVerdict verdict;
	uint64		hash;

	if (!names_may_occur(text->text, text->length))
		return LEXER_HARMLESS;
	hash = hash_bytes_extended((const unsigned char *) text->text, (int) text->length, (uint64) MyStartTimestamp);
	for (int i = 0; i < KEPT; i++)
		if (harmless[i].length == text->length && harmless[i].hash == hash)
			return LEXER_HARMLESS;
	verdict = lexer_judge(text);
	if (verdict == LEXER_HARMLESS && text->form == LEXER_SQL && !executes(text))
	{
		harmless[oldest].length = text->length;
		harmless[oldest].hash = hash;
		oldest = (oldest + 1) % KEPT;
	}
	return verdict;
}

static LexerText
text_of(const char *text, LexerForm form)
{
	return (LexerText) {
		.text = text, .length = strlen(text), .form = form, .takes_secret = redact_takes_secret
	};
}

/* Room for a text of this length and its zero byte; NULL where there is none. */
static char *
try_alloc(MemoryContext context, size_t length)
{
	if (context == NULL || !AllocSizeIsValid(length + 1))
		return NULL;
	return MemoryContextAllocExtended(context, length + 1, MCXT_ALLOC_NO_OOM);
}

/* Overwrites the session's entry of pg_stat_activity.  Its query id stays, since only the text is touched. */
static void
overwrite_activity(const char *text)
{
	volatile PgBackendStatus *entry = MyBEEntry;
	size_t		room = pgstat_track_activity_query_size;
	size_t		length = strlen(text);

	if (entry == NULL || !pgstat_track_activities || entry->st_activity_raw == NULL)
		return;
	if (length > room - 1)
		length = room - 1;
	PGSTAT_BEGIN_WRITE_ACTIVITY(entry);
	memcpy((char *) entry->st_activity_raw, text, length);
	memset((char *) entry->st_activity_raw + length, 0, room - length);
	PGSTAT_END_WRITE_ACTIVITY(entry);
}

/* Puts a redacted copy in place of the statement, for all who read it from here on. */
static void
replace_statement(const LexerText *text, LexerVerdict verdict)
{
	char	   *copy = NULL;

	if (verdict != LEXER_UNCLEAR && CritSectionCount == 0)
		copy = try_alloc(MessageContext, logtext_redact(text, verdict, NULL));
	if (copy != NULL)
		copy[logtext_redact(text, verdict, copy)] = '\0';
	debug_query_string = copy == NULL ? hidden_whole : copy;
	overwrite_activity(debug_query_string);
}

/* Remembers the statement as it is, so that the next question is answered at once. */
static LexerVerdict
remember(LexerVerdict verdict)
{
	current.text = debug_query_string;
	current.started_at = GetCurrentStatementStartTimestamp();
	current.verdict = verdict;
	return verdict;
}

/*
 * Judges the statement under way, and hides its secrets in debug_query_string and pg_stat_activity.  Asked
 * again about the same statement it answers from memory.  Raises nothing.
 */
LexerVerdict
redact_statement(void)
{
	LexerText	text;
	LexerVerdict verdict;

	if (!keyrot_redact_log || debug_query_string == NULL)
		return LEXER_HARMLESS;
	if (debug_query_string == hidden_whole)
		return LEXER_UNCLEAR;
	/* Only a client's session has each statement stamped with its time; others may reuse the memory. */
	if (debug_query_string == current.text && MyBackendType == B_BACKEND &&
		current.started_at == GetCurrentStatementStartTimestamp())
		return current.verdict;
	text = text_of(debug_query_string, LEXER_SQL);
	verdict = redact_judge_text(&text);
	if (verdict != LEXER_HARMLESS)
		replace_statement(&text, verdict);
	return remember(verdict);
}

/* Judges a text that the executor is about to run: a cursor's, say, which the statement does not show. */
LexerVerdict
redact_judge(const char *source)
{
	LexerText	text;

	if (!keyrot_redact_log || source == NULL)
		return LEXER_HARMLESS;
	text = text_of(source, LEXER_SQL);
	return redact_judge_text(&text);
}

/*
 * Lets what is reported from here on be judged by this verdict, too; returns what redact_end_run() takes.
 * Where an error ends the run, it is not called: the report comes later, and clears the verdict.
 */
LexerVerdict
redact_begin_run(LexerVerdict verdict)
{
	LexerVerdict outer = running;

	running = Max(running, verdict);
	return outer;
}

/* Ends what redact_begin_run() began. */
void
redact_end_run(LexerVerdict outer)
{
	running = outer;
}

/*
 * Puts a text in a report's field, and wipes and frees what was there, as the server frees a report's
 * fields itself.  NULL, where no room could be had for it, blanks the field out.
 */
static void
set_field(char **field, char *text)
{
	memset(*field, '*', strlen(*field));
	if (text == NULL)
		return;
	pfree(*field);
	*field = text;
}

static void
hide_field(char **field)
{
	char	   *text;

	if (*field == NULL)
		return;
	text = try_alloc(CurrentMemoryContext, LEXER_MARKER_LENGTH);
	if (text != NULL)
		memcpy(text, LEXER_MARKER, LEXER_MARKER_LENGTH + 1);
	set_field(field, text);
}

/* Redacts a field as its own text asks for, and at least as the verdict does; tells which it was. */
static LexerVerdict
redact_field(char **field, LexerForm form, LexerVerdict least)
{
	LexerText	text;
	LexerVerdict verdict;
	char	   *redacted;

	if (*field == NULL)
		return least;
	text = text_of(*field, form);
	verdict = Max(lexer_judge(&text), least);
	if (verdict == LEXER_HARMLESS)
		return verdict;
	redacted = try_alloc(CurrentMemoryContext, logtext_redact(&text, verdict, NULL));
	if (redacted != NULL)
		redacted[logtext_redact(&text, verdict, redacted)] = '\0';
	set_field(field, redacted);
	return verdict;
}

static void
redact_context(char **field, LexerVerdict least)
{
	LexerText	text;
	char	   *redacted;

	if (*field == NULL)
		return;
	text = text_of(*field, LEXER_MESSAGE);
	if (least == LEXER_HARMLESS && !names_may_occur(text.text, text.length))
		return;
	redacted = try_alloc(CurrentMemoryContext, logtext_context(&text, least, NULL));
	if (redacted != NULL)
		redacted[logtext_context(&text, least, redacted)] = '\0';
	set_field(field, redacted);
}

/* pgaudit prints the values of parameters after the statement, without quotes. */
static LexerVerdict
redact_message(ErrorData *edata, LexerVerdict statement)
{
	size_t		length = strlen(edata->message);
	size_t		fields = logtext_audit_fields(edata->message, length);
	LexerText	text = {.text = edata->message, .length = fields, .form = LEXER_MESSAGE, .takes_secret = redact_takes_secret};

	if (fields < length && Max(lexer_judge(&text), statement) != LEXER_HARMLESS)
	{
		char	   *without = try_alloc(CurrentMemoryContext, fields + 1 + LEXER_MARKER_LENGTH);

		if (without != NULL)
		{
			memcpy(without, edata->message, fields);
			without[fields] = ',';
			memcpy(without + fields + 1, LEXER_MARKER, LEXER_MARKER_LENGTH + 1);
		}
		set_field(&edata->message, without);
	}
	return redact_field(&edata->message, LEXER_MESSAGE, statement >= LEXER_ANYWHERE ? LEXER_ANYWHERE : LEXER_HARMLESS);
}

static bool
is_name_of(const char *name, const char *piece, size_t length)
{
	return name != NULL && strlen(name) == length && memcmp(name, piece, length) == 0;
}

/* Whether a piece of a message is told elsewhere: the object's name, or in what is left of the statement. */
static bool
is_readable(const char *piece, size_t length)
{
	const ErrorData *edata = asked_about;
	size_t		statement = debug_query_string == NULL ? 0 : strnlen(debug_query_string, MAX_LOOKED_AT);

	if (is_name_of(edata->schema_name, piece, length) || is_name_of(edata->table_name, piece, length) ||
		is_name_of(edata->column_name, piece, length) || is_name_of(edata->datatype_name, piece, length) ||
		is_name_of(edata->constraint_name, piece, length))
		return true;
	for (size_t i = 0; i + length <= statement; i++)
	{
		if (pg_strncasecmp(debug_query_string + i, piece, length) == 0)
			return true;
	}
	return false;
}

static void
redact_values(const ErrorData *edata, char **field)
{
	size_t		length;
	char	   *text;

	if (*field == NULL)
		return;
	asked_about = edata;
	length = strlen(*field);
	text = try_alloc(CurrentMemoryContext, logtext_values(*field, length, is_readable, NULL));
	if (text != NULL)
		text[logtext_values(*field, length, is_readable, text)] = '\0';
	set_field(field, text);
}

/* keyrot's own errors repeat public names and nothing else. */
static bool
is_ours(const ErrorData *edata)
{
	return edata->filename != NULL && edata->funcname != NULL &&
		strcmp(edata->filename, "errors.c") == 0 && strncmp(edata->funcname, "error_", 6) == 0;
}

/* Whether errors of this kind may repeat a value: not those about locks, resources, rights to write, shutdown. */
static bool
repeats_values(const ErrorData *edata)
{
	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
			return false;
		default:
			return edata->elevel >= NOTICE && !is_ours(edata);
	}
}

/*
 * Whether a client calls a function by its number (PQfn), without a statement.  Which one, only the message
 * told, so that any of them may be one that takes a secret.
 */
static bool
calls_by_number(void)
{
	return debug_query_string == NULL && MyBackendType == B_BACKEND && IsNormalProcessingMode() && IsTransactionState();
}

/* A statement that could not be parsed may have its secret anywhere. */
static LexerVerdict
judge_syntax_error(LexerVerdict verdict)
{
	if (debug_query_string == NULL || verdict == LEXER_UNCLEAR ||
		!names_mention_occurs(debug_query_string, strlen(debug_query_string)))
		return verdict;
	debug_query_string = hidden_whole;
	overwrite_activity(hidden_whole);
	return remember(LEXER_UNCLEAR);
}

static void
redact_detail(Report *report, LexerVerdict message)
{
	ErrorData  *edata = report->edata;
	bool		sensitive = report->statement != LEXER_HARMLESS || message != LEXER_HARMLESS;

	if (edata->detail != NULL && logtext_is_tree(edata->detail))
	{
		if (sensitive || logtext_tree_has_constant(edata->detail))
			hide_field(&edata->detail);
	}
	else if (report->has_values)
		hide_field(&edata->detail);
	else
		redact_field(&edata->detail, LEXER_MESSAGE, sensitive && edata->elevel < NOTICE ? LEXER_ANYWHERE : LEXER_HARMLESS);
	if (report->has_values)
		hide_field(&edata->detail_log);
	else
		redact_field(&edata->detail_log, LEXER_MESSAGE, LEXER_HARMLESS);
}

/* Edits all texts of a report. */
static void
redact_report(ErrorData *edata)
{
	Report		report = {.edata = edata, .statement = Max(redact_statement(), running)};
	LexerVerdict message = LEXER_HARMLESS;
	LexerVerdict inner = LEXER_HARMLESS;
	bool		is_data = ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_DATA_EXCEPTION;

	if (calls_by_number())
		report.statement = Max(report.statement, LEXER_ARGUMENTS);
	if (edata->sqlerrcode == ERRCODE_SYNTAX_ERROR)
	{
		report.statement = judge_syntax_error(report.statement);
		if (edata->internalquery != NULL && names_mention_occurs(edata->internalquery, strlen(edata->internalquery)))
			inner = LEXER_UNCLEAR;
	}
	inner = redact_field(&edata->internalquery, LEXER_SQL,
						 Max(inner, report.statement >= LEXER_ANYWHERE ? LEXER_ANYWHERE : LEXER_HARMLESS));
	report.statement = Max(report.statement, inner);
	report.has_values = report.statement != LEXER_HARMLESS && repeats_values(edata);
	if (report.has_values)
	{
		redact_values(edata, &edata->message);
		redact_values(edata, &edata->hint);
	}
	else
		redact_field(&edata->hint, LEXER_MESSAGE, LEXER_HARMLESS);
	if (edata->message != NULL)
		message = redact_message(edata, report.statement);
	redact_detail(&report, message);
	if (report.has_values && (is_data || report.statement == LEXER_UNCLEAR))
		redact_context(&edata->context, LEXER_UNCLEAR);
	else
		redact_context(&edata->context,
					   Max(report.statement, message) == LEXER_HARMLESS ? LEXER_HARMLESS : LEXER_ANYWHERE);
}

/* emit_log_hook: ours before those of libraries that came earlier. */
static void
redact_log(ErrorData *edata)
{
	static bool at_work = false;

	if (keyrot_redact_log && !at_work)
	{
		at_work = true;
		redact_report(edata);
		if (edata->elevel >= ERROR)
			running = LEXER_HARMLESS;
		at_work = false;
	}
	if (previous_emit_log_hook != NULL)
		previous_emit_log_hook(edata);
}

/* Whether keyrot is the last name in the list of libraries. */
static bool
stands_last(const char *list)
{
	static const char name[] = "keyrot";
	size_t		end = strlen(list);
	size_t		length = strlen(name);

	while (end > 0 && strchr(" \t\n\"", list[end - 1]) != NULL)
		end--;
	if (end >= 3 && strncmp(list + end - 3, ".so", 3) == 0)
		end -= 3;
	return end >= length && strncmp(list + end - length, name, length) == 0 &&
		(end == length || strchr(" \t\n\",/", list[end - length - 1]) != NULL);
}

/* What is not covered, as a sentence for status(); NULL where all is. */
const char *
redact_problem(void)
{
	if (!keyrot_redact_log)
		return "keyrot.redact_log is off, so that secrets in statements reach the server log";
	if (!settings_preloaded())
		return "keyrot is not preloaded: before a session has loaded it, secrets in statements reach the server log, "
			"and statistics on statements may hold them";
	if (!is_last)
		return "keyrot is not the last of shared_preload_libraries, so that libraries after it may store or log secrets";
	return NULL;
}

/* Installs the hook; called once, when the library is loaded.  Warns where others come after it. */
void
redact_init(void)
{
	if (settings_preloaded())
	{
		is_last = stands_last(shared_preload_libraries_string);
		if (!is_last)
			warn_not_last();
	}
	previous_emit_log_hook = emit_log_hook;
	emit_log_hook = redact_log;
}

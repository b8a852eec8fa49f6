/*
 * redact.c
 *	  The server log without secrets: a hook that edits each report before it is written.
 *
 * Nothing here may fail, because a report may be an error that is being raised.  There is no catalog access, and
 * allocation may fail: a text that cannot be copied is overwritten in place.  A report is edited if it was raised
 * while a statement that calls keyrot was running (mask.c), if such a statement of the query string was being
 * processed (current.c), or if one of the report's own texts contains such a statement.
 */
#include "log/redact.h"

#include <locale.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/elog.h"
#include "utils/memutils.h"

#include "log/current.h"
#include "log/logtext.h"
#include "log/mask.h"
#include "log/session.h"
#include "base/domain.h"
#include "base/notices.h"
#include "base/settings.h"

/* Writes a text without its secrets and returns its length; if "out" is NULL, only returns the length. */
typedef size_t (*Writer) (const char *text, size_t length, char *out);

static emit_log_hook_type previous_emit_log_hook = NULL;
static bool is_last = false;
static bool at_work = false;	/* on a report; reports raised meanwhile are not edited */

/* Memory for a text of this length and its zero byte; NULL if there is none. */
static char *
try_alloc(size_t length)
{
	if (!AllocSizeIsValid(length + 1))
		return NULL;
	return MemoryContextAllocExtended(CurrentMemoryContext, length + 1, MCXT_ALLOC_NO_OOM);
}

/*
 * Replaces a field of a report by what the writer makes of it.  The old text is wiped and freed, as the server would
 * free it.  If there is no memory for a new one, the old one is overwritten with asterisks.
 */
static void
rewrite(char **field, Writer writer)
{
	size_t		length;
	char	   *text;

	if (*field == NULL)
		return;
	length = strlen(*field);
	text = try_alloc(writer(*field, length, NULL));
	if (text != NULL)
		text[writer(*field, length, text)] = '\0';
	memset(*field, '*', length);
	if (text == NULL)
		return;
	pfree(*field);
	*field = text;
}

static size_t
write_marker(const char *text pg_attribute_unused(), size_t length pg_attribute_unused(), char *out)
{
	if (out != NULL)
		memcpy(out, LOGTEXT_MARKER, LOGTEXT_MARKER_LENGTH);
	return LOGTEXT_MARKER_LENGTH;
}

/* Replaces the query string at the end of a message by its redacted copy.  This writer adds the zero byte itself. */
static size_t
write_tail(const char *text, size_t length, char *out)
{
	size_t		start = 0;

	(void) current_is_tail(text, length, &start);
	if (out != NULL)
	{
		memcpy(out, text, start);
		memcpy(out + start, debug_query_string, strlen(debug_query_string) + 1);
	}
	return start + strlen(debug_query_string);
}

static size_t
write_statements(const char *text, size_t length, char *out)
{
	NamesText	in = session_text(text, length);

	return logtext_statements(&in, out);
}

static bool
has_call(const char *text)
{
	NamesText	in;

	if (text == NULL)
		return false;
	in = session_text(text, strlen(text));
	return names_call_occurs(&in);
}

/* Whether this locale name, which a colon may end, is that of the untranslated messages. */
static bool
is_english_name(const char *name)
{
	size_t		length = strcspn(name, "_.@:");

	return (length == 1 && name[0] == 'C') || (length == 5 && strncmp(name, "POSIX", length) == 0) ||
		(length == 2 && pg_strncasecmp(name, "en", length) == 0) || pg_strncasecmp(name, "english", 7) == 0;
}

/*
 * Whether messages are not translated, so that it is known how they quote values.  Of the languages in LANGUAGE the
 * first one counts that has a message catalog, unless the locale is C.
 */
static bool
is_english(void)
{
	const char *name = setlocale(LC_MESSAGES, NULL);
	const char *languages = getenv("LANGUAGE");

	if (name == NULL || strcmp(name, "C") == 0 || strcmp(name, "POSIX") == 0)
		return true;
	while (languages != NULL && *languages != '\0')
	{
		if (!is_english_name(languages))
			return false;
		languages += strcspn(languages, ":");
		languages += strspn(languages, ":");
	}
	return is_english_name(name);
}

/* Redacts a message, detail or hint if it contains a call or belongs to a statement that calls keyrot. */
static void
redact_text(char **field, bool calls)
{
	size_t		start;

	if (*field == NULL)
		return;
	if (current_is_tail(*field, strlen(*field), &start))
		rewrite(field, write_tail);
	else if (calls || has_call(*field))
		rewrite(field, is_english() ? logtext_message : write_marker);
}

/* Whether a text has 64 hexadecimal digits in a row, as a generated AppSecret has. */
static bool
has_generated_secret(const char *text)
{
	while (*text != '\0')
	{
		size_t		digits = strspn(text, "0123456789abcdef");

		if (digits >= 64)
			return true;
		text += Max(digits, 1);
	}
	return false;
}

/* Whether a report is one of keyrot's own, which repeat only public names, and no secret was passed as such a name. */
static bool
is_ours(const ErrorData *edata)
{
	return edata->domain != NULL && strcmp(edata->domain, KEYROT_DOMAIN) == 0 && !has_generated_secret(edata->message);
}

/* Whether a message may contain a statement, unlike one about a setting, for example. */
static bool
tells_statement(const ErrorData *edata)
{
	int			category = ERRCODE_TO_CATEGORY(edata->sqlerrcode);

	return edata->elevel < ERROR && (category == ERRCODE_SUCCESSFUL_COMPLETION || category == ERRCODE_WARNING);
}

/* Whether an error may repeat a value, unlike one about locks, resources, read-only transactions or shutdown. */
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
			return !is_ours(edata);
	}
}

/* Whether a text could not be parsed, so that a secret may be anywhere in it. */
static bool
is_unparsed(const ErrorData *edata)
{
	switch (edata->sqlerrcode)
	{
		case ERRCODE_SYNTAX_ERROR:
		case ERRCODE_INVALID_ESCAPE_SEQUENCE:
		case ERRCODE_NONSTANDARD_USE_OF_ESCAPE_CHARACTER:
			return edata->elevel >= ERROR;
		default:
			return false;
	}
}

static bool
mentions(const char *text)
{
	NamesText	in = session_text(text, strlen(text));

	return names_mention_occurs(&in);
}

/* Redacts the statement that a function ran; returns whether the report is about a call. */
static bool
redact_inner(ErrorData *edata, bool calls)
{
	if (edata->internalquery == NULL)
		return calls;
	if (is_unparsed(edata) && mentions(edata->internalquery))
	{
		rewrite(&edata->internalquery, write_marker);
		return true;
	}
	if (calls)
		rewrite(&edata->internalquery, logtext_statement);
	else if (has_call(edata->internalquery))
	{
		rewrite(&edata->internalquery, write_statements);
		return true;
	}
	return calls;
}

/*
 * Whether a tree calls keyrot, perhaps by way of a view or rule.  Trees are not printed while an error is handled, so
 * catalogs may be accessed, and an error may be raised.
 */
static bool
tree_calls(const char *tree)
{
	bool		result;

	if (!session_has_keyrot() || !IsTransactionState())
		return false;
	at_work = false;
	result = logtext_tree_has_call(tree, session_owns_function);
	at_work = true;
	return result;
}

static void
redact_detail(ErrorData *edata, bool calls, bool has_values)
{
	if (edata->detail != NULL && logtext_is_tree(edata->detail))
	{
		if (calls || current_calls() || tree_calls(edata->detail))
			rewrite(&edata->detail, write_marker);
	}
	else if (has_values)
		rewrite(&edata->detail, write_marker);
	else
		redact_text(&edata->detail, calls && edata->elevel < NOTICE);
	if (has_values)
		rewrite(&edata->detail_log, write_marker);
	else
		redact_text(&edata->detail_log, false);
}

/* Whether a report is about a statement that calls keyrot.  Removes the mark that says so. */
static bool
is_about_call(ErrorData *edata)
{
	bool		marked = mask_marked(edata);

	if (edata->elevel >= ERROR)
		edata->hide_ctx = false;
	if (is_unparsed(edata) && edata->cursorpos > 0 && current_mentions())
	{
		current_hide_whole();
		return true;
	}
	return current_calls_here(edata->cursorpos) || marked || (edata->elevel >= NOTICE && current_is_by_number()) || has_call(edata->context);
}

/* Edits all texts of a report. */
static void
redact_report(ErrorData *edata)
{
	bool		calls = redact_inner(edata, is_about_call(edata));
	bool		has_values = calls && edata->elevel >= NOTICE && repeats_values(edata);

	if (has_values || (tells_statement(edata) && !is_ours(edata)))
		redact_text(&edata->message, calls && (has_values || edata->elevel < NOTICE));
	if (has_values)
		redact_text(&edata->hint, true);
	redact_detail(edata, calls, has_values);
	if (calls)
		rewrite(&edata->context, logtext_context);
}

/* Our emit_log_hook, which is called before those of libraries that were loaded earlier. */
static void
redact_log(ErrorData *edata)
{
	if (keyrot_redact_log && !at_work)
	{
		at_work = true;
		redact_report(edata);
		at_work = false;
	}
	if (previous_emit_log_hook != NULL)
		previous_emit_log_hook(edata);
}

/* Whether keyrot is the last library in the list. */
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

/* What is not covered, as a sentence for status(); NULL if everything is. */
const char *
redact_problem(void)
{
	if (!keyrot_redact_log)
		return "keyrot.redact_log is off, so that secrets in statements reach the server log";
	if (!settings_preloaded())
		return "keyrot is not preloaded: before a session has loaded it, secrets in statements reach the server log, "
			"and statistics on statements may hold them";
	if (!is_last)
		return "keyrot is not the last library in shared_preload_libraries, so that libraries after it may store or log secrets";
	return NULL;
}

/* Installs the hook, and warns if other libraries come after keyrot.  Called once, when the library is loaded. */
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

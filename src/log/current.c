/*
 * current.c
 *	  The query string of the current message without its secrets: in debug_query_string, which reports print,
 *	  in the session's entry of pg_stat_activity, and as a copy of the same length for mask.c.
 *
 * A message may consist of thousands of statements, and hooks receive the whole string for each of them.  So it is
 * judged once, and the result is kept until MessageContext, in which the string is allocated, is reset for the next
 * message.  How far the message has been processed tells which statement an error belongs to.
 */
#include "log/current.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/memutils.h"

#include "log/logtext.h"
#include "log/session.h"
#include "base/settings.h"

/* What is known about the string; source is NULL if it has not been judged. */
typedef struct Message
{
	const char *source;			/* the original */
	size_t		length;
	bool		calls;
	const char *redacted;		/* what replaced it as debug_query_string */
	char	   *masked;			/* made when it is needed; of the same length */
} Message;

static const char hidden_whole[] = LOGTEXT_MARKER;

static Message message;
static MemoryContextCallback forgetting;
static bool is_kept = false;

/* The statement that was analyzed last. */
static struct
{
	const char *source;
	int			location;
	TimestampTz at;
}			reached;

static void
forget(void *arg pg_attribute_unused())
{
	message = (Message) {0};
	is_kept = false;
}

/* Overwrites the text in pg_stat_activity directly: pgstat_report_activity() would clear the query id. */
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

/* Replaces the string by a redacted copy, for all later readers. */
static void
replace(const NamesText *text)
{
	char	   *copy = NULL;

	if (is_kept && CritSectionCount == 0)
	{
		size_t		length = logtext_statements(text, NULL);

		if (AllocSizeIsValid(length + 1))
			copy = MemoryContextAllocExtended(MessageContext, length + 1, MCXT_ALLOC_NO_OOM);
	}
	if (copy != NULL)
		copy[logtext_statements(text, copy)] = '\0';
	message.redacted = copy == NULL ? hidden_whole : copy;
	debug_query_string = message.redacted;
	overwrite_activity(message.redacted);
}

/*
 * Whether any statement of the current query string calls keyrot.  If so, its secrets are hidden in
 * debug_query_string and pg_stat_activity.  Raises no errors.
 */
bool
current_calls(void)
{
	NamesText	text;

	if (!keyrot_redact_log || debug_query_string == NULL)
		return false;
	if (message.source != NULL && (debug_query_string == message.source || debug_query_string == message.redacted))
		return message.calls;
	if (debug_query_string == hidden_whole)
		return true;
	if (!is_kept && MessageContext != NULL)
	{
		forgetting.func = forget;
		MemoryContextRegisterResetCallback(MessageContext, &forgetting);
		is_kept = true;
	}
	text = session_text(debug_query_string, strlen(debug_query_string));
	message = (Message) {.source = text.text, .length = text.length, .calls = names_call_occurs(&text)};
	if (message.calls)
		replace(&text);
	if (is_kept)
		return message.calls;
	message.source = NULL;
	return debug_query_string == hidden_whole;
}

/* Whether this source is the current query string. */
bool
current_covers(const char *source)
{
	return source == debug_query_string || (is_kept && source == message.source);
}

/* The length of a source in bytes; that of the current query string is remembered, since each statement needs it. */
size_t
current_length(const char *source)
{
	return is_kept && source == message.source ? message.length : strlen(source);
}

/* Takes note that the statement of this source that begins at this byte (less than 0: unknown) was analyzed. */
void
current_reached(const char *source, int location)
{
	if (!current_covers(source))
		return;
	reached.source = source;
	reached.location = Max(location, 0);
	reached.at = GetCurrentStatementStartTimestamp();
}

/* The byte at which the character at this position, counted from 1, begins. */
static size_t
byte_of(const NamesText *text, int position)
{
	size_t		at = 0;

	while (--position > 0 && at < text->length)
		at += (size_t) pg_encoding_mblen(GetDatabaseEncoding(), text->text + at);
	return Min(at, text->length);
}

/*
 * Whether a report that was raised outside of planner and executor belongs to a statement that calls keyrot: the one at
 * its position, if it has one (above 0); else the one that was analyzed last or the next, whose analysis may have
 * failed.  Raises no errors.
 */
bool
current_calls_here(int position)
{
	NamesText	text;

	if (!current_calls() || message.source == NULL || MyBackendType != B_BACKEND || message.redacted == hidden_whole)
		return current_calls();
	text = session_text(message.source, message.length);
	if (position > 0)
		return logtext_calls_at(&text, byte_of(&text, position));
	if (reached.source != message.source || reached.at != GetCurrentStatementStartTimestamp())
		return logtext_calls_near(&text, 0);
	return logtext_calls_near(&text, Min((size_t) reached.location, text.length));
}

/* Whether the current query string, which could not be parsed, mentions keyrot or may call it. */
bool
current_mentions(void)
{
	NamesText	text;

	if (current_calls() || debug_query_string == NULL)
		return debug_query_string != NULL;
	text = session_text(debug_query_string, strlen(debug_query_string));
	return keyrot_redact_log && names_mention_occurs(&text);
}

/* Hides the whole query string. */
void
current_hide_whole(void)
{
	message.calls = true;
	message.redacted = debug_query_string = hidden_whole;
	overwrite_activity(hidden_whole);
}

/*
 * A copy of the same length in which all statements that call keyrot are masked, if this source is the current query
 * string, else NULL.  It is in MessageContext, as the string is.
 */
const char *
current_masked(const char *source)
{
	NamesText	text;

	if (!current_calls() || !is_kept || source != message.source)
		return NULL;
	if (message.masked == NULL)
	{
		char	   *copy = MemoryContextAllocHuge(MessageContext, message.length + 1);

		text = session_text_in_hook(source, message.length);
		logtext_mask_statements(&text, copy);
		copy[message.length] = '\0';
		message.masked = copy;
	}
	return message.masked;
}

/* Whether a text ends with the original query string, which calls keyrot; returns where that starts. */
bool
current_is_tail(const char *text, size_t length, size_t *start)
{
	if (!current_calls() || message.source == NULL || length < message.length)
		return false;
	*start = length - message.length;
	return memcmp(text + *start, message.source, message.length) == 0;
}

/*
 * Whether a client is calling a function by its OID (PQfn), without a statement.  Which function it is cannot be found
 * out here, so it may be one that takes a secret.
 */
bool
current_is_by_number(void)
{
	BackendState state = MyBEEntry == NULL ? STATE_DISABLED : MyBEEntry->st_state;

	return keyrot_redact_log && debug_query_string == NULL && MyBackendType == B_BACKEND && session_has_keyrot() &&
		(state == STATE_FASTPATH || state == STATE_DISABLED) && IsNormalProcessingMode() && IsTransactionState();
}

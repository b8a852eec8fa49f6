/*
 * logtext.c
 *	  Texts without their secrets, for the log and for other readers of statements.
 *
 * There is one rule: if a statement calls one of keyrot's functions (names.c), every string, comment, name in double
 * quotes and bare word of 16 bytes or more in it is hidden, except keyrot's own names.  This is plain C and
 * allocates nothing, since it must not fail: the caller asks for the length first.
 */
#include "log/logtext.h"

#include <stdlib.h>
#include <string.h>

#include "log/lexer.h"

#define MIN_SECRET 16			/* bytes of the shortest secret */
#define AUDIT "AUDIT: "
#define AUDIT_STATEMENT 7		/* commas before the statement, which the parameters follow */
#define TRACE "keyrot.("			/* counts as a call */
#define REQUEST "keyrot request "
#define UUID_LENGTH 36

typedef struct Output
{
	char	   *out;			/* NULL: only the length is needed */
	size_t		length;
} Output;

/* A statement of a text. */
typedef struct Part
{
	size_t		start;
	size_t		end;
	NamesText	text;
	bool		is_read;		/* up to its end */
} Part;

static void
put(Output *output, const char *bytes, size_t length)
{
	if (output->out != NULL)
		memcpy(output->out + output->length, bytes, length);
	output->length += length;
}

static void
put_marker(Output *output)
{
	put(output, LOGTEXT_MARKER, LOGTEXT_MARKER_LENGTH);
}

static size_t
only_marker(char *out)
{
	Output		output = {.out = out};

	put_marker(&output);
	return output.length;
}

/* Whether the token at hand may hold a secret. */
static bool
is_hidden(const Lexer *lexer)
{
	switch (lexer->kind)
	{
		case LEXER_STRING:
		case LEXER_DOLLAR:
		case LEXER_COMMENT:
			return true;
		case LEXER_NAME:
			return !names_are_own(lexer->text + lexer->open, lexer->close - lexer->open);
		case LEXER_WORD:
			return lexer->at - lexer->start >= MIN_SECRET &&
				!names_are_own(lexer->text + lexer->start, lexer->at - lexer->start);
		default:
			return false;
	}
}

/* Puts a part of a text with markers for what is hidden; puts nothing and returns false if it cannot be read. */
static bool
put_hidden(Output *output, const char *text, size_t start, size_t end)
{
	const Output before = *output;
	Lexer		lexer = lexer_begin(text, start, end);
	size_t		copied = start;

	while (lexer_next(&lexer) != LEXER_END)
	{
		if (lexer.kind == LEXER_BROKEN)
		{
			*output = before;
			return false;
		}
		if (!is_hidden(&lexer))
			continue;
		put(output, text + copied, lexer.start - copied);
		put_marker(output);
		copied = lexer.at;
	}
	put(output, text + copied, end - copied);
	return true;
}

/* Reads the next statement; false if there is none.  In one that is only comments, names without a schema do not count. */
static bool
next_part(Lexer *lexer, const NamesText *in, Part *part)
{
	bool		has_tokens = false;

	part->start = lexer->at;
	if (lexer->at >= in->length)
		return false;
	do
	{
		(void) lexer_next(lexer);
		has_tokens |= lexer->kind != LEXER_COMMENT && lexer->kind != LEXER_END;
	} while (lexer->kind != LEXER_END && lexer->kind != LEXER_BROKEN && lexer->kind != LEXER_SEMICOLON);
	part->is_read = lexer->kind != LEXER_BROKEN;
	part->end = lexer->at;
	part->text = *in;
	part->text.text += part->start;
	part->text.length = part->end - part->start;
	part->text.unknown_calls = true;
	part->text.is_installed &= has_tokens;
	return true;
}

/* The text with markers for everything that may be a secret, whether it calls keyrot or not. */
size_t
logtext_statement(const char *text, size_t length, char *out)
{
	Output		output = {.out = out};

	/* If the text cannot be read to its end, there is no room for what precedes that point. */
	if (out != NULL && !put_hidden(&(Output) {.out = NULL}, text, 0, length))
		return only_marker(out);
	if (!put_hidden(&output, text, 0, length))
		return only_marker(out);
	return output.length;
}

/*
 * The statements of a text, with markers in those that call keyrot.  From a statement on that cannot be read,
 * everything is hidden if it mentions keyrot.
 */
size_t
logtext_statements(const NamesText *in, char *out)
{
	Output		output = {.out = out};
	Lexer		lexer = lexer_begin(in->text, 0, in->length);
	Part		part;

	if (!names_call_occurs(in))
		lexer.at = in->length;
	put(&output, in->text, lexer.at);
	while (next_part(&lexer, in, &part))
	{
		if (!part.is_read && names_mention_occurs(&part.text))
			put_marker(&output);
		else if (part.is_read && names_call_occurs(&part.text))
			(void) put_hidden(&output, in->text, part.start, part.end);
		else
			put(&output, part.text.text, part.text.length);
	}
	return output.length;
}

/* Whether the statement that begins at "start", or the one after it, calls keyrot. */
bool
logtext_calls_near(const NamesText *in, size_t start)
{
	Lexer		lexer = lexer_begin(in->text, start, in->length);
	Part		part;

	for (int i = 0; i < 2 && next_part(&lexer, in, &part); i++)
	{
		if (names_call_occurs(&part.text))
			return true;
	}
	return false;
}

/* Whether the statement that contains this byte calls keyrot. */
bool
logtext_calls_at(const NamesText *in, size_t at)
{
	Lexer		lexer = lexer_begin(in->text, 0, in->length);
	Part		part;

	while (next_part(&lexer, in, &part))
	{
		if (part.end > at || part.end == in->length)
			return names_call_occurs(&part.text);
	}
	return false;
}

/* Overwrites the current token by one of the same kind and length. */
static void
mask_token(const Lexer *lexer, char *out)
{
	char		first = lexer->text[lexer->start];

	if (lexer->kind == LEXER_WORD)
		memset(out + lexer->start, first >= '0' && first <= '9' ? '0' : 'x', lexer->at - lexer->start);
	else
		memset(out + lexer->open, '*', lexer->close - lexer->open);
}

/* Overwrites a text that cannot be read by the marker, the trace and spaces. */
static void
mask_whole(char *out, size_t length)
{
	static const char whole[] = LOGTEXT_MARKER " " TRACE;

	memset(out, ' ', length);
	memcpy(out, whole, length < sizeof(whole) - 1 ? length : sizeof(whole) - 1);
}

/* Writes the trace into the first masked token that has room for it. */
static void
leave_trace(const NamesText *in, char *out)
{
	Lexer		lexer = lexer_begin(in->text, 0, in->length);

	while (lexer_next(&lexer) != LEXER_END && lexer.kind != LEXER_BROKEN)
	{
		if (lexer.kind != LEXER_WORD && is_hidden(&lexer) && lexer.close - lexer.open >= sizeof(TRACE) - 1)
		{
			memcpy(out + lexer.open, TRACE, sizeof(TRACE) - 1);
			return;
		}
	}
}

/*
 * Writes a statement at the same length, with what may be a secret overwritten, for readers that extract parts of it
 * by position.  If the call itself is in a hidden part, a trace of it is left, so that the result is still recognized as a
 * call.  "out" has room for the length of the text.
 */
void
logtext_mask(const NamesText *in, char *out)
{
	Lexer		lexer = lexer_begin(in->text, 0, in->length);
	NamesText	masked = *in;

	memcpy(out, in->text, in->length);
	while (lexer_next(&lexer) != LEXER_END)
	{
		if (lexer.kind == LEXER_BROKEN)
		{
			mask_whole(out, in->length);
			return;
		}
		if (is_hidden(&lexer))
			mask_token(&lexer, out);
	}
	masked.text = out;
	masked.unknown_calls = false;
	if (!names_call_occurs(&masked))
		leave_trace(in, out);
}

/* The same for each statement of a text that calls keyrot. */
void
logtext_mask_statements(const NamesText *in, char *out)
{
	Lexer		lexer = lexer_begin(in->text, 0, in->length);
	Part		part;

	if (!names_call_occurs(in))
		lexer.at = in->length;
	memcpy(out, in->text, lexer.at);
	while (next_part(&lexer, in, &part))
	{
		if (names_call_occurs(&part.text))
			logtext_mask(&part.text, out + part.start);
		else
			memcpy(out + part.start, part.text.text, part.text.length);
	}
}

/* The length of what precedes the statement in pgaudit's message; the length of any other message. */
static size_t
audit_length(const char *message, size_t length)
{
	size_t		at = sizeof(AUDIT) - 1;
	int			commas = 0;

	if (length < at || memcmp(message, AUDIT, at) != 0)
		return length;
	while (at < length && commas < AUDIT_STATEMENT)
		commas += message[at++] == ',';
	return at;
}

/* Puts a text from the first to the last double quote: one of keyrot's own names, or the marker. */
static void
put_between_quotes(Output *output, const char *open, const char *end)
{
	size_t		length = (size_t) (end - open);

	if (length > 2 && names_are_own(open + 1, length - 2))
	{
		put(output, open, length);
		return;
	}
	put(output, "\"", 1);
	put_marker(output);
	put(output, "\"", 1);
}

/*
 * A message that may repeat such a statement or its values: markers replace what would be hidden in a statement, and
 * everything from the first to the last double quote, because it is not known which of the quotes belong to a quoted
 * text.  For the same reason a message with a backslash is hidden completely.
 */
size_t
logtext_message(const char *text, size_t length, char *out)
{
	size_t		audit = audit_length(text, length);
	const char *open = memchr(text, '"', audit);
	size_t		close = length;
	Output		output = {.out = out};

	if (memchr(text, '\\', length) != NULL)
		return only_marker(out);
	if (audit < length)
	{
		if (open != NULL)
			return only_marker(out);
		put(&output, text, audit);
		put_marker(&output);
		return output.length;
	}
	if (open == NULL)
		return logtext_statement(text, length, out);
	while (text[close - 1] != '"')
		close--;
	if (!put_hidden(&(Output) {.out = NULL}, text, 0, (size_t) (open - text)) ||
		!put_hidden(&(Output) {.out = NULL}, text, close, length))
		return only_marker(out);
	(void) put_hidden(&output, text, 0, (size_t) (open - text));
	put_between_quotes(&output, open, text + close);
	(void) put_hidden(&output, text, close, length);
	return output.length;
}

static bool
consists_of(const char *bytes, size_t length, const char *letters)
{
	for (size_t i = 0; i < length; i++)
	{
		if (bytes[i] == '\0' || strchr(letters, bytes[i]) == NULL)
			return false;
	}
	return true;
}

/* Whether a line of CONTEXT is keyrot's own, with a RequestId. */
static bool
is_request_line(const char *line, size_t length)
{
	size_t		at = sizeof(REQUEST) - 1;

	if (length < at + UUID_LENGTH + 2 || memcmp(line, REQUEST, at) != 0)
		return false;
	if (!consists_of(line + at, UUID_LENGTH, "0123456789abcdef-") || memcmp(line + at + UUID_LENGTH, ": ", 2) != 0)
		return false;
	at += UUID_LENGTH + 2;
	return consists_of(line + at, length - at, "abcdefghijklmnopqrstuvwxyz_");
}

/* CONTEXT with only the lines that contain a RequestId; one marker replaces any number of consecutive others. */
size_t
logtext_context(const char *text, size_t length, char *out)
{
	Output		output = {.out = out};
	bool		hidden = false;

	for (size_t at = 0; at < length;)
	{
		const char *newline = memchr(text + at, '\n', length - at);
		size_t		line = newline == NULL ? length - at : (size_t) (newline - text) - at;
		bool		hides = !is_request_line(text + at, line);

		if (!(hides && hidden))
		{
			if (output.length > 0)
				put(&output, "\n", 1);
			if (hides)
				put_marker(&output);
			else
				put(&output, text + at, line);
		}
		hidden = hides;
		at += line + 1;
	}
	return output.length;
}

/* Whether a text is a parse or plan tree, as debug_print_parse and its kin print them. */
bool
logtext_is_tree(const char *detail)
{
	const char *start = detail + strspn(detail, " \t\n(");

	return start[0] == '{' && start[1] >= 'A' && start[1] <= 'Z';
}

/* Whether a tree calls a function that is keyrot's, and has a constant, which is printed as decimal bytes. */
bool
logtext_tree_has_call(const char *detail, bool (*is_own) (unsigned function))
{
	static const char funcid[] = ":funcid ";

	if (strstr(detail, ":constvalue ") == NULL)
		return false;
	for (const char *at = strstr(detail, funcid); at != NULL; at = strstr(at + 1, funcid))
	{
		if (is_own((unsigned) strtoul(at + sizeof(funcid) - 1, NULL, 10)))
			return true;
	}
	return false;
}

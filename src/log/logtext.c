/*
 * logtext.c
 *	  Texts without their secrets, as the log and other readers of statements need them.
 *
 * In plain C, and without memory of its own, since it works where nothing may fail: the caller asks for
 * the length first.
 */
#include "log/logtext.h"

#define MAX_READABLE 16			/* quoted pieces of a message that are looked at */

#include <stdlib.h>
#include <string.h>

#define AUDIT "AUDIT: "
#define AUDIT_STATEMENT 8		/* the field that holds the statement; the parameters follow */
#define REQUEST "keyrot request "
#define UUID_LENGTH 36
#define FIRST_USER_OID 16384

typedef struct Output
{
	char	   *out;			/* NULL: only the length is asked for */
	size_t		length;
} Output;

typedef struct Redaction
{
	const char *in;
	size_t		copied;			/* of the text */
	Output		output;
	bool		hidden;			/* something was */
} Redaction;

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
	put(output, LEXER_MARKER, LEXER_MARKER_LENGTH);
}

static void
ignore_token(void *sink __attribute__((unused)), size_t start __attribute__((unused)),
			 size_t end __attribute__((unused)), LexerFiller filler __attribute__((unused)))
{
}

/* Puts the marker in place of a token; one marker stands for literals side by side. */
static void
redact_token(void *sink, size_t start, size_t end, LexerFiller filler __attribute__((unused)))
{
	Redaction  *redaction = sink;
	size_t		blanks = redaction->copied + strspn(redaction->in + redaction->copied, " \t\n\r\f\v");

	if (blanks < start || !redaction->hidden)
	{
		put(&redaction->output, redaction->in + redaction->copied, start - redaction->copied);
		put_marker(&redaction->output);
	}
	redaction->hidden = true;
	redaction->copied = end;
}

/* The text with the marker for what the verdict says is to be hidden. */
size_t
logtext_redact(const LexerText *in, LexerVerdict verdict, char *out)
{
	Redaction	redaction = {.in = in->text, .output = {.out = out}};

	/* Only a text that can be read to its end has room for what comes before. */
	if (verdict != LEXER_HARMLESS && out != NULL && !lexer_each_hidden(in, verdict, ignore_token, NULL))
		verdict = LEXER_UNCLEAR;
	if (verdict != LEXER_HARMLESS && !lexer_each_hidden(in, verdict, redact_token, &redaction))
	{
		redaction.output.length = 0;
		put_marker(&redaction.output);
		return redaction.output.length;
	}
	put(&redaction.output, in->text + redaction.copied, in->length - redaction.copied);
	return redaction.output.length;
}

/* Where the contents of a quoted token begin and end. */
static void
find_contents(const char *text, size_t *start, size_t *end)
{
	size_t		head = strcspn(text + *start, "'\"-/$") + 1;
	size_t		tail = 1;

	switch (text[*start + head - 1])
	{
		case '-':
			head++;
			tail = 0;
			break;
		case '/':
			head++;
			tail = 2;
			break;
		case '$':
			head += strcspn(text + *start + head, "$") + 1;
			tail = head;
			break;
		default:
			break;
	}
	*start += head;
	*end -= tail;
}

/* Overwrites a token so that a lexer finds one of the same kind and length in its place. */
static void
mask_token(void *sink, size_t start, size_t end, LexerFiller filler)
{
	char	   *text = sink;
	char		with = '*';

	if (filler == LEXER_FILL_QUOTED)
		find_contents(text, &start, &end);
	else
		with = filler == LEXER_FILL_NUMBER ? '0' : 'x';
	memset(text + start, with, end - start);
}

/*
 * The text at the same length, with what is to be hidden overwritten, for those who cut pieces out of it
 * by position.  A text that cannot be read becomes the marker and blanks.  "out" has room for the text's
 * length, and may be the text itself.
 */
void
logtext_mask(const LexerText *in, LexerVerdict verdict, char *out)
{
	if (out != in->text)
		memcpy(out, in->text, in->length);
	if (verdict == LEXER_HARMLESS || lexer_each_hidden(in, verdict, mask_token, out))
		return;
	memset(out, ' ', in->length);
	if (in->length >= LEXER_MARKER_LENGTH)
		memcpy(out, LEXER_MARKER, LEXER_MARKER_LENGTH);
}

/*
 * How much of pgaudit's message stands before the statement's parameters, which it prints bare; all of any
 * other message.  Fields are separated by commas and quoted as in CSV.
 */
size_t
logtext_audit_fields(const char *message, size_t length)
{
	size_t		at = sizeof(AUDIT) - 1;
	int			field = 1;
	bool		quoted = false;

	if (length < at || memcmp(message, AUDIT, at) != 0)
		return length;
	for (; at < length; at++)
	{
		if (message[at] == '"')
			quoted = !quoted;
		else if (message[at] == ',' && !quoted && field++ == AUDIT_STATEMENT)
			return at + 1 < length && message[at + 1] == '<' ? length : at;
	}
	return length;
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

static size_t
line_length(const char *text, size_t length)
{
	const char *newline = memchr(text, '\n', length);

	return newline == NULL ? length : (size_t) (newline - text);
}

/*
 * CONTEXT, redacted but for the lines that tell a RequestId.  The verdict is at least the one given, since
 * lines may hold values of a statement that they do not show.
 */
size_t
logtext_context(const LexerText *in, LexerVerdict least, char *out)
{
	Output		output = {.out = out};
	size_t		at = 0;

	while (at < in->length)
	{
		LexerText	part = *in;
		LexerVerdict verdict;

		part.text = in->text + at;
		part.length = line_length(part.text, in->length - at);
		if (is_request_line(part.text, part.length))
			put(&output, part.text, part.length);
		else
		{
			while (at + part.length < in->length)
			{
				const char *next = part.text + part.length + 1;
				size_t		line = line_length(next, in->length - at - part.length - 1);

				if (is_request_line(next, line))
					break;
				part.length += 1 + line;
			}
			verdict = lexer_judge(&part);
			output.length += logtext_redact(&part, verdict < least ? least : verdict,
											out == NULL ? NULL : out + output.length);
		}
		at += part.length;
		if (at < in->length)
			put(&output, in->text + at++, 1);
	}
	return output.length;
}

/* Tells whether the text has a byte that is not ASCII. */
static bool
is_foreign(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if ((text[i] & 0x80) != 0)
			return true;
	}
	return false;
}

/* A piece of a message that stands in quotes; open is NULL where there is none any more. */
typedef struct Quoted
{
	const char *open;
	const char *close;
	size_t		end;			/* of the piece, or of the message */
} Quoted;

static Quoted
next_quoted(const char *message, size_t length, size_t at)
{
	Quoted		piece = {.open = memchr(message + at, '"', length - at), .end = length};

	if (piece.open != NULL)
		piece.close = memchr(piece.open + 1, '"', length - (size_t) (piece.open + 1 - message));
	if (piece.close == NULL)
		piece.open = NULL;
	else
		piece.end = (size_t) (piece.close + 1 - message);
	return piece;
}

static bool
may_stay(const Quoted *piece, int number, bool (*is_readable) (const char *, size_t))
{
	return number < MAX_READABLE && is_readable(piece->open + 1, (size_t) (piece->close - piece->open - 1));
}

/* Whether what stands outside of quotes, before the first piece that is hidden, is not plain English. */
static bool
is_translated(const char *message, size_t length, bool (*is_readable) (const char *, size_t))
{
	size_t		at = 0;

	for (int number = 0; at < length; number++)
	{
		Quoted		piece = next_quoted(message, length, at);

		if (is_foreign(message + at, piece.open == NULL ? length - at : (size_t) (piece.open - message) - at))
			return true;
		if (piece.open == NULL || !may_stay(&piece, number, is_readable))
			return false;
		at = piece.end;
	}
	return false;
}

/*
 * An error's message, without the values that it quotes.  What may stay is asked of the caller, of the
 * first pieces only.  A value may hold quotes itself, so from the first that is hidden all is, up to the
 * last quote.  In other languages other quotes are used: what is not ASCII outside of quotes hides the
 * message whole, which is found out before anything is written.
 */
size_t
logtext_values(const char *message, size_t length, bool (*is_readable) (const char *, size_t), char *out)
{
	Output		output = {.out = out};
	size_t		at = 0;

	if (is_translated(message, length, is_readable))
	{
		put_marker(&output);
		return output.length;
	}
	for (int number = 0; at < length; number++)
	{
		Quoted		piece = next_quoted(message, length, at);

		if (piece.open != NULL && !may_stay(&piece, number, is_readable))
		{
			size_t		last = length;

			while (message[last - 1] != '"')
				last--;
			put(&output, message + at, (size_t) (piece.open + 1 - message) - at);
			put_marker(&output);
			put(&output, message + last - 1, length - last + 1);
			return output.length;
		}
		put(&output, message + at, piece.end - at);
		at = piece.end;
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

/*
 * Whether a tree calls a function that is not the server's own, and has a constant, which is printed as
 * the numbers of its bytes.
 */
bool
logtext_tree_has_constant(const char *detail)
{
	static const char funcid[] = ":funcid ";
	static const char constant[] = ":constvalue ";
	bool		has_constant = false;

	for (const char *at = strstr(detail, constant); at != NULL && !has_constant; at = strstr(at + 1, constant))
		has_constant = at[sizeof(constant) - 1] != '<';
	if (!has_constant)
		return false;
	for (const char *at = strstr(detail, funcid); at != NULL; at = strstr(at + 1, funcid))
	{
		if (strtoul(at + sizeof(funcid) - 1, NULL, 10) >= FIRST_USER_OID)
			return true;
	}
	return false;
}

/*
 * lexer.c
 *	  Finds the secrets in SQL texts, and in messages that hold SQL, by their position.
 *
 * A small lexer of our own, in plain C: the server's parser may throw, which a log hook must not, and
 * looking for values instead of positions misses 'SEC' 'RET', which is one literal.  It knows how SQL's
 * tokens end, nothing of its grammar but parentheses, commas and names before them, and errs on the side
 * of hiding.  In the arguments of calls that take a secret (names.c) it hides every string, number,
 * comment, quoted name and word long enough to be a secret, but for the first argument and the named ones
 * that are public.  Where such an argument refers to something else (a column, a variable), the secret may
 * be any literal of the text, and all are hidden.
 */
#include "log/lexer.h"

#include "log/names.h"
#include "log/token.h"

#include <string.h>

#define MAX_NAME 64
#define MAX_FRAMES 16			/* calls that take a secret, one in the other */
#define MAX_BODIES 8			/* dollar-quoted bodies, one in the other */
#define BODY_DEPTH 1000000		/* more parentheses than are closed in a body without being opened there */
#define MAX_PUBLIC 39			/* bytes of a literal that may be an AppKey or ZoneId, and not a secret made by keyrot */
#define MIN_SECRET 16			/* bytes of the shortest AppSecret */

typedef enum Token
{
	TOKEN_NONE,
	TOKEN_NAME,
	TOKEN_DOT,
	TOKEN_CAST,					/* a type follows */
	TOKEN_TYPE,					/* its name, or a part of it */
	TOKEN_OPEN,					/* the start of an argument */
	TOKEN_OTHER
} Token;

/* The arguments of a call under way. */
typedef struct Frame
{
	int			depth;			/* of its parenthesis */
	bool		first_is_public;
	bool		is_public;		/* the argument under way */
	int			tokens;			/* in the argument so far */
} Frame;

typedef struct Lexer
{
	const LexerText *source;
	const char *text;
	size_t		at;
	size_t		end;
	bool		hide_all;
	LexerHide	hide;			/* NULL while the text is judged */
	void	   *sink;
	LexerVerdict verdict;
	bool		failed;
	bool		has_parameter;	/* $1 where a secret is expected */
	bool		executes;		/* EXECUTE of something prepared, or of a string */
	bool		names_function; /* a string is the name of a function that takes a secret */
	int			bodies;
	int			depth;
	int			frames;
	Frame		frame[MAX_FRAMES];
	Token		last;
	bool		after_execute;	/* the name stands after EXECUTE, and not in a body */
	bool		after_as;		/* the name stands after AS */
	bool		is_declared;	/* the name, and what qualifies it, after FUNCTION: types follow, not values */
	char		qualifier[MAX_NAME];
	char		name[MAX_NAME];	/* the last one */
	bool		is_quoted;		/* in double quotes */
	bool		is_any;			/* it may be any name */
} Lexer;

static void scan(Lexer *lexer);

static char
peek(const Lexer *lexer, size_t ahead)
{
	if (ahead >= lexer->end - lexer->at)
		return '\0';
	return lexer->text[lexer->at + ahead];
}

static void
raise_verdict(Lexer *lexer, LexerVerdict verdict)
{
	if (lexer->verdict < verdict)
		lexer->verdict = verdict;
}

static Frame *
top(Lexer *lexer)
{
	return lexer->frames > 0 ? &lexer->frame[lexer->frames - 1] : NULL;
}

/* Whether what stands here is in an argument that takes a secret, of whichever of the open calls. */
static bool
in_secret_argument(const Lexer *lexer)
{
	int			i = lexer->frames;

	while (i > 0 && lexer->frame[i - 1].is_public)
		i--;
	return i > 0;
}

/* Counts a token of the argument under way. */
static void
note(Lexer *lexer, Token token)
{
	if (lexer->frames > 0)
		top(lexer)->tokens++;
	lexer->last = token;
}

static void
hide(Lexer *lexer, size_t start, size_t end, LexerFiller filler)
{
	if (lexer->hide != NULL)
		lexer->hide(lexer->sink, start, end, filler);
}

/* Whether a literal that is all of a public argument so far, but for its type, has a form that public names have. */
static bool
may_be_shown(const Lexer *lexer, size_t start, size_t end)
{
	const Frame *frame = &lexer->frame[lexer->frames - 1];
	bool		is_typed = lexer->last == TOKEN_NAME && frame->tokens == 1 && names_word_is_type(lexer->name);

	return (lexer->last == TOKEN_OPEN || is_typed) && frame->is_public && frame->depth == lexer->depth &&
		lexer->text[start] == '\'' && end - start <= MAX_PUBLIC + 2 &&
		memchr(lexer->text + start, '\\', end - start) == NULL;
}

/* A literal was read: hides it where it is, or may be, a secret. */
static void
literal(Lexer *lexer, size_t start, size_t end, LexerFiller filler)
{
	bool		of_call = lexer->frames > 0;

	/* In a public argument a second literal may be one whose comma was forgotten. */
	if (of_call && (in_secret_argument(lexer) || !may_be_shown(lexer, start, end)))
	{
		raise_verdict(lexer, LEXER_ARGUMENTS);
		hide(lexer, start, end, filler);
	}
	else if (!of_call && lexer->hide_all && (filler == LEXER_FILL_QUOTED || end - start >= MIN_SECRET))
		hide(lexer, start, end, filler);
	if (filler == LEXER_FILL_QUOTED && end - start > 2)
		lexer->names_function |= names_is_secret_function(lexer->text + start + 1, end - start - 2);
	note(lexer, TOKEN_OTHER);
}

/* A string or comment may hold a statement in its turn; its own tokens are not looked at. */
static bool
holds_call(Lexer *lexer, size_t start, size_t end)
{
	if (!names_call_occurs(lexer->text + start, end - start))
		return false;
	if (lexer->source->form == LEXER_MESSAGE)
		lexer->failed = true;
	raise_verdict(lexer, LEXER_ANYWHERE);
	return true;
}

/*
 * Reads a string, whose opening quote stands at "quote".  What a backslash does depends on a setting of the
 * session, and in a message on who wrote it.
 */
static void
read_string(Lexer *lexer, size_t start, size_t quote, bool escapes)
{
	size_t		end = token_string_end(lexer->text, quote, lexer->end, escapes);
	bool		message = lexer->source->form == LEXER_MESSAGE;

	lexer->at = end;
	if (end == TOKEN_OPEN_ENDED ||
		(message && memchr(lexer->text + quote, '\\', end - quote) != NULL) ||
		(!escapes && token_string_is_ambiguous(lexer->text, quote, end)))
		lexer->failed = true;
	else if (holds_call(lexer, quote, end) && !in_secret_argument(lexer))
	{
		hide(lexer, start, end, LEXER_FILL_QUOTED);
		note(lexer, TOKEN_OTHER);
	}
	else
		literal(lexer, start, end, LEXER_FILL_QUOTED);
}

/* Reads a text inside the text; its parentheses are its own. */
static void
read_body(Lexer *lexer, size_t start, size_t end)
{
	int			depth = lexer->depth;
	int			frames = lexer->frames;

	lexer->bodies++;
	lexer->depth += BODY_DEPTH;
	lexer->at = start;
	lexer->end = end;
	lexer->last = TOKEN_NONE;
	scan(lexer);
	lexer->bodies--;
	lexer->depth = depth;
	lexer->frames = frames;
}

/* Reads what is quoted by dollars: a body of code, if it calls what takes a secret, or else a literal. */
static void
read_dollar_string(Lexer *lexer, size_t tag)
{
	size_t		start = lexer->at;
	size_t		body = start + tag;
	size_t		end = lexer->end;
	size_t		close = token_body_end(lexer->text, start, end, tag);

	if (close == TOKEN_OPEN_ENDED)
	{
		lexer->failed = true;
		return;
	}
	lexer->at = close + tag;
	if (in_secret_argument(lexer) || !names_call_occurs(lexer->text + body, close - body) ||
		lexer->bodies == MAX_BODIES)
	{
		literal(lexer, start, lexer->at, LEXER_FILL_QUOTED);
		return;
	}
	read_body(lexer, body, close);
	lexer->at = close + tag;
	lexer->end = end;
	note(lexer, TOKEN_OTHER);
}

/* Takes a name over; what was the last one becomes its qualifier where a dot stands between. */
static void
take_name(Lexer *lexer, const char *name, size_t length)
{
	bool		was_after_execute = lexer->after_execute;

	lexer->after_execute = lexer->last == TOKEN_NAME && lexer->bodies == 0 && names_are_equal(lexer->name, "execute");
	lexer->executes |= lexer->last == TOKEN_NAME && names_are_equal(lexer->name, "execute");
	lexer->after_as = lexer->last == TOKEN_NAME && names_are_equal(lexer->name, "as");
	if (lexer->last != TOKEN_DOT)
		lexer->is_declared = lexer->last == TOKEN_NAME && !was_after_execute && names_word_declares(lexer->name);
	lexer->qualifier[0] = '\0';
	if (lexer->last == TOKEN_DOT)
		memcpy(lexer->qualifier, lexer->name, sizeof(lexer->name));
	length = length < MAX_NAME ? length : MAX_NAME - 1;
	memcpy(lexer->name, name, length);
	lexer->name[length] = '\0';
	lexer->is_quoted = lexer->is_any = false;
}

/* Whether EXECUTE of the last name hands over a secret; PostgreSQL knows the name as it folds it. */
static bool
is_prepared_with_secret(const Lexer *lexer)
{
	char		name[MAX_NAME];

	if (!lexer->after_execute || lexer->is_any || lexer->source->takes_secret == NULL)
		return lexer->after_execute && lexer->is_any;
	memcpy(name, lexer->name, sizeof(name));
	for (size_t i = 0; !lexer->is_quoted && name[i] != '\0'; i++)
		name[i] += name[i] >= 'A' && name[i] <= 'Z' ? 'a' - 'A' : 0;
	return lexer->source->takes_secret(name);
}

/* What a word in an argument that takes a secret says of where the secret is. */
static void
judge_word(Lexer *lexer, size_t start)
{
	char		next[2];

	token_past_blanks(lexer->text, lexer->at, lexer->end, next);
	if ((next[0] == '=' && next[1] == '>') || (next[0] == ':' && next[1] == '=') || lexer->last == TOKEN_CAST)
		return;
	if (next[0] == '(' || next[0] == '.')
	{
		/* A plan may print what a function is given apart from the call that takes its result. */
		if (!names_word_is_plain(lexer->name) && !names_word_is_type(lexer->name))
			raise_verdict(lexer, LEXER_ANYWHERE);
		return;
	}
	if (names_word_is_plain(lexer->name) || ((next[0] == '\'' || lexer->after_as) && names_word_is_type(lexer->name)))
		return;
	raise_verdict(lexer, LEXER_ANYWHERE);
	if (lexer->at - start >= MIN_SECRET)
		hide(lexer, start, lexer->at, LEXER_FILL_WORD);
}

static void
read_word(Lexer *lexer)
{
	size_t		start = lexer->at;
	bool		cast = lexer->last == TOKEN_CAST;

	lexer->at = token_name_end(lexer->text, start, lexer->end);
	take_name(lexer, lexer->text + start, lexer->at - start);
	if (in_secret_argument(lexer))
		judge_word(lexer, start);
	/* A type may be qualified: 'SECRET'::pg_catalog.text. */
	note(lexer, cast ? TOKEN_TYPE : TOKEN_NAME);
}

/* Passes over a quote that encloses no name: in a message it may enclose a statement. */
static void
read_lone_quote(Lexer *lexer, size_t quote)
{
	if (lexer->source->form != LEXER_MESSAGE || in_secret_argument(lexer))
		lexer->failed = true;
	lexer->at = quote + 1;
	note(lexer, TOKEN_OTHER);
}

/* Reads a name in double quotes; one with Unicode escapes, or in a message with blanks, may be any name. */
static void
read_quoted_name(Lexer *lexer, size_t start, size_t quote, bool unicode)
{
	static const char any[] = "create_app";
	size_t		end = token_quoted_name_end(lexer->text, quote, lexer->end, lexer->source->form == LEXER_MESSAGE);
	size_t		length = end - quote - 2;
	bool		any_name;

	if (end == TOKEN_OPEN_ENDED)
	{
		read_lone_quote(lexer, quote);
		return;
	}
	lexer->at = end;
	if (lexer->source->form == LEXER_MESSAGE && length == 0)
		return;					/* a quote in CSV */
	any_name = unicode && memchr(lexer->text + quote, '\\', end - quote) != NULL;
	any_name |= lexer->source->form == LEXER_MESSAGE && !token_is_plain_name(lexer->text + quote + 1, length);
	if (any_name)
		take_name(lexer, any, sizeof(any) - 1);
	else
		take_name(lexer, lexer->text + quote + 1, length - (length > 0 && lexer->text[end - 2] == '\\'));
	lexer->is_quoted = true;
	lexer->is_any = any_name;
	if (holds_call(lexer, quote, end) ||
		(any_name && names_execution_occurs(lexer->text + quote, end - quote, lexer->source->takes_secret)))
		lexer->failed = true;	/* no name, but a string of another language, or a statement in a message */
	if (unicode && lexer->source->form == LEXER_SQL && token_word_follows(lexer->text, lexer->at, lexer->end, "uescape"))
		lexer->failed = true;	/* any name, and the clause hides that it is called */
	if (in_secret_argument(lexer))
	{
		raise_verdict(lexer, LEXER_ANYWHERE);
		hide(lexer, start, end, LEXER_FILL_QUOTED);
	}
	note(lexer, lexer->last == TOKEN_CAST ? TOKEN_TYPE : TOKEN_NAME);
}

static void
read_number(Lexer *lexer)
{
	size_t		start = lexer->at;

	lexer->at = token_number_end(lexer->text, start, lexer->end);
	literal(lexer, start, lexer->at, LEXER_FILL_NUMBER);
}

/* Reads "$1".  Its value stands elsewhere in a message, and in a text that prepares and executes. */
static void
read_parameter(Lexer *lexer)
{
	lexer->at++;
	while (token_is_digit(peek(lexer, 0)))
		lexer->at++;
	if (in_secret_argument(lexer))
	{
		raise_verdict(lexer, lexer->source->form == LEXER_MESSAGE ? LEXER_ANYWHERE : LEXER_ARGUMENTS);
		lexer->has_parameter = true;
	}
	note(lexer, TOKEN_OTHER);
}

/* Comments are white space, unless they hold what is to be hidden. */
static void
read_comment(Lexer *lexer)
{
	size_t		start = lexer->at;

	lexer->at = token_comment_end(lexer->text, start, lexer->end);
	if (lexer->at == TOKEN_OPEN_ENDED)
		lexer->failed = true;
	else if (in_secret_argument(lexer))
	{
		raise_verdict(lexer, LEXER_ARGUMENTS);
		hide(lexer, start, lexer->at, LEXER_FILL_QUOTED);
	}
	else if (holds_call(lexer, start, lexer->at))
		hide(lexer, start, lexer->at, LEXER_FILL_QUOTED);
}

/* A parenthesis opens: a call's, if a name stands before it. */
static void
open_parenthesis(Lexer *lexer)
{
	bool		is_name = lexer->last == TOKEN_NAME;
	Frame	   *next = &lexer->frame[lexer->frames];
	bool		prepared = is_name && is_prepared_with_secret(lexer);

	note(lexer, TOKEN_OTHER);
	lexer->at++;
	lexer->depth++;
	if (!prepared && !(is_name && !lexer->is_declared && names_take_secret(lexer->qualifier, lexer->name)))
		return;
	lexer->failed |= lexer->frames == MAX_FRAMES;
	if (lexer->failed)
		return;
	*next = (Frame) {.depth = lexer->depth, .first_is_public = !prepared, .is_public = !prepared};
	lexer->frames++;
	lexer->last = TOKEN_OPEN;
}

static void
close_parenthesis(Lexer *lexer)
{
	Frame	   *frame = top(lexer);

	if (frame != NULL && frame->depth == lexer->depth)
		lexer->frames--;
	lexer->depth--;
	lexer->at++;
	note(lexer, TOKEN_OTHER);
}

/* Begins the next argument: public only if its name says so. */
static void
begin_argument(Lexer *lexer, bool is_public)
{
	top(lexer)->is_public = is_public;
	top(lexer)->tokens = 0;
	lexer->last = TOKEN_OPEN;
}

static void
read_punctuation(Lexer *lexer)
{
	Frame	   *frame = top(lexer);
	bool		of_call = frame != NULL && frame->depth == lexer->depth;
	char		c = peek(lexer, 0);
	char		next = peek(lexer, 1);

	if (c == '(')
		open_parenthesis(lexer);
	else if (c == ')')
		close_parenthesis(lexer);
	else if (c == ',' && of_call)
	{
		begin_argument(lexer, false);
		lexer->at++;
	}
	else if (((c == '=' && next == '>') || (c == ':' && next == '=')) && of_call &&
			 lexer->last == TOKEN_NAME && frame->tokens == 1)
	{
		begin_argument(lexer, frame->first_is_public && names_parameter_is_public(lexer->name));
		lexer->at += 2;
	}
	else if (c == ':' && next == ':')
	{
		note(lexer, TOKEN_CAST);
		lexer->at += 2;
	}
	else
	{
		Token		token = c != '.' ? TOKEN_OTHER : lexer->last == TOKEN_TYPE ? TOKEN_CAST : TOKEN_DOT;

		if (c == '*' && lexer->last == TOKEN_DOT && lexer->frames > 0)
			raise_verdict(lexer, LEXER_ANYWHERE);	/* all columns of a row */
		note(lexer, token);
		lexer->at++;
	}
}

/* Reads a string or name that a letter introduces: E'', B'', X'', N'', U&'' and U&"". */
static bool
read_prefixed(Lexer *lexer)
{
	size_t		start = lexer->at;
	char		c = peek(lexer, 0);

	if (c != '\0' && strchr("eEbBxXnN", c) != NULL && peek(lexer, 1) == '\'')
		read_string(lexer, start, start + 1, c == 'e' || c == 'E');
	else if ((c == 'u' || c == 'U') && peek(lexer, 1) == '&' && peek(lexer, 2) == '\'')
		read_string(lexer, start, start + 2, false);
	else if ((c == 'u' || c == 'U') && peek(lexer, 1) == '&' && peek(lexer, 2) == '"')
		read_quoted_name(lexer, start, start + 2, true);
	else if (lexer->source->form == LEXER_MESSAGE && (c == 'u' || c == 'U') && peek(lexer, 1) == '&' &&
			 peek(lexer, 2) == '\\')
		lexer->failed = true;	/* in JSON; the escapes in it are escaped, too */
	else
		return false;
	return true;
}

/* Passes over what was hidden before, so that hiding twice is hiding once. */
static bool
read_marker(Lexer *lexer)
{
	if (lexer->end - lexer->at < LEXER_MARKER_LENGTH ||
		memcmp(lexer->text + lexer->at, LEXER_MARKER, LEXER_MARKER_LENGTH) != 0)
		return false;
	if (lexer->frames > 0)
		raise_verdict(lexer, LEXER_ARGUMENTS);
	lexer->at += LEXER_MARKER_LENGTH;
	note(lexer, TOKEN_OTHER);
	return true;
}

/* Reads the text from "at" to "end", token by token. */
static void
scan(Lexer *lexer)
{
	while (lexer->at < lexer->end && !lexer->failed)
	{
		char		c = peek(lexer, 0);
		size_t		tag = c == '$' ? token_tag_length(lexer->text, lexer->at, lexer->end) : 0;

		if (token_is_space(c))
			lexer->at++;
		else if (c == '\'')
			read_string(lexer, lexer->at, lexer->at, false);
		else if (c == '"')
			read_quoted_name(lexer, lexer->at, lexer->at, false);
		else if (token_starts_name(c))
		{
			if (!read_prefixed(lexer))
				read_word(lexer);
		}
		else if (token_is_digit(c) || (c == '.' && token_is_digit(peek(lexer, 1)) && lexer->last != TOKEN_NAME))
			read_number(lexer);
		else if (c == '$' && tag > 0)
			read_dollar_string(lexer, tag);
		else if (c == '$' && token_is_digit(peek(lexer, 1)))
			read_parameter(lexer);
		else if ((c == '-' && peek(lexer, 1) == '-') || (c == '/' && peek(lexer, 1) == '*'))
			read_comment(lexer);
		else if (c == '\\' && lexer->source->form == LEXER_MESSAGE)
			lexer->at += lexer->end - lexer->at > 1 ? 2 : 1;
		else if (c != '<' || !read_marker(lexer))
			read_punctuation(lexer);
	}
}

static Lexer
begin(const LexerText *text)
{
	return (Lexer) {
		.source = text, .text = text->text, .end = text->length
	};
}

/* Tells what a text is, without copying anything.  Cheap for texts without any name of interest. */
LexerVerdict
lexer_judge(const LexerText *text)
{
	Lexer		lexer;

	if (!names_may_occur(text->text, text->length))
		return LEXER_HARMLESS;
	if (text->form == LEXER_SQL && names_other_language_occurs(text->text, text->length) &&
		names_call_occurs(text->text, text->length))
		return LEXER_UNCLEAR;
	lexer = begin(text);
	scan(&lexer);
	if (lexer.failed)
		return names_mention_occurs(text->text, text->length) ||
			names_execution_occurs(text->text, text->length, text->takes_secret) ? LEXER_UNCLEAR : LEXER_HARMLESS;
	if ((lexer.has_parameter || lexer.names_function) && lexer.executes)
		return LEXER_ANYWHERE;
	return lexer.verdict;
}

/*
 * Calls back for each stretch that the verdict says is to be hidden, in their order; tells whether the text
 * could be read.  If not, what was called back so far counts for nothing.
 */
bool
lexer_each_hidden(const LexerText *text, LexerVerdict verdict, LexerHide callback, void *sink)
{
	Lexer		lexer = begin(text);

	if (verdict == LEXER_UNCLEAR)
		return false;
	lexer.hide = callback;
	lexer.sink = sink;
	lexer.hide_all = verdict == LEXER_ANYWHERE;
	scan(&lexer);
	return !lexer.failed;
}

/*
 * lexer.c
 *	  The tokens of SQL texts, in as much detail as is needed to hide them.
 *
 * This is plain C, since the server's parser may raise errors, which a log hook must not.  It knows where tokens
 * end and which semicolons end a statement, and nothing else of the grammar.  Every byte is looked at a fixed
 * number of times.
 */
#include "log/lexer.h"

#include <string.h>

#include "log/names.h"

static char
peek(const Lexer *lexer, size_t ahead)
{
	if (ahead >= lexer->end - lexer->at)
		return '\0';
	return lexer->text[lexer->at + ahead];
}

/* Ends the current token at "end". */
static LexerKind
finish(Lexer *lexer, LexerKind kind, size_t end)
{
	NAMES_STEPS(end - lexer->start);
	lexer->kind = kind;
	lexer->at = end;
	return kind;
}

/* Reads a quoted token, in which the quote is doubled.  With escapes, a byte after a backslash does not count. */
static LexerKind
read_quoted(Lexer *lexer, size_t quote, LexerKind kind, bool escapes)
{
	const char *text = lexer->text;
	bool		after_backslash = false;

	lexer->open = quote + 1;
	for (size_t i = quote + 1; i < lexer->end; i++)
	{
		if (text[i] == '\\' && escapes)
			i++;
		else if (text[i] == text[quote])
		{
			/* With standard_conforming_strings off, such a string does not end here. */
			if (after_backslash && kind == LEXER_STRING)
				break;
			lexer->close = i;
			if (i + 1 >= lexer->end || text[i + 1] != text[quote])
				return finish(lexer, kind, i + 1);
			i++;
		}
		after_backslash = i < lexer->end && text[i] == '\\' && !escapes;
	}
	return finish(lexer, LEXER_BROKEN, lexer->end);
}

/* The length of the tag of a dollar quote, including both dollar signs; 0 if none begins here. */
static size_t
tag_length(const Lexer *lexer)
{
	size_t		length = 1;

	if (peek(lexer, 1) >= '0' && peek(lexer, 1) <= '9')
		return 0;
	while (names_is_word(peek(lexer, length)))
		length++;
	NAMES_STEPS(length);
	return peek(lexer, length) == '$' ? length + 1 : 0;
}

static LexerKind
read_dollar(Lexer *lexer, size_t tag)
{
	const char *body = lexer->text + lexer->at + tag;
	const char *end = lexer->text + lexer->end;

	/* Dollar signs are only at the ends of a tag, so no byte is compared more than twice. */
	for (const char *close = body; close != NULL && close + tag <= end; close++)
	{
		close = memchr(close, '$', (size_t) (end - close));
		if (close == NULL || close + tag > end)
			break;
		if (memcmp(close, lexer->text + lexer->at, tag) == 0)
		{
			lexer->open = (size_t) (body - lexer->text);
			lexer->close = (size_t) (close - lexer->text);
			return finish(lexer, LEXER_DOLLAR, lexer->close + tag);
		}
	}
	return finish(lexer, LEXER_BROKEN, lexer->end);
}

static LexerKind
read_line_comment(Lexer *lexer)
{
	size_t		i = lexer->at + 2;

	lexer->open = i;
	while (i < lexer->end && lexer->text[i] != '\n' && lexer->text[i] != '\r')
		i++;
	lexer->close = i;
	return finish(lexer, LEXER_COMMENT, i);
}

/* Block comments nest. */
static LexerKind
read_block_comment(Lexer *lexer)
{
	const char *text = lexer->text;
	int			level = 1;

	lexer->open = lexer->at + 2;
	for (size_t i = lexer->open; i + 1 < lexer->end; i++)
	{
		bool		opens = text[i] == '/' && text[i + 1] == '*';
		bool		closes = text[i] == '*' && text[i + 1] == '/';

		level += opens - closes;
		lexer->close = i;
		i += opens || closes;
		if (level == 0)
			return finish(lexer, LEXER_COMMENT, i + 1);
	}
	return finish(lexer, LEXER_BROKEN, lexer->end);
}

static bool
is_word_in_lower(const char *word, size_t length, const char *lower)
{
	for (size_t i = 0; i < length; i++)
		/* Only an upper-case letter differs from its lower-case one in this bit alone. */
		if ((word[i] | 0x20) != lower[i])
			return false;
	return lower[length] == '\0';
}

/* Reads a bare word, or a quoted token that a letter introduces. */
static LexerKind
read_word(Lexer *lexer)
{
	char		c = peek(lexer, 0);
	char		next = peek(lexer, 1);
	size_t		end = lexer->at;

	if (next == '\'' && strchr("eEbBxXnN", c) != NULL)
		return read_quoted(lexer, lexer->at + 1, LEXER_STRING, c == 'e' || c == 'E');
	if (next == '&' && (c == 'u' || c == 'U') && peek(lexer, 2) == '\'')
		return read_quoted(lexer, lexer->at + 2, LEXER_STRING, false);
	if (next == '&' && (c == 'u' || c == 'U') && peek(lexer, 2) == '"')
		return read_quoted(lexer, lexer->at + 2, LEXER_NAME, false);
	while (end < lexer->end && (names_is_word(lexer->text[end]) || lexer->text[end] == '$'))
		end++;
	if (end - lexer->at == 6 && is_word_in_lower(lexer->text + lexer->at, 6, "atomic"))
		lexer->in_body = true;
	return finish(lexer, LEXER_WORD, end);
}

static LexerKind
read_punctuation(Lexer *lexer)
{
	char		c = peek(lexer, 0);

	if (c == '(')
		lexer->depth++;
	else if (c == ')' && lexer->depth > 0)
		lexer->depth--;
	else if (c == ';' && lexer->depth == 0 && !lexer->in_body)
		return finish(lexer, LEXER_SEMICOLON, lexer->at + 1);
	return finish(lexer, LEXER_OTHER, lexer->at + 1);
}

/* A lexer for the bytes from "start" to "end" of a text, which is neither copied nor changed. */
Lexer
lexer_begin(const char *text, size_t start, size_t end)
{
	return (Lexer) {
		.text = text, .at = start, .start = start, .end = end
	};
}

/* Reads the next token.  None follows LEXER_END and LEXER_BROKEN. */
LexerKind
lexer_next(Lexer *lexer)
{
	char		c;
	size_t		tag;

	lexer->start = lexer->at;
	while (lexer->at < lexer->end && names_is_space(lexer->text[lexer->at]))
		lexer->at++;
	NAMES_STEPS(lexer->at - lexer->start);
	lexer->start = lexer->at;
	if (lexer->at >= lexer->end)
		return finish(lexer, LEXER_END, lexer->end);
	c = peek(lexer, 0);
	if (c == '\'')
		return read_quoted(lexer, lexer->at, LEXER_STRING, false);
	if (c == '"')
		return read_quoted(lexer, lexer->at, LEXER_NAME, false);
	if (c == '-' && peek(lexer, 1) == '-')
		return read_line_comment(lexer);
	if (c == '/' && peek(lexer, 1) == '*')
		return read_block_comment(lexer);
	if (c == '$')
	{
		tag = tag_length(lexer);
		return tag > 0 ? read_dollar(lexer, tag) : read_punctuation(lexer);
	}
	return names_is_word(c) ? read_word(lexer) : read_punctuation(lexer);
}

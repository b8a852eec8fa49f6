/*
 * token.c
 *	  Where the tokens of SQL end, as PostgreSQL's own scanner has it.
 */
#include "log/token.h"

#include <string.h>

bool
token_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool
token_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool
token_starts_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

bool
token_continues_name(char c)
{
	return token_starts_name(c) || token_is_digit(c) || c == '$';
}

static bool
stand_at(const char *text, size_t at, size_t end, const char pair[2])
{
	return end - at >= 2 && memcmp(text + at, pair, 2) == 0;
}

size_t
token_name_end(const char *text, size_t at, size_t end)
{
	while (at < end && token_continues_name(text[at]))
		at++;
	return at;
}

/* A number may be followed by junk, which is taken as part of it; two dots are a range, not a fraction. */
size_t
token_number_end(const char *text, size_t at, size_t end)
{
	size_t		start = at;

	for (; at < end; at++)
	{
		char		c = text[at];
		bool		digit_follows = at + 1 < end && token_is_digit(text[at + 1]);

		if ((c == '+' || c == '-') && at > start && (text[at - 1] == 'e' || text[at - 1] == 'E') && digit_follows)
			continue;
		if (!token_continues_name(c) && !(c == '.' && digit_follows))
			break;
	}
	return at;
}

/* A comment ends with its line, or with its last closing, since they nest. */
size_t
token_comment_end(const char *text, size_t at, size_t end)
{
	int			level = 0;

	if (text[at] == '-')
	{
		while (at < end && text[at] != '\n' && text[at] != '\r')
			at++;
		return at;
	}
	while (at < end)
	{
		bool		opens = stand_at(text, at, end, "/*");
		bool		closes = stand_at(text, at, end, "*/");

		level += opens - closes;
		at += opens || closes ? 2 : 1;
		if (level == 0)
			return at;
	}
	return TOKEN_OPEN_ENDED;
}

/* A string, from its opening quote on.  With escapes a backslash takes the next byte along. */
size_t
token_string_end(const char *text, size_t at, size_t end, bool escapes)
{
	for (at++; at < end; at++)
	{
		if ((text[at] == '\\' && escapes) || stand_at(text, at, end, "''"))
			at++;
		else if (text[at] == '\'')
			return at + 1;
	}
	return TOKEN_OPEN_ENDED;
}

/* Whether a string would end elsewhere under the other setting of standard_conforming_strings. */
bool
token_string_is_ambiguous(const char *text, size_t at, size_t end)
{
	for (; at + 1 < end; at++)
	{
		if (stand_at(text, at, end, "\\'"))
			return true;
	}
	return false;
}

/* The length of a dollar quote's tag, both dollars included; 0 where none begins. */
size_t
token_tag_length(const char *text, size_t at, size_t end)
{
	size_t		length = 1;

	if (at + 1 < end && token_is_digit(text[at + 1]))
		return 0;
	while (at + length < end && text[at + length] != '$' && token_continues_name(text[at + length]))
		length++;
	return at + length < end && text[at + length] == '$' ? length + 1 : 0;
}

/* Where the body ends that a tag of this length opens at "at": where its closing tag begins. */
size_t
token_body_end(const char *text, size_t at, size_t end, size_t tag)
{
	for (size_t close = at + tag; close + tag <= end; close++)
	{
		if (memcmp(text + close, text + at, tag) == 0)
			return close;
	}
	return TOKEN_OPEN_ENDED;
}

static size_t
skip_blanks(const char *text, size_t at, size_t end)
{
	while (at < end && token_is_space(text[at]))
		at++;
	return at;
}

/* The first byte after the blanks that follow, and the one after it; zero where there is none. */
void
token_past_blanks(const char *text, size_t at, size_t end, char next[2])
{
	at = skip_blanks(text, at, end);
	next[0] = next[1] = '\0';
	if (at < end)
		next[0] = text[at];
	if (at + 1 < end)
		next[1] = text[at + 1];
}

/*
 * Where the name ends that a double quote opens, its closing quote included; TOKEN_OPEN_ENDED where it does
 * not.  In a message the quote may be of the message, unless what it encloses is a plain name or is called.
 */
size_t
token_quoted_name_end(const char *text, size_t quote, size_t end, bool in_message)
{
	size_t		i = quote + 1;
	bool		is_odd = false;	/* as no setting's name is, which a message follows by its bounds */
	char		next[2];

	if (in_message)
	{
		/* A backslash may be of the name, or in JSON of its quote. */
		while (i < end && (token_continues_name(text[i]) || text[i] == '\\'))
			i++;
		if (i < end && text[i] == '"')
			return i + 1;
		for (; i < end && text[i] != '"'; i++)
			is_odd |= !token_continues_name(text[i]) && text[i] != '.';
		token_past_blanks(text, i + (i < end), end, next);
		return is_odd && next[0] == '(' ? i + 1 : TOKEN_OPEN_ENDED;
	}
	for (; i < end; i++)
	{
		if (text[i] != '"')
			continue;
		if (i + 1 >= end || text[i + 1] != '"')
			return i + 1;
		i++;
	}
	return TOKEN_OPEN_ENDED;
}

/* Whether this word, given in lower case, is the next one behind blanks and comments. */
bool
token_word_follows(const char *text, size_t at, size_t end, const char *word)
{
	at = skip_blanks(text, at, end);
	while (stand_at(text, at, end, "--") || stand_at(text, at, end, "/*"))
	{
		size_t		after = token_comment_end(text, at, end);

		if (after == TOKEN_OPEN_ENDED)
			return false;
		at = skip_blanks(text, after, end);
	}
	/* That bit makes the one capital of each small letter. */
	while (*word != '\0' && at < end && (text[at] | 0x20) == *word)
	{
		at++;
		word++;
	}
	return *word == '\0';
}

/* Whether a name has only what a name without quotes may have, or a backslash of the quote after it. */
bool
token_is_plain_name(const char *name, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!token_continues_name(name[i]) && name[i] != '\\')
			return false;
	return true;
}

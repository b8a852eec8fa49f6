/*
 * names.c
 *	  Which texts call one of keyrot's functions, judged by their spelling.
 *
 * A text is logged before any function is looked up, and a misspelt call fails with the secret in it.  So names
 * are judged without the catalogs, and all of keyrot's functions count, because a secret may be passed to the
 * wrong one.  Strings, function bodies and comments are searched, too, since they may be executed.  A call that is
 * found only causes the literals of its statement to be hidden; so in case of doubt a name is taken for a call.
 *
 * Every statement in every database is searched.  Therefore a text without a call has to be dismissed by a few
 * searches for single characters, which memchr() does many bytes at a time.  No byte is looked at more than a
 * fixed number of times.
 */
#include "log/names.h"

#include <stdlib.h>
#include <string.h>

#include "log/lexer.h"

#define MAX_NAME 64
#define MAX_EXECUTED (MAX_NAME + 4)	/* a name that PostgreSQL truncates, and the rest of its last character */
#define MAX_COMMENTS 64			/* bytes of comments that are read to find a name or parenthesis */
#define MAX_WORDS 8				/* between CREATE INDEX and ON */
#define STRETCH 1048576			/* bytes searched before a cancel request is heeded */

#define count_of(array) (sizeof(array) / sizeof((array)[0]))

#ifdef KEYROT_COUNT_STEPS
size_t		names_steps;
#endif

typedef struct Word
{
	const char *start;
	size_t		length;
} Word;

/*
 * keyrot's functions, sorted.  Left out are status() and changes(), whose names are common, and to which a secret
 * is not likely to be passed.
 */
static const char *const own[] = {
	"add_gateway", "api", "check_app_string", "check_gateway_string", "check_gateway_token", "check_zone_string",
	"create_app", "create_master_key", "create_zone_key", "delete_app", "delete_zone_key", "describe_app_security",
	"describe_zone_key", "disable_app", "disable_zone", "enable_app", "enable_zone", "end_app_grace",
	"end_zone_grace", "find_secret", "list_apps", "modify_app", "modify_zone_key", "prune_requests",
	"rebind_owners", "refresh_zone_key", "refresh_zones", "remove_gateway", "reset_app_secret", "reset_apps",
	"revert_app_secret", "revert_zone_key", "rewrap_data_keys", "rotate_data_key", "rotate_due",
	"rotate_master_key", "set_app_owner", "set_app_policy", "set_zone_owner", "set_zone_policy", "sign_for_app",
	"sign_for_zone", "sign_string_for_app", "sign_string_for_zone", "sign_string_with_all_for_app",
	"sign_string_with_all_for_zone", "sign_token_for_zone", "verify_app_signature", "verify_app_string",
	"verify_gateway_signature", "verify_gateway_string", "verify_gateway_token", "verify_zone_signature",
	"verify_zone_string"
};

/* A name that follows one of these words may be that of a table or alias, or be declared, rather than called. */
static const char *const declaring[] = {
	"aggregate", "analyze", "as", "binary", "copy", "exists", "freeze", "full", "function", "into", "only", "prepare",
	"procedure", "recursive", "references", "routine", "table", "vacuum", "verbose", "view", "with"
};

/* ASCII letters only, regardless of the locale: the server folds no others in these names. */
static char
lower_case(char c)
{
	static const char small[] = "abcdefghijklmnopqrstuvwxyz";

	if (c >= 'A' && c <= 'Z')
		return small[c - 'A'];
	return c;
}

/* White space, as SQL has it. */
bool
names_is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What a name or number may consist of, except the dollar sign, which may also end a quote. */
bool
names_is_word(char c)
{
	static const bool in_words[256] = {
		['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['_'] = true, [0x80 ... 0xff] = true
	};

	return in_words[(unsigned char) c];
}

static bool
equals(Word word, const char *name)
{
	size_t		i = 0;

	while (i < word.length && name[i] != '\0' && lower_case(word.start[i]) == name[i])
		i++;
	return i == word.length && name[i] == '\0';
}

static int
compare_names(const void *key, const void *element)
{
	return strcmp(key, *(const char *const *) element);
}

static bool
is_listed(Word word, const char *const *list, size_t count)
{
	char		name[MAX_NAME];

	if (word.length >= MAX_NAME)
		return false;
	for (size_t i = 0; i < word.length; i++)
		name[i] = lower_case(word.start[i]);
	name[word.length] = '\0';
	return bsearch(name, list, count, sizeof(list[0]), compare_names) != NULL;
}

/* Whether this is the name of keyrot's schema or of one of its functions, in upper or lower case. */
bool
names_are_own(const char *name, size_t length)
{
	Word		word = {name, length};

	return equals(word, "keyrot") || is_listed(word, own, count_of(own));
}

static char
char_at(const NamesText *text, size_t at)
{
	if (at >= text->length)
		return '\0';
	return text->text[at];
}

/* The quote around a name; in a message it may have a backslash before it. */
static bool
is_quote(char c)
{
	return c == '"' || c == '\\';
}

static bool
is_glue(char c)
{
	return names_is_space(c) || is_quote(c);
}

/* Skips white space and the quotes around names. */
static size_t
skip_glue(const NamesText *text, size_t at)
{
	size_t		start = at;

	while (at < text->length && is_glue(text->text[at]))
		at++;
	NAMES_STEPS(at - start);
	return at;
}

static size_t
skip_word(const NamesText *text, size_t at)
{
	size_t		start = at;

	while (at < text->length && names_is_word(text->text[at]))
		at++;
	NAMES_STEPS(at - start);
	return at;
}

static bool
comment_starts(const NamesText *text, size_t at)
{
	char		c = char_at(text, at);
	char		next = char_at(text, at + 1);

	return (c == '-' && next == '-') || (c == '/' && next == '*');
}

/* Whether a name that ends here may be called.  What follows a comment is not looked at. */
static bool
is_called(const NamesText *text, size_t at)
{
	at = skip_glue(text, at);
	return char_at(text, at) == '(' || comment_starts(text, at);
}

/* Skips comments; false if they are too long, since they may be read once for each name before them, or do not end. */
static bool
skip_comments(const NamesText *text, size_t *at)
{
	size_t		rest = text->length - *at;
	Lexer		lexer = lexer_begin(text->text, *at, *at + (rest < MAX_COMMENTS ? rest : MAX_COMMENTS));

	while (comment_starts(text, *at))
	{
		lexer.at = *at;
		if (lexer_next(&lexer) != LEXER_COMMENT || lexer.at >= lexer.end)
			return false;
		*at = skip_glue(text, lexer.at);
	}
	return true;
}

/* The end of the name of a prepared statement that begins here. */
static size_t
skip_prepared(const NamesText *text, size_t at, bool is_quoted)
{
	size_t		start = at;

	while (at < text->length &&
		   (is_quoted ? !is_quote(text->text[at]) : names_is_word(text->text[at]) || text->text[at] == '$'))
		at++;
	NAMES_STEPS(at - start);
	return at;
}

/*
 * Whether EXECUTE, which ends here, passes arguments to a prepared statement that calls keyrot.  In case of doubt, as
 * with quotes or Unicode escapes in its name, it does.
 */
static bool
executes_call(const NamesText *text, size_t at)
{
	char		name[MAX_EXECUTED];
	size_t		start = skip_glue(text, at);
	size_t		end;
	size_t		length;
	bool		is_quoted;
	NamesPrepared prepared;

	if (!skip_comments(text, &start))
		return text->is_installed;
	is_quoted = start > at && text->text[start - 1] == '"';
	end = skip_prepared(text, start, is_quoted);
	if ((is_quoted && char_at(text, end) == '"' && char_at(text, end + 1) == '"') ||
		(end - start == 1 && lower_case(text->text[start]) == 'u' && char_at(text, end) == '&'))
		return text->is_installed;
	if (end == start || !is_called(text, end))
		return false;
	/* Of a longer name this takes what PostgreSQL keeps and a few bytes more; the look-up truncates it. */
	length = end - start < MAX_EXECUTED ? end - start : MAX_EXECUTED - 1;
	memcpy(name, text->text + start, length);
	name[length] = '\0';
	for (size_t i = 0; i < length && !is_quoted; i++)
		name[i] = lower_case(name[i]);
	prepared = text->prepared(name);
	return prepared == NAMES_CALLS || (prepared == NAMES_UNKNOWN && text->unknown_calls);
}

/* The word that contains this byte, cut where it is longer than a name can be; empty if there is none. */
static Word
word_around(const NamesText *text, size_t at)
{
	size_t		start = at;
	size_t		end = at;

	while (start > 0 && at - start < MAX_NAME && names_is_word(text->text[start - 1]))
		start--;
	while (end < text->length && end - at < MAX_NAME && names_is_word(text->text[end]))
		end++;
	NAMES_STEPS(end - start);
	return (Word) {text->text + start, end - start};
}

static size_t
start_of(const NamesText *text, Word word)
{
	return (size_t) (word.start - text->text);
}

static size_t
end_of(const NamesText *text, Word word)
{
	return start_of(text, word) + word.length;
}

/* The end of the name or punctuation before this byte, without white space and quotes around names. */
static size_t
skip_back(const NamesText *text, size_t at)
{
	size_t		start = at;

	while (at > 0 && is_glue(text->text[at - 1]))
		at--;
	NAMES_STEPS(start - at);
	return at;
}

/* The word before this byte, with nothing but white space and quotes in between; empty if there is none. */
static Word
word_before(const NamesText *text, size_t at)
{
	at = skip_back(text, at);
	if (at == 0 || !names_is_word(text->text[at - 1]))
		return (Word) {text->text, 0};
	return word_around(text, at - 1);
}

static bool
stands_before(const NamesText *text, Word word, const char *mark)
{
	size_t		at = skip_back(text, start_of(text, word));
	size_t		length = strlen(mark);

	return at >= length && memcmp(text->text + at - length, mark, length) == 0;
}

/* Whether this ON belongs to CREATE INDEX. */
static bool
is_of_index(const NamesText *text, Word on)
{
	for (int i = 0; i < MAX_WORDS && on.length > 0; i++)
	{
		Word		before = word_before(text, start_of(text, on));

		if (equals(before, "create") || equals(before, "unique"))
			return equals(on, "index");
		on = before;
	}
	return false;
}

/* Whether a word is a variable of PL/pgSQL rather than a keyword, as in SELECT INTO view f(). */
static bool
is_target(const NamesText *text, Word word)
{
	Word		before = word_before(text, start_of(text, word));

	return equals(before, "into") || equals(before, "strict") || stands_before(text, word, ",") ||
		stands_before(text, word, ".");
}

/* Whether the parentheses that begin here seem to hold names, as in (a, b), (a text) or (), judged by the first. */
static bool
lists_names(const NamesText *text, size_t at)
{
	size_t		start;
	size_t		end;

	if (!skip_comments(text, &at) || char_at(text, at) != '(')
		return false;
	start = skip_glue(text, at + 1);
	end = skip_word(text, start);
	at = skip_glue(text, end);
	if (end == start || names_is_word(char_at(text, at)))
		return end > start || char_at(text, at) == ')';
	return at < text->length && strchr(",).[", text->text[at]) != NULL;
}

/*
 * Whether a word names a table, or something that is declared, rather than a function that is called.  This is
 * judged by the word before it and by what is in the parentheses at "at".
 */
static bool
is_declared(const NamesText *text, Word word, size_t at)
{
	Word		before = word_before(text, start_of(text, word));

	if (!lists_names(text, at))
		return false;
	if (equals(before, "on"))
		return is_of_index(text, before);
	/* EXECUTE FUNCTION of a trigger is followed by arguments, not by types. */
	if ((equals(before, "function") || equals(before, "procedure")) &&
		equals(word_before(text, start_of(text, before)), "execute"))
		return false;
	return is_listed(before, declaring, count_of(declaring)) && !is_target(text, before);
}

static bool
starts_word(const NamesText *text, size_t at)
{
	return at == 0 || !names_is_word(text->text[at - 1]);
}

static bool
is_e(char c)
{
	return c == 'e' || c == 'E';
}

/* Whether this k begins the schema's name. */
static bool
is_schema(const NamesText *text, size_t at)
{
	return is_e(char_at(text, at + 1)) && starts_word(text, at) && equals(word_around(text, at), "keyrot");
}

/* Whether this k begins the schema's name, and a call follows; a placeholder counts as the name of a function. */
static bool
is_qualified_call(const NamesText *text, size_t at)
{
	Word		schema;
	size_t		end;

	if (!is_schema(text, at))
		return false;
	schema = word_around(text, at);
	at = skip_glue(text, end_of(text, schema));
	if (comment_starts(text, at))
		return true;
	if (char_at(text, at) != '.')
		return false;
	at = skip_glue(text, at + 1);
	end = skip_word(text, at);
	if (comment_starts(text, at) || end == at || char_at(text, end) == '&')
		return true;
	return is_called(text, end) && !is_declared(text, schema, skip_glue(text, end));
}

/* Whether this x belongs to an EXECUTE that amounts to a call. */
static bool
is_execution(const NamesText *text, size_t at)
{
	Word		word;

	if (!is_e(char_at(text, at + 1)) || at == 0 || !is_e(text->text[at - 1]) || !starts_word(text, at - 1))
		return false;
	word = word_around(text, at);
	return equals(word, "execute") && executes_call(text, end_of(text, word));
}

/* Whether the word before this byte is one of keyrot's functions, without a schema; returns it in "word". */
static bool
take_own_before(const NamesText *text, size_t at, Word *word)
{
	*word = word_before(text, at);
	/* Most names are dismissed by what all of these have. */
	if (word->length < 3 || (word->length > 3 && memchr(word->start, '_', word->length) == NULL))
		return false;
	return is_listed(*word, own, count_of(own)) && !stands_before(text, *word, ".") && !stands_before(text, *word, "::");
}

/* Whether one of keyrot's functions, without a schema, is called by the parenthesis or comment that begins here. */
static bool
is_bare_call(const NamesText *text, size_t at)
{
	Word		word;

	return (text->text[at] == '(' || comment_starts(text, at)) && take_own_before(text, at, &word) &&
		!is_declared(text, word, at);
}

/*
 * The same for a text that cannot be parsed, in which the word before the name means nothing: whether the parentheses
 * hold anything but names.  A quote counts, too, in case the parenthesis is what is missing.
 */
static bool
is_broken_call(const NamesText *text, size_t at)
{
	Word		word;

	if (!take_own_before(text, at, &word))
		return false;
	if (text->text[at] == '\'')
		return names_is_space(text->text[at - 1]);
	do
		at++;
	while (is_glue(char_at(text, at)) || names_is_word(char_at(text, at)) || char_at(text, at) == ',');
	NAMES_STEPS(at - end_of(text, word));
	return char_at(text, at) != ')';
}

/* Whether this & belongs to a name with Unicode escapes, which could be any name. */
static bool
is_any_name(const NamesText *text, size_t at)
{
	if (at == 0 || lower_case(text->text[at - 1]) != 'u' || !starts_word(text, at - 1))
		return false;
	while (char_at(text, at + 1) == '\\')
		at++;
	return char_at(text, at + 1) == '"';
}

/* Whether the check is true at any occurrence of one of these characters. */
static bool
holds_at(const NamesText *text, const char *letters, bool (*check) (const NamesText *, size_t))
{
	for (; *letters != '\0'; letters++)
	{
		for (size_t start = 0; start < text->length; start += STRETCH)
		{
			size_t		end = text->length - start < STRETCH ? text->length : start + STRETCH;
			const char *at = text->text + start;

			if (start > 0 && text->pause != NULL)
				text->pause();
			while ((at = memchr(at, *letters, (size_t) (text->text + end - at))) != NULL)
			{
				if (check(text, (size_t) (at - text->text)))
					return true;
				at++;
			}
		}
		NAMES_STEPS(text->length / 8);
	}
	return false;
}

/* Whether a text calls one of keyrot's functions, or executes a prepared statement that does, with arguments. */
bool
names_call_occurs(const NamesText *text)
{
	if (!names_call_may_occur(text->text, text->length))
		return false;
	return holds_at(text, "kK", is_qualified_call) || (text->prepared != NULL && holds_at(text, "xX", is_execution)) ||
		(text->is_installed && (holds_at(text, "(-/", is_bare_call) || holds_at(text, "&", is_any_name)));
}

/* Whether a text that cannot be parsed mentions keyrot or may be a call of one of its functions. */
bool
names_mention_occurs(const NamesText *text)
{
	return holds_at(text, "kK", is_schema) || (text->is_installed && holds_at(text, "('", is_broken_call)) ||
		names_call_occurs(text);
}

/*
 * names.c
 *	  Which names in an SQL text call a function that takes a secret, and which parameters are public.
 *
 * Names are judged by their spelling, without a catalog: a text is logged before anybody looks a function
 * up, and a misspelt call fails with its secret in it.  So a name that is nearly right counts, and any
 * name in the schema keyrot that is not known to be harmless.
 */
#include "log/names.h"

#include <string.h>

#define SCHEMA "keyrot"
#define MAX_NAME 64
#define SHORT_NAME 10

#define count_of(array) (sizeof(array) / sizeof((array)[0]))

static const char *const secret_functions[] = {
	"create_app", "reset_app_secret", "create_zone_key", "modify_zone_key"
};

/* Of keyrot's functions the ones that take no secret, and its tables and views, which may stand before a "(", too. */
static const char *const harmless[] = {
	"add_gateway", "app", "app_id", "credentials", "data_key", "delete_app", "delete_zone_key",
	"describe_app_security", "describe_zone_key", "end_app_grace", "end_zone_grace", "gateway", "gateways",
	"has_rights_of", "list_apps", "modify_app", "prune_requests", "rebind_owners", "refresh_zone_key",
	"remove_gateway", "request", "requests", "reseal", "reset_apps", "retry", "rewrap_data_keys",
	"rotate_data_key", "rotate_due", "rotate_master_key", "set_app_owner", "set_zone_owner",
	"sign_for_app", "sign_for_zone", "sign_string_for_app", "sign_string_for_zone", "status",
	"verify_app_signature", "verify_app_string", "verify_gateway_signature", "verify_gateway_string",
	"verify_zone_signature", "verify_zone_string", "zone"
};

static const char *const public_parameters[] = {
	"action", "app_key", "app_name", "grace_period", "new_app_key", "zone_id"
};

/* Words that hold no value and name nothing that does. */
static const char *const plain_words[] = {
	"array", "as", "case", "cast", "collate", "default", "else", "end", "false", "null", "then", "true",
	"variadic", "when"
};

static const char *const types[] = {
	"bpchar", "char", "character", "interval", "json", "jsonb", "pg_catalog", "text", "varchar"
};

/* ASCII only, whatever the locale: what the server folds in names, too. */
static char
lower(char c)
{
	static const char small[] = "abcdefghijklmnopqrstuvwxyz";

	if (c >= 'A' && c <= 'Z')
		return small[c - 'A'];
	return c;
}

static bool
is_word(char c)
{
	return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c & 0x80) != 0;
}

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * Whether two names are the same but for capitals; the second is in lower case.  strcasecmp() takes the locale's
 * word for what those are, and a Turkish I is none of an i.
 */
bool
names_are_equal(const char *name, const char *lower_name)
{
	while (*name != '\0' && lower(*name) == *lower_name)
	{
		name++;
		lower_name++;
	}
	return *name == *lower_name;
}

static bool
is_listed(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (names_are_equal(name, list[i]))
			return true;
	}
	return false;
}

/* How many letters have to be put in, taken out or changed to make one name of the other. */
static size_t
distance(const char *a, const char *b)
{
	size_t		row[MAX_NAME + 1];
	size_t		length = strlen(b);

	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] != '\0'; i++)
	{
		size_t		diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= length; j++)
		{
			size_t		change = diagonal + (lower(a[i - 1]) != lower(b[j - 1]));

			diagonal = row[j];
			if (change > row[j] + 1)
				change = row[j] + 1;
			if (change > row[j - 1] + 1)
				change = row[j - 1] + 1;
			row[j] = change;
		}
	}
	return row[length];
}

/* Whether a name is, or nearly is, that of a function that takes a secret. */
static bool
is_near(const char *name)
{
	size_t		length = strlen(name);

	if (length >= MAX_NAME || is_listed(name, harmless, count_of(harmless)))
		return false;
	for (size_t i = 0; i < count_of(secret_functions); i++)
	{
		size_t		expected = strlen(secret_functions[i]);
		size_t		allowed = expected > SHORT_NAME ? 2 : 1;

		if (length + allowed >= expected && length <= expected + allowed &&
			distance(name, secret_functions[i]) <= allowed)
			return true;
	}
	return false;
}

/*
 * Whether a call of this name takes a secret, as far as its spelling tells.  The qualifier is the name
 * before the dot, or empty.
 */
bool
names_take_secret(const char *qualifier, const char *name)
{
	bool		in_schema = names_are_equal(qualifier, SCHEMA);

	if (name[0] == '\0')
		return false;
	if (names_are_equal(name, "api"))
		return in_schema || qualifier[0] == '\0';
	if (in_schema)
		return !is_listed(name, harmless, count_of(harmless));
	return is_near(name);
}

static bool
stands_at(const char *text, size_t length, size_t at, const char *needle)
{
	for (; *needle != '\0'; needle++, at++)
	{
		if (at >= length || lower(text[at]) != *needle)
			return false;
	}
	return true;
}

/* Whether this is, to the letter, the name of one of the functions that take a secret. */
bool
names_is_secret_function(const char *name, size_t length)
{
	for (size_t i = 0; i < count_of(secret_functions); i++)
		if (strlen(secret_functions[i]) == length && stands_at(name, length, 0, secret_functions[i]))
			return true;
	return false;
}

/* Whether a parameter of these functions holds a public value. */
bool
names_parameter_is_public(const char *name)
{
	return is_listed(name, public_parameters, count_of(public_parameters));
}

/* Whether a bare word in an argument is a keyword that no variable or column can have for its name. */
bool
names_word_is_plain(const char *word)
{
	return is_listed(word, plain_words, count_of(plain_words));
}

/* Whether what comes next is the name of a function and its types, not a call: GRANT EXECUTE ON FUNCTION f(text). */
bool
names_word_declares(const char *word)
{
	return names_are_equal(word, "function") || names_are_equal(word, "procedure") || names_are_equal(word, "routine");
}

/* Whether it is a type where a type may stand; elsewhere it may be a column's name. */
bool
names_word_is_type(const char *word)
{
	return is_listed(word, types, count_of(types));
}

/*
 * Whether a text has any letters that a name of interest, or a near one, must have.  It is asked of every
 * statement, so it looks at most bytes but once.  Two letters that are wrong leave one piece of three whole.
 */
bool
names_may_occur(const char *text, size_t length)
{
	static const bool anchor[256] = {
		['_'] = true, ['&'] = true, ['a'] = true, ['A'] = true, ['c'] = true, ['C'] = true, ['k'] = true, ['K'] = true,
		['m'] = true, ['M'] = true, ['r'] = true, ['R'] = true, ['x'] = true, ['X'] = true
	};
	static const bool follows[256] = {
		['a'] = true, ['A'] = true, ['e'] = true, ['E'] = true, ['k'] = true, ['K'] = true, ['o'] = true, ['O'] = true,
		['p'] = true, ['P'] = true, ['r'] = true, ['R'] = true, ['s'] = true, ['S'] = true, ['z'] = true, ['Z'] = true,
		['"'] = true, ['\\'] = true
	};
	/* Of the schema, "api", the four longer names, "execute" and of names with Unicode escapes. */
	static const char *const pieces[] = {
		"keyr", "api", "rese", "modi", "crea", "_app", "_sec", "_zon", "_key", "xecute", "&\"", "&\\\""
	};

	for (size_t i = 0; i + 1 < length; i++)
	{
		if (!anchor[(unsigned char) text[i]] || !follows[(unsigned char) text[i + 1]])
			continue;
		for (size_t j = 0; j < count_of(pieces); j++)
		{
			if (stands_at(text, length, i, pieces[j]))
				return true;
		}
	}
	return false;
}

/* Copies the word that begins here, cut to what any name can have, and returns where it ends. */
static size_t
take_word(const char *text, size_t length, size_t at, char word[MAX_NAME])
{
	size_t		size = 0;

	for (; at < length && is_word(text[at]); at++)
	{
		if (size < MAX_NAME - 1)
			word[size++] = text[at];
	}
	word[size] = '\0';
	return at;
}

/* Comments nest in SQL; where they are not all closed, the text is not SQL, and the first end is one. */
static size_t
skip_nested_comment(const char *text, size_t length, size_t at)
{
	size_t		first_end = length;
	int			level = 0;

	do
	{
		bool		opens = stands_at(text, length, at, "/*");
		bool		closes = stands_at(text, length, at, "*/");

		level += opens - closes;
		at += opens || closes ? 2 : 1;
		if (closes && first_end == length)
			first_end = at;
	} while (at < length && level > 0);
	return level > 0 ? first_end : at;
}

/* Where a comment that begins here ends, as far as one can tell in a text of unknown form; else "at". */
static size_t
skip_comment(const char *text, size_t length, size_t at)
{
	if (stands_at(text, length, at, "--"))
	{
		while (at < length && text[at] != '\n')
			at++;
	}
	else if (stands_at(text, length, at, "/*"))
		at = skip_nested_comment(text, length, at);
	return at;
}

static size_t
skip(const char *text, size_t length, size_t at, bool with_quotes)
{
	size_t		before;

	do
	{
		before = at;
		while (at < length && (is_space(text[at]) || (with_quotes && (text[at] == '"' || text[at] == '\\'))))
			at++;
		at = skip_comment(text, length, at);
	} while (at != before);
	return at;
}

/*
 * Whether a text of unknown form, such as a string that may become a statement, has what looks like a
 * call that takes a secret.  A name that is still to be put in counts: "keyrot.%I(" or 'SELECT keyrot.' ||.
 */
bool
names_call_occurs(const char *text, size_t length)
{
	char		qualifier[MAX_NAME] = "";
	char		word[MAX_NAME];
	size_t		at = 0;

	while (at < length)
	{
		if (!is_word(text[at]))
		{
			if (stands_at(text, length, at, "&\""))
				return true;
			at++;
			continue;
		}
		at = take_word(text, length, at, word);
		at = skip(text, length, at, true);
		if (at < length && text[at] == '(' && names_take_secret(qualifier, word))
			return true;
		qualifier[0] = '\0';
		if (at >= length || text[at] != '.')
			continue;
		memcpy(qualifier, word, sizeof(qualifier));
		at = skip(text, length, at + 1, true);
		if (names_are_equal(qualifier, SCHEMA) && at < length && (text[at] == '%' || text[at] == '\''))
			return true;
	}
	return false;
}

/*
 * Whether a text that cannot be read as SQL, or that failed, speaks of keyrot or of a function that takes
 * a secret.
 */
bool
names_mention_occurs(const char *text, size_t length)
{
	char		word[MAX_NAME];
	size_t		at = 0;

	while (at < length)
	{
		if (!is_word(text[at]))
		{
			if (stands_at(text, length, at, "&\"") || stands_at(text, length, at, "&\\\""))
				return true;
			at++;
			continue;
		}
		at = take_word(text, length, at, word);
		if (names_are_equal(word, SCHEMA) || is_near(word))
			return true;
		at = skip(text, length, at, false);
		if (at < length && text[at] == '(' && names_are_equal(word, "api"))
			return true;
	}
	return false;
}

/*
 * Whether a text that cannot be read as SQL looks as if it executed, with arguments, what was prepared under a
 * name that takes a secret.  A name in quotes may be any, and those may be of the text around it.
 */
bool
names_execution_occurs(const char *text, size_t length, bool (*takes_secret) (const char *))
{
	char		word[MAX_NAME];
	size_t		at = 0;

	while (takes_secret != NULL && at < length)
	{
		size_t		name;
		size_t		next;

		if (!is_word(text[at]))
		{
			at++;
			continue;
		}
		at = take_word(text, length, at, word);
		if (strcasecmp(word, "execute") != 0)
			continue;
		name = skip(text, length, at, true);
		if (name < length && is_word(text[name]) && memchr(text + at, '"', name - at) != NULL)
			return true;
		next = skip(text, length, take_word(text, length, name, word), true);
		at = name;
		if (word[0] == '\0' || next >= length || text[next] != '(')
			continue;
		for (char *c = word; *c != '\0'; c++)
			*c = lower(*c);
		if (takes_secret(word))
			return true;
	}
	return false;
}

/* Whether a text speaks of a language whose strings and comments are not SQL's. */
bool
names_other_language_occurs(const char *text, size_t length)
{
	static const char *const languages[] = {"c", "internal", "plpgsql", "sql"};
	char		word[MAX_NAME];
	size_t		at = 0;

	while (at < length)
	{
		if (!is_word(text[at]))
		{
			at++;
			continue;
		}
		at = take_word(text, length, at, word);
		if (!names_are_equal(word, "language"))
			continue;
		at = skip(text, length, at, true);
		if (at < length && text[at] == '\'')
			at++;
		if (at >= length || !is_word(text[at]))
			continue;
		at = take_word(text, length, at, word);
		if (!is_listed(word, languages, count_of(languages)))
			return true;
	}
	return false;
}

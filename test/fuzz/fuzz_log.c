/*
 * fuzz_log.c
 *	  The log's redaction (src/log/): any text is read and written within its bounds, with work in proportion
 *	  to its length, and a secret in a statement that calls keyrot is never let through.
 *
 * Three kinds of input.  Any bytes: every function is called on them as the log hook calls it, in memory of
 * their own size, and has to write exactly as much as it asked for.  The same many times over: how many bytes
 * were looked at is counted, and may grow as the text does.  And a statement that the input puts together: what
 * stands before the call is made of whole tokens, the call is written in one of many ways, the secret as a
 * string, an escaped one, in dollars, with comments, in pieces, or elsewhere in the statement; what follows is
 * anything.  Whatever comes of that, the secret is not in it.
 */
#include "fuzz.h"

#include "log/logtext.h"

#define SECRET "Zq7SECRETzq7secretZQ7"
#define MAX_TEXT 4096
#define TIMES 64				/* a text is repeated */
#define MAX_STEPS 40			/* a byte, in all that is done with a text */

typedef struct Text
{
	char		bytes[MAX_TEXT];
	size_t		length;
	const char *secret;			/* as this statement has it */
} Text;

static NamesPrepared
look_up(const char *name)
{
	return strcmp(name, "prepared") == 0 ? NAMES_CALLS : name[0] == 'x' ? NAMES_HARMLESS : NAMES_UNKNOWN;
}

/* Not by memcmp(), from which libFuzzer would learn the secret and put it elsewhere. */
static bool
holds_secret(const char *text, size_t length)
{
	static const char secret[] = SECRET;
	size_t		found = 0;

	for (size_t i = 0; i < length && secret[found] != '\0'; i++)
	{
		if (text[i] != secret[found])
			found = 0;
		found += text[i] == secret[found];
	}
	return secret[found] == '\0';
}

static char *
allocate(size_t length)
{
	char	   *room = malloc(length > 0 ? length : 1);

	if (room == NULL)
		abort();
	return room;
}

/* The bytes so many times over, in memory of their own size, which is the caller's. */
static NamesText
copy_of(const char *text, size_t length, size_t times)
{
	char	   *copy = allocate(length * times);

	for (size_t i = 0; i < times && length > 0; i++)
		memcpy(copy + i * length, text, length);
	return (NamesText) {.text = copy, .length = length * times, .is_installed = true, .prepared = look_up};
}

static size_t
write_statement(const NamesText *in, char *out)
{
	return logtext_statement(in->text, in->length, out);
}

static size_t
write_message(const NamesText *in, char *out)
{
	return logtext_message(in->text, in->length, out);
}

static size_t
write_context(const NamesText *in, char *out)
{
	return logtext_context(in->text, in->length, out);
}

/* What the writer makes of a text, into room of the size that was asked for; the result is the caller's. */
static NamesText
written(const NamesText *in, size_t (*writer) (const NamesText *, char *))
{
	NamesText	out = *in;
	char	   *room;

	out.length = writer(in, NULL);
	out.text = room = allocate(out.length);
	expect(writer(in, room) == out.length, "as much is written as room was asked for");
	return out;
}

static NamesText
masked(const NamesText *in, void (*mask) (const NamesText *, char *))
{
	NamesText	out = *in;
	char	   *room = allocate(in->length);

	mask(in, room);
	out.text = room;
	return out;
}

static bool
is_odd(unsigned function)
{
	return function % 2 == 1;
}

static void
read_tree(const NamesText *in)
{
	char	   *text = allocate(in->length + 1);

	memcpy(text, in->text, in->length);
	text[in->length] = '\0';
	(void) logtext_is_tree(text);
	(void) logtext_tree_has_call(text, is_odd);
	free(text);
}

/* Every reader on a text of any bytes. */
static void
read_text(const NamesText *in, size_t place)
{
	static size_t (*const writers[]) (const NamesText *, char *) = {
		logtext_statements, write_statement, write_message, write_context
	};
	NamesText	out;

	for (size_t i = 0; i < lengthof(writers); i++)
	{
		names_steps = 0;
		out = written(in, writers[i]);
		expect(names_steps <= MAX_STEPS * in->length + MAX_STEPS, "work is in proportion to the length");
		free((char *) out.text);
	}
	names_steps = 0;
	out = masked(in, logtext_mask);
	free((char *) out.text);
	out = masked(in, logtext_mask_statements);
	free((char *) out.text);
	(void) names_mention_occurs(in);
	(void) logtext_calls_near(in, place < in->length ? place : in->length);
	(void) logtext_calls_at(in, place);
	expect(names_steps <= 2 * MAX_STEPS * in->length + MAX_STEPS, "work is in proportion to the length");
}

static void
read_anything(Input *input)
{
	size_t		place = take_number(input, MAX_TEXT);
	size_t		length;
	char	   *bytes = (char *) take_bytes(input, MAX_TEXT, &length);
	NamesText	in = copy_of(bytes, length, 1);

	in.is_installed = place % 2 == 0;
	read_text(&in, place);
	read_tree(&in);
	free((char *) in.text);
	in = copy_of(bytes, length, place % 4 == 0 ? TIMES : 2);
	read_text(&in, place);
	free((char *) in.text);
	free(bytes);
}


/* A statement with a secret in it */

static void
put(Text *text, const char *piece)
{
	size_t		length = strlen(piece);

	if (text->length + length > MAX_TEXT)
		return;
	memcpy(text->bytes + text->length, piece, length);
	text->length += length;
}

static void
put_one(Text *text, Input *input, const char *const *pieces, size_t count)
{
	put(text, pieces[take_byte(input) % count]);
}

#define put_one_of(text, input, pieces) put_one(text, input, pieces, lengthof(pieces))

/* White space, as SQL has it; never nothing. */
static void
put_blank(Text *text, Input *input)
{
	static const char *const blanks[] = {" ", "\n", "\t", " /* x */ ", " /* ' /* \" */ $$ */ ", "-- '\n", "\f\v\r ", "  "};

	put_one_of(text, input, blanks);
}

static void
put_maybe_blank(Text *text, Input *input)
{
	if (take_byte(input) % 4 == 0)
		put_blank(text, input);
}

/* Whole tokens, so that what follows is read as the server reads it. */
static void
put_tokens(Text *text, Input *input, size_t most)
{
	static const char *const tokens[] = {
		"SELECT", "1", "1.5e-7", "'x'", "'it''s'", "E'\\''", "$$ ' $$", "$q$ $$ \" $q$", "\"name\"", "\"a\"\"b\"", ",", "+", "::text",
		"(", ")", "x.y", "$1", "U&'\\0041'", "B'01'", "f(x)", "api", "keyrot", "=>", "[1]", ":=", "\303\244", "app", "EXECUTE",
		"CASE WHEN true THEN 'x' END", "reset_app_secret", "keyrot.status()", "FUNCTION", "AS", ";", "'(('", "-- x\n"
	};

	for (size_t count = take_byte(input) % (most + 1); count > 0; count--)
	{
		put_one_of(text, input, tokens);
		put_blank(text, input);
	}
}

/* The secret as a literal, or as an expression of literals. */
static void
put_secret(Text *text, Input *input)
{
	static const char *const forms[] = {
		"'@'", "E'@'", "E'\\'@'", "'x''@'", "$$@$$", "$q$'@$q$", "U&'@'", "N'@'", "'x' || '@'", "'x'\n'@'", "'@'::text",
		"CAST('@' AS pg_catalog.text)", "text '@'", "upper('@')", "coalesce(NULL, ('@'))", "/* @ */ '@'", "'@' -- @\n",
		"(SELECT '@')", "concat($a$@$a$, 1)", "CASE WHEN true THEN '@' END", "'@' COLLATE \"C\"", "\"@\"", "(((('@'))))",
		"trim(BOTH 'x' FROM '@')", "format('%s', '@')", "ARRAY['@']", "'@'::varchar(64)::text", "reverse(E'\\\\@')"
	};
	const char *form = forms[take_byte(input) % lengthof(forms)];

	for (; *form != '\0'; form++)
	{
		char		one[2] = {*form, '\0'};

		put(text, *form == '@' ? text->secret : one);
	}
}

/* An argument before the secret: a public one where its place is, since others are hidden anyhow. */
static void
put_argument(Text *text, Input *input)
{
	static const char *const arguments[] = {
		"'app-1'", "NULL", "DEFAULT", "'x' || 'y'", "$1", "'a'::text", "lower('A')", "(SELECT 'b')", "E'a\\'b'", "$$,$$", "f(1, 2)",
		"'('", "')'", "CAST('x' AS text)", "/* ) */ 'c'", "(VALUES ('x'))", "ARRAY['x', 'y'][1]"
	};

	put_one_of(text, input, arguments);
}

/* The arguments of a call, the secret among them: in its own place, or under its own name. */
static void
put_arguments(Text *text, Input *input, const char *parameter)
{
	if (take_byte(input) % 3 == 0)
	{
		if (take_byte(input) % 2 == 0)
		{
			put_argument(text, input);
			put_maybe_blank(text, input);
			put(text, ", ");
		}
		put(text, parameter);
		put_maybe_blank(text, input);
		put(text, take_byte(input) % 2 == 0 ? "=>" : ":=");
	}
	else
	{
		for (size_t before = 1 + take_byte(input) % 3; before > 0; before--)
		{
			put_argument(text, input);
			put_maybe_blank(text, input);
			put(text, ",");
		}
	}
	put_maybe_blank(text, input);
	put_secret(text, input);
	put_maybe_blank(text, input);
	while (take_byte(input) % 4 == 1)
	{
		put(text, ", ");
		put_argument(text, input);
	}
}

static void
put_call(Text *text, Input *input)
{
	static const struct
	{
		const char *name;
		const char *parameter;
	}			calls[] = {
		{"reset_app_secret", "new_app_secret"}, {"Reset_App_Secret", "NEW_APP_SECRET"}, {"create_app", "app_secret"},
		{"create_zone_key", "secret_key"}, {"modify_zone_key", "secret_key"}, {"\"modify_zone_key\"", "\"secret_key\""},
		{"api", "params"}, {"find_secret", "secret"}, {"verify_app_string", "app_key"}, {"U&\"reset\\005fapp_secret\"", "new_app_secret"}
	};
	static const char *const schemas[] = {"", "keyrot.", "\"keyrot\".", "KeyRot . ", "keyrot/**/."};
	size_t		call = take_byte(input) % lengthof(calls);

	put_one_of(text, input, schemas);
	put(text, calls[call].name);
	put_maybe_blank(text, input);
	put(text, "(");
	put_maybe_blank(text, input);
	put_arguments(text, input, calls[call].parameter);
	put(text, ")");
}

/* Calls in the arguments of calls, more than the lexer follows, too. */
static void
put_calls_in_calls(Text *text, Input *input)
{
	size_t		depth = 1 + take_byte(input) % 40;

	put(text, "SELECT ");
	for (size_t i = 0; i < depth; i++)
		put(text, i % 3 == 0 ? "create_app('n', " : i % 3 == 1 ? "api('A', " : "f((");
	put_secret(text, input);
	for (size_t i = depth; i > 0; i--)
		put(text, i % 3 == 0 ? "))" : ")");
	put(text, " ");
}

/* A call inside of something else, or with its secret elsewhere in the statement. */
static void
put_statement(Text *text, Input *input)
{
	switch (take_byte(input) % 8)
	{
		case 0:
			put(text, "DO $body$ BEGIN PERFORM ");
			put_call(text, input);
			put(text, "; END $body$;");
			break;
		case 1:
			put(text, "WITH s(v) AS (SELECT '" SECRET "') SELECT keyrot.modify_zone_key('z', v) FROM s ");
			break;
		case 2:
			put(text, "DO $$ DECLARE s text := '" SECRET "'; BEGIN PERFORM keyrot.reset_app_secret('a', NULL, s); END $$ ");
			break;
		case 3:
			put(text, "EXECUTE prepared('x', '" SECRET "') ");
			break;
		case 4:
			put(text, "EXPLAIN ANALYZE SELECT g, ");
			put_call(text, input);
			put(text, " FROM generate_series(1, 2) g ");
			break;
		case 5:
			put_calls_in_calls(text, input);
			break;
		default:
			put(text, "SELECT ");
			put_call(text, input);
			put(text, " AS answer ");
			break;
	}
}

/* Whether no reader gets the secret to see: of the statement, of a message around it, of what was hidden before. */
static void
check_hidden(const Text *text, const char *preface)
{
	NamesText	in = copy_of(text->bytes, text->length, 1);
	NamesText	redacted = written(&in, logtext_statements);
	NamesText	mask = masked(&in, logtext_mask_statements);
	NamesText	again = written(&redacted, logtext_statements);
	NamesText	said;
	NamesText	message;
	size_t		length = strlen(preface);
	char	   *room = allocate(length + in.length);

	if (holds_secret(redacted.text, redacted.length) || holds_secret(mask.text, mask.length))
		fprintf(stderr, "of %.*s\nredacted: %.*s\nmasked: %.*s\n", (int) in.length, in.text,
				(int) redacted.length, redacted.text, (int) mask.length, mask.text);
	expect(!holds_secret(redacted.text, redacted.length), "the log shows no secret");
	expect(!holds_secret(mask.text, mask.length), "other readers see no secret");
	expect(!holds_secret(again.text, again.length), "nor do those who hide twice");
	memcpy(room, preface, length);
	memcpy(room + length, in.text, in.length);
	said = (NamesText) {.text = room, .length = length + in.length};
	message = written(&said, write_message);
	expect(!holds_secret(message.text, message.length), "messages show no secret");
	free((char *) message.text);
	free(room);
	free((char *) again.text);
	free((char *) mask.text);
	free((char *) redacted.text);
	free((char *) in.text);
}

static void
hide_a_secret(Input *input)
{
	static const char *const prefaces[] = {
		"duration: 0.123 ms  statement: ", "execute <unnamed>: ", "Query Text: ", "SQL statement \"", "Process 1: "
	};
	static Text text;
	size_t		length;
	char	   *rest;

	text.length = 0;
	text.secret = SECRET;
	put_tokens(&text, input, 6);
	put_statement(&text, input);
	put_tokens(&text, input, 4);
	rest = (char *) take_bytes(input, 200, &length);
	if (text.length + length <= MAX_TEXT && !holds_secret(rest, length))
	{
		memcpy(text.bytes + text.length, rest, length);
		text.length += length;
	}
	free(rest);
	check_hidden(&text, prefaces[text.length % lengthof(prefaces)]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	Input		input = {bytes, length};
	bool		with_secret = take_byte(&input) % 2 == 1;

	count_end(with_secret, "statements with a secret", "any texts");
	if (with_secret)
		hide_a_secret(&input);
	else
		read_anything(&input);
	return 0;
}

/*
 * fuzz_log.c
 *	  The log's redaction (src/log/): any text is read and written within its
 *	  bounds, and a secret that stands where a call takes one is never let through.
 *
 * Two kinds of input.  Any bytes: every function is called on them as the log hook calls it, in memory of
 * their own size, and has to write exactly as much as it asked for.  And a statement that the input puts
 * together: what stands before the call is made of whole tokens, the call is written in one of many ways,
 * the secret as a string, an escaped one, in dollars, with comments, in pieces, or elsewhere in the
 * statement; what follows is anything.  Whatever comes of that, the secret is not in it.
 */
#include "fuzz.h"

#include "log/logtext.h"
#include "log/names.h"

#define SECRET "Zq7SECRETzq7secretZQ7"
#define MAX_TEXT 4096

typedef struct Text
{
	char		bytes[MAX_TEXT];
	size_t		length;
	const char *secret;			/* as this statement has it */
} Text;

static bool
is_prepared(const char *name)
{
	return strcmp(name, "prepared") == 0;
}

static bool
is_short(const char *piece, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (piece[i] == 'q')
			return false;
	return length < 8;
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

static LexerText
copy_of(const char *text, size_t length, LexerForm form)
{
	char	   *copy = allocate(length);

	if (length > 0)
		memcpy(copy, text, length);
	return (LexerText) {.text = copy, .length = length, .form = form, .takes_secret = is_prepared};
}

/* Redacts at the verdict, into room of the size that was asked for; the result is the caller's. */
static LexerText
redact(const LexerText *in, LexerVerdict verdict)
{
	size_t		asked = logtext_redact(in, verdict, NULL);
	char	   *out = allocate(asked);

	expect(logtext_redact(in, verdict, out) == asked, "redacting writes what it asked room for");
	return (LexerText) {.text = out, .length = asked, .form = in->form, .takes_secret = is_prepared};
}

/* Masks a copy in place, as saved plans are masked; the result is the caller's. */
static LexerText
mask(const LexerText *in, LexerVerdict verdict)
{
	LexerText	out = copy_of(in->text, in->length, in->form);
	char	   *beside = allocate(in->length);

	logtext_mask(&out, verdict, (char *) out.text);
	logtext_mask(in, verdict, beside);
	expect(memcmp(out.text, beside, in->length) == 0, "masking in place and beside is the same");
	free(beside);
	return out;
}

static void
read_context(const LexerText *in, LexerVerdict least)
{
	size_t		asked = logtext_context(in, least, NULL);
	char	   *out = allocate(asked);

	expect(logtext_context(in, least, out) == asked, "CONTEXT takes the room that it asked for");
	free(out);
}

static void
read_values(const LexerText *in)
{
	size_t		asked = logtext_values(in->text, in->length, is_short, NULL);
	char	   *out = allocate(asked);

	expect(logtext_values(in->text, in->length, is_short, out) == asked, "a message takes the room that it asked for");
	free(out);
}

static void
read_tree(const LexerText *in)
{
	char	   *text = allocate(in->length + 1);

	memcpy(text, in->text, in->length);
	text[in->length] = '\0';
	(void) logtext_is_tree(text);
	(void) logtext_tree_has_constant(text);
	free(text);
}

/* Every reader on a text of any bytes. */
static void
read_anything(Input *input)
{
	LexerForm	form = take_byte(input) % 2 == 0 ? LEXER_SQL : LEXER_MESSAGE;
	LexerVerdict least = (LexerVerdict) (take_byte(input) % 4);
	size_t		length;
	char	   *bytes = (char *) take_bytes(input, MAX_TEXT, &length);
	LexerText	in = copy_of(bytes, length, form);
	LexerVerdict verdict = lexer_judge(&in);
	LexerText	redacted = redact(&in, verdict < least ? least : verdict);
	LexerText	masked = mask(&in, verdict < least ? least : verdict);

	expect(logtext_audit_fields(in.text, in.length) <= in.length, "pgaudit's fields end within the message");
	read_context(&in, least);
	read_values(&in);
	read_tree(&in);
	(void) names_other_language_occurs(in.text, in.length);
	free((char *) redacted.text);
	free((char *) masked.text);
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
		{"api", "params"}, {"reset_app_secre", "new_app_secret"}, {"creat_app", "app_secret"}, {"U&\"reset_app_secret\"", "new_app_secret"}
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

/* Whether the redacted and the masked text are free of the secret, as a statement and inside a message. */
static void
check_hidden(const char *bytes, size_t length, LexerForm form)
{
	LexerText	in = copy_of(bytes, length, form);
	LexerVerdict verdict = lexer_judge(&in);
	LexerText	redacted = redact(&in, verdict);
	LexerText	masked = mask(&in, verdict);
	LexerText	again;

	if (holds_secret(redacted.text, redacted.length) || holds_secret(masked.text, masked.length))
		fprintf(stderr, "verdict %d of %.*s\nredacted: %.*s\nmasked: %.*s\n", verdict, (int) length, bytes,
				(int) redacted.length, redacted.text, (int) masked.length, masked.text);
	expect(!holds_secret(redacted.text, redacted.length), "the log shows no secret");
	expect(!holds_secret(masked.text, masked.length), "other readers see no secret");
	again = redact(&redacted, lexer_judge(&redacted));
	expect(!holds_secret(again.text, again.length), "nor do those who hide twice");
	free((char *) again.text);
	free((char *) masked.text);
	free((char *) redacted.text);
	free((char *) in.text);
}

static void
hide_a_secret(Input *input)
{
	static const char *const prefaces[] = {
		"statement: ", "duration: 0.123 ms  statement: ", "execute <unnamed>: ", "SQL statement \"", "Process 1: "
	};
	static Text text;
	static Text message;
	size_t		length;
	char	   *rest;

	text.length = message.length = 0;
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
	check_hidden(text.bytes, text.length, LEXER_SQL);

	put(&message, prefaces[text.length % lengthof(prefaces)]);
	if (message.length + text.length <= MAX_TEXT)
	{
		memcpy(message.bytes + message.length, text.bytes, text.length);
		message.length += text.length;
	}
	if (text.length % lengthof(prefaces) == 3)
		put(&message, "\"");
	check_hidden(message.bytes, message.length, LEXER_MESSAGE);
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

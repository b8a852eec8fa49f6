/*
 * clean.c
 *	  Unit tests of what is hidden in SQL and in messages: which texts call keyrot, what stays of them, and
 *	  that nothing is read past a text's end, whatever the text.
 *
 * In the tables @ stands for the marker, and every secret holds SEC.
 */
#include "units.h"

#include "log/logtext.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define R "SELECT keyrot.reset_app_secret("
#define LONG_NAME "prepared_under_a_name_that_is_longer_than_the_63_bytes_that_postgresql_keeps"

typedef struct Case
{
	const char *text;
	const char *redacted;		/* NULL: as the text */
} Case;

/* Where keyrot is installed. */
static const Case statements[] = {
	/* nothing is called */
	{"", NULL},
	{"SELECT 'x', 1 FROM keyrot.requests WHERE action = 'reset_app_secret'", NULL},
	{"SELECT other.api('a', 'b'), reset('x'), myapp('y'), \"my app\"('z'), other . \"api\" ('x')", NULL},
	{"INSERT INTO keyrot.requests (a) VALUES ('x')", NULL},
	{"INSERT INTO api (name, url) VALUES ('billing', 'https://example.com/a')", NULL},
	{"INSERT INTO \"api\" (name) VALUES ('x'); COPY api (name) FROM STDIN; CREATE TABLE IF NOT EXISTS api (n text DEFAULT 'x')", NULL},
	{"SELECT api, 'x' FROM t AS api (a) WHERE api = 'y' AND api IN ('z')", NULL},
	{"CREATE UNIQUE INDEX i ON ONLY api (name) WHERE name <> 'x'; CREATE INDEX ON api (name) WHERE name <> 'x'", NULL},
	{"SELECT 'x'::api(3); WITH api (a) AS (SELECT 'x') SELECT 'y'", NULL},
	{"INSERT INTO api -- where to\n (name) VALUES ('x'); CREATE TABLE api /* a */ ( id int, b text DEFAULT 'x')", NULL},
	{"CREATE FUNCTION api() RETURNS text LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION api (pg_catalog.text), f (text)", NULL},
	{"CREATE FUNCTION create_app(a text DEFAULT 'x') RETURNS text LANGUAGE sql AS 'SELECT 1'", NULL},
	{"SELECT create_app FROM t WHERE find_secret <> 'x'", NULL},
	{"GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret(text, text, text, interval, text) TO app; SELECT 'x'", NULL},
	{"SELECT 'it''s', $x$ app $x$, 'C:\\' -- secret", NULL},
	{"EXECUTE other('a', 'b')", NULL},
	{"EXECUTE unknown('a', 'b')", NULL},
	{"EXECUTE /* a */ other('b'); EXECUTE -- c\n other('d'); EXECUTE \"an other\" ('e'); EXECUTE other$('f')", NULL},
	{"DO $$ BEGIN EXECUTE -- at once\n 'SELECT 1'; EXECUTE /* and */ /* again */ 'SELECT 2'; END $$", NULL},
	{"-- do not execute\n-- this (x)\nSELECT 'a'", NULL},
	{"SELECT U&\"caf\\00e9\" FROM t WHERE a = 'x'; SELECT U&\"\\0061pi\".a = 'x' FROM api", NULL},
	{"SELECT current_setting('keyrot.max_grace'); SET keyrot.max_grace = '1 d'; CREATE EXTENSION keyrot", NULL},
	{"SELECT 'apple", NULL},

	/* every literal, comment, name in quotes and long word, however it is written */
	{R "'a', NULL, 'SEC', 1)", R "@, NULL, @, 1)"},
	{R "'a', NULL, 'SEC''SEC')", R "@, NULL, @)"},
	{R "'a', NULL, E'SEC\\'SEC')", R "@, NULL, @)"},
	{R "'a', NULL, U&'SEC!0041' UESCAPE '!')", R "@, NULL, @ UESCAPE @)"},
	{R "n'SEC', B'01', X'SEC', $$SEC$$, $q$SEC'SEC$q$)", R "@, @, @, @, @)"},
	{R "'SEC' || 'SEC'::pg_catalog.text, CAST('SEC' AS varchar))", R "@ || @::pg_catalog.text, CAST(@ AS varchar))"},
	{R "/* SEC /* SEC */ */ 'SEC' -- SEC\n)", R "@ @ @\n)"},
	{R "\"SEC\", SECaaaaaaaaaaaaaaaaaa, 123456789012345678)", R "@, @, @)"},
	{R "$1, NULL, $2), abcdefghijklmno", NULL},
	{R "app_key => '60030986'), 'SEC'", R "app_key => @), @"},
	{"WITH s AS (SELECT 'SEC' v) " R "'a', NULL, v) FROM s", "WITH s AS (SELECT @ v) " R "@, NULL, v) FROM s"},

	/* whatever the function, and however the call is written */
	{"select KEYROT . Reset_App_Secret /* ( */ ('SEC')", "select KEYROT . Reset_App_Secret @ (@)"},
	{"SELECT \"keyrot\".\"reset_app_secret\"('SEC')", "SELECT \"keyrot\".\"reset_app_secret\"(@)"},
	{"SELECT keyrot/**/.api('SEC'), keyrot. -- x\n api('SEC')", "SELECT keyrot@.api(@), keyrot. @\n api(@)"},
	{"SELECT r::text FROM keyrot.verify_app_string('SEC') r", "SELECT r::text FROM keyrot.verify_app_string(@) r"},
	{"SELECT keyrot.rotate_it('SEC')", "SELECT keyrot.rotate_it(@)"},
	{"SELECT create_app('SEC'), x", "SELECT create_app(@), x"},
	{"SELECT * FROM t JOIN u ON API ( 'SEC' )", "SELECT * FROM t JOIN u ON API ( @ )"},
	{"SELECT find_secret /* x */ ('SEC')", "SELECT find_secret @ (@)"},
	{"SELECT * FROM ONLY reset_app_secret(E'SEC')", "SELECT * FROM ONLY reset_app_secret(@)"},
	{"SELECT * FROM ONLY keyrot.api(text 'SEC', x), \"a\" FROM t WHERE EXISTS api(action := 'SEC')",
	"SELECT * FROM ONLY keyrot.api(text @, x), @ FROM t WHERE EXISTS api(action := @)"},
	{"CREATE TABLE a AS reset_app_secret /* x */ ($1, 'SEC')", "CREATE TABLE a AS reset_app_secret @ ($1, @)"},
	{"SELECT U&\"key\\0072ot\".U&\"reset\\005fapp_secret\"('SEC')", "SELECT @.@(@)"},
	{"SELECT U&\"reset!005fapp_secret\" UESCAPE '!' ('SEC')", "SELECT @ UESCAPE @ (@)"},
	{"SELECT u&\"abc\" FROM f('SEC')", "SELECT @ FROM f(@)"},
	{"EXECUTE prepared('SEC')", "EXECUTE prepared(@)"},
	{"EXPLAIN EXECUTE Prepared ('SEC')", "EXPLAIN EXECUTE Prepared (@)"},
	{"EXECUTE \"my rotate\"('SEC')", "EXECUTE @(@)"},
	{"EXECUTE /* a /* b */ */ -- c\n prepared/**/('SEC')", "EXECUTE @ @\n prepared@(@)"},
	{"EXECUTE /* a */ \"my rotate\"('SEC')", "EXECUTE @ @(@)"},
	{"EXECUTE prepared$2('SEC')", "EXECUTE prepared$2(@)"},
	{"EXECUTE U&\"prep\\0061red\"('SEC'), u&\"a\" UESCAPE '!' ('SEC')", "EXECUTE @(@), @ UESCAPE @ (@)"},
	{"EXECUTE \"a \"\"prepared\"\" statement\"('SEC')", "EXECUTE @(@)"},
	{"EXECUTE " LONG_NAME "('SECRET78')", "EXECUTE @(@)"},
	{"EXECUTE \"" LONG_NAME "\"('SEC')", "EXECUTE @(@)"},
	{"EXECUTE /* " LONG_NAME LONG_NAME " */ other('SEC')", "EXECUTE @ other(@)"},

	/* in a string or body */
	{"DO $$ BEGIN PERFORM keyrot.reset_app_secret('a', NULL, 'SEC'); END $$; SELECT 'y'", "DO @; SELECT 'y'"},
	{"DO 'BEGIN PERFORM keyrot.reset_app_secret(''a'', NULL, ''SEC''); END'", "DO @"},
	{"DO $$keyrot.api('SEC')$$", "DO @"},
	{"DO $$ BEGIN SELECT INTO domain keyrot.api('SEC'); END $$", "DO @"},
	{"DO $$ BEGIN SELECT INTO STRICT type create_app('SEC'); END $$", "DO @"},
	{"DO $$ BEGIN SELECT INTO a, view keyrot.api('SEC'), 'SEC'; END $$", "DO @"},
	{"DO $$ BEGIN SELECT INTO app.type keyrot.api('SEC'); END $$", "DO @"},
	{"DO LANGUAGE plpython3u $$ plpy.execute(\"SELECT reset_app_secret('a', NULL, 'SEC')\") $$", "DO LANGUAGE plpython3u @"},
	{"EXECUTE format('SELECT keyrot.%I(%L)', 'a', 'SEC')", "EXECUTE format(@, @, @)"},
	{"-- create_app('x')", NULL},
	{"SELECT 1; /* create_app('x') */", NULL},
	{"-- keyrot.reset_app_secret('a', NULL, 'SEC')\nSELECT 1", "@\nSELECT 1"},

	/* one statement is not the other */
	{"SELECT 'x'; " R "'SEC'); SELECT 'y', keyrot.x; SELECT ';'", "SELECT 'x'; " R "@); SELECT 'y', keyrot.x; SELECT ';'"},
	{"CREATE RULE r AS ON INSERT TO t DO (" R "'SEC'); SELECT 'SEC'); SELECT 'y'",
		"CREATE RULE r AS ON INSERT TO t DO (" R "@); SELECT @); SELECT 'y'"},
	{"CREATE FUNCTION f(s text DEFAULT 'SEC') BEGIN ATOMIC SELECT 1; SELECT keyrot.api(s); END",
		"CREATE FUNCTION f(s text DEFAULT @) BEGIN ATOMIC SELECT 1; SELECT keyrot.api(s); END"},
	{"PREPARE p AS SELECT keyrot.modify_zone_key('z', $1); EXECUTE p('SEC')", "PREPARE p AS SELECT keyrot.modify_zone_key(@, $1); EXECUTE p(@)"},

	/* cannot be read */
	{R "'a', NULL, 'SEC", "@"},
	{R "'a', NULL, $x$SEC$y$", "@"},
	{"SELECT 'a\\', keyrot.reset_app_secret('a', NULL, 'SEC')", "@"},
	{R "'a', NULL, 'SEC') /* /* */", "@"},
	{"SELECT \"a, reset_app_secret('SEC')", "@"},
	{"SELECT 1; EXECUTE prepared('a', 'SEC, SEC", "SELECT 1;@"},

	/* hidden before */
	{R "@, NULL, @), 1", NULL},
};

/* Where it is not. */
static const Case elsewhere[] = {
	{"SELECT create_app('x'), reset_app_secret('y'), api('z'), U&\"a\\0070i\"('x')", NULL},
	{"SELECT reset_app_secret('y", NULL},
	{R "'SEC'), api('SEC')", R "@), api(@)"},
	{"EXECUTE U&\"a\"('x'); EXECUTE \"a\"\"b\"('y'); EXECUTE /* " LONG_NAME LONG_NAME " */ a('z')", NULL},
};

/* That cannot be parsed, where keyrot is installed: whether they are hidden. */
static const struct
{
	const char *text;
	bool		mentions;
}			unparsed[] = {
	{"SELECT * FROM ONLY reset_app_secret('SEC')", true},
	{"SELECT * FROM ONLY reset_app_secret(NULL, x, 'SEC')", true},
	{"SELECT 1 WHERE EXISTS Reset_App_Secret /* x */ ('SEC')", true},
	{"SELECT * FROM ONLY api('ResetAppSecret', 'SEC')", true},
	{"INSERT INTO api(action => 'SEC')", true},
	{"SELECT reset_app_secret 'a', NULL, 'SEC')", true},
	{"SELECT \"api\"\t'a', 'SEC')", true},
	{"SELEC \"keyrot\" 'SEC'", true},
	{"INSERT INTO api (name, \"url\") VALUES ('a' 'b')", false},
	{"COPY reset_app_secret ( app_secret ) FORM STDIN", false},
	{"SELEC create_app of some kind, 'of an api'", false},
	{"SELEC mine.create_app('x'), 'x'::api(3), myapi('x')", false},
};

static const Case messages[] = {
	{"app with app_key x does not exist", NULL},
	{"column \"SECRET\" of \"SEC\" is \"SEC\"", "column \"@\""},
	{"near \"SEC\"RET\" here", "near \"@\" here"},
	{"couldn't find SEC", "@"},
	{"schema \"keyrot\" does not exist", NULL},
	{"\"Keyrot\" or \"SEC\"", "\"@\""},
	{"parameters: $1 = 'SEC', $2 = NULL", "parameters: $1 = @, $2 = NULL"},
	{"Process 1: " R "'a', NULL, 'SEC')\nProcess 2: SELECT 'x'", "Process 1: " R "@, NULL, @)\nProcess 2: SELECT @"},
	{"SQL statement \"" R "'a', NULL, \"SEC/+=\")\"", "SQL statement \"@\""},
	{"{\"Query Text\": \"SELECT 1;\\nSELECT \\\"reset_app_secret\\\"('a', NULL, 'SEC')\"}", "@"},
	{"AUDIT: SESSION,1,1,READ,SELECT,,,\"" R "'SEC')\",SEC", "AUDIT: SESSION,1,1,READ,SELECT,,,@"},
	{"AUDIT: SESSION,1,1,READ,SELECT,,," R "'SEC'),SEC,SEC", "AUDIT: SESSION,1,1,READ,SELECT,,,@"},
	{"CachedPlanSource: 2048 total: " R "'a', NULL, 'SEC...", "@"},
};

static NamesPrepared
look_up(const char *name)
{
	if (strcmp(name, "prepared") == 0 || strcmp(name, "my rotate") == 0 || strcmp(name, "prepared$2") == 0 ||
		strncmp(name, LONG_NAME, 63) == 0)
		return NAMES_CALLS;
	return strcmp(name, "other") == 0 || strcmp(name, "other$") == 0 || strcmp(name, "an other") == 0 ? NAMES_HARMLESS : NAMES_UNKNOWN;
}

static char *
allocate(size_t length)
{
	char	   *room = malloc(length > 0 ? length : 1);

	if (room == NULL)
		abort();
	return room;
}

/* A copy of its own size, so that a sanitizer sees what is read past the end. */
static NamesText
copy_of(const char *text, size_t length)
{
	char	   *copy = allocate(length);

	memcpy(copy, text, length);
	return (NamesText) {.text = copy, .length = length, .is_installed = true, .prepared = look_up};
}

/* Writes @ as the marker; returns the length. */
static size_t
expand(const char *text, char *out)
{
	size_t		length = 0;

	for (; *text != '\0'; text++)
	{
		if (*text != '@')
			out[length++] = *text;
		else
		{
			memcpy(out + length, LOGTEXT_MARKER, LOGTEXT_MARKER_LENGTH);
			length += LOGTEXT_MARKER_LENGTH;
		}
	}
	return length;
}

static bool
holds(const char *text, size_t length, const char *what)
{
	for (size_t i = 0; i + strlen(what) <= length; i++)
	{
		if (memcmp(text + i, what, strlen(what)) == 0)
			return true;
	}
	return false;
}

static size_t
write_message(const NamesText *in, char *out)
{
	return logtext_message(in->text, in->length, out);
}

static size_t
write_statement(const NamesText *in, char *out)
{
	return logtext_statement(in->text, in->length, out);
}

static size_t
write_context(const NamesText *in, char *out)
{
	return logtext_context(in->text, in->length, out);
}

/* What the writer makes of a text, in the room that it asked for, as the caller's. */
static NamesText
written(const NamesText *in, size_t (*writer) (const NamesText *, char *), bool *good)
{
	NamesText	out = *in;
	char	   *room = allocate(writer(in, NULL));

	out.length = writer(in, NULL);
	out.text = room;
	*good &= writer(in, room) == out.length;
	return out;
}

/* Whether the masked text has no secret any more, is as long, and is known for what it is. */
static bool
masks(const NamesText *in)
{
	char	   *room = allocate(in->length);
	NamesText	masked = *in;
	bool		good;

	logtext_mask_statements(in, room);
	masked.text = room;
	good = !names_call_occurs(in) || (!holds(room, in->length, "SEC") && names_call_occurs(&masked));
	good &= names_call_occurs(in) || memcmp(room, in->text, in->length) == 0;
	free(room);
	return good;
}

static void
test_cases(const Case *cases, size_t count, const char *what, size_t (*writer) (const NamesText *, char *), bool is_installed)
{
	for (size_t i = 0; i < count; i++)
	{
		char		text[500];
		char		expected[500];
		char		name[160];
		NamesText	in = copy_of(text, expand(cases[i].text, text));
		size_t		length = expand(cases[i].redacted != NULL ? cases[i].redacted : cases[i].text, expected);
		bool		good = true;
		NamesText	out;
		NamesText	again;

		in.is_installed = is_installed;
		out = written(&in, writer, &good);
		again = written(&out, writer, &good);
		good &= out.length == length && memcmp(out.text, expected, length) == 0;
		if (!good)
			printf("# %.*s\n", (int) out.length, out.text);
		good &= again.length == length && memcmp(again.text, expected, length) == 0;
		good &= writer == write_message || masks(&in);
		(void) snprintf(name, sizeof(name), "clean %s: %.100s", what, cases[i].text);
		for (char *at = name; *at != '\0'; at++)
			*at = *at == '\n' ? ' ' : *at;
		ok(good, name);
		free((char *) in.text);
		free((char *) out.text);
		free((char *) again.text);
	}
}

static void
test_masks(void)
{
	static const char text[] = "SELECT reset_app_secret('a', 'S''C' || $q$S$q$ || 1234567890123456 || E'\\'') /* x */";
	static const char expected[] = "SELECT reset_app_secret('*', '****' || $q$*$q$ || 0000000000000000 || E'**') /*****/";
	static const char body[] = "DO $$ PERFORM api('SEC') $$";
	NamesText	in = copy_of(text, strlen(text));
	char		masked[sizeof(text)] = "";

	logtext_mask(&in, masked);
	ok(strcmp(masked, expected) == 0, "clean mask: tokens keep their kind and length");
	free((char *) in.text);
	in = copy_of(body, strlen(body));
	logtext_mask(&in, masked);
	ok(memcmp(masked, "DO $$keyrot.(************$$", in.length) == 0, "clean mask: a trace of a call in what is hidden");
	free((char *) in.text);
}

/* Which statement of a message is meant, by where an error is or how far the message has come. */
static void
test_places(void)
{
	static const char text[] = "SELECT 'x'; SELECT 1; " R "'SEC'); SELECT 'y'; SELECT 'z'";
	NamesText	in = copy_of(text, strlen(text));

	ok(!logtext_calls_near(&in, 0) && logtext_calls_near(&in, 11) && logtext_calls_near(&in, 21) &&
	   !logtext_calls_near(&in, (size_t) (strstr(text, "'y'") - text) - 8), "clean places: this statement and the next");
	ok(!logtext_calls_at(&in, 8) && logtext_calls_at(&in, 30) && !logtext_calls_at(&in, in.length - 2),
	   "clean places: the statement at a position");
	free((char *) in.text);
}

static void
test_unparsed(void)
{
	for (size_t i = 0; i < lengthof(unparsed); i++)
	{
		NamesText	in = copy_of(unparsed[i].text, strlen(unparsed[i].text));
		NamesText	other = in;
		char		name[160];

		other.is_installed = false;
		(void) snprintf(name, sizeof(name), "clean unparsed: %.100s", unparsed[i].text);
		ok(names_mention_occurs(&in) == unparsed[i].mentions &&
		   names_mention_occurs(&other) == (strstr(unparsed[i].text, "keyrot") != NULL), name);
		free((char *) in.text);
	}
}

static bool
is_large(unsigned function)
{
	return function > 10000;
}

static void
test_reports(void)
{
	static const char context[] = "keyrot request 0190f1c8-0000-7000-8000-000000000000: reset_app_secret\n"
		"JSON data: 'SEC'\nmore\nkeyrot request 0190f1c8-0000-7000-8000-000000000000: api";
	char		out[400];
	char		expected[400];
	size_t		length = expand("keyrot request 0190f1c8-0000-7000-8000-000000000000: reset_app_secret\n@\n"
								"keyrot request 0190f1c8-0000-7000-8000-000000000000: api", expected);

	ok(logtext_context(context, strlen(context), out) == length && memcmp(out, expected, length) == 0,
	   "clean context: RequestIds remain");
	ok(logtext_is_tree("   {QUERY \n   :commandType 1") && !logtext_is_tree("parameters: $1 = '{A}'"), "clean trees: known by their start");
	ok(logtext_tree_has_call("{FUNCEXPR :funcid 16400 :args ({CONST :constvalue 7 [ 28 ]})}", is_large) &&
	   !logtext_tree_has_call("{FUNCEXPR :funcid 1640 :args ({CONST :constvalue 7 [ 28 ]})}", is_large) &&
	   !logtext_tree_has_call("{FUNCEXPR :funcid 16400 :args <>}", is_large),
	   "clean trees: a constant beside a function of keyrot's");
}

/* Texts put together from pieces that matter, cut anywhere: read within their bounds. */
static void
test_any_text(void)
{
	static const char *const pieces[] = {
		"'", "''", "\"", "\"\"", "$", "$$", "$x$", "(", ")", ",", ".", "=>", ":=", "::", "--", "/*", "*/", "\n", "\\", " ",
		"E'", "U&'", "U&\"", "keyrot", "reset_app_secret", "api(", "SEC", "NULL", "$1", "1e", "-", "+5", "EXECUTE ",
		"prepared(", LOGTEXT_MARKER, "\303\244", "AUDIT: ", "app", "create_app(", ";", "ATOMIC", "INTO", "UESCAPE"
	};
	unsigned	seed = 1;
	bool		good = true;

	for (int round = 0; round < 30000 && good; round++)
	{
		char		text[400];
		size_t		length = 0;
		NamesText	in;

		for (int i = 0; i < 24 && length < sizeof(text) - 40; i++)
		{
			const char *piece;

			seed = seed * 1103515245 + 12345;
			piece = pieces[(seed >> 16) % lengthof(pieces)];
			memcpy(text + length, piece, strlen(piece));
			length += strlen(piece);
		}
		in = copy_of(text, length - (seed >> 8) % 3);
		for (int i = 0; i < 4; i++)
		{
			NamesText	out = written(&in, (size_t (*[]) (const NamesText *, char *)) {logtext_statements, write_statement, write_message, write_context}[i], &good);

			free((char *) out.text);
		}
		(void) logtext_calls_near(&in, (seed >> 3) % in.length);
		(void) logtext_calls_at(&in, (seed >> 3) % in.length);
		(void) names_mention_occurs(&in);
		(void) masks(&in);
		free((char *) in.text);
	}
	ok(good, "clean: any text is read within its bounds");
}

void
clean_tests(void)
{
	test_cases(statements, lengthof(statements), "SQL", logtext_statements, true);
	test_cases(elsewhere, lengthof(elsewhere), "SQL elsewhere", logtext_statements, false);
	test_cases(messages, lengthof(messages), "message", write_message, true);
	test_masks();
	test_places();
	test_unparsed();
	test_reports();
	test_any_text();
}

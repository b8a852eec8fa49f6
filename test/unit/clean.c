/*
 * clean.c
 *	  Unit tests of what is hidden in SQL and in messages: which texts hand a secret over, where it stands,
 *	  and that nothing is read past a text's end, whatever the text.
 *
 * In the tables @ stands for the marker, and every secret holds SEC.
 */
#include "units.h"

#include "log/logtext.h"
#include "log/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define R "SELECT keyrot.reset_app_secret("

typedef struct Case
{
	LexerVerdict verdict;
	const char *text;
	const char *redacted;		/* NULL: as the text */
} Case;

static const Case statements[] = {
	/* nothing is handed over */
	{LEXER_HARMLESS, "", NULL},
	{LEXER_HARMLESS, R "'60030986')", NULL},
	{LEXER_HARMLESS, R "app_key => '60030986', new_app_secret => NULL)", NULL},
	{LEXER_HARMLESS, R "'a', NULL, DEFAULT)", NULL},
	{LEXER_HARMLESS, R "'a', grace_period => interval '1 h')", NULL},
	{LEXER_HARMLESS, "SELECT 'x', 1 FROM keyrot.requests WHERE action = 'reset_app_secret'", NULL},
	{LEXER_HARMLESS, "SELECT keyrot.verify_app_string('a', 'message', 'signature')", NULL},
	{LEXER_HARMLESS, "SELECT other.api('a', 'b'), reset('x'), myapp('y'), \"my app\"('z')", NULL},
	{LEXER_HARMLESS, "INSERT INTO keyrot.requests (a) VALUES ('x')", NULL},
	{LEXER_HARMLESS, "GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret(text, text, text, interval, text) TO app", NULL},
	{LEXER_HARMLESS, "SELECT 'it''s', $x$ app $x$, 'C:\\' -- secret", NULL},
	{LEXER_HARMLESS, "EXECUTE other('a', 'b')", NULL},
	{LEXER_HARMLESS, "SELECT 'apple", NULL},

	/* one literal, however it is written */
	{LEXER_ARGUMENTS, R "'a', NULL, 'SEC')", R "'a', NULL, @)"},
	{LEXER_ARGUMENTS, R "'a', NULL, 'SEC''SEC')", R "'a', NULL, @)"},
	{LEXER_ARGUMENTS, R "'a', NULL, 'SEC'\n  'SEC')", R "'a', NULL, @)"},
	{LEXER_ARGUMENTS, R "'a', NULL, E'SEC\\'SEC')", R "'a', NULL, @)"},
	{LEXER_ANYWHERE, R "'a', NULL, U&'SEC!0041' UESCAPE '!')", R "'a', NULL, @ UESCAPE @)"},
	{LEXER_ARGUMENTS, R "'a', NULL, $q$SEC'SEC$q$)", R "'a', NULL, @)"},
	{LEXER_ARGUMENTS, R "'a', NULL, $$SEC$$)", R "'a', NULL, @)"},
	{LEXER_ARGUMENTS, R "'a', NULL, 'SEC' || 'SEC'::pg_catalog.text || CAST('SEC' AS varchar))",
		R "'a', NULL, @ || @::pg_catalog.text || CAST(@ AS varchar))"},
	{LEXER_ARGUMENTS, R "'a', NULL, /* SEC /* SEC */ */ 'SEC' -- SEC\n)", R "'a', NULL, @\n)"},
	{LEXER_ARGUMENTS, R "'a', NULL, 1234567890.5e-3::text)", R "'a', NULL, @::text)"},
	{LEXER_ARGUMENTS, R "'a', NULL, ('SEC'))", R "'a', NULL, (@))"},

	/* one call, however it is written */
	{LEXER_ARGUMENTS, "select KEYROT . Reset_App_Secret /* ( */ ('a', null, 'SEC')",
		"select KEYROT . Reset_App_Secret /* ( */ ('a', null, @)"},
	{LEXER_ARGUMENTS, "SELECT \"keyrot\".\"reset_app_secret\"('a', NULL, 'SEC')",
		"SELECT \"keyrot\".\"reset_app_secret\"('a', NULL, @)"},
	{LEXER_ARGUMENTS, "SELECT U&\"reset\\005fapp_secret\"('a', NULL, 'SEC')", "SELECT U&\"reset\\005fapp_secret\"('a', NULL, @)"},
	{LEXER_ARGUMENTS, "SELECT r::text FROM keyrot.reset_app_secret('a', NULL, 'SEC') r",
		"SELECT r::text FROM keyrot.reset_app_secret('a', NULL, @) r"},
	{LEXER_ARGUMENTS, "SELECT a::pg_catalog.\"bool\" AND keyrot.reset_app_secret('a', NULL, 'SEC') IS NULL",
		"SELECT a::pg_catalog.\"bool\" AND keyrot.reset_app_secret('a', NULL, @) IS NULL"},
	{LEXER_ARGUMENTS, "SELECT reset_ap_secet('a', NULL, 'SEC')", "SELECT reset_ap_secet('a', NULL, @)"},
	{LEXER_ARGUMENTS, "SELECT reset_app_secret('a', new_app_secret := 'SEC', grace_period => '1 h')",
		"SELECT reset_app_secret('a', new_app_secret := @, grace_period => '1 h')"},
	{LEXER_ARGUMENTS, "SELECT keyrot.create_app('n', 'a', 'SEC'), keyrot.create_zone_key('z', 'SEC'), 'x'",
		"SELECT keyrot.create_app('n', @, @), keyrot.create_zone_key('z', @), 'x'"},
	{LEXER_ARGUMENTS, "SELECT keyrot.modify_zone_key('z', secret_key => 'SEC')",
		"SELECT keyrot.modify_zone_key('z', secret_key => @)"},
	{LEXER_ARGUMENTS, "SELECT * FROM keyrot.api('ResetAppSecret', '{\"NewAppSecret\": \"SEC\"}')",
		"SELECT * FROM keyrot.api('ResetAppSecret', @)"},
	{LEXER_ARGUMENTS, "SELECT api('A', $j${\"x\": \"SEC\"}$j$)", "SELECT api('A', @)"},
	{LEXER_ARGUMENTS, "SELECT f(keyrot.reset_app_secret(keyrot.create_app('n', NULL, 'SEC'), NULL, 'SEC'), 'x')",
		"SELECT f(keyrot.reset_app_secret(keyrot.create_app('n', NULL, @), NULL, @), 'x')"},
	{LEXER_ARGUMENTS, R "'a', NULL, 'SEC'); SELECT 'x'", R "'a', NULL, @); SELECT 'x'"},
	{LEXER_ARGUMENTS, "EXECUTE prepared('a', 'SEC')", "EXECUTE prepared(@, @)"},
	{LEXER_ARGUMENTS, "EXECUTE Prepared('a', 'SEC')", "EXECUTE Prepared(@, @)"},
	{LEXER_HARMLESS, "EXECUTE \"Prepared\"('a', 'b')", NULL},
	{LEXER_ARGUMENTS, "EXPLAIN EXECUTE \"prepared\" ('SEC')", "EXPLAIN EXECUTE \"prepared\" (@)"},
	{LEXER_ARGUMENTS, R "$1, NULL, $2), 'x'", NULL},

	/* the wrong place, the wrong name */
	{LEXER_ARGUMENTS, R "'SECaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=')", R "@)"},
	{LEXER_ARGUMENTS, R "'a', 'SEC')", R "'a', @)"},
	{LEXER_ARGUMENTS, R "'a'\n'SEC')", R "'a'\n@)"},
	{LEXER_ARGUMENTS, R "app_key => 'a' || 'SEC')", R "app_key => 'a' || @)"},
	{LEXER_ARGUMENTS, R "'a', new_secret => 'SEC')", R "'a', new_secret => @)"},
	{LEXER_ARGUMENTS, "SELECT keyrot.reset_secret('a', 'SEC')", "SELECT keyrot.reset_secret('a', @)"},
	{LEXER_ARGUMENTS, "SELECT keyrott.rest_app_secret('a', NULL, 'SEC')", "SELECT keyrott.rest_app_secret('a', NULL, @)"},
	{LEXER_ARGUMENTS, "SELECT creat_app('n', NULL, 'SEC')", "SELECT creat_app('n', NULL, @)"},
	{LEXER_ANYWHERE, R "'a', NULL, \"SEC\")", R "'a', NULL, @)"},
	{LEXER_ANYWHERE, R "'a', NULL, SECaaaaaaaaaaaaaaaaaa)", R "'a', NULL, @)"},

	/* the secret stands elsewhere */
	{LEXER_ANYWHERE, R "'a', NULL, upper('SEC')), 'x'", R "'a', NULL, upper(@)), @"},
	{LEXER_ANYWHERE, R "'a', NULL, unnest(ARRAY['SEC']))", R "'a', NULL, unnest(ARRAY[@]))"},
	{LEXER_ANYWHERE, R "'a', NULL, (SELECT 'SEC'))", R "'a', NULL, (SELECT @))"},
	{LEXER_ANYWHERE, "SELECT keyrot.create_app(v.*) FROM (VALUES ('SEC')) v", "SELECT keyrot.create_app(v.*) FROM (VALUES (@)) v"},
	{LEXER_ANYWHERE, "WITH s AS (SELECT 'SEC' v) " R "'a', NULL, v) FROM s", "WITH s AS (SELECT @ v) " R "'a', NULL, v) FROM s"},
	{LEXER_ANYWHERE, R "k, NULL, s) FROM (VALUES ('a', $q$SEC$q$)) v(k, s)", R "k, NULL, s) FROM (VALUES (@, @)) v(k, s)"},
	{LEXER_ANYWHERE, R "'a', NULL, s.text) FROM (VALUES ('SEC')) s(text)", R "'a', NULL, s.text) FROM (VALUES (@)) s(text)"},
	{LEXER_ANYWHERE, R "'a', NULL, CASE WHEN b::bool THEN v END) FROM (VALUES ('SEC')) s(v)",
		R "'a', NULL, CASE WHEN b::bool THEN v END) FROM (VALUES (@)) s(v)"},
	{LEXER_ANYWHERE, "DO $$ DECLARE s text := 'SEC'; BEGIN PERFORM keyrot.reset_app_secret('a', NULL, s); END $$",
		"DO $$ DECLARE s text := @; BEGIN PERFORM keyrot.reset_app_secret('a', NULL, s); END $$"},
	{LEXER_ARGUMENTS, "DO $$ BEGIN RAISE NOTICE 'x'; PERFORM keyrot.reset_app_secret('a', NULL, 'SEC'); END $$; SELECT 'y'",
		"DO $$ BEGIN RAISE NOTICE 'x'; PERFORM keyrot.reset_app_secret('a', NULL, @); END $$; SELECT 'y'"},
	{LEXER_ARGUMENTS, "DO $$ BEGIN PERFORM reset_app_secret /* /* */ */ ('a', NULL, 'SEC'); END $$",
		"DO $$ BEGIN PERFORM reset_app_secret /* /* */ */ ('a', NULL, @); END $$"},
	{LEXER_ANYWHERE, "DO 'BEGIN PERFORM keyrot.reset_app_secret(''a'', NULL, ''SEC''); END'", "DO @"},
	{LEXER_ANYWHERE, "EXECUTE format('SELECT keyrot.%I(%L)', 'a', 'SEC')", "EXECUTE format(@, @, @)"},
	{LEXER_ANYWHERE, "EXECUTE 'SELECT reset_app_secret($1, NULL, $2)' USING 'a', 'SEC'", "EXECUTE @ USING @, @"},
	{LEXER_ANYWHERE, "PREPARE p AS SELECT keyrot.modify_zone_key('z', $1); EXECUTE p('SEC')",
		"PREPARE p AS SELECT keyrot.modify_zone_key('z', $1); EXECUTE p(@)"},
	{LEXER_ANYWHERE, "-- keyrot.reset_app_secret('a', NULL, 'SEC')\nSELECT 1", "@\nSELECT 1"},

	/* cannot be read */
	{LEXER_UNCLEAR, "SELECT keyrot.U&\"reset!005fapp_secret\" UESCAPE '!' ('a', NULL, 'SEC')", "@"},
	{LEXER_UNCLEAR, "SELECT U&\"reset!005fapp_secret\" /* c */ -- c\nUESCAPE '!' ('a', NULL, 'SEC')", "@"},
	{LEXER_UNCLEAR, "DO LANGUAGE plpython3u $$ # don't\nplpy.execute(\"SELECT reset_app_secret('a', NULL, 'SEC')\") $$", "@"},
	{LEXER_UNCLEAR, "DO $$ f(\"SELECT keyrot.reset_app_secret('a', NULL, 'SEC')\") $$ LANGUAGE 'plperl'", "@"},
	{LEXER_UNCLEAR, R "'a', NULL, 'SEC", "@"},
	{LEXER_UNCLEAR, R "'a', NULL, $x$SEC$y$", "@"},
	{LEXER_UNCLEAR, "SELECT 'a\\', keyrot.reset_app_secret('a', NULL, 'SEC')", "@"},
	{LEXER_UNCLEAR, R "'a', NULL, 'SEC') /* /* */", "@"},
	{LEXER_UNCLEAR, "SELECT \"a, reset_app_secret('SEC')", "@"},
	{LEXER_UNCLEAR, "EXECUTE prepared('a', 'SEC", "@"},
	{LEXER_UNCLEAR, "EXECUTE EXECUTE /* ( */ Prepared ('a', 'SEC", "@"},
	{LEXER_HARMLESS, "EXECUTE other('a', 'b", NULL},

	/* hidden before */
	{LEXER_ARGUMENTS, R "'a', NULL, @), 'x'", R "'a', NULL, @), 'x'"},
};

static const Case messages[] = {
	{LEXER_HARMLESS, "keyrot is not the last of shared_preload_libraries", NULL},
	{LEXER_HARMLESS, "app with app_key \"a\" does not exist", NULL},
	{LEXER_HARMLESS, "permission denied for function reset_app_secret", NULL},
	{LEXER_HARMLESS, "couldn't find the secret", NULL},
	{LEXER_ARGUMENTS, "duration: 1.5 ms  statement: " R "'a', NULL, 'SEC')", "duration: 1.5 ms  statement: " R "'a', NULL, @)"},
	{LEXER_ARGUMENTS, "SQL statement \"" R "'a', NULL, 'SEC')\"\nPL/pgSQL function f() line 1",
		"SQL statement \"" R "'a', NULL, @)\"\nPL/pgSQL function f() line 1"},
	{LEXER_ARGUMENTS, "AUDIT: SESSION,1,\"SELECT \"\"keyrot\"\".\"\"reset_app_secret\"\"('a', NULL, 'SEC')\"",
		"AUDIT: SESSION,1,\"SELECT \"\"keyrot\"\".\"\"reset_app_secret\"\"('a', NULL, @)\""},
	{LEXER_ARGUMENTS, "{\"Query Text\": \"SELECT 1;\\nSELECT \\\"reset_app_secret\\\"('a', NULL, 'SEC')\"}",
		"{\"Query Text\": \"SELECT 1;\\nSELECT \\\"reset_app_secret\\\"('a', NULL, @)\"}"},
	{LEXER_ANYWHERE, "Query Text: " R "$1, NULL, $2)\nQuery Parameters: $1 = 'a', $2 = 'SEC'",
		"Query Text: " R "$1, NULL, $2)\nQuery Parameters: $1 = @, $2 = @"},
	{LEXER_ANYWHERE, "Output: keyrot.reset_app_secret('a'::text, NULL::text, (unnest('{SEC}'::text[])))\nOutput: unnest('{SEC}'::text[])",
		"Output: keyrot.reset_app_secret('a'::text, NULL::text, (unnest(@::text[])))\nOutput: unnest(@::text[])"},
	{LEXER_ARGUMENTS, "Process 1: SELECT U&\"reset\\005fapp_secret\"('a', NULL, 'SEC')\nProcess 2: SELECT 'x'",
		"Process 1: SELECT U&\"reset\\005fapp_secret\"('a', NULL, @)\nProcess 2: SELECT 'x'"},
	{LEXER_ARGUMENTS, "statement: EXECUTE \"my rotate\"('SEC'); -- keyrot", "statement: EXECUTE \"my rotate\"(@); -- keyrot"},
	{LEXER_ARGUMENTS, "statement: SELECT keyrot.\"reset-app-secret\" ('a', NULL, 'SEC')",
		"statement: SELECT keyrot.\"reset-app-secret\" ('a', NULL, @)"},
	{LEXER_UNCLEAR, "l'instruction \302\253 " R "'a', NULL, 'SEC') \302\273", "@"},
	{LEXER_UNCLEAR, "{\"Query Text\": \"SELECT reset_app_secret('a', NULL, E'SEC\\\\'SEC')\"}", "@"},
	{LEXER_UNCLEAR, "{\"Query Text\": \"SELECT U&\\\"reset\\\\005fapp_secret\\\"('a', NULL, 'SEC')\"}", "@"},
	{LEXER_UNCLEAR, "statement: SELECT E'\\''; EXECUTE prepared('a', 'SEC')", "@"},
	{LEXER_UNCLEAR, "statement: SELECT E'\\''; EXECUTE \"my rotate\"('a', 'SEC')", "@"},
	{LEXER_HARMLESS, "statement: SELECT E'\\''; EXECUTE other('a', 'b')", NULL},
	{LEXER_UNCLEAR, "SQL statement \"SELECT reset_app_secret('a', NULL, 'SEC') AS x\"()", "@"},
	{LEXER_UNCLEAR, "CachedPlanSource: 2048 total: " R "'a', NULL, 'SEC...", "@"},
	{LEXER_UNCLEAR, "SQL statement \"" R "'a', NULL, \"SEC/+=\")\"", "@"},
};

static bool
is_prepared(const char *name)
{
	return strcmp(name, "prepared") == 0;
}

/* A copy of its own size, so that a sanitizer sees what is read past the end. */
static LexerText
copy_of(const char *text, size_t length, LexerForm form)
{
	char	   *copy = malloc(length > 0 ? length : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, text, length);
	return (LexerText) {.text = copy, .length = length, .form = form, .takes_secret = is_prepared};
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
			memcpy(out + length, LEXER_MARKER, LEXER_MARKER_LENGTH);
			length += LEXER_MARKER_LENGTH;
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

/* Redacts and masks a text; the redacted one is returned and is the caller's. */
static LexerText
clean(const LexerText *in, bool *good)
{
	LexerVerdict verdict = lexer_judge(in);
	LexerText	out = copy_of("", 0, in->form);
	LexerText	masked = copy_of(in->text, in->length, in->form);

	free((char *) out.text);
	out.length = logtext_redact(in, verdict, NULL);
	out.text = malloc(out.length + 1);
	*good = out.text != NULL && logtext_redact(in, verdict, (char *) out.text) == out.length;
	/* In place, as saved plans are masked. */
	logtext_mask(&masked, verdict, (char *) masked.text);
	if (verdict != LEXER_HARMLESS && holds(masked.text, masked.length, "SEC"))
		*good = false;
	if (verdict == LEXER_ARGUMENTS || verdict == LEXER_UNCLEAR)
		*good &= lexer_judge(&masked) <= verdict;
	free((char *) masked.text);
	return out;
}

static void
test_cases(const Case *cases, size_t count, LexerForm form, const char *what)
{
	for (size_t i = 0; i < count; i++)
	{
		char		text[500];
		char		expected[500];
		char		name[160];
		LexerText	in = copy_of(text, expand(cases[i].text, text), form);
		size_t		length = expand(cases[i].redacted != NULL ? cases[i].redacted : cases[i].text, expected);
		bool		good;
		LexerText	out = clean(&in, &good);
		LexerText	again;

		good &= lexer_judge(&in) == cases[i].verdict && out.length == length && memcmp(out.text, expected, length) == 0;
		if (!good)
			printf("# verdict %d: %.*s\n", lexer_judge(&in), (int) out.length, out.text);
		again = clean(&out, &(bool) {false});
		good &= again.length == length && memcmp(again.text, expected, length) == 0;
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
	static const char text[] = "SELECT reset_app_secret('a', NULL, 'S''C' || $q$S$q$ || 12 || E'\\'') /* x */";
	static const char expected[] = "SELECT reset_app_secret('a', NULL, '****' || $q$*$q$ || 00 || E'**') /* x */";
	LexerText	in = {.text = text, .length = strlen(text), .form = LEXER_SQL};
	char		masked[sizeof(text)] = "";

	logtext_mask(&in, lexer_judge(&in), masked);
	ok(strcmp(masked, expected) == 0, "clean mask: tokens keep their kind and length");
}

static bool
is_short(const char *piece, size_t length)
{
	return piece != NULL && length < 4;
}

static bool
values_are(const char *message, const char *expected)
{
	char		out[200];
	char		wanted[200];
	size_t		length = logtext_values(message, strlen(message), is_short, out);

	return logtext_values(message, strlen(message), is_short, NULL) == length &&
		expand(expected, wanted) == length && memcmp(out, wanted, length) == 0;
}

static void
test_reports(void)
{
	static const char context[] = "keyrot request 0190f1c8-0000-7000-8000-000000000000: reset_app_secret\n"
		"JSON data: 'SEC'\nmore\nkeyrot request 0190f1c8-0000-7000-8000-000000000000: api";
	static const char audit[] = "AUDIT: SESSION,1,1,READ,SELECT,,,\"SELECT a, \"\"b\"\"\"";
	LexerText	in = {.text = context, .length = strlen(context), .form = LEXER_MESSAGE};
	char		out[400];
	char		expected[400];
	size_t		length = expand("keyrot request 0190f1c8-0000-7000-8000-000000000000: reset_app_secret\n@\n"
								"keyrot request 0190f1c8-0000-7000-8000-000000000000: api", expected);

	ok(logtext_context(&in, LEXER_UNCLEAR, out) == length && memcmp(out, expected, length) == 0,
	   "clean context: RequestIds remain");
	ok(logtext_context(&in, LEXER_HARMLESS, NULL) == strlen(context), "clean context: harmless lines remain");
	ok(values_are("column \"abc\" of \"SECRET\" is \"x\"", "column \"abc\" of \"@\""), "clean values: from the first hidden one on");
	ok(values_are("near \"SEC\"RET\" here", "near \"SEC\"RET\" here") && values_are("near \"SECR\"ET\" here", "near \"@\" here"),
	   "clean values: a value with a quote in it");
	ok(values_are("Typ: \302\273SECRET\302\253", "@"), "clean values: other quotes");
	(void) snprintf(out, sizeof(out), "%s,SEC", audit);
	ok(logtext_audit_fields(out, strlen(out)) == strlen(audit), "clean audit: the parameters are found");
	(void) snprintf(out, sizeof(out), "%s,<none>", audit);
	ok(logtext_audit_fields(out, strlen(out)) == strlen(out), "clean audit: there are none");
	ok(logtext_is_tree("   {QUERY \n   :commandType 1") && !logtext_is_tree("parameters: $1 = '{A}'"), "clean trees: known by their start");
	ok(logtext_tree_has_constant("{FUNCEXPR :funcid 16400 :args ({CONST :constvalue 7 [ 28 ]})}") &&
	   !logtext_tree_has_constant("{FUNCEXPR :funcid 1640 :args ({CONST :constvalue 7 [ 28 ]})}") &&
	   !logtext_tree_has_constant("{FUNCEXPR :funcid 16400 :args ({CONST :constvalue <>})}"),
	   "clean trees: a constant beside a function of a user");
}

/* Whether the room that is asked for a message without its values is what writing it takes, to the byte. */
static bool
writes_what_it_asked_for(const LexerText *in)
{
	size_t		asked = logtext_values(in->text, in->length, is_short, NULL);
	char	   *room = malloc(asked + 1);
	bool		good = room != NULL;

	if (good)
		good = logtext_values(in->text, in->length, is_short, room) == asked;
	free(room);
	return good;
}

/* Texts put together from pieces that matter, cut anywhere: read within their bounds, and cleaned once. */
static void
test_any_text(void)
{
	static const char *const pieces[] = {
		"'", "''", "\"", "\"\"", "$", "$$", "$x$", "(", ")", ",", ".", "=>", ":=", "::", "--", "/*", "*/", "\n", "\\", " ",
		"E'", "U&'", "U&\"", "keyrot", "reset_app_secret", "api(", "SEC", "NULL", "$1", "1e", "-", "+5", "EXECUTE ",
		"prepared(", LEXER_MARKER, "\303\244", "AUDIT: ", "app", "create_app("
	};
	unsigned	seed = 1;
	bool		good = true;

	for (int round = 0; round < 30000 && good; round++)
	{
		char		text[400];
		size_t		length = 0;
		LexerText	in;
		LexerText	out;

		for (int i = 0; i < 24; i++)
		{
			const char *piece;

			seed = seed * 1103515245 + 12345;
			piece = pieces[(seed >> 16) % lengthof(pieces)];
			memcpy(text + length, piece, strlen(piece));
			length += strlen(piece);
			if (length > sizeof(text) - 40)
				break;
		}
		in = copy_of(text, length - (seed >> 8) % 3, (seed >> 4) % 2 ? LEXER_SQL : LEXER_MESSAGE);
		out = clean(&in, &(bool) {false});
		(void) logtext_context(&in, LEXER_ANYWHERE, NULL);
		(void) logtext_audit_fields(in.text, in.length);
		good = writes_what_it_asked_for(&in);
		good &= out.length <= in.length * LEXER_MARKER_LENGTH + LEXER_MARKER_LENGTH;
		free((char *) in.text);
		free((char *) out.text);
	}
	ok(good, "clean: any text is read within its bounds");
	{
		LexerText	foreign = copy_of("x \"begin\" \303\244", 12, LEXER_MESSAGE);

		ok(writes_what_it_asked_for(&foreign), "clean: a message in another language is hidden before it is written");
		free((char *) foreign.text);
	}
}

void
clean_tests(void)
{
	test_cases(statements, lengthof(statements), LEXER_SQL, "SQL");
	test_cases(messages, lengthof(messages), LEXER_MESSAGE, "message");
	test_masks();
	test_reports();
	test_any_text();
}

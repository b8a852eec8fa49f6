# Who does not call keyrot feels nothing of it: the same statements, run on a server without keyrot, on one where
# it is preloaded in a database without the extension, and there in a database with it, are answered and
# logged the same, byte for byte, although their tables, columns, types and functions are named like keyrot's.
# (With keyrot.redact_log switched off on the preloaded server all of this passes whatever the code does.)
#
# Why not pg_regress: it takes two servers, one of them preloaded, their logs, and the messages of the protocol
# as they come; psql shows a part of them.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Protocol;
use Said;
use Test::More;

my $URL = 'https://billing.example.org/v1/endpoint';
my $HEX = '0123456789abcdef' x 4;

my $OBJECTS = <<"END";
CREATE EXTENSION pg_stat_statements;
CREATE TABLE api (name text PRIMARY KEY, url text CONSTRAINT create_app CHECK (url LIKE 'https://%'));
INSERT INTO api VALUES ('billing', '$URL');
CREATE TABLE reset_app_secret (api text UNIQUE, app_secret text NOT NULL, at date DEFAULT '2026-01-01');
CREATE TABLE plain (id int PRIMARY KEY, value text);
CREATE TYPE create_zone_key AS (api text, secret_key text);
CREATE TYPE kind AS ENUM ('create_app', 'api');
CREATE DOMAIN modify_zone_key AS text CHECK (length(value) > 3);
CREATE VIEW find_secret AS SELECT name, url FROM api;
CREATE SCHEMA mine;
CREATE FUNCTION mine.create_app(a text, b text) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN
    RAISE EXCEPTION 'cannot create "%"', a USING DETAIL = 'The value is ' || b || '.', HINT = 'Not ' || b || '.',
        ERRCODE = '22023', CONSTRAINT = a; END \$\$;
CREATE FUNCTION mine.reset_app_secret(a text, b text = NULL, c text = NULL) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN
    RAISE NOTICE 'given % and %', a, c USING DETAIL = c; RAISE LOG 'logged %', c; RETURN c; END \$\$;
CREATE FUNCTION mine.api(action text, params jsonb = '{}') RETURNS jsonb LANGUAGE sql AS 'SELECT params || jsonb_build_object(''action'', action)';
CREATE FUNCTION mine.modify_zone_key(a text, b text) RETURNS int LANGUAGE sql AS 'SELECT b::int FROM api WHERE name = a';
CREATE PROCEDURE mine.create_zone_key(a text, b text) LANGUAGE plpgsql AS \$\$ BEGIN PERFORM mine.create_app(a, b); END \$\$;
CREATE FUNCTION create_app(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT mine.create_app(a, b)';
END

my @CASES = (
	"INSERT INTO api (name, url) VALUES ('billing', '$URL')",
	"INSERT INTO api VALUES ('billing', '$URL')",
	"INSERT INTO public.api(name, url) VALUES ('ledger', 'http://ledger.example.org/endpoint')",
	"INSERT INTO api (name, url) VALUES ('billing', '$URL') ON CONFLICT (name) DO UPDATE SET url = 'ftp://a.example.org/endpoint'",
	"INSERT INTO api AS create_app (name) SELECT name FROM api AS reset_app_secret (name, api) RETURNING 'returned-by-insert'",
	"INSERT INTO reset_app_secret (api, app_secret) VALUES ('first-value-of-api', '$HEX'), ('first-value-of-api', '$HEX')",
	"INSERT INTO reset_app_secret (api, app_secret) VALUES ('second-value-of-api', NULL)",
	"UPDATE api SET url = 'gopher://update.example.org' WHERE name = 'billing' RETURNING url",
	"MERGE INTO api USING (VALUES ('billing')) AS create_app (name) ON api.name = create_app.name WHEN MATCHED THEN UPDATE SET url = 'http://merge.example.org'",
	"DELETE FROM api USING reset_app_secret AS modify_zone_key (api) WHERE api.name = modify_zone_key.api AND api.url = 'not-a-url-of-any-kind'::date::text",
	"SELECT api.name, 'label-of-a-column' AS create_app FROM api WHERE api.url = '$URL'",
	"SELECT name AS api, url AS keyrot FROM find_secret WHERE url::int = 12345",
	"WITH api (x) AS (VALUES ('value-in-a-with-clause')), create_app AS (SELECT x FROM api) SELECT x::int FROM create_app",
	"SELECT * FROM (VALUES ('value-in-an-alias-list')) AS create_app (api) WHERE api::numeric > 0",
	"SELECT row('value-in-a-composite', '$HEX')::create_zone_key, 'wrong-value-of-an-enum'::kind",
	"SELECT (ROW('value-of-a-field', 'x')::create_zone_key).api::uuid",
	"SELECT 'abc'::modify_zone_key, CAST('ab' AS modify_zone_key)",
	"SELECT sum(1) OVER api, 'value-before-window'::int FROM api WINDOW api AS (PARTITION BY name)",
	"SELECT mine.create_app('billing', '$URL')",
	"SELECT mine.reset_app_secret('billing', NULL, '$HEX')",
	"SELECT mine . reset_app_secret /* a comment of ours */ ('billing', c => '$HEX')::int",
	"SELECT \"mine\".\"create_app\"('billing', b => '$HEX')",
	"SELECT mine.api('CreateApp', '{\"AppSecret\": \"$HEX\"}'), mine.api('CreateApp', '{\"AppSecret\": $HEX}')",
	"SELECT mine.modify_zone_key('billing', '$HEX')",
	"CALL mine.create_zone_key('billing', '$URL')",
	"SELECT * FROM mine.reset_app_secret('billing', NULL, 'from-a-function-in-from') AS api WHERE api::int = 0",
	"DO \$\$ BEGIN PERFORM mine.create_app('billing', '$URL'); END \$\$",
	"DO \$\$ BEGIN INSERT INTO api (name, url) VALUES ('billing', '$URL'); EXCEPTION WHEN unique_violation THEN RAISE WARNING 'was %', SQLERRM; END \$\$",
	"DO \$\$ DECLARE api text := 'variable-of-a-block'; BEGIN EXECUTE format('INSERT INTO api (name, url) VALUES (%L, %L)', 'billing', api); END \$\$",
	"DO \$\$ BEGIN EXECUTE 'SELEC create_app of some kind'; END \$\$",
	"SELECT 'keyrot', 'create_app', 'app_secret', 'reset_app_secret' FROM plain WHERE value ~ '^(create_app)\$'",
	"SELECT 'we-rotate-with-keyrot'::int",
	"SELECT 1 AS keyrot, 'value-of-an-alias'::int AS app_secret",
	"SELECT no_such_function('value-of-an-unknown-function')", "SELECT no_such.create_app('in-an-unknown-schema')",
	"SELECT * FROM no_such_api WHERE name = '$URL'", "SELECT api.create_app FROM api WHERE url = '$URL'",
	"SELEC 'value-in-a-syntax-error' FROM api", "INSERT INTO api (name, url) VALUES ('billing' '$URL')",
	"SELECT 'unterminated-value FROM api", "SELECT \$a\$unterminated-dollars", "SELECT 1 /* unterminated api comment",
	"SELECT E'\\u00zz-escape-in-api'", "SELECT U&'\\00e4pi-value-in-unicode' || U&'!0061pi-another-one' UESCAPE '!'",
	"SELECT U&\"\\0061pi\".name::int FROM api", "SELECT E'it\\'s-a-value-of-api'::int, 'a''b', B'0101', X'ff', 1.5e3",
	"SELECT 'one-piece-of-api'\n  '-and-another-piece'::text, 'plain-value-to-int'::int -- comment of api",
	"SELECT 'gr\xc3\xb6\xc3\x9fe-der-api-\xe2\x82\xac'::int", "INSERT INTO api VALUES ('gr\xc3\xb6\xc3\x9fe', 'ftp://gr\xc3\xb6\xc3\x9fe.example.org')",
	"SELECT 'bytes-of-no-encoding-\xff\xfe'", "SET client_encoding = LATIN1", "SELECT 'caf\xe9-of-the-api'::int", "RESET client_encoding",
	"SELECT 1; INSERT INTO plain VALUES (1, 'first-of-a-message'); INSERT INTO api (name) VALUES ('billing'); SELECT 'never-reached'",
	"BEGIN; INSERT INTO plain VALUES (2, 'in-a-transaction'); SAVEPOINT api; SELECT 'value-after-savepoint'::int", "SELECT 'in-a-failed-one'",
	"ROLLBACK TO api", "SELECT 'after-rollback-to'; COMMIT", "", ";;", "/* only a comment of api */", "-- create_app('x')",
	"PREPARE mine (text) AS INSERT INTO api VALUES (\$1, '$URL')", "EXECUTE mine ('billing')", "EXPLAIN EXECUTE mine ('explained-value')",
	"SELECT name, statement FROM pg_prepared_statements WHERE name = 'mine'", "DEALLOCATE mine", "EXECUTE mine ('value-after-deallocate')",
	"BEGIN; DECLARE api CURSOR FOR SELECT 'value-of-a-cursor', url FROM api; FETCH api; SELECT name, statement FROM pg_cursors", "FETCH ALL api; CLOSE api; COMMIT",
	"EXPLAIN SELECT mine.create_app(name, '$URL') FROM api WHERE url <> '$HEX'", "EXPLAIN (ANALYZE, TIMING off, SUMMARY off) SELECT url::int FROM api",
	"CREATE TABLE create_app (api text, CONSTRAINT api CHECK (api <> 'value-in-a-check'))", "CREATE INDEX reset_zone ON create_app (api)",
	"ALTER TABLE create_app ADD COLUMN modify_zone_key text DEFAULT 'value-of-a-default'", "ANALYZE create_app (api)", "VACUUM create_app (api)",
	"GRANT SELECT (name) ON api TO pg_monitor", "COMMENT ON TABLE api IS 'comment-on-a-table-of-ours'", "CREATE TYPE api AS (x text)",
	"CREATE FUNCTION mine.refresh_zone_key(api text) RETURNS text LANGUAGE sql AS 'SELECT ''value-in-a-body-of-ours'' || api'",
	"CREATE FUNCTION mine.broken(api text) RETURNS text LANGUAGE sql AS 'SELECT ''value-in-a-broken-body'' || no_such_column'",
	"COMMENT ON FUNCTION mine.create_app(text, text) IS 'comment-on-a-function'", "DROP FUNCTION mine.refresh_zone_key(text)",
	"CREATE TABLE api AS SELECT 'value-of-create-as'", "CREATE VIEW api_key (api) AS SELECT 'value-in-a-view'::text", "SELECT api::int FROM api_key",
	"CREATE ROLE regress_neighbour PASSWORD 'SCRAM-SHA-256\$no-verifier'; DROP ROLE regress_neighbour",
	"COPY api (name, url) TO STDOUT", "COPY (SELECT 'value-in-a-copy'::int FROM api) TO STDOUT", "COPY api (name, url) FROM '/nowhere/api.csv'",
	{ text => 'COPY api (name, url) FROM STDIN', data => "billing\t$URL\n" }, { text => 'COPY plain FROM STDIN', data => "x-of-copy\tvalue\n" },
	[ 'INSERT INTO api (name, url) VALUES ($1, $2)', 'billing', $URL ], [ 'SELECT $1::int', 'parameter-no-number' ], [ 'SELECT $1, $2::text', 'x', $HEX ],
	[ 'SELECT mine.create_app($1, $2)', 'billing', $HEX ], [ 'SELECT mine.reset_app_secret(\'a\', NULL, $1)', $HEX ], [ 'SELEC $1', 'unparsed-parameter' ],
	[ 'SELECT api.name FROM api WHERE url = $1 AND name::int = 1', $URL ], [ 'CALL mine.create_zone_key($1, $2)', 'a', $HEX ], [ 'SELECT $1::int', \"\x00\x01" ],
	"SET debug_print_parse = on; SET debug_print_rewritten = on; SET debug_print_plan = on", "INSERT INTO api (name, url) VALUES ('billing', '$URL')",
	"SELECT mine.reset_app_secret('billing', NULL, '$HEX')", "SET debug_print_parse = off; SET debug_print_rewritten = off; SET debug_print_plan = off",
	"SET auto_explain.log_format = json", "SELECT mine.api('billing'), 'a\"b-in-json'", "RESET auto_explain.log_format",
	"SET lc_messages = 'C'", "SELECT current_query(), mine.reset_app_secret('a', NULL, '$HEX')", "SET statement_timeout = '20ms'",
	"SELECT 'cancelled-value-of-api', pg_sleep(60) FROM api", "RESET statement_timeout", "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND '$URL' <> ''");

# What a name without a schema means is judged where the extension is; elsewhere it means nothing to keyrot.
my @UNQUALIFIED = ("SELECT create_app('billing', '$URL')", "SELECT create_app(a => 'billing', b => '$HEX')", "SELECT Create_App('billing', 12)",
	"SELECT reset_app_secret('billing', NULL, '$HEX')", "DO \$\$ BEGIN PERFORM create_app('billing', '$URL'); END \$\$", "SELECT api('CreateApp', '$HEX')",
	[ 'SELECT create_app($1, $2)', 'billing', $HEX ], "PREPARE p AS SELECT create_app('billing', \$1)", "EXECUTE p ('$HEX')", "SELECT reset_app_secre('value-of-a-near-miss')",
	"SELECT app_secret('x', 'value-of-another')", "SELECT create_app('billing', '$URL'", "SELECT create_zone_key('billing', '$HEX'::int)",
	"PREPARE api (text) AS SELECT \$1::int", "EXECUTE api ('value-of-a-parameter')",
	"DO \$\$ DECLARE create_app CURSOR (api text) FOR SELECT api::int; BEGIN OPEN create_app ('value-of-an-argument'); FETCH create_app INTO api; END \$\$");

# --- The servers

sub server
{
	my ($name, $preloaded) = @_;
	return new_server($name, conf => <<"END");
shared_preload_libraries = 'pg_stat_statements,auto_explain$preloaded'
pg_stat_statements.track = all
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_timing = off
auto_explain.log_verbose = on
deadlock_timeout = 10s
max_parallel_workers_per_gather = 0
$Said::LOG
END
}

my ($plain, $loaded) = (server('plain', ''), server('loaded', ',keyrot'));
$_->[0]->safe_psql('postgres', "CREATE DATABASE $_->[1]"), $_->[0]->safe_psql($_->[1], $OBJECTS) for [ $plain, 'others' ], [ $loaded, 'others' ], [ $loaded, 'ours' ];
write_key(key_file($loaded), random_hex(64) . "\n");
$loaded->safe_psql('ours', "CREATE EXTENSION keyrot; SELECT keyrot.create_app('n', 'app-a'), keyrot.create_zone_key('zone-a')");

# Runs all cases in one session of a database: what each was answered and logged, what another session sees of it
# afterwards, and at the end the statistics.
sub run_cases
{
	my ($node, $database, @cases) = @_;
	my $session = Protocol->connect($node, $database);
	my $watcher = Protocol->connect($node, 'postgres');
	my @results;
	$node->safe_psql($database, 'SELECT pg_stat_statements_reset()');
	for my $number (0 .. $#cases)
	{
		run_case($session, "SET application_name = 'case $number'") unless $number && $results[-1]{said} =~ /^Z [TE]$/m;
		my $said = run_case($session, $cases[$number]);
		my $seen = $watcher->query('SELECT query, query_id IS NULL FROM pg_stat_activity WHERE pid = ' . $session->pid);
		push @results, { said => $said, seen => join ' ', map { $_ // 'NULL' } @{ $seen->{rows}[0] } };
	}
	$session->close;
	my %logged = log_entries($node, $database);
	$results[$_]{logged} = $logged{"case $_"} for 0 .. $#cases;
	return (\@results, $node->safe_psql($database, 'SELECT query, calls, rows, toplevel FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid '
			. "WHERE datname = current_database() AND query !~ 'pg_stat_statements|end of reading' ORDER BY query COLLATE \"C\", calls"));
}

sub compare_cases
{
	my ($place, $cases, $expected, $got) = @_;
	for my $number (0 .. $#$cases)
	{
		for my $what (qw(said logged seen))
		{
			same($got->[0][$number]{$what}, $expected->[0][$number]{$what}, "$place, $what: " . title($cases->[$number]));
		}
	}
	same($got->[1], $expected->[1], "$place: statistics");
	return;
}

my @expected = run_cases($plain, 'others', @CASES);
cmp_ok(scalar(grep { $_->{said} =~ /^E /m } @{ $expected[0] }), '>', 40, 'many cases are errors');
cmp_ok(scalar(grep { ($_->{logged} // '') =~ /Query Text/ } @{ $expected[0] }), '>', 10, 'auto_explain was at work');
compare_cases('without the extension', \@CASES, \@expected, [ run_cases($loaded, 'others', @CASES) ]);
compare_cases('with the extension',    \@CASES, \@expected, [ run_cases($loaded, 'ours',   @CASES) ]);
compare_cases('names without a schema', \@UNQUALIFIED, [ run_cases($plain, 'others', @UNQUALIFIED) ], [ run_cases($loaded, 'others', @UNQUALIFIED) ]);
done_testing();

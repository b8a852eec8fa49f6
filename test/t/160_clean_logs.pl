# No secret that a statement hands to keyrot reaches the server log, in any of its formats and whatever the
# settings, nor the views that keep statements; what is hidden says so, and the rest stays readable.
#
# It needs a server of its own: its log, libraries that are preloaded beside keyrot, and a killed session.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Protocol;
use Test::More;

my $MARK = 'S3cr3tMark';
# As debug_print_parse prints them: the bytes of a constant, in decimal.
my $MARK_BYTES = join ' ', map { ord } split //, $MARK;
my $HIDDEN = '<redacted by keyrot>';
my $count = 0;

sub app_secret { return sprintf '%sApp%03d', $MARK, ++$count; }
sub zone_key { return sprintf '%s%03d%s=', $MARK, ++$count, 'A' x 30; }

my $has_pgaudit = -e slurp_config('--sharedir') . '/extension/pgaudit.control';
diag('PARTLY LEFT OUT: pgaudit is not installed (postgresql-NN-pgaudit), so nothing is tested beside it')
  unless $has_pgaudit;

sub slurp_config
{
	my ($option) = @_;
	my $value = `pg_config $option`;
	chomp $value;
	return $value;
}

my $libraries = join ',', 'pg_stat_statements', 'auto_explain', $has_pgaudit ? 'pgaudit' : (), 'keyrot';
my $node = new_server('clean', conf => <<"END");
shared_preload_libraries = '$libraries'
logging_collector = on
log_destination = 'stderr,csvlog,jsonlog'
log_rotation_size = 0
log_statement = all
log_min_duration_statement = 0
log_min_error_statement = debug5
log_min_messages = debug2
log_error_verbosity = verbose
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_lock_waits = on
deadlock_timeout = 100ms
restart_after_crash = on
debug_print_parse = on
debug_print_rewritten = on
debug_print_plan = on
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_verbose = on
pg_stat_statements.track = all
pg_stat_statements.track_planning = on
pg_stat_statements.track_utility = on
END
# From 16 on plans are logged with the values of their parameters.
my $has_plan_parameters = slurp_config('--version') =~ /(\d+)/ && $1 >= 16;
$node->append_conf('postgresql.conf', 'auto_explain.log_parameter_max_length = -1') if $has_plan_parameters;
$node->append_conf('postgresql.conf', "pgaudit.log = all\npgaudit.log_parameter = on\npgaudit.log_relation = on\n")
  if $has_pgaudit;
$node->restart;
add_databases($node, 'clean');
$node->safe_psql('clean', 'CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pgcrypto');
$node->safe_psql('clean', 'CREATE EXTENSION pgaudit') if $has_pgaudit;
$node->safe_psql('clean', <<'END');
CREATE TABLE seen (what text, query text, query_id bigint);
CREATE TABLE strict_one (id int PRIMARY KEY, value text CHECK (length(value) < 5));
CREATE TABLE given (app_key text, value text);
SELECT keyrot.create_app('n', k) FROM unnest(ARRAY['app1', 'app2', 'app3']) k;
SELECT keyrot.create_zone_key('zone1');
END

my $logs = $node->data_dir . '/log';

# All that was logged, by format: stderr, csv, json.
sub log_texts
{
	my %texts = (log => '', csv => '', json => '');
	for my $file (sort(slurp_dir($logs)))
	{
		next unless $file =~ /\.(log|csv|json)\z/;
		$texts{$1} .= slurp_file("$logs/$file");
	}
	# What was written before the collector ran, and by programs without it.
	$texts{log} .= slurp_file($node->logfile);
	return %texts;
}

# Each line that has a mark, once, cut to what helps.
sub leaks
{
	my ($text) = @_;
	my %found;
	$found{ substr $1, 0, 300 }++ while $text =~ /([^\n]*(?:\Q$MARK\E|\Q$MARK_BYTES\E)[^\n]*)/gi;
	return sort keys %found;
}

sub no_leak
{
	my ($text, $name) = @_;
	my @leaks = leaks($text);
	is(scalar @leaks, 0, $name) or diag(join "\n", splice @leaks, 0, 12);
	return;
}

sub no_leak_in_logs
{
	my ($name) = @_;
	my %texts = log_texts();
	no_leak($texts{$_}, "$name: the $_ format") for qw(log csv json);
	return %texts;
}

sub write_file
{
	my ($file, $text) = @_;
	open my $handle, '>', $file or die "cannot write $file: $!";
	print $handle $text;
	close $handle or die "cannot write $file: $!";
	return;
}

sub run_all
{
	my (@statements) = @_;
	return attempts($node, 'clean', @statements);
}

# Runs a pgbench script once; its variables become bind parameters.
sub run_bound
{
	my ($mode, $script, %variables) = @_;
	my $file = $node->basedir . '/bound.sql';
	write_file($file, $script);
	my @command = (
		'pgbench', '-n', '-t', '1', '-M', $mode, '-f', $file,
		map({ ('-D', "$_=$variables{$_}") } sort keys %variables),
		'-h', $node->host, '-p', $node->port, 'clean');
	my ($out, $err) = ('', '');
	IPC::Run::run(\@command, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return "$out$err";
}

# Starts a session that runs a script by itself; finish() waits for its end.
sub session
{
	my ($script) = @_;
	my $file = $node->basedir . '/session' . ++$count . '.sql';
	write_file($file, $script);
	return IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('clean'), '-f', $file ],
		'<', \undef, '>', $file =~ s/sql\z/out/r, '2>&1',
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
}

# --- Calls that succeed, in all the ways that SQL has

my @good = (
	"SELECT keyrot.create_app('n', 'made1', '" . app_secret() . "')",
	"SELECT keyrot.create_app(app_name => 'n', app_secret => '" . app_secret() . "', app_key => 'made2')",
	"SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secret('app1', new_app_secret := E'" . app_secret() . "\\x41')",
	"SELECT keyrot.reset_app_secret('app1', NULL, U&'" . app_secret() . "\\0041')",
	"SELECT keyrot.reset_app_secret('app1', NULL, \$q\$" . app_secret() . "\$q\$)",
	"SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'\n'$MARK')",
	"SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "' || upper('${MARK}x')::text)",
	"SELECT keyrot.reset_app_secret('app1', NULL, CAST('" . app_secret() . "' AS varchar) /* $MARK */)",
	"SELECT \"keyrot\" . \"reset_app_secret\" /* ( */ ('app1', NULL, '" . app_secret() . "')",
	"SELECT U&\"key\\0072ot\".U&\"reset\\005fapp_secret\"('app1', NULL, '" . app_secret() . "')",
	"SELECT keyrot.U&\"reset!005fapp_secret\" /* c */ UESCAPE '!' ('app1', NULL, '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secret('app1', NULL, unnest(ARRAY['" . app_secret() . "']))",
	"SELECT keyrot.reset_app_secret('app1', NULL, (SELECT max('" . app_secret() . "')))",
	"SET search_path = keyrot, public; SELECT Reset_App_Secret('app1', NULL, '" . app_secret() . "'); RESET search_path",
	"SELECT keyrot.create_zone_key('zone2', '" . zone_key() . "')",
	"SELECT keyrot.modify_zone_key('zone2', secret_key => '" . zone_key() . "')",
	"SELECT 1; SELECT keyrot.modify_zone_key('zone2', '" . zone_key() . "') \\; SELECT 2",
	"WITH s AS (SELECT '" . app_secret() . "' AS v) SELECT keyrot.reset_app_secret('app1', NULL, v) FROM s",
	"INSERT INTO given VALUES ('app1', keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')::text)",
	"DO \$\$ BEGIN PERFORM keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'); END \$\$",
	"DO \$\$ DECLARE s text := '" . app_secret() . "'; BEGIN PERFORM keyrot.reset_app_secret('app1', NULL, s); PERFORM reverse(s) FROM given; END \$\$",
	"DO \$\$ BEGIN EXECUTE 'SELECT keyrot.reset_app_secret(''app1'', NULL, \$1)' USING '" . app_secret() . "'; END \$\$",
	"DO \$\$ BEGIN EXECUTE format('SELECT keyrot.%I(%L, NULL, %L)', 'reset_app_secret', 'app1', '" . app_secret() . "'); END \$\$",
	"EXPLAIN (ANALYZE, VERBOSE, COSTS OFF) SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') \\g /dev/null",
	"PREPARE once AS SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"EXECUTE once",
	"SELECT pg_log_backend_memory_contexts(pg_backend_pid())",
	"INSERT INTO seen SELECT 'prepared', statement FROM pg_prepared_statements",
	"PREPARE \"Given\"(text, text) AS SELECT keyrot.reset_app_secret(\$1, NULL, \$2)",
	"EXECUTE \"Given\"('app1', '" . app_secret() . "')",
	"EXPLAIN (ANALYZE) EXECUTE \"Given\"('app1', '" . app_secret() . "') \\g /dev/null",
	"CREATE TEMP TABLE made AS EXECUTE \"Given\"('app1', '" . app_secret() . "')",
	"PREPARE late(text) AS SELECT keyrot.modify_zone_key('zone1', \$1) \\; EXECUTE late('" . zone_key() . "')",
	"BEGIN; DECLARE c CURSOR FOR SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'); FETCH c; INSERT INTO seen SELECT 'cursor', statement FROM pg_cursors; COMMIT",
	"CREATE TABLE as_table AS SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') AS id",
	"COPY (SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')) TO '/dev/null'",
	"CREATE PROCEDURE noop(u uuid) LANGUAGE plpgsql AS 'BEGIN COMMIT; END'",
	"CALL noop(keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'))",
	"CREATE VIEW rotating AS SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') AS id",
	"SELECT * FROM rotating",
	"CREATE RULE rotate AS ON INSERT TO strict_one DO ALSO SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"INSERT INTO strict_one VALUES (1, 'x')",
	"DROP RULE rotate ON strict_one",
	"SELECT r::text FROM keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') AS r",
	"DO \$\$ BEGIN PERFORM keyrot.reset_app_secret /* c */ ('app1', NULL, '" . app_secret() . "'); END \$\$",
	"PREPARE rotate_it(text) AS SELECT keyrot.reset_app_secret('app1', NULL, \$1)",
	"EXECUTE ROTATE_IT('" . app_secret() . "')",
	"DEALLOCATE rotate_it",
	"PREPARE \"rotate it\"(text) AS SELECT keyrot.reset_app_secret('app1', NULL, \$1)",
	"EXECUTE \"rotate it\"('" . app_secret() . "')",
	"DEALLOCATE \"rotate it\"",
	"CREATE FUNCTION wrapped() RETURNS uuid LANGUAGE sql AS \$f\$ SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') \$f\$",
	map({ "SET auto_explain.log_format = $_; SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'), 'a\"b'" } qw(json xml yaml)),
	"SET log_min_messages = debug5; SET log_parser_stats = on; SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'); RESET log_parser_stats; RESET log_min_messages",
	"INSERT INTO seen SELECT 'activity', query, query_id FROM (SELECT * FROM pg_stat_activity WHERE pid = pg_backend_pid() OFFSET 0) AS own WHERE keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') IS NOT NULL");

for my $result (run_all(@good))
{
	is($result->{sqlstate}, '', 'succeeds: ' . substr $result->{statement}, 0, 60) or diag($result->{text});
}
my %texts = no_leak_in_logs('calls that succeed');
like($texts{$_}, qr/reset_app_secret\(\Q$HIDDEN\E, NULL, \Q$HIDDEN\E\)/, "what is hidden says so: the $_ format") for qw(log csv json);
like($texts{log}, qr/auto_explain|Query Text: /, 'auto_explain was at work');
like($texts{log}, qr/parse tree|plan:/, 'trees were printed');
like($texts{log}, qr/Query Parameters: \$\d = \Q$HIDDEN\E/, 'plans were logged with their parameters') if $has_plan_parameters;
like($texts{log}, qr/AUDIT: .*reset_app_secret/, 'pgaudit was at work') if $has_pgaudit;

# --- Bind parameters

my @bound = (
	[ "SELECT keyrot.reset_app_secret('app1', NULL, :secret);\n", secret => app_secret() ],
	[ "SELECT keyrot.reset_app_secret(:key, NULL, :secret);\n", key => 'app1', secret => app_secret() ],
	[ "SELECT keyrot.modify_zone_key(:zone, :secret);\n", zone => 'zone1', secret => zone_key() ],
	[ "INSERT INTO seen SELECT 'bound', query, query_id FROM (SELECT * FROM pg_stat_activity WHERE pid = pg_backend_pid() OFFSET 0) AS own WHERE keyrot.reset_app_secret('app1', NULL, :secret) IS NOT NULL;\n", secret => app_secret() ],
	[ "INSERT INTO seen SELECT 'extended', query, query_id FROM (SELECT * FROM pg_stat_activity WHERE pid = pg_backend_pid() OFFSET 0) AS own WHERE keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') IS NOT NULL;\n" ]);
for my $mode (qw(extended prepared))
{
	for my $case (@bound)
	{
		my ($script, %variables) = @$case;
		# A prepared statement is run twice: the second message runs what the first one made.
		my $said = run_bound($mode, "$script$script" =~ s/'app1'(?!.*'app1')/'app2'/sr, %variables);
		like($said, qr/processed: 1\/1/, "$mode: " . substr $script, 0, 60) or diag($said)
		  unless $script =~ /modify|:key/;
	}
	my $secret = app_secret();
	like(run_bound($mode, "SELECT keyrot.reset_app_secret('nosuch', NULL, :secret);\n", secret => $secret),
		qr/does not exist/, "$mode: a failing call");
	like(run_bound($mode, "SELECT keyrot.reset_app_secret('app1', NULL, NULL, :secret);\n", secret => $secret),
		qr/invalid input syntax for type interval/, "$mode: a secret in the place of an interval");
	like(run_bound($mode, "SELECT keyrot.resetappsecret('app1', NULL, :secret);\n", secret => $secret),
		qr/does not exist/, "$mode: a misspelt call");
}
like(run_bound('prepared', "SELECT keyrot.reset_app_secret('app3', NULL, '" . app_secret() . "');\n"
		. "INSERT INTO seen SELECT 'kept', statement FROM pg_prepared_statements WHERE statement LIKE '%app3%';\n"),
	qr/processed: 1\/1/, 'a statement that the protocol prepared is looked at where it is kept');

# Where nothing is logged, no report has had the chance to hide the statement from pg_stat_activity.
{
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'log_statement=none', 'log_min_duration_statement=-1',
	  'log_min_messages=fatal', 'auto_explain.log_min_duration=-1', 'debug_print_parse=off',
	  'debug_print_rewritten=off', 'debug_print_plan=off', $has_pgaudit ? 'pgaudit.log=none' : ();
	for my $mode (qw(simple extended))
	{
		my $said = run_bound($mode,
				"SELECT query AS q, query_id AS i FROM (SELECT * FROM pg_stat_activity WHERE pid = pg_backend_pid() OFFSET 0) AS own WHERE "
			  . "keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') IS NOT NULL \\gset\n"
			  . "INSERT INTO seen VALUES ('quiet', \$q\$:q\$q\$, :i);\n" =~ s/\$q\$:q\$q\$/$mode eq 'simple' ? '$q$:q$q$' : ':q'/er);
		like($said, qr/processed: 1\/1/, "$mode: a session that logs nothing") or diag($said);
	}
}
%texts = no_leak_in_logs('bind parameters');
like($texts{log}, qr/parameters: \$1 = \Q$HIDDEN\E/i, 'a hidden parameter says so');
like($texts{log}, qr/execute .*reset_app_secret\(\Q$HIDDEN\E, NULL, \$1\)/, 'the statement of a parameter stays readable');

# Parameters that the planner moves away from the call.
for my $script ("SELECT keyrot.reset_app_secret('app1', NULL, unnest(ARRAY[:secret::text]));\n",
	"WITH s AS MATERIALIZED (SELECT :secret::text AS v) SELECT keyrot.reset_app_secret('app1', NULL, v) FROM s;\n")
{
	like(run_bound('extended', $script, secret => app_secret()), qr/processed: 1\/1/, "extended: $script");
}
no_leak_in_logs('parameters elsewhere in a plan');

# A function called by its number has no statement; what is wrong with its arguments is said all the same.
my $caller = Protocol->connect($node, 'clean');
my $number = $node->safe_psql('clean', q{SELECT 'keyrot.reset_app_secret'::regproc::oid});
for my $case ([ '22007', [ 'app1', undef, undef, app_secret(), undef, 'rotation' ] ], [ 'P0002', [ 'nosuch', undef, app_secret(), '0', undef, 'rotation' ] ],
	[ '22023', [ 'app1', undef, app_secret() . ' blank', '0', undef, 'rotation' ] ], [ '', [ 'app1', undef, app_secret(), '0', undef, 'rotation' ] ])
{
	my $answer = $caller->call($number, @{ $case->[1] });
	is($answer->{sqlstate}, $case->[0], "called by its number: comes to '$case->[0]'") or diag($answer->{message});
	no_leak(join("\n", values %{ $answer->{error} }), 'and the client is told no secret');
}
$caller->close;
%texts = no_leak_in_logs('calls by number');
like($texts{log}, qr/fastpath function call: /, 'calls by number were logged');

# --- Calls that fail, and those that are misspelt

my @bad = (
	"SELECT keyrot.reset_app_secret('nosuch', NULL, '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . " blank')",
	"SELECT keyrot.modify_zone_key('" . zone_key() . "', 'zone1')",
	"SELECT keyrot.modify_zone_key('zone1'\n'" . zone_key() . "')",
	"SELECT keyrot.modify_zone_key(zone_id => 'zone1' || '" . zone_key() . "')",
	"SELECT keyrot.create_app(v.*) FROM (VALUES ('n', 'star', '" . app_secret() . "')) AS v",
	"SELECT keyrot.reset_app_secret('app1', '" . app_secret() . "!')",
	"SELECT keyrot.reset_app_secret('app1', NULL, NULL, '" . app_secret() . "')",
	"SELECT keyrot.modify_zone_key('zone1', '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secrt('app1', NULL, '" . app_secret() . "')",
	"SELECT reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"SELECT keyrot.rotate_it('app1', NULL, '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secret('app1', new_secret => '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secret('app1', NULL, \"" . app_secret() . "\")",
	"SELECT keyrot.reset_app_secret('app1', NULL, \"" . ($MARK x 8) . "\")",
	"SELECT keyrot.reset_app_secret('app1', NULL, " . app_secret() . ")",
	"SELEC keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secret('app1', NULL '" . app_secret() . "')",
	"SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'))",
	"SELECT keyrot.reset_app_secret('app1', NULL, 9" . app_secret() . ")",
	"SELECT keyrot.reset_app_secret('app1', NULL, E'" . app_secret() . "\\u12')",
	"SELECT * FROM ONLY reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"SELECT * FROM ONLY reset_app_secret('app1', NULL, E'" . app_secret() . "\\u12')",
	"SELECT * FROM ONLY api('ResetAppSecret', '{\"NewAppSecret\": \"" . app_secret() . "\"}')",
	"SELECT 1 WHERE EXISTS reset_app_secret /* x */ ('app1', NULL, '" . app_secret() . "')",
	"SELECT reset_app_secret 'app1', NULL, '" . app_secret() . "')",
	"CREATE TABLE made AS reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"DO \$\$ BEGIN EXECUTE 'SELECT * FROM ONLY reset_app_secret(''app1'', NULL, ''" . app_secret() . "'')'; END \$\$",
	"DO \$\$ BEGIN PERFORM keyrot.reset_app_secret('nosuch', NULL, '" . app_secret() . "'); END \$\$",
	"DO \$\$ BEGIN EXECUTE 'SELECT keyrot.reset_app_secret(''nosuch'', NULL, ''" . app_secret() . "'')'; END \$\$",
	"DO \$\$ BEGIN EXECUTE 'SELEC keyrot.reset_app_secret(''nosuch'', NULL, ''" . app_secret() . "'')'; END \$\$",
	"DO \$\$ BEGIN PERFORM keyrot.reset_app_secret('app1', NULL '" . app_secret() . "'); END \$\$",
	"DO \$\$ DECLARE i int := '" . app_secret() . "'; BEGIN PERFORM keyrot.reset_app_secret('app1', NULL, i::text); END \$\$",
	"WITH s AS (SELECT '" . app_secret() . "' AS v) SELECT keyrot.reset_app_secret('app1', NULL, v), v::int FROM s",
	"WITH r AS (SELECT keyrot.reset_app_secret('app1', NULL, v) FROM (VALUES ('" . app_secret() . "')) s(v)) INSERT INTO strict_one VALUES (7, '$MARK')",
	"INSERT INTO strict_one SELECT 1, 'x' FROM keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')",
	"BEGIN; DECLARE c CURSOR FOR SELECT v::int, keyrot.list_apps(1) FROM unnest(ARRAY['1', '" . app_secret() . "']) AS v \\g /dev/null\nFETCH ALL c; ROLLBACK",
	"BEGIN; SET LOCAL lc_messages = 'C'; SELECT keyrot.reset_app_secret('nosuch', NULL, '" . app_secret() . "'); COMMIT",
	"BEGIN READ ONLY; SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'); COMMIT",
	"SET statement_timeout = '50ms'; SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'), pg_sleep(30); RESET statement_timeout");
for my $result (run_all(@bad))
{
	like($result->{text}, qr/ERROR/, 'fails: ' . substr $result->{statement}, 0, 60);
}
run_all("SET standard_conforming_strings = off; SELECT 'a\\'', keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "')");
run_all("SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret());
%texts = no_leak_in_logs('calls that fail');
like($texts{$_}, qr/keyrot request $REQUEST_ID: reset_app_secret/, "the RequestId remains: the $_ format") for qw(log csv json);
like($texts{log}, qr/at or near "\Q$HIDDEN\E"/, 'a syntax error does not repeat what it is near to');
like($texts{log}, qr/ERROR: .*app with app_key "nosuch" does not exist/, 'an error of keyrot stays readable');

# --- Other sessions, other processes

my @sessions = map {
	my ($mine, $other) = $_ == 1 ? ('app1', 'app2') : ('app2', 'app1');
	session("SELECT pg_advisory_lock(77, $_);\n"
		  . "BEGIN; SELECT keyrot.reset_app_secret('$mine', NULL, '" . app_secret() . "');\n"
		  . "SELECT pg_advisory_lock(78, $_);\n"
		  . "DO 'BEGIN WHILE (SELECT count(*) FROM pg_locks WHERE locktype = ''advisory'' AND classid = 78) < 2 LOOP PERFORM pg_sleep(0.05); END LOOP; END';\n"
		  . "SELECT keyrot.reset_app_secret('$other', NULL, '" . app_secret() . "');\nCOMMIT;\n");
} 1, 2;
$_->finish for @sessions;
%texts = no_leak_in_logs('a deadlock');
like($texts{log}, qr/deadlock detected/, 'there was a deadlock');
like($texts{log}, qr/Process \d+: SELECT keyrot\.reset_app_secret\(\Q$HIDDEN\E, NULL, \Q$HIDDEN\E\)/, 'its statements stay readable');

my $victim = session("SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "'), pg_sleep(600);\n");
my $pid = wait_until(sub { $node->safe_psql('clean', "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND query LIKE '%redacted%' AND pid <> pg_backend_pid()") });
ok($pid, 'a running call is found by what is left of it');

# --- Views, before the crash empties them

my $views = $node->safe_psql('clean', 'SELECT query FROM pg_stat_statements');
no_leak($views, 'pg_stat_statements');
like($views, qr/reset_app_secret\(\$\d, NULL, \$\d\)/, 'pg_stat_statements has its own normalized form');
like($views, qr/^DO \$\$keyrot\.\(\*+\$\$$/m, 'and a DO block at its own length');
no_leak($node->safe_psql('clean', 'SELECT query FROM pg_stat_activity'), 'pg_stat_activity, idle and running');
my $seen = $node->safe_psql('clean', 'SELECT * FROM seen');
no_leak($seen, 'what a session sees of itself: activity, prepared statements, cursors');
is($node->safe_psql('clean', 'SELECT string_agg(DISTINCT what, chr(32) ORDER BY what) FROM seen'),
	'activity bound cursor extended kept prepared quiet', 'all of these were seen');
is($node->safe_psql('clean', "SELECT count(*) FROM seen WHERE what IN ('activity', 'bound', 'extended', 'quiet') AND (query_id IS NULL OR query NOT LIKE '%reset_app_secret%')"),
	0, 'the statement stays recognizable there, with its query id');

kill 'KILL', $pid if $pid;
eval { $victim->finish };
wait_until(sub { !-d "/proc/$pid" });
ok(wait_until(sub { ($node->psql('clean', 'SELECT 1'))[0] == 0 }), 'the server is back after a killed session');
%texts = no_leak_in_logs('a killed session');
like($texts{log}, qr/Failed process was running: SELECT keyrot\.reset_app_secret\(\Q$HIDDEN\E, NULL, \Q$HIDDEN\E\), pg_sleep/, 'the line about it stays readable');

# --- What calls nothing of keyrot's stays as it is

my @harmless = (
	"SELECT 'Harmless01' FROM keyrot.requests WHERE action = 'reset_app_secret' LIMIT 1",
	"SELECT 'Harmless02', 'key', 'secret', 'apple', 'zone'",
	"COMMENT ON TABLE given IS 'Harmless03'",
	"GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret TO pg_monitor; SELECT 'Harmless04'",
	"SELECT 'Harmless05' \\; SELECT keyrot.reset_app_secret('app1', NULL, '" . app_secret() . "') \\; SELECT 'Harmless06'");
for my $result (run_all(@harmless))
{
	is($result->{sqlstate}, '', 'succeeds: ' . substr $result->{statement}, 0, 60) or diag($result->{text});
}
# A secret in the place of an AppKey, which has a form of its own.
run_bound('extended', "SELECT :other::text;\nSELECT keyrot.reset_app_secret(:key);\n", key => app_secret() . '!', other => 'Harmless07');
%texts = no_leak_in_logs('harmless statements');
for my $number (1 .. 7)
{
	my $word = sprintf 'Harmless%02d', $number;
	like($texts{log}, qr/$word/, "$word is readable");
}

# Every function of keyrot's that takes a text counts, with its schema and without, where a secret is no value of it, too.
for my $name (split /\n/, $node->safe_psql('clean', <<'END'))
SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'keyrot'::regnamespace
   AND proargtypes::oid[] && ARRAY['text', 'jsonb', 'bytea']::regtype[]::oid[] ORDER BY 1
END
{
	next if $name eq 'has_rights_of';
	run_all("SELECT keyrot.$name('" . app_secret() . "'::int)");
	# Functions that take no secret: a name that others may well have, and one that is the views'.
	run_all("SELECT $name('" . app_secret() . "'::int)") unless $name =~ /\A(?:changes|read_distributed)\z/;
}
no_leak_in_logs('every function');

# keyrot's own errors stay readable, their hints, too.
$node->safe_psql('clean', 'CREATE ROLE regress_clean LOGIN; GRANT USAGE ON SCHEMA keyrot TO regress_clean; GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA keyrot TO regress_clean');
for my $case ([ 'CALL keyrot.reset_apps(all_owners => true)', qr/permission denied for reset_apps of all owners.*HINT: .*keyrot\.operator_role/s ],
	[ "SELECT keyrot.delete_app('app1 ')", qr/app_key must be 4 to 128 characters/ ])
{
	my ($statement, $pattern) = @$case;
	my ($result) = run_all($statement =~ /CALL/ ? "SET SESSION AUTHORIZATION regress_clean; $statement" : $statement);
	like($result->{text}, $pattern, "an error of keyrot's: $statement");
}

# --- The setting

my $off_secret = app_secret();
run_all("SET keyrot.redact_log = off; SELECT keyrot.reset_app_secret('app1', NULL, '$off_secret'); RESET keyrot.redact_log");
%texts = log_texts();
like($texts{$_}, qr/\Q$off_secret\E/, "switched off, the secret is there, so that this test can fail: the $_ format") for qw(log csv json);
my ($refused) = run_all('SET SESSION AUTHORIZATION regress_clean; SET keyrot.redact_log = off');
is($refused->{sqlstate}, '42501', 'an ordinary role cannot switch it off');
is($node->safe_psql('clean', "SELECT array_to_string(problems, ' ') !~ 'last|redact' FROM $STATUS"), 't', 'nothing is degraded');
$node->stop;

# --- Preloaded elsewhere, and not preloaded

my $place = -s $node->logfile;
$node->append_conf('postgresql.conf', "logging_collector = off\nlog_destination = stderr\nshared_preload_libraries = 'keyrot,pg_stat_statements'");
$node->start;
like(slurp_file($node->logfile, $place), qr/WARNING: .*keyrot is not the last library in shared_preload_libraries/, 'elsewhere in the list: a warning at the start');
like($node->safe_psql('clean', 'SELECT problems FROM ' . $STATUS), qr/not the last library in/, 'and status() says so');
$node->stop;

$place = -s $node->logfile;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nlog_min_messages = warning\ndebug_print_parse = off\ndebug_print_rewritten = off\ndebug_print_plan = off");
$node->start;
like($node->safe_psql('clean', 'SELECT problems FROM ' . $STATUS), qr/not preloaded/, 'not preloaded: status() says so');
my $loaded = app_secret();
run_all("LOAD 'keyrot'", "SELECT keyrot.reset_app_secret('nosuch', NULL, '$loaded')");
my $tail = slurp_file($node->logfile, $place);
unlike($tail, qr/\Q$loaded\E/, 'once loaded in a session it holds there');
like($tail, qr/\Q$HIDDEN\E/, 'and says so');
$node->stop;

done_testing();

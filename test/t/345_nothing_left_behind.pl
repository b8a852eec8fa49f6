# A call of keyrot, however it ends, changes nothing for the statements that follow it in its session: their
# literals, and the values in their errors, are answered and logged as on a server without keyrot.  And no text,
# whatever is nested, quoted or left open in it, holds a processor for longer than in proportion to its length.
#
# Why not pg_regress: it takes a server that is preloaded and one that is not, their logs, and messages of the
# protocol that psql does not send.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use List::Util qw(min);
use PostgreSQL::Test::Utils;
use Protocol;
use Said;
use Test::More;
use Time::HiRes qw(time);

my $MARK  = 'S3cr3tMark';
my $URL   = 'https://billing.example.org/v1/endpoint';
my $HEX   = '0123456789abcdef' x 4;
my $count = 0;

sub secret { return sprintf '%sLeftBehind%03d', $MARK, ++$count; }

my $OBJECTS = <<"END";
CREATE TABLE invoice (name text PRIMARY KEY, url text CHECK (url LIKE 'https://%'));
INSERT INTO invoice VALUES ('billing', '$URL');
CREATE TABLE plain (id int, value text);
CREATE FUNCTION other(a text) RETURNS int LANGUAGE plpgsql AS \$\$ BEGIN RAISE NOTICE 'given %', a; RETURN a; END \$\$;
END

my $CALLERS = <<"END";
CREATE EXTENSION keyrot;
SELECT keyrot.create_app('n', 'app-a'), keyrot.create_zone_key('zone-a');
CREATE FUNCTION inner_call(s text) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN
    RETURN keyrot.reset_app_secret('no-such-app', NULL, s);
    EXCEPTION WHEN no_data_found THEN RETURN keyrot.modify_zone_key('zone-a', s); END \$\$;
CREATE FUNCTION outer_call(s text) RETURNS text LANGUAGE plpgsql AS \$\$ BEGIN
    PERFORM keyrot.reset_app_secret('app-a', NULL, s);
    BEGIN PERFORM inner_call(s); EXCEPTION WHEN OTHERS THEN RETURN NULL; END; END \$\$;
CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
    PERFORM keyrot.reset_app_secret('no-such-app', NULL, NEW.value); RETURN NEW; END \$\$;
CREATE FUNCTION on_row_quietly() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
    PERFORM keyrot.reset_app_secret('no-such-app', NULL, NEW.value); RETURN NEW; EXCEPTION WHEN OTHERS THEN RETURN NEW; END \$\$;
CREATE TABLE deferred (value text);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION on_row();
CREATE TABLE quiet (value text);
CREATE TRIGGER quiet BEFORE INSERT ON quiet FOR EACH ROW EXECUTE FUNCTION on_row_quietly();
CREATE TABLE closed ();
CREATE ROLE regress_left_behind;
END

sub server
{
	my ($name, $preloaded) = @_;
	return new_server($name, conf => <<"END");
shared_preload_libraries = 'pg_stat_statements,auto_explain$preloaded'
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_timing = off
$Said::LOG
END
}

my ($without, $node) = (server('without', ''), server('with', ',keyrot'));
$_->safe_psql('postgres', 'CREATE DATABASE ours'), $_->safe_psql('ours', $OBJECTS) for $without, $node;
write_key(key_file($node), random_hex(64) . "\n");
$node->safe_psql('ours', $CALLERS);
my ($reset, $arguments) = split /\|/, $node->safe_psql('ours', q{SELECT oid, pronargs FROM pg_proc WHERE oid = 'keyrot.reset_app_secret'::regproc});

# --- What follows a call

# Statements that have nothing to do with keyrot, most of them errors with values in them.
my @PROBES = (
	"SELECT 'literal-of-somebody-else', length('$HEX')", "INSERT INTO invoice VALUES ('billing', '$URL')", "INSERT INTO invoice VALUES ('x', 'ftp://x.example.org/endpoint')",
	"SELECT 'value-that-is-no-number'::int", "SELECT other('value-for-a-function')", [ 'SELECT $1::int', 'parameter-no-number' ], [ 'SELECT $1::text', $HEX ],
	"DO \$\$ BEGIN RAISE EXCEPTION 'raised-by-somebody' USING DETAIL = '$URL', HINT = '$HEX'; END \$\$", "SELEC 'value-in-a-syntax-error'");

sub swallowed
{
	my ($statement) = @_;
	return "DO \$d\$ BEGIN EXECUTE \$e\$$statement\$e\$; EXCEPTION WHEN OTHERS THEN NULL; END \$d\$";
}

sub call { my ($app) = @_; return sprintf q{SELECT keyrot.reset_app_secret('%s', NULL, '%s')}, $app, secret(); }

sub portal
{
	my ($name, $rows) = @_;
	return Protocol::message('E', pack 'Z*N', $name, $rows) . Protocol::message('S', '');
}

sub open_portal
{
	my ($session) = @_;
	$session->put(Protocol::message('P', pack 'Z*Z*n', '', q{SELECT keyrot.reset_app_secret('app-a', NULL, $1 || n) FROM generate_series(1, 5) n}, 0)
		  . Protocol::message('B', pack('Z*Z*n', 'kept', '', 0) . pack('n N/a* n', 1, secret(), 0)) . portal('kept', 1));
	return $session->messages;
}

sub fetch_portal
{
	my ($session) = @_;
	$session->put(portal('kept', 1));
	return $session->messages;
}

sub call_by_number
{
	my ($session) = @_;
	my $answer = $session->call($reset, 'no-such-app', undef, secret(), '0', undef, ('rotation') x ($arguments - 5));
	return [ 'E', $answer->{sqlstate} ];
}

# What is done before: a name, whether a transaction is then open, the steps, and what the last of them comes to.
my @ACTIONS = (
	[ 'a call that succeeds', 0, qr/^C SELECT 1/m, call('app-a') ],
	[ 'a call that fails', 0, qr/P0002/, call('no-such-app') ],
	[ 'an error that is caught, of a NULL', 0, qr/^C DO/m, q{DO $$ DECLARE s text; BEGIN PERFORM keyrot.reset_app_secret('no-such-app', NULL, s); EXCEPTION WHEN OTHERS THEN NULL; END $$;} ],
	[ 'an error that is caught, of a secret', 0, qr/^C DO/m, swallowed(call('no-such-app')) ],
	[ 'nested calls', 0, qr/^C SELECT 1/m, "SELECT outer_call(md5('a'))" ],
	[ 'an error caught in parse analysis', 0, qr/^C DO/m, swallowed(call('app-a') . '::int') ],
	[ 'an error caught in a syntax error', 0, qr/^C DO/m, swallowed(call('app-a') . ')') ],
	[ 'an error caught in the planner', 0, qr/^C DO/m, swallowed(call('app-a') . ', 1/0') ],
	[ 'an error caught when the executor starts', 0, qr/^C RESET/m, 'SET ROLE regress_left_behind', swallowed(call('app-a') . ' FROM closed'), swallowed(call('app-a')), 'RESET ROLE' ],
	[ 'an error caught in a utility statement', 0, qr/^C DO/m, swallowed('CREATE TABLE plain AS ' . call('app-a')), swallowed('EXPLAIN ANALYZE ' . call('no-such-app')) ],
	[ 'a cancel that is caught', 0, qr/^C RESET/m, "SET statement_timeout = '20ms'",
		q{DO $$ BEGIN PERFORM keyrot.reset_app_secret('app-a', NULL, '} . secret() . q{'), pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END $$}, 'RESET statement_timeout' ],
	[ 'a cancel', 0, qr/^C RESET/m, "SET statement_timeout = '20ms'", call('app-a') . ', pg_sleep(60)', 'RESET statement_timeout' ],
	[ 'a prepared statement that fails', 0, qr/P0002/, q{PREPARE failing (text) AS SELECT keyrot.reset_app_secret('no-such-app', NULL, $1)}, "EXECUTE failing ('" . secret() . "')" ],
	[ 'a bound call that fails', 0, qr/P0002/, [ q{SELECT keyrot.reset_app_secret('no-such-app', NULL, $1)}, secret() ] ],
	[ 'a bound call whose parameter is wrong', 0, qr/22007/, [ q{SELECT keyrot.reset_app_secret('app-a', NULL, NULL, $1)}, secret() ] ],
	[ 'a bound call that is not parsed', 0, qr/42601/, [ q{SELECT keyrot.reset_app_secret('app-a', NULL $1)}, secret() ] ],
	[ 'a call by number', 0, qr/P0002/, \&call_by_number ],
	[ 'an unknown function', 0, qr/42883/, "SELECT keyrot.reset_app_secrets('app-a', '" . secret() . "')" ],
	[ 'a subtransaction that is rolled back', 1, qr/^C ROLLBACK/m, 'BEGIN', 'SAVEPOINT s', call('no-such-app'), 'ROLLBACK TO s' ],
	[ 'a call in a subtransaction', 1, qr/^C ROLLBACK/m, 'BEGIN', 'SAVEPOINT s', call('app-a'), 'ROLLBACK TO s' ],
	[ 'a cursor left open', 1, qr/^C FETCH 1/m, 'BEGIN', q{DECLARE kept CURSOR FOR SELECT keyrot.reset_app_secret('app-a', NULL, '} . secret() . q{' || n) FROM generate_series(1, 3) AS n}, 'FETCH kept', 'SELECT 1', 'FETCH kept' ],
	[ 'a cursor that fails when it is fetched later', 1, qr/^C ROLLBACK/m, 'BEGIN', 'DECLARE kept CURSOR FOR ' . call("'||k||'") . q{ FROM (VALUES ('app-a'), ('no-such-app')) v (k)},
		'FETCH kept', 'SAVEPOINT s', 'FETCH kept', 'ROLLBACK TO s' ],
	[ 'a cursor that is held', 0, qr/^C FETCH 1/m, 'BEGIN', 'DECLARE held CURSOR WITH HOLD FOR ' . call('app-a'), 'COMMIT', 'FETCH held' ],
	[ 'a portal left open', 1, qr/^s /m, 'BEGIN', \&open_portal ],
	[ 'a portal fetched later', 1, qr/^s /m, 'BEGIN', \&open_portal, 'SELECT 1', \&fetch_portal ],
	[ 'a trigger at the end of the transaction', 0, qr/P0002/, "INSERT INTO deferred VALUES (md5('late'))" ],
	[ 'a COPY whose trigger catches an error', 0, qr/^C COPY 2/m, { text => 'COPY quiet FROM STDIN', data => join '', map { secret() . "\n" } 1, 2 } ],
	[ 'a COPY of a call that fails', 0, qr/P0002/, 'COPY (' . call('no-such-app') . ') TO STDOUT' ]);

# Runs all probes in a session, and returns what was said of each; logged under the name.
sub probe
{
	my ($session, $name, $open) = @_;
	my @said;
	for my $number (0 .. $#PROBES)
	{
		run_case($session, 'SAVEPOINT probe') if $open;
		run_case($session, "SET application_name = '$name $number'");
		push @said, run_case($session, $PROBES[$number]);
		run_case($session, 'ROLLBACK TO probe') if $open;
	}
	run_case($session, $open ? 'ROLLBACK' : "SET application_name = 'between'");
	return \@said;
}

my $clean = Protocol->connect($without, 'ours');
my @expected = (probe($clean, 'closed', 0));
run_case($clean, 'BEGIN');
push @expected, probe($clean, 'open', 1);
my %expected_log = log_entries($without, 'ours');

my $session = Protocol->connect($node, 'ours');
run_case($session, "SET application_name = 'between'");
my @probed;
for my $action (@ACTIONS)
{
	my ($name, $open, $outcome, @steps) = @$action;
	my $last = '';
	$last = run_case($session, $_) for @steps;
	like($last, $outcome, $name);
	push @probed, [ $name, $open, probe($session, $name, $open) ];
}
$session->close;

# A session that is ended in a call leaves nothing behind in the others.
my $victim = Protocol->connect($node, 'ours');
my $witness = Protocol->connect($node, 'ours');
$victim->send_query(call('app-a') . ', pg_sleep(600)');
wait_until(sub { $witness->query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = " . $victim->pid)->{rows}[0] });
$witness->query('SELECT pg_terminate_backend(' . $victim->pid . ')');
like(said($victim->messages), qr/57P01/, 'a session is ended in a call');
push @probed, [ 'ended beside it', 0, probe($witness, 'ended beside it', 0) ];
push @probed, [ 'a new session', 0, probe(Protocol->connect($node, 'ours'), 'a new session', 0) ];

my %log = log_entries($node, 'ours');
for my $probed (@probed)
{
	my ($name, $open, $said) = @$probed;
	for my $number (0 .. $#PROBES)
	{
		same($said->[$number], $expected[$open][$number], "after $name, said: " . title($PROBES[$number]));
		same($log{"$name $number"}, $expected_log{ ($open ? 'open' : 'closed') . " $number" }, "after $name, logged: " . title($PROBES[$number]));
	}
}

# The other statements of a message are others, too.
run_case($witness, "SET application_name = 'mixed'");
my $mixed = run_case($witness, "SELECT 'literal-before'; " . call('app-a') . "; SELECT 'literal-after'; SELECT 'value-that-is-no-number'::int");
like($mixed, qr/"value-that-is-no-number"/, 'in one message with a call: the error is told');
%log = log_entries($node, 'ours');
like($log{mixed}, qr/'$_'/, "in one message with a call: '$_' is logged") for qw(literal-before literal-after value-that-is-no-number);
is(join("\n", grep { /\Q$MARK\E/ } map { split /\n/ } values %log), '', 'of the calls themselves no secret is logged');

# --- Texts that are long

# A number of milliseconds would say little on a machine that others use.  So each text is sent to both servers in turn,
# and the best of three times are compared, with that of a short call added where one stands in front: what reads a text
# a few times over stays below 15 times what the server takes without keyrot, what takes its square comes to hundreds
# of times, and 80 lies apart from both.
my $LENGTH = 64 * 1024;
my $FACTOR = 80;

sub filled { my ($piece) = @_; return substr $piece x (1 + $LENGTH / length $piece), 0, $LENGTH - $LENGTH % length $piece; }

my $tag = 0;
my $tags = join ' ', map { '$t' . ++$tag . '$' } 1 .. $LENGTH / 8;
my @LONG = (
	map({ [ "a literal of $_", "SELECT length('" . filled($_) . "')" ] } 'rapid a/*/* */ ', 'api/*', 'keyrot.create_app(', 'create_app /**/ ( ', "''", '$a$ ',
		'api.', 'keyrot . ', '"api" ', 'U&"', "E\\", ';', 'app_secret => ', "\n", "--\n", '(', "\xc3\xa4", 'SELECT api ', '-- api', "execute\n", 'keyrot', 'a'),
	[ 'a literal of dollar tags', "SELECT length('$tags')" ],
	[ 'dollar tags that are not closed', "SELECT length(\$x\$$tags\$x\$)" ],
	[ 'a dollar quote left open', "SELECT $tags" ],
	[ 'a literal in pieces', 'SELECT length(' . filled("'api'\n") . ')' ],
	[ 'an E literal', "SELECT length(E'" . filled("\\'api\\\\") . "')" ],
	[ 'a U& literal', "SELECT length(U&'" . filled('\\0061pi') . "')" ],
	[ 'U& names', 'SELECT 1 AS ' . filled('U&"\\0061pi" UESCAPE ') ],
	[ 'comments left open', 'SELECT 1 ' . filled('/* api ') ],
	# With a blank in between: where operators' characters follow, PostgreSQL's own scanner takes the square.
	[ 'comments nested and closed', 'SELECT 1 ' . filled('/* ') . filled('*/ ') ],
	[ 'short comments', 'SELECT 1 ' . filled('/* api */') ],
	[ 'lines of comments', 'SELECT 1 ' . filled("-- create_app(\n") ],
	[ 'a quote left open', "SELECT 'api" . filled("''") ],
	[ 'a name left open', 'SELECT "api' . filled('""') ],
	[ 'an E quote left open', "SELECT E'api" . filled("\\'") ],
	[ 'semicolons', 'SELECT 1' . filled(';') ],
	[ 'a chain of names', 'SELECT ' . filled('api.') . 'x' ],
	[ 'parentheses left open', 'SELECT ' . filled('create_app(') ],
	[ 'a DO block', 'DO $x$ BEGIN PERFORM length($y$' . filled('/* api $z$ ') . '$y$); END $x$' ],
	[ 'one long name', 'SELECT ' . filled('keyrot') ],
	[ 'a list of names', 'SELECT 1 FROM keyrot' . filled(', api') ]);

sub seconds
{
	my ($in, $text) = @_;
	my $start = time;
	my $answer = $in->query($text);
	return (time - $start, $answer->{sqlstate});
}

my $long = Protocol->connect($node, 'ours');
$_->query('SET log_min_duration_statement = -1') for $clean, $long;
my $call_alone = min(map { (seconds($long, call('app-a')))[0] } 1 .. 5);

sub times_as_long
{
	my ($text, $behind_call) = @_;
	my $front = $behind_call ? $call_alone : 0;
	my (@with, @without, @ends);
	for my $round (1 .. 3)
	{
		(my $seconds, $ends[0]) = seconds($clean, $text);
		push @without, $seconds + $front;
		($seconds, $ends[1]) = seconds($long, $behind_call ? call('app-a') . "; $text" : $text);
		push @with, $seconds;
		last if min(@with) < $FACTOR * min(@without) || $seconds > 1;
	}
	is($ends[1], $ends[0], 'both come to the same');
	return min(@with) / min(@without);
}

for my $case (@LONG)
{
	my ($name, $text) = @$case;
	for my $front (0, 1)
	{
		my $times = times_as_long($text, $front);
		cmp_ok($times, '<', $FACTOR, ($front ? 'behind a call: ' : '') . $name =~ s/[^ -~]/?/gr);
		note(sprintf '%.1f times as long', $times);
	}
}

# Each of many calls in a message is told the whole of it.  What follows them costs little, however many they are: read
# once for each it would take more than ten times as long.
{
	my $calls = "SELECT keyrot.verify_app_string('app-a', 'x', 'AAAA');" x 2000;
	my $comment = '/*' . ' ' x 4_000_000 . '*/';
	my (@bare, @longer);
	$long->query("SET $_") for 'log_statement = none', 'auto_explain.log_min_duration = -1';
	for my $round (1 .. 3)
	{
		push @bare, (seconds($long, $calls))[0];
		push @longer, (seconds($long, $calls . $comment))[0];
	}
	my $times = min(@longer) / min(@bare);
	cmp_ok($times, '<', 8, 'many calls before a long comment');
	note(sprintf '%.1f times as long', $times);
}

done_testing();

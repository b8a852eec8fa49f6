# Failed requests, and successes that were rolled back, are found in the request log with their outcome.
#
# Why not pg_regress: it takes a server with keyrot.database set, sessions that are killed, and waiting for
# another process.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('recording', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
keyrot.zone_rate_limit = 0
max_prepared_transactions = 2
END
add_databases($node, 'served', 'other');
$node->safe_psql('served', q{
	SELECT keyrot.create_zone_key('zone');
	CREATE TABLE unique_later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE ROLE regress_caller LOGIN;
	GRANT USAGE ON SCHEMA keyrot TO regress_caller;
	GRANT EXECUTE ON FUNCTION keyrot.describe_zone_key(text) TO regress_caller;
	CREATE FUNCTION id_of(context text) RETURNS uuid LANGUAGE sql IMMUTABLE AS
	$$ SELECT substring(context FROM 'keyrot request ([0-9a-f-]+)')::uuid $$;});

# What is on record of a request, once it is; '' where it does not come to be.
sub recorded
{
	my ($where, $columns, $database) = @_;
	return wait_until(sub {
		return $node->safe_psql($database // 'served', "SELECT $columns FROM keyrot.request WHERE $where");
	}) || '';
}

sub request_of
{
	my ($attempt) = @_;
	return $attempt->{context} =~ /keyrot request ($REQUEST_ID)/ ? $1 : '';
}

# A failure, with all that a success has on record.
my ($failed) = attempts($node, 'served', "SELECT * FROM keyrot.refresh_zone_key('unknown')");
my $id = request_of($failed);
is(recorded("request_id = '$id'", q{outcome, target, action, caller, caller_oid = 'postgres'::regrole, request.session_user,
		client_addr IS NULL, pid > 0, version IS NULL, retry_of IS NULL, abs(extract(epoch FROM clock_timestamp() - requested_at)) < 300}),
	'P0002|unknown|refresh_zone_key|postgres|t|postgres|t|t|t|t|t', 'a failed request is on record with its SQLSTATE');

# A malformed target is never kept: it may be a secret in the wrong place.
my ($malformed) = attempts($node, 'served', q{SELECT * FROM keyrot.refresh_zone_key('not a zone')});
$id = request_of($malformed);
is(recorded("request_id = '$id'", 'outcome, target'), '22023|', 'a malformed target is recorded as empty');

# The caller is who it was at the call.
my (undef, $refused) = attempts($node, 'served', 'SET ROLE regress_caller', q{SELECT * FROM keyrot.describe_zone_key('zone')});
$id = request_of($refused);
is(recorded("request_id = '$id'", 'outcome, caller, request.session_user'), '42501|regress_caller|postgres', 'the caller is current_user');
is($node->safe_psql('served', q{GRANT SELECT ON keyrot.requests TO regress_caller; SET ROLE regress_caller;
		SELECT outcome, target FROM keyrot.requests}), '42501|zone', 'who finds its own failures in the view');

# Each way in which a success is undone.  The statements leave the RequestId in the session's output.
my $refresh = q{SELECT request_id FROM keyrot.refresh_zone_key('zone')};
sub undone
{
	my ($name, $expected, @statements) = @_;
	my @done = attempts($node, 'served', @statements);
	my ($id) = map { $_->{output} =~ /($REQUEST_ID)/ ? $1 : () } @done;
	is(recorded("request_id = '$id'", 'outcome, version IS NULL'), $expected // 'rolled back|t', $name);
	return;
}
undone('ROLLBACK', undef, 'BEGIN', $refresh, 'ROLLBACK');
undone('ROLLBACK TO SAVEPOINT', undef, 'BEGIN', 'SAVEPOINT s', $refresh, 'ROLLBACK TO s', 'COMMIT');
undone('a savepoint released, and the transaction rolled back', undef, 'BEGIN', 'SAVEPOINT s', $refresh, 'RELEASE s', 'ROLLBACK');
undone('a savepoint released into one that is rolled back', undef,
	'BEGIN', 'SAVEPOINT a', 'SAVEPOINT b', $refresh, 'RELEASE b', 'ROLLBACK TO a', 'COMMIT');
undone('an error later in the transaction', undef, 'BEGIN', $refresh, 'SELECT 1/0', 'COMMIT');
undone('a COMMIT that fails on a deferred constraint', undef,
	'BEGIN', $refresh, 'INSERT INTO unique_later VALUES (1), (1)', 'COMMIT');
undone('a success is on record as one', 'ok|f', 'BEGIN', 'SAVEPOINT s', $refresh, 'RELEASE s', 'COMMIT');
undone('one before a savepoint stays', 'ok|f', 'BEGIN', $refresh, 'SAVEPOINT s', 'ROLLBACK TO s', 'COMMIT');

# A repetition has a row of its own, also when it is undone.
my $with_token = q{SELECT request_id FROM keyrot.refresh_zone_key('zone', client_token => 'token-1')};
my ($first) = attempts($node, 'served', $with_token);
attempts($node, 'served', 'BEGIN', $with_token, 'ROLLBACK');
is(recorded("retry_of = '$first->{output}'", 'outcome, action, version IS NULL'), 'rolled back|refresh_zone_key|t',
	'a repetition that is rolled back names the request that it repeats');

# An exception block, and an error later in the same statement: there the id leaves in a notice.
sub undone_in_do
{
	my ($name, $expected, $body) = @_;
	my ($done) = attempts($node, 'served', "DO \$\$ DECLARE id uuid; context text; BEGIN $body END \$\$");
	my ($id) = $done->{text} =~ /NOTICE:.*?($REQUEST_ID)/;
	is(recorded("request_id = '$id'", 'outcome'), $expected, $name);
	return;
}
undone_in_do('an exception block undoes a success', 'rolled back', qq{
	BEGIN SELECT request_id INTO id FROM keyrot.refresh_zone_key('zone'); RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN RAISE NOTICE '%', id; END;});
undone_in_do('an exception block catches a failure', 'P0002', qq{
	BEGIN SELECT request_id INTO id FROM keyrot.refresh_zone_key('unknown');
	EXCEPTION WHEN no_data_found THEN GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT; RAISE NOTICE '%', id_of(context); END;});
undone_in_do('an error later in the statement', 'rolled back', qq{
	SELECT request_id INTO id FROM keyrot.refresh_zone_key('zone'); RAISE NOTICE '%', id; PERFORM 1/0;});

# A serialization failure at COMMIT.
{
	$node->safe_psql('served', q{CREATE TABLE skew (n int); INSERT INTO skew VALUES (1), (2)});
	my $dblink = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'});
	SKIP:
	{
		skip 'dblink is not installed', 2 unless $dblink;
		$node->safe_psql('served', 'CREATE EXTENSION dblink');
		my @done = attempts($node, 'served', q{
			SELECT dblink_connect('other', format('dbname=served host=%s port=%s', split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')))},
			'BEGIN ISOLATION LEVEL SERIALIZABLE', $refresh, 'SELECT sum(n) FROM skew', 'INSERT INTO skew VALUES (10)',
			q{SELECT dblink_exec('other', 'BEGIN ISOLATION LEVEL SERIALIZABLE')},
			q{SELECT sum FROM dblink('other', 'SELECT sum(n) FROM skew') AS t (sum bigint)},
			q{SELECT dblink_exec('other', 'INSERT INTO skew VALUES (20)')},
			q{SELECT dblink_exec('other', 'COMMIT')},
			'COMMIT');
		is($done[-1]->{sqlstate}, '40001', 'a COMMIT fails to serialize');
		my ($id) = $done[2]->{output} =~ /($REQUEST_ID)/;
		is(recorded("request_id = '$id'", 'outcome'), 'rolled back', 'what succeeded before it is rolled back');
	}
}

# A statement that is cancelled: after the call, and while the call waits.
my ($cancelled) = attempts($node, 'served', "SET statement_timeout = '2s'; SELECT pg_sleep(60), request_id FROM keyrot.refresh_zone_key('zone')");
is($cancelled->{sqlstate}, '57014', 'a statement is cancelled');
is(recorded(q{outcome = 'rolled back' AND requested_at >= (SELECT max(requested_at) FROM keyrot.request)}, 'action, target'),
	'refresh_zone_key|zone', 'the success in it is rolled back');

my ($in, $out, $err) = ("BEGIN; SELECT FROM keyrot.zone WHERE zone_id = 'zone' FOR UPDATE;\n\\echo held\n", '', '');
my $holder = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('served') ], '<', \$in, '>', \$out, '2>', \$err);
$holder->pump until $out =~ /held/;
my ($waited) = attempts($node, 'served', "SET lock_timeout = '100ms'; $refresh");
is(recorded("request_id = '@{[ request_of($waited) ]}'", 'outcome'), '55P03', 'lock_timeout');
($waited) = attempts($node, 'served', "SET statement_timeout = '500ms'; $refresh");
is(recorded("request_id = '@{[ request_of($waited) ]}'", 'outcome'), '57014', 'cancelled in the midst of a request');

# A session that is terminated in the midst of a request, and one with a success behind it.
sub terminate_session
{
	my ($name, $expected, $statements, $wait_for) = @_;
	my ($in, $out, $err) = ("SET application_name = 'victim'; SET lock_timeout = 0;\n$statements\n", '', '');
	my $before = $node->safe_psql('served', 'SELECT clock_timestamp()');
	my $victim = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('served') ], '<', \$in, '>', \$out, '2>', \$err);
	my $pid = wait_until(sub {
		$victim->pump_nb;
		return $node->safe_psql('served', "SELECT pid FROM pg_stat_activity WHERE application_name = 'victim' AND $wait_for");
	});
	$node->safe_psql('served', "SELECT pg_terminate_backend($pid)");
	is(recorded("pid = $pid AND requested_at > '$before'", q{string_agg(outcome || ' ' || target, ', ' ORDER BY requested_at)}), $expected, $name);
	$victim->kill_kill;
	return;
}
terminate_session('pg_terminate_backend in the midst of a request', '57P01 zone', "$refresh;", q{wait_event_type = 'Lock'});
terminate_session('and after others in the transaction', 'rolled back zone-2, rolled back zone-3, 57P01 zone',
	"BEGIN; SELECT keyrot.create_zone_key('zone-2'); SAVEPOINT s; SELECT keyrot.create_zone_key('zone-3'); $refresh;", q{wait_event_type = 'Lock'});
$in .= "ROLLBACK;\n\\q\n";
$holder->finish;
terminate_session('pg_terminate_backend after a request', 'rolled back zone', "BEGIN; $refresh;", q{state = 'idle in transaction'});

# The administration of keys.  A reseal that is stopped has committed before, and is a failure all the same.
attempts($node, 'served', 'BEGIN', 'SELECT keyrot.rotate_data_key()', 'ROLLBACK');
is(recorded(q{action = 'rotate_data_key'}, 'outcome, target'), 'rolled back|2', 'a data key that is rolled back');
rename key_file($node), key_file($node) . '.aside' or die $!;
attempts($node, 'served', 'SELECT keyrot.rotate_master_key()');
is(recorded(q{action = 'rotate_master_key'}, 'outcome, target'), '55000|', 'a master key that cannot be made');
rename key_file($node) . '.aside', key_file($node) or die $!;
my @in_block = attempts($node, 'served', 'BEGIN', 'CALL keyrot.reseal()', 'ROLLBACK');
is(recorded("request_id = '@{[ request_of($in_block[1]) ]}'", 'outcome, action, target'), '25001|reseal|', 'a reseal in a transaction block');
$node->safe_psql('served', 'SELECT keyrot.rotate_data_key()');
my $writer = $node->background_psql('served');
$writer->query_safe(q{BEGIN; SELECT keyrot.create_zone_key('zone-open')});
my (undef, $stopped) = attempts($node, 'served', q{SET statement_timeout = '500ms'}, 'CALL keyrot.reseal()');
is(recorded("request_id = '@{[ request_of($stopped) ]}'", 'outcome, action, target'), '57014|reseal|2', 'a reseal that is cancelled');
terminate_session('and one that is terminated', '57P01 2', 'CALL keyrot.reseal();', q{wait_event_type = 'Lock'});
$writer->query_safe('COMMIT');
$writer->quit;
$node->safe_psql('served', 'CALL keyrot.reseal()');
is(recorded(q{action = 'reseal' AND outcome = 'ok'}, 'count(*), min(target)'), '1|2', 'the one that reaches its end is a success, once');

# A prepared transaction that is rolled back later is not on record, as documented; nothing else is disturbed.
my @prepared = attempts($node, 'served', 'BEGIN', $refresh, q{PREPARE TRANSACTION 'p'}, 'BEGIN', 'ROLLBACK', q{ROLLBACK PREPARED 'p'});
my ($prepared_id) = $prepared[1]->{output} =~ /($REQUEST_ID)/;

# Another database's failures are in the server log, and nowhere else.
my ($elsewhere) = attempts($node, 'other', "SELECT * FROM keyrot.refresh_zone_key('unknown')");
like($node->safe_psql('other', q{SELECT array_to_string(problems, '|') FROM } . $STATUS),
	qr/keyrot\.database names another/, 'in another database status() says that they are not recorded');
my $elsewhere_id = request_of($elsewhere);
like(slurp_file($node->logfile), qr/keyrot request $elsewhere_id: refresh_zone_key/, 'the server log has them');

# A secret that was disclosed and rolled back leaves a line in the server log, and the secret does not.
my @disclosed = attempts($node, 'other', q{SELECT keyrot.create_zone_key('zone')}, 'BEGIN',
	q{SELECT request_id, secret_key FROM keyrot.describe_zone_key('zone')},
	q{SELECT request_id, secret_key FROM keyrot.refresh_zone_key('zone')}, q{SELECT keyrot.end_zone_grace('zone')}, 'ROLLBACK');
my $log = slurp_file($node->logfile);
for my $number (2, 3)
{
	my ($id, $secret) = split /\|/, $disclosed[$number]->{output};
	like($log, qr/LOG:  keyrot request $id: \w+ of "zone" was rolled back after the secret was returned to its caller\n/,
		'a disclosure that is rolled back is in the server log');
	is(index($log, $secret), -1, 'without the secret');
}
unlike($log, qr/$disclosed[4]->{output}/, 'one that disclosed nothing is not');
my @committed = attempts($node, 'other', 'BEGIN', 'SAVEPOINT a', q{SELECT request_id FROM keyrot.describe_zone_key('zone')}, 'RELEASE a',
	'SAVEPOINT b', 'ROLLBACK TO b', 'COMMIT');
unlike(slurp_file($node->logfile), qr/$committed[2]->{output}/, 'nor is one that a later savepoint leaves alone');

# By now all notes have been taken off; those that must not be there are not.
is($node->safe_psql('served', "SELECT count(*) FROM keyrot.request WHERE request_id IN ('$prepared_id', '$elsewhere_id')"), '0',
	'what is not to be recorded is not');
is($node->safe_psql('other', q{SELECT count(*) FROM keyrot.request WHERE outcome <> 'ok'}), '0', 'nor in the other database');
ok(wait_until(sub { $node->safe_psql('served', 'SELECT requests_waiting = 0 FROM ' . $STATUS) eq 't' }), 'the queue is empty in the end');
is($node->safe_psql('served', q{SELECT requests_lost, refusals_omitted, array_to_string(problems, '|') ~ 'failed requests' FROM } . $STATUS),
	'0|0|f', 'nothing was lost, and status() has nothing to complain of');

done_testing();

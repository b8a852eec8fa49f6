# The queue of failed requests is bounded: a flood by one caller hides nobody else's failures, what has no
# room is counted, and no caller waits.
#
# Why not pg_regress: it takes a server with keyrot.database set, a small queue, and a worker that is held
# up by a lock on the request log, so that the queue fills.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('queueing', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
keyrot.zone_rate_limit = 0
keyrot.request_queue_size = 64
END
add_databases($node, 'served');
my @callers = map { "regress_caller_$_" } 1 .. 9;
$node->safe_psql('served', join '', map { qq{
	CREATE ROLE $_; GRANT USAGE ON SCHEMA keyrot TO $_;
	GRANT EXECUTE ON FUNCTION keyrot.refresh_zone_key TO $_;} } @callers);

sub count_of { return $node->safe_psql('served', "SELECT count(*) FROM keyrot.request WHERE $_[0]"); }

sub queue
{
	return $node->safe_psql('served', 'SELECT requests_waiting, requests_lost, refusals_omitted FROM ' . $STATUS);
}

# So many failed requests of a role, in one session and statement.
sub fail_as
{
	my ($role, $count, $target) = @_;
	my ($done) = attempts($node, 'served', qq{SET ROLE $role; DO \$\$ BEGIN FOR i IN 1 .. $count LOOP
		BEGIN PERFORM keyrot.refresh_zone_key('$target'); EXCEPTION WHEN no_data_found THEN END; END LOOP; END \$\$});
	is($done->{sqlstate}, '', "$role is not held up");
	return;
}

is(queue(), '0|0|0', 'at first there is nothing');

# Holds up the worker: it waits for the log, or for its lock_timeout to end, and starts again.
my ($in, $out, $err) = ("BEGIN; LOCK TABLE keyrot.request IN EXCLUSIVE MODE;\n\\echo held\n", '', '');
my $holder = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('served') ], '<', \$in, '>', \$out, '2>', \$err);
$holder->pump until $out =~ /held/;

fail_as('regress_caller_1', 100, 'flood');
is(queue(), '8|92|0', 'one caller has an eighth of the queue, and the rest is counted');
fail_as('regress_caller_2', 1, 'another');
is(queue(), '9|92|0', "another caller's failure has room");
fail_as("regress_caller_$_", 8, 'more') for 3 .. 8;
is(queue(), '57|92|0', 'as have those of more callers');
fail_as('regress_caller_2', 7, 'another');
is(queue(), '64|92|0', 'until the queue is full');
fail_as('regress_caller_9', 3, 'last');
is(queue(), '64|95|0', 'then they are counted');
is(count_of(q{outcome <> 'ok'}), '0', 'none of it is on record yet');
like($node->safe_psql('served', q{SELECT array_to_string(problems, '|') FROM } . $STATUS), qr/failed requests were lost/,
	'status() complains of what was lost');

$in .= "ROLLBACK;\n\\q\n";
$holder->finish;
ok(wait_until(sub { queue() eq '0|95|0' }), 'with the log free again, the worker takes all');
is(count_of(q{outcome = 'P0002' AND target = 'flood'}), '8', 'what waited of the flood is on record');
is(count_of(q{outcome = 'P0002' AND target = 'another'}), '8', "and the other's failures");
is(count_of(q{outcome = 'P0002'}), '64', 'and all that waited');
is($node->safe_psql('served', q{SELECT bool_and(requested_at >= before) FROM
		(SELECT requested_at, lag(requested_at) OVER (PARTITION BY caller ORDER BY request_id) AS before FROM keyrot.request) AS r}), 't',
	'each once, in the order of the calls');
fail_as('regress_caller_9', 1, 'last');
ok(wait_until(sub { count_of(q{target = 'last'}) == 1 }), 'and there is room again');
fail_as('regress_caller_1', 1, 'again');
ok(wait_until(sub { count_of(q{target = 'again'}) == 1 }), 'also for who had its share');

# An aborted transaction is one flood more: what it undoes has the same bound.
$node->safe_psql('served', q{SELECT keyrot.create_zone_key('zone')});
my @undone = attempts($node, 'served', 'BEGIN', q{SELECT count(keyrot.describe_zone_key('zone')) FROM generate_series(1, 500)}, 'ROLLBACK');
is(join('', map { $_->{sqlstate} } @undone), '', 'a transaction with 500 requests is rolled back');
ok(wait_until(sub { queue() =~ /^0\|/ }), 'the queue is emptied again');
my ($recorded, $lost) = (count_of(q{outcome = 'rolled back'}), (split /\|/, queue())[1] - 95);
is($recorded + $lost, 500, "each of them is on record or counted ($recorded and $lost)");

# Refusals by the rate limit, which a client that does not wait makes by the thousand, are recorded a
# hundred a second, and then counted.
$node->append_conf('postgresql.conf', 'keyrot.request_queue_size = 65536');
$node->restart;
my (undef, $refused) = attempts($node, 'served', 'SET keyrot.zone_rate_limit = 1', q{DO $$
	DECLARE start timestamptz := clock_timestamp(); refusals int := 0;
	BEGIN FOR i IN 1 .. 5000 LOOP
		BEGIN PERFORM keyrot.refresh_zone_key('zone');
		EXCEPTION WHEN configuration_limit_exceeded THEN refusals := refusals + 1; END;
	END LOOP;
	RAISE NOTICE 'refused % in % s', refusals, ceil(extract(epoch FROM clock_timestamp() - start)) + 1; END $$});
my ($refusals, $seconds) = $refused->{text} =~ /refused (\d+) in (\d+) s/;
ok(wait_until(sub { queue() =~ /^0\|/ }), 'the refusals are taken off');
($recorded, my $omitted) = (count_of(q{outcome = '53400'}), (split /\|/, queue())[2]);
is($recorded + $omitted, $refusals, 'each refusal is on record or counted');
cmp_ok($recorded, '>=', 100, "a hundred of them are on record ($recorded)");
cmp_ok($recorded, '<=', 100 * $seconds, "and no more in a second ($seconds)");

# A crash of the server empties the queue, and does no more harm.
$node->stop('immediate');
start_again($node);
is(queue(), '0|0|0', 'after a crash the queue is empty');
fail_as('regress_caller_1', 1, 'after the crash' =~ s/ /-/gr);
ok(wait_until(sub { count_of(q{target = 'after-the-crash'}) == 1 }), 'and failures are recorded');

done_testing();

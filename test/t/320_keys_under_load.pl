# Keys replaced again and again, and secrets moved, while clients rotate and verify: no rotation fails, no
# credential becomes unreadable, no version is missing, whatever interrupts reseal().
#
# Why not pg_regress: it takes many sessions at once, and a server that is killed and comes up again.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use IPC::Run qw(finish start timeout);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $SECONDS     = 12;
my $KILLS       = 4;
my $MOST_TRIES  = 1000;
my $ROTATORS    = 3;
my $VERIFIERS   = 2;
my $APPS        = 250;
my $ZONES       = 30;
my $MANY_LINES  = 20;
my $BATCH       = 10;
my $LATEST_STOP = 0.3;
my $LIMIT       = 5 * $PostgreSQL::Test::Utils::timeout_default;

my $node = new_server('load', conf => <<'END');
restart_after_crash = on
log_statement = none
keyrot.zone_rate_limit = 0
END
add_databases($node, 'live');
my $path = key_file($node);

# Each client says how much it has done whenever it has committed a round, and goes on until it is told to stop.
$node->safe_psql('live', <<"END");
SELECT FROM generate_series(1, $APPS) AS n, keyrot.create_app('App', 'app-' || n);
SELECT keyrot.create_zone_key('zone-' || n) FROM generate_series(1, $ZONES) AS n;
CREATE TABLE stop (n int);
CREATE SEQUENCE chain;
CREATE PROCEDURE rotator(client text) LANGUAGE plpgsql AS \$\$
DECLARE
    link int;
BEGIN
    link := nextval('chain');
    PERFORM keyrot.create_app('Chain', 'chain-' || link);
    COMMIT;
    WHILE NOT EXISTS (SELECT FROM stop) LOOP
        PERFORM keyrot.reset_app_secret('app-' || 1 + floor(random() * $APPS));
        COMMIT;
        PERFORM keyrot.reset_app_secret('app-' || 1 + floor(random() * $APPS), grace_period => '1 hour');
        PERFORM keyrot.refresh_zone_key('zone-' || 1 + floor(random() * $ZONES), '1 hour');
        COMMIT;
        PERFORM keyrot.reset_app_secret('app-' || 1 + floor(random() * $APPS));
        ROLLBACK;
        PERFORM keyrot.reset_app_secret('chain-' || link, 'chain-' || client || '-' || link, grace_period => '1 hour');
        COMMIT;
        link := nextval('chain');
        PERFORM keyrot.create_app('Chain', 'chain-' || link);
        COMMIT;
        RAISE INFO 'rotated 6';
        PERFORM pg_sleep(random() / 20);
    END LOOP;
END \$\$;
-- Long enough for reseal() to move all that it sees, which is not what was sealed here.
CREATE PROCEDURE slow_creator() LANGUAGE plpgsql AS \$\$
BEGIN
    WHILE NOT EXISTS (SELECT FROM stop) LOOP
        PERFORM keyrot.create_app('Slow', 'slow-' || nextval('chain'));
        PERFORM pg_sleep(random() * 3);
        COMMIT;
        RAISE INFO 'created 1';
    END LOOP;
END \$\$;
-- Which credentials that the snapshot shows do not open, whether as current or as previous version.
CREATE FUNCTION unreadable() RETURNS bigint LANGUAGE sql AS \$\$
    SELECT count(*) FROM keyrot.credentials
     WHERE state = 'current' AND NOT CASE kind
           WHEN 'app' THEN keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))
           ELSE keyrot.verify_zone_string(id, 'm', keyrot.sign_string_for_zone(id, 'm')) END
        OR state = 'retiring' AND keyrot.verify_app_string(id, 'm', '') \$\$;
CREATE PROCEDURE verifier() LANGUAGE plpgsql AS \$\$
DECLARE
    seen bigint;
    failed bigint;
BEGIN
    WHILE NOT EXISTS (SELECT FROM stop) LOOP
        COMMIT;
        SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;
        seen := (SELECT count(*) FROM keyrot.credentials);
        FOR n IN 1 .. 4 LOOP
            PERFORM pg_sleep(random() / 2);
            failed := unreadable();
            RAISE INFO 'verified %', seen;
            IF failed > 0 THEN
                RAISE EXCEPTION '% credentials do not verify', failed;
            END IF;
        END LOOP;
    END LOOP;
END \$\$;
END

sub lines { return split /\n/, slurp_file($path); }

# Starts a client; what it says is read when it has ended.
sub client
{
	my ($statement) = @_;
	my $client = { out => '', err => '' };
	$client->{run} = start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=terse',
			'-d',   $node->connstr('live'), '-c', $statement
		],
		'<',
		'/dev/null',
		'>',
		\$client->{out},
		'2>',
		\$client->{err},
		timeout($LIMIT));
	return $client;
}

my $round = 0;

sub start_clients
{
	$round++;
	$node->safe_psql('live', 'TRUNCATE stop');
	return (
		(map { client("CALL rotator('$round-$_')") } 1 .. $ROTATORS),
		(map { client('CALL verifier()') } 1 .. $VERIFIERS),
		client('CALL slow_creator()'));
}

# Ends them, adds up what they have done, and returns what went wrong.
my %count = map { $_ => 0 } qw(created rotated verified);

sub end_clients
{
	my (@clients) = @_;
	my @wrongs;
	for my $client (@clients)
	{
		finish($client->{run});
		$count{$1} += $2 while $client->{err} =~ /^INFO:  (\w+) (\d+)$/mg;
		push @wrongs, grep { !/^INFO:/ } split /\n/, $client->{err};
	}
	return @wrongs;
}

# Takes out lines that nothing depends on, before there is no room for more, as an administrator would: what
# status() does not tell of may still be what an older snapshot shows.  Nobody wraps data keys meanwhile.
sub trim_key_file
{
	return if lines() < $MANY_LINES;
	my ($now, @used) = split /\n/,
	  $node->safe_psql('live',
		'SELECT clock_timestamp(); SELECT unnest(master_keys_in_use) FROM ' . $STATUS);
	wait_until(
		sub {
			return !$node->safe_psql('live',
				"SELECT count(*) FROM pg_stat_activity WHERE datname = 'live' AND xact_start < '$now'");
		}) or die 'an old transaction does not end';
	my %used = map { $_ => 1 } @used;
	$count{'lines taken out'} += grep { !$used{ fingerprint($_) } } lines();
	return write_key($path, join '', map { "$_\n" } grep { $used{ fingerprint($_) } } lines());
}

my $RESEAL = "CALL keyrot.reseal($BATCH)";

# Ends reseal() at a random moment, and returns whether it came to that.
sub interrupt
{
	my ($how) = @_;
	my $client = client($RESEAL);
	usleep(rand($LATEST_STOP) * 1e6);
	my $victim = "FROM pg_stat_activity WHERE query = '$RESEAL' AND state = 'active'";
	if ($how eq 'kill')
	{
		my $pid = $node->safe_psql('live', "SELECT pid $victim");
		kill 9, $pid if $pid;
	}
	else { $node->safe_psql('live', "SELECT pg_${how}_backend(pid) $victim"); }
	finish($client->{run});
	my @errors = grep { !/^NOTICE:/ } split /\n/, $client->{err};
	return "@errors" =~ /canceling statement|terminating connection|server closed the connection/;
}


# With clients that nothing may disturb.
my @clients = start_clients();
my ($begun, $tries) = (time, 0);
my @wrongs;

sub call
{
	my ($statement) = @_;
	my ($attempt)   = attempts($node, 'live', $statement);
	push @wrongs, "$statement: $attempt->{text}" if $attempt->{sqlstate};
	$count{$statement}++;
	return;
}
$count{$_} = 0 for 'cancel', 'terminate', 'kill', 'ended before', 'lines taken out';
while ($tries++ < $MOST_TRIES && (time - $begun < $SECONDS || $count{cancel} < 3 || $count{terminate} < 3))
{
	trim_key_file();
	call('SELECT keyrot.rotate_data_key()');
	call('SELECT keyrot.rotate_master_key()')                if $tries % 2;
	call('SELECT keyrot.rotate_master_key(rewrap => false)') if $tries % 3 == 0;
	call('SELECT keyrot.rewrap_data_keys()')                 if $tries % 3 == 0;
	my $how = $tries % 2 ? 'cancel' : 'terminate';
	$count{ interrupt($how) ? $how : 'ended before' }++;
	call($RESEAL) if $tries % 4 == 0;
}
$node->safe_psql('live', 'INSERT INTO stop VALUES (1)');
is_deeply([ end_clients(@clients) ],
	[], "no client of $ROTATORS that rotate and $VERIFIERS that verify, with older snapshots, failed");
is_deeply(\@wrongs, [], 'and no call that replaces keys');
cmp_ok($count{rotated}, '>', 0,
	"$count{rotated} rotations, $count{verified} verifications, $count{created} slow transactions");
cmp_ok($count{$_}, '>', 0, "$count{$_} times $_") for sort grep { /^SELECT|^CALL/ } keys %count;
cmp_ok($count{$_}, '>=', 3, "reseal() was interrupted $count{$_} times by $_") for 'cancel', 'terminate';

my $REQUESTS    = q{SELECT count(*) FROM keyrot.request WHERE action <> 'reseal'};
my $CREDENTIALS = q{
	SELECT md5(string_agg(id || version || modified_at, ',' ORDER BY kind, id)) FROM keyrot.credentials};

# What all of it comes to, as a list of what is wrong.
sub wrongs_at_the_end
{
	my @found;
	my $before   = $node->safe_psql('live', $CREDENTIALS);
	my $requests = $node->safe_psql('live', $REQUESTS);
	push @found, "unreadable: $_" for grep { $_ } $node->safe_psql('live', 'SELECT unreadable()');
	my ($reseal) = attempts($node, 'live', $RESEAL);
	push @found, "reseal: $reseal->{text}" if $reseal->{sqlstate};
	my $data_keys = $node->safe_psql(
		'live', q{
		SELECT (SELECT count(*) FROM keyrot.data_key), count(DISTINCT get_byte(s, 3) * 256 + get_byte(s, 4))
		  FROM (SELECT secret AS s FROM keyrot.app UNION ALL SELECT previous_secret FROM keyrot.app
		        UNION ALL SELECT secret FROM keyrot.zone UNION ALL SELECT previous_secret FROM keyrot.zone) AS s});
	push @found, "data keys, and those in use: $data_keys" if $data_keys ne '1|1';
	push @found, "then unreadable: $_" for grep { $_ } $node->safe_psql('live', 'SELECT unreadable()');
	push @found, 'versions or times differ' if $before ne $node->safe_psql('live', $CREDENTIALS);
	push @found, 'other requests were recorded' if $requests ne $node->safe_psql('live', $REQUESTS);
	push @found, "a gap in the versions of $_" for split /\n/, $node->safe_psql(
		'live', q{
		SELECT c.id FROM keyrot.credentials AS c
		  JOIN (SELECT target, count(*) AS n, count(DISTINCT version) AS versions,
		               min(version) AS first, max(version) AS last
		          FROM keyrot.request WHERE version IS NOT NULL GROUP BY target) AS r ON r.target = c.id
		 WHERE c.id !~ '^chain' AND (n, versions, first, last) IS DISTINCT FROM (c.version, c.version, 1, c.version)}
	);
	push @found, "status: $_"
	  for grep { /reseal|wrapped by/ }
	  split /\n/, $node->safe_psql('live', 'SELECT unnest(problems) FROM ' . $STATUS);
	return @found;
}
$node->safe_psql('live', 'SELECT keyrot.rewrap_data_keys()');
is_deeply([ wrongs_at_the_end() ],
	[], 'at the end each secret opens, no version is missing, and one data key is left');


# With kill -9, which takes everybody's session.
my $CHECKPOINTER = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
for my $kill (1 .. $KILLS)
{
	my $checkpointer = $node->safe_psql('postgres', $CHECKPOINTER);
	@clients = start_clients();
	wait_until(
		sub {
			call('SELECT keyrot.rotate_data_key()');
			return interrupt('kill');
		}) or die 'reseal() was not to be killed';
	$count{kill}++;
	wait_until(
		sub {
			my $now = eval { $node->safe_psql('postgres', $CHECKPOINTER) } // '';
			return $now ne '' && $now ne $checkpointer;
		}) or BAIL_OUT('the server does not come back');
	end_clients(@clients);
	is_deeply([ wrongs_at_the_end() ],
		[], "after kill -9 in reseal(), number $kill, nothing is lost, and the next call moves the rest");
}
is_deeply(\@wrongs, [], 'no other call failed');
note join ', ', map { "$_: $count{$_}" } sort keys %count;

done_testing();

# Failover in the middle of rotations: the primary is killed and its standby promoted.  A synchronous standby
# has every rotation that was acknowledged, an asynchronous one all but the last; neither has anything by
# halves, and each opens every credential with its copy of the key file, before its promotion and after it.
#
# Why not pg_regress: it takes servers that stream to each other, are killed and promoted.
#
# KEYROT_SEED repeats the random numbers of a run.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use KeyrotLoad;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# Each server that is promoted is the next one's primary.  Where WAL is held, it stops being sent a moment
# before the end; else it flows to the last.
my @FAILOVERS = (
	{ synchronous_commit => 'local',        order => 'killed, then promoted', wal => 'held' },
	{ synchronous_commit => 'local',        order => 'promoted, then killed', wal => 'flowing' },
	{ synchronous_commit => 'remote_apply', order => 'killed, then promoted', wal => 'held' },
	{ synchronous_commit => 'on',           order => 'promoted, then killed', wal => 'flowing' });
my $TRIES          = 200;
my $LONGEST_MOMENT = 0.5;    # seconds
my $APPLIED        = 50;     # rotations that are verified on the standby at once
my $SECRET         = 'a-secret-that-stays-the-same';

my $folder = PostgreSQL::Test::Utils::tempdir();

sub key_path { return "$folder/" . $_[0]->name . '.key'; }

my $primary = PostgreSQL::Test::Cluster->new('server_0');
$primary->init(allows_streaming => 1, extra => [ '--no-locale', '--encoding=UTF8' ]);
$primary->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'keyrot'
keyrot.database = 'live'
keyrot.zone_rate_limit = 0
keyrot.master_key_file = '@{[ key_path($primary) ]}'
hot_standby_feedback = on
log_statement = none
END
$primary->start;
add_databases($primary, 'live');
my $load = KeyrotLoad->new($primary, 'live', positions => 1);
$load->prepare;
$primary->safe_psql('live', "SELECT FROM keyrot.create_app('Fixed', 'app-fixed', '$SECRET'); SELECT keyrot.create_zone_key('zone-applied')");
my $key = slurp_file(key_path($primary));

# A standby of the primary, with a copy of its key file.
sub new_standby
{
	my ($number) = @_;
	my $standby = PostgreSQL::Test::Cluster->new("server_$number");
	$primary->backup("for_$number");
	$standby->init_from_backup($primary, "for_$number", has_streaming => 1);
	write_key(key_path($standby), $key);
	$standby->append_conf('postgresql.conf', "keyrot.master_key_file = '" . key_path($standby) . "'");
	$standby->start;
	return $standby;
}

# Has commits wait for the standby, where they are to.
sub set_synchronous
{
	my ($standby, $level) = @_;
	my $name = $standby->name;
	my $names = $level eq 'local' ? '' : $name;
	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_commit = '$level'");
	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$names'");
	$primary->reload;
	my $state = $names ? 'sync' : 'async';
	$primary->poll_query_until('postgres',
		"SELECT state = 'streaming' AND sync_state = '$state' FROM pg_stat_replication WHERE application_name = '$name'")
	  or BAIL_OUT("$name is not a standby of that kind");
	return;
}

my $fixed = "SELECT keyrot.verify_app_string('app-fixed', 'm', '" . sign_text($SECRET, 'm') . q{'),
	keyrot.verify_app_string('app-fixed', 'm', keyrot.sign_string_for_app('app-shared', 'm'))};

# In one snapshot, since rotations go on meanwhile.
my $all_verify = q{
	BEGIN ISOLATION LEVEL REPEATABLE READ;
	SELECT count(*) FILTER (WHERE sound), count(*) FROM (
		SELECT CASE kind WHEN 'app' THEN keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))
		                 ELSE keyrot.verify_zone_string(id, 'm', keyrot.sign_string_for_zone(id, 'm')) END AS sound
		  FROM keyrot.credentials WHERE state = 'current' OFFSET 0) AS c;
	COMMIT};

sub check_verification
{
	my ($node, $when) = @_;
	my ($sound, $all) = split /\|/, $node->safe_psql('live', $all_verify);
	is($sound, $all, "$when the standby verifies for each of $all credentials");
	is($node->safe_psql('live', $fixed), 't|f', "$when also what was signed elsewhere, and nothing else");
	return;
}

# With remote_apply, what is acknowledged is in force on the standby.
sub check_applied
{
	my ($standby) = @_;
	my ($here, $there) = map { $_->background_psql('live') } $primary, $standby;
	my ($old, $wrong) = ('', 0);
	for (1 .. $APPLIED)
	{
		my ($secret, $signature) = split /\|/, $here->query_safe(
			q{SELECT secret_key FROM keyrot.refresh_zone_key('zone-applied')}) . '|'
		  . $here->query_safe(q{SELECT keyrot.sign_string_for_zone('zone-applied', 'm')});
		my $answer = $there->query_safe(
			"SELECT keyrot.verify_zone_string('zone-applied', 'm', '$signature'), keyrot.verify_zone_string('zone-applied', 'm', '$old')");
		$wrong++ if $answer ne 't|f';
		$old = $signature;
	}
	$_->quit for $here, $there;
	is($wrong, 0, "remote_apply: each of $APPLIED rotations was in force on the standby once it was acknowledged");
	return;
}

# Kills the primary and promotes the standby.  The process that sends WAL may have to be killed, too: one
# that is held does not notice that its server is gone.
sub fail_over
{
	my ($standby, $failover) = @_;
	my $waits  = $failover->{synchronous_commit} ne 'local';
	my $sender = $primary->safe_psql('live', 'SELECT pid FROM pg_stat_replication');
	if ($failover->{wal} eq 'held')
	{
		kill 'STOP', $sender or BAIL_OUT('nobody sends WAL');
		$load->wait_for($TRIES) unless $waits;
		usleep(1_000_000 * between_zero_and($LONGEST_MOMENT));
	}
	$standby->promote if $failover->{order} eq 'promoted, then killed';
	$primary->kill9;
	kill 9, $sender;
	$standby->promote if $failover->{order} eq 'killed, then promoted';
	return;
}

my $missing = 0;
for my $number (1 .. @FAILOVERS)
{
	my $failover = $FAILOVERS[ $number - 1 ];
	my $level    = $failover->{synchronous_commit};
	my $kind     = $level eq 'local' ? 'asynchronous' : 'synchronous';
	subtest "failover $number: $kind ($level), $failover->{order}, WAL $failover->{wal}" => sub {
		my $standby = new_standby($number);
		set_synchronous($standby, $level);
		check_applied($standby) if $level eq 'remote_apply';

		my $session = $standby->background_psql('live');
		$load->begin;
		$load->wait_for($TRIES);
		check_verification($standby, 'before its promotion');
		is($session->query_safe($fixed), 't|f', 'so does a session that will outlive it');
		usleep(1_000_000 * between_zero_and($LONGEST_MOMENT));
		fail_over($standby, $failover);
		ok($load->wait_for_end, 'every client notices');

		if   ($kind eq 'synchronous') { $load->check_acknowledged($standby); }
		else                          { $missing += $load->check_prefix($standby); }
		check_verification($standby, 'after its promotion');
		$load->check_whole($standby);
		$load->check_failures($standby);

		# It goes on as a primary.
		$primary = $standby;
		$load->move_to($standby);
		$load->check_repeated($standby);
		is( $session->query_safe(
				"SELECT count(*) FROM keyrot.reset_app_secret('app-fixed', new_app_secret => '$SECRET-', grace_period => '1h');"
				  . " SELECT count(*) FROM keyrot.reset_app_secret('app-fixed', new_app_secret => '$SECRET')"),
			"1\n1",
			'that session rotates');
		$session->quit;
		my $id = $standby->safe_psql('live', q{SELECT public.failing('unknown-to-all')});
		ok(wait_until(sub { $standby->safe_psql('live', "SELECT outcome FROM keyrot.request WHERE request_id = '$id'") eq 'P0002' }),
			'failed requests are recorded');
		$load->check_whole($standby);
		is(slurp_file(key_path($standby)), $key, 'with the key file that it was given');
	};
}

# The last one has nobody to wait for, and serves clients as well as the first one did.
$load->begin;
$load->wait_for($TRIES);
$load->kill_clients;
$load->repeat_at_once;
ok($load->wait_for_end, 'the last server promoted serves clients');
$load->check_acknowledged($primary);
$load->check_whole($primary);
is($primary->safe_psql('live', 'SELECT count(*) FROM keyrot.data_key'), 1, 'it is all under one data key');
my $totals = $load->{totals};
cmp_ok($missing, '>', 0,
	@FAILOVERS . " failovers: of $totals->{acknowledged} acknowledged rotations $missing were lost,"
	  . ' all of them where the standby was asynchronous');

done_testing();

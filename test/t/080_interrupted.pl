# Rotations that wait, and are then given up: by a timeout, by cancelling, by ending the session.  Nothing
# is changed by them, and the error has the RequestId.
#
# Why not pg_regress: it takes sessions that hold locks, others that are cancelled or ended from outside,
# and the server's log, where alone the error of an ended session stands.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('waits', conf => "log_error_verbosity = verbose\n");
add_databases($node, 'held');
my $old = 'the-secret-that-stays-in-force';
$node->safe_psql('held', <<"END");
SELECT FROM keyrot.create_app('App', 'app-1', '$old');
SELECT FROM keyrot.create_app('Other', 'app-2', '$old');
SELECT FROM keyrot.create_zone_key('zone-1');
SELECT FROM keyrot.add_gateway('zone-1', 'gate-1');
CREATE ROLE regress_owner;
END
my $state = q{
	SELECT * FROM keyrot.app ORDER BY app_key;
	SELECT * FROM keyrot.zone ORDER BY zone_id;
	SELECT * FROM keyrot.gateway ORDER BY gateway_id;
	SELECT count(*) FROM keyrot.request WHERE action <> 'describe_app_security';};
my $before    = $node->safe_psql('held', $state);
my $signature = sign_text($old, 'm');
my $sound     = qq{SELECT keyrot.verify_app_string('app-1', 'm', '$signature')};

# One session holds everything: both apps, the zone, and an AppKey and a gateway that are new.
my $holder = $node->background_psql('held');
$holder->query_safe(
	q{
	BEGIN;
	SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => 'the-secret-of-the-holder');
	SELECT FROM keyrot.refresh_zone_key('zone-1');
	SELECT FROM keyrot.create_app('New', 'app-new');
	SELECT FROM keyrot.create_zone_key('zone-new');});

# Every call that has to wait for it.
my %waiting = (
	reset_app_secret                => q{reset_app_secret('app-1')},
	'reset_app_secret to an AppKey' => q{reset_app_secret('app-2', 'app-new')},
	create_app                      => q{create_app('Mine', 'app-new')},
	modify_app                      => q{modify_app('app-1', 'Another')},
	set_app_owner                   => q{set_app_owner('app-1', 'regress_owner')},
	delete_app                      => q{delete_app('app-1')},
	end_app_grace                   => q{end_app_grace('app-1')},
	disable_app                     => q{disable_app('app-1')},
	set_app_policy                  => q{set_app_policy('app-1', lifetime => '1 day')},
	create_zone_key                 => q{create_zone_key('zone-new')},
	refresh_zone_key                => q{refresh_zone_key('zone-1', '1 hour')},
	modify_zone_key => q{modify_zone_key('zone-1', 'bm90IGEgc2VjcmV0IGF0IGFsbCwganVzdCAzMiBieXQ=')},
	set_zone_owner  => q{set_zone_owner('zone-1', 'regress_owner')},
	delete_zone_key => q{delete_zone_key('zone-1')},
	end_zone_grace  => q{end_zone_grace('zone-1')},
	disable_zone    => q{disable_zone('zone-1')},
	set_zone_policy => q{set_zone_policy('zone-1', lifetime => '1 day')},
	add_gateway     => q{add_gateway('zone-1', 'gate-2')},
	remove_gateway  => q{remove_gateway('zone-1', 'gate-1')});
my @names = sort keys %waiting;
for my $limit ([ lock_timeout => '55P03' ], [ statement_timeout => '57014' ])
{
	my ($setting, $sqlstate) = @$limit;
	my (undef, @results) =
	  attempts($node, 'held', "SET $setting = '50ms'", map { "SELECT * FROM keyrot.$waiting{$_}" } @names);
	for my $i (0 .. $#names)
	{
		my ($function) = $names[$i] =~ /^(\w+)/;
		like(
			"$results[$i]{sqlstate} $results[$i]{context}",
			qr/^$sqlstate .*keyrot request $REQUEST_ID: $function\b/s,
			"$names[$i] obeys $setting");
	}
	my ($go_on, $read) = (
		attempts(
			$node,                   'held',
			"SET $setting = '50ms'", "SELECT * FROM keyrot.$waiting{reset_app_secret}",
			$sound,                  q{SELECT app_secret FROM keyrot.describe_app_security('app-1')})
	)[ 2, 3 ];
	is("$go_on->{output} $read->{output}",
		"t $old", 'the session goes on; verifying and reading wait for nobody');
}
my ($first, $last) = (
	attempts(
		$node, 'held', 'BEGIN',
		"SELECT FROM keyrot.reset_app_secret('app-2')",
		"SET lock_timeout = '50ms'",
		"SELECT keyrot.reset_app_secret('app-1')",
		'SELECT 1'))[ 3, 4 ];
is("$first->{sqlstate} $last->{sqlstate}", '55P03 25P02', 'in a transaction block it all fails');

# Cancelled and ended from outside, while waiting.
sub waiter
{
	my ($call)  = @_;
	my $session = $node->background_psql('held', on_error_stop => 0);
	my $pid     = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/waiting/,
		"\\set VERBOSITY verbose\n\\echo waiting\nSELECT * FROM keyrot.$call;\n");
	$node->poll_query_until('held', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid")
	  or die 'it does not wait';
	return ($session, $pid);
}

my ($cancelled, $cancelled_pid) = waiter($waiting{reset_app_secret});
$node->safe_psql('held', "SELECT pg_cancel_backend($cancelled_pid)");
is($cancelled->query($sound), 't', 'a session whose reset was cancelled goes on');
like(
	$cancelled->{stderr},
	qr/57014: .*keyrot request $REQUEST_ID: reset_app_secret/s,
	'its error is 57014, with the RequestId');
$cancelled->quit;

my $log_start = -s $node->logfile;
my ($ended, $ended_pid) = waiter($waiting{refresh_zone_key});
is($node->safe_psql('held', "SELECT pg_terminate_backend($ended_pid, 30000)"),
	't', 'a session that waits can be ended');
eval { $ended->quit };
like(
	slurp_file($node->logfile, $log_start),
	qr/57P01: .*keyrot request $REQUEST_ID: refresh_zone_key/s,
	'the log has its RequestId');

# The one in the middle of it all is ended, too: nothing of what it did is left.
my ($next, $next_pid) = waiter($waiting{'reset_app_secret to an AppKey'});
my $holder_pid = $holder->query_safe('SELECT pg_backend_pid()');
is($node->safe_psql('held', $state), $before, 'nothing of all that has changed anything');
is($node->safe_psql('held', "SELECT pg_terminate_backend($holder_pid, 30000)"),
	't', 'the one who rotated is ended');
eval { $holder->quit };
like($next->query_safe(q{SELECT 'freed'}), qr/freed/, 'whoever waited for it goes on');
$next->quit;
is($node->safe_psql('held', $sound), 't', 'the old secret is in force');
is( $node->safe_psql(
		'held',
		q{SELECT string_agg(id || ' ' || version || ' ' || state, ', ' ORDER BY id COLLATE "C") FROM keyrot.credentials}
	),
	'app-1 1 current, app-2 1 retired, app-new 2 current, zone-1 1 current',
	'the waiting reset got the AppKey, nothing else was changed');
is( $node->safe_psql(
		'held', q{
		SELECT FROM keyrot.reset_app_secret('app-1');
		SELECT version FROM keyrot.describe_app_security('app-1')}),
	2,
	'and the next reset makes the next version');

# A client that is gone: its transaction ends with it.
my $gone     = $node->background_psql('held');
my $gone_pid = $gone->query_safe(q{SELECT pg_backend_pid()});
$gone->query_safe(
	q{BEGIN; SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => 'the-secret-of-one-who-is-gone')}
);
$gone->{run}->kill_kill;
$node->poll_query_until('held', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $gone_pid")
  or die 'it is still there';
is( $node->safe_psql(
		'held', q{
		SELECT version FROM keyrot.describe_app_security('app-1');
		SELECT keyrot.reset_app_secret('app-1') IS NOT NULL;
		SELECT version FROM keyrot.describe_app_security('app-1')}),
	"2\nt\n3",
	"a client's death undoes what it had not committed");

done_testing();

# Processes killed at random moments, in many rounds, while clients rotate: the postmaster, a backend, keyrot's
# worker and launcher, the clients themselves.  Whatever was acknowledged is there, once; nothing is there by
# halves; what was repeated after a lost connection was done once.  Meanwhile an administrator replaces master
# key and data keys, over and over.
#
# Why not pg_regress: it takes a server that is killed and comes up again.
#
# KEYROT_SEED repeats the random numbers of a run.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use KeyrotLoad;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# How the rounds end, in random order, and how often each way.
my %ROUNDS = (
	'kill -9 of the postmaster'         => 5,
	'kill -9 of a backend that rotates' => 5,
	q{kill -9 of keyrot's worker}       => 3,
	q{kill -9 of keyrot's launcher}     => 2,
	'kill -9 of the clients'            => 2,
	q{end of keyrot's worker}           => 1,
	'immediate restart'                 => 1,
	'fast restart'                      => 1);
my $TRIES          = 150;
my $LONGEST_MOMENT = 0.8;    # seconds, after so many tries

my $node = new_server('kills', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'live'
keyrot.request_queue_size = 65536
keyrot.zone_rate_limit = 0
restart_after_crash = on
log_statement = none
END
add_databases($node, 'live');
my $load = KeyrotLoad->new($node, 'live', administrators => 1);
$load->prepare;

# Sends a signal to a process that may be gone before it is sent; the code finds the next one.
sub signal
{
	my ($signal, $code) = @_;
	wait_until(sub { my $pid = $code->(); $pid && kill $signal, $pid }) or BAIL_OUT('there is no such process');
	return;
}

sub rotating_backend
{
	my @pids = split /\n/, $node->safe_psql(
		'live', q{
		SELECT pid FROM pg_stat_activity
		 WHERE (state = 'active' AND query LIKE '%keyrot.re%' OR state = 'idle in transaction') AND pid <> pg_backend_pid()});
	return @pids ? $pids[ between_zero_and(scalar @pids) ] : 0;
}

# Whatever the way, no client lives on.
my %END = (
	'kill -9 of the postmaster'         => sub { $node->kill9; },
	'kill -9 of a backend that rotates' => sub { signal(9, \&rotating_backend); },
	q{kill -9 of keyrot's worker}       => sub { signal(9, sub { server_process($node, 'keyrot worker') }); },
	q{kill -9 of keyrot's launcher}     => sub { signal(9, sub { server_process($node, 'keyrot launcher') }); },
	'kill -9 of the clients'            => sub { $load->kill_clients; },
	q{end of keyrot's worker}           => sub {
		signal('TERM', sub { server_process($node, 'keyrot worker') }) for 1 .. 2;
		$load->kill_clients;
	},
	'immediate restart' => sub { $node->stop('immediate'); },
	'fast restart'      => sub { $node->stop('fast'); });
my %SERVER_STAYS = map { $_ => 1 } 'kill -9 of the clients', q{end of keyrot's worker};
my %STARTED_HERE = map { $_ => 1 } 'kill -9 of the postmaster', 'immediate restart', 'fast restart';

# Has a request fail, and waits until that is on record.
sub check_recording
{
	my ($name) = @_;
	my $id = $node->safe_psql('live', q{SELECT public.failing('unknown-to-all')});
	ok(wait_until(sub { $node->safe_psql('live', "SELECT outcome FROM keyrot.request WHERE request_id = '$id'") eq 'P0002' }), $name);
	return;
}

my @ways = random_order(map { ($_) x $ROUNDS{$_} } sort keys %ROUNDS);
for my $round (1 .. @ways)
{
	my $how = $ways[ $round - 1 ];
	subtest "round $round: $how" => sub {
		$load->begin;
		$load->wait_for($TRIES);
		usleep(1_000_000 * between_zero_and($LONGEST_MOMENT));
		$END{$how}->();
		$load->repeat_at_once if $SERVER_STAYS{$how};
		ok($load->wait_for_end, 'every client notices');
		start_again($node) if $STARTED_HERE{$how};
		wait_for_server($node, 'live');

		$load->check_acknowledged($node);
		if   ($SERVER_STAYS{$how}) { $load->check_all_failures($node); }
		else                       { $load->check_failures($node); }
		$load->check_answers;
		$load->check_repeated($node);
		$load->check_whole($node);
		check_recording('failed requests go on being recorded');
	};
}
my $totals = $load->{totals};
my $made   = $node->safe_psql('live', 'CALL keyrot.reseal(); SELECT max(id) FROM keyrot.data_key');
is($node->safe_psql('live', 'SELECT count(*) FROM keyrot.data_key'), 1, "after $made data keys it is all under the last one");
my $masters = () = slurp_file(key_file($node)) =~ /^[0-9a-f]{64}$/mg;
cmp_ok($masters, '>', 1, "and $masters master keys are in the file");
$load->check_whole($node);
is( $node->safe_psql('live', 'SELECT count(*) - count(DISTINCT request_id) FROM keyrot.request'),
	0,
	'of ' . $node->safe_psql('live', 'SELECT count(*) FROM keyrot.request') . ' requests each has one row');
cmp_ok($totals->{acknowledged}, '>=', 0.9 * $totals->{tried},
	@ways . " rounds: $totals->{tried} rotations were tried, $totals->{acknowledged} of them acknowledged, none lost");
cmp_ok($totals->{answered}, '>=', 1,
	"$totals->{repeated} calls were repeated, $totals->{answered} of them had been done;"
	  . " of $totals->{untold} whose answer was lost $totals->{untold_done} had");
cmp_ok($totals->{failed_recorded}, '>=', 1,
	"$totals->{failed} requests failed, $totals->{failed_recorded} of them are on record: a crash loses what waits");

done_testing();

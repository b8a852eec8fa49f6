# Crashes with synchronous_commit = off: what clients were told is done may be gone, but only what was
# committed last, after the last flush, and never one half of what belongs together.
#
# Why not pg_regress: it takes a server that is killed and comes up again.  What a crash loses here is WAL
# that was still in the server's memory, so nothing but the server has to crash.  How long WAL stays there
# is up to the WAL writer, which writes whatever fills a page: so it is held, for a crash to lose more.
#
# KEYROT_SEED repeats the random numbers of a run.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use KeyrotLoad;
use Test::More;
use Time::HiRes qw(usleep);

# How the rounds end, and whether keyrot's worker is kept busy meanwhile: its commits are flushed, and all
# before them.
my @ROUNDS = (
	[ 'kill -9 of the postmaster', 'idle' ],
	[ 'kill -9 of a backend',      'idle' ],
	[ 'kill -9 of the postmaster', 'idle' ],
	[ 'kill -9 of the postmaster', 'busy' ],
	[ 'kill -9 of a backend',      'busy' ],
	[ 'fast restart',              'idle' ]);
my %WEIGHTS        = (idle => { failing => 0, undone => 0 }, busy => {});
my $TRIES          = 150;
my $LONGEST_MOMENT = 0.5;    # seconds, twice

# Nothing is written before it must be.
my $node = new_server('unflushed', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'live'
keyrot.zone_rate_limit = 0
restart_after_crash = on
log_statement = none
synchronous_commit = off
wal_writer_delay = 10s
wal_buffers = 64MB
bgwriter_lru_maxpages = 0
autovacuum = off
END
add_databases($node, 'live');
my $load = KeyrotLoad->new($node, 'live', positions => 1);
$load->prepare;
$node->safe_psql('live', q{SELECT keyrot.create_zone_key('zone-durable'); CHECKPOINT});

# Stops the WAL writer while it waits, so that it holds no lock, and returns its process id.
sub hold_wal_writer
{
	my $idle = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter' AND wait_event = 'WalWriterMain'};
	my $pid;
	wait_until(
		sub {
			$pid = $node->safe_psql('live', $idle) or return 0;
			kill 'STOP', $pid;
			return 1 if $node->safe_psql('live', $idle);
			kill 'CONT', $pid;
			return 0;
		}) or BAIL_OUT('there is no idle WAL writer');
	return $pid;
}

# Each is given the WAL writer, which gets no further chance to write but in an orderly end.
my %END = (
	'kill -9 of the postmaster' => sub { $node->kill9; kill 9, $_[0]; start_again($node); },
	'kill -9 of a backend' => sub {
		my $victim = $node->safe_psql('live',
			q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1});
		kill 9, $victim or BAIL_OUT('nobody rotates');
		kill 9, $_[0];
	},
	'fast restart' => sub { kill 'CONT', $_[0]; $node->stop('fast'); $node->start; });

sub moment
{
	usleep(1_000_000 * between_zero_and($LONGEST_MOMENT));
	return;
}

my %missing = map { $_->[1] => 0 } @ROUNDS;
for my $round (1 .. @ROUNDS)
{
	my ($how, $worker) = @{ $ROUNDS[ $round - 1 ] };
	subtest "round $round: $how, worker $worker" => sub {
		my $wal_writer = hold_wal_writer();
		$load->begin(%{ $WEIGHTS{$worker} });
		$load->wait_for($TRIES);
		moment();
		my @before  = $load->told_so_far;
		my $durable = $node->safe_psql('live',
			q{SET synchronous_commit = on; SELECT request_id FROM keyrot.refresh_zone_key('zone-durable')});
		$load->wait_for($TRIES);
		moment();
		$END{$how}->($wal_writer);
		ok($load->wait_for_end, 'every client notices');
		wait_for_server($node, 'live');

		my $missing = $load->check_prefix($node);
		$missing{$worker} += $missing;
		is($missing, 0, 'an orderly end loses nothing') if $how eq 'fast restart';
		my $list = join ',', @before, $durable;
		is( $node->safe_psql('live',
				"SELECT count(*) FROM keyrot.request WHERE request_id = ANY ('{$list}') AND outcome = 'ok'"),
			@before + 1,
			'a rotation with synchronous_commit = on is there, and all '
			  . @before
			  . ' requests that were acknowledged before it');
		$load->check_whole($node);
		$load->check_failures($node);
		$load->check_repeated($node);
		$load->check_whole($node);
	};
}
my $totals = $load->{totals};
cmp_ok($missing{idle}, '>', 0, @ROUNDS . " crashes and restarts: of $totals->{acknowledged} acknowledged rotations"
	  . " $totals->{missing} were lost, $missing{idle} of them while the worker was idle");

done_testing();

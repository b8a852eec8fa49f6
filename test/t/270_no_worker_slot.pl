# Where no slot for a background worker is free, failed requests wait: the log and status() say so, once and
# plainly, nothing spins, and they are recorded when a slot is free.
#
# Why not pg_regress: it takes servers with as few worker processes as there can be.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Protocol;
use Test::More;

my $NO_SLOT = qr/LOG:  [^\n]*could not start the background worker of keyrot/;

# One slot for the launcher, one for whoever comes first.
my $node = new_server('slots', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
max_worker_processes = 2
max_logical_replication_workers = 0
END
add_databases($node, 'served');

my $count = 0;

sub fail_once
{
	my $target = 'unknown-' . ++$count;
	my ($done) = attempts($node, 'served', "SELECT * FROM keyrot.refresh_zone_key('$target')");
	is($done->{sqlstate}, 'P0002', "$target: a request fails");
	return $target;
}

sub is_recorded
{
	my ($target, $name) = @_;
	ok(wait_until(sub { $node->safe_psql('served', "SELECT count(*) FROM keyrot.request WHERE target = '$target'") }), $name);
	return;
}

# What status() says of requests.
sub degraded
{
	return $node->safe_psql('served',
		q{SELECT string_agg(d, '|') FROM } . $STATUS . q{, unnest(problems) AS d WHERE d LIKE '%requests%'});
}

sub lines_since
{
	my ($place) = @_;
	my @lines = slurp_file($node->logfile, $place) =~ /$NO_SLOT/g;
	return scalar @lines;
}

# Hundredths of a second that the launcher has computed.
sub spent_by_launcher
{
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my ($pid) = map { /^\s*(\d+) postgres: (?:\S+: )?keyrot launcher/ ? $1 : () } split /\n/, `ps -o pid=,args= --ppid $postmaster`;
	my @fields = split / /, slurp_file("/proc/$pid/stat") =~ s/\A.*\) //r;
	return $fields[11] + $fields[12];
}

is_recorded(fail_once(), 'with a slot that is free it is recorded');

# A worker of a parallel query takes the slot, in two turns: the log is told once in each.
for my $turn (1, 2)
{
	my $free = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('keyrot worker', 'parallel worker')};
	ok(wait_until(sub { $node->safe_psql('postgres', $free) eq '0' }), "turn $turn: the slot is free");
	my $query = Protocol->connect($node, 'postgres');
	$query->query(q{SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')});
	$query->send_query('SELECT pg_sleep(600)');
	ok(wait_until(sub { $node->safe_psql('postgres', $free) eq '1' }), "turn $turn: a parallel query takes it");

	my $place  = -s $node->logfile;
	my $target = fail_once();
	ok(wait_until(sub { lines_since($place) }), "turn $turn: the log says that there is none");
	like(degraded(), qr/the background worker failed, see the server log/, "turn $turn: and so does status()");
	is($node->safe_psql('served', 'SELECT requests_waiting FROM ' . $STATUS), '1', "turn $turn: the request waits");
	my $before = spent_by_launcher();
	sleep 4;
	cmp_ok(spent_by_launcher() - $before, '<', 100, "turn $turn: in four seconds the launcher computes for less than one");
	is(lines_since($place), 1, "turn $turn: and the log was told once");

	$node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . $query->pid . ')');
	is($query->answer->{sqlstate}, '57014', "turn $turn: the query ends");
	$query->close;
	is_recorded($target, "turn $turn: and the request is recorded");
	ok(wait_until(sub { degraded() eq '' }), "turn $turn: nothing is degraded any more");
}

# No slot for the launcher: PostgreSQL's own launcher of logical replication is registered first.
my $place = -s $node->logfile;
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 4");
$node->restart;
like(slurp_file($node->logfile, $place), qr/too many background workers/, 'without a slot for the launcher the server starts');
is(degraded(), '', 'nothing is amiss as long as nothing waits');
my $lost = fail_once();
like(degraded(), qr/keyrot's launcher does not run; max_worker_processes may be too low/, 'then status() says what to do');
is($node->safe_psql('served', "SELECT count(*) FROM keyrot.request WHERE target = '$lost'"), '0', 'the request is not recorded');
like(slurp_file($node->logfile, $place), qr/keyrot request $REQUEST_ID: refresh_zone_key/, 'but in the log');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
is_recorded(fail_once(), 'with slots enough the next one is recorded');
$node->stop;
done_testing();

# Where failed requests are not recorded, status() says so, the server log has them, and all else works.
#
# Why not pg_regress: it takes servers that are preloaded and configured in several ways, and a standby
# that is promoted.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('plain', init => { allows_streaming => 1 }, conf => "keyrot.database = 'served'\nkeyrot.request_queue_size = 100\nkeyrot.zone_rate_limit = 0");
add_databases($node, 'served');
$node->safe_psql('served', q{SELECT keyrot.create_zone_key('zone')});

sub degraded
{
	my ($server) = @_;
	return $server->safe_psql('served', q{SELECT requests_waiting, requests_lost, refusals_omitted, d
		FROM } . $STATUS . q{, unnest(problems) AS d WHERE d LIKE 'failed requests%'});
}

# A failure and a rollback; both are in the server log by their RequestId, and not in the request log.
sub is_only_logged
{
	my ($name) = @_;
	my ($failed, undef, $undone) = attempts($node, 'served', q{SELECT * FROM keyrot.refresh_zone_key('unknown')},
		'BEGIN', q{SELECT request_id, secret_key FROM keyrot.refresh_zone_key('zone')}, 'ROLLBACK');
	my ($id) = $failed->{context} =~ /keyrot request ($REQUEST_ID): refresh_zone_key/;
	my ($undone_id, $secret) = split /\|/, $undone->{output};
	my $log = slurp_file($node->logfile);
	like($log, qr/CONTEXT:  keyrot request $id: refresh_zone_key/, "$name, a failed request is in the server log");
	like($log, qr/LOG:  keyrot request $undone_id: refresh_zone_key of "zone" was rolled back/, 'as is a disclosure that was rolled back');
	is(index($log, $secret), -1, 'without the secret');
	is($node->safe_psql('served', q{SELECT count(*) FROM keyrot.request WHERE outcome <> 'ok'}), '0', 'nothing is recorded');
	return;
}

is(degraded($node), '|||failed requests are in the server log only: keyrot is not in shared_preload_libraries',
	'without preloading, status() says that failures are in the server log only');
is($node->safe_psql('served', q{SELECT FROM } . $STATUS . q{; SHOW keyrot.database; SHOW keyrot.request_queue_size}), "served\n100",
	'the settings are known, though they do nothing');
my (undef, $set) = attempts($node, 'served', 'SELECT FROM ' . $STATUS, q{SET keyrot.database = 'other'});
is($set->{sqlstate}, '55P02', 'and nobody may set them');
is_only_logged('without preloading');
unlike(slurp_file($node->logfile), qr/WARNING.*keyrot/, 'and no session complains of the settings');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'keyrot'\nkeyrot.database = ''");
$node->restart;
is(degraded($node), '|||failed requests are in the server log only: keyrot.database is not set',
	'without keyrot.database status() says so');
is_only_logged('without keyrot.database');

# A standby has nothing to record, and begins when it is promoted.
$node->append_conf('postgresql.conf', "keyrot.database = 'served'");
$node->restart;
is(degraded($node), '', 'with both, status() has nothing to complain of');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
my ($refused) = attempts($standby, 'served', q{SELECT * FROM keyrot.refresh_zone_key('zone')});
is($refused->{sqlstate}, '25006', 'on a standby a request fails');
is(degraded($standby), '0|0|0|failed requests are in the server log only, until the server has left recovery', 'is not queued, and status() says so');
unlike(slurp_file($standby->logfile), qr/keyrot worker/, 'no worker tries its luck there');
$standby->promote;
my ($failed) = attempts($standby, 'served', q{SELECT * FROM keyrot.refresh_zone_key('unknown')});
my ($id) = $failed->{context} =~ /keyrot request ($REQUEST_ID)/;
ok(wait_until(sub { $standby->safe_psql('served', "SELECT outcome FROM keyrot.request WHERE request_id = '$id'") eq 'P0002' }),
	'once it is promoted, failures are recorded');
is($standby->safe_psql('served', q{SELECT count(*) FROM keyrot.request WHERE outcome = '25006'}), '0', 'and what failed before is not');

done_testing();

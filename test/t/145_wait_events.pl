# What keyrot waits for has a name in pg_stat_activity, from PostgreSQL 17 on; before, an extension's waits are all called
# Extension.  (Bulk rotation and reseal wait for locks alone, which 410_bulk.pl looks at.)
#
# Why not pg_regress: it takes a worker, a command that is slow, and sessions that watch.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir_short();
write_key("$folder/key", random_hex(64) . "\n");

my $node = new_server('waiting', conf => <<"END");
shared_preload_libraries = 'keyrot'
keyrot.database = 'seen'
keyrot.master_key_command = 'while [ -e $folder/slow ]; do sleep 0.1; done; cat $folder/key'
keyrot.master_key_timeout = '1min'
END
add_databases($node, 'seen');
my $names = $node->pg_version >= 17;
sub sql { return $node->safe_psql('seen', $_[0]); }
sub expected { return 'Extension|' . ($names ? $_[0] : 'Extension'); }

# The worker waits for half a second for more to do before it leaves.
my $seen = wait_until(
	sub {
		attempts($node, 'seen', q{SELECT keyrot.end_zone_grace('none')});
		for (1 .. 20)
		{
			my $events = sql(q{SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE backend_type = 'keyrot worker' AND wait_event_type = 'Extension'});
			return $events if $events ne '';
		}
		return '';
	});
is($seen, expected('KeyrotWorkerMain'), 'the worker');

# The command of the master key, which is run anew where the server has just started.
append_to_file("$folder/slow", '');
$node->restart;
my $session = $node->background_psql('seen');
my $pid     = $session->query_safe('SELECT pg_backend_pid()');
$session->query_until(qr/called/, "\\echo called\nSELECT app_id FROM keyrot.create_app('App');\n");
my $event = "SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = $pid";
is(wait_until(sub { my $events = sql($event); return $events =~ /^Extension/ ? $events : '' }), expected('KeyrotMasterKeyCommand'), 'the command of the master key');
unlink "$folder/slow" or die $!;
like($session->query_safe('SELECT 1'), qr/^1$/m, 'which ends');
is(sql($event), 'Client|ClientRead', 'and with it the wait');
$session->quit;

# The launcher is in no database, so pg_stat_activity has no row of it.
SKIP:
{
	skip 'before PostgreSQL 17 there is no view of names', 1 unless $names;
	my $known = q{SELECT string_agg(name, ', ' ORDER BY name) FROM pg_wait_events WHERE name LIKE 'Keyrot%'};
	ok(wait_until(sub { sql($known) eq 'KeyrotLauncherMain, KeyrotMasterKeyCommand, KeyrotWorkerMain' }), 'pg_wait_events knows these names')
	  or is(sql($known), '');
}

done_testing();

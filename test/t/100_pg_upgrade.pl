# A server upgraded by pg_upgrade, which knows nothing of the key file: its databases are there, and the
# cluster learns from them which master key it depends on.
#
# Why not pg_regress: it takes a second cluster, and programs that work on stopped servers.
#
# Where one version of PostgreSQL alone is at hand, it is upgraded to itself.

use strict;
use warnings FATAL => 'all';
use Cwd qw(getcwd);
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $old    = new_server('before');
my $bindir = $old->config_data('--bindir');
plan skip_all => "there is no pg_upgrade in $bindir" unless -x "$bindir/pg_upgrade";

add_databases($old, 'kept');
my $secret = 'the-secret-from-before-all-this';
my $sound  = qq{SELECT keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($secret, 'm') ]}')};
$old->safe_psql('kept', <<"END");
CREATE ROLE regress_owner;
SELECT FROM keyrot.create_app('App', 'app-0');
SELECT FROM keyrot.reset_app_secret('app-0', 'app-1', '$secret', '1 day');
SELECT FROM keyrot.set_app_owner('app-1', 'regress_owner');
SELECT FROM keyrot.create_zone_key('zone-1');
GRANT USAGE ON SCHEMA keyrot TO regress_owner;
GRANT EXECUTE ON FUNCTION keyrot.describe_app_security TO regress_owner;
END
my $rows = q{
	SELECT * FROM keyrot.app ORDER BY app_key; SELECT * FROM keyrot.zone; SELECT * FROM keyrot.data_key;
	SELECT * FROM keyrot.request ORDER BY request_id; SELECT last_value FROM keyrot.app_id;};
my $before = $old->safe_psql('kept', $rows);
my $key    = slurp_file(key_file($old));

my $new = new_server('after');
$old->stop;
$new->stop;
my $cwd = getcwd();
chdir PostgreSQL::Test::Utils::tempdir();
command_ok(
	[   'pg_upgrade', '--no-sync',    '-b', $bindir,        '-B', $bindir,
		'-d',         $old->data_dir, '-D', $new->data_dir, '-s', $new->host,
		'-p',         $old->port,     '-P', $new->port ],
	'pg_upgrade');
chdir $cwd;
$new->start;
is($new->safe_psql('kept', $rows), $before, 'every row is there');

# The key file stays where it was; nothing replaces it.
my $path = key_file($new);
my @lost = attempts($new, 'kept', $sound, q{SELECT * FROM keyrot.create_app('New')});
is(join(' ', map { $_->{sqlstate} } @lost), '55000 55000',
	'without the key file, using a secret gives 55000');
is(scalar(grep { $_->{message} =~ /"\Q$path\E"/ && $_->{hint} =~ /backup/ } @lost),
	2, 'by name and with a hint');
is_deeply([ key_files_of($new) ], [], 'and nothing is made');

write_key($path, $key);
is($new->safe_psql('kept', $sound), 't', 'with the file the credentials are good');
is( $new->safe_psql(
		'kept',
		q{SET ROLE regress_owner; SELECT app_secret, version FROM keyrot.describe_app_security('app-1')}),
	"$secret|2",
	'their owner reads them');
is( $new->safe_psql(
		'kept', q{
		SELECT keyrot.reset_app_secret('app-1') IS NOT NULL, keyrot.delete_zone_key('zone-1') IS NOT NULL;
		SELECT app_id FROM keyrot.create_app('Next')}),
	"t|t\n2",
	'rotation and numbers go on');

done_testing();

# pg_dump and restore: into another database, and into another cluster with and without the master key.
#
# Why not pg_regress: it takes programs of the client's side, a second cluster, and roles that are missing
# there or have other OIDs.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = new_server('source');
my $target = new_server('target');
my $folder = PostgreSQL::Test::Utils::tempdir();
add_databases($source, 'origin');

# The roles get other OIDs at the target, where one of them is missing.
$source->safe_psql('postgres', <<'END');
CREATE ROLE regress_blue;
CREATE ROLE regress_green;
CREATE ROLE regress_missing;
CREATE ROLE regress_operator;
END
$target->safe_psql('postgres', <<'END');
CREATE ROLE regress_green;
CREATE ROLE regress_operator;
CREATE ROLE regress_between;
CREATE ROLE regress_blue;
END
my @oids = map { $_->safe_psql('postgres', q{SELECT 'regress_blue'::regrole::oid}) } $source, $target;
isnt($oids[0], $oids[1], 'the owner has another OID at the target');

my ($first, $second, $third) = map { "the-${_}-secret-of-some-app" } qw(first second third);
$source->safe_psql('origin', <<"END");
SELECT FROM keyrot.create_app('Plain', app_key => 'app-plain', app_secret => '$first', description => 'as it is');
SELECT FROM keyrot.reset_app_secret('app-plain', new_app_secret => '$second');
SELECT FROM keyrot.reset_app_secret('app-plain', new_app_secret => '$third');
SELECT FROM keyrot.set_app_owner('app-plain', 'regress_blue');
SELECT FROM keyrot.create_app('Grace', app_key => 'app-grace', app_secret => '$first');
SELECT FROM keyrot.reset_app_secret('app-grace', new_app_secret => '$second', grace_period => '1 day');
SELECT FROM keyrot.set_app_owner('app-grace', 'regress_missing');
SELECT FROM keyrot.create_app('Renamed', app_key => 'app-old', app_secret => '$first');
SELECT FROM keyrot.reset_app_secret('app-old', 'app-new', '$second', '1 day');
SELECT FROM keyrot.create_app('Gone', app_key => 'app-gone');
SELECT FROM keyrot.delete_app('app-gone');
SELECT FROM keyrot.create_zone_key('zone-live');
SELECT FROM keyrot.add_gateway('zone-live', 'gate-live');
SELECT FROM keyrot.refresh_zone_key('zone-live', '1 day');
SELECT FROM keyrot.set_zone_owner('zone-live', 'regress_blue');
SELECT FROM keyrot.create_zone_key('zone-gone');
SELECT FROM keyrot.refresh_zone_key('zone-gone');
SELECT FROM keyrot.delete_zone_key('zone-gone');
END
my $zone_key = $source->safe_psql('origin', q{SELECT secret_key FROM keyrot.describe_zone_key('zone-live')});
my %signature = (
	first  => sign_text($first,    'm'),
	second => sign_text($second,   'm'),
	third  => sign_text($third,    'm'),
	zone   => sign_text($zone_key, 'm'));

# Every row of every table, and the number that the next app gets.
sub contents_of
{
	my ($node, $database) = @_;
	return $node->safe_psql(
		$database, q{
		SELECT * FROM keyrot.app ORDER BY app_key;
		SELECT * FROM keyrot.zone ORDER BY zone_id;
		SELECT * FROM keyrot.gateway ORDER BY zone_id, gateway_id;
		SELECT * FROM keyrot.data_key ORDER BY id;
		SELECT * FROM keyrot.request ORDER BY request_id;
		SELECT last_value, is_called FROM keyrot.app_id;});
}
my $contents = contents_of($source, 'origin');
my $good_key = slurp_file(key_file($source));

# Dumps in each format, taken at once.
my %dump = map { $_ => "$folder/dump.$_" } qw(plain custom directory);
$source->command_ok([ 'pg_dump', '-F', $_, '-f', $dump{$_}, 'origin' ], "pg_dump, format $_")
  for sort keys %dump;
$source->command_ok([ 'pg_dump', '--data-only', '-f', "$folder/dump.data", 'origin' ], 'pg_dump --data-only');
my $text = slurp_file($dump{plain});
unlike($text, qr/\Q$second\E|\Q$third\E/,         'a dump holds no secret');
unlike($text, qr/@{[ substr $good_key, 0, 32 ]}/, 'nor the master key');

# The same as clients see it; the data directory holds nothing else that matters.
sub verifies
{
	my ($node, $database, $name) = @_;
	is( $node->safe_psql(
			$database, qq{
			SELECT keyrot.verify_app_string('app-plain', 'm', '$signature{third}'),
			       keyrot.verify_app_string('app-plain', 'm', '$signature{second}'),
			       keyrot.verify_app_string('app-grace', 'm', '$signature{second}'),
			       keyrot.verify_app_string('app-grace', 'm', '$signature{first}'),
			       keyrot.verify_app_string('app-new', 'm', '$signature{second}'),
			       keyrot.verify_app_string('app-old', 'm', '$signature{first}'),
			       keyrot.verify_app_string('app-new', 'm', '$signature{first}'),
			       keyrot.verify_zone_string('zone-live', 'm', '$signature{zone}'),
			       keyrot.verify_gateway_string('zone-live', 'gate-live', 'm', '$signature{zone}'),
			       keyrot.verify_gateway_string('zone-live', 'gate-none', 'm', '$signature{zone}')}),
		't|f|t|t|t|t|f|t|t|f',
		"$name: current versions and those in grace verify, older ones do not");
	return;
}

sub goes_on
{
	my ($node, $database, $name) = @_;
	verifies($node, $database, $name);
	is( $node->safe_psql(
			$database, q{SELECT app_secret, version FROM keyrot.describe_app_security('app-plain')}),
		"$third|3",
		"$name: a secret is read");
	is( $node->safe_psql($database, q{SELECT app_id FROM keyrot.create_app('Next', app_key => 'app-next')}),
		$node->safe_psql($database, q{SELECT max(app_id) + 1 FROM keyrot.app WHERE app_key <> 'app-next'}),
		"$name: numbers of apps go on");
	my @taken = attempts($node, $database,
		map { "SELECT * FROM keyrot.create_app('Again', app_key => '$_')" }
		  qw(app-plain app-old app-new app-gone));
	is(join(' ', map { $_->{sqlstate} } @taken), join(' ', ('23505') x 4), "$name: AppKeys stay taken");
	is( $node->safe_psql(
			$database, q{
			SELECT keyrot.reset_app_secret('app-plain') IS NOT NULL, keyrot.end_app_grace('app-new') IS NOT NULL,
			       keyrot.create_zone_key('zone-gone') IS NOT NULL;
			SELECT FROM keyrot.refresh_zone_key('zone-live');
			SELECT string_agg(id || ' ' || version, ', ' ORDER BY id) FROM keyrot.credentials
			 WHERE id IN ('app-plain', 'zone-gone', 'zone-live');}
		),
		"t|t|t\napp-plain 4, zone-gone 3, zone-live 3",
		"$name: versions go on, also a deleted zone's");
	is( $node->safe_psql(
			$database, qq{
			SELECT keyrot.verify_app_string('app-plain', 'm', '$signature{third}'),
			       keyrot.verify_app_string('app-old', 'm', '$signature{first}'),
			       keyrot.verify_app_string('app-grace', 'm', '$signature{first}'),
			       keyrot.verify_app_string('app-plain', 'm', keyrot.sign_string_for_app('app-plain', 'm'))}),
		'f|f|t|t',
		"$name: rotating and ending a grace make the old versions invalid");
	return;
}

# 1. Into other databases of the same cluster.
$source->safe_psql('postgres', 'CREATE DATABASE plain');
$source->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'plain', '-f', $dump{plain} ],
	'plain dump restored');
is(contents_of($source, 'plain'), $contents, 'all rows came back, the request log among them');
goes_on($source, 'plain', 'another database');

add_databases($source, 'data');
$source->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'data', '-f', "$folder/dump.data" ],
	'data restored where the extension was');
is(contents_of($source, 'data'), $contents, 'all rows came back');
verifies($source, 'data', 'data only');

# Where a session had found no data key before, COPY tells it nothing.
add_databases($source, 'waiting');
my $session = $source->background_psql('waiting');
my $verify  = qq{SELECT keyrot.verify_app_string('app-plain', 'm', '$signature{third}')};
is($session->query_safe($verify), 'f', 'a session asks before the restore');
$source->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'waiting', '-f', "$folder/dump.data" ],
	'data restored under a running session');
is($session->query_safe($verify), 't', 'and it verifies afterwards');
$session->quit;

is(contents_of($source, 'origin'), $contents, 'the origin is as it was');

# 2. Into another cluster, which never had a master key.
$target->safe_psql('postgres', 'CREATE DATABASE custom');
$target->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'custom', $dump{custom} ],
	'custom dump restored in another cluster');
is(contents_of($target, 'custom'), $contents, 'all rows came back');
my $path = key_file($target);
my @lost = attempts(
	$target,
	'custom',
	$verify,
	q{SELECT keyrot.verify_app_string('app-unknown', 'm', 's')},
	q{SELECT * FROM keyrot.describe_app_security('app-plain')},
	q{SELECT * FROM keyrot.create_app('New', app_key => 'app-never')},
	q{SELECT keyrot.reset_app_secret('app-plain')},
	q{SELECT keyrot.sign_for_zone('zone-live', 'm')},
	q{SELECT keyrot.create_zone_key('zone-gone')});
is( join(' ', map { $_->{sqlstate} } @lost),
	join(' ', ('55000') x @lost),
	'without the key file, using a secret gives 55000');
is(scalar(grep { $_->{message} =~ /"\Q$path\E" does not exist/ && $_->{hint} =~ /backup/ } @lost),
	scalar @lost, 'the error names the file, and its hint the backup');
is_deeply([ key_files_of($target) ], [], 'no key file is made');
is(contents_of($target, 'custom'), $contents, 'nor a data key, nor anything else');

# A database of that cluster with no tie to the restored one may have a master key made, or take one that it is
# given.  The cluster's file then needs the origin's line, too.
my ($refused) = attempts($target, 'custom', 'SELECT keyrot.create_master_key()');
is($refused->{sqlstate}, '55000', 'create_master_key() makes none either where there are data keys');
add_databases($target, 'own');
unlink $path;
my $create_own =
  q{SELECT FROM keyrot.create_app('Own', app_key => 'app-own', app_secret => 'the-secret-of-our-own')};
my ($own) = attempts($target, 'own', $create_own);
is($own->{sqlstate}, '55000', 'nothing is made in another database, either');
like($own->{hint}, qr/create_master_key\(\), or restore/, 'which knows both ways out');
my $own_key = random_hex(64) . "\n";
write_key($path, $own_key);
$target->safe_psql('own', $create_own);
my ($other) = attempts($target, 'custom', $verify);
is($other->{sqlstate}, '55000', 'with a key file of its own the other cluster gives 55000');
like(
	"$other->{message} $other->{hint}",
	qr/@{[ fingerprint(substr $good_key, 0, 64) ]}/,
	'and tells which master key it lacks');
write_key($path, $own_key . $good_key);
verifies($target, 'custom', 'with the line of the origin added');
is($target->safe_psql('own', q{SELECT app_secret FROM keyrot.describe_app_security('app-own')}),
	'the-secret-of-our-own', 'and its own credentials open as before');

# 3. Owners.  Verification has gone on; the rights have not.
sub as_role
{
	my ($role, @statements) = @_;
	my (undef, @results)    = attempts($target, 'custom', "SET ROLE $role", @statements);
	return join ' ', map { $_->{sqlstate} . $_->{output} } @results;
}

$target->safe_psql('custom', <<'END');
GRANT USAGE ON SCHEMA keyrot TO regress_blue, regress_green, regress_operator;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_blue, regress_green, regress_operator;
GRANT SELECT ON keyrot.credentials TO regress_blue, regress_green, regress_operator;
ALTER DATABASE custom SET keyrot.operator_role = 'regress_operator';
END
my @acts = (
	q{SELECT app_secret FROM keyrot.describe_app_security('app-plain')},
	q{SELECT 'modified' FROM keyrot.modify_app('app-plain')},
	q{SELECT version FROM keyrot.describe_zone_key('zone-live')},
	q{SELECT count(*) FROM keyrot.credentials});
is(as_role('regress_blue',     @acts), '42501 42501 42501 0', 'an owner whose OID is another may not act');
is(as_role('regress_green',    @acts), '42501 42501 42501 0', 'nor may anybody else');
is(as_role('regress_operator', @acts), "$third modified 2 7", 'operators act on all');
my ($denied) = (attempts($target, 'custom', 'SET ROLE regress_blue', $acts[0]))[1];
like($denied->{hint}, qr/rebind_owners/, 'the hint names rebind_owners()');

# The OID of the owner at the origin may be anybody's here.
$target->safe_psql('custom',
	q{UPDATE keyrot.app SET owner = 'regress_green'::regrole WHERE owner_name = 'regress_missing'});
my $missing = q{SELECT 'modified' FROM keyrot.modify_app('app-grace')};
is(as_role('regress_green', $missing),
	'42501', 'a role that happens to have the OID of a missing owner may not act');
is(as_role('regress_operator', $missing), 'modified', 'operators may');
$target->safe_psql('custom',
	q{UPDATE keyrot.app SET owner = 4294967295 WHERE owner_name = 'regress_missing'});

is(as_role('regress_operator', 'SELECT keyrot.rebind_owners()'), '42501',
	'rebind_owners() is for superusers');
is($target->safe_psql('custom', 'SELECT keyrot.rebind_owners()'), 2,       'it finds the owner by name');
is(as_role('regress_blue', @acts),            "$third modified 2 2",       'who may act then');
is(as_role('regress_green', @acts, $missing), '42501 42501 42501 0 42501', 'and nobody else');
is(as_role('regress_operator', $missing), 'modified',
	'the credentials of a missing role stay with operators');
$target->safe_psql('custom', 'CREATE ROLE regress_missing');
is($target->safe_psql('custom', 'SELECT keyrot.rebind_owners()'), 1, 'until the role is made');
$target->safe_psql('custom',
	'GRANT USAGE ON SCHEMA keyrot TO regress_missing; GRANT EXECUTE ON FUNCTION keyrot.modify_app TO regress_missing'
);
is(as_role('regress_missing', $missing), 'modified', 'and may act');

# 4. Into another cluster that has the key file, and nothing but it.
$target->safe_psql('postgres', 'CREATE DATABASE directory');
$target->safe_psql('postgres', 'DROP DATABASE own');
write_key($path, $good_key);
$target->command_ok([ 'pg_restore', '--exit-on-error', '-j', 2, '-d', 'directory', $dump{directory} ],
	'directory dump restored in a cluster that has the key file');
is(contents_of($target, 'directory'), $contents, 'all rows came back');
goes_on($target, 'directory', 'another cluster');
is($target->safe_psql('directory', 'SELECT count(*) FROM keyrot.data_key'), 1, 'no other data key was made');

done_testing();

# Every way to dump and to restore that pg_dump, pg_dumpall and pg_restore have: formats, parallel jobs,
# sections, one transaction, over what is there already, under another superuser, and while rotations go on.
#
# Why not pg_regress: it takes programs of the client's side, and a second cluster.
#
# What a restored installation can do, without its master key and with other owners, is 030's.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $APPS  = 40;
my $ZONES = 20;

my $node   = new_server('formats', conf => "keyrot.zone_rate_limit = 0\nfsync = off\nmax_wal_senders = 0\nwal_level = minimal\n");
my $folder = PostgreSQL::Test::Utils::tempdir();
add_databases($node, 'origin');
$node->safe_psql('origin', <<"END");
SELECT count(keyrot.create_app('App', 'app-' || i, 'the-secret-of-the-app-' || i)) FROM generate_series(1, $APPS) AS i;
SELECT count(keyrot.reset_app_secret('app-' || i, grace_period => '1 day')) FROM generate_series(1, $APPS, 3) AS i;
SELECT count(keyrot.reset_app_secret('app-' || i, 'new-' || i, grace_period => '1 day')) FROM generate_series(1, $APPS, 4) AS i;
SELECT count(keyrot.create_zone_key('zone-' || i)) FROM generate_series(1, $ZONES) AS i;
SELECT count(keyrot.add_gateway('zone-' || i, 'gate-' || i)) FROM generate_series(1, $ZONES) AS i;
SELECT count(keyrot.reset_app_secret('app-2', client_token => 'token-' || i)) FROM generate_series(1, 5) AS i;
END

# All rows of all tables, and where the sequence stands.
sub contents_of
{
	my ($database, $where) = @_;
	return ($where // $node)->safe_psql(
		$database, q{
		SELECT * FROM keyrot.app ORDER BY app_key;
		SELECT * FROM keyrot.zone ORDER BY zone_id;
		SELECT * FROM keyrot.gateway ORDER BY zone_id, gateway_id;
		SELECT * FROM keyrot.data_key ORDER BY id;
		SELECT * FROM keyrot.request ORDER BY request_id, target;
		SELECT * FROM keyrot.retry ORDER BY client_token;
		SELECT last_value, is_called FROM keyrot.app_id;});
}

# How many credentials can be read: their secrets open.
sub readable_in
{
	my ($database, $where) = @_;
	return ($where // $node)->safe_psql(
		$database, q{
		SELECT count(app_secret) FROM keyrot.credentials, keyrot.describe_app_security(id) WHERE kind = 'app' AND state = 'current';
		SELECT count(secret_key) FROM keyrot.credentials, keyrot.describe_zone_key(id) WHERE kind = 'zone' AND state = 'current';});
}

my $rows     = contents_of('origin');
my $count    = () = $rows =~ /^/mg;
my $readable = "$APPS\n$ZONES";
is(readable_in('origin'), $readable, 'the origin has its credentials');
$rows = contents_of('origin');

sub dump_of
{
	my ($name, @options) = @_;
	my $path = "$folder/$name";
	$node->command_ok([ 'pg_dump', @options, '-f', $path, 'origin' ], "pg_dump @options");
	return $path;
}

sub restore
{
	my ($how, $database, @command) = @_;
	$node->command_ok([ @command[ 0, 1 ], '-d', $database, @command[ 2 .. $#command ] ], $how);
	return;
}

sub is_complete
{
	my ($database, $name, $where) = @_;
	is(contents_of($database, $where), $rows, "$name: all $count rows came back");
	is(readable_in($database, $where), $readable, "$name: all secrets open");
	($where // $node)->safe_psql($database, q{SELECT keyrot.reset_app_secret('app-2'), keyrot.create_zone_key('zone-next')});
	is(readable_in($database, $where), "$APPS\n" . ($ZONES + 1), "$name: it goes on");
	return;
}

my %dump = (
	plain       => dump_of('plain',     '-Fp'),
	custom      => dump_of('custom',    '-Fc'),
	tar         => dump_of('tar',       '-Ft'),
	directory   => dump_of('directory', '-Fd', '-j', 2),
	schema_only => dump_of('schema',    '-Fc', '--schema-only'),
	data_only   => dump_of('data',      '-Fc', '--data-only'),
	clean       => dump_of('clean',     '-Fp', '--clean', '--if-exists'),
	inserts     => dump_of('inserts',   '-Fp', '--rows-per-insert=7'),
	alone       => dump_of('alone',     '-Fp', '-n', 'keyrot', '-e', 'keyrot'),
	nothing     => dump_of('nothing',   '-Fp', '-n', 'keyrot'));
unlike(slurp_file($dump{nothing}), qr/^(?:COPY|CREATE)/m, 'what pg_dump -n keyrot dumps is nothing, as the documentation says');
is(contents_of('origin'), $rows, 'dumping changes nothing');

my @psql    = ('psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f');
my @restore = ('pg_restore', '--exit-on-error');
my %into    = (
	plain     => [ [ @psql, $dump{plain} ] ],
	inserts   => [ [ @psql, $dump{inserts} ] ],
	alone     => [ [ @psql, $dump{alone} ] ],
	custom    => [ [ @restore, '--single-transaction', $dump{custom} ] ],
	tar       => [ [ @restore, $dump{tar} ] ],
	directory => [ [ @restore, '-j', 2, $dump{directory} ] ],
	sections  => [ map { [ @restore, "--section=$_", $dump{custom} ] } qw(pre-data data post-data) ],
	twice     => [ [ @restore, $dump{schema_only} ], [ @restore, $dump{data_only} ] ]);
for my $name (sort keys %into)
{
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	restore("$name: @$_[0, 2 .. $#$_]", $name, @$_) for @{ $into{$name} };
	is_complete($name, $name);
}

# Over an installation with rows of its own, which it replaces.
for my $case ([ 'replaced', @restore, '--clean', '--if-exists', '--single-transaction', $dump{custom} ], [ 'replaced_by_text', @psql, $dump{clean} ])
{
	my ($name, @command) = @$case;
	add_databases($node, $name);
	$node->safe_psql($name, q{SELECT FROM keyrot.create_app('Own', 'app-1'); SELECT FROM keyrot.create_zone_key('zone-own')});
	restore("$name: --clean --if-exists", $name, @command);
	is_complete($name, $name);
}

# Definitions only: an installation without anything.
$node->safe_psql('postgres', 'CREATE DATABASE empty');
restore('definitions only', 'empty', @restore, $dump{schema_only});
is(contents_of('empty'), '1|f', 'definitions only: no row came along');
$node->safe_psql('empty', q{SELECT FROM keyrot.create_app('First', 'app-1')});
is(readable_in('empty'), "1\n0", 'definitions only: it can be used');

# Data into an installation that has some, with numbers of apps and a data key of its own: refused whole, or what has
# come is of no use; what was there stays in any case.
for my $way ([ 'in one transaction', 'existing', '--single-transaction' ], [ 'row by row', 'mixed' ])
{
	my ($how, $name, @options) = @$way;
	add_databases($node, $name);
	$node->safe_psql($name, q{SELECT FROM keyrot.create_app('Own', 'app-own', 'the-secret-of-our-own')});
	my $before = contents_of($name);
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-d', $name, @options, $dump{data_only} ], '>', \$out, '2>', \$err);
	like($err, qr/app_app_id_key/, "$how: a second app of the same number is refused");
	like($err, qr/data_key_pkey/, "$how: and so is a second data key") unless @options;
	is(contents_of($name), $before, "$how: nothing has changed") if @options;
	is($node->safe_psql($name, q{SELECT app_secret FROM keyrot.describe_app_security('app-own')}),
		'the-secret-of-our-own', "$how: what was there stays readable");
}
my @foreign = attempts($node, 'mixed',
	map { ("SELECT * FROM keyrot.describe_zone_key('$_')", "SELECT keyrot.verify_zone_string('$_', 'm', 's')") } qw(zone-1 zone-2 zone-3));
is(join(' ', map { $_->{sqlstate} } @foreign), join(' ', ('XX001') x 6), 'what came without its data key does not open: XX001, 6 calls');
$node->safe_psql('mixed', q{SELECT keyrot.refresh_zone_key('zone-3')});
is($node->safe_psql('mixed', q{SELECT keyrot.verify_zone_string('zone-3', 'm', keyrot.sign_string_for_zone('zone-3', 'm'))}),
	't', 'until it is rotated');

# Under another superuser, who then owns the extension.
$node->safe_psql('postgres', <<'END');
CREATE ROLE regress_chief SUPERUSER LOGIN;
CREATE ROLE regress_tenant LOGIN;
CREATE DATABASE chief OWNER regress_chief;
END
restore('under another superuser', 'chief', @restore, '-U', 'regress_chief', '--no-owner', $dump{tar});
is($node->safe_psql('chief', q{SELECT extowner::regrole FROM pg_extension WHERE extname = 'keyrot'}), 'regress_chief', 'the extension is theirs');
is_complete('chief', 'another superuser');
$node->safe_psql('chief', <<'END');
GRANT USAGE ON SCHEMA keyrot TO regress_tenant;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_tenant;
END
my @tenant = attempts($node, 'chief', 'SET ROLE regress_tenant', q{SELECT FROM keyrot.create_app('Mine', 'app-mine')},
	q{SELECT keyrot.reset_app_secret('app-mine')}, q{SELECT keyrot.reset_app_secret('app-3')});
is(join('|', map { $_->{sqlstate} } @tenant), '|||42501', 'and rights are as they were');

# The whole cluster, with its roles, into another one.
my $all = "$folder/all.sql";
$node->safe_psql('postgres', "DROP DATABASE $_")
  for sort(keys %into), qw(replaced replaced_by_text empty existing mixed chief);
$node->command_ok([ 'pg_dumpall', '-f', $all ], 'pg_dumpall');
my $other = new_server('other', conf => "keyrot.zone_rate_limit = 0\nfsync = off\n");
write_key(key_file($other), slurp_file(key_file($node)));
# The role that initdb made is there already.
my ($said, $errors) = ('', '');
$other->psql('postgres', undef, extra_params => [ '-f', $all ], stdout => \$said, stderr => \$errors, on_error_stop => 0);
is(scalar(grep { /ERROR/ && !/role ".*" already exists/ } split /\n/, $errors), 0, 'restored without another error') or diag($errors);
is_complete('origin', 'pg_dumpall', $other);
$other->stop;


# While rotations go on

my $script = "$folder/rotate.sql";
open my $file, '>', $script or die "cannot write $script: $!";
print $file <<"END";
\\set i random(0, $APPS / 4 - 1) * 4 + 2
\\set z random(1, $ZONES)
SELECT keyrot.reset_app_secret('app-' || :i, grace_period => '1 hour');
BEGIN;
SELECT keyrot.refresh_zone_key('zone-' || :z);
SELECT keyrot.reset_app_secret('app-' || :i);
END;
END
close $file or die "cannot write $script: $!";
my $rotating = IPC::Run::start([ 'pgbench', '-n', '-c', 2, '-T', 60, '-f', $script, '-h', $node->host, '-p', $node->port, 'origin' ],
	'>', \my $pgbench_out, '2>', \my $pgbench_err);
my $requests = sub { return $node->safe_psql('origin', 'SELECT count(*) FROM keyrot.request') };
my ($rotations, @dumps) = (0);
for my $case ([ 'during_1', '-Fc' ], [ 'during_2', '-Fd', '-j', 2 ], [ 'during_3', '-Fp' ])
{
	my ($name, @options) = @$case;
	my $before = $requests->();
	wait_until(sub { $requests->() > $before + 20 });
	push @dumps, [ $name, dump_of($name, @options) ];
	$rotations = $requests->() - $before;
	ok($rotations > 20, "$name: rotations went on: $rotations requests around this dump");
}
$rotating->signal('TERM');
$rotating->finish;
for my $dump (@dumps)
{
	my ($name, $path) = @$dump;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	restore("$name: restored", $name, $name eq 'during_3' ? @psql : @restore, $path);
	is( $node->safe_psql(
			$name, q{
			WITH c AS (SELECT app_key AS id, version FROM keyrot.app WHERE secret IS NOT NULL
			           UNION ALL SELECT zone_id, version FROM keyrot.zone),
			     r AS (SELECT target, count(*) AS made, max(version) AS last FROM keyrot.request
			            WHERE outcome = 'ok' AND version IS NOT NULL AND retry_of IS NULL GROUP BY target)
			SELECT count(*), count(*) FILTER (WHERE c.version <> r.last OR c.version <> r.made)
			  FROM c JOIN r ON r.target = c.id WHERE c.id !~ '^new-';}),
		$APPS - $APPS / 4 + $ZONES . '|0',
		"$name: every version has its request and every request its version");
	is(readable_in($name), $readable, "$name: all secrets open");
}
$node->stop;
done_testing();

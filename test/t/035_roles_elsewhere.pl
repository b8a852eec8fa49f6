# What belongs to roles, and to apps by their number, where it comes to another cluster or database: client_tokens
# where roles have other OIDs; a role whose name cannot be dumped from this database; numbers of apps where the
# sequence was left behind.
#
# Why not pg_regress: it takes programs of the client's side, a second cluster, a database of another encoding, and
# a role that logs in by the bytes of its name.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = new_server('source', conf => "shared_preload_libraries = 'keyrot'\nkeyrot.database = 'origin'\n");
my $target = new_server('target');
my $folder = PostgreSQL::Test::Utils::tempdir();

# The callers are operators, so that they may act wherever the owners are unknown.
sub add_caller
{
	my ($node, $name) = @_;
	$node->safe_psql('postgres', "CREATE ROLE $name IN ROLE regress_operator");
	return;
}

sub let_callers_in
{
	my ($node, $database) = @_;
	$node->safe_psql(
		$database, qq{
		GRANT USAGE ON SCHEMA keyrot TO regress_operator;
		GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret, keyrot.describe_zone_key TO regress_operator;
		ALTER DATABASE $database SET keyrot.operator_role = regress_operator;});
	return;
}

sub oid_of
{
	my ($node, $role) = @_;
	return $node->safe_psql('postgres', "SELECT '$role'::regrole::oid");
}

sub reset_as
{
	my ($node, $database, $role) = @_;
	my (undef, $attempt) = attempts($node, $database, "SET ROLE $role",
		q{SELECT keyrot.reset_app_secret('app-token', client_token => 'token-1')});
	return $attempt;
}

sub version_in
{
	my ($node, $database) = @_;
	return $node->safe_psql($database, q{SELECT version FROM keyrot.app WHERE app_key = 'app-token'});
}

sub restore
{
	my ($node, $database, $file) = @_;
	$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-f', $file ], "restored into $database");
	return;
}

$_->safe_psql('postgres', 'CREATE ROLE regress_operator') for $source, $target;
add_databases($source, 'origin');
add_caller($source, 'regress_alice');
let_callers_in($source, 'origin');

# 1. A client_token where the caller has another OID, and somebody else has the one that it had.
$source->safe_psql('origin', q{SELECT FROM keyrot.create_app('Token', 'app-token')});
my $first = reset_as($source, 'origin', 'regress_alice');
like($first->{output}, qr/\A$REQUEST_ID\z/, 'a call with a client_token');
$source->command_ok([ 'pg_dump', '-f', "$folder/tokens", 'origin' ], 'pg_dump');

add_caller($target, 'regress_alice');
my $wanted = oid_of($source, 'regress_alice');
$target->safe_psql(
	'postgres', qq{
	DO \$\$
	BEGIN
	    FOR i IN 1 .. 5000 LOOP
	        CREATE ROLE regress_bob IN ROLE regress_operator;
	        EXIT WHEN to_regrole('regress_bob')::oid = $wanted;
	        DROP ROLE regress_bob;
	    END LOOP;
	END \$\$;});
is(oid_of($target, 'regress_bob'), $wanted, 'bob has at the target the OID that alice has at the source');
isnt(oid_of($target, 'regress_alice'), $wanted, 'and alice another one');
write_key(key_file($target), slurp_file(key_file($source)));
$target->safe_psql('postgres', 'CREATE DATABASE elsewhere');
restore($target, 'elsewhere', "$folder/tokens");
let_callers_in($target, 'elsewhere');

my $retry = reset_as($target, 'elsewhere', 'regress_alice');
is($retry->{sqlstate}, '42501', q{alice's retry is refused, for who she is cannot be told});
like($retry->{hint}, qr/rebind_owners/, 'with what to do');
is(version_in($target, 'elsewhere'), 2, 'and rotates nothing');
my $bobs = reset_as($target, 'elsewhere', 'regress_bob');
like($bobs->{output}, qr/\A$REQUEST_ID\z/, q{bob's first use of the same token is free});
isnt($bobs->{output}, $first->{output}, 'and a request of his own');
is(version_in($target, 'elsewhere'), 3, 'which rotates');
$target->safe_psql('elsewhere', 'SELECT keyrot.rebind_owners()');
is(reset_as($target, 'elsewhere', 'regress_alice')->{output},
	$first->{output}, q{once roles are bound, alice's retry is answered});
is(reset_as($target, 'elsewhere', 'regress_bob')->{output}, $bobs->{output}, q{and so is bob's});
is(version_in($target, 'elsewhere'), 3, 'and neither rotates');

# 2. A role that was named in a LATIN1 database.
my $jose   = "jos\xe9";
my $secret = 'the-secret-of-an-app';
$source->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
$source->safe_psql('latin',    'CREATE ROLE regress_jose LOGIN SUPERUSER');
$source->safe_psql(
	'origin', qq{
	SELECT FROM keyrot.create_app('Verified', 'app-verified', '$secret');
	SELECT FROM keyrot.create_app('Renamed', 'app-renamed');
	SELECT FROM keyrot.set_app_owner('app-renamed', 'regress_jose');
	SELECT FROM keyrot.create_zone_key('zone-known');});
my $jose_oid = oid_of($source, 'regress_jose');
$source->safe_psql('latin', qq{SET client_encoding = 'LATIN1'; ALTER ROLE regress_jose RENAME TO "$jose"});
my $signature = sign_text($secret, 'm');

sub as_jose
{
	my ($statement) = @_;
	my ($output, $errors) = ('', '');
	$source->psql(
		'origin', "\\set VERBOSITY verbose\n$statement",
		extra_params  => [ '-U', $jose ],
		on_error_stop => 0,
		stdout        => \$output,
		stderr        => \$errors);
	return $errors =~ /(?:ERROR|FATAL):  (\w{5}): (.*)/ ? ($1, $2) : ('', $output);
}

my %refused = (
	create_app        => q{SELECT keyrot.create_app('Jose', 'app-jose')},
	create_zone_key   => q{SELECT keyrot.create_zone_key('zone-jose')},
	reset_app_secret  => q{SELECT keyrot.reset_app_secret('app-verified', client_token => 'token-2')},
	refresh_zone_key  => q{SELECT * FROM keyrot.refresh_zone_key('zone-known')},
	prune_requests    => q{SELECT keyrot.prune_requests('1 day')},
	list_apps         => q{SELECT * FROM keyrot.list_apps()},
	describe_zone_key => q{SET ROLE regress_alice; SELECT * FROM keyrot.describe_zone_key('zone-known')});
for my $function (sort keys %refused)
{
	my ($sqlstate, $message) = as_jose($refused{$function});
	is($sqlstate, '22021', "$function is refused");
	is( $message, qq{name of role with OID $jose_oid is not valid in encoding "UTF8"}, 'and tells whose name');
}
is((as_jose(q{SELECT body ->> 'Code' FROM keyrot.api('ResetAppSecret', '{"AppKey": "app-verified"}')}))[1],
	'InternalError', 'api() answers so');
is((as_jose(qq{SELECT keyrot.verify_app_string('app-verified', 'm', '$signature')}))[1], 't', 'verification goes on');
is((as_jose(q{SELECT keyrot.sign_string_for_app('app-verified', 'm')}))[1], $signature, 'and so does signing');

my @given = attempts(
	$source, 'origin',
	"SELECT keyrot.set_app_owner('app-verified', ${jose_oid}::oid::regrole)",
	"SELECT keyrot.set_zone_owner('zone-known', ${jose_oid}::oid::regrole)",
	'SELECT keyrot.rebind_owners()');
is(join(' ', map { $_->{sqlstate} } @given), '22021 22021 22021', 'nor can it be made an owner');
is($source->safe_psql('origin', q{SELECT string_agg(DISTINCT owner_name, ' ') FROM keyrot.app}),
	$source->safe_psql('origin', q{SELECT current_user || ' regress_jose'}), 'owners are as they were');

my $recorded = q{SELECT count(*) FROM keyrot.request WHERE outcome = '22021'};
ok(wait_until(sub { $source->safe_psql('origin', $recorded) == 11 }), 'the refused requests are on record');
is( $source->safe_psql(
		'origin', qq{
		SELECT DISTINCT caller = '', caller_oid = $jose_oid, request.session_user = '', session_user_oid = $jose_oid
		  FROM keyrot.request WHERE outcome = '22021' ORDER BY 1, 2, 3, 4}),
	"f|f|f|f\nf|f|t|t\nt|t|t|t",
	'without the name, with the OID');
$source->command_ok([ 'pg_dump', '-f', "$folder/names", 'origin' ], 'pg_dump');
my $text = slurp_file("$folder/names");
ok(utf8::decode($text), 'the dump is valid in its encoding');
$target->safe_psql('postgres', 'CREATE DATABASE names');
restore($target, 'names', "$folder/names");
is($target->safe_psql('names', $recorded), 11, 'and every request came along');

# 3. Numbers of apps, where the rows came without the sequence.
my @tables = map { "keyrot.$_" } qw(app zone gateway data_key request retry);
$source->command_ok([ 'pg_dump', '--data-only', (map { ('-t', $_) } @tables), '-f', "$folder/rows", 'origin' ],
	'pg_dump -t');
add_databases($target, 'rows');
restore($target, 'rows', "$folder/rows");
is($target->safe_psql('rows', 'SELECT last_value, is_called FROM keyrot.app_id'), '1|f', 'the sequence stayed behind');
my $greatest = $target->safe_psql('rows', 'SELECT max(app_id) FROM keyrot.app');
is($target->safe_psql('rows', q{SELECT app_id FROM keyrot.create_app('Next', 'app-next')}),
	$greatest + 1, 'numbers go on after those in use');
is($target->safe_psql('rows', q{SELECT app_id FROM keyrot.create_app('Next', 'app-next-2')}), $greatest + 2, 'and on');

done_testing();

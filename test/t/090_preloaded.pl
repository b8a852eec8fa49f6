# The library loaded with the server, and databases of other encodings.
#
# Why not pg_regress: it takes a server that is started with shared_preload_libraries, also with a master
# key file that is no good, and databases in encodings that the one of the tests has not.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('loaded');
add_databases($node, 'served');
my $path   = key_file($node);
my $secret = 'the-secret-of-the-one-app';
my $sound  = qq{SELECT keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($secret, 'm') ]}')};

is($node->safe_psql('served', 'SELECT preloaded FROM ' . $STATUS),
	'f', 'without preloading, status() says so');
is($node->safe_psql('served', qq{SELECT FROM keyrot.create_app('App', 'app-1', '$secret'); $sound}),
	't', 'and all works');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'keyrot'");
$node->restart;
is($node->safe_psql('served', 'SELECT preloaded FROM ' . $STATUS), 't', 'preloaded, status() says that');
is($node->safe_psql('served', $sound),                                  't', 'and all works');
is( $node->safe_psql(
		'served', qq{
		SELECT keyrot.reset_app_secret('app-1') IS NOT NULL;
		SELECT version FROM keyrot.describe_app_security('app-1');
		$sound;
		SELECT keyrot.reset_app_secret('app-1', new_app_secret => '$secret') IS NOT NULL;}),
	"t\n2\nf\nt",
	'rotations, too');

# An ordinary user, who never called keyrot, sees nothing of where the key is.
$node->safe_psql('served', 'CREATE ROLE regress_plain');
my (undef, @hidden) = attempts(
	$node,
	'served',
	'SET ROLE regress_plain',
	'SHOW keyrot.master_key_file',
	q{SELECT count(*) FROM pg_settings WHERE name = 'keyrot.master_key_file'},
	q{SET keyrot.operator_role = 'regress_plain'},
	q{SET keyrot.max_grace = '1 year'});
is( join(' ', map { $_->{sqlstate} . $_->{output} } @hidden),
	'42501 0 42501 42501',
	'the settings are protected from the start');

# Whatever the key file is like, the server starts, and serves all else.
my $good = slurp_file($path);
for my $state (
	[ 'missing'         => sub { } ],
	[ 'empty'           => sub { write_key($path, '') } ],
	[ 'of another key'  => sub { write_key($path, random_hex(64) . "\n") } ],
	[ 'no text'         => sub { write_key($path, "\0\xff" x 2000) } ],
	[ 'readable by all' => sub { write_key($path, $good, oct 644) } ],
	[ 'a directory'     => sub { mkdir $path or die $! } ])
{
	my ($name, $make) = @$state;
	$node->stop;
	unlink $path;
	$make->();
	is($node->start(fail_ok => 1), 1, "with a key file that is $name the server starts");
	my ($verify, $create, $list, $status, $other) = attempts(
		$node, 'served', $sound,
		q{SELECT * FROM keyrot.create_app('App')},
		q{SELECT app_key FROM keyrot.list_apps()},
		q{SELECT preloaded FROM } . $STATUS,
		'SELECT 1');
	is(join(' ', $verify->{sqlstate}, $create->{sqlstate}), '55000 55000', 'using secrets gives 55000');
	is(join(' ', $list->{output}, $status->{output}, $other->{output}), 'app-1 t 1', 'all else works');
	rmdir $path if -d $path;
	write_key($path, $good);
	is($node->safe_psql('served', $sound), 't', 'with the file back it works without a restart');
}

# The same for a setting that leads nowhere.
$node->append_conf('postgresql.conf', "keyrot.master_key_file = '/nowhere/at/all.key'");
$node->restart;
my ($nowhere, $one) = attempts($node, 'served', $sound, 'SELECT 1');
is("$nowhere->{sqlstate} $one->{output}", '55000 1', 'with a setting that leads nowhere the server starts');
like($nowhere->{message}, qr{"/nowhere/at/all.key"}, 'and the error names the file');
$node->append_conf('postgresql.conf', "keyrot.master_key_file = 'keyrot_master.key'");
$node->reload;
is($node->safe_psql('served', $sound), 't', 'a reload sets it right');

# A database without the extension is none of keyrot's business.
my ($plain) = attempts($node, 'postgres', 'SELECT keyrot.status()');
is($plain->{sqlstate}, '3F000', 'where the extension is not installed, there is nothing of it');

# Other encodings: text is hashed as UTF-8, wherever it can be written so.
my $utf8 = "caf\xc3\xa9 \xe2\x82\xac";
my %text = (
	LATIN1    => "caf\xe9",
	LATIN9    => "caf\xe9 \xa4",
	SQL_ASCII => $utf8,
	EUC_JP    => "\xc6\xfc\xcb\xdc",
	UTF8      => $utf8);
my %hashed = (
	LATIN1    => "caf\xc3\xa9",
	LATIN9    => $utf8,
	SQL_ASCII => $utf8,
	EUC_JP    => "\xe6\x97\xa5\xe6\x9c\xac",
	UTF8      => $utf8);
for my $encoding (sort keys %text)
{
	my $database = lc $encoding;
	$node->safe_psql('postgres',
		"CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	$node->safe_psql($database, 'CREATE EXTENSION keyrot');
	my $bytes     = unpack 'H*', $text{$encoding};
	my $literal   = "convert_from('\\x$bytes', '$encoding')";
	my $signature = sign_text($secret, $hashed{$encoding});
	is( $node->safe_psql(
			$database, qq{
			SELECT FROM keyrot.create_app($literal, 'app-1', '$secret', $literal);
			SELECT keyrot.verify_app_string('app-1', $literal, '$signature'),
			       keyrot.sign_string_for_app('app-1', $literal) = '$signature',
			       keyrot.verify_app_string('app-1', $literal || 'x', '$signature'),
			       (SELECT name = $literal AND description = $literal FROM keyrot.credentials),
			       (SELECT count(*) FROM keyrot.list_apps(app_name => $literal));}),
		't|t|f|t|1',
		"in $encoding a text is hashed as UTF-8, and names are what they are");
}
my $no_utf8 = q{convert_from('\xff41', 'SQL_ASCII')};
my ($verify, $sign) = attempts(
	$node, 'sql_ascii',
	"SELECT keyrot.verify_app_string('app-1', $no_utf8, 's')",
	"SELECT keyrot.sign_string_for_app('app-1', $no_utf8)");
is( "$verify->{output} $sign->{sqlstate}",
	'f 22023',
	'what is no text in UTF-8 is not verified, and not signed');
like($sign->{message}, qr/string_to_sign/, 'the error names the parameter');

done_testing();

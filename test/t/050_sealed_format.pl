# What is stored opens by its documentation alone: the master key file, the rows, and another
# implementation of AES.
#
# Why not pg_regress: the master key is in a file of the server's, and PostgreSQL has no AES-GCM to open a
# sealed value with.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => "Perl's CryptX is missing (libcryptx-perl)" unless can_open_sealed();

# The reader itself, against the published vectors of XAES-256-GCM.
for my $vector ([ "\1" x 32, '', 'ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271' ],
	[ "\3" x 32, 'c2sp.org/XAES-256-GCM', '986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d' ])
{
	my ($key,    $aad, $hex) = @$vector;
	my ($subkey, $nonce) = Keyrot::derive($key, 'ABCDEFGHIJKLMNOPQRSTUVWX');
	my ($text,   $tag) =
	  Crypt::AuthEnc::GCM::gcm_encrypt_authenticate('AES', $subkey, $nonce, $aad, 'XAES-256-GCM');
	is(unpack('H*', "$text$tag"), $hex, 'a published vector of XAES-256-GCM');
}

my $node = new_server('format');
add_databases($node, 'sealed', 'other');

# Sealed by way of each function that seals; the longest identifiers and secrets too.
my $long_key      = 'k' x 128;
my $long_secret   = '~' x 128;
my $long_zone     = 'z' x 64;
my $long_zone_key = encode_base64("\xff" x 48, '');
$node->safe_psql('sealed', <<"END");
SELECT FROM keyrot.create_app('Given', 'app-1', 'the-secret-that-was-given');
SELECT FROM keyrot.create_app('Made', 'app-2');
SELECT FROM keyrot.create_app('Long', '$long_key', '$long_secret');
SELECT FROM keyrot.create_app('Old', 'app-3');
SELECT FROM keyrot.reset_app_secret('app-3', 'app-4');
SELECT FROM keyrot.create_app('Often', 'app-5');
SELECT keyrot.reset_app_secret('app-5') FROM generate_series(1, 300);
SELECT FROM keyrot.create_zone_key('zone-1');
SELECT FROM keyrot.create_zone_key('$long_zone', '$long_zone_key');
SELECT FROM keyrot.create_zone_key('zone-2');
SELECT keyrot.refresh_zone_key('zone-2') FROM generate_series(1, 3);
SELECT FROM keyrot.create_zone_key('zone-3');
SELECT FROM keyrot.delete_zone_key('zone-3');
SELECT FROM keyrot.create_zone_key('zone-3');
END

sub bytes { return pack 'H*', $_[0]; }

sub rows
{
	my ($database, $query) = @_;
	return map { [ split /\|/ ] } split /\n/, $node->safe_psql($database, $query);
}

my $master = bytes(substr slurp_file(key_file($node)), 0, 64);
my ($data_key_row) =
  rows('sealed', q{SELECT id, encode(wrapped, 'hex'), encode(master_key, 'hex') FROM keyrot.data_key});
my ($id, $wrapped, $name) = ($data_key_row->[0], bytes($data_key_row->[1]), $data_key_row->[2]);
is($name, fingerprint(unpack 'H*', $master),              'the row of the data key names the master key');
is(unpack('H*', substr $wrapped, 0, 5), '0100000000',     'a wrapped data key is of format 1 and key 0');
is(length $wrapped,                     5 + 24 + 32 + 16, 'and as long as documented');
my $data_key = open_sealed($master, $Keyrot::KIND_DATA_KEY, $id, 1, $wrapped);
is(length($data_key // ''), 32, 'it opens under the master key');

my $credentials = q{
	SELECT 'app', c.app_key, c.version, encode(secret, 'hex'), encode(d.app_secret::bytea, 'hex')
	  FROM keyrot.app AS c, keyrot.describe_app_security(c.app_key) AS d WHERE secret IS NOT NULL
	UNION ALL
	SELECT 'zone', zone_id, c.version, encode(secret, 'hex'), encode(d.secret_key::bytea, 'hex')
	  FROM keyrot.zone AS c, keyrot.describe_zone_key(zone_id) AS d WHERE secret IS NOT NULL
	ORDER BY 1, 2};
my @rows = rows('sealed', $credentials);
my @versions;
for my $row (@rows)
{
	my ($kind, $identifier, $version, $sealed, $secret) = @$row;
	$sealed = bytes($sealed);
	push @versions, "$kind " . substr($identifier, 0, 6) . " $version";
	my $kind_byte = $kind eq 'app' ? $Keyrot::KIND_APP : $Keyrot::KIND_ZONE;
	my $opened    = open_sealed($data_key, $kind_byte, $identifier, $version, $sealed);
	is(unpack('H*', $opened // ''), $secret, "$versions[-1] opens to what describe answers");
	is( unpack('H*', substr $sealed, 0, 5),
		sprintf('01%08x', $id),
		'its header is the format and the data key');
	is(length $sealed, 5 + 24 + length($secret) / 2 + 16, 'its length is as documented');

	# Bound to its row, in each part.
	my @elsewhere = grep { defined } (
		open_sealed($data_key, 3 - $kind_byte, $identifier,      $version,     $sealed),
		open_sealed($data_key, $kind_byte,     "${identifier}x", $version,     $sealed),
		open_sealed($data_key, $kind_byte,     $identifier,      $version + 1, $sealed),
		open_sealed($data_key, $kind_byte,     $identifier, $version, "\1\0\0\0\x7f" . substr $sealed, 5),
		open_sealed($master,   $kind_byte,     $identifier, $version, $sealed));
	is(scalar @elsewhere, 0, 'and it opens for nothing else');
}
is( join(', ', @versions),
	'app app-1 1, app app-2 1, app app-4 2, app app-5 301, app kkkkkk 1, '
	  . 'zone zone-1 1, zone zone-2 4, zone zone-3 2, zone zzzzzz 1',
	'all credentials were looked at');

# The database's own key: what another database sealed does not open here.
$node->safe_psql('other', q{SELECT FROM keyrot.create_app('Given', 'app-1', 'the-secret-that-was-given')});
my ($other) =
  rows('other', q{SELECT encode(secret, 'hex'), encode(wrapped, 'hex') FROM keyrot.app, keyrot.data_key});
my $other_key = open_sealed($master, $Keyrot::KIND_DATA_KEY, 1, 1, bytes($other->[1]));
is(open_sealed($other_key // '', $Keyrot::KIND_APP, 'app-1', 1, bytes($other->[0])),
	'the-secret-that-was-given', "another database's value opens under its own key");
is(open_sealed($data_key, $Keyrot::KIND_APP, 'app-1', 1, bytes($other->[0])), undef,
	'and not under this one');

# A nonce is never used twice, within a session or between two.
my $rotate = q{
	SELECT FROM keyrot.reset_app_secret('app-2');
	SELECT encode(substr(secret, 6, 24), 'hex') FROM keyrot.app WHERE app_key = 'app-2';};
my %nonces =
  map { $_ => 1 } grep { length == 48 } map { split /\n/, $node->safe_psql('sealed', $rotate x 100) } 1 .. 5;
is(scalar keys %nonces, 500, '500 rotations in five sessions use 500 nonces');

done_testing();

# The cryptographic work of a verification, counted: one secret opened and one HMAC computed, be the AppKey
# known, unknown, retired or malformed and the signature right or wrong; a second pair only while a previous version
# is in grace and the current one did not sign.
#
# Why not pg_regress: a library that counts stands between the server and OpenSSL.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder  = PostgreSQL::Test::Utils::tempdir();
my $library = "$folder/count.so";
my $compiler = $ENV{CC} // `pg_config --cc`;
chomp $compiler;
system("$compiler -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -o '$library' '$FindBin::RealBin/count.c' -ldl") == 0
  or die "cannot build $library with $compiler";
open my $counts, '+>:raw', "$folder/counts" or die "cannot write $folder/counts: $!";
syswrite $counts, pack 'q2', 0, 0;
my $node;
{
	local $ENV{LD_PRELOAD}   = join ' ', $library, $ENV{LD_PRELOAD} // ();
	local $ENV{KEYROT_COUNT} = "$folder/counts";
	$node = new_server('counted');
}
add_databases($node, 'live');

sub counted
{
	sysseek $counts, 0, 0;
	sysread $counts, my $bytes, 16;
	return unpack 'q2', $bytes;
}

# A session that has its keys and decoys, so that a call does nothing but its own work.
my $session = $node->background_psql('live', on_error_stop => 1);

sub answer
{
	my ($statement) = @_;
	chomp(my $answer = $session->query_safe($statement));
	return $answer;
}

# What a statement comes to: its answer, values opened and HMACs computed.
sub work
{
	my ($statement) = @_;
	my ($ciphers, $hashes) = counted();
	my $answer = answer($statement);
	my ($ciphers_after, $hashes_after) = counted();
	return sprintf '%s %d %g', $answer, $ciphers_after - $ciphers, ($hashes_after - $hashes) / 2;
}

my ($first, $second) = ('1' x 64, '2' x 64);
my ($old, $new) = map { sign_text($_, 'm') } $first, $second;
answer("SELECT FROM keyrot.create_app('Known', 'app-known', '$first')");
answer("SELECT FROM keyrot.create_app('Ended', 'app-ended', '$first');
	SELECT FROM keyrot.reset_app_secret('app-ended', NULL, '$second', '1 day'); SELECT FROM keyrot.end_app_grace('app-ended')");
answer("SELECT FROM keyrot.create_app('Grace', 'app-grace', '$first');
	SELECT FROM keyrot.reset_app_secret('app-grace', NULL, '$second', '1 day')");
answer("SELECT FROM keyrot.create_app('Renamed', 'app-renamed', '$first');
	SELECT FROM keyrot.reset_app_secret('app-renamed', 'app-new', '$second', '1 day')");
answer("SELECT FROM keyrot.create_app('Retired', 'app-retired', '$first');
	SELECT FROM keyrot.reset_app_secret('app-retired', 'app-newer', '$second')");
answer("SELECT FROM keyrot.create_app('Deleted', 'app-deleted', '$first'); SELECT FROM keyrot.delete_app('app-deleted')");
answer("SELECT FROM keyrot.create_zone_key('zone-known'); SELECT FROM keyrot.add_gateway('zone-known', 'gate')");
answer("SELECT FROM keyrot.create_zone_key('zone-deleted'); SELECT FROM keyrot.delete_zone_key('zone-deleted')");
answer("SELECT keyrot.verify_app_string('app-unknown', 'm', '$old'), keyrot.verify_zone_string('zone-unknown', 'm', '$old')");

for my $case (
	[ 'known, right',                 "'app-known', 'm', '$old'",     't 1 1' ],
	[ 'known, wrong',                 "'app-known', 'm', '$new'",     'f 1 1' ],
	[ 'known, no base64',             "'app-known', 'm', 'x'",        'f 1 1' ],
	[ 'known, no signature',          "'app-known', 'm', NULL",       'f 1 1' ],
	[ 'unknown',                      "'app-unknown', 'm', '$old'",   'f 1 1' ],
	[ 'malformed',                    "' ', 'm', '$old'",             'f 1 1' ],
	[ 'none',                         "NULL, 'm', '$old'",            'f 1 1' ],
	[ 'retired',                      "'app-retired', 'm', '$old'",   'f 1 1' ],
	[ 'deleted',                      "'app-deleted', 'm', '$old'",   'f 1 1' ],
	[ 'grace ended, current',         "'app-ended', 'm', '$new'",     't 1 1' ],
	[ 'grace ended, previous',        "'app-ended', 'm', '$old'",     'f 1 1' ],
	[ 'in grace, current',            "'app-grace', 'm', '$new'",     't 1 1' ],
	[ 'in grace, previous',           "'app-grace', 'm', '$old'",     't 2 2' ],
	[ 'in grace, wrong',              "'app-grace', 'm2', '$old'",    'f 2 2' ],
	[ 'old AppKey in grace',          "'app-renamed', 'm', '$old'",   't 1 1' ],
	[ 'old AppKey in grace, wrong',   "'app-renamed', 'm', '$new'",   'f 1 1' ],
	[ 'new AppKey beside an old one', "'app-new', 'm', '$new'",       't 1 1' ],
	[ 'new AppKey, old secret',       "'app-new', 'm', '$old'",       'f 1 1' ])
{
	my ($name, $arguments, $expected) = @$case;
	is(work("SELECT keyrot.verify_app_string($arguments)"), $expected, "app: $name");
}
for my $case (
	[ 'known',             "zone_string('zone-known', 'm', '$old')" ],
	[ 'unknown',           "zone_string('zone-unknown', 'm', '$old')" ],
	[ 'deleted',           "zone_string('zone-deleted', 'm', '$old')" ],
	[ 'gateway',           "gateway_string('zone-known', 'gate', 'm', '$old')" ],
	[ 'unknown gateway',   "gateway_string('zone-known', 'gate-2', 'm', '$old')" ],
	[ 'malformed gateway', "gateway_string('zone-known', '', 'm', '$old')" ],
	[ 'unknown zone',      "gateway_string('zone-unknown', 'gate', 'm', '$old')" ],
	[ 'token',             "gateway_token('zone-known', 'gate', 'eyJhbGciOiJIUzI1NiJ9.e30.' || repeat('A', 43))" ],
	[ 'malformed token',   "gateway_token('zone-known', 'gate', 'x')" ],
	[ 'no token',          "gateway_token('zone-known', 'gate', NULL)" ],
	[ 'token for nobody',  "gateway_token('zone-unknown', 'gate', 'eyJhbGciOiJIUzI1NiJ9.e30.' || repeat('A', 43))" ])
{
	my ($name, $call) = @$case;
	is(work("SELECT keyrot.verify_$call"), 'f 1 1', "zone: $name");
}
is(work("SELECT valid FROM keyrot.check_app_string('app-unknown', 'm', '$old')"), 'f 1 1', 'a check that tells');
# What counts must see that an app has a secret that is longer than a block of the hash, which is hashed first.
my $long = '3' x 128;
answer("SELECT FROM keyrot.create_app('Long', 'app-long', '$long')");
is(work("SELECT keyrot.verify_app_string('app-long', 'm', '$old')"), 'f 1 1.5', 'a long secret is hashed, too');

$session->quit;
$node->stop;
done_testing();

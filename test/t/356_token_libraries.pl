# Tokens made by libraries that are not keyrot's verify, and keyrot's are accepted by them: Debian's python3-jwt and
# Node's jsonwebtoken, each where it is there.
#
# Why not pg_regress: other programs make and read the tokens.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $json   = JSON::PP->new->ascii->canonical;
my $folder = PostgreSQL::Test::Utils::tempdir();
my %programs = (
	'python3-jwt' => [ '/usr/bin/python3', '-c', 'import jwt', <<'END' ],
import json, sys, jwt
what, key = sys.argv[1:3]
for line in sys.stdin:
    given = json.loads(line)
    if what == "sign":
        secret = None if given["alg"] == "none" else key
        print(jwt.encode(given["claims"], secret, algorithm=given["alg"], headers=given["header"]))
        continue
    try:
        print(json.dumps(jwt.decode(given, key, algorithms=["HS256"]), sort_keys=True, separators=(",", ":")))
    except jwt.InvalidTokenError:
        print("refused")
END
	'jsonwebtoken' => [ 'node', '-e', 'require("jsonwebtoken")', <<'END' ]);
const jwt = require("jsonwebtoken");
const [what, key] = process.argv.slice(2);
const sorted = o => JSON.stringify(o, (k, v) => v && v.constructor === Object ? Object.fromEntries(Object.entries(v).sort()) : v);
for (const line of require("fs").readFileSync(0, "utf8").trim().split("\n")) {
  const given = JSON.parse(line);
  if (what === "sign") {
    const options = { algorithm: given.alg, header: { typ: "JWT", ...given.header, alg: given.alg }, noTimestamp: true };
    console.log(jwt.sign(given.claims, given.alg === "none" ? "" : key, options));
    continue;
  }
  try { console.log(sorted(jwt.verify(given, key, { algorithms: ["HS256"] }))); }
  catch (e) { console.log("refused"); }
}
END

sub is_there
{
	my ($program, @arguments) = @_;
	return system("$program " . join(' ', map { "'$_'" } @arguments[ 0, 1 ]) . ' >/dev/null 2>&1') == 0;
}

my @there = grep { is_there(@{ $programs{$_} }) } sort keys %programs;
plan skip_all => 'neither python3-jwt nor jsonwebtoken is there' unless @there;

my $node = new_server('tokens');
add_databases($node, 'live');
my $key   = 'bm90IGEgc2VjcmV0IGF0IGFsbCwganVzdCAzMiBieXQ=';
my $other = 'bm90IGEgc2VjcmV0IGVpdGhlciwganVzdCAzMiBieXQ=';
$node->safe_psql('live', "SELECT FROM keyrot.create_zone_key('zone-1', '$key'); SELECT FROM keyrot.add_gateway('zone-1', 'gate-1')");

# The lines that a library answers with to the values given, each a line of JSON.
sub answers
{
	my ($name, $what, $secret, @given) = @_;
	my ($program, undef, undef, $source) = @{ $programs{$name} };
	my ($in, $script) = ("$folder/in", "$folder/script");
	for ([ $in, join '', map { $json->allow_nonref->encode($_) . "\n" } @given ], [ $script, $source ])
	{
		open my $file, '>', $_->[0] or die "cannot write $_->[0]: $!";
		print $file $_->[1];
		close $file or die "cannot write $_->[0]: $!";
	}
	chomp(my @lines = `$program '$script' $what '$secret' <'$in'`);
	is(scalar @lines, scalar @given, "$name answers each line");
	return @lines;
}

my $later = time + 3600;
my @cases = (
	[ 'as EdgeOne sends it', 'ok',                  { alg => 'HS256', header => {}, claims => { deviceName => 'device-1', exp => $later } } ],
	[ 'no times',            'ok',                  { alg => 'HS256', header => {}, claims => {} } ],
	[ 'a fraction',          'ok',                  { alg => 'HS256', header => {}, claims => { exp => $later + 0.25, nbf => 0 } } ],
	[ 'more in the header',  'ok',                  { alg => 'HS256', header => { kid => 'key-1', jku => 'https://a.example' }, claims => { exp => $later } } ],
	[ 'not ASCII',           'ok',                  { alg => 'HS256', header => {}, claims => { "\x{e9}" => [ "\x{20ac}", { a => "\x{1f600}" } ] } } ],
	[ 'expired',             'token expired',       { alg => 'HS256', header => {}, claims => { exp => $later - 7200 } } ],
	[ 'not yet valid',       'token not yet valid', { alg => 'HS256', header => {}, claims => { nbf => $later } } ],
	[ 'SHA-512',             'malformed',           { alg => 'HS512', header => {}, claims => { exp => $later } } ],
	[ 'none',                'malformed',           { alg => 'none',  header => {}, claims => { exp => $later } } ],
	[ 'critical',            'malformed',           { alg => 'HS256', header => { crit => ['exp'] }, claims => { exp => $later } } ]);
for my $name (@there)
{
	my @tokens = answers($name, 'sign', $key, map { $_->[2] } @cases);
	for my $i (0 .. $#cases)
	{
		my ($what, $reason) = @{ $cases[$i] };
		is( $node->safe_psql('live', "SELECT reason FROM keyrot.check_gateway_token('zone-1', 'gate-1', '$tokens[$i]')"),
			$reason, "$name, $what: $reason");
		is( $node->safe_psql('live', "SELECT keyrot.verify_gateway_token('zone-1', 'gate-1', '$tokens[$i]')"),
			$reason eq 'ok' ? 't' : 'f', "$name, $what: verified or not");
	}
	my ($foreign) = answers($name, 'sign', $other, $cases[0][2]);
	is($node->safe_psql('live', "SELECT reason FROM keyrot.check_gateway_token('zone-1', 'gate-1', '$foreign')"),
		'mismatch', "$name, another key");

	my $claims = $json->encode({ deviceName => "\x{e9}\x{1f600}", exp => $later, x => [ 1, { a => JSON::PP::null } ] });
	my $signed = $node->safe_psql('live', "SELECT keyrot.sign_token_for_zone('zone-1', '$claims')");
	my $late = $node->safe_psql('live', q{SELECT keyrot.sign_token_for_zone('zone-1', '{"exp": 1700000000}')});
	my ($good, $changed, $expired) = answers($name, 'read', $key, $signed, $signed =~ s/.{4}\z/AAAA/r, $late);
	is($json->encode(JSON::PP->new->utf8->decode($good)), $claims, "$name reads the claims that keyrot signed");
	is("$changed $expired", 'refused refused', "$name refuses what was changed, and what has expired");
}
$node->stop;
done_testing();

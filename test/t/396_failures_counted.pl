# Each failure is counted once, under its reason: verifications by the words that check_* functions give, in each form
# in which one can be verified, and requests by their SQLSTATE; in keyrot.metrics and, of requests, on record.
#
# Why not pg_regress: without preloading nothing is counted, and some failures take two sessions.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Digest::SHA qw(hmac_sha256);
use Keyrot;
use MIME::Base64 qw(encode_base64url);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $SECRET = 'secret-of-counted-apps';
my $KEY    = substr(`printf '%032d' 7 | base64`, 0, 44);

my $node = new_server('counting', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'counted'
keyrot.zone_rate_limit = 0
END
add_databases($node, 'counted', 'other');
$node->safe_psql('counted', qq{
	SELECT FROM unnest('{good,off,old}'::text[]) AS s, keyrot.create_app('App', 'app.' || s, '$SECRET');
	SELECT keyrot.create_zone_key('zone-' || s, '$KEY') FROM unnest('{good,off,old}'::text[]) AS s;
	SELECT FROM unnest('{good,off,old}'::text[]) AS s, keyrot.add_gateway('zone-' || s, 'gate');
	SELECT keyrot.disable_app('app.off'), keyrot.disable_zone('zone-off');
	SELECT keyrot.set_app_policy('app.old', lifetime => '1 microsecond'), keyrot.set_zone_policy('zone-old', lifetime => '1 microsecond')});

# The counts by their reason, as text; without those that are 0.
my $COUNTS = q{(SELECT string_agg(labels ->> 'reason' || ' ' || value, ', ' ORDER BY labels ->> 'reason')
	FROM keyrot.metrics WHERE name = 'keyrot_failures_total' AND value > 0)};

sub counts_of
{
	my ($text) = @_;
	return map { /^(.+) (\d+)$/ } split /, /, $text;
}

# What a statement adds to them, as "reason 1"; the statement's own output goes before.
sub added_by
{
	my ($database, $statement) = @_;
	my ($before, $result, $after) =
	  $node->safe_psql($database, "SELECT '<' || coalesce($COUNTS, '') || '>'; $statement; SELECT '<' || coalesce($COUNTS, '') || '>'")
	  =~ /\A<(.*?)>\n(.*)\n<(.*?)>\z/s;
	my %before = counts_of($before);
	my %after  = counts_of($after);
	return ($result, join ', ', map { "$_ " . ($after{$_} - ($before{$_} // 0)) } grep { $after{$_} != ($before{$_} // 0) } sort keys %after);
}


# Verifications

sub token_of
{
	my ($key, $claims) = @_;
	my $signed = join '.', map { encode_base64url($_) } '{"alg":"HS256","typ":"JWT"}', $claims;
	return $signed . '.' . encode_base64url(hmac_sha256($signed, $key));
}

# Each form: the calls with an identifier, a gateway, and whether what is presented is right, wrong or cannot be read.
my %signed = (
	app  => { right => sign_text($SECRET, 'm'), wrong => sign_text('x', 'm'), unread => 'no base64' },
	zone => { right => sign_text($KEY,    'm'), wrong => sign_text('x', 'm'), unread => 'no base64' },
	token => {
		right  => token_of($KEY, '{}'),
		wrong  => token_of('x',  '{}'),
		unread => 'a.b',
		past   => token_of($KEY, '{"exp": 1}'),
		future => token_of($KEY, '{"nbf": 4000000000}')
	});
my %form = (
	verify_app_signature     => [ 'app',   'SELECT keyrot.verify_app_signature(%1$s, %3$s, %4$s)' ],
	verify_app_string        => [ 'app',   'SELECT keyrot.verify_app_string(%1$s, %5$s, %6$s)' ],
	check_app_string         => [ 'app',   'SELECT reason FROM keyrot.check_app_string(%1$s, %5$s, %6$s)' ],
	verify_zone_signature    => [ 'zone',  'SELECT keyrot.verify_zone_signature(%1$s, %3$s, %4$s)' ],
	verify_zone_string       => [ 'zone',  'SELECT keyrot.verify_zone_string(%1$s, %5$s, %6$s)' ],
	check_zone_string        => [ 'zone',  'SELECT reason FROM keyrot.check_zone_string(%1$s, %5$s, %6$s)' ],
	verify_gateway_signature => [ 'zone',  'SELECT keyrot.verify_gateway_signature(%1$s, %2$s, %3$s, %4$s)' ],
	verify_gateway_string    => [ 'zone',  'SELECT keyrot.verify_gateway_string(%1$s, %2$s, %5$s, %6$s)' ],
	check_gateway_string     => [ 'zone',  'SELECT reason FROM keyrot.check_gateway_string(%1$s, %2$s, %5$s, %6$s)' ],
	verify_gateway_token     => [ 'token', 'SELECT keyrot.verify_gateway_token(%1$s, %2$s, %6$s)' ],
	check_gateway_token      => [ 'token', 'SELECT reason FROM keyrot.check_gateway_token(%1$s, %2$s, %6$s)' ]);

# Which credential, gateway and signature make each reason.
my @REASONS = (
	[ 'malformed',           'good', 'gate', 'unread' ],
	[ 'malformed',           'no!',  'gate', 'right' ],
	[ 'malformed',           undef,  'gate', 'right' ],
	[ 'unknown',             'none', 'gate', 'right' ],
	[ 'disabled',            'off',  'gate', 'right' ],
	[ 'no such gateway',     'good', 'none', 'right' ],
	[ 'mismatch',            'good', 'gate', 'wrong' ],
	[ 'expired',             'old',  'gate', 'right' ],
	[ 'token expired',       'good', 'gate', 'past' ],
	[ 'token not yet valid', 'good', 'gate', 'future' ],
	[ 'ok',                  'good', 'gate', 'right' ]);

sub quoted { return defined $_[0] ? "'$_[0]'" : 'NULL'; }

my %seen;
for my $name (sort keys %form)
{
	my ($what, $call) = @{ $form{$name} };
	for my $case (@REASONS)
	{
		my ($reason, $credential, $gateway, $presented) = @$case;
		my $text = $signed{$what}{$presented};
		next if !defined $text || $reason eq 'no such gateway' && $name !~ /gateway/;
		my $id = defined $credential ? ($what eq 'app' ? 'app.' : 'zone-') . $credential : undef;
		my $bytes = $presented eq 'unread' ? q{'\x00'} : "decode('$text', 'base64')";
		my ($result, $added) = added_by('counted',
			sprintf $call . ' -- %1$s %2$s %3$s %4$s %5$s %6$s' . "\n", quoted($id), quoted($gateway), q{'m'}, $bytes, q{'m'}, quoted($text));
		my $expected = $name =~ /^check/ ? $reason : $reason eq 'ok' ? 't' : 'f';
		is("$result: $added", $reason eq 'ok' ? "$expected: " : "$expected: $reason 1", "$name: $reason of " . ($id // 'NULL'));
		$seen{$reason}++;
	}
}
is(join(', ', sort keys %seen),
	$node->safe_psql('counted', q{SELECT string_agg(labels ->> 'reason', ', ' ORDER BY labels ->> 'reason' COLLATE "C")
	FROM (SELECT labels FROM keyrot.metrics WHERE name = 'keyrot_failures_total' UNION SELECT '{"reason": "ok"}') AS m}),
	'these are all the reasons that the metrics have, but for the one that is none');
my (undef, $many) = added_by('counted', "SELECT count(*) FROM generate_series(1, 100) AS i WHERE keyrot.verify_app_string('app.none', 'm' || i, '')");
is($many, 'malformed 100', 'each call of a statement counts');
$node->safe_psql('other', q{SELECT keyrot.verify_app_string('app.none', 'm', repeat('A', 43) || '=')});
my ($others) = $node->safe_psql('counted', "SELECT $COUNTS") =~ /\bunknown (\d+)/;
is($others, $seen{unknown} + 1, 'a verification of another database counts, too');


# Requests

my %outcomes;

# A request's failure is counted and recorded once, under its SQLSTATE.
sub fails_as
{
	my ($expected, $name, @statements) = @_;
	my %before = counts_of($node->safe_psql('counted', "SELECT $COUNTS"));
	my $result = (attempts($node, 'counted', @statements))[-1];
	my %after  = counts_of($node->safe_psql('counted', "SELECT $COUNTS"));
	my @added  = map { "$_ " . ($after{$_} - ($before{$_} // 0)) } grep { $after{$_} != ($before{$_} // 0) } sort keys %after;
	is("@added", "$expected 1", "$name: $expected") or diag($result->{text});
	$outcomes{$expected}++;
	return;
}

$node->safe_psql('counted', q{CREATE ROLE regress_other; GRANT USAGE ON SCHEMA keyrot TO regress_other;
	GRANT EXECUTE ON FUNCTION keyrot.reset_app_secret TO regress_other;
	SELECT FROM unnest('{broken,held}'::text[]) AS s, keyrot.create_app('App', 'app.' || s);
	UPDATE keyrot.app SET secret = set_byte(secret, 40, get_byte(secret, 40) # 1) WHERE app_key = 'app.broken'});
my $holder = $node->background_psql('counted');
$holder->query_safe(q{BEGIN; SELECT FROM keyrot.app WHERE app_key = 'app.held' FOR UPDATE});
my $reset = q{SELECT keyrot.reset_app_secret('app.good')};

fails_as('22004', 'a missing value',          q{SELECT keyrot.reset_app_secret(NULL)});
fails_as('22023', 'a malformed value',        q{SELECT keyrot.reset_app_secret('no!')});
fails_as('23505', 'an AppKey that is taken',  q{SELECT keyrot.create_app('App', 'app.good')});
fails_as('P0002', 'an unknown app',           q{SELECT keyrot.describe_app_security('app.none')});
fails_as('42704', 'no such role',             q{SELECT keyrot.set_app_owner('app.good', 4000000000)});
fails_as('42501', "another's app",            'SET ROLE regress_other', $reset);
fails_as('53400', 'one call too many',        'SET keyrot.app_rate_limit = 1', $reset, $reset);
fails_as('55000', 'nothing to be reverted',   q{SELECT keyrot.revert_app_secret('app.good')});
fails_as('55P03', 'a row that is held',       q{SET lock_timeout = '50ms'}, q{SELECT keyrot.reset_app_secret('app.held')});
fails_as('57014', 'a statement cancelled',    q{SET statement_timeout = '50ms'}, q{SELECT keyrot.reset_app_secret('app.held')});
fails_as('25006', 'a read-only transaction',  "BEGIN READ ONLY; $reset; ROLLBACK");
fails_as('XX001', 'a secret that is damaged', q{SELECT keyrot.describe_app_security('app.broken')});
fails_as('0A000', 'an action that is none',   q{SELECT keyrot.api('NoSuchAction')});
fails_as('P0002', 'by api()',                 q{SELECT keyrot.api('ResetAppSecret', '{"AppKey": "app.none"}')});
fails_as('22023', 'in bulk',                  q{CALL keyrot.reset_apps(all_owners => true, batch_size => 0)});
fails_as('rolled back', 'rolled back',        "BEGIN; $reset; ROLLBACK");
fails_as('rolled back', 'by a later error',   "BEGIN; $reset; SELECT 1 / 0; ROLLBACK");
$holder->query_safe('COMMIT');
fails_as('40001', 'a row that has changed', 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM keyrot.credentials',
	q{\! psql -XAtq -d counted -c "SELECT keyrot.reset_app_secret('app.held')" -h } . $node->host . ' -p ' . $node->port . ' >/dev/null',
	q{SELECT keyrot.reset_app_secret('app.held')});
$holder->quit;

my $recorded = q{SELECT string_agg(outcome || ' ' || count, ', ' ORDER BY outcome)
	FROM (SELECT outcome, count(*) FROM keyrot.requests WHERE outcome <> 'ok' GROUP BY 1) AS r};
my $expected = join ', ', map { "$_ $outcomes{$_}" } sort keys %outcomes;
ok(wait_until(sub { $node->safe_psql('counted', $recorded) eq $expected }), 'and what was counted is on record')
  or is($node->safe_psql('counted', $recorded), $expected);

# Where uses are not noted, there is no row that would claim that no verification failed.
$node->append_conf('postgresql.conf', 'keyrot.usage_entries = 0');
$node->restart;
$node->safe_psql('counted', q{SELECT keyrot.verify_app_string('app.none', 'm', '')});
attempts($node, 'counted', q{SELECT keyrot.reset_app_secret('app.none')});
is($node->safe_psql('counted', q{SELECT string_agg(labels ->> 'reason', ', ') FROM keyrot.metrics WHERE name = 'keyrot_failures_total'}),
	'P0002', 'with keyrot.usage_entries = 0 there are SQLSTATEs only');
is($node->safe_psql('counted', q{SELECT value FROM keyrot.status() WHERE item = 'usage_entries'}), 'none', 'and status() says why');

done_testing();

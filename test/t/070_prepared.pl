# Prepared transactions outlive a crash: with a rotation, whose credential stays locked until it is decided,
# and with a database's first data key.
#
# Why not pg_regress: it takes a server that is killed and comes up again.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use Test::More;

my $node = new_server('prepared', conf => "max_prepared_transactions = 4");
add_databases($node, 'live', 'fresh');
$node->safe_psql('live', q{SELECT FROM keyrot.create_app('Busy', 'app-busy')});

my $busy    = q{SELECT version FROM keyrot.credentials WHERE id = 'app-busy'};
my $version = $node->safe_psql('live', $busy);
my $waits   = q{SET lock_timeout = '50ms'; SELECT keyrot.reset_app_secret('app-busy')};
for my $end ('ROLLBACK', 'COMMIT')
{
	my $request = $node->safe_psql(
		'live', q{
		BEGIN;
		SELECT keyrot.reset_app_secret('app-busy', new_app_secret => 'the-secret-that-was-prepared');
		PREPARE TRANSACTION 'rotation'});
	$node->safe_psql('fresh',
		q{BEGIN; SELECT FROM keyrot.create_app('First', 'app-1'); PREPARE TRANSACTION 'first key'})
	  if $end eq 'ROLLBACK';
	$node->kill9;
	start_again($node);
	is(join(' ', map { $_->{sqlstate} } attempts($node, 'live', $waits, $busy)),
		'55P03 ', "before $end PREPARED others wait");
	is($node->safe_psql('live', $busy), $version, 'and the old version is in force');
	$node->safe_psql('live', "$end PREPARED 'rotation'");
	my $done = $end eq 'COMMIT' ? 1 : 0;
	is($node->safe_psql('live', $busy), $version + $done, "$end PREPARED: the version");
	is($node->safe_psql('live', "SELECT count(*) FROM keyrot.requests WHERE request_id = '$request'"),
		$done, 'and its request');
}
is( $node->safe_psql('live', q{SELECT app_secret FROM keyrot.describe_app_security('app-busy')}),
	'the-secret-that-was-prepared',
	'what was prepared is in force');
my $second = q{SELECT FROM keyrot.create_app('Second', 'app-2')};
is((attempts($node, 'fresh', q{SET lock_timeout = '50ms'}, $second))[1]{sqlstate},
	'55P03', 'a first data key that is prepared is waited for');
$node->safe_psql('fresh', q{ROLLBACK PREPARED 'first key'});
is( $node->safe_psql(
		'fresh', "$second; SELECT count(*) FROM keyrot.data_key, keyrot.describe_app_security('app-2')"),
	1,
	'and another one made once it was rolled back');

done_testing();

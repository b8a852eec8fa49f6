# Logical replication of keyrot's tables, as for an upgrade with little interruption: the subscriber verifies what
# the publisher issues and rotates, also under a new data key; after the cut-over it is the one that issues and
# rotates.  Numbers of apps, owners and the key file do not come along: what is to be done about each.
#
# Why not pg_regress: it takes two servers.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use Protocol;
use PostgreSQL::Test::Utils;
use Test::More;

my $KEYS = random_hex(64) . "\n";
my $CONF = <<'END';
shared_preload_libraries = 'keyrot'
keyrot.database = 'shop'
keyrot.zone_rate_limit = 0
END

my ($old, $new) = map { new_server($_, conf => $CONF, init => { allows_streaming => 'logical' }) } qw(old new);

# Roles have the same names and other OIDs.
$old->safe_psql('postgres', 'CREATE ROLE regress_tenant');
$new->safe_psql('postgres', 'CREATE ROLE regress_other; CREATE ROLE regress_tenant');
for my $node ($old, $new)
{
	write_key(key_file($node), $KEYS);
	add_databases($node, 'shop');
	$node->safe_psql('shop', 'GRANT USAGE ON SCHEMA keyrot TO regress_tenant;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_tenant');
}

sub verifies
{
	my ($node, $app, $secret) = @_;
	return $node->safe_psql('shop', "SELECT keyrot.verify_app_string('$app', 'm', '" . sign_text($secret, 'm') . "')");
}

sub reset_app
{
	my ($node, $app, $secret, $more) = @_;
	return $node->safe_psql('shop', "SELECT keyrot.reset_app_secret('$app', new_app_secret => '$secret'" . ($more // '') . ')');
}

# Before: apps, one of them deleted and one under its second AppKey, a zone with a gateway, a tenant's app.
$old->safe_psql('shop', q{
	SELECT keyrot.create_app('App', 'app-' || n, 'secret-of-version-1') FROM generate_series(1, 9) AS n;
	SELECT keyrot.delete_app('app-8');
	SELECT keyrot.reset_app_secret('app-9', 'app-9-new', 'secret-of-version-2', '1 hour');
	SELECT keyrot.create_zone_key('zone'), keyrot.add_gateway('zone', 'gateway');
	SET ROLE regress_tenant;
	SELECT keyrot.create_app('App of a tenant', 'app-tenant', 'secret-of-version-1')});

$old->safe_psql('shop', 'CREATE PUBLICATION keyrot FOR TABLE keyrot.app, keyrot.zone, keyrot.gateway, keyrot.data_key,
	keyrot.request, keyrot.retry, keyrot.reseal, keyrot.credential_use');
my $from = $old->connstr . ' dbname=shop';
$new->safe_psql('shop', "CREATE SUBSCRIPTION keyrot CONNECTION '$from' PUBLICATION keyrot");

sub caught_up
{
	$new->wait_for_subscription_sync($old, 'keyrot', 'shop');
	$old->wait_for_catchup('keyrot');
	return;
}

# All of keyrot's tables, which both servers must agree about.
sub contents
{
	my ($node) = @_;
	return $node->safe_psql('shop', join ' UNION ALL ',
		map { "SELECT '$_', count(*), md5(string_agg(r::text, '|' ORDER BY r::text)) FROM keyrot.$_ AS r" }
		  qw(app zone gateway data_key request retry reseal));
}

caught_up();
is(contents($new), contents($old), 'what there was has been copied');
is(verifies($new, 'app-1', 'secret-of-version-1'), 't', 'an app verifies on the subscriber');
is(verifies($new, 'app-8', 'secret-of-version-1'), 'f', 'a deleted one does not');
is(verifies($new, 'app-9', 'secret-of-version-1') . verifies($new, 'app-9-new', 'secret-of-version-2'),
	'tt', 'and both AppKeys of one in grace do');

# A session of the subscriber's that has verified knows the data keys of then.
my $session = Protocol->connect($new, 'shop');
my $ask = sub { return $session->query("SELECT keyrot.verify_app_string('app-1', 'm', '" . sign_text($_[0], 'm') . "')")->{rows}[0][0] };
is($ask->('secret-of-version-1'), 't', 'so it does in a session that stays');
$old->safe_psql('shop', 'SELECT keyrot.rotate_data_key()');
my $request = reset_app($old, 'app-1', 'secret-of-version-2', q{, client_token => 'a-token'});
reset_app($old, 'app-2', 'secret-of-version-2', q{, grace_period => '1 hour'});
caught_up();
is($ask->('secret-of-version-1') . $ask->('secret-of-version-2'), 'ft', 'a rotation under a new data key counts there once it is applied');
is(verifies($new, 'app-2', 'secret-of-version-1') . verifies($new, 'app-2', 'secret-of-version-2'), 'tt', 'with its grace period');
$old->safe_psql('shop', 'CALL keyrot.reseal()');
caught_up();
is($ask->('secret-of-version-2'), 't', 'so does what is moved to it');
is($old->safe_psql('shop', 'SELECT count(*) FROM keyrot.data_key'), '1', 'when the older data key is gone');

# A new master key is in the publisher's file alone: sessions that are new to it need the file.
$old->safe_psql('shop', 'SELECT keyrot.rotate_master_key()');
caught_up();
my ($refused) = attempts($new, 'shop', q{SELECT keyrot.verify_app_string('app-1', 'm', 'x')});
is($refused->{sqlstate}, '55000', 'after a new master key the subscriber asks for the key file');
write_key(key_file($new), slurp_file(key_file($old)));
is(verifies($new, 'app-1', 'secret-of-version-2'), 't', 'and verifies once it has it');
is(contents($new), contents($old), 'all is as on the publisher');

# With the file copied before anything is wrapped by the new key, it need not ask.
$old->safe_psql('shop', 'SELECT keyrot.rotate_master_key(rewrap => false)');
write_key(key_file($new), slurp_file(key_file($old)));
$old->safe_psql('shop', 'SELECT keyrot.rewrap_data_keys()');
caught_up();
is(verifies($new, 'app-1', 'secret-of-version-2'), 't', 'it does so at once where the file was copied before the re-wrap');

# The cut-over.  The publisher's sessions are gone, and what they left has been applied.
$session->close;
caught_up();
$new->safe_psql('shop', 'DROP SUBSCRIPTION keyrot');
is($new->safe_psql('shop', 'SELECT last_value, is_called FROM keyrot.app_id'), '1|f', 'the sequence did not come along');
is($new->safe_psql('shop', q{SELECT setval('keyrot.app_id', max(app_id)) FROM keyrot.app}), '10', 'so it is set');
my ($foreign) = attempts($new, 'shop', q{SET ROLE regress_tenant; SELECT keyrot.reset_app_secret('app-tenant')});
is($foreign->{sqlstate}, '42501', 'roles have other OIDs there, so that a tenant cannot act');
is($new->safe_psql('shop', 'SELECT keyrot.rebind_owners()'), '1', 'until owners are bound again');
like($new->safe_psql('shop', q{SET ROLE regress_tenant; SELECT keyrot.reset_app_secret('app-tenant')}), $REQUEST_ID, 'and then can');

is(reset_app($new, 'app-1', 'secret-of-version-2', q{, client_token => 'a-token'}), $request, 'a call that is repeated rotates nothing');
reset_app($new, 'app-1', 'secret-of-version-3');
is(verifies($new, 'app-1', 'secret-of-version-2') . verifies($new, 'app-1', 'secret-of-version-3'), 'ft', 'it rotates by itself');
is($new->safe_psql('shop', q{SELECT app_id FROM keyrot.create_app('New', 'app-new')}), '11', 'a new app has a new number');
is($new->safe_psql('shop', q{SELECT secret_key IS NOT NULL FROM keyrot.refresh_zone_key('zone')}), 't', 'the zone is refreshed');
is((attempts($new, 'shop', q{SELECT * FROM keyrot.create_app('Again', 'app-8')}))[0]{sqlstate}, '23505', 'an AppKey that was taken stays taken');
is((attempts($new, 'shop', q{SELECT * FROM keyrot.create_app('Again', 'app-9')}))[0]{sqlstate}, '23505', 'also one that was replaced');
ok(wait_until(sub { $new->safe_psql('shop', q{SELECT count(*) FROM keyrot.request WHERE outcome = '23505'}) eq '2' }),
	'and failures are recorded');
is($new->safe_psql('shop', q{SELECT count(*) FROM (SELECT app_id FROM keyrot.app WHERE secret IS NOT NULL GROUP BY app_id HAVING count(*) > 1) AS twice}),
	'0', 'no number is two apps\'');

# A subscriber with a data key of its own takes no other.
add_databases($_, 'early') for $old, $new;
$_->safe_psql('early', q{SELECT keyrot.create_zone_key('zone')}) for $old, $new;
$old->safe_psql('early', 'CREATE PUBLICATION early FOR TABLE keyrot.data_key');
my $from_early = $old->connstr . ' dbname=early';
$new->safe_psql('early', "CREATE SUBSCRIPTION early CONNECTION '$from_early' PUBLICATION early");
ok(wait_until(sub { slurp_file($new->logfile) =~ /violates unique constraint "data_key_pkey"/ }), 'where something was issued before, replication fails');
$new->safe_psql('early', 'DROP SUBSCRIPTION early');

# A publication of all tables has keyrot's, too.
$old->safe_psql('shop', 'DROP PUBLICATION keyrot; CREATE PUBLICATION everything FOR ALL TABLES');
is($old->safe_psql('shop', q{SELECT count(*) FROM pg_publication_tables WHERE schemaname = 'keyrot'}), '8', 'FOR ALL TABLES publishes them, too');

done_testing();

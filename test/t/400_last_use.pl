# When credentials were last used: seen at once by whoever may see the credential, written down by the worker,
# kept over a restart, bounded in memory, and on a standby read and written nowhere.
#
# Why not pg_regress: it takes servers with keyrot preloaded that are restarted, and a standby.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $ENTRIES = 128;
my @SECRETS = map { "last-use-secret-number-$_" } 0 .. 9;

my $node = new_server('noting', init => { allows_streaming => 1 }, conf => <<"END");
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
keyrot.zone_rate_limit = 0
keyrot.usage_entries = $ENTRIES
END
add_databases($node, 'served', 'other');
my $server = $node;

sub sql { return $server->safe_psql('served', $_[0]); }

# SQL for a verification of an app by one of the secrets.
sub verifying
{
	my ($app, $number) = @_;
	my $signature = sign_text($SECRETS[$number], 'm');
	return "SELECT keyrot.verify_app_string('$app', 'm', '$signature')";
}

# What stands in a credential's row, as "last use, previous last use": yes or no, for times of the last seconds.
sub uses
{
	my ($id) = @_;
	return sql("SELECT coalesce((last_used_at BETWEEN now() - interval '1 minute' AND clock_timestamp())::text, 'never')
		|| ' ' || coalesce((previous_last_used_at BETWEEN now() - interval '1 minute' AND clock_timestamp())::text, 'never')
		FROM keyrot.credentials WHERE id = '$id'");
}

sub time_of { return sql("SELECT $_[1] FROM keyrot.credentials WHERE id = '$_[0]'"); }

# What could not be written down, is once that is possible again, though nothing was used since; which takes a minute, so
# that the end of this file looks at it.
my $failing = new_server('failing', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
END
add_databases($failing, 'served');
$failing->safe_psql('served', <<"END");
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'refused'; END \$\$;
CREATE TRIGGER refuse BEFORE INSERT ON keyrot.credential_use EXECUTE FUNCTION refuse();
SELECT FROM keyrot.create_app('App', 'use.app', '$SECRETS[1]');
@{[ verifying('use.app', 1) ]};
END
attempts($failing, 'served', q{SELECT * FROM keyrot.refresh_zone_key('unknown')});
ok(wait_until(sub { slurp_file($failing->logfile) =~ /refused/ }), 'last uses that cannot be written down');
$failing->safe_psql('served', 'DROP TRIGGER refuse ON keyrot.credential_use');

# Seen at once.
sql("SELECT FROM keyrot.create_app('App', 'use.app', '$SECRETS[1]'); SELECT keyrot.create_zone_key('use-zone');
	SELECT FROM keyrot.add_gateway('use-zone', 'gate')");
is(uses('use.app'), 'never never', 'before the first use none is known');
is(sql(verifying('use.app', 2)), 'f', 'a wrong signature');
is(uses('use.app'), 'never never', 'is no use');
is(sql(verifying('use.app', 1)), 't', 'a right signature');
is(uses('use.app'), 'true never', 'is one, seen at once');
my $first = time_of('use.app', 'last_used_at');
sql(verifying('use.app', 1));
is(sql("SELECT last_used_at > '$first' FROM keyrot.credentials WHERE id = 'use.app'"), 't', 'and so is the next');
$node->safe_psql('other', "SELECT FROM keyrot.create_app('App', 'use.app', '$SECRETS[1]')");
is($node->safe_psql('other', "SELECT last_used_at IS NULL FROM keyrot.credentials WHERE id = 'use.app'"), 't', 'but not in another database');

# Whatever verifies counts, and what does not verify does not.
my $zone_key = sql("SELECT secret_key FROM keyrot.describe_zone_key('use-zone')");
my $signature = sign_text($zone_key, 'm');
my $past = sql(q{SELECT keyrot.sign_token_for_zone('use-zone', '{"exp": 1}')});
my $token = sql(q{SELECT keyrot.sign_token_for_zone('use-zone', '{"deviceName": "d"}')});
is(sql("SELECT reason FROM keyrot.check_gateway_token('use-zone', 'gate', '$past')"), 'token expired', 'an expired token');
is(sql("SELECT reason FROM keyrot.check_gateway_string('use-zone', 'none', 'm', '$signature')"), 'no such gateway', 'a wrong gateway');
is(uses('use-zone'), 'never never', 'are no use');
my $before = '-infinity';
for my $call ("keyrot.verify_zone_string('use-zone', 'm', '$signature')", "keyrot.verify_zone_signature('use-zone', 'm', decode('$signature', 'base64'))",
	"keyrot.verify_gateway_string('use-zone', 'gate', 'm', '$signature')", "keyrot.verify_gateway_signature('use-zone', 'gate', 'm', decode('$signature', 'base64'))",
	"keyrot.verify_gateway_token('use-zone', 'gate', '$token')", "(SELECT valid FROM keyrot.check_zone_string('use-zone', 'm', '$signature'))",
	"(SELECT valid FROM keyrot.check_gateway_string('use-zone', 'gate', 'm', '$signature'))",
	"(SELECT valid FROM keyrot.check_gateway_token('use-zone', 'gate', '$token'))")
{
	is(sql("SELECT $call"), 't', "$call");
	is(sql("SELECT last_used_at > '$before' FROM keyrot.credentials WHERE id = 'use-zone'"), 't', 'counts');
	$before = time_of('use-zone', 'last_used_at');
}

$signature = sign_text($SECRETS[1], 'm');
for my $call ("keyrot.verify_app_signature('use.app', 'm', decode('$signature', 'base64'))", "(SELECT valid FROM keyrot.check_app_string('use.app', 'm', '$signature'))")
{
	my $earlier = time_of('use.app', 'last_used_at');
	is(sql("SELECT $call"), 't', "$call");
	is(sql("SELECT last_used_at > '$earlier' FROM keyrot.credentials WHERE id = 'use.app'"), 't', 'counts');
}

# Of two versions, each has its own.
$first = time_of('use.app', 'last_used_at');
sql("SELECT keyrot.reset_app_secret('use.app', NULL, '$SECRETS[2]', '1 hour')");
is(uses('use.app'), 'never true', 'a rotation makes the last use that of the previous version');
is(time_of('use.app', 'previous_last_used_at'), $first, 'the same time');
sql(verifying('use.app', 1));
is(sql("SELECT last_used_at IS NULL AND previous_last_used_at > '$first' FROM keyrot.credentials WHERE id = 'use.app'"), 't', 'a client that still signs with the old one is seen');
sql(verifying('use.app', 2));
is(uses('use.app'), 'true true', 'and one that signs with the new one');
my $asked = q{SELECT id, previous_last_used_at > modified_at FROM keyrot.credentials WHERE previous_valid_until IS NOT NULL};
is(sql($asked), 'use.app|t', 'who still signs with the old secret');
$first = time_of('use.app', 'previous_last_used_at');
sql("SELECT keyrot.end_app_grace('use.app')");
is(time_of('use.app', 'previous_last_used_at'), $first, 'what is known of the old one stays after its grace');
sql("SELECT keyrot.reset_app_secret('use.app', 'use.new', '$SECRETS[3]', '1 hour')");
is(uses('use.app'), 'never true', 'after a NewAppKey, the old AppKey has the uses of the old secret');
is(uses('use.new'), 'never never', 'the new one none');
sql(verifying('use.new', 3) . ';' . verifying('use.app', 2));
is(uses('use.new'), 'true never', 'and then its own');

# What is undone was no use.
sql("SELECT FROM keyrot.create_app('App', 'use.undone', '$SECRETS[1]'); BEGIN; SELECT keyrot.reset_app_secret('use.undone', NULL, '$SECRETS[2]');"
	  . verifying('use.undone', 2) . '; ROLLBACK');
is(uses('use.undone'), 'never never', 'a version that was undone has left nothing');
sql("SELECT keyrot.reset_app_secret('use.undone', NULL, '$SECRETS[3]')");
is(uses('use.undone'), 'never never', 'also for the one that has its number now');
is(sql('BEGIN; CREATE TEMP TABLE t (n int);' . verifying('use.undone', 3) . '; ROLLBACK'), 't', 'a use in a transaction that is undone');
is(uses('use.undone'), 'true never', 'was one');

# Whoever may not see a credential does not see its uses.
sql(q{CREATE ROLE regress_one; CREATE ROLE regress_two; GRANT USAGE ON SCHEMA keyrot TO regress_one, regress_two;
	GRANT SELECT ON keyrot.credentials TO regress_one, regress_two; SELECT keyrot.set_app_owner('use.new', 'regress_one')});
is(sql("SET ROLE regress_one; SELECT id, last_used_at IS NOT NULL FROM keyrot.credentials WHERE last_used_at IS NOT NULL"), 'use.new|t', 'an owner sees the uses of what is its own');
is(sql('SET ROLE regress_two; SELECT count(*) FROM keyrot.credentials'), '0', 'another sees nothing');
is(sql(q{SET ROLE regress_two; SELECT keyrot.has_rights_of('regress_two'::regrole, 'regress_two', NULL::timestamptz, 'last use', 'app', 'use.new', 4) IS NULL}),
	't', 'also not by asking the helper of the views as another owner');
is(sql(q{SET ROLE regress_one; SELECT keyrot.has_rights_of('regress_one'::regrole, 'regress_one', NULL::timestamptz, 'last use', 'app', 'use.new', 3) IS NULL}),
	'f', 'while the owner is told');

# An extension made again knows nothing of the uses of the one before.
$node->safe_psql('other', verifying('use.app', 1));
is($node->safe_psql('other', q{SELECT last_used_at IS NOT NULL FROM keyrot.credentials}), 't', 'used');
$node->safe_psql('other', "DROP EXTENSION keyrot; CREATE EXTENSION keyrot; SELECT FROM keyrot.create_app('App', 'use.app', '$SECRETS[1]')");
is($node->safe_psql('other', q{SELECT last_used_at IS NULL FROM keyrot.credentials}), 't', 'dropped and made again');
$node->safe_psql('other', verifying('use.app', 1));
is($node->safe_psql('other', q{SELECT last_used_at IS NOT NULL FROM keyrot.credentials}), 't', 'and used again');

# Written down; a failed request has the worker come, who writes at once what was not written yet.
sub write_down
{
	sql(verifying('use.marker', 1));
	my $time = time_of('use.marker', 'last_used_at');
	attempts($server, 'served', q{SELECT * FROM keyrot.refresh_zone_key('unknown')});
	return wait_until(sub { sql("SELECT count(*) FROM keyrot.credential_use WHERE id = 'use.marker' AND last_used_at >= '$time'") });
}
sql("SELECT FROM keyrot.create_app('Marker', 'use.marker', '$SECRETS[1]')");
ok(write_down(), 'the worker writes down last uses');
my $all = q{SELECT id, last_used_at, previous_last_used_at FROM keyrot.credentials ORDER BY id};
my $known = sql($all);
$node->restart;
is(sql($all), $known, 'a restart forgets nothing of it');
is(sql(q{SELECT string_agg(kind || ' ' || id || ' ' || version, ', ' ORDER BY id) FROM keyrot.credential_use}),
	'zone use-zone 1, app use.app 2, app use.marker 1, app use.new 3, app use.undone 2', 'these were written down');
sql(q{UPDATE keyrot.credential_use SET last_used_at = '2100-01-01' WHERE id = 'use.new'});
sql(verifying('use.new', 3));
ok(write_down(), 'written down again');
is(sql(q{SELECT last_used_at = '2100-01-01' FROM keyrot.credential_use WHERE id = 'use.new'}), 't', 'but never back');
is(time_of('use-zone', 'last_used_at'), $before, 'nor is what was not used touched');
sql("SELECT keyrot.reset_app_secret('use.marker', NULL, '$SECRETS[1]x', '1 hour')");
$node->restart;
is(uses('use.marker'), 'never true', 'of what is written down, too, a rotation makes the previous version\'s');
is(sql("SELECT keyrot.verify_app_string('use.marker', 'm', '" . sign_text("$SECRETS[1]x", 'm') . "')"), 't', 'the new version');
attempts($node, 'served', q{SELECT * FROM keyrot.refresh_zone_key('unknown')});
ok(wait_until(sub { sql(q{SELECT count(*) FROM keyrot.credential_use WHERE id = 'use.marker' AND version = 2 AND earlier_last_used_at IS NOT NULL}) }),
	'a new version leaves the last use of the one before as that');

# Memory is bounded: the oldest goes first.
sub in_other { return $node->safe_psql('other', $_[0]); }
in_other("SELECT count(*) FROM (SELECT keyrot.create_app('Many', 'many.' || n, '$SECRETS[1]') FROM generate_series(1, $ENTRIES + 2) AS n) AS made");
my $many = q{SELECT count(last_used_at) FROM keyrot.credentials WHERE id LIKE 'many.%'};
in_other(join ';', map { verifying("many.$_", 1) } 1 .. $ENTRIES);
is(in_other($many), $ENTRIES, 'as many as keyrot.usage_entries are known');
in_other(verifying('many.' . ($ENTRIES + 1), 1));
is(in_other($many), $ENTRIES, 'and no more');
is(in_other(q{SELECT id FROM keyrot.credentials WHERE id LIKE 'many.%' AND last_used_at IS NULL ORDER BY app_id LIMIT 1}), 'many.1', 'the oldest is gone');
sleep 2;
in_other(verifying('many.2', 1) . ';' . verifying('many.' . ($ENTRIES + 2), 1));
is(in_other(q{SELECT string_agg(id, ' ' ORDER BY app_id) FROM keyrot.credentials WHERE id LIKE 'many.%' AND last_used_at IS NULL}), 'many.1 many.3', 'one that is used again stays');

# On a standby.
sql("SELECT FROM keyrot.create_app('Standby', 'use.standby', '$SECRETS[1]')");
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
chmod oct(600), key_file($standby) or die $!;
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
$server = $standby;
is(uses('use.standby'), 'never never', 'a standby knows nothing at first');
sql(verifying('use.standby', 1));
is(uses('use.standby'), 'true never', 'and its own uses then');
is(sql(q{SELECT count(*) FROM keyrot.credential_use WHERE id = 'use.standby'}), '0', 'written nowhere');
$server = $node;
is(uses('use.standby'), 'never never', 'its primary does not hear of them');
$node->stop;
$standby->promote;
$server = $standby;
is(uses('use.standby'), 'true never', 'promoted, it still knows');
ok(wait_until(sub { attempts($standby, 'served', q{SELECT * FROM keyrot.refresh_zone_key('unknown')});
		sql(q{SELECT count(*) FROM keyrot.credential_use WHERE id = 'use.standby'}) }), 'and writes it down');

ok(wait_until(sub { $failing->safe_psql('served', q{SELECT count(*) FROM keyrot.credential_use WHERE id = 'use.app'}) }),
	'what could not be written down, was once it could');

# Without memory for it nothing is noted, and no grace period can wait for a use.
$standby->append_conf('postgresql.conf', 'keyrot.usage_entries = 0');
$standby->restart;
sql("SELECT FROM keyrot.create_app('None', 'use.none', '$SECRETS[1]')");
is(sql(verifying('use.none', 1)), 't', 'with usage_entries = 0 verification works');
is(uses('use.none'), 'never never', 'and notes nothing');
my ($refused) = attempts($standby, 'served', q{SELECT keyrot.reset_app_secret('use.none', grace_from => 'first_use')});
is("$refused->{sqlstate} $refused->{hint}", '55000 Set keyrot.usage_entries above 0, and restart the server.', 'first_use says so');

done_testing();

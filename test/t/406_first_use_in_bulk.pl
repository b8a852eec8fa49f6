# Bulk rotation and scheduled rotation beside grace periods that begin with a first use: they end the waiting, whether
# the first use has come, is known in memory alone, or comes while the batch is under way; and what was noted of the
# version before never ends the grace period of the next one.
#
# Why not pg_regress: such grace periods take preloading, and the worker's writing has to be waited for.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @SECRETS = map { "bulk-first-use-number-$_" } 0 .. 2;
my @KEYS    = map { substr(`printf '%032d' $_ | base64`, 0, 44) } 0 .. 2;

my $node = new_server('bulk', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
keyrot.zone_rate_limit = 0
keyrot.max_grace = '10d'
END
add_databases($node, 'served');

sub sql { return $node->safe_psql('served', $_[0]); }

sub verifying
{
	my ($id, $number) = @_;
	return "keyrot.verify_zone_string('$id', 'm', '" . sign_text($KEYS[$number], 'm') . "')" if $id =~ /zone/;
	return "keyrot.verify_app_string('$id', 'm', '" . sign_text($SECRETS[$number], 'm') . "')";
}

sub accepts
{
	my ($id, @numbers) = @_;
	return join ' ', grep { sql('SELECT ' . verifying($id, $_)) eq 't' } @numbers;
}

# Credentials whose second version was not used yet, with an hour's grace from then on.
sub wait_for_use
{
	for my $id (@_)
	{
		sql($id =~ /zone/
			? "SELECT keyrot.create_zone_key('$id', '$KEYS[1]'); SELECT keyrot.modify_zone_key('$id', '$KEYS[2]', '1 hour', grace_from => 'first_use')"
			: "SELECT FROM keyrot.create_app('App', '$id', '$SECRETS[1]'); SELECT keyrot.reset_app_secret('$id', NULL, '$SECRETS[2]', '1 hour', grace_from => 'first_use')");
	}
	return;
}

# Version, what is left of the grace from the last rotation on, and whether the row itself says so.
sub state_of
{
	return sql("SELECT version, previous_valid_until - modified_at, NOT EXISTS (SELECT FROM keyrot.app WHERE app_key = id AND grace_after_use IS NOT NULL)
		AND NOT EXISTS (SELECT FROM keyrot.zone WHERE zone_id = id AND grace_after_use IS NOT NULL) FROM keyrot.credentials WHERE id = '$_[0]'");
}

# The first uses that were noted so far were looked at by the worker: it takes them all at once.
my $markers = 0;
sub let_worker_write
{
	my $id = 'marker.' . ++$markers;
	wait_for_use($id);
	accepts($id, 2);
	return wait_until(sub { state_of($id) =~ /t$/ }) || die 'the worker does not write';
}

my %bulk = (
	'reset_apps'    => [ 'app.', sub { sql("CALL keyrot.reset_apps(app_keys => '{$_[0]}', grace_period => '2 hours')") } ],
	'refresh_zones' => [ 'zone-', sub { sql("CALL keyrot.refresh_zones(all_owners => true, zone_ids => NULL, grace_period => '2 hours')") } ],
	'rotate_due'    => [ 'due.', sub { sql("SELECT keyrot.set_app_policy('$_[0]', rotate_after => '1 microsecond', grace_period => '2 hours');
		SELECT FROM keyrot.rotate_due(); SELECT keyrot.set_app_policy('$_[0]')") } ]);

for my $name (sort keys %bulk)
{
	my ($prefix, $rotate) = @{ $bulk{$name} };

	my $id = "${prefix}waits";
	wait_for_use($id);
	$rotate->($id);
	is(state_of($id), '3|02:00:00|t', "$name: a wait for a first use ends with the rotation, which has a grace period of its own");
	is(accepts($id, 1, 2), '2', 'the version that was waited for is the previous one, the one before it is gone');
	let_worker_write();
	is(state_of($id), '3|02:00:00|t', 'and its use changes nothing');

	$id = "${prefix}runs";
	wait_for_use($id);
	accepts($id, 2);
	let_worker_write();
	is(accepts($id, 1), '1', "$name: where the grace period runs");
	$rotate->($id);
	is(state_of($id), '3|02:00:00|t', 'it is replaced as well');
	is(accepts($id, 1, 2), '2', 'and its version gone');

	# The worker cannot write down the first use before the rotation, for the row is held.
	$id = "${prefix}noted";
	wait_for_use($id);
	my $holder = $node->background_psql('served');
	$holder->query_safe("BEGIN; SELECT FROM keyrot.app WHERE app_key = '$id' FOR UPDATE; SELECT FROM keyrot.zone WHERE zone_id = '$id' FOR UPDATE");
	is(accepts($id, 2), '2', "$name: a first use that only memory knows");
	let_worker_write();
	like(state_of($id), qr/^2\|01:00:0.*\|f$/, 'begins the grace period at once');
	$holder->query_safe($name eq 'rotate_due'
		? "SELECT keyrot.set_app_policy('$id', rotate_after => '1 microsecond', grace_period => '2 hours'); SELECT FROM keyrot.rotate_due(); COMMIT; SELECT keyrot.set_app_policy('$id')"
		: 'COMMIT');
	$holder->quit;
	$rotate->($id) if $name ne 'rotate_due';
	let_worker_write();
	is(state_of($id), '3|02:00:00|t', 'and does not shorten that of the next version');
	is(accepts($id, 1, 2), '2', 'of the versions, the previous one is in grace');
}

# A first use that comes while a batch is under way, which has replaced the row and is not committed.
wait_for_use('batch.1', 'batch.2');
my $holder = $node->background_psql('served');
$holder->query_safe(q{BEGIN; SELECT FROM keyrot.app WHERE app_key = 'batch.2' FOR UPDATE});
my $bulk = $node->background_psql('served', on_error_stop => 0);
my $pid  = $bulk->query_safe('SELECT pg_backend_pid()');
$bulk->query_until(qr/called/, "\\echo called\nCALL keyrot.reset_apps(app_keys => '{batch.1,batch.2}', grace_period => '2 hours');\n");
$node->poll_query_until('served', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") or die 'it does not wait';
is(accepts('batch.1', 2, 1), '2 1', 'while a batch is under way, its first use begins a grace period');
is(accepts('batch.2', 2, 1), '2 1', 'and that of the one that it waits for');
let_worker_write();
$holder->query_safe('COMMIT');
$holder->quit;
$bulk->quit;
let_worker_write();
is(state_of("batch.$_") . ' ' . accepts("batch.$_", 1, 2), '3|02:00:00|t 2', "batch.$_: which ends with the batch") for 1, 2;

# After a NewAppKey, what waits is in the row of the old one.
wait_for_use('key.old');
sql(qq{SELECT keyrot.end_app_grace('key.old'); SELECT keyrot.reset_app_secret('key.old', 'key.new', '$SECRETS[1]', '1 hour', grace_from => 'first_use')});
is(accepts('key.old', 2), '2', 'an old AppKey in grace');
sql(q{CALL keyrot.reset_apps(app_keys => '{key.new}', grace_period => '2 hours')});
is(accepts('key.old', 2) . state_of('key.new'), '4|02:00:00|t', 'is gone once the new one was rotated');
is(sql(q{SELECT state FROM keyrot.credentials WHERE id = 'key.old'}), 'retired', 'and retired');

# A revert undoes a bulk rotation within its grace period, and waits for nothing.
wait_for_use('back.app');
sql(q{CALL keyrot.reset_apps(app_keys => '{back.app}', grace_period => '2 hours')});
my $end = sql(q{SELECT previous_valid_until FROM keyrot.credentials WHERE id = 'back.app'});
sql(q{SELECT keyrot.revert_app_secret('back.app')});
is(accepts('back.app', 1, 2), '2', 'reverted: the version that was waited for is current');
is(sql(qq{SELECT version, previous_valid_until = '$end' FROM keyrot.credentials WHERE id = 'back.app'}), '4|t', 'for the rest of the grace period the other one, too');
is(state_of('back.app') =~ /t$/, 1, 'and none is waited for');

# A bulk rotation that is rolled back leaves the waiting as it was.
wait_for_use('undone.app');
sql(q{BEGIN; SELECT keyrot.set_app_policy('undone.app', rotate_after => '1 microsecond'); SELECT FROM keyrot.rotate_due(); ROLLBACK});
is(state_of('undone.app') . ' ' . accepts('undone.app', 1), '2|10 days|f 1', 'rolled back, it waits on');
is(accepts('undone.app', 2), '2', 'for its first use');
like(state_of('undone.app'), qr/^2\|01:00:0/, 'which begins the grace period');

done_testing();

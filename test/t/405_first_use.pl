# Grace periods that begin with the first use of the new version: neither shorter than that nor longer than
# keyrot.max_grace from the rotation on, whatever happens meanwhile: a crash, a restart, a failover.
#
# Why not pg_regress: it takes servers with keyrot preloaded that are killed, restarted and promoted.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @SECRETS = map { "first-use-secret-number-$_" } 0 .. 9;
my @KEYS    = map { substr(`printf '%032d' $_ | base64`, 0, 44) } 0 .. 9;

my $node = new_server('waiting', init => { allows_streaming => 1 }, conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
keyrot.zone_rate_limit = 0
keyrot.max_grace = '10d'
restart_after_crash = on
END
add_databases($node, 'served', 'other');
my ($server, $database) = ($node, 'served');

sub sql { return $server->safe_psql($database, $_[0]); }

# Which of its secrets a credential is verified by.
sub accepts
{
	my ($id, @numbers) = @_;
	return join ' ', grep { sql(verifying($id, $_)) eq 't' } @numbers;
}

sub verifying
{
	my ($id, $number) = @_;
	my ($function, $secret) = $id =~ /zone/ ? ('verify_zone_string', $KEYS[$number]) : ('verify_app_string', $SECRETS[$number]);
	return "SELECT keyrot.$function('$id', 'm', '" . sign_text($secret, 'm') . "')";
}

# A credential that waits for the first use of its second version.
sub waits
{
	my ($id, $grace) = @_;
	if ($id =~ /zone/)
	{
		sql("SELECT keyrot.create_zone_key('$id', '$KEYS[1]'); SELECT keyrot.modify_zone_key('$id', '$KEYS[2]', '$grace', grace_from => 'first_use')");
	}
	else
	{
		sql("SELECT FROM keyrot.create_app('App', '$id', '$SECRETS[1]');
			SELECT keyrot.reset_app_secret('$id', NULL, '$SECRETS[2]', '$grace', grace_from => 'first_use')");
	}
	return;
}

sub grace_end { return sql("SELECT previous_valid_until FROM keyrot.credentials WHERE id = '$_[0]'"); }

# How long the grace lasts as seen now, from the rotation and from the last use of the current version.
sub lasts
{
	my ($id, $from) = @_;
	return sql("SELECT previous_valid_until - $from FROM keyrot.credentials WHERE id = '$id'");
}

# Whether the row itself says when the grace ends.
sub is_settled { return sql("SELECT bool_and(grace_after_use IS NULL) FROM (SELECT app_key AS id, grace_after_use FROM keyrot.app
	UNION ALL SELECT zone_id, grace_after_use FROM keyrot.zone) AS c WHERE id = '$_[0]'") eq 't'; }

# It waits, then it runs.
my $end;
for my $id ('wait.app', 'wait-zone')
{
	waits($id, '1 hour');
	is(lasts($id, 'modified_at'), '10 days', "$id: until the first use the end is the upper bound");
	is(accepts($id, 1), '1', 'the old version verifies');
	is(lasts($id, 'modified_at'), '10 days', 'which begins nothing');
	is(accepts($id, 2), '2', 'the new one does');
	$end = grace_end($id);
	is(lasts($id, 'last_used_at'), '01:00:00', 'the grace period counts from there, seen at once');
	is(accepts($id, 1, 2), '1 2', 'and later uses');
	is(grace_end($id), $end, 'change nothing');
	ok(wait_until(sub { is_settled($id) }), 'the worker writes it down');
	is(grace_end($id), $end, 'as it was');
}
is(sql(q{SELECT previous FROM keyrot.check_app_string('wait.app', 'm', '} . sign_text($SECRETS[1], 'm') . q{')}), 't', 'the old one is told from the new');

# Whatever verifies begins it; what does not verify, though it was signed by the new version, does not.
waits('any.app', '1 hour');
waits('any-zone', '1 hour');
sql(q{SELECT FROM keyrot.add_gateway('any-zone', 'gate')});
my ($mac, $zone_mac) = (sign_text($SECRETS[2], 'm'), sign_text($KEYS[2], 'm'));
my ($good, $over) = map { sql("SELECT keyrot.sign_token_for_zone('any-zone', '$_')") } '{}', '{"exp": 1}';
is(sql("SELECT reason FROM keyrot.check_gateway_token('any-zone', 'gate', '$over')"), 'token expired', 'an expired token');
is(sql("SELECT keyrot.verify_gateway_string('any-zone', 'none', 'm', '$zone_mac')"), 'f', 'and a wrong gateway');
is(lasts('any-zone', 'modified_at'), '10 days', 'begin no grace period');
for my $call ("keyrot.verify_app_signature('any.app', 'm', decode('$mac', 'base64'))", "keyrot.verify_app_string('any.app', 'm', '$mac')",
	"(SELECT valid FROM keyrot.check_app_string('any.app', 'm', '$mac'))", "keyrot.verify_zone_signature('any-zone', 'm', decode('$zone_mac', 'base64'))",
	"keyrot.verify_zone_string('any-zone', 'm', '$zone_mac')", "keyrot.verify_gateway_signature('any-zone', 'gate', 'm', decode('$zone_mac', 'base64'))",
	"keyrot.verify_gateway_string('any-zone', 'gate', 'm', '$zone_mac')", "keyrot.verify_gateway_token('any-zone', 'gate', '$good')",
	"(SELECT valid FROM keyrot.check_zone_string('any-zone', 'm', '$zone_mac'))", "(SELECT valid FROM keyrot.check_gateway_string('any-zone', 'gate', 'm', '$zone_mac'))",
	"(SELECT valid FROM keyrot.check_gateway_token('any-zone', 'gate', '$good'))")
{
	my $id = $call =~ /any-zone/ ? 'any-zone' : 'any.app';
	sql($id eq 'any-zone' ? "SELECT keyrot.modify_zone_key('any-zone', '$KEYS[3]'); SELECT keyrot.modify_zone_key('any-zone', '$KEYS[2]', '1 hour', grace_from => 'first_use')"
		: "SELECT keyrot.reset_app_secret('any.app', NULL, '$SECRETS[3]'); SELECT keyrot.reset_app_secret('any.app', NULL, '$SECRETS[2]', '1 hour', grace_from => 'first_use')");
	is(sql("SELECT previous_valid_until - modified_at FROM keyrot.credentials WHERE id = '$id'") . ' ' . sql("SELECT $call"), '10 days t', "$call");
	is(lasts($id, 'last_used_at'), '01:00:00', 'begins it');
}

# A session whose snapshot still has the version before as the current one takes nothing of that back, in a database
# whose graces only memory knows.
$database = 'other';
waits('old.app', '1 hour');
my $past = $node->background_psql('other');
$past->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM keyrot.credentials');
sql("SELECT keyrot.reset_app_secret('old.app', NULL, '$SECRETS[3]', '1 hour', grace_from => 'first_use')");
is(accepts('old.app', 3), '3', 'the third version is used');
$end = grace_end('old.app');
is($past->query_safe(verifying('old.app', 2)), 't', 'and the second where it is the current one still');
is(grace_end('old.app'), $end, 'which does not begin the grace period of the second anew');
is(accepts('old.app', 3), '3', 'nor does the next use');
is(grace_end('old.app'), $end, 'of the third');
$past->quit;
$database = 'served';

# It ends by the clock, also before the worker has come, and at once where the grace period is 0.
waits('zero.app', '0');
waits('short.app', '1 second');
is(accepts('zero.app', 1, 2, 1), '1 2', 'without a grace period the old version ends with the first use of the new one');
is(sql(q{SELECT state, previous_valid_until IS NULL FROM keyrot.credentials WHERE id = 'zero.app'}), 'current|t', 'and the view says so');
is(sql(verifying('short.app', 2) . '; SELECT pg_sleep(1.1);' . verifying('short.app', 1)), "t\n\nf", 'a short one ends in time');
ok(wait_until(sub { sql(q{SELECT count(*) FROM keyrot.app WHERE app_key IN ('zero.app', 'short.app') AND previous_secret IS NULL}) == 2 }),
	'and what has ended is wiped');

# The bound holds without any use.
sql("SET keyrot.max_grace = '2s'; SELECT FROM keyrot.create_app('App', 'bound.app', '$SECRETS[1]');
	SELECT keyrot.reset_app_secret('bound.app', NULL, '$SECRETS[2]', '1 second', grace_from => 'first_use')");
is(accepts('bound.app', 1), '1', 'before the bound');
sleep 2;
is(accepts('bound.app', 1), '', 'after it, though never used');
sql("SELECT FROM keyrot.create_app('App', 'capped.app', '$SECRETS[1]'); SELECT keyrot.set_app_policy('capped.app', lifetime => '1 day');
	SELECT keyrot.reset_app_secret('capped.app', NULL, '$SECRETS[2]', '9 days', grace_from => 'first_use')");
is(sql(q{SELECT previous_valid_until < modified_at + interval '1 day' FROM keyrot.credentials WHERE id = 'capped.app'}), 't', 'a version in grace does not outlive its lifetime, however long it waits');

# After a NewAppKey, the first use of the new AppKey counts, for both rows.
sql("SELECT FROM keyrot.create_app('App', 'key.old', '$SECRETS[1]');
	SELECT keyrot.reset_app_secret('key.old', 'key.new', '$SECRETS[2]', '1 hour', grace_from => 'first_use')");
is(accepts('key.old', 1, 2), '1', 'the old AppKey verifies with the old secret');
is(lasts('key.old', "(SELECT modified_at FROM keyrot.credentials WHERE id = 'key.new')"), '10 days', 'and waits');
is(accepts('key.new', 1, 2), '2', 'the new AppKey is used');
is(lasts('key.new', 'last_used_at'), '01:00:00', 'its row tells the end');
is(grace_end('key.old'), grace_end('key.new'), 'as does the old one');
ok(wait_until(sub { is_settled('key.old') && is_settled('key.new') }), 'both are written down');
is(grace_end('key.old'), grace_end('key.new'), 'alike');
sql("SELECT FROM keyrot.create_app('App', 'key.zero', '$SECRETS[1]');
	SELECT keyrot.reset_app_secret('key.zero', 'key.next', '$SECRETS[2]', grace_from => 'first_use')");
is(accepts('key.zero', 1) . accepts('key.next', 2) . accepts('key.zero', 1), '12', 'without a grace period the old AppKey ends with it');

# A revert ends the waiting.
waits('back.app', '1 hour');
sql(q{SELECT keyrot.revert_app_secret('back.app')});
is(lasts('back.app', 'modified_at'), '01:00:00', 'reverted before the first use: the grace period counts from the revert on');
is(accepts('back.app', 1, 2), '1 2', 'both verify');
ok(is_settled('back.app'), 'and nothing is waited for');
waits('back-zone', '1 hour');
accepts('back-zone', 2);
$end = grace_end('back-zone');
sql(q{SELECT pg_sleep(0.1); SELECT keyrot.revert_zone_key('back-zone')});
is(grace_end('back-zone'), $end, 'reverted after it: the rest of the period');
sql("SET keyrot.max_grace = '1min'; SELECT FROM keyrot.create_app('App', 'back.bound', '$SECRETS[1]');
	SELECT keyrot.reset_app_secret('back.bound', NULL, '$SECRETS[2]', '50 seconds', grace_from => 'first_use');
	UPDATE keyrot.app SET previous_valid_until = previous_valid_until - interval '40 seconds' WHERE app_key = 'back.bound'");
$end = grace_end('back.bound');
sql(q{SELECT keyrot.revert_app_secret('back.bound')});
is(grace_end('back.bound'), $end, 'never beyond the bound');
waits('late.app', '0');
accepts('late.app', 2);
my ($late) = attempts($node, 'served', q{SELECT keyrot.revert_app_secret('late.app')});
is($late->{sqlstate}, '55000', 'what has ended by its use cannot be reverted');

# What ends a grace ends the waiting, and a rotation begins another.
waits('end.app', '1 hour');
sql(q{SELECT keyrot.end_app_grace('end.app')});
is(accepts('end.app', 1, 2), '2', 'end_app_grace');
waits('again.app', '1 hour');
sql("SELECT keyrot.reset_app_secret('again.app', NULL, '$SECRETS[3]', '2 hours')");
accepts('again.app', 3);
is(lasts('again.app', 'modified_at'), '02:00:00', 'a later rotation has its own grace period, which does not wait');
sql("SELECT keyrot.reset_app_secret('again.app', NULL, '$SECRETS[4]', '2 hours', grace_from => 'first_use')");
is(lasts('again.app', 'modified_at'), '10 days', 'and a later one that does, waits anew');

# A use within a transaction that made the version is none: it may be undone.
waits('own.app', '1 hour');
sql("BEGIN; SELECT keyrot.reset_app_secret('own.app', NULL, '$SECRETS[3]', '0', grace_from => 'first_use');" . verifying('own.app', 3) . '; ROLLBACK');
is(accepts('own.app', 3, 1), '1', 'the undone version ended nothing');
is(lasts('own.app', 'modified_at'), '10 days', 'and began nothing');
sql("SELECT keyrot.reset_app_secret('own.app', NULL, '$SECRETS[4]', '0', grace_from => 'first_use')");
is(accepts('own.app', 2), '2', 'nor with the number that another has now');

# A row that somebody holds is told later.
waits('held.app', '1 hour');
my $holder = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('served') ], '<', \my $in, '>', \my $out, '2>', \my $err);
($in, $out) = ("BEGIN; SELECT app_key FROM keyrot.app WHERE app_key = 'held.app' FOR UPDATE;\n", '');
$holder->pump until $out =~ /held/;
accepts('held.app', 2);
waits('free.app', '1 hour');
accepts('free.app', 2);
ok(wait_until(sub { is_settled('free.app') }), 'another is settled meanwhile');
ok(!is_settled('held.app'), 'the one held is not');
$in .= "COMMIT;\n\\q\n";
$holder->finish;
ok(wait_until(sub { is_settled('held.app') }), 'but once it is free');
is(lasts('held.app', 'last_used_at'), '01:00:00', 'with the time of its first use');

# What was noted of a version that was replaced since is not taken for the one that waits now.
sub holding
{
	my ($id) = @_;
	my $session = $server->background_psql($database);
	$session->query_safe("BEGIN; SELECT FROM keyrot.app WHERE app_key = '$id' FOR UPDATE");
	return $session;
}

sub let_worker_write
{
	my ($id) = @_;
	waits($id, '1 hour');
	accepts($id, 2);
	return wait_until(sub { is_settled($id) });
}
waits('next.app', '1 hour');
my $rotating = holding('next.app');
accepts('next.app', 2);
let_worker_write('mark.first');
$rotating->query_safe("SELECT keyrot.reset_app_secret('next.app', NULL, '$SECRETS[3]', '1 hour', grace_from => 'first_use'); COMMIT");
$rotating->quit;
let_worker_write('mark.second');
is(lasts('next.app', 'modified_at') . ' ' . accepts('next.app', 2), '10 days 2', 'a first use that was noted before the rotation is none of the next version');
ok(!is_settled('next.app'), 'which waits');

# client_token and api() know when a grace period begins.
my $first = sql(q{SELECT keyrot.reset_app_secret('free.app', grace_period => '1 hour', client_token => 'token', grace_from => 'first_use')});
is(sql(q{SELECT keyrot.reset_app_secret('free.app', grace_period => '1 hour', client_token => 'token', grace_from => 'first_use')}), $first, 'a repeated call is answered');
my ($differs) = attempts($node, 'served', q{SELECT keyrot.reset_app_secret('free.app', grace_period => '1 hour', client_token => 'token')});
is($differs->{sqlstate}, '22023', 'one that begins the grace otherwise is another');
is(sql(q{SELECT http_status FROM keyrot.api('ResetAppSecret', '{"AppKey": "free.app", "GracePeriod": 60, "GraceFrom": "first_use"}')}), '200', 'api() takes it');
is(lasts('free.app', 'modified_at'), '10 days', 'and waits');
is(sql(q{SELECT body ->> 'Code' FROM keyrot.api('ResetAppSecret', '{"AppKey": "free.app", "GraceFrom": "now"}')}), 'InvalidGraceFrom', 'and refuses other words');
is(sql(q{SELECT http_status FROM keyrot.api('RefreshMultiPathGatewaySecretKey', '{"ZoneId": "back-zone", "GraceFrom": "first_use"}')}), '200', 'for zones, too');
is(lasts('back-zone', 'modified_at'), '10 days', 'which wait then');

# Crashes and restarts: what is written down stands; what is not, as in a database that no worker serves, begins anew.
waits('crash.app', '1 hour');
accepts('crash.app', 2);
$end = grace_end('crash.app');
wait_until(sub { is_settled('crash.app') });
waits('crash-zone', '1 hour');
$database = 'other';
waits('crash.app', '0');
is(accepts('crash.app', 1, 2, 1), '1 2', 'ended by its use');
$node->stop('immediate');
start_again($node);
is(accepts('crash.app', 1), '1', 'after a crash, where no worker writes, the old version is good until the next use');
is(lasts('crash.app', 'modified_at'), '10 days', 'and never beyond the bound');
is(accepts('crash.app', 2, 1), '2', 'which ends it');
$database = 'served';
is(grace_end('crash.app'), $end, 'where the worker has written, a crash changes nothing');
is(lasts('crash-zone', 'modified_at'), '10 days', 'what waited waits on');
is(accepts('crash-zone', 2, 1), '2 1', 'and begins then');
is(lasts('crash-zone', 'last_used_at'), '01:00:00', 'as long as it was to be');

# Between a first use and the worker's writing: the row is held, so that nothing is written, and the server crashes,
# loses a backend, or is stopped in good order.
for my $way (
	[ 'a crash',           sub { $node->stop('immediate'); start_again($node) } ],
	[ 'a killed backend',  sub { kill 'KILL', $_[0]; wait_for_server($node, 'served') } ],
	[ 'an orderly restart', sub { $node->restart } ])
{
	my ($name, $stop) = @$way;
	my $id = 'unwritten.' . $name =~ s/\W+/-/gr;
	waits("$id.$_", $_) for '0', '1h';
	my @holders = map { holding("$id.$_") } '0', '1h';
	my $killed = $holders[0]->query_safe('SELECT pg_backend_pid()');
	is(accepts("$id.0", 2, 1) . ' ' . accepts("$id.1h", 2, 1), '2 2 1', "$name: both are used, one had no grace period then");
	let_worker_write("mark.$id");
	ok(!is_settled("$id.0") && !is_settled("$id.1h"), 'nothing of that is written down');
	$stop->($killed);
	eval { $_->quit } for @holders;
	is(accepts("$id.0", 1) . ' ' . accepts("$id.1h", 1), '1 1', 'the previous versions are not ended by it');
	is(lasts("$id.$_", 'modified_at'), '10 days', "nor go on beyond the bound ($_)") for '0', '1h';
	is(accepts("$id.0", 2, 1) . ' ' . accepts("$id.1h", 2, 1), '2 2 1', 'the next use counts');
	is(lasts("$id.1h", 'last_used_at'), '01:00:00', 'from then on');
	ok(wait_until(sub { is_settled("$id.0") && is_settled("$id.1h") }), 'and is written down');
}

# Failover: a standby knows its own uses only, and promoted goes on with what its primary has written and with those.
waits("fail.$_", '1 hour') for qw(waiting settled seen unwritten ended);
accepts('fail.settled', 2);
ok(wait_until(sub { is_settled('fail.settled') }), 'settled on the primary');
$end = grace_end('fail.settled');
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
chmod oct(600), key_file($standby) or die $!;
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
$server = $standby;
is(accepts('fail.waiting', 1), '1', 'on the standby the old version verifies');
is(accepts('fail.seen', 2, 1), '2 1', 'there, the new one of another');
is(lasts('fail.seen', 'last_used_at'), '01:00:00', 'begins its grace there');
my $seen = grace_end('fail.seen');
is(grace_end('fail.settled'), $end, 'what the primary has settled is settled');
# The primary fails before it has written down that one grace begins, and another has ended.
$server = $node;
my $kept = holding('fail.unwritten');
accepts('fail.unwritten', 2);
sql("SELECT keyrot.end_app_grace('fail.ended')");
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
$node->stop('immediate');
$standby->promote;
$server = $standby;
eval { $kept->quit };
is(accepts('fail.unwritten', 1) . ' ' . lasts('fail.unwritten', 'modified_at'), '1 10 days', 'promoted: a first use that was not written down is not known, so the wait goes on, within its bound');
is(accepts('fail.unwritten', 2, 1) . ' ' . lasts('fail.unwritten', 'last_used_at'), '2 1 01:00:00', 'until the next use');
is(accepts('fail.ended', 1, 2), '2', 'what was ended stays ended');
is(lasts('fail.waiting', 'modified_at'), '10 days', 'promoted: what waited waits on');
is(grace_end('fail.settled'), $end, 'what was settled is');
ok(wait_until(sub { is_settled('fail.seen') }), 'what was seen is written down now');
is(grace_end('fail.seen'), $seen, 'as it was seen');

done_testing();

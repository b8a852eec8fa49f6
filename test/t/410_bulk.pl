# reset_apps, refresh_zones and reseal: stopped in every way and resumed by the call that the first NOTICE tells, seen from
# another session while they run, on record where they fail, and without a secret in any log.
#
# Why not pg_regress: it takes sessions that are cancelled, ended and killed while they work, the notices of one session
# read by another, and the server's log.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $APPS  = 500;
my $BATCH = 20;

my $node = new_server('bulk', conf => <<'END');
shared_preload_libraries = 'pg_stat_statements,auto_explain,keyrot'
keyrot.database = 'bulk'
restart_after_crash = on
pg_stat_statements.track = 'all'
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_verbose = on
log_statement = 'all'
log_min_duration_statement = 0
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
END
add_databases($node, 'bulk');
$node->safe_psql('bulk', <<"END");
CREATE EXTENSION pg_stat_statements;
CREATE ROLE "Tenant's own";
CREATE ROLE regress_reader LOGIN;
GRANT USAGE ON SCHEMA keyrot TO regress_reader;
GRANT SELECT ON keyrot.progress TO regress_reader;
DO \$\$ BEGIN
    PERFORM keyrot.create_app('App', 'app-' || to_char(i, 'FM0000')) FROM generate_series(1, $APPS) AS i;
    PERFORM keyrot.set_app_owner('app-' || to_char(i, 'FM0000'), '"Tenant''s own"') FROM generate_series(1, $APPS) AS i;
    PERFORM keyrot.create_app('Other', 'other');
    PERFORM keyrot.create_zone_key('zone-' || i) FROM generate_series(1, 3) AS i;
END \$\$;
END

sub query { return $node->safe_psql('bulk', $_[0]); }

# How many apps have each version, and how often each app's rotation by reset_apps is on record.
sub versions { return query(q{SELECT version, count(*) FROM keyrot.app WHERE app_key LIKE 'app-%' GROUP BY 1 ORDER BY 1}); }

sub recorded
{
	return query(q{SELECT version, count(*), count(DISTINCT target), count(DISTINCT request_id) FROM keyrot.request
		WHERE action = 'reset_apps' AND outcome = 'ok' GROUP BY 1 ORDER BY 1});
}

# Runs a call in a session of its own up to where somebody else holds a row.
sub stuck
{
	my ($row, $call) = @_;
	my $holder = $node->background_psql('bulk');
	$holder->query_safe("BEGIN; SELECT FROM keyrot.end_app_grace('$row')");
	my $session = $node->background_psql('bulk', on_error_stop => 0);
	my $pid     = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_until(qr/waiting/, "\\set VERBOSITY verbose\n\\echo waiting\n$call;\n");
	$node->poll_query_until('bulk', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid")
	  or die 'it does not wait';
	return ($holder, $session, $pid);
}

# The call that its first NOTICE says to resume with.
sub resuming_call
{
	my ($session) = @_;
	my $call;
	wait_until(
		sub {
			$session->{run}->pump_nb;
			($call) = $session->{stderr} =~ /NOTICE:  \w+: apps to rotate: \d+\nHINT:  To resume it after an interruption: (CALL .*)\n/m;
			return $call;
		}) or die "no call to resume with in: $session->{stderr}";
	return $call;
}

my $progress = q{SELECT action, done, total, started_at < clock_timestamp(), time_left IS NOT NULL, pid FROM keyrot.progress};
my $call     = qq{CALL keyrot.reset_apps('"Tenant''s own"', batch_size => $BATCH)};
my $held     = sprintf 'app-%04d', 8 * $BATCH + 7;
my $done     = 8 * $BATCH;
my $version  = 1;

for my $way (
	[ 'cancelled',  sub { query("SELECT pg_cancel_backend($_[0])") } ],
	[ 'terminated', sub { query("SELECT pg_terminate_backend($_[0], 30000)") } ],
	[ 'killed',     sub { kill 'KILL', $_[0]; } ],)
{
	my ($name, $stop) = @$way;
	my $crashes = $name eq 'killed';
	my ($holder, $session, $pid) = stuck($held, $call);

	is(query($progress), "reset_apps|$done|$APPS|t|t|$pid", "$name: another session sees how far it has come");
	is($node->safe_psql('bulk', $progress, extra_params => [ '-U', 'regress_reader' ]),
		'', 'a role without the rights of who runs it sees nothing');
	my $resume = resuming_call($session);
	like($resume, qr/^CALL keyrot\.reset_apps\(owner => '"Tenant''s own"', grace_period => '00:00:00', batch_size => $BATCH, rotated_before => '[^']+'\)$/,
		'the call to resume with');
	$stop->($pid);
	wait_for_server($node, 'bulk') if $crashes;
	$node->poll_query_until('bulk', 'SELECT count(*) = 0 FROM keyrot.progress') or die;
	eval { $holder->query_safe('ROLLBACK') unless $crashes };
	eval { $holder->quit };
	eval { $session->quit };
	is(versions(), "$version|" . ($APPS - $done) . "\n" . ($version + 1) . "|$done", 'what was committed stays, and nothing else');
	query($resume);
	$version++;
	is(versions(), "$version|$APPS", 'resumed, it has rotated each once');
	query($resume);
	is(versions(), "$version|$APPS", 'and so it stays when it is resumed again');
}
is(recorded(), join("\n", map { "$_|$APPS|$APPS|$APPS" } 2 .. $version), 'each rotation is on record once, with a RequestId of its own');
is(query(q{SELECT version FROM keyrot.app WHERE app_key = 'other'}), '1', "nobody else's was touched");

# The call itself is on record where it failed, with no target.  (What was noted before the crash was recorded before it.)
ok(
	wait_until(sub {
		return query(q{SELECT string_agg(outcome, ' ' ORDER BY request_id) FROM keyrot.request WHERE action = 'reset_apps' AND target = ''})
		  eq '57014 57P01';
	}),
	'a call that was cancelled or ended is on record');

# What fails at its COMMIT is undone, and each request of that batch noted.
query(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
	CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON keyrot.request DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (NEW.target = 'app-0005') EXECUTE FUNCTION refuse();});
my ($refused) = attempts($node, 'bulk', q{CALL keyrot.reset_apps(app_keys => ARRAY['app-0001', 'app-0002', 'app-0003', 'app-0004', 'app-0005', 'app-0006'], batch_size => 3)});
is("$refused->{sqlstate} $refused->{message}", 'P0001 refused', 'a batch that cannot be committed ends the call');
like($refused->{context}, qr/keyrot request $REQUEST_ID: reset_apps/, 'with a RequestId');
query('DROP TRIGGER refuse ON keyrot.request');
is(query(q{SELECT string_agg(version::text, ' ' ORDER BY app_key) FROM keyrot.app WHERE app_key BETWEEN 'app-0001' AND 'app-0006'}),
	join(' ', ($version + 1) x 3, ($version) x 3), 'the batch before it stays');
ok(
	wait_until(sub {
		return query(q{SELECT string_agg(target, ' ' ORDER BY target) FROM keyrot.request WHERE action = 'reset_apps' AND outcome = 'rolled back'})
		  eq 'app-0004 app-0005 app-0006';
	}),
	'those that were undone are on record as rolled back');

# rotate_due, rolled back by its caller.
query(q{SELECT keyrot.set_app_policy('app-0001', '1 day'); UPDATE keyrot.app SET due_at = now() WHERE app_key = 'app-0001';
	BEGIN; SELECT FROM keyrot.rotate_due(); ROLLBACK;});
ok(wait_until(sub { return query(q{SELECT outcome, target, version IS NULL FROM keyrot.request WHERE action = 'rotate_due'}) eq 'rolled back|app-0001|t'; }),
	'a rotation that was due and rolled back is on record');
query('SELECT FROM keyrot.rotate_due()');

# reseal is among what runs; it waits for who may have sealed with the older key.
my $writer = $node->background_psql('bulk');
$writer->query_safe("BEGIN; SELECT FROM keyrot.reset_app_secret('other')");
query('SELECT keyrot.rotate_data_key()');
my $reseal = $node->background_psql('bulk', on_error_stop => 0);
my $pid    = $reseal->query_safe('SELECT pg_backend_pid()');
$reseal->query_until(qr/waiting/, "\\echo waiting\nCALL keyrot.reseal();\n");
$node->poll_query_until('bulk', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") or die 'it does not wait';
is(query($progress), 'reseal|' . ($APPS + 3) . '|' . ($APPS + 4) . "|t|t|$pid", 'a reseal is seen, too');
$writer->query_safe('COMMIT');
$writer->quit;
$reseal->quit;
is(query($progress), '', 'and gone when it is done');

# Where nobody's activity is told, neither is this.
my ($holder, $session) = stuck('app-0100', "SET track_activities = off;\n$call");
is(query($progress), '', 'with track_activities off nothing is shown');
$holder->query_safe('ROLLBACK');
$_->quit for $holder, $session;
is(query(q{SELECT count(*) FROM keyrot.progress}), '0', 'nothing is left');

# No secret is anywhere but where it belongs.
query(q{CALL keyrot.refresh_zones(all_owners => true, grace_period => '1 hour'); CALL keyrot.reset_apps(all_owners => true, grace_period => '1 hour')});
my @secrets = split /\n/, query(q{SELECT app_secret FROM keyrot.app AS a, keyrot.describe_app_security(a.app_key);
	SELECT secret_key FROM keyrot.zone AS z, keyrot.describe_zone_key(z.zone_id)});
is(scalar(@secrets), $APPS + 4, 'all secrets are at hand');
my $said = slurp_file($node->logfile) . query('SELECT query FROM pg_stat_statements') . query('SELECT * FROM pg_stat_activity');
is(scalar(grep { index($said, $_) >= 0 } @secrets), 0, 'none is in the log, in statistics or among the activities');
like($said, qr/CALL keyrot\.reset_apps/, 'calls are in the log');

$node->stop;
done_testing();

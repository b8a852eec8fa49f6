# The background worker: it survives what goes wrong around it and goes on, keeps no command from working
# that wants the database for itself, and wipes expired versions.
#
# Why not pg_regress: it takes a server with keyrot.database set, processes that are killed, and databases
# and extensions that come and go.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('working', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
keyrot.zone_rate_limit = 0
restart_after_crash = on
END

my $number = 0;

# Has a request fail, and returns its target, which no other has.
sub fail_once
{
	my ($database) = @_;
	my $target = 'unknown-' . ++$number;
	my ($done) = attempts($node, $database // 'served', "SELECT * FROM keyrot.refresh_zone_key('$target')");
	BAIL_OUT("did not fail as expected: $done->{text}") if $done->{sqlstate} ne 'P0002';
	return $target;
}

sub is_recorded
{
	my ($target, $name) = @_;
	ok(wait_until(sub { $node->safe_psql('served', "SELECT count(*) FROM keyrot.request WHERE target = '$target'") }), $name);
	return;
}

sub waiting { return $node->safe_psql('served', 'SELECT requests_waiting FROM ' . $STATUS); }

sub degraded { return $node->safe_psql('served', q{SELECT array_to_string(problems, '|') FROM } . $STATUS); }

sub process { return server_process($node, $_[0]); }

# It is there before its database is, and before the extension.
ok(wait_until(sub { process('keyrot launcher') }), 'the launcher runs');
ok(wait_until(sub { slurp_file($node->logfile) =~ /database "served" does not exist/ }), 'the worker found no database');
add_databases($node, 'served');
unlike(degraded(), qr/worker failed/, 'once there is one, nothing has failed yet that status() could tell');
is_recorded(fail_once(), 'and failures are recorded');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'template1'}), '0', 'and no other database was entered');

# What wants the database for itself gets it, with the worker just started or just idle.
for my $round (1 .. 3)
{
	is_recorded(fail_once(), 'a failure is recorded') if $round > 1;
	fail_once() if $round == 3;
	$node->safe_psql('postgres', "CREATE DATABASE copy_$round TEMPLATE served");
	$node->safe_psql('postgres', "DROP DATABASE copy_$round");
	pass('CREATE DATABASE ... TEMPLATE finds nobody in the way');
}
ok(wait_until(sub { !process('keyrot worker') }), 'a worker that has nothing to do is gone');
ok(process('keyrot launcher'), 'the launcher stays');
fail_once();
$node->safe_psql('postgres', 'DROP DATABASE served');
pass('nor does DROP DATABASE');
add_databases($node, 'served');
is_recorded(fail_once(), 'in a new database of that name failures are recorded');
fail_once();
$node->safe_psql('postgres', 'ALTER DATABASE served RENAME TO renamed');
$node->safe_psql('postgres', 'ALTER DATABASE renamed RENAME TO served');
is_recorded(fail_once(), 'and after it was renamed and renamed back');

# A worker in the midst of its work leaves between two transactions.  A trigger makes the work last longer
# than DROP DATABASE waits, and each transaction less long.
$node->safe_psql('postgres', 'CREATE DATABASE spare TEMPLATE served');
$node->safe_psql('served', q{
	INSERT INTO keyrot.app (app_key, version, owner, owner_name, previous_secret, previous_valid_until, created_at, modified_at,
		app_id, app_name, description)
	SELECT 'old-' || n, 1, 10, 'postgres', '\x01', '2020-01-01', '2020-01-01', '2020-01-01', n, 'Old', repeat('x', 1800)
	  FROM generate_series(1, 4000) AS n;
	CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END';
	CREATE TRIGGER slow BEFORE UPDATE ON keyrot.app FOR EACH ROW EXECUTE FUNCTION public.slow();
	SELECT keyrot.create_zone_key('zone');
	SELECT keyrot.refresh_zone_key('zone', '1 second');});
my $left = q{SELECT count(*) FROM keyrot.app WHERE previous_secret IS NOT NULL};
ok(wait_until(sub { $node->safe_psql('served', $left) < 4000 }), 'the worker is in the midst of its work');
cmp_ok($node->safe_psql('served', $left), '>', 0, 'with more to do');
$node->safe_psql('postgres', 'DROP DATABASE served');
pass('DROP DATABASE has it give way');
$node->safe_psql('postgres', 'ALTER DATABASE spare RENAME TO served');
is_recorded(fail_once(), 'and in the next database of that name failures are recorded');

# The extension dropped and made again.
my $before = fail_once();
is_recorded($before, 'before the extension is dropped');
$node->safe_psql('served', 'DROP EXTENSION keyrot');
$node->safe_psql('served', q{CREATE SCHEMA keyrot; CREATE TABLE keyrot.request (n int);
	CREATE TABLE keyrot.app (n int); CREATE TABLE keyrot.zone (n int)});
ok(!process('keyrot worker') || wait_until(sub { !process('keyrot worker') }), 'no worker stays in a database without it');
$node->safe_psql('served', 'DROP SCHEMA keyrot CASCADE; CREATE EXTENSION keyrot');
is_recorded(fail_once(), 'with the extension made again, failures are recorded');

# Dropped while requests wait: a look-alike in its place is never touched, whatever it would run.
sub hold_log
{
	my ($in, $out, $err) = ("BEGIN; LOCK TABLE keyrot.request IN EXCLUSIVE MODE;\n\\echo held\n", '', '');
	my $holder = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('served') ], '<', \$in, '>', \$out, '2>', \$err);
	$holder->pump until $out =~ /held/;
	return sub { $in .= "$_[0];\n\\q\n"; $holder->finish; };
}
my $release = hold_log();
fail_once() for 1 .. 3;
$release->(q{DROP EXTENSION keyrot; COMMIT;
	CREATE TABLE public.ran (who text);
	CREATE SCHEMA keyrot;
	CREATE TABLE keyrot.request (request_id uuid, target text, requested_at timestamptz, action text, caller text, caller_oid oid,
		"session_user" text, session_user_oid oid, client_addr inet, pid int, outcome text, version int, PRIMARY KEY (request_id, target));
	CREATE TABLE keyrot.app (app_key text, previous_secret bytea, previous_valid_until timestamptz);
	CREATE TABLE keyrot.zone (zone_id text, previous_secret bytea, previous_valid_until timestamptz);
	CREATE FUNCTION public.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN NEW; END';
	CREATE TRIGGER trap BEFORE INSERT ON keyrot.request FOR EACH ROW EXECUTE FUNCTION public.trap()});
sleep 4;
is($node->safe_psql('served', 'SELECT (SELECT count(*) FROM keyrot.request), (SELECT count(*) FROM public.ran)'), '0|0',
	'a look-alike of the request log is not touched');
$node->safe_psql('served', 'DROP SCHEMA keyrot CASCADE; CREATE EXTENSION keyrot');
unlike(degraded(), qr/worker failed/, 'with the extension back, a worker that was not to find it has not failed');
ok(wait_until(sub { waiting() eq '0' }), 'and what waited is recorded');
is_recorded(fail_once(), 'as are further failures');

# Errors end a worker, and the next one goes on: here a table that refuses, as a full disk would.
$node->safe_psql('served', q{
	CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file: No space left on device'; END $$;
	CREATE TRIGGER disk BEFORE INSERT ON keyrot.request FOR EACH ROW WHEN (NEW.outcome <> 'ok') EXECUTE FUNCTION public.full()});
my $stuck = fail_once();
ok(wait_until(sub { slurp_file($node->logfile) =~ /No space left on device/ }), 'the worker fails');
ok(wait_until(sub { degraded() =~ /background worker failed/ }), 'status() says so');
is(waiting(), '1', 'what it could not record still waits');
$node->safe_psql('served', 'DROP FUNCTION public.full CASCADE');
is_recorded($stuck, 'and is recorded when it can be');

# What a database's settings do to sessions does not keep it from writing.
ok(wait_until(sub { !process('keyrot worker') }), 'the next worker comes after what follows');
$node->safe_psql('postgres', 'ALTER DATABASE served SET default_transaction_read_only = on');
attempts($node, 'served', q{SELECT * FROM keyrot.refresh_zone_key('read-only')});
is_recorded('', 'a failure in a read-only transaction is recorded: 25006');
$node->safe_psql('postgres', 'ALTER DATABASE served RESET ALL');
is($node->safe_psql('served', q{SELECT count(*) FROM keyrot.request WHERE outcome = '25006'}), '1', 'with its SQLSTATE');

# Killed: the worker by an administrator, the launcher likewise, and the launcher as the kernel would.
$release = hold_log();
my $target = fail_once();
my $worker = wait_until(sub { process('keyrot worker') });
is($node->safe_psql('served', "SELECT pg_terminate_backend($worker)"), 't', 'the worker is terminated');
ok(wait_until(sub { process('keyrot worker') ne $worker }), 'and gone');
$release->('ROLLBACK');
is_recorded($target, 'another one records');
my $launcher = process('keyrot launcher');
kill 'TERM', $launcher;
ok(wait_until(sub { process('keyrot launcher') && process('keyrot launcher') ne $launcher }), 'a launcher that is terminated comes back');
is_recorded(fail_once(), 'and failures are recorded');
$launcher = process('keyrot launcher');
kill 'KILL', $launcher;
ok(wait_until(sub { process('keyrot launcher') && process('keyrot launcher') ne $launcher }), 'so does one that is killed, with the whole server');
ok(slurp_file($node->logfile) =~ /background worker "keyrot launcher" \(PID $launcher\) was terminated by signal 9/, 'the log says which');
ok(wait_until(sub { ($node->psql('served', 'SELECT 1'))[0] == 0 }), 'which comes up again');
is_recorded(fail_once(), 'and failures are recorded');

# Expired versions are wiped: of apps, renamed apps and zones; what is held by somebody is left for later.
$node->safe_psql('served', q{
	SELECT keyrot.create_zone_key('z-' || n) FROM generate_series(1, 3) AS n;
	SELECT keyrot.create_app('App', 'app-1'), keyrot.create_app('App', 'app-2');
	SELECT keyrot.refresh_zone_key('z-' || n, '1 hour') FROM generate_series(1, 3) AS n;
	SELECT keyrot.reset_app_secret('app-1', grace_period => '1 hour');
	SELECT keyrot.reset_app_secret('app-2', 'app-3', grace_period => '1 hour');});
my $kept = q{SELECT string_agg(id, ' ' ORDER BY id) FROM (
	SELECT app_key AS id FROM keyrot.app WHERE previous_secret IS NOT NULL OR previous_valid_until IS NOT NULL
	UNION ALL SELECT zone_id FROM keyrot.zone WHERE previous_secret IS NOT NULL OR previous_valid_until IS NOT NULL) AS kept};
is($node->safe_psql('served', $kept), 'app-1 app-2 app-3 z-1 z-2 z-3', 'previous versions are kept for their grace');
# An hour passes for all but one, and another grace that ends has the tables searched.
$node->safe_psql('served', q{
	UPDATE keyrot.app SET previous_valid_until = previous_valid_until - interval '1 hour';
	UPDATE keyrot.zone SET previous_valid_until = previous_valid_until - interval '1 hour' WHERE zone_id <> 'z-2';});
{
	my ($in, $out, $err) = ("BEGIN; SELECT FROM keyrot.zone WHERE zone_id = 'z-3' FOR UPDATE;\n\\echo held\n", '', '');
	my $holder = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('served') ], '<', \$in, '>', \$out, '2>', \$err);
	$holder->pump until $out =~ /held/;
	$node->safe_psql('served', q{SELECT keyrot.refresh_zone_key('z-1', '1 second')});
	ok(wait_until(sub { $node->safe_psql('served', $kept) eq 'z-2 z-3' }), 'and wiped after it, but for a row that somebody holds');
	$in .= "ROLLBACK;\n\\q\n";
	$holder->finish;
}
ok(wait_until(sub { $node->safe_psql('served', $kept) eq 'z-2' }), 'which is wiped later; one still in grace stays');
is($node->safe_psql('served', q{SELECT count(*) FROM keyrot.credentials WHERE (id, version) IN (('z-1', 3), ('app-1', 2)) AND state = 'current'}), '2',
	'their current versions are what they were');
ok(wait_until(sub { !process('keyrot worker') }), 'the worker is gone again');

# A request that cannot be recorded holds up nobody else's, and is recorded once it can be.
$node->safe_psql('served', q{
	CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
		AS 'BEGIN IF NEW.action = ''delete_zone_key'' THEN RAISE EXCEPTION ''refused''; END IF; RETURN NEW; END';
	CREATE TRIGGER refuse BEFORE INSERT ON keyrot.request FOR EACH ROW EXECUTE FUNCTION public.refuse();});
attempts($node, 'served', q{SELECT keyrot.delete_zone_key('unrecordable')});
is_recorded(fail_once(), 'behind a request that cannot be recorded, others are');
is($node->safe_psql('served', q{SELECT count(*) FROM keyrot.request WHERE target = 'unrecordable'}), '0', 'and it is not');
$node->safe_psql('served', 'DROP TRIGGER refuse ON keyrot.request');
is_recorded('unrecordable', 'until it can be');

done_testing();

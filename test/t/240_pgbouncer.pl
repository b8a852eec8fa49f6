# Through PgBouncer in transaction mode, where many clients share a few server connections: each call is its
# own client's, with the rights, settings and limits of that one, and nothing is left for the next.
#
# Why not pg_regress: it takes a pooler, and clients that are given a session in which another one was.
#
# PgBouncer is Debian's; its service is not used, only the program, with a socket in the test's folder.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $CLIENTS     = 10;
my $LOOPS       = 25;
my $CONNECTIONS = 3;    # of the server, for all clients of one kind

my ($program) = grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
plan skip_all => 'PgBouncer is not installed (Debian: pgbouncer)' unless $program;
my ($major, $minor) = `$program --version` =~ /PgBouncer (\d+)\.(\d+)/ or die "$program does not tell its version";
my $knows_prepared = $major > 1 || $minor >= 21;

my $node = new_server('pooled', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'pooled'
keyrot.zone_rate_limit = 0
log_statement = all
END
add_databases($node, 'pooled');
$node->safe_psql('pooled', <<'END');
CREATE ROLE regress_pool LOGIN NOINHERIT;
CREATE ROLE regress_tenants;
GRANT USAGE ON SCHEMA keyrot TO regress_tenants;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_tenants;
END
for my $client (0 .. $CLIENTS + 1)
{
	$node->safe_psql('pooled', <<"END");
CREATE ROLE regress_tenant_$client LOGIN IN ROLE regress_tenants;
GRANT regress_tenant_$client TO regress_pool;
SET ROLE regress_tenant_$client;
SELECT FROM keyrot.create_app('App', 'app-$client');
SELECT FROM keyrot.create_zone_key('zone-$client');
END
}

# The pooler.  "pooled" is the database with one user of the server for all clients, "single" the same with
# one connection, so that whoever comes next gets the session that the last one had, and "tenant" likewise
# with a tenant as that user.
my $folder = PostgreSQL::Test::Utils::tempdir();
my $port   = PostgreSQL::Test::Cluster::get_free_port();
my $server = 'host=' . $node->host . ' port=' . $node->port . ' dbname=pooled';
append_to_file("$folder/users", qq{"regress_client" ""\n});
append_to_file("$folder/pgbouncer.ini", <<"END");
[databases]
pooled = $server user=regress_pool pool_size=$CONNECTIONS
single = $server user=regress_pool pool_size=1
tenant = $server user=regress_tenant_0 pool_size=1
[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = $port
unix_socket_dir = @{[ $node->host ]}
auth_type = trust
auth_file = $folder/users
max_client_conn = 100
logfile = $folder/pgbouncer.log
pidfile = $folder/pgbouncer.pid
END
append_to_file("$folder/pgbouncer.ini", "max_prepared_statements = 100\n") if $knows_prepared;
my $bouncer = fork // die "cannot fork: $!";
if (!$bouncer)
{
	open STDOUT, '>', "$folder/pgbouncer.out";
	open STDERR, '>&', \*STDOUT;
	exec $program, "$folder/pgbouncer.ini" or POSIX::_exit(127);
}

END
{
	my $status = $?;
	if ($bouncer)
	{
		kill 'TERM', $bouncer;
		waitpid $bouncer, 0;
	}
	$? = $status;
}

# A pooled database, which the functions for a server's database take for a server.
sub connection
{
	my ($database) = @_;
	return 'host=' . $node->host . " port=$port dbname=$database user=regress_client";
}

{
	package Pooled;
	sub psql
	{
		my ($self, $database, $script, %options) = @_;
		return $node->psql($database, $script, %options, connstr => main::connection($database));
	}
}
my $pool = bless {}, 'Pooled';

sub client { return $node->background_psql('pooled', on_error_stop => 0, extra_params => [ '-d', connection($_[0]) ]); }

ok(wait_until(sub { ($pool->psql('pooled', 'SELECT 1'))[0] == 0 }), "PgBouncer $major.$minor is up");


# Many clients, each with its tenant's rights for each transaction.
sub client_script
{
	my ($client) = @_;
	my $other    = ($client + 1) % $CLIENTS;
	my $as       = "BEGIN; SET LOCAL ROLE regress_tenant_$client;";
	my $script   = "\\set VERBOSITY verbose\n\\set SHOW_CONTEXT always\n";
	for my $number (1 .. $LOOPS)
	{
		my $refresh = "FROM keyrot.refresh_zone_key('zone-$client', client_token => 'token-$number')";
		$script .= <<"END";
$as
SELECT 'done', keyrot.reset_app_secret('app-$client', new_app_secret => 'secret-of-$client-number-$number');
COMMIT;
$as
SELECT 'done', request_id, 'refreshed' $refresh;
COMMIT;
$as
SELECT 'again', request_id $refresh;
COMMIT;
$as
SELECT 'secret', app_secret FROM keyrot.describe_app_security('app-$client');
COMMIT;
$as
SELECT keyrot.reset_app_secret('app-$other');
ROLLBACK;
SELECT 'who', current_user, current_setting('search_path'), current_setting('keyrot.zone_rate_limit');
SELECT keyrot.reset_app_secret('app-$client');
END
		$script .= "DISCARD ALL;\n"                                      if $number % 5 == $client % 5;
		$script .= "BEGIN; SET LOCAL search_path = pg_temp; ROLLBACK;\n" if $number % 3 == 0;
	}
	return $script;
}

# Starts a program without waiting for it.
sub start_program
{
	my ($file, @command) = @_;
	my $pid = fork // die "cannot fork: $!";
	return $pid if $pid;
	$bouncer = 0;
	open STDOUT, '>', "$file.out";
	open STDERR, '>', "$file.err";
	exec @command or POSIX::_exit(127);
}

sub wait_for_programs
{
	my %running = map { $_ => 1 } @_;
	my $ended   = wait_until(
		sub {
			delete @running{ grep { waitpid($_, POSIX::WNOHANG()) == $_ } keys %running };
			return !%running;
		});
	kill 'KILL', keys %running;
	BAIL_OUT('the clients do not come to an end') unless $ended;
	return;
}

sub start_psql
{
	my ($file, $database, $script) = @_;
	append_to_file("$file.sql", $script);
	return start_program($file, 'psql', '-XAtq', '-d', connection($database), '-f', "$file.sql");
}

wait_for_programs(map { start_psql("$folder/client-$_", 'pooled', client_script($_)) } 0 .. $CLIENTS - 1);
sub id_list { return "'{" . join(',', @_) . "}'"; }

my @outputs = map { slurp_file("$folder/client-$_.out") } 0 .. $CLIENTS - 1;
my $errors  = join '', map { slurp_file("$folder/client-$_.err") } 0 .. $CLIENTS - 1;
my $each    = $CLIENTS * $LOOPS;

my @done = map { /^done\|($REQUEST_ID)/mg } @outputs;
is(scalar(@done), 2 * $each, "$CLIENTS clients rotated " . 2 * $each . ' times');
is( $node->safe_psql('pooled', q{
		SELECT count(*), count(DISTINCT request_id), count(DISTINCT pid) BETWEEN 2 AND } . $CONNECTIONS . q{,
		       bool_and("session_user" = 'regress_pool' AND caller = 'regress_tenant_' || split_part(target, '-', 2))
		  FROM keyrot.request WHERE outcome = 'ok' AND request_id = ANY (} . id_list(@done) . ')'),
	2 * $each . '|' . 2 * $each . '|t|t',
	"over $CONNECTIONS server connections, each on record as its own tenant's");
is( $node->safe_psql('pooled', q{SELECT string_agg(DISTINCT version::text, ' ') FROM keyrot.credentials
		WHERE id NOT LIKE '%-1_'}), $LOOPS + 1, 'each credential has the version that its rotations made');
is(join(' ', map { /^again\|($REQUEST_ID)/mg } @outputs), join(' ', map { /^done\|($REQUEST_ID)\|refreshed/mg } @outputs),
	"each of $each repetitions, on whichever connection, got the first RequestId");
my @expected = map { my $client = $_; map { "secret-of-$client-number-$_" } 1 .. $LOOPS } 0 .. $CLIENTS - 1;
is(join(' ', map { /^secret\|(.*)$/mg } @outputs), "@expected", "each of $each secrets read is the one that this client had set");
is_deeply([ grep { $_ ne 'regress_pool|"$user", public|0' } map { /^who\|(.*)$/mg } @outputs ],
	[], "in none of $each sessions was a role or setting left of the client before");

my $no_right = () = $errors =~ /ERROR:  42501: permission denied for schema keyrot/g;
my @refused =
  $errors =~ /ERROR:  42501: permission denied for app.*\n(?:\w+:  .*\n)*?CONTEXT:  keyrot request ($REQUEST_ID): reset_app_secret/g;
my %distinct = map { $_ => 1 } @refused;
is(keys(%distinct) . " $no_right", "$each $each", "each of $each tries at another tenant's app, and without a tenant's role, was refused");
is(scalar(() = $errors =~ /ERROR:  /g), 2 * $each, 'nothing else was');
my $refusals = q{SELECT count(*) FROM keyrot.request WHERE outcome = '42501' AND "session_user" = 'regress_pool'
	 AND caller LIKE 'regress_tenant_%' AND request_id = ANY (} . id_list(@refused) . ')';
ok(wait_until(sub { $node->safe_psql('pooled', $refusals) == $each }), "all $each are on record, with session user and caller");
is( $node->safe_psql('pooled', q{
		SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%secret-of%' AND pid <> pg_backend_pid();
		SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}),
	"0\n0", 'no secret and no lock is left in a server connection');
ok(slurp_file($node->logfile) !~ /secret-of-\d/, "no secret is in the server's log");


# One after the other in the same session.
my @next = attempts($pool, 'tenant', q{SELECT pg_backend_pid()},
	q{SELECT keyrot.reset_app_secret('app-0', new_app_secret => 'secret-of-0-that-is-mine') IS NULL},
	q{SELECT keyrot.modify_zone_key('zone-0', 'a-bad-secret-of-0')});
my @after = attempts($pool, 'tenant', q{SELECT pg_backend_pid()},
	q{SELECT count(*) FROM pg_stat_activity WHERE query ~ ('secret' || '-of-')},
	q{SELECT count(*) FROM pg_prepared_statements});
is(join(' ', map { $_->{sqlstate} } @next), '  22023', 'a client rotates, and makes a mistake');
is(join(' ', map { $_->{output} } @after), "$next[0]{output} 0 0", 'the next one has its session, and finds no secret in it');

# What an administrator changes is in force at once in sessions that have been used.
sub as_tenant
{
	my ($number, $statement) = @_;
	return (attempts($pool, 'single', 'BEGIN', "SET LOCAL ROLE regress_tenant_$number", $statement, 'COMMIT'))[2];
}
my $rotate = q{SELECT keyrot.reset_app_secret('app-1')};
my @states = as_tenant(1, $rotate)->{sqlstate};
for my $change (
	'REVOKE regress_tenants FROM regress_tenant_1',
	'GRANT regress_tenants TO regress_tenant_1',
	q{SELECT keyrot.set_app_owner('app-1', 'regress_tenant_2')},
	'GRANT regress_tenant_2 TO regress_tenant_1',
	'REVOKE regress_tenant_2 FROM regress_tenant_1',
	q{SELECT keyrot.set_app_owner('app-1', 'regress_tenant_1')})
{
	$node->safe_psql('pooled', $change);
	push @states, as_tenant(1, $rotate)->{sqlstate};
}
is(join('|', @states), '|42501||42501||42501|', 'a change of rights is in force at the next call');
is(as_tenant(1, 'SET keyrot.zone_rate_limit = 0')->{sqlstate}, '42501', 'a client cannot change a setting for others');

# A role set without LOCAL is the session's, and so the next client's.  Applications must not do that.
attempts($pool, 'single', 'SET ROLE regress_tenant_1');
my @inherited = attempts($pool, 'single', 'SELECT current_user', $rotate, 'DISCARD ALL', 'SELECT current_user', $rotate);
is(join('|', map { $_->{output} =~ s/$REQUEST_ID/rotated/r . $_->{sqlstate} } @inherited),
	'regress_tenant_1|rotated||regress_pool|42501', 'a role that is SET without LOCAL is handed on, until DISCARD ALL');

# A client that is gone in the midst of a transaction.
my $version = q{SELECT version FROM keyrot.credentials WHERE id = '%s'};
my $before  = $node->safe_psql('pooled', sprintf $version, 'app-4');
my $read    = q{SELECT version FROM keyrot.describe_app_security('app-4')};
my $gone    = client('single');
my $lost    = $gone->query(q{BEGIN; SET LOCAL ROLE regress_tenant_4; SELECT keyrot.reset_app_secret('app-4');});
$gone->{run}->kill_kill;
is(as_tenant(4, $read)->{output}, $before, 'what a client that is gone had not committed is undone');
ok(wait_until(sub {
	$node->safe_psql('pooled', "SELECT count(*) FROM keyrot.request WHERE request_id = '$lost' AND outcome = 'rolled back'") }),
	'and on record as rolled back');

# Clients that are gone before they got the answer: whoever repeats the call rotates no second time.
my ($rounds, $repeated) = (20, 0);
for my $round (1 .. $rounds)
{
	my $refresh = "SELECT request_id FROM keyrot.refresh_zone_key('zone-5', client_token => 'gone-$round')";
	my $pid = start_psql("$folder/gone-$round", 'pooled', "BEGIN; SET LOCAL ROLE regress_tenant_5; $refresh; COMMIT;");
	Time::HiRes::sleep(rand 0.08);
	kill 'KILL', $pid;
	waitpid $pid, 0;
	my ($again) = (attempts($pool, 'pooled', 'BEGIN', 'SET LOCAL ROLE regress_tenant_5', $refresh, 'COMMIT'))[2];
	die "the repetition fails: $again->{text}" if $again->{sqlstate};
	$repeated += $node->safe_psql('pooled', "SELECT count(*) FROM keyrot.request WHERE retry_of = '$again->{output}'");
}
is($node->safe_psql('pooled', sprintf $version, 'zone-5'), $LOOPS + 1 + $rounds,
	"$rounds clients killed at random moments: each refresh counts once, $repeated of them found done");

# The rate limit is for each caller behind the user of the pool, whichever connection it gets.
$node->safe_psql('postgres', 'ALTER SYSTEM SET keyrot.zone_rate_limit = 5');
$node->reload;
ok(wait_until(sub { as_tenant(1, 'SHOW keyrot.zone_rate_limit')->{output} eq '5' }), 'with a limit of five calls a second');
my ($many, $other) = ($CLIENTS, $CLIENTS + 1);
my $burst = join '', map {
	"BEGIN; SET LOCAL ROLE regress_tenant_$many; SELECT 'done' FROM keyrot.refresh_zone_key('zone-$many'); COMMIT;\n" } 1 .. 40;
my $start = time;
wait_for_programs(map { start_psql("$folder/burst-$_", 'pooled', "\\set VERBOSITY sqlstate\n$burst") } 1 .. 4);
my $seconds  = time - $start;
my $admitted = () = join('', map { slurp_file("$folder/burst-$_.out") } 1 .. 4) =~ /^done$/mg;
my $refused  = () = join('', map { slurp_file("$folder/burst-$_.err") } 1 .. 4) =~ /ERROR:  53400/g;
my @others = map { as_tenant($other, "SELECT FROM keyrot.refresh_zone_key('zone-$other')")->{sqlstate} } 1 .. 5;
is($admitted + $refused, 160, 'each of 160 calls by 4 clients is admitted or refused by the limit');
cmp_ok($admitted, '>=', 5, "$admitted were admitted in $seconds seconds");
cmp_ok($admitted, '<=', 5 * (int($seconds) + 1), 'and not more than the limit allows');
is(join('', @others), '', 'another caller behind the same user is admitted beside them');

# Parameters and prepared statements by the protocol.  A thread for each client: pgbench waits for one client's
# statement to be prepared while another one, in its transaction, keeps the connection that this needs.
my $script = "$folder/rotate.sql";
append_to_file($script, <<'END');
\set n random(1000000000, 9999999999)
BEGIN;
SET LOCAL ROLE regress_tenant_3;
SELECT keyrot.reset_app_secret('app-3', new_app_secret => 'secret-of-3-number-' || :n);
COMMIT;
END
for my $mode ('extended', $knows_prepared ? 'prepared' : ())
{
	my $first = $node->safe_psql('pooled', sprintf $version, 'app-3');
	wait_for_programs(start_program("$folder/$mode", 'pgbench', '-n', '-M', $mode, '-c', 8, '-j', 8, '-t', 30, '-f', $script,
		connection('pooled')));
	like(slurp_file("$folder/$mode.out"), qr/transactions actually processed: 240\/240/, "240 rotations by 8 clients with -M $mode");
	is($node->safe_psql('pooled', sprintf $version, 'app-3'), $first + 240, 'each made one version');
}
ok(slurp_file("$folder/pgbouncer.log") !~ /secret-of-\d/, "no secret is in PgBouncer's log");
note "PgBouncer $major.$minor does not know prepared statements in transaction mode" if !$knows_prepared;

done_testing();

# Verification sent to a standby, as the documentation says: how a client and a pool find it, how old its answers may
# be, and what keeps them from being old.
#
# Why not pg_regress: it takes a second server in recovery, and a pooler.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use Keyrot;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Protocol;
use Test::More;

my $primary = new_server('writes', init => { allows_streaming => 1 }, conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'shop'
keyrot.zone_rate_limit = 0
autovacuum = off
END
add_databases($primary, 'shop');
my @secret = map { "the-secret-number-$_-of-app-1" } 0 .. 40;
my $current = 0;
$primary->safe_psql('shop', <<"END");
SELECT FROM keyrot.create_app('App', 'app-1', '$secret[0]');
CREATE ROLE verifier LOGIN;
GRANT USAGE ON SCHEMA keyrot TO verifier;
GRANT EXECUTE ON FUNCTION keyrot.verify_app_string, keyrot.check_app_string, keyrot.reset_app_secret TO verifier;
CREATE ROLE rotator LOGIN SUPERUSER;
CREATE TABLE kept AS SELECT generate_series(1, 1000) AS i;
END
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('verifies');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
chmod oct(600), key_file($standby) or die $!;
$standby->start;

sub replayed { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('write')); return; }

# Which of the secrets a server accepts: the numbers of those that verify.
sub accepted
{
	my ($server, @numbers) = @_;
	my $sql = join ' || ', map { "CASE WHEN keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($secret[$_], 'm') ]}') THEN '$_ ' ELSE '' END" } @numbers;
	return $server->safe_psql('shop', "SELECT $sql") =~ s/ \z//r;
}

sub rotation
{
	my ($number) = @_;
	return "SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => '$secret[$number]')";
}
replayed();


# Who is asked: a client with both servers in its connection string, and a pool with an entry for each.

sub found
{
	my ($attributes, $sql) = @_;
	my $hosts = join ',', map { $_->host } $primary, $standby;
	my $ports = join ',', map { $_->port } $primary, $standby;
	my ($output, $errors) = ('', '');
	IPC::Run::run([ 'psql', '-XAtq', '-d', "host=$hosts port=$ports dbname=shop user=verifier target_session_attrs=$attributes", '-c', $sql ], '>', \$output, '2>', \$errors);
	return $output . ($errors =~ /ERROR:  (.*)/ ? $1 : '') =~ s/\n\z//r;
}
my $good = "keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($secret[0], 'm') ]}')";
is(found('prefer-standby', "SELECT pg_is_in_recovery(), $good"), "t|t\n", 'a client that prefers a standby verifies there');
is(found('read-write',     "SELECT pg_is_in_recovery(), $good"), "f|t\n", 'one that rotates finds the primary');
like(found('prefer-standby', q{SELECT keyrot.reset_app_secret('app-1')}), qr/read-only transaction/, 'what writes is refused on the standby');
$standby->stop;
is(found('prefer-standby', "SELECT pg_is_in_recovery(), $good"), "f|t\n", 'without a standby the primary verifies');
$standby->start;

my ($program) = grep { -x $_ } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
my $bouncer;
SKIP:
{
	skip 'PgBouncer is not installed (Debian: pgbouncer)', 3 unless $program;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $port   = PostgreSQL::Test::Cluster::get_free_port();
	my $socket = $primary->host;
	my %server = map { $_->name => 'host=' . $_->host . ' port=' . $_->port } $primary, $standby;
	append_to_file("$folder/users", qq{"verifier" ""\n});
	append_to_file("$folder/pgbouncer.ini", <<"END");
[databases]
shop = $server{writes}
shop_verify = $server{verifies} dbname=shop
[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = $port
unix_socket_dir = $socket
auth_type = trust
auth_file = $folder/users
logfile = $folder/pgbouncer.log
pidfile = $folder/pgbouncer.pid
END
	$bouncer = fork // die "cannot fork: $!";
	if (!$bouncer)
	{
		open STDOUT, '>', "$folder/pgbouncer.out";
		open STDERR, '>&', \*STDOUT;
		exec $program, "$folder/pgbouncer.ini" or POSIX::_exit(127);
	}
	my $pooled = sub {
		my ($database, $sql) = @_;
		return $primary->psql('shop', $sql, connstr => "host=$socket port=$port dbname=$database user=verifier");
	};
	ok(wait_until(sub { ($pooled->('shop_verify', 'SELECT 1'))[1] eq '1' }), 'a pool with two entries') or diag(slurp_file("$folder/pgbouncer.out"));
	is(join(' ', map { ($pooled->($_, "SELECT pg_is_in_recovery(), $good"))[1] } 'shop', 'shop_verify'), 'f|t t|t', 'sends each client where its entry says');
	like(($pooled->('shop_verify', q{SELECT keyrot.reset_app_secret('app-1')}))[2], qr/read-only transaction/, 'what writes is refused there, too');
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


# How old an answer may be: what is not replayed is not known.

$standby->safe_psql('shop', 'SELECT pg_wal_replay_pause()');
ok(wait_until(sub { $standby->safe_psql('shop', 'SELECT pg_get_wal_replay_pause_state()') eq 'paused' }), 'a standby that lags');
$primary->safe_psql('shop', rotation(1));
is(accepted($primary, 0, 1), '1', 'the primary refuses the old secret at once');
is(accepted($standby, 0, 1), '0', 'a standby does after replay: until then it knows the old one only');

# With remote_apply the caller waits for it.
$primary->safe_psql('shop', 'ALTER ROLE rotator SET synchronous_commit = remote_apply');
$primary->append_conf('postgresql.conf', q{synchronous_standby_names = 'verifies'});
$primary->reload;
ok(wait_until(sub { $primary->safe_psql('shop', q{SELECT sync_state FROM pg_stat_replication}) eq 'sync' }), 'the standby is a synchronous one');
my $rotator = Protocol->connect($primary, 'shop', 'rotator');
$rotator->send_query(rotation(2));
ok(wait_until(sub { $primary->safe_psql('shop', q{SELECT wait_event FROM pg_stat_activity WHERE usename = 'rotator'}) eq 'SyncRep' }),
	'by remote_apply a rotation does not return');
is(accepted($standby, 0, 1, 2), '0', 'while a standby has not replayed it');
$standby->safe_psql('shop', 'SELECT pg_wal_replay_resume()');
is($rotator->answer->{sqlstate}, '', 'and returns when it has');
is(accepted($standby, 0, 1, 2), '2', 'so that the old secret is refused there');
my $verifier = Protocol->connect($standby, 'shop');
my $wrong    = 0;
for my $number (3 .. 40)
{
	$rotator->query(rotation($number))->{sqlstate} eq '' or die 'a rotation failed';
	my ($new, $old) = map { "keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($secret[$_], 'm') ]}')" } $number, $number - 1;
	$wrong++ if $verifier->query("SELECT $new AND NOT $old")->{rows}[0][0] ne 't';
}
is($wrong, 0, 'each of many rotations counts there by the time it returns');
$verifier->close;
$current = 40;


# A query on the standby that replay would have to wait for is cancelled after max_standby_streaming_delay.

$standby->append_conf('postgresql.conf', q{max_standby_streaming_delay = '1s'});
$standby->reload;
my $report = Protocol->connect($standby, 'shop');
$report->query($_) for 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM kept';
$primary->safe_psql('shop', 'SET synchronous_commit = local; DELETE FROM kept');
$primary->safe_psql('shop', 'SET synchronous_commit = local; VACUUM kept');
$primary->safe_psql('shop', 'SET synchronous_commit = local; ' . rotation(1));
is(accepted($standby, $current, 1), $current, 'a report on the standby holds rotations back');
ok(wait_until(sub { accepted($standby, $current, 1) eq '1' }), 'for no longer than max_standby_streaming_delay');
ok($report->query('SELECT count(*) FROM kept')->{sqlstate}, 'after which it is ended');


# Last use is each server's own, so that a use on the standby starts no clock on the primary.

my $uses = q{SELECT last_used_at IS NOT NULL FROM keyrot.credentials WHERE id = 'app-1'};
$primary->safe_psql('shop', q{SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => 'the-last-secret-of-app-1', grace_period => '1 second', grace_from => 'first_use')});
replayed();
my %sound = map { $_ => "SELECT keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($_, 'm') ]}')" } 'the-last-secret-of-app-1', $secret[1];
is($standby->safe_psql('shop', $sound{'the-last-secret-of-app-1'}), 't', 'the standby accepts the new secret');
is(join(' ', map { $_->safe_psql('shop', $uses) } $standby, $primary), 't f', 'which it knows, and the primary does not');
sleep 2;
is(join(' ', map { $_->safe_psql('shop', $sound{ $secret[1] }) } $standby, $primary), 'f t',
	'so a grace that begins with the first use has ended on the standby only');
$primary->safe_psql('shop', $sound{'the-last-secret-of-app-1'});
sleep 2;
is($primary->safe_psql('shop', $sound{ $secret[1] }), 'f', 'and on the primary a second after the first use there');
$_->stop for $standby, $primary;
done_testing();

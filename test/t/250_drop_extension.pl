# The extension dropped and made again, under sessions that know it well: they go on with the new one, or with
# the old one where that was rolled back, and never mix the two.
#
# Why not pg_regress: it takes several sessions that rotate meanwhile; what one session alone sees of it stands
# in lookalike.sql, and what an idle transaction sees in iso_dropped.spec.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $CLIENTS = 4;
my $CYCLES  = 12;
my $CALLS   = 60;     # between two cycles

my $node = new_server('again', conf => "keyrot.zone_rate_limit = 0\ndeadlock_timeout = 10s\n");
$node->safe_psql('postgres', 'CREATE DATABASE again');
my $folder = PostgreSQL::Test::Utils::tempdir();

# A new installation, by its number: its secret is its own.
sub secret_of { return "the-secret-of-installation-$_[0]"; }

sub install
{
	my ($number) = @_;
	my $secret = secret_of($number);
	return "CREATE EXTENSION keyrot;
		SET client_min_messages = error;
		SELECT FROM keyrot.create_master_key();
		SELECT FROM keyrot.create_app('Installation $number', 'app-1');
		SELECT FROM keyrot.create_app('Installation $number', 'app-kept', '$secret');
		SELECT FROM keyrot.create_zone_key('zone-1');";
}

$node->safe_psql('again', install(0) . q{
	CREATE FUNCTION public.rotate() RETURNS uuid LANGUAGE plpgsql AS $$
		BEGIN RETURN keyrot.reset_app_secret('app-1', grace_period => '1 hour'); END $$;
	CREATE FUNCTION public.kept(OUT version int, OUT secret text) LANGUAGE plpgsql AS $$
		BEGIN SELECT d.version, d.app_secret INTO version, secret FROM keyrot.describe_app_security('app-kept') AS d; END $$;});


# Sessions with everything cached: plans, tables, row types, data keys.
my @KINDS = ('a session', 'a session in a transaction', 'a session with prepared statements', 'a session with functions');
my %READ = (
	'a session'                          => q{SELECT version, app_secret FROM keyrot.describe_app_security('app-kept')},
	'a session in a transaction'         => q{SELECT version, app_secret FROM keyrot.describe_app_security('app-kept')},
	'a session with prepared statements' => 'EXECUTE kept',
	'a session with functions'           => 'SELECT version, secret FROM public.kept()');
my %ROTATE = (
	'a session'                          => q{SELECT 'rotated' FROM keyrot.refresh_zone_key('zone-1')},
	'a session in a transaction'         => q{SELECT 'rotated' FROM keyrot.refresh_zone_key('zone-1')},
	'a session with prepared statements' => 'EXECUTE rotate',
	'a session with functions'           => q{SELECT 'rotated' FROM public.rotate()});

sub verify
{
	my ($number) = @_;
	return q{SELECT keyrot.verify_app_string('app-kept', 'm', '} . sign_text(secret_of($number), 'm') . q{')};
}

my %sessions = map { $_ => $node->background_psql('again') } @KINDS;
$sessions{$_}->query_safe(q{
	PREPARE kept AS SELECT version, app_secret FROM keyrot.describe_app_security('app-kept');
	PREPARE rotate AS SELECT 'rotated' FROM keyrot.refresh_zone_key('zone-1')}) for @KINDS;

# What each session knows of the installation that is there: reading, rotating, both signatures.
sub check_sessions
{
	my ($number, $wrong_number) = @_;
	my $good = 0;
	for my $kind (@KINDS)
	{
		my $session = $sessions{$kind};
		my $begun = $kind eq 'a session in a transaction';
		my $seen = join ' ', map { $session->query_safe($_) } $READ{$kind}, $ROTATE{$kind}, $begun ? ('COMMIT', 'BEGIN') : (),
		  $READ{$kind}, verify($number), verify($wrong_number);
		my $kept = '1|' . secret_of($number);
		my $expected = join ' ', $kept, 'rotated', $begun ? ('', '') : (), $kept, 't', 'f';
		$good++ if $seen eq $expected;
		note "$kind: got $seen, expected $expected" if $seen ne $expected;
	}
	return $good;
}

my ($number, $good, $checks) = (0, 0, 0);
$sessions{'a session in a transaction'}->query_safe('BEGIN');
$good += check_sessions(0, 1);
$checks += @KINDS;
for my $cycle (1 .. $CYCLES)
{
	# The session in a transaction holds none of keyrot's locks yet, or DROP EXTENSION would wait for it.
	my $again = 'DROP EXTENSION keyrot; ' . install($cycle);
	my $use = "SELECT FROM keyrot.refresh_zone_key('zone-1'); SELECT FROM keyrot.describe_app_security('app-kept')";
	$sessions{'a session in a transaction'}->query_safe('COMMIT; BEGIN; SELECT 1');
	my $mode = $cycle % 4;
	if    ($mode == 0) { $node->safe_psql('again', "BEGIN; $again COMMIT"); $number = $cycle; }
	elsif ($mode == 1) { $node->safe_psql('again', "BEGIN; $again $use; ROLLBACK"); }
	elsif ($mode == 2)
	{
		# In a session that is one of those checked, too.
		$sessions{'a session'}->query_safe("BEGIN; $again COMMIT");
		$number = $cycle;
	}
	else
	{
		$sessions{'a session'}->query_safe("BEGIN; SAVEPOINT before; $again $use; ROLLBACK TO before; $use; COMMIT");
	}
	$good += check_sessions($number, $cycle == $number ? $cycle - 1 : $cycle);
	$checks += @KINDS;
}
is($good, $checks, "$checks looks by sessions that know it, over $CYCLES times that the extension was made again, "
	  . 'half of them rolled back: each reads, rotates and verifies by the one that is there');
$sessions{$_}->quit for @KINDS;

# A snapshot from before: the new installation's rows are not for it, the old ones are gone.
my $old = $node->background_psql('again', on_error_stop => 0);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$node->safe_psql('again', 'BEGIN; DROP EXTENSION keyrot; ' . install(++$number) . ' COMMIT');
$old->query(q{SELECT * FROM keyrot.describe_app_security('app-kept')});
like($old->{stderr}, qr/app_key "app-kept" does not exist/, 'a snapshot from before finds nothing, neither old nor new');
$old->query('ROLLBACK');
is($old->query(q{SELECT app_secret FROM keyrot.describe_app_security('app-kept')}), secret_of($number), 'the next one does');
$old->quit;


# Clients that rotate all the time.
my $script = join '', map { <<'END' } 1 .. 20_000;
\echo try
SELECT 'done', keyrot.reset_app_secret('app-1', grace_period => '1 hour');
\echo try
SELECT 'done', request_id FROM keyrot.refresh_zone_key('zone-1');
\echo try
SELECT 'done', public.rotate();
END
append_to_file("$folder/rotate.sql", "\\set VERBOSITY verbose\n$script");
my %clients;
for my $client (1 .. $CLIENTS)
{
	my $connection = $node->connstr('again');
	my $pid        = fork // die "cannot fork: $!";
	if (!$pid)
	{
		open STDOUT, '>', "$folder/$client.out";
		open STDERR, '>', "$folder/$client.err";
		exec 'psql', '-XAtq', '-d', $connection, '-f', "$folder/rotate.sql" or POSIX::_exit(127);
	}
	$clients{$pid} = $client;
}
sub told { return map { -e "$folder/$_.out" ? slurp_file("$folder/$_.out") =~ /^done\|($REQUEST_ID)$/mg : () } 1 .. $CLIENTS; }

# What one installation had in the end, told by who locks it before he drops it.
my $state = q{
	SELECT 'id', request_id FROM keyrot.request WHERE action IN ('reset_app_secret', 'refresh_zone_key');
	SELECT 'wrong', c.id, c.version FROM keyrot.credentials AS c
	  JOIN (SELECT target, count(*) AS n, count(DISTINCT version) AS versions, max(version) AS last
			  FROM keyrot.request WHERE version IS NOT NULL GROUP BY target) AS r ON r.target = c.id
	 WHERE (n, versions, last) IS DISTINCT FROM (c.version, c.version, c.version);
	SELECT 'wrong', id, 'does not open' FROM keyrot.credentials WHERE NOT CASE kind
		WHEN 'app' THEN keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))
		ELSE keyrot.verify_zone_string(id, 'm', keyrot.sign_string_for_zone(id, 'm')) END;};
my $lock = 'LOCK TABLE keyrot.app, keyrot.zone, keyrot.gateway, keyrot.data_key, keyrot.request, keyrot.retry;';
my (%on_record, @wrongs, $committed);
for my $cycle (1 .. $CYCLES)
{
	my $before = told();
	wait_until(sub { told() >= $before + $CALLS }) or BAIL_OUT('the clients do not get on');
	my $end = $cycle % 3 ? 'COMMIT' : 'ROLLBACK';
	my $found = $node->safe_psql('again', "BEGIN; $lock $state DROP EXTENSION keyrot; " . install(++$number) . " $end");
	push @wrongs, map { "cycle $cycle: $_" } $found =~ /^wrong.*/mg;
	next if $end eq 'ROLLBACK';
	$committed++;
	$on_record{$_}++ for $found =~ /^id\|($REQUEST_ID)$/mg;
}
kill 'TERM', keys %clients;
waitpid $_, 0 for keys %clients;
wait_until(sub { $node->safe_psql('again', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'again'}) == 1 })
  or die 'the sessions do not end';
my $found = $node->safe_psql('again', $state);
push @wrongs, $found =~ /^wrong.*/mg;
$on_record{$_}++ for $found =~ /^id\|($REQUEST_ID)$/mg;
my @told = told();
is_deeply(\@wrongs, [], "$committed installations dropped under $CLIENTS clients: none had a gap, each of its credentials opened");
is(scalar(grep { ($on_record{$_} // 0) != 1 } @told), 0,
	'each of ' . @told . ' acknowledged rotations is in the log of exactly one of them');
my %errors;
$errors{$_}++ for map { slurp_file("$folder/$_.err") =~ /ERROR:  (\w{5}: [^"\n]*)/g } 1 .. $CLIENTS;
note "$_ ($errors{$_} times)" for sort keys %errors;
my $all = 0;
$all += $_ for values %errors;
is_deeply([ grep { !/^(?:42883|3F000|55000|P0002|42P01):/ } keys %errors ], [],
	"of the others, $all were told something, and nothing but that there is no such thing to rotate");
is($node->safe_psql('again', 'SELECT count(*) FROM keyrot.data_key'), 1, 'the last one has a data key of its own');
like(slurp_file(key_file($node)), qr/\A[0-9a-f]{64}\n\z/, 'under the one master key of them all');

done_testing();

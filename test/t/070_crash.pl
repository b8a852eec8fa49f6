# Crashes in the middle of rotations by several clients: whatever was acknowledged is there, with its request,
# and nothing by halves.
#
# Why not pg_regress: it takes a server that is killed and comes up again.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

# How each round ends.  Before that, this many rotations are tried.
my @ROUNDS = (
	'kill -9 of the server',
	'kill -9 of a backend',
	'immediate restart',
	'kill -9 of the server',
	'fast restart',
	'kill -9 of a backend',
	'kill -9 of the server');
my $CLIENTS       = 6;
my $TRIES         = 300;
my $SCRIPT_ROUNDS = 3000;

my $node = new_server('crash', conf => <<'END');
restart_after_crash = on
log_statement = none
max_prepared_transactions = 4
keyrot.zone_rate_limit = 0
END
add_databases($node, 'live');
my $folder = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('live', <<'END');
SELECT FROM keyrot.create_app('Busy', 'app-busy');
SELECT FROM keyrot.create_zone_key('zone-busy');
SELECT FROM keyrot.create_app('Paired', 'app-paired');
SELECT FROM keyrot.create_zone_key('zone-paired');
END

# What a client does over and over.  Each line that it prints tells of one rotation: that it is tried, that
# it was acknowledged, or that a pair of them was committed.
sub client_script
{
	my ($round, $client) = @_;
	my $name   = "chain-$round-$client";
	my $script = "SELECT FROM keyrot.create_app('Chain', '$name-0');\n";
	for my $number (1 .. $SCRIPT_ROUNDS)
	{
		my $previous = $number - 1;
		$script .= <<"END";
\\echo try
SELECT 'done', keyrot.reset_app_secret('app-busy', grace_period => '1 hour');
\\echo try
SELECT 'done', request_id FROM keyrot.refresh_zone_key('zone-busy');
\\echo try
\\echo try
BEGIN;
SELECT 'first', keyrot.reset_app_secret('app-paired');
SELECT 'second', request_id FROM keyrot.refresh_zone_key('zone-paired', '1 hour');
COMMIT;
\\echo committed
\\echo try
SELECT 'done', keyrot.reset_app_secret('$name-$previous', '$name-$number', grace_period => '1 hour');
\\echo chain $name $number
END
	}
	return $script;
}

sub start_client
{
	my ($round, $client) = @_;
	my $file = "$folder/$round-$client";
	append_to_file("$file.sql", client_script($round, $client));
	my $connection = $node->connstr('live');
	my $pid        = fork // die "cannot fork: $!";
	return $pid if $pid;
	open STDOUT, '>', "$file.out";
	open STDERR, '>', "$file.err";
	exec 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $connection, '-f', "$file.sql" or POSIX::_exit(127);
}

sub outputs
{
	my ($round) = @_;
	return map { slurp_file($_) } glob "$folder/$round-*.out";
}

sub tries { return scalar(() = join('', outputs($_[0])) =~ /^try$/mg); }

sub end_round
{
	my ($how) = @_;
	if ($how eq 'kill -9 of the server')
	{
		$node->kill9;
	}
	elsif ($how eq 'kill -9 of a backend')
	{
		my $victim = wait_until(
			sub {
				$node->safe_psql(
					'live', q{
				SELECT pid FROM pg_stat_activity
				 WHERE state = 'active' AND query LIKE '%keyrot.re%' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1}
				);
			}) or die 'nobody rotates';
		kill 9, $victim;
	}
	elsif ($how eq 'immediate restart') { $node->stop('immediate'); $node->start; }
	elsif ($how eq 'fast restart')      { $node->stop('fast');      $node->start; }
	return;
}

# What clients were told in this round.
sub told
{
	my ($round) = @_;
	my (@acknowledged, @pairs, %chains);
	for my $output (outputs($round))
	{
		my @pair;
		for my $line (split /\n/, $output)
		{
			if    ($line =~ /^done\|($REQUEST_ID)$/)   { push @acknowledged, $1; }
			elsif ($line =~ /^first\|($REQUEST_ID)$/)  { @pair = $1; }
			elsif ($line =~ /^second\|($REQUEST_ID)$/) { push @pair, $1; push @pairs, [@pair]; }
			elsif ($line eq 'committed')               { push @acknowledged, @pair; @pair = (); }
			elsif ($line =~ /^chain (\S+) (\d+)$/)     { $chains{$1} = $2; }
			elsif ($line ne 'try')                     { die "a client said: $line"; }
		}
	}
	return (\@acknowledged, \@pairs, \%chains);
}

sub recorded
{
	my (@request_ids) = @_;
	my $list          = join ',', @request_ids;
	return map { $_ => 1 } split /\n/,
	  $node->safe_psql('live',
		"SELECT request_id FROM keyrot.request WHERE request_id = ANY ('{$list}') AND outcome = 'ok'");
}

my ($all_tried, $all_acknowledged) = (0, 0);
for my $round (1 .. @ROUNDS)
{
	my $how = $ROUNDS[ $round - 1 ];
	subtest "round $round: $how" => sub {
		my %clients = map { start_client($round, $_) => 1 } 1 .. $CLIENTS;
		wait_until(sub { tries($round) >= $TRIES }) or die 'the clients do not get on';
		end_round($how);
		my $ended = wait_until(
			sub {
				delete @clients{ grep { waitpid($_, POSIX::WNOHANG()) == $_ } keys %clients };
				return !%clients;
			});
		kill 9, keys %clients unless $ended;
		ok($ended, 'every client notices');
		start_again($node) if $how eq 'kill -9 of the server';
		$node->poll_query_until('live', 'SELECT true') or die 'the server does not come back';

		my ($acknowledged, $pairs, $chains) = told($round);
		my $tried = tries($round);
		$all_tried        += $tried;
		$all_acknowledged += @$acknowledged;
		my %recorded = recorded(@$acknowledged, map { @$_ } @$pairs);
		is( scalar(grep { !$recorded{$_} } @$acknowledged),
			0,
			"of $tried rotations tried, all "
			  . scalar(@$acknowledged)
			  . ' that were acknowledged are recorded');
		is(scalar(grep { ($recorded{ $_->[0] } // 0) != ($recorded{ $_->[1] } // 0) } @$pairs),
			0, 'of ' . scalar(@$pairs) . ' pairs in one transaction, each is there as a whole or not at all');

		# Each version was made by one recorded request, and the newest one is in force.
		is( $node->safe_psql(
				'live', q{
				SELECT c.id FROM keyrot.credentials AS c
				  JOIN (SELECT target, count(*) AS n, count(DISTINCT version) AS versions,
							   min(version) AS first, max(version) AS last
						  FROM keyrot.request WHERE version IS NOT NULL GROUP BY target) AS r ON r.target = c.id
				 WHERE c.id NOT LIKE 'chain%'
				   AND (n, versions, first, last) IS DISTINCT FROM (c.version, c.version, 1, c.version)}
			),
			'',
			'no version without its request, no request without its version');
		is( $node->safe_psql(
				'live', q{
				SELECT count(DISTINCT version) FROM keyrot.credentials WHERE id LIKE '%-paired'}),
			1,
			'what rotates together has the same version');
		is( $node->safe_psql(
				'live', q{
				SELECT count(*) >= 4, count(*) - count(*) FILTER (WHERE CASE kind
				           WHEN 'app' THEN keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))
				           ELSE keyrot.verify_zone_string(id, 'm', keyrot.sign_string_for_zone(id, 'm')) END)
				  FROM keyrot.credentials WHERE state = 'current'}),
			't|0',
			'every credential opens');

		# A chain of AppKeys: one is current, each before it is retired, none is missing.
		my %current = map { /^(\S+)-(\d+)\|(\d+)\|(\d+)$/ ? ($1 => [ $2, $3, $4 ]) : () } split /\n/,
		  $node->safe_psql(
			'live', q{
			SELECT max(app_key) FILTER (WHERE secret IS NOT NULL), count(*), count(*) FILTER (WHERE secret IS NOT NULL)
			  FROM keyrot.app WHERE app_key LIKE 'chain%' GROUP BY app_id});
		my @broken = grep {
				!$current{$_}
			  || $current{$_}[0] < $chains->{$_}
			  || $current{$_}[0] > $chains->{$_} + 1
			  || $current{$_}[1] != $current{$_}[0] + 1
			  || $current{$_}[2] != 1
		} keys %$chains;
		is_deeply(\@broken, [], 'every acknowledged AppKey is there, with those before it');
	};
}
is($node->safe_psql('live', 'SELECT count(*) FROM keyrot.data_key'), 1, 'it is all under one data key');
cmp_ok(
	$all_acknowledged, '>=',
	0.9 * $all_tried,
	"$all_tried rotations were tried, $all_acknowledged of them acknowledged");

# Prepared transactions outlive a crash: with a rotation, and with a database's first data key.
add_databases($node, 'fresh');
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

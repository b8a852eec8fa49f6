# Rotations until the disk is full: of the tables, of WAL, of the master key's files.  What was acknowledged is
# there, what failed has changed nothing, and all goes on as soon as there is room.
#
# Why not pg_regress: it takes file systems of a few megabytes, a server that ends by PANIC, and many clients.
#
# KEYROT_SMALL_DISK names a small file system that is nobody else's, where root could mount one (./quickstart
# does).  Otherwise a library that stands before the server's files plays the full disk (fault.c).

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use Fault;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

my $CLIENTS       = 4;
my $ROUNDS        = 3;
my $ENOUGH        = 60;       # failures, before there is room again

my $small  = $ENV{KEYROT_SMALL_DISK} // '';
my $fault  = Fault->build;
my $folder = PostgreSQL::Test::Utils::tempdir();
my $kind   = $small ? 'a small file system' : 'a library that plays one';
note "the full disk is $kind";
$small ||= $folder;

# Leaves so many bytes for what lies below a place on the small disk.
sub leave_room
{
	my ($place, $bytes) = @_;
	if (!$ENV{KEYROT_SMALL_DISK})
	{
		$fault->watch($place);
		$fault->set_room($bytes);
		return;
	}
	open my $ballast, '>:raw', "$small/ballast" or die "cannot write to $small: $!";
	my $block = "\0" x 4096;
	1 while syswrite($ballast, $block);
	truncate($ballast, (-s $ballast) - $bytes) or die "cannot truncate: $!";
	close $ballast;
	return;
}

sub make_room
{
	if ($ENV{KEYROT_SMALL_DISK}) { unlink "$small/ballast"; }
	else                         { $fault->set_room(undef); }
	return;
}

# What a client does over and over, each line that it prints an acknowledgement.
sub client_script
{
	my ($run, $rounds) = @_;
	my $script = "\\set VERBOSITY sqlstate\n";
	for my $number (1 .. $rounds)
	{
		$script .= <<"END";
\\echo try
SELECT 'done', keyrot.reset_app_secret('app-busy', grace_period => '1 hour');
\\echo try
SELECT 'done', request_id FROM keyrot.refresh_zone_key('zone-busy', client_token => '$run-$number');
\\echo try
SELECT 'pair', keyrot.reset_app_secret('app-paired'), request_id FROM keyrot.refresh_zone_key('zone-paired');
\\echo try
SELECT 'done', keyrot.reset_app_secret(id, '$run-$number', grace_period => '1 hour')
  FROM keyrot.credentials WHERE state = 'current' AND name = 'Chain $run';
\\echo try
SELECT CASE http_status WHEN 200 THEN 'done' ELSE 'failed' END, lower(body->>'RequestId')
  FROM keyrot.api('ResetAppSecret', '{"AppKey": "app-api"}');
END
	}
	return $script;
}

sub prepare
{
	my ($node, $database) = @_;
	$node->safe_psql(
		$database, q{
		CREATE EXTENSION keyrot;
		SET client_min_messages = error;
		SELECT keyrot.create_master_key();
		SELECT FROM keyrot.create_app('Busy', 'app-busy');
		SELECT FROM keyrot.create_app('Api', 'app-api');
		SELECT FROM keyrot.create_zone_key('zone-busy');
		SELECT FROM keyrot.create_app('Paired', 'app-paired');
		SELECT FROM keyrot.create_zone_key('zone-paired')});
	return;
}

my $run = 0;

# Makes what the clients need, and returns the names of their files.
sub prepare_clients
{
	my ($node, $database, $rounds) = @_;
	my @files;
	for (1 .. $CLIENTS)
	{
		$run++;
		push @files, "$folder/client-$run";
		$node->safe_psql($database, "SELECT FROM keyrot.create_app('Chain run$run', 'run$run-0')");
		append_to_file("$files[-1].sql", client_script("run$run", $rounds));
	}
	return @files;
}

# Starts a client for each file, and returns their process ids.
sub start_clients
{
	my ($node, $database, @files) = @_;
	my $connection = $node->connstr($database);
	my @pids;
	for my $file (@files)
	{
		my $pid = fork // die "cannot fork: $!";
		if (!$pid)
		{
			open STDOUT, '>', "$file.out";
			open STDERR, '>', "$file.err";
			exec 'psql', '-XAtq', '-d', $connection, '-f', "$file.sql" or POSIX::_exit(127);
		}
		push @pids, $pid;
	}
	return @pids;
}

sub failures { return map { -e "$_.err" ? slurp_file("$_.err") =~ /ERROR:  (\w+)/g : () } @_; }

sub tries { return scalar map { slurp_file("$_.out") =~ /^try$/mg } @_; }

sub wait_for_clients
{
	my %clients = map { $_ => 1 } @_;
	my $ended = wait_until(
		sub {
			delete @clients{ grep { waitpid($_, POSIX::WNOHANG()) == $_ } keys %clients };
			return !%clients;
		});
	kill 9, keys %clients unless $ended;
	return $ended;
}

# Checks what clients were told against what is there, and returns what they were told: acknowledged
# requests, and those that api() answered with a failure.
sub check_told
{
	my ($node, $database, @files) = @_;
	my (@acknowledged, @failed);
	for my $output (map { slurp_file("$_.out") } @files)
	{
		push @acknowledged, $output =~ /^(?:done|pair)\|($REQUEST_ID)/mg, $output =~ /^pair\|$REQUEST_ID\|($REQUEST_ID)$/mg;
		push @failed, $output =~ /^failed\|($REQUEST_ID)$/mg;
	}
	my $query = q{SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n = 1 AND outcome = 'ok') FROM
		(SELECT request_id, count(*) AS n, min(outcome) AS outcome FROM keyrot.request
		  WHERE request_id = ANY ('{%s}') GROUP BY request_id) AS r};
	my $all = @acknowledged;
	is( $node->safe_psql($database, sprintf $query, join ',', @acknowledged),
		"$all|$all",
		tries(@files) . " rotations tried: each of the $all that were acknowledged has one request row");
	is((split /\|/, $node->safe_psql($database, sprintf $query, join ',', @failed))[1],
		0, 'and none of the ' . @failed . ' that api() reported as failed is a success on record');
	return (\@acknowledged, \@failed);
}

# Nothing is there by halves, and everything opens.
sub check_sound
{
	my ($node, $database) = @_;
	is( $node->safe_psql(
			$database, q{
			SELECT c.id FROM keyrot.credentials AS c
			  JOIN (SELECT target, count(*) AS n, count(DISTINCT version) AS versions,
						   min(version) AS first, max(version) AS last
					  FROM keyrot.request WHERE version IS NOT NULL GROUP BY target) AS r ON r.target = c.id
			 WHERE c.id NOT LIKE 'run%'
			   AND (n, versions, first, last) IS DISTINCT FROM (c.version, c.version, 1, c.version)}),
		'',
		'versions have no gap, each made by one request');
	is($node->safe_psql($database, q{SELECT count(DISTINCT version) FROM keyrot.credentials WHERE id LIKE '%-paired'}),
		1, 'what rotates together has the same version');
	is( $node->safe_psql(
			$database, q{
			SELECT count(*) FROM (SELECT name, count(*) AS keys, count(*) FILTER (WHERE state = 'current') AS current,
				max(version) AS last FROM keyrot.credentials WHERE id LIKE 'run%' GROUP BY name) AS chain
			 WHERE current <> 1 OR keys <> last}),
		0,
		'each chain of AppKeys has all of its keys, and one that is current');
	my ($count, $bad) = split /\|/, $node->safe_psql(
		$database, q{
		SELECT count(*), count(*) - count(*) FILTER (WHERE CASE kind
			WHEN 'app' THEN keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))
			ELSE keyrot.verify_zone_string(id, 'm', keyrot.sign_string_for_zone(id, 'm')) END)
		  FROM keyrot.credentials WHERE state = 'current'});
	is($bad, 0, "each of $count credentials opens");
	return;
}


# The tables: a database in a tablespace on the small disk.
{
	my $node = new_server('tables', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'small'
keyrot.request_queue_size = 65536
keyrot.zone_rate_limit = 0
autovacuum = off
log_statement = none
END
	my $place = "$small/tables";
	mkdir $place or die "cannot make $place: $!";
	$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$place'");
	$node->safe_psql('postgres', 'CREATE DATABASE small TABLESPACE small');
	prepare($node, 'small');
	my ($all_failed, $all_told) = (0, 0);
	for my $round (1 .. $ROUNDS)
	{
		subtest "round $round: no room for the tables, on $kind" => sub {
			my @files = prepare_clients($node, 'small', 400);
			leave_room($place, 100_000 * $round);
			my @clients = start_clients($node, 'small', @files);
			ok(wait_until(sub { failures(@files) >= $ENOUGH }), 'the disk gets full');
			my ($verified) = attempts($node, 'small',
				q{SELECT keyrot.verify_app_string('app-busy', 'm', keyrot.sign_string_for_app('app-busy', 'm'))});
			is("$verified->{output}$verified->{sqlstate}", 't', 'verifying and signing go on');
			make_room();
			my $before = tries(@files);
			ok(wait_for_clients(@clients), 'every client comes to its end');
			my %states = map { $_ => 1 } failures(@files);
			is(join(' ', sort keys %states), '53100', scalar(failures(@files)) . ' rotations failed, all with 53100');
			my ($told, $failed) = check_told($node, 'small', @files);
			my $pairs = () = join('', map { slurp_file("$_.out") } @files) =~ /^pair\|/mg;
			is(failures(@files) + @$failed + @$told - $pairs, tries(@files), 'every other one was acknowledged');
			$all_failed += failures(@files) + @$failed;
			$all_told   += @$told;
			my $later = tries(@files) - $before;
			cmp_ok($later, '>', 0, "and $later of them when there was room again");
			check_sound($node, 'small');
		};
	}
	my $recorded = q{SELECT count(*) FROM keyrot.request WHERE outcome = '53100'};
	my $lost     = 'SELECT requests_lost FROM ' . $STATUS;
	ok( wait_until(
			sub { $node->safe_psql('small', $recorded) + $node->safe_psql('small', $lost) >= $all_failed }),
		"with room, the worker records the $all_failed requests that failed in $ROUNDS rounds");
	is($node->safe_psql('small', "$recorded; $lost"), "$all_failed\n0", 'each of them once, and none is lost');
	$node->stop;
}


# WAL.
{
	my $place = "$small/wal";
	my $node  = new_server(
		'wal',
		init => { extra => [ '--no-locale', '--encoding=UTF8', '--wal-segsize=1', '--waldir', $place ] },
		conf => <<'END');
restart_after_crash = on
keyrot.zone_rate_limit = 0
autovacuum = off
log_statement = none
min_wal_size = 2MB
max_wal_size = 256MB
checkpoint_timeout = 1h
END
	$node->safe_psql('postgres', 'CREATE DATABASE small');
	prepare($node, 'small');
	my $all_told = 0;
	for my $round (1 .. 2)
	{
		subtest "round $round: no room for WAL, on $kind" => sub {
			my $log_start = -s $node->logfile;
			my @files = prepare_clients($node, 'small', 3000);
			leave_room($place, 1_500_000);
			my @clients = start_clients($node, 'small', @files);
			ok(wait_for_clients(@clients), 'every client notices');
			like(slurp_file($node->logfile, $log_start), qr/PANIC: .*No space left on device/, 'the disk got full, the server stopped');
			$node->stop('immediate', fail_ok => 1);
			make_room();
			start_again($node);
			my ($told) = check_told($node, 'small', @files);
			$all_told += @$told;
			cmp_ok(scalar(@$told), '>', 100, 'many were acknowledged before');
			is_deeply([ grep { $_ ne '57P02' && $_ ne '57P03' } failures(@files) ], [], 'no client was told of another error');
			check_sound($node, 'small');
			my ($next) = attempts($node, 'small', q{SELECT keyrot.reset_app_secret('app-busy')});
			is($next->{sqlstate}, '', 'rotations go on');
		};
	}
	cmp_ok($all_told, '>', 200, "$all_told rotations were acknowledged before the two ends of the disk");
	$node->stop;
}


# The master key's file: no room for it at all, and room for each number of bytes that ends somewhere else in making it.
{
	my $node  = new_server('keys');
	my $place = "$small/keys";
	my $path  = "$place/keyrot.key";
	mkdir $place or die "cannot make $place: $!";
	$node->append_conf('postgresql.conf', "keyrot.master_key_file = '$path'");
	$node->reload;
	add_databases($node, 'one');
	forget_master_key($node, 'one');
	unlink $path;
	my $make   = 'SELECT keyrot.create_master_key()';
	my $create = q{SELECT FROM keyrot.create_app('App', 'app-1')};
	my $opens  = q{SELECT keyrot.verify_app_string('app-1', 'm', keyrot.sign_string_for_app('app-1', 'm')),
		(SELECT encode(master_key, 'hex') FROM keyrot.data_key)};

	leave_room($place, 0);
	my ($refused) = attempts($node, 'one', $make);
	is("$refused->{sqlstate} $refused->{message}",
		"55000 could not create master key file \"$path\": No space left on device",
		"without room for the master key create_master_key() is refused, on $kind");
	is_deeply([ key_files_of($place), key_files_of($node) ], [], 'and nothing is left of it');
	make_room();
	is((attempts($node, 'one', $make))[0]{sqlstate}, '', 'with room it is made');

	# A name costs one byte, so this is what it takes: two names and a key with its newline.
	my $whole = 2 + 65;
	my @rooms = (0 .. 3, 33, 64 .. $whole);
	my ($refused_count, @wrong) = (0);
	$fault->watch($path);
	for my $room (@rooms)
	{
		$node->safe_psql('one', 'DROP EXTENSION keyrot; CREATE EXTENSION keyrot');
		unlink $path;
		$fault->set_room($room);
		my ($first) = attempts($node, 'one', $make);
		$fault->set_room(undef);
		my $key = -e $path ? slurp_file($path) : undef;
		$refused_count++ if $first->{sqlstate};
		push @wrong, "$room: $first->{sqlstate}" if $first->{sqlstate} ne ($room < $whole ? '55000' : '');
		push @wrong, "$room: $first->{message}" if $first->{sqlstate} && $first->{message} !~ /No space left on device/;
		push @wrong, "$room: half a key file" if defined $key && $key !~ /\A[0-9a-f]{64}\n\z/;
		my @again = attempts($node, 'one', $make, $create);
		push @wrong, "$room: with room $_->{sqlstate}" for grep { $_->{sqlstate} } @again;
		push @wrong, "$room: the key was replaced" if defined $key && slurp_file($path) ne $key;
		my $name = fingerprint(substr slurp_file($path), 0, 64);
		push @wrong, "$room: does not open" if $node->safe_psql('one', $opens) ne "t|$name";
		push @wrong, "$room: left over: $_" for grep { /tmp/ } key_files_of($place), key_files_of($node);
	}
	is($refused_count, @rooms - 1, 'room for ' . @rooms . " numbers of bytes from 0 to $whole: the last one alone is enough");
	is_deeply(\@wrong, [], 'no key file is there by halves, and the next call goes on');
	$node->stop;
}

done_testing();

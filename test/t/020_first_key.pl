# The first need of a master key and of a data key: who makes them, how, and only once.
#
# Why not pg_regress: it cannot look at the server's files, it starts with a cluster that may have its key
# already, and races for the first key need many sessions in two databases.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $ROUNDS  = 8;
my $CLIENTS = 8;

my $node = new_server('first');
add_databases($node, 'one', 'two');
my $path   = key_file($node);
my $folder = PostgreSQL::Test::Utils::tempdir();

sub create { return "SELECT FROM keyrot.create_app('App', app_key => '$_[0]')"; }

sub data_keys
{
	my ($database) = @_;
	return $node->safe_psql($database,
		q{SELECT id, encode(master_key, 'hex') FROM keyrot.data_key ORDER BY id});
}

# Who does not need a key makes none.
my @harmless = attempts(
	$node,
	'one',
	q{SELECT keyrot.verify_app_string('app-1', 'm', 's')},
	q{SELECT keyrot.verify_app_signature('app-1', 'm', 's')},
	q{SELECT keyrot.verify_zone_string('zone-1', 'm', 's')},
	q{SELECT keyrot.verify_zone_signature('zone-1', 'm', 's')},
	q{SELECT keyrot.verify_gateway_string('zone-1', 'gate-1', 'm', 's')},
	q{SELECT keyrot.verify_gateway_signature('zone-1', 'gate-1', 'm', 's')},
	q{SELECT keyrot.sign_for_app('app-1', 'm')},
	q{SELECT keyrot.sign_for_zone('zone-1', 'm')},
	q{SELECT keyrot.sign_string_for_app('app-1', 'm')},
	q{SELECT keyrot.sign_string_for_zone('zone-1', 'm')},
	q{SELECT * FROM keyrot.describe_app_security('app-1')},
	q{SELECT * FROM keyrot.describe_zone_key('zone-1')},
	q{SELECT keyrot.reset_app_secret('app-1')},
	q{SELECT * FROM keyrot.refresh_zone_key('zone-1')},
	q{SELECT keyrot.modify_app('app-1')},
	q{SELECT keyrot.delete_app('app-1')},
	q{SELECT * FROM keyrot.list_apps()},
	q{SELECT * FROM keyrot.create_app('App', app_secret => 'short')},
	q{SELECT keyrot.create_zone_key('zone-1', 'short')},
	q{SELECT count(*) FROM keyrot.credentials},
	q{SELECT keyrot.rebind_owners()},
	q{SELECT data_keys FROM keyrot.status()});
is( join(' ', map { $_->{sqlstate} . $_->{output} } @harmless),
	join(' ', ('f') x 6, ('P0002') x 10, '', ('22023') x 2, 0, 0, 0),
	'without any credential each call answers as it should');
is_deeply([ key_files_of($node) ], [], 'and no key file is made by it, nor by CREATE EXTENSION');

# The first who does.
$node->safe_psql('one', create('app-1'));
my $contents = slurp_file($path);
like($contents, qr/\A[0-9a-f]{64}\n\z/, 'the first app makes a key file of one line');
chomp(my $key = $contents);
my @info = stat $path;
is($info[2] & oct(7777), oct(600), 'its mode is 0600');
is($info[3],             1,        'and it has one name');
is_deeply(
	[ key_files_of($node) ],
	[ 'keyrot_master.key', 'keyrot_master_key.marker' ],
	'beside it, there is the marker only');
is(slurp_file(marker_file($node)), fingerprint($key) . "\n", 'which names the key by its fingerprint');
is( data_keys('one'),
	'1|' . fingerprint($key),
	'as does the row of the data key, by the documented fingerprint');
is( $node->safe_psql('one', 'SELECT master_key, data_key, data_keys FROM keyrot.status()'),
	fingerprint($key) . '|1|1',
	'and status()');

$node->safe_psql('two', q{SELECT FROM keyrot.create_zone_key('zone-1')});
is(slurp_file($path), $contents,                'a second database uses the same master key');
is(data_keys('two'),  '1|' . fingerprint($key), 'for a data key of its own');
my @sealed_by =
  map { $node->safe_psql($_, q{SELECT encode(wrapped, 'hex') FROM keyrot.data_key}) } qw(one two);
isnt($sealed_by[0], $sealed_by[1], 'which is another one');

# A first need that is rolled back leaves the file, which is the cluster's, and no data key.
forget_master_key($node, 'one', 'two');
$node->safe_psql('one', 'BEGIN; ' . create('app-1') . '; ROLLBACK');
chomp($key = slurp_file($path));
is(data_keys('one'), '', 'no data key outlives the transaction that made it');
$node->safe_psql('one', create('app-2'));
is( data_keys('one') . ' ' . slurp_file($path),
	'1|' . fingerprint($key) . " $key\n",
	'the next need makes one under the same master key');

# What a crash may have left lying about is in nobody's way.
forget_master_key($node, 'one', 'two');
write_key("$path.$_.tmp",              "left behind\n") for 1 .. 3;
write_key(marker_file($node) . '.tmp', "left behind\n");
$node->safe_psql('one', create('app-1'));
like(slurp_file($path), qr/\A[0-9a-f]{64}\n\z/, 'left-over temporary files do no harm');
unlink glob("$path.*.tmp"), marker_file($node) . '.tmp';

# Without its file, a cluster that once had a master key gets no new one, whichever database asks.
$contents = slurp_file($path);
add_databases($node, 'three');
unlink $path;
my @lost = map { attempts($node, $_, create('app-3')) } qw(one two three);
is( join(' ', map { $_->{sqlstate} } @lost),
	'55000 55000 55000',
	'a marker without a key file is 55000, in a database without a data key, too');
is(scalar(grep { $_->{message} =~ /"\Q$path\E" does not exist/ && $_->{hint} =~ /\S/ } @lost),
	3, 'the error names the file and has a hint');
is_deeply([ key_files_of($node) ], ['keyrot_master_key.marker'], 'and nothing is made');
is(join('', map { data_keys($_) } qw(two three)), '', 'no data key either');
write_key($path, $contents);
is(join('', map { $_->{sqlstate} } map { attempts($node, $_, create('app-3')) } qw(one two three)),
	'', 'until the file is back');

# The other way round, the marker is made again with the next data key.
$node->safe_psql('three', 'DROP EXTENSION keyrot; CREATE EXTENSION keyrot');
unlink marker_file($node);
$node->safe_psql('three', create('app-1'));
is( slurp_file(marker_file($node)),
	fingerprint(substr $contents, 0, 64) . "\n",
	'a marker that was lost is made again');

# Another folder.
sub move_key_file
{
	my ($place) = @_;
	$node->append_conf('postgresql.conf', "keyrot.master_key_file = '$place'");
	$node->reload;
	return;
}

forget_master_key($node, 'one', 'two', 'three');
my $elsewhere = "$folder/keyrot.key";
move_key_file($elsewhere);
chmod oct(500), $folder;
my ($refused) = attempts($node, 'one', create('app-1'));
is($refused->{sqlstate}, '55000', 'a folder that cannot be written to gives 55000');
like(
	$refused->{message},
	qr/could not create master key file "\Q$elsewhere\E": Permission denied/,
	'which names the file');
like($refused->{hint}, qr/folder/, 'and has a hint');
is_deeply([ key_files_of($folder), key_files_of($node) ], [], 'and makes nothing');
chmod oct(700), $folder;
$node->safe_psql('one', create('app-1'));
is_deeply([ key_files_of($folder) ], ['keyrot.key'], 'once it can be, the file is made there');
is((stat $elsewhere)[2] & oct(7777), oct(600), 'with mode 0600');
is_deeply([ key_files_of($node) ], ['keyrot_master_key.marker'], 'and not in the data directory');
unlike(
	$node->safe_psql('one', q{SELECT array_to_string(degraded, '|') FROM keyrot.status()}),
	qr/in the data directory/,
	'so that status() has no objection to its place');

move_key_file("$folder/none/keyrot.key");
my ($no_folder) = attempts($node, 'one', create('app-2'));
is($no_folder->{sqlstate}, '55000', 'a folder that does not exist gives 55000');
like($no_folder->{message}, qr/"\Q$folder\E\/none\/keyrot.key" does not exist/, 'which names the file');

unlink $elsewhere;
move_key_file('keyrot_master.key');
like(
	$node->safe_psql('one', q{SELECT array_to_string(degraded, '|') FROM keyrot.status()}),
	qr/does not exist.*in the data directory/,
	'status() objects to a key file in the data directory');

# One who waits for another's first key: obeys lock_timeout, makes one where that was rolled back, and goes
# on with that one's where it was committed.
for my $end ('ROLLBACK', 'COMMIT')
{
	forget_master_key($node, 'one', 'two', 'three');
	my ($first, $second) = map { $node->background_psql('one') } 1 .. 2;
	$first->query_safe('BEGIN; ' . create('app-1'));
	my (undef, $timed_out) = attempts($node, 'one', q{SET lock_timeout = '100ms'}, create('app-2'));
	is($timed_out->{sqlstate}, '55P03', "before the first one's $end, waiting ends by lock_timeout");
	like($timed_out->{context}, qr/keyrot request $REQUEST_ID: create_app/, 'with the RequestId');
	$second->query_until(qr/waiting/, "\\echo waiting\n" . create('app-2') . ";\n\\echo done\n");
	$node->poll_query_until('one',
		q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'keyrot.data_key'::regclass})
	  or die 'nobody waits';
	$first->query_safe($end);
	$second->query_until(qr/done/, '');
	$_->quit for $first, $second;
	chomp($key = slurp_file($path));
	is(data_keys('one'), '1|' . fingerprint($key), "after it there is one data key");
	my $apps = $end eq 'COMMIT' ? "app-1\napp-2" : 'app-2';
	is( $node->safe_psql(
			'one', q{SELECT app_key FROM keyrot.credentials AS c, keyrot.app WHERE id = app_key AND
		keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm')) ORDER BY 1}),
		$apps,
		'under which the secrets open');
}

# Several databases and many sessions at the same moment: everybody is connected and has the library
# loaded, sleeps until a moment that all know, and then needs the first key.
my @databases = qw(one two three);
my $script    = "$folder/create.sql";
append_to_file($script, <<'END');
SELECT data_keys FROM keyrot.status();
SELECT pg_sleep(greatest(0, :moment - extract(epoch FROM clock_timestamp())));
SELECT FROM keyrot.create_app('App', app_key => 'app-' || :client_id);
END

# Starts a program without waiting for it.
sub start_program
{
	my ($output, @command) = @_;
	my $pid = fork // die "cannot fork: $!";
	return $pid if $pid;
	open STDOUT, '>',  $output;
	open STDERR, '>&', \*STDOUT;
	exec @command or POSIX::_exit(127);
}

# Watches the key file until the programs have ended.  Whoever looks sees no file or all of it.
sub watch
{
	my (%running) = @_;
	my ($looks, $incomplete) = (0, 0);
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while (%running)
	{
		if (my @seen = stat $path)
		{
			$looks++;
			$incomplete++ if $seen[7] != 65 || ($seen[2] & oct 7777) != oct 600;
		}
		for my $pid (keys %running)
		{
			next unless waitpid($pid, POSIX::WNOHANG()) == $pid;
			note slurp_file("$folder/$running{$pid}.out") if $?;
			delete $running{$pid};
		}
		if (time > $deadline)
		{
			kill 'KILL', keys %running;
			die 'the sessions do not come to an end';
		}
		usleep(300);
	}
	return ($looks, $incomplete);
}

my ($one_key, $all_made, $all_open, $all_looks, $all_incomplete) = (0, 0, 0, 0, 0);
for my $round (1 .. $ROUNDS)
{
	forget_master_key($node, @databases);
	my $moment  = time + 0.4;
	my %running = map {
		start_program("$folder/$_.out", 'pgbench', '-n', '-c', $CLIENTS, '-j', 2, '-t', 1, '-D',
			"moment=$moment", '-f', $script, $node->connstr($_)) => $_
	} @databases;
	my ($looks, $incomplete) = watch(%running);
	$all_looks      += $looks;
	$all_incomplete += $incomplete;

	chomp($key = slurp_file($path));
	my $marker = slurp_file(marker_file($node));
	my @keys   = map { data_keys($_) } @databases;
	my @apps   = map { $node->safe_psql($_, q{SELECT count(*) FROM keyrot.credentials}) } @databases;
	my @open   = map {
		(   attempts(
				$node, $_, q{
		SELECT count(*) FROM keyrot.credentials
		 WHERE keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))}
			))[0]
	} @databases;
	$one_key++ if $marker eq fingerprint($key) . "\n" && !grep { $_ ne '1|' . fingerprint($key) } @keys;
	$all_made++ unless grep { $_ ne $CLIENTS } @apps;
	$all_open++ unless grep { $_->{output} ne $CLIENTS } @open;
	note "round $round: marker $marker data keys @keys, apps @apps, $looks looks";
}
is($one_key, $ROUNDS,
		"$ROUNDS races of "
	  . @databases
	  . " databases with $CLIENTS sessions each: one master key, and one data key a database");
is($all_made,       $ROUNDS, 'everybody got an app');
is($all_open,       $ROUNDS, 'whose secret opens');
is($all_incomplete, 0,       "the file was never seen incomplete, in $all_looks looks");
is_deeply(
	[ key_files_of($node) ],
	[ 'keyrot_master.key', 'keyrot_master_key.marker' ],
	'no temporary file is left');

done_testing();

# The master key: made by create_master_key() and by nothing else, once, whoever calls it; and the first data
# keys under it.
#
# Why not pg_regress: it cannot look at the server's files, it starts with a cluster that may have its key
# already, and races for the first key need many sessions in several databases.

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
my $MAKE    = 'SELECT keyrot.create_master_key()';

my $node = new_server('first', conf => "max_prepared_transactions = 2\n");
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

sub degraded
{
	my ($database) = @_;
	return $node->safe_psql($database, q{SELECT array_to_string(problems, '|') FROM } . $STATUS);
}

# Whoever needs a master key is refused, with a hint that matches.
sub is_refused
{
	my ($try, $hint) = @_;
	return $try->{output} =~ /^500\|.*InternalError/ if $try->{statement} =~ /keyrot\.api/;
	return $try->{sqlstate} eq '55000' && $try->{message} =~ /"\Q$path\E" does not exist/ && $try->{hint} =~ $hint;
}

forget_master_key($node, 'one', 'two');

# Who does not need a key does without.
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
	q{SELECT data_keys FROM } . $STATUS);
is( join(' ', map { $_->{sqlstate} . $_->{output} } @harmless),
	join(' ', ('f') x 6, ('P0002') x 10, '', ('22023') x 2, 0, 0, 0),
	'without any credential each call answers as it should');
is_deeply([ key_files_of($node) ], [], 'and no key file is made by it, nor by CREATE EXTENSION');

# Who needs one is told, and nothing is made.
my @needy = attempts(
	$node,
	'one',
	create('app-1'),
	q{SELECT keyrot.create_zone_key('zone-1')},
	q{SELECT * FROM keyrot.api('CreateApp', '{"AppName": "App"}')},
	q{SELECT keyrot.rotate_master_key()},
	q{SELECT keyrot.rotate_master_key(rewrap => false)},
	q{SELECT keyrot.rewrap_data_keys()},
	q{SELECT keyrot.rotate_data_key()});
is_deeply([ map { $_->{text} } grep { !is_refused($_, qr/^Call keyrot\.create_master_key\(\)/) } @needy ],
	[], 'each of ' . @needy . ' calls that need a master key is refused, with the hint to create it');
is(scalar(grep { $_->{context} =~ /keyrot request $REQUEST_ID: \w+/ } @needy), @needy - 1, 'and with its RequestId');
is_deeply([ key_files_of($node) ], [], 'and none makes a key file');
is(data_keys('one'), '', 'or a data key');
like(degraded('one'), qr/"\Q$path\E" does not exist/, 'status() tells, too');

# The one that makes it.
my ($made) = attempts($node, 'one', $MAKE);
my $contents = slurp_file($path);
like($contents, qr/\A[0-9a-f]{64}\n\z/, 'create_master_key() makes a key file of one line');
chomp(my $key = $contents);
is($made->{output}, fingerprint($key), 'and returns its fingerprint, as documented');
my @info = stat $path;
is($info[2] & oct(7777), oct(600), 'its mode is 0600');
is($info[3],             1,        'and it has one name');
is_deeply([ key_files_of($node) ], ['keyrot_master.key'], 'beside it, there is nothing');
like($made->{text}, qr/WARNING: .*in the data directory.*^DETAIL: .*Base backup.*pg_rewind.*^HINT: /ms,
	'with a warning, since it lies in the data directory');
my $log = q{SELECT replace(target, '} . fingerprint($key) . q{', 'KEY'), outcome, count(*) FROM keyrot.request
	WHERE action = 'create_master_key' GROUP BY 1, 2};
is($node->safe_psql('one', $log), 'KEY|ok|1', 'it is on record, with the fingerprint');

my ($again, $other) = map { attempts($node, $_, $MAKE) } 'one', 'two';
is("$again->{output} $other->{output}", join(' ', (fingerprint($key)) x 2), 'called again, here or in another database, it returns the same');
is(scalar(grep { $_->{text} =~ /NOTICE: .*already exists/ && $_->{text} !~ /WARNING/ } $again, $other), 2, 'with a notice');
is(join(' ', (stat $path)[ 1, 9 ]) . slurp_file($path), join(' ', @info[ 1, 9 ]) . $contents, 'and leaves the file as it is');
is($node->safe_psql('one', $log), 'KEY|ok|2', 'as the log knows');

$node->safe_psql('one', create('app-1'));
$node->safe_psql('two', q{SELECT FROM keyrot.create_zone_key('zone-1')});
is(data_keys($_), '1|' . fingerprint($key), "the first data key of database $_ is wrapped by it") for qw(one two);
my @sealed_by =
  map { $node->safe_psql($_, q{SELECT encode(wrapped, 'hex') FROM keyrot.data_key}) } qw(one two);
isnt($sealed_by[0], $sealed_by[1], 'and each is another one');
is( $node->safe_psql('one', 'SELECT master_key, data_key, data_keys FROM ' . $STATUS),
	fingerprint($key) . '|1|1',
	'status() names all of them');
like(degraded('one'), qr/in the data directory.*pg_rewind/, 'and tells what can happen to a key file in the data directory');

# A rollback leaves the file, which is the cluster's, and no data key.
forget_master_key($node, 'one', 'two');
$node->safe_psql('one', "BEGIN; $MAKE; " . create('app-1') . '; ROLLBACK');
chomp($key = slurp_file($path));
is(data_keys('one'), '', 'no data key outlives the transaction that made it');
$node->safe_psql('one', create('app-2'));
is( data_keys('one') . ' ' . slurp_file($path),
	'1|' . fingerprint($key) . " $key\n",
	'the next need makes one under the same master key');

# What a crash may have left lying about is in nobody's way.
forget_master_key($node, 'one', 'two');
my ($system) = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
write_key("$path.$_.tmp", "left behind\n") for 1, $system;
$node->safe_psql('one', $MAKE);
like(slurp_file($path), qr/\A[0-9a-f]{64}\n\z/, 'left-over temporary files do no harm');
is_deeply([ key_files_of($node) ], [ 'keyrot_master.key', 'keyrot_master.key.1.tmp' ], 'this cluster\'s own are removed');
unlink "$path.1.tmp";

# A file that is there but not as it should be stays as it is.
write_key($path, "not a key\n");
my ($bad) = attempts($node, 'one', $MAKE);
is($bad->{sqlstate}, '55000', 'where a bad file is there, create_master_key() says so');
is(slurp_file($path), "not a key\n", 'and leaves it');

# Where this database has data keys, their master key is restored and not replaced.
forget_master_key($node, 'one', 'two');
$node->safe_psql('one', "$MAKE; " . create('app-1'));
$contents = slurp_file($path);
unlink $path;
my @lost = attempts($node, 'one', $MAKE, create('app-3'), map { "SELECT keyrot.$_()" } qw(rotate_master_key rewrap_data_keys rotate_data_key));
is_deeply([ map { $_->{text} } grep { !is_refused($_, qr/^Restore the file/) } @lost ],
	[], 'without its file, a database with data keys asks for it, in each of ' . @lost . ' calls');
is_deeply([ key_files_of($node) ], [], 'and nothing is made');

# Not so in another database: a new key does no harm, since every data key names its own.
my ($unaware) = attempts($node, 'two', create('app-1'));
ok(is_refused($unaware, qr/create_master_key\(\), or restore/), 'a database without data keys knows both ways out');
my ($second) = attempts($node, 'two', $MAKE);
is($second->{output}, fingerprint(substr slurp_file($path), 0, 64), 'and may have a new master key made');
my ($mismatch, $signs) = attempts($node, 'one', $MAKE, q{SELECT keyrot.sign_for_app('app-1', 'm')});
my $needed = fingerprint(substr $contents, 0, 64);
is("$mismatch->{sqlstate} $signs->{sqlstate}", '55000 55000', 'which the other database does not take for its own');
is(scalar(grep { $_->{message} =~ /is wrapped by master key $needed/ && $_->{hint} =~ /Add the line/ } $mismatch, $signs),
	2, 'but names the one that it needs');
write_key($path, slurp_file($path) . $contents);
is(scalar(grep { !$_->{sqlstate} } attempts($node, 'one', $MAKE, q{SELECT keyrot.sign_for_app('app-1', 'm')}, create('app-3'))),
	3, 'with its line added, all is well');

# A data key that is prepared, or being made, counts.
forget_master_key($node, 'one', 'two');
$node->safe_psql('one', "$MAKE; BEGIN; " . create('app-1') . q{; PREPARE TRANSACTION 'first'});
$contents = slurp_file($path);
unlink $path;
my (undef, $waits) = attempts($node, 'one', q{SET lock_timeout = '100ms'}, $MAKE);
is($waits->{sqlstate}, '55P03', 'a data key that is prepared is waited for');
ok(!-e $path, 'and no key made meanwhile');
$node->safe_psql('one', q{COMMIT PREPARED 'first'});
ok(is_refused((attempts($node, 'one', $MAKE))[0], qr/^Restore/), 'nor afterwards');
write_key($path, $contents);

# Another folder.
sub move_key_file
{
	my ($place) = @_;
	$node->append_conf('postgresql.conf', "keyrot.master_key_file = '$place'");
	$node->reload;
	return;
}

forget_master_key($node, 'one', 'two');
my $elsewhere = "$folder/keyrot.key";
move_key_file($elsewhere);
chmod oct(500), $folder;
my ($refused) = attempts($node, 'one', $MAKE);
is($refused->{sqlstate}, '55000', 'a folder that cannot be written to gives 55000');
like(
	$refused->{message},
	qr/could not create master key file "\Q$elsewhere\E": Permission denied/,
	'which names the file');
like($refused->{hint},    qr/directory/, 'and has a hint');
like($refused->{context}, qr/keyrot request $REQUEST_ID: create_master_key/, 'and its RequestId');
is_deeply([ key_files_of($folder), key_files_of($node) ], [], 'and makes nothing');
chmod oct(700), $folder;
($made) = attempts($node, 'one', $MAKE);
is($made->{text}, '', 'once it can be, create_master_key() succeeds, without a warning');
is_deeply([ key_files_of($folder) ], ['keyrot.key'], 'the file is made there');
is((stat $elsewhere)[2] & oct(7777), oct(600), 'with mode 0600');
is_deeply([ key_files_of($node) ], [], 'and not in the data directory');
unlike(degraded('one'), qr/in the data directory/, 'so that status() has no objection to its place');

move_key_file("$folder/none/keyrot.key");
my ($no_folder) = attempts($node, 'two', $MAKE);
is($no_folder->{sqlstate}, '55000', 'a folder that does not exist gives 55000');
like($no_folder->{message}, qr/"\Q$folder\E\/none\/keyrot.key": No such file/, 'which names the file');

unlink $elsewhere;
move_key_file('keyrot_master.key');
like(degraded('one'), qr/does not exist.*in the data directory/, 'status() objects to a key file in the data directory');

# Several databases and many sessions at the same moment: everybody is connected and has the library loaded,
# sleeps until a moment that all know, makes the master key and needs the first data key.
my @databases = qw(one two three);
add_databases($node, 'three');
my $script = "$folder/create.sql";
append_to_file($script, <<"END");
SELECT data_keys FROM $STATUS;
SELECT pg_sleep(greatest(0, :moment - extract(epoch FROM clock_timestamp())));
SELECT keyrot.create_master_key();
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

my ($one_key, $one_maker, $all_made, $all_open, $all_looks, $all_incomplete) = (0, 0, 0, 0, 0, 0);
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
	my $said   = join '', map { slurp_file("$folder/$_.out") } @databases;
	my $makers = () = $said =~ /WARNING: .*in the data directory/g;
	my $others = () = $said =~ /NOTICE: .*already exists.*@{[ fingerprint($key) ]}/g;
	my @keys   = map { data_keys($_) } @databases;
	my @apps   = map { $node->safe_psql($_, q{SELECT count(*) FROM keyrot.credentials}) } @databases;
	my @open   = map {
		(   attempts(
				$node, $_, q{
		SELECT count(*) FROM keyrot.credentials
		 WHERE keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))}
			))[0]
	} @databases;
	$one_key++   unless grep { $_ ne '1|' . fingerprint($key) } @keys;
	$one_maker++ if "$makers $others" eq '1 ' . (@databases * $CLIENTS - 1);
	$all_made++  unless grep { $_ ne $CLIENTS } @apps;
	$all_open++  unless grep { $_->{output} ne $CLIENTS } @open;
	note "round $round: $makers made it, $others found it, data keys @keys, apps @apps, $looks looks";
}
is($one_key, $ROUNDS,
		"$ROUNDS races of "
	  . @databases
	  . " databases with $CLIENTS sessions each: one master key, and one data key a database");
is($one_maker,      $ROUNDS, 'one session made it, and each of the others was told that it exists');
is($all_made,       $ROUNDS, 'everybody got an app');
is($all_open,       $ROUNDS, 'whose secret opens');
is($all_incomplete, 0,       "the file was never seen incomplete, in $all_looks looks");
is_deeply([ key_files_of($node) ], ['keyrot_master.key'], 'no temporary file is left');

done_testing();

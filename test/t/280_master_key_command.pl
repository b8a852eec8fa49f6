# keyrot.master_key_command: what it prints is used in place of a key file; how seldom it is run; how each
# failure is told; and that nothing of it is left behind, whatever becomes of the session that runs it.
#
# Why not pg_regress: the setting is the server's, the library has to be preloaded for one half and must not
# be for the other, and it takes programs that the server runs, sessions that wait for each other, a crash
# and a standby.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# The command notes that it runs, and does what a file says that the tests rewrite.
my $folder  = PostgreSQL::Test::Utils::tempdir_short();
my $program = "$folder/command";
my $runs    = "$folder/runs";
my $pids    = "$folder/pids";
my $go_on   = "$folder/go_on";
my @key     = map { random_hex(64) } 0 .. 3;
my $said    = '';
append_to_file($program, "echo \$\$ >> $runs\n. $folder/behaviour\n");

sub behave
{
	my ($shell) = @_;
	write_key("$folder/behaviour", "$shell\n");
	return;
}

sub print_keys
{
	my (@keys) = @_;
	write_key("$folder/keys", join '', map { "$_\n" } @keys);
	behave("cat $folder/keys");
	return;
}

# How often the command was run since this was asked before.
my $runs_seen = 0;

sub new_runs
{
	my $count = -e $runs ? () = slurp_file($runs) =~ /\n/g : 0;
	my $new = $count - $runs_seen;
	$runs_seen = $count;
	return $new;
}

# Whether a process that the command noted still does anything; a zombie does not.
sub is_alive
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return 0;
	my $stat = <$file> // '';
	return $stat =~ /\) [^ZX] / ? 1 : 0;
}

sub noted_pids { return -e $pids ? split /\n/, slurp_file($pids) : (); }

# Waits until the command has noted so many.
sub noted
{
	my ($count) = @_;
	return wait_until(sub { my @noted = noted_pids(); return @noted == $count; });
}

# All that the command noted, and then forgets, must be gone; returns how many there were.
sub gone
{
	my @noted = noted_pids();
	wait_until(sub { return !grep { is_alive($_) } @noted; }) or return "still running: @noted";
	unlink $pids;
	return scalar @noted;
}

my $node = new_server(
	'commanded',
	init => { allows_streaming => 1 },
	conf => "keyrot.master_key_command = 'exec sh $program'\nmax_connections = 40\n");

# Reloads and waits until new sessions have it.
sub reload
{
	my ($server) = (@_, $node);
	my $loaded = $server->safe_psql('postgres', 'SELECT pg_conf_load_time()');
	$server->reload;
	wait_until(sub { return $server->safe_psql('postgres', "SELECT pg_conf_load_time() > '$loaded'") eq 't'; })
	  or BAIL_OUT('the server does not reload');
	return;
}

sub set_conf
{
	my ($line) = @_;
	$node->append_conf('postgresql.conf', $line);
	reload();
	return;
}

my $secret = 'the-secret-of-the-one-app';
my $sound  = qq{SELECT keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($secret, 'm') ]}')};
my $create = qq{SELECT FROM keyrot.create_app('App', 'app-1', '$secret')};

sub wrapped_by
{
	my ($database) = @_;
	return $node->safe_psql($database, q{SELECT encode(master_key, 'hex') FROM keyrot.data_key});
}

# Calls that run side by side: begin_calls(COUNT, SQL[, DATABASE]), and end_calls() returns what each of them
# printed.
sub begin_calls
{
	my ($count, $sql, $database) = (@_, 'served');
	my @calls;
	for (1 .. $count)
	{
		my %call = (out => '', err => '');
		$call{run} = IPC::Run::start(
			[ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($database), '-c', $sql ],
			'<', \undef, '>', \$call{out}, '2>', \$call{err},
			IPC::Run::timeout(3 * $PostgreSQL::Test::Utils::timeout_default));
		push @calls, \%call;
	}
	return @calls;
}

sub end_calls
{
	my @results;
	for my $call (@_)
	{
		$call->{run}->finish;
		$said .= $call->{err};
		push @results, $call->{out} =~ s/\n\z//r . ($call->{err} =~ /(?:ERROR|ERREUR|FATAL): +(\w{5}):/ ? $1 : '');
	}
	return @results;
}

sub alike { return join ' ', map { "$_->[1] x '$_->[0]'" } counted(@_); }

sub counted
{
	my %count;
	$count{$_}++ for @_;
	return map { [ $_, $count{$_} ] } sort keys %count;
}


# Each session for itself

print_keys($key[0]);
add_databases($node, 'served');
is(new_runs(), 0, 'the server starts, and the extension is made, without a run');
$node->safe_psql('served', $create);
is(wrapped_by('served'), fingerprint($key[0]), 'the data key is wrapped by the key that the command prints');
is(new_runs(), 1, 'for which it was run once');
is($node->safe_psql('served', $sound), 't', 'its key unwraps') for 1 .. 4;
is(new_runs(), 4, 'of 4 sessions where keyrot is not preloaded each runs it once');

my $renew   = "DROP EXTENSION keyrot; CREATE EXTENSION keyrot; $create";
my $session = $node->background_psql('served');
is($session->query_safe($sound), 't', 'a session verifies');
$node->safe_psql('served', $renew);
is($session->query_safe($sound), 't', 'and again where the extension was made anew, with another data key');
is(new_runs(), 2, 'for which it ran the command once, as did the session that made it');
reload();
$node->safe_psql('served', $renew);
is($session->query_safe($sound), 't', 'and once more after a reload');
is(new_runs(), 2, 'after which it ran the command again');
$session->quit;

# Whoever has the library loaded by a first call must not name a command that the server then runs.
my $evil = "touch $folder/evil; exec sh $program";
$node->safe_psql('served', 'CREATE ROLE regress_plain; GRANT USAGE ON SCHEMA keyrot TO regress_plain;'
	  . ' GRANT EXECUTE ON FUNCTION keyrot.verify_app_string TO regress_plain');
for my $as ('SET ROLE regress_plain', 'SET SESSION AUTHORIZATION regress_plain', 'RESET ROLE')
{
	my (undef, undef, $verify) = attempts($node, 'served', $as, "SET keyrot.master_key_command = '$evil'", $sound);
	is($verify->{output}, 't', "$as: a session that names a command of its own verifies");
	unlike($verify->{text}, qr/evil/, 'and hears nothing of it');
}
for my $value ($evil, '')
{
	local $ENV{PGOPTIONS} = "-c keyrot.master_key_command=" . $value =~ s/([ ;])/\\$1/gr;
	is((attempts($node, 'served', $sound))[0]{sqlstate}, '55P02', 'a connection that comes with one is refused at its first call');
}
ok(!-e "$folder/evil", 'none of them was run');
is(new_runs(), 3, 'but the server\'s');


# Preloaded

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'keyrot'");
behave('exit 1');
$node->restart;
is(new_runs(), 0, 'preloaded, the server starts without a run');
is((attempts($node, 'served', $sound))[0]{sqlstate}, '55000', 'and, where the command fails, with the error at its use');
is(new_runs(), 1, 'of which there was one');

print_keys($key[0]);
reload();
is(alike(end_calls(begin_calls(20, $sound))), "20 x 't'", '20 sessions at once verify');
is(new_runs(), 1, 'all by one run');
is($node->safe_psql('postgres', 'CREATE DATABASE later') // '', '', 'another database');
$node->safe_psql('later', "CREATE EXTENSION keyrot; $create");
is(new_runs(), 1, 'a data key is wrapped by a key that the command prints then');
is($node->safe_psql('later', $sound), 't', 'and unwrapped');
is(new_runs(), 0, 'by one that it printed before');

print_keys($key[1], $key[0]);
$session = $node->background_psql('served');
reload();
is($session->query_safe($sound), 't', 'with a new key in front the older one unwraps, in a session that was there');
is($node->safe_psql('served', $sound), 't', 'and in a new one');
is(new_runs(), 1, 'by one run after the reload');
$node->safe_psql('later', $renew);
is(wrapped_by('later'), fingerprint($key[1]), 'the first key wraps');
is(wrapped_by('served'), fingerprint($key[0]), 'what the older one wraps stays');
is($session->query_safe('SELECT master_key FROM ' . $STATUS), fingerprint($key[1]), 'status() tells the first');
$session->quit;

# A key is missing, and comes without a reload: the command is run again, but not for each who asks.
print_keys($key[0]);
reload();
is($node->safe_psql('served', $sound), 't', 'a key leaves, and what the other one wraps is not concerned');
new_runs();
my $begun  = time;
my @missed = map { attempts($node, 'later', $sound) } 1 .. 15;
my $most   = 1 + (time - $begun) / 10;
my $extra  = new_runs();
is(alike(map { $_->{sqlstate} } @missed), "15 x '55000'", 'of 15 sessions that miss a key each is told');
is(scalar(grep { $_->{message} =~ /@{[ fingerprint($key[1]) ]}.* the output of keyrot\.master_key_command contains @{[ fingerprint($key[0]) ]}/ } @missed),
	15, 'which one it is and which there is');
cmp_ok($extra, '<=', $most, "they run the command once in 10 seconds at most: $extra times");
print_keys($key[0], $key[1]);
ok(wait_until(sub { return (attempts($node, 'later', $sound))[0]{output} eq 't'; }),
	'when the command prints it, it is found without a reload');
new_runs();


# Every way to fail

my $waiting = "for i in 1 2; do sleep 1000 & echo \$! >> $pids; done; echo \$\$ >> $pids";
my @failures = (
	[ 'exits with 3', 'exit 3', qr/failed: child process exited with exit code 3$/ ],
	[ 'is killed', 'kill -9 $$', qr/failed: child process was terminated by signal 9: \w+$/ ],
	[ 'is not there', 'exec /nowhere/at/all', qr/failed: command not found$/ ],
	[ 'may not be run', "exec $program", qr/failed: command not executable$/ ],
	[ 'prints a key and fails', "cat $folder/keys; exit 9", qr/exit code 9$/ ],
	[ 'prints nothing', ':', qr/printed no key$/ ],
	[ 'prints empty lines', 'echo; echo', qr/printed no key$/ ],
	[ 'prints a word', 'echo secret', qr/line 1 of the output of keyrot.master_key_command is not 64 hex digits$/ ],
	[ 'prints a bad second line', "cat $folder/keys; cut -c 1-40 $folder/keys; exit 0", qr/line 3 of the output/ ],
	[ 'prints blanks before its key', "printf ' '; cat $folder/keys", qr/line 1 of the output/ ],
	[ 'prints 33 keys', "for i in 1 2 3 4 5 6 7 8 9 10 11; do head -1 $folder/keys; cat $folder/keys; done",
		qr/printed more than 32 keys$/ ],
	[ 'prints without end', "echo \$\$ >> $pids; exec yes", qr/printed 4096 bytes or more$/, 1 ],
	[ 'says why', q{echo 'the vault is sealed' >&2; exit 2}, qr/failed: child process exited with exit code 2$/ ],
	[ 'says why it printed nothing', q{echo 'no such key' >&2}, qr/printed no key$/ ],
	[ 'says more than fits a pipe', q{i=0; while [ $i -lt 9000 ]; do echo "line $i of many" >&2; i=$((i + 1)); done; exit 1},
		qr/exit code 1$/ ]);

# They fail in turn with what came before: the good keys must not be used any more after a reload.
my $shown = 0;
new_runs();
for my $failure (@failures)
{
	my ($name, $shell, $message, $started) = @$failure;
	behave($shell);
	reload();
	my ($verify, $status) =
	  attempts($node, 'served', $sound, q{SELECT array_to_string(problems, '|') FROM } . $STATUS);
	$said .= $verify->{text} . $status->{text} . $status->{output};
	is($verify->{sqlstate}, '55000', "a command that $name");
	like($verify->{message}, $message, 'is told as what it is');
	like($verify->{hint}, qr/\S.*\.$/, 'with what to do');
	unlike($verify->{text}, qr/\bexec sh\b/, 'but without its text');
	$shown++ if index($status->{output}, $verify->{message}) >= 0;
	like(gone(), qr/^[12]$/, 'and leaves nothing running') if $started;
}
is($shown, scalar @failures, 'status() tells the same in all ' . scalar @failures . ' cases');
my $tried = new_runs();
cmp_ok($tried, '>=', scalar @failures, "after each of @{[ scalar @failures ]} reloads the command is tried anew");
my $server_log = slurp_file($node->logfile);
is(scalar(grep { index($server_log, "$_\n") >= 0 } 'the vault is sealed', 'no such key', 'line 8999 of many'),
	3, 'what it says on stderr is in the server log');
unlike($said, qr/vault|no such key|of many/, 'and callers get nothing of it');

# No master key is made beside the command.
behave(':');
reload();
my ($unprinted, $made, $rotated) =
  attempts($node, 'served', $sound, 'SELECT keyrot.create_master_key()', 'SELECT keyrot.rotate_master_key()');
like($unprinted->{hint}, qr/^It must print one key of 64 hex digits per line/, 'where the command prints no key, the hint is to let it print one');
$node->safe_psql('postgres', 'CREATE DATABASE empty');
my (undef, $needed, $refused) =
  attempts($node, 'empty', 'CREATE EXTENSION keyrot', $create, 'SELECT keyrot.create_master_key()');
like($needed->{hint}, qr/^It must print one key of 64 hex digits per line/, 'also where there is no data key');
is("$made->{sqlstate} $rotated->{sqlstate} $refused->{sqlstate}", '55000 55000 55000', 'create_master_key() makes none, nor does rotate_master_key()');
like($refused->{message}, qr/because keyrot\.master_key_command is set/, 'and names the setting');
like($refused->{hint}, qr/^Have the command print/, 'and what to do');
is_deeply([ key_files_of($node) ], [], 'and makes no file');
$node->safe_psql('postgres', 'DROP DATABASE empty');

# What goes on failing is not run for each who asks, but is once it may have recovered.
behave('exit 1');
reload();
my $seconds = time;
my $calls = 0;
do
{
	$calls++ for grep { $_->{sqlstate} eq '55000' } attempts($node, 'served', ($sound) x 50);
} while (time - $seconds < 3);
$seconds = time - $seconds;
$tried   = new_runs();
cmp_ok($tried, '<=', 2 + $seconds, "$calls calls fail in $seconds seconds; the command is run once in a second at most: $tried times");
cmp_ok($tried, '>=', 2, 'but more than once');
print_keys($key[0], $key[1]);
ok(wait_until(sub { return (attempts($node, 'served', $sound))[0]{output} eq 't'; }),
	'when the command is good again, so are calls, without a reload');
new_runs();


# The time limit

set_conf("keyrot.master_key_timeout = '3000ms'");
for my $slow (
	[ 'sleeps',                       $waiting . '; wait',                qr/did not finish within 3000 ms$/, 3 ],
	[ 'ignores SIGTERM',              "trap '' TERM; $waiting; wait",     qr/did not finish within 3000 ms$/, 3 ],
	[ 'closed its output and sleeps', "exec >&- 2>&-; $waiting; wait",    qr/did not finish within 3000 ms$/, 3 ],
	[ 'leaves its output open',       "$waiting; cat $folder/keys; exit", qr/finished, but a process that it started kept its output open/, 3 ])
{
	my ($name, $shell, $message, $processes) = @$slow;
	behave($shell);
	reload();
	my ($verify) = attempts($node, 'served', $sound);
	is($verify->{sqlstate}, '55000', "a command that $name");
	like($verify->{message}, $message, 'is ended in time');
	is(gone(), $processes, "with all of its $processes processes");
}
set_conf("keyrot.master_key_timeout = '2min'");
behave("sleep 1000 > $folder/nothing 2>&1 & echo \$! >> $pids; cat $folder/keys");
is($node->safe_psql('served', $sound), 't', 'a command may leave something running that has nothing of it open');
my ($left) = noted_pids();
ok(is_alive($left), 'which keeps running');
kill 'KILL', $left;
gone();


# Cancelled, with two minutes to go

behave("trap '' TERM; $waiting; wait");
reload();
my ($timed_out) = attempts($node, 'served', "SET statement_timeout = '6s'; $sound");
is($timed_out->{sqlstate}, '57014', 'statement_timeout ends a call that waits for the command');
is(gone(), 3, 'and the command with its 3 processes');
for my $way ([ 'pg_cancel_backend', '57014' ], [ 'pg_terminate_backend', '57P01' ])
{
	my ($function, $sqlstate) = @$way;
	my ($call) = begin_calls(1, $sound);
	ok(noted(3), 'a session runs the command');
	$node->safe_psql('served',
		"SELECT $function(pid) FROM pg_stat_activity WHERE query ~ 'verify_app' AND pid <> pg_backend_pid()");
	is((end_calls($call))[0], $sqlstate, "$function ends that");
	is(gone(), 3, 'and the command with its 3 processes');
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), '0', 'no lock is left');
new_runs();


# Who waits for a run that fails, or succeeds, has its result

my $wait_for = "while [ ! -e $go_on ]; do sleep 0.05; done";

sub queue_up
{
	my ($first) = begin_calls(1, $sound);
	wait_until(sub { return slurp_file($runs) =~ tr/\n// > $runs_seen; }) or BAIL_OUT('the command is not run');
	my @others = begin_calls(6, $sound);
	my $waiting = q{SELECT count(*) = 6 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted};
	ok(wait_until(sub { return $node->safe_psql('postgres', $waiting) eq 't'; }), 'one session runs the command, 6 wait');
	append_to_file($go_on, '');
	my @results = end_calls($first, @others);
	unlink $go_on;
	return alike(@results);
}

behave("$wait_for; echo broken >&2; exit 4");
reload();
is(queue_up(), "7 x '55000'", 'a run that fails fails all of them');
is(new_runs(), 2, 'those that waited share one of their own');
behave("$wait_for; cat $folder/keys");
reload();
is(queue_up(), "7 x 't'", 'a run that succeeds serves all of them');
is(new_runs(), 1, 'those that waited need none of their own');


# A process of its own: no file, no signal handling and no client of the session's

behave("for f in /proc/\$\$/fd/*; do readlink \$f; done > $folder/files; cat /proc/self/status > $folder/status;"
	  . " cut -d ' ' -f 1,5 /proc/\$\$/stat > $folder/group; pwd > $folder/where; cat $folder/keys");
reload();
is($node->safe_psql('served', "SELECT count(*) > 0 FROM pg_class, pg_proc; $sound"), "t\nt", 'a session with files open verifies');
my $status = slurp_file("$folder/status");
like($status, qr/^SigBlk:\s*0+$/m, 'no signal is blocked in the command');
# But for two of the C library's own, which cannot be set.
like($status, qr/^SigIgn:\s*[0-9a-f]{8}[08]0{7}$/m, 'and none ignored');
my @files = grep { !/^\Q$folder\E|^pipe:/ && !m{/proc/} } split /\n/, slurp_file("$folder/files");
is(join(' ', @files), '/dev/null ' . $node->logfile, 'it has /dev/null to read, and no file or socket of the server but the log, for stderr');
like(slurp_file("$folder/group"), qr/^(\d+) \1$/, 'it is its own process group');
is(slurp_file("$folder/where"), $node->data_dir . "\n", 'and runs in the data directory');


# A crash, while the command runs, and with its keys in shared memory

print_keys($key[0], $key[1]);
reload();
is($node->safe_psql('served', $sound), 't', 'before a crash the keys are there');
new_runs();
behave("echo \$\$ >> $pids; exec sleep 1000");
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
reload();
my ($victim) = begin_calls(1, $sound);
ok(noted(1), 'a session runs the command');
my $backend =
  $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query ~ 'verify_app' AND pid <> pg_backend_pid()");
kill 'KILL', $backend;
end_calls($victim);
wait_until(sub { !-d "/proc/$backend" });
SKIP:
{
	skip 'a command outlives a session that is killed, on this system', 1 unless $^O eq 'linux';
	is(gone(), 1, 'a session that is killed takes the command with it');
}
print_keys($key[0], $key[1]);
ok(wait_until(sub { return ($node->psql('served', $sound, on_error_die => 0))[1] eq 't'; }), 'after the crash calls are good');
is($node->safe_psql('served', $sound), 't', 'of every session') for 1 .. 3;
is(new_runs(), 2, 'with one more run, for the memory is new');


# Parallel workers and a standby

my $parallel = q{
	SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off;};
$node->safe_psql('served', "CREATE TABLE numbers WITH (parallel_workers = 2) AS SELECT i FROM generate_series(1, 1000) AS i");
my $by_workers = $sound =~ s/SELECT (.*)/SELECT count(*) FROM numbers WHERE i > 0 AND $1/r;
$by_workers =~ s/'app-1'/'app-' || (i * 0 + 1)/;
is($node->safe_psql('served', "$parallel $by_workers"), '1000', 'parallel workers verify');
like($node->safe_psql('served', "$parallel EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) $by_workers"),
	qr/Workers Launched: [12]/, 'and it is workers who do');
is(new_runs(), 0, 'by the keys that are there');

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('served', $sound), 't', 'on a standby, sessions verify') for 1 .. 3;
is(new_runs(), 1, 'by one run of its own');
behave('echo the vault is away >&2; exit 5');
reload($standby);
like((attempts($standby, 'served', $sound))[0]{message}, qr/exit code 5$/, 'and are told the same of failures');
is_deeply([ key_files_of($standby) ], [], 'no key file is made there');
$standby->stop;
new_runs();


# From the command to a file, to another file, and back

print_keys($key[0], $key[1]);
is_deeply([ key_files_of($node) ], [], 'to this point there is no key file');
my $other = "$folder/other.key";
set_conf("keyrot.master_key_command = ''");
my ($without) = attempts($node, 'served', $sound);
is($without->{sqlstate}, '55000', 'without the command the file counts');
like($without->{message}, qr/"\Q@{[ key_file($node) ]}\E" does not exist/, 'which is not there');
is((attempts($node, 'served', 'SELECT keyrot.create_master_key()'))[0]{sqlstate}, '55000', 'and is not made, for keys are in use');
is_deeply([ key_files_of($node) ], [], 'by anybody');
write_key(key_file($node), "$key[0]\n");
is($node->safe_psql('served', $sound), 't', 'put there, it serves');
write_key($other, "$key[1]\n$key[0]\n");
set_conf("keyrot.master_key_file = '$other'");
is($node->safe_psql('served', "$sound; SELECT master_key FROM $STATUS"), "t\n" . fingerprint($key[1]),
	'another path takes effect with a reload');
is(new_runs(), 0, 'none of which runs a command');
print_keys($key[2], $key[0]);
set_conf("keyrot.master_key_command = 'exec sh $program'");
is($node->safe_psql('served', "$sound; SELECT master_key FROM $STATUS"), "t\n" . fingerprint($key[2]),
	'and the command again');
is(new_runs(), 1, 'which is run once');

# Another command, while a session is at work, which has the old one until it is done.
print_keys($key[3], $key[0]);
behave(qq{if [ "\$1" = another ]; then cat $folder/keys; else echo $key[2]; echo $key[0]; fi});
my ($old_hand) = begin_calls(1, qq{DO \$\$ BEGIN
	WHILE (pg_stat_file('$go_on', true)).size IS NULL LOOP PERFORM pg_sleep(0.05); END LOOP;
	PERFORM 1 / count(*) FROM $STATUS WHERE master_key = '@{[ fingerprint($key[2]) ]}';
END \$\$});
wait_until(sub { return $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^DO' AND state = 'active'}) eq '1'; })
  or BAIL_OUT('the session does not begin');
my $first = 'SELECT master_key FROM ' . $STATUS;
set_conf("keyrot.master_key_command = 'exec sh $program another'");
is($node->safe_psql('served', "$sound; $first"), "t\n" . fingerprint($key[3]), 'another command takes effect with a reload');
append_to_file($go_on, '');
is((end_calls($old_hand))[0], '', 'a session that is still at work has the keys of its own');
is(new_runs(), 2, 'both were run');
is($node->safe_psql('served', $first), fingerprint($key[3]), 'and nobody else takes its keys for those of the new one');
unlink $go_on;

# The key is replaced where it comes from, not by keyrot.
new_runs();
my ($rotate) = attempts($node, 'served', 'SELECT keyrot.rotate_master_key()');
is($rotate->{sqlstate}, '55000', 'keyrot adds no key to those of a command');
like($rotate->{message}, qr/because keyrot\.master_key_command is set/, 'and says why');
like($rotate->{hint}, qr/print a new line .* before the others, reload .*\brewrap_data_keys\(\)/, 'and what to do');
is($node->safe_psql('served', 'SELECT keyrot.rewrap_data_keys()'), '1', 'which wraps the data key anew');
is(wrapped_by('served'), fingerprint($key[3]), 'by the first that the command prints');
is(new_runs(), 1, 'for which it is run');

my $degraded = q{SELECT array_to_string(problems, '|') FROM } . $STATUS;
set_conf("keyrot.master_key_file = 'keyrot_master.key'");
like($node->safe_psql('served', $degraded), qr/key file is in the data directory/, 'of a key file that is left in the data directory status() tells');
unlink key_file($node);
unlike($node->safe_psql('served', $degraded), qr/key file/, 'and no more when it is gone');


# Shared keys that can't be locked, where each session's own can: the server starts with a lower limit than it
# has later.

sub set_locked_memory
{
	my ($pid, $soft) = @_;
	return system('prlimit', "--pid=$pid", "--memlock=$soft:") == 0;
}

my $locked = q{SELECT locked_memory, array_to_string(problems, '|') ~ 'swapped' FROM } . $STATUS;
SKIP:
{
	my ($limit) = $^O eq 'linux' ? slurp_file("/proc/$$/limits") =~ /^Max locked memory\s+(\w+)/m : ();
	skip 'nothing can be locked on this system', 4 unless $node->safe_psql('served', $locked) eq 't|f';
	set_locked_memory($$, 0) or skip 'no limit on locked memory to set', 4;
	$node->restart;
	set_locked_memory($$, $limit) or die;
	is($node->safe_psql('served', $locked), 'f|t', 'status() tells of keys that cannot be locked');
	ok(set_locked_memory((split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0], $limit), 'the limit is raised');
	is($node->safe_psql('served', $locked), 'f|t', 'the keys that the sessions share are still not locked');
	set_conf("keyrot.master_key_command = ''");
	is($node->safe_psql('served', $locked), 't|f', 'which does not matter where there is no command');
	set_conf("keyrot.master_key_command = 'exec sh $program again'");
}


# A failure is told to sessions of databases in other encodings; the server's words are translated.
$node->safe_psql('postgres', "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
$node->safe_psql('latin', 'CREATE EXTENSION keyrot');
print_keys($key[3], $key[0]);
$node->safe_psql('latin', $create);
new_runs();
SKIP:
{
	local $ENV{LANGUAGE} = 'fr';
	$node->append_conf('postgresql.conf', "lc_messages = 'C.UTF-8'");
	$node->restart;
	skip 'the server has no translations here', 4
	  unless (attempts($node, 'served', 'SELECT 1 / 0'))[0]{text} =~ /z\xc3\xa9ro/;
	behave("$wait_for; exit 3");
	my @calls = begin_calls(1, $sound, 'latin');
	wait_until(sub { return new_runs() > 0; }) or BAIL_OUT('the command is not run');
	push @calls, begin_calls(1, $sound, 'latin');
	my $waiting = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted};
	ok(wait_until(sub { return $node->safe_psql('postgres', $waiting) eq '1'; }), 'a session in LATIN1 waits to run the command');
	push @calls, begin_calls(1, $sound, 'served');
	ok(wait_until(sub { return $node->safe_psql('postgres', $waiting) eq '2'; }), 'and one in UTF8 after it');
	append_to_file($go_on, '');
	is(join(' ', end_calls(@calls)), '55000 55000 55000', 'all are told that it failed');
	unlink $go_on;
	like($calls[2]{err}, qr/failed: le processus .* quitt\? avec le code de sortie 3$/m, 'the one in UTF8 without a byte of LATIN1');
}
$node->append_conf('postgresql.conf', "lc_messages = 'C'");
$node->restart;


# Who may see and set it

my @settings = attempts(
	$node,
	'served',
	q{SET ROLE regress_plain},
	'SHOW keyrot.master_key_command',
	q{SELECT current_setting('keyrot.master_key_command')},
	q{SELECT count(*) FROM pg_settings WHERE name = 'keyrot.master_key_command'},
	q{SET keyrot.master_key_command = 'true'},
	'RESET ROLE',
	q{SET keyrot.master_key_command = 'true'},
	q{SET keyrot.master_key_timeout = '1s'},
	q{ALTER DATABASE served SET keyrot.master_key_command = 'true'},
	q{ALTER ROLE regress_plain SET keyrot.master_key_command = 'true'},
	'SHOW keyrot.master_key_timeout');
is(join(' ', map { $_->{sqlstate} || $_->{output} } @settings[ 1 .. 4 ]), '42501 42501 0 55P02', 'it is hidden from an ordinary user');
is(join(' ', map { $_->{sqlstate} } @settings[ 6 .. 9 ]), '55P02 55P02 55P02 55P02', 'and nobody sets it but for the server');
is($settings[10]{output}, '2min', 'as is its time limit');

# No word of a key in what was said or logged.
my $log    = slurp_file($node->logfile) . slurp_file($standby->logfile);
my @leaked = grep { my $digits = substr $_, 0, 20; "$said$log" =~ /\Q$digits\E/i } @key, map { reverse $_ } map { substr $_, -20 } @key;
like($log, qr/the vault is away/, 'the log has the errors');
is(scalar @leaked, 0, 'no message and no line of the log holds a part of a key');

done_testing();

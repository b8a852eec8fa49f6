# Making the master key and the first data key, crashed before each step of it: no key file by halves, no data key
# under a master key that is not durably there, and the next call goes on from whatever is left.
#
# Why not pg_regress: it takes a server that is killed between two calls of the system and comes up again.
#
# What the steps are is read from the library that stands between the server and its files (fault.c); this
# test is also the one that shows that it sees and kills what it promises.

use strict;
use warnings FATAL => 'all';
use Cwd qw(abs_path);
use Errno qw(EIO);
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use Fault;
use PostgreSQL::Test::Utils;
use Test::More;

my $MOST_STEPS = 60;

my $fault = Fault->build;
# Nobody else shall write what the armed session would write next.
my $node = new_server('steps', conf => <<'END');
restart_after_crash = on
fsync = on
recovery_init_sync_method = syncfs
autovacuum = off
wal_writer_delay = 10s
bgwriter_delay = 10s
END
add_databases($node, 'one');
my $folder = PostgreSQL::Test::Utils::tempdir();
my $path   = "$folder/keyrot.key";
$node->append_conf('postgresql.conf', "keyrot.master_key_file = '$path'");
$node->reload;
$fault->watch($node->data_dir, $folder);
my $MAKE   = 'SELECT keyrot.create_master_key()';
my $CREATE = q{SELECT FROM keyrot.create_app('App', 'app-1', 'the-secret-of-the-first-app')};
my $SOUND  = q{SELECT keyrot.verify_app_string('app-1', 'm', '}
  . sign_text('the-secret-of-the-first-app', 'm') . q{')};

my $said;    # the errors of the session that was armed

sub forget
{
	$node->safe_psql('one', 'DROP EXTENSION keyrot; CREATE EXTENSION keyrot');
	unlink $path;
	return;
}

# Makes the master key and an app in a session that is armed, and tells whether it lived to say so.
sub run_armed
{
	my (@order) = @_;
	my $session = $node->background_psql('one', on_error_stop => 0);
	my $pid     = $session->query_safe('SELECT pg_backend_pid() FROM ' . $STATUS);
	$fault->arm($pid, @order);
	my $lived = eval { $session->query("$MAKE;\n$CREATE;\nSELECT 'alive'") =~ /alive/ };
	$fault->disarm;
	$said = $session->{stderr};
	eval { $session->quit };

	# The postmaster reaps it before it ends the others: until then, somebody could still get in.
	wait_until(sub { !-d "/proc/$pid" });
	return $lived // 0;
}

# The same where there never was an app, nor a key.
sub create_armed
{
	my (@order) = @_;
	forget();
	return run_armed(@order);
}

# What the armed session did, with short names for its files.
sub steps_made
{
	my @made = map { "$_->{call} $_->{path}" . ($_->{new_path} && " $_->{new_path}") } $fault->steps;
	s/\d{10,}/N/, s/\Q$folder/F/g, s/\Q@{[ abs_path($node->data_dir) ]}/D/g for @made;
	return @made;
}

# The steps, once without an accident.
ok(create_armed(), 'a session whose steps are counted goes on');
my @made = steps_made();
my @of_files = grep { $made[$_] =~ / F/ } 0 .. $#made;
my @expected = (
	'unlink F/keyrot.key.N.tmp',
	'open F/keyrot.key.N.tmp',
	'write F/keyrot.key.N.tmp',
	'fsync F/keyrot.key.N.tmp',
	'link F/keyrot.key.N.tmp F/keyrot.key',
	'fsync F',
	'unlink F/keyrot.key.N.tmp',
	'unlink F/keyrot.key.N.tmp',
	'fsync F/keyrot.key',
	'fsync F');
is_deeply([ @made[@of_files] ], \@expected, 'the key file is durable when it has its name, and again for who depends on it');
my @commits = grep { $made[$_] =~ /^fdatasync D\/pg_wal/ } 0 .. $#made;
is(scalar(grep { $_ > $of_files[6] && $_ < $of_files[7] } @commits), 1, 'the one call commits after the first');
is($commits[-1], $#made, 'and the last of all is the commit of the other');

# What is there after a crash, as a list of what is wrong with it.
sub wrongs
{
	my $key    = -e $path ? slurp_file($path) : undef;
	my $rows   = $node->safe_psql('one', q{SELECT encode(master_key, 'hex') FROM keyrot.data_key});
	my $apps   = $node->safe_psql('one', 'SELECT count(*) FROM keyrot.app');
	my $name   = ($key // '') =~ /\A[0-9a-f]{64}\n\z/ ? fingerprint(substr $key, 0, 64) : '';
	my @wrongs;
	push @wrongs, 'half a key file'           if defined $key && !$name;
	push @wrongs, 'a readable key file'       if defined $key && ((stat $path)[2] & oct 7777) != oct 600;
	push @wrongs, 'a data key of another key' if $rows ne '' && $rows ne $name;
	push @wrongs, 'an app without a data key' if $apps && $rows eq '';

	# The next calls go on.  Whether the first app is there, its client was not told.
	my ($make, $next) = attempts($node, 'one', $MAKE, $CREATE);
	push @wrongs, "create_master_key() gives $make->{sqlstate}" if $make->{sqlstate};
	push @wrongs, "the next call gives $next->{sqlstate}" if $next->{sqlstate} ne ($apps ? '23505' : '');
	push @wrongs, 'the secret does not open' if (attempts($node, 'one', $SOUND))[0]{output} ne 't';
	push @wrongs, 'the key was replaced'     if defined $key && slurp_file($path) ne $key;
	my @left = grep { /tmp/ } key_files_of($folder), key_files_of($node);
	push @wrongs, "left over: @left" if @left;
	return @wrongs;
}

# Each step, with the server killed before it; where it writes what is not a page of a table, which WAL
# makes whole again, also in the middle.
my ($killed, $torn, @found) = (0, 0);
for my $step (1 .. $MOST_STEPS)
{
	last if create_armed($step);
	$killed++;
	wait_for_server($node, 'one');
	my ($last_step) = reverse $fault->steps;
	push @found, map { "killed before step $step, $last_step->{call} $last_step->{path}: $_" } wrongs();
	next if !$last_step->{length} || $last_step->{path} =~ /\/base\//;
	next if create_armed($step, 'tear');
	$torn++;
	wait_for_server($node, 'one');
	push @found, map { "killed in step $step, $last_step->{call} $last_step->{path}: $_" } wrongs();
}
cmp_ok($killed, '>=', @made, "killed before each of $killed steps, and within each of $torn that write");
cmp_ok($torn,   '>=', 2,     'the key file and WAL among them');
is_deeply(\@found, [], 'nothing is there by halves, and the next call goes on');

# Each step of the files, failing: the call that needed them fails, and the next one goes on.
my ($failed, $ignored) = (0, 0);
@found = ();
for my $step (@of_files)
{
	my $lived = create_armed($step + 1, EIO);
	push @found, "$made[$step]: the session does not live" if !$lived;
	if   ($said =~ /ERROR:  could not/) { $failed++; }
	else                                { $ignored++; }

	# What could not be deleted is there.
	push @found, map { "$made[$step]: $_" } grep { !/left over/ || $made[$step] !~ /^unlink/ } wrongs();
}
is("$failed $ignored", '7 3',
	'of the ' . @of_files . ' steps of the files, 7 fail the call when they fail, and 3 that tidy up do not');
is_deeply(\@found, [], 'nothing is there by halves then either');

# A key file whose folder was not synced when the server was killed is made to last before anything depends on it.
my ($unsynced) = grep { $made[$_] eq 'fsync F' } @of_files;
ok(!create_armed($unsynced + 1), 'the server is killed before the folder of the new key file is synced');
wait_for_server($node, 'one');
run_armed();
my $order = join ' ', map { /pg_wal/ ? 'WAL' : $_ } grep { /^fsync F|^fdatasync D\/pg_wal/ } steps_made();
is($order, 'WAL fsync F/keyrot.key fsync F WAL', 'whoever depends on that file syncs both before the commit');

done_testing();

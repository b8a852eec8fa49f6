# What the hostile tests share: a private server, sessions of psql, and a reader of the server's log.
#
# The server is made in a temporary folder, for this run alone, and ended with it.  PG_CONFIG names the
# PostgreSQL to use; keyrot has to be installed in it, unless a copy is asked for (private_copy).

package Hostile;

use strict;
use warnings FATAL => 'all';

use Cwd            qw(abs_path);
use Exporter       qw(import);
use File::Basename qw(basename dirname);
use File::Temp     qw(tempdir);
use POSIX          qw(:sys_wait_h setpgid);
use Time::HiRes    qw(usleep);

our @EXPORT = qw(
  $SECRET
  address
  bindir
  build_into
  crashes
  folder
  is_ours
  literal
  log_records
  our_files
  plain_conf
  populate
  private_copy
  query
  refuse
  run_isolation
  run_regress
  run_sessions
  server_log
  slurp
  spew
  start_server
  stop_server
  still_the_same
);

# What every secret begins with that a log must not show.
our $SECRET = 'KRhostileSECRET';

our $SOURCE = dirname(dirname(dirname(abs_path(__FILE__))));

my $START_LIMIT = 300;          # seconds, for a server under valgrind
my $RUN_LIMIT   = 900;          # seconds, for all that is done with a server, unless told otherwise
my ($folder, $pid, $bindir, $started);

# Says why this cannot run here, and ends.
sub refuse
{
	my ($why) = @_;
	print STDERR basename($0), ": $why\n";
	exit 2;
}

sub slurp
{
	my ($file) = @_;
	open my $handle, '<:raw', $file or return '';
	local $/ = undef;
	return <$handle> // '';
}

sub spew
{
	my ($file, $text) = @_;
	open my $handle, '>:raw', $file or refuse("cannot write $file: $!");
	print $handle $text;
	close $handle or refuse("cannot write $file: $!");
	return;
}

# The run's own folder; short, since a socket's path has to fit into it.
sub folder
{
	$folder //= do
	{
		refuse('root may not start a server; run it as another user, such as postgres') if $> == 0;
		tempdir('hostile-XXXXXX', DIR => $ENV{TMPDIR} // '/tmp', CLEANUP => 1);
	};
	return $folder;
}

sub bindir
{
	$bindir //= do
	{
		my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
		my $found     = `$pg_config --bindir` or refuse("$pg_config does not run; name one in PG_CONFIG");
		chomp $found;
		delete @ENV{ grep { /^PG/ } keys %ENV };
		$found;
	};
	return $bindir;
}

sub log_file { return folder() . '/server.log'; }

sub server_log { return slurp(log_file()); }

sub address { return 'host=' . folder() . ' port=5432'; }

sub shell
{
	my ($what, $command) = @_;
	my $output = `( $command ) 2>&1`;
	return $output if $? == 0;
	print STDERR $output =~ s/^/# /mgr;
	refuse("$what failed");
	return;
}

# Copies PostgreSQL, which finds its files from where its programs lie, into the run's folder, so that
# what is built there touches nobody else's; from then on bindir() is the copy's.
sub private_copy
{
	my $pg_config = bindir() . '/pg_config';
	my $prefix    = folder() . '/pg';
	for my $what (qw(pkglibdir sharedir pkgincludedir bindir))
	{
		chomp(my $place = `$pg_config --$what`);
		# Its programs and libraries share a folder in Debian, but need not.
		shell("copying $place", "mkdir -p '$prefix$place' && cp -RL '$place/.' '$prefix$place'");
	}
	$bindir = "$prefix$bindir";
	return;
}

# Builds keyrot with these flags and installs it into the private copy.
sub build_into
{
	my ($flags, $link) = (@_, q{});
	my $tree = folder() . '/build';
	shell('copying the sources',
		"mkdir '$tree' && cd '$SOURCE' && cp -R Makefile keyrot.control sql src test expected '$tree'");
	shell('the build',
		"cd '$tree' && find . -name '*.o' -delete && rm -f keyrot.so && "
		  . "make -s -j2 PG_CONFIG='$bindir/pg_config' COPT='$flags' SHLIB_LINK='-lcrypto $link' all && "
		  . "make -s PG_CONFIG='$bindir/pg_config' COPT='$flags' SHLIB_LINK='-lcrypto $link' install");
	return $tree;
}

# Starts a server: start_server(conf => LINES, wrapper => [COMMAND...], environment => {...}, limit => SECONDS).
sub start_server
{
	my (%options) = @_;
	alarm($options{limit} // $RUN_LIMIT);
	my $data = folder() . '/data';
	shell('initdb', bindir() . "/initdb -D '$data' -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync");
	spew("$data/postgresql.auto.conf", <<"END" . ($options{conf} // ''));
listen_addresses = ''
unix_socket_directories = '$folder'
port = 5432
fsync = off
autovacuum_naptime = 5s
log_line_prefix = '%m [%p] '
log_error_verbosity = verbose
log_min_messages = warning
shared_preload_libraries = 'keyrot'
keyrot.database = 'hostile'
keyrot.operator_role = 'regress_hostile_operator'
restart_after_crash = on
END
	$pid = fork() // refuse("cannot fork: $!");
	if ($pid == 0)
	{
		setpgid(0, 0);
		$ENV{$_} = $options{environment}{$_} for keys %{ $options{environment} // {} };
		open STDIN,  '<',  '/dev/null';
		open STDOUT, '>>', log_file();
		open STDERR, '>&', \*STDOUT;
		exec @{ $options{wrapper} // [] }, "$bindir/postgres", '-D', $data or POSIX::_exit(127);
	}
	for (1 .. 20 * $START_LIMIT)
	{
		refuse("the server did not start:\n" . server_log()) if waitpid($pid, WNOHANG) == $pid;
		last if system("$bindir/pg_isready -q -h '$folder' -p 5432") == 0;
		usleep(50_000);
	}
	$started = query('postgres', 'SELECT pg_postmaster_start_time()');
	refuse('the server did not answer in time') if $started eq '';
	return;
}

# Whether it is the server that was started, and never had to recover.
sub still_the_same { return query('postgres', 'SELECT pg_postmaster_start_time()') eq $started && !crashes(); }

sub stop_server
{
	return unless defined $pid;
	my $status = $?;
	kill INT => $pid;
	for (1 .. 20 * $START_LIMIT)
	{
		last if waitpid($pid, WNOHANG) != 0;
		usleep(50_000);
		kill KILL => -$pid if $_ == 20 * $START_LIMIT;
	}
	undef $pid;
	$? = $status;
	return;
}

END { stop_server(); }
$SIG{$_} = sub { print STDERR "ended by SIG$_[0]\n"; exit 1 }
  for qw(ALRM HUP INT TERM);

# The answer to statements, without decoration; '' where they failed.
sub query
{
	my ($database, $sql) = @_;
	spew("$folder/query.sql", $sql);
	my $answer = `$bindir/psql -X -q -A -t -v ON_ERROR_STOP=1 -h '$folder' -p 5432 -U postgres -d $database -f '$folder/query.sql' 2>'$folder/query.err'`;
	print STDERR slurp("$folder/query.err") =~ s/^/# /mgr if $?;
	chomp $answer;
	return $? ? '' : $answer;
}

# A string literal, whatever the text.
sub literal
{
	my ($text) = @_;
	return 'NULL' unless defined $text;
	my $quoted = $text =~ s/'/''/gr;
	return $text =~ /\\/ ? "E'" . $quoted =~ s/\\/\\\\/gr . "'" : "'$quoted'";
}

# Runs sessions beside each other; each is {name, database, user, script}.  Returns for each what
# psql printed and what it said, with all that an error has to tell.
sub run_sessions
{
	my (@sessions) = @_;
	my @children;
	for my $session (@sessions)
	{
		my $base = "$folder/session-$session->{name}";
		spew("$base.sql", "\\set VERBOSITY verbose\n\\set SHOW_CONTEXT always\n$session->{script}");
		my $child = fork() // refuse("cannot fork: $!");
		if ($child == 0)
		{
			open STDOUT, '>:raw', "$base.out";
			open STDERR, '>:raw', "$base.err";
			$ENV{PGOPTIONS} = '-c statement_timeout=20s';
			exec "$bindir/psql", qw(-X -q -A -t), '-h', $folder, '-p', 5432, '-U', $session->{user}, '-d', $session->{database},
			  '-f', "$base.sql"
			  or POSIX::_exit(127);
		}
		push @children, $child;
	}
	waitpid $_, 0 for @children;
	return map { { output => slurp("$folder/session-$_->{name}.out"), said => slurp("$folder/session-$_->{name}.err") } } @sessions;
}

# The settings that the regression tests expect: none of keyrot's.
sub plain_conf { return "shared_preload_libraries = ''\nkeyrot.database = ''\nkeyrot.operator_role = ''\n"; }

# Runs regression tests in a tree, the ones named or all; returns what pg_regress said, and the tests.
sub run_regress
{
	my ($tree, @wanted) = @_;
	my @all     = map { m{([^/]+)\.sql$} } sort glob("$tree/test/sql/*.sql");
	my @tests   = ('setup', grep { $_ ne 'setup' } @wanted ? @wanted : @all);
	return (scalar run_suite($tree, 'regress/pg_regress', 'contrib_regression', @tests), @tests);
}

# Runs the isolation tests in a tree; returns as run_regress().
sub run_isolation
{
	my ($tree) = @_;
	my @tests = map { m{([^/]+)\.spec$} } sort glob("$tree/test/specs/iso_*.spec");
	return (scalar run_suite($tree, 'isolation/pg_isolation_regress', 'isolation_regression', @tests), @tests);
}

sub run_suite
{
	my ($tree, $program, $database, @tests) = @_;
	my $path = dirname(dirname(pgxs())) . "/test/$program";
	return `cd '$tree' && '$path' --inputdir=test --outputdir=. --bindir='$bindir' --host='$folder' --port=5432 --user=postgres --no-locale --encoding=UTF8 --dbname=$database @tests 2>&1`;
}

sub pgxs
{
	chomp(my $file = `$bindir/pg_config --pgxs`);
	return $file;
}

# Makes a database with the extension and all kinds of rows in it.
sub populate
{
	my ($database, $encoding) = @_;
	my $locale = $encoding eq 'UTF8' ? '' : " LC_COLLATE 'C' LC_CTYPE 'C'";
	query('postgres', "CREATE DATABASE $database ENCODING '$encoding' TEMPLATE template0$locale");
	my $made = query($database, slurp("$SOURCE/test/hostile/populate.sql"));
	refuse("cannot populate $database") if $made eq '';
	return;
}

# The lines of the log that tell of a crash.
sub crashes
{
	return grep { /terminated by signal|exited with exit code [^01]|PANIC: |TRAP: |not properly shut down|crash of another server process|stack smashing|free\(\):|malloc\(\):|corrupted/ }
	  split /\n/, server_log();
}

# The records of the log, each a hash: level, sqlstate, message, and context, location, statement as far as
# they were given.
sub log_records
{
	my (%open, @records);
	my @lines = split /\n/, server_log();
	for my $line (@lines)
	{
		if ($line !~ /^\S+ \S+ \S+ \[(\d+)\] ([A-Z]+):  (.*)/)
		{
			${ $open{last} } .= "\n$line" if $open{last};
			next;
		}
		my ($process, $kind, $text) = ($1, $2, $3);
		if ($kind =~ /^(?:DEBUG\d|INFO|NOTICE|WARNING|LOG|ERROR|FATAL|PANIC)$/)
		{
			my ($sqlstate, $message) = $text =~ /^(\w{5}): (.*)/ ? ($1, $2) : ('', $text);
			my $record = { level => $kind, sqlstate => $sqlstate, message => $message, context => '', location => '', statement => '' };
			push @records, $record;
			$open{$process} = $record;
			$open{last}     = \$record->{message};
			next;
		}
		next unless $open{$process};
		$open{$process}{ lc $kind } = $text;
		$open{last} = \$open{$process}{ lc $kind };
	}
	return @records;
}

sub our_files { return map { basename($_) } glob("$SOURCE/src/*.c $SOURCE/src/*/*.c"); }

my %OUR_FILES = map { $_ => 1 } our_files();

# Whether an internal error came up in keyrot's own code, or below one of its requests.
sub is_ours
{
	my ($record) = @_;
	my ($file) = $record->{location} =~ /, (\w+\.c):\d+/;
	return ($file && $OUR_FILES{$file}) || $record->{context} =~ /keyrot request/;
}

1;

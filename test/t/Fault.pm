# Failing files: builds the library in fault.c, lets it stand between a server and its files, and gives it
# its orders.  What it can do, and what it cannot see, is told at the head of fault.c.
#
#     use Fault;
#     my $fault = Fault->build;             # before the server is started: all that is started later has it
#     $fault->watch($node->data_dir);       # whose files, by the beginnings of their paths
#
#     $fault->arm($pid);                    # count and log what this process does with them ...
#     my @steps = $fault->steps;            # ... and read it: {number, call, length, path, new_path} each
#     $fault->arm($pid, 7);                 # kill -9 before its seventh call from now
#     $fault->arm($pid, 7, 'tear');         # the same, with the first half of its bytes written
#     $fault->arm($pid, 7, ENOSPC);         # the seventh call is not made and gets this error
#     $fault->disarm;
#
#     $fault->set_room(100_000);            # the watched files may grow by so many bytes, all in all
#     $fault->set_room(undef);              # without limit
#     $fault->room; $fault->refused;        # what is left; how many calls found too little since set_room
#
# A server process that was killed takes the whole server through crash recovery: set restart_after_crash,
# which PostgreSQL's test servers have off.  The server's own log should not be watched.

package Fault;

use strict;
use warnings FATAL => 'all';

use Carp;
use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use FindBin;
use PostgreSQL::Test::Utils ();

# The numbers of the control file, by their offsets, and the length of the prefixes behind them.
my %OFFSET   = (pid => 0, step => 8, how => 16, steps => 24, room => 32, refused => 40, prefixes => 48);
my $PREFIXES = 4000;
my %HOW      = (kill => -1, tear => -2);

sub build
{
	my ($class)  = @_;
	my $folder   = PostgreSQL::Test::Utils::tempdir();
	my $library  = "$folder/fault.so";
	my $self     = bless { control => "$folder/control" }, $class;
	my $compiler = $ENV{CC} // `pg_config --cc`;
	chomp $compiler;
	system(
		"$compiler -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden"
		  . " -o '$library' '$FindBin::RealBin/fault.c' -ldl") == 0
	  or croak "cannot build $library with $compiler";
	open my $file, '>', $self->{control} or croak "cannot write $self->{control}: $!";
	print $file "\0" x ($OFFSET{prefixes} + $PREFIXES);
	close $file or croak "cannot write $self->{control}: $!";
	$self->set_room(undef);

	# The library comes first, before what may stand there already.
	$ENV{LD_PRELOAD}   = join ' ', $library, $ENV{LD_PRELOAD} // ();
	$ENV{KEYROT_FAULT} = $self->{control};
	return $self;
}

sub write_bytes
{
	my ($self, $offset, $bytes) = @_;
	open my $file, '+<:raw', $self->{control} or croak "cannot open $self->{control}: $!";
	seek $file, $offset, 0 and print $file $bytes;
	close $file or croak "cannot write $self->{control}: $!";
	return;
}

sub set_number { return $_[0]->write_bytes($OFFSET{ $_[1] }, pack 'q', $_[2]); }

sub number
{
	my ($self, $name) = @_;
	open my $file, '<:raw', $self->{control} or croak "cannot open $self->{control}: $!";
	seek $file, $OFFSET{$name}, 0 and read($file, my $bytes, 8) == 8
	  or croak "cannot read $self->{control}: $!";
	close $file;
	return unpack 'q', $bytes;
}

# A folder covers what is in it, a file's path the files whose paths begin with it.  Either need not exist,
# but the folder it is in must.
sub watch
{
	my ($self, @places) = @_;
	my $prefixes = '';
	for my $place (@places)
	{
		$prefixes .= -d $place ? abs_path($place) . "\n" : abs_path(dirname($place)) . '/' . basename($place) . "\n";
	}
	croak 'too much to watch' if length $prefixes >= $PREFIXES;
	$self->write_bytes($OFFSET{prefixes}, $prefixes . "\0" x ($PREFIXES - length $prefixes));
	return;
}

sub arm
{
	my ($self, $pid, $step, $how) = @_;
	$self->disarm;
	unlink "$self->{control}.log";
	$self->set_number(steps => 0);
	$self->set_number(step  => $step // 0);
	$self->set_number(how   => $HOW{ $how // 'kill' } // $how + 0);
	$self->set_number(pid   => $pid);
	return;
}

sub disarm { return $_[0]->set_number(pid => 0); }

sub steps
{
	my ($self) = @_;
	my $log = "$self->{control}.log";
	return () unless -e $log;
	my @steps;
	for my $line (split /\n/, PostgreSQL::Test::Utils::slurp_file($log))
	{
		my %step;
		@step{qw(number call length path new_path)} = split /\t/, $line, -1;
		push @steps, \%step;
	}
	return @steps;
}

sub set_room
{
	my ($self, $bytes) = @_;
	$self->set_number(refused => 0);
	$self->set_number(room    => $bytes // -1);
	return;
}

sub room { return $_[0]->number('room'); }

sub refused { return $_[0]->number('refused'); }

1;

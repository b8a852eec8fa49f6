# A session that speaks PostgreSQL's protocol itself: binary parameters, answers that are awaited later,
# and nothing between the test and the backend that would keep or change what is sent.
#
#     my $session = Protocol->connect($node, 'database');
#     my $answer  = $session->bound('SELECT f($1)', [ 'a value' ]);
#
# An answer is a hash: rows (arrays of values, undef for NULL), sqlstate ('' where it succeeded, 'lost' where
# the session did not live to tell), message, and error, all fields of the error by their letter.

package Protocol;

use strict;
use warnings FATAL => 'all';

use Carp;
use IO::Select;
use IO::Socket::UNIX;

my $VERSION_3 = 196608;

sub connect
{
	my ($class, $node, $database, $role) = @_;
	my $path   = $node->host . '/.s.PGSQL.' . $node->port;
	my $socket = IO::Socket::UNIX->new(Peer => $path) or croak "cannot connect to $path: $!";
	my $self   = bless { socket => $socket, pid => 0, unread => '' }, $class;
	my $body   = pack 'N(Z*)*x', $VERSION_3, user => $role // (getpwuid $<)[0], database => $database;
	$self->put(pack('N', 4 + length $body) . $body);
	my $answer = $self->answer;
	croak "cannot connect: $answer->{message}" if $answer->{sqlstate};
	return $self;
}

# The process that serves this session.
sub pid { return $_[0]{pid}; }

sub put
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	while (length $bytes)
	{
		my $written = syswrite $self->{socket}, $bytes;
		return unless defined $written;
		substr $bytes, 0, $written, '';
	}
	return;
}

sub message { return $_[0] . pack('N', 4 + length $_[1]) . $_[1]; }

# Reads one message: its letter and body; nothing where the session has ended.
sub get
{
	my ($self) = @_;
	my $wanted = 5;
	while (1)
	{
		$wanted = 1 + unpack 'xN', $self->{unread} if length $self->{unread} >= 5;
		last if length $self->{unread} >= $wanted;
		IO::Select->new($self->{socket})->can_read($ENV{PG_TEST_TIMEOUT_DEFAULT} // 60) or croak 'no answer in time';
		sysread $self->{socket}, $self->{unread}, 65536, length $self->{unread} or return;
	}
	my $message = substr $self->{unread}, 0, $wanted, '';
	return (substr($message, 0, 1), substr $message, 5);
}

sub read_row
{
	my ($body) = @_;
	my ($count, $at, @row) = (unpack('n', $body), 2);
	for (1 .. $count)
	{
		my $length = unpack 'l>', substr $body, $at, 4;
		push @row, $length < 0 ? undef : substr $body, $at + 4, $length;
		$at += 4 + ($length < 0 ? 0 : $length);
	}
	return \@row;
}

# Awaits the answer to what was sent.
sub answer
{
	my ($self) = @_;
	my %answer = (rows => [], sqlstate => '', message => '', error => {});
	while (1)
	{
		my ($letter, $body) = $self->get;
		if (!defined $letter)
		{
			$answer{sqlstate} = 'lost';
			return \%answer;
		}
		return \%answer if $letter eq 'Z';
		$self->{pid} = unpack 'N', $body if $letter eq 'K';
		push @{ $answer{rows} }, read_row($body) if $letter eq 'D';
		push @{ $answer{rows} }, [ unpack('l>', $body) < 0 ? undef : substr $body, 4 ] if $letter eq 'V';
		next unless $letter eq 'E';
		my %error = map { substr($_, 0, 1) => substr $_, 1 } grep { length } split /\0/, $body;
		@answer{qw(sqlstate message error)} = (@error{qw(C M)}, \%error);
	}
}

# Awaits the answer as it comes, up to and with the message that ends it: [letter, body] each.  What a COPY
# reads is sent when it is asked for.  A session that has ended ends the list, too.
sub messages
{
	my ($self, $data) = @_;
	my @messages;
	while (1)
	{
		my ($letter, $body) = $self->get;
		return @messages unless defined $letter;
		push @messages, [ $letter, $body ];
		$self->put(message('d', $data // '') . message('c', '')) if $letter eq 'G';
		return @messages if $letter eq 'Z';
	}
}

# Sends statements as one message, and does not wait.
sub send_query
{
	my ($self, $text) = @_;
	$self->put(message('Q', "$text\0"));
	return;
}

sub query
{
	my ($self, $text) = @_;
	$self->send_query($text);
	return $self->answer;
}

# Sends a statement with its parameters, each sent as text or, as a reference, as bytes, and does not wait.
sub send_bound
{
	my ($self, $text, $parameters, $binary_result) = @_;
	my $values = join '',
	  map { my $bytes = ref $_ ? $$_ : $_; defined $bytes ? pack('N/a*', $bytes) : pack 'l>', -1 } @$parameters;
	$self->put(message('P', pack 'xZ*n', $text, 0)
		  . message('B', pack('xx') . pack('n/(n)', map { ref $_ ? 1 : 0 } @$parameters)
			  . pack('n', scalar @$parameters) . $values . pack('nn', 1, $binary_result ? 1 : 0))
		  . message('E', pack 'xN', 0)
		  . message('S', ''));
	return;
}

sub bound
{
	my ($self, @arguments) = @_;
	$self->send_bound(@arguments);
	return $self->answer;
}

# Calls a function by its number, with arguments sent as text: PQfn.
sub call
{
	my ($self, $function, @arguments) = @_;
	my $values = join '', map { defined $_ ? pack('N/a*', $_) : pack 'l>', -1 } @arguments;
	$self->put(message('F', pack('Nnnn', $function, 1, 0, scalar @arguments) . $values . pack 'n', 0));
	return $self->answer;
}

sub close
{
	my ($self) = @_;
	$self->put(message('X', ''));
	1 while defined(($self->get)[0]);
	close $self->{socket};
	return;
}

1;

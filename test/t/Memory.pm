# The memory of a backend, as whoever has a core dump of it would see it, and secrets looked for in it.

package Memory;

use strict;
use warnings FATAL => 'all';
no warnings 'portable';    # addresses have more than 32 bits

use Carp;
use Digest::SHA qw(sha1 sha256);
use Exporter    qw(import);

our @EXPORT = qw(adopt_orphans find_secret forms_of may_look_into_children take_memory);

my $PR_SET_CHILD_SUBREAPER = 36;
my $WINDOW                 = 12;    # bytes of a secret that are recognized
my $STEP                   = 4;     # so that any 15 bytes are

# Makes servers that are started from now on descendants of this process: where Yama restricts who may look
# into a process (ptrace_scope 1, the default of several distributions), ancestors may.
sub adopt_orphans
{
	return eval {
		no warnings;
		require 'sys/syscall.ph';
		syscall(&SYS_prctl, $PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
	};
}

# Whether the kernel lets a process read the memory of its descendants.
sub may_look_into_children
{
	my $child = fork // croak "cannot fork: $!";
	if (!$child)
	{
		sleep 60;
		exit 0;
	}
	my $may = open my $memory, '<:raw', "/proc/$child/mem";
	kill 'KILL', $child;
	waitpid $child, 0;
	return $may;
}

# What a process has mapped: from, to, name, whether it can be read, is written by it, is shared, is locked
# and is left out of core dumps.
sub regions_of
{
	my ($pid) = @_;
	open my $smaps, '<', "/proc/$pid/smaps" or croak "cannot read /proc/$pid/smaps: $!";
	my @regions;
	while (my $line = <$smaps>)
	{
		if ($line =~ /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+)\s*(.*)$/)
		{
			my ($from, $to, $rights, $inode, $name) = (hex $1, hex $2, $3, $4, $5);
			push @regions,
			  {
				from   => $from,
				to     => $to,
				rights => $rights,
				file   => $inode != 0,
				name   => $name,
				hidden => 0,
				locked => 0
			  };
		}
		elsif ($line =~ /^VmFlags:(.*)/)
		{
			my $flags = $1;
			$regions[-1]{hidden} = $flags =~ / dd\b/ ? 1 : 0;
			$regions[-1]{locked} = $flags =~ / lo\b/ ? 1 : 0;
		}
	}
	close $smaps;
	return @regions;
}

# Where a region belongs: "shared", "stack", "static" (variables of a program or library) or "heap".
sub kind_of
{
	my ($region) = @_;
	return 'shared' if $region->{rights} =~ /s/;
	return 'stack'  if $region->{name} eq '[stack]';
	return 'static' if $region->{file} || $region->{after_file};
	return 'heap';
}

# Copies all that the process can write, zero pages left out: hashes with kind, from, hidden, locked, bytes.
sub take_memory
{
	my ($pid) = @_;
	open my $memory, '<:raw', "/proc/$pid/mem" or croak "cannot read /proc/$pid/mem: $!";
	my @taken;
	my $before;
	for my $region (regions_of($pid))
	{
		# The zeroed rest of a library's variables follows those that its file holds.
		$region->{after_file} = !$region->{file} && $region->{name} eq '' && $before && $before->{to} == $region->{from}
		  && ($before->{file} || $before->{after_file}) ? 1 : 0;
		$before = $region;
		next unless $region->{rights} =~ /^rw/;
		push @taken, pieces_of($memory, $region);
	}
	close $memory;
	croak "process $pid has no memory that can be read" unless @taken;
	return \@taken;
}

# The stretches of a region that are not all zero.
sub pieces_of
{
	my ($memory, $region) = @_;
	my $chunk = 65536;
	my @pieces;
	for (my $at = $region->{from}; $at < $region->{to}; $at += $chunk)
	{
		my $length = $at + $chunk <= $region->{to} ? $chunk : $region->{to} - $at;
		sysseek $memory, $at, 0 or next;
		my $bytes;
		my $got = sysread $memory, $bytes, $length;
		next unless $got && $bytes =~ /[^\0]/;
		if (@pieces && $pieces[-1]{to} == $at)
		{
			$pieces[-1]{bytes} .= $bytes;
			$pieces[-1]{to} = $at + $got;
			next;
		}
		push @pieces,
		  { kind => kind_of($region), from => $at, to => $at + $got, bytes => $bytes, map { $_ => $region->{$_} } qw(hidden locked) };
	}
	return @pieces;
}

sub words_swapped { return pack 'V*', unpack 'N*', $_[0]; }

# The forms in which a key may lie in memory: itself, in hexadecimal, as the padded blocks of HMAC, and as
# the 32-bit words that a hash function makes of these.  By name.
sub forms_of
{
	my ($name, $key) = @_;
	my %forms = ($name => $key, "$name, hexadecimal" => unpack('H*', $key), "$name, HEXADECIMAL" => uc unpack 'H*', $key);
	my %block = length $key <= 64 ? ('' => $key) : (' SHA-1' => sha1($key), ' SHA-256' => sha256($key));
	for my $hash (keys %block)
	{
		my $block = $block{$hash};
		$forms{"$name,$hash"} = $block if $hash;
		for my $pad (0x36, 0x5c)
		{
			my $padded = $block ^ (chr($pad) x length $block);
			my $label  = sprintf '%s,%s padded with %02x', $name, $hash, $pad;
			$forms{$label} = $padded;
			$forms{"$label, as words"} = words_swapped(substr $padded, 0, length($padded) & ~3);
		}
	}
	return %forms;
}

# Looks for secrets, given as forms by name, and for pieces of them.  Returns what was found as sentences,
# each place once.
sub find_secret
{
	my ($memory, %forms) = @_;
	my %form_of;
	for my $name (sort keys %forms)
	{
		my $last = length($forms{$name}) - $WINDOW;
		$form_of{ substr $forms{$name}, $_, $WINDOW } = $name for grep { $_ <= $last } map { $_ * $STEP } 0 .. $last / $STEP + 1;
	}
	my $any = join '|', map { quotemeta } sort keys %form_of;
	my @found;
	for my $piece (@$memory)
	{
		my ($end, $form) = (-1, '');
		while ($piece->{bytes} =~ /($any)/gs)
		{
			my ($at, $what) = ($-[1], $form_of{$1});
			push @found, { form => $what, piece => $piece, at => $at } unless $what eq $form && $at <= $end + 8 * $WINDOW;
			($end, $form) = ($at + $WINDOW, $what);
		}
	}
	return @found;
}

# A finding as a sentence.
sub describe
{
	my ($found) = @_;
	my $piece   = $found->{piece};
	my $start   = $found->{at} < 32 ? 0 : $found->{at} - 32;
	return sprintf '%s at %x, %s%s%s: %s', $found->{form}, $piece->{from} + $found->{at}, $piece->{kind},
	  $piece->{locked} ? ', locked' : '', $piece->{hidden} ? ', not dumped' : '',
	  substr($piece->{bytes}, $start, 128) =~ s/[^ -~]/./gr;
}

1;

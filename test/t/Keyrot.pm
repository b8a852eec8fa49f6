# What keyrot's TAP tests share: servers with the extension, calls with their errors taken apart, the
# master key file, and an independent reader of sealed values.
#
# A test program loads it before any of PostgreSQL's modules:
#
#     use FindBin;
#     use lib $FindBin::RealBin;
#     use Keyrot;

package Keyrot;

use strict;
use warnings FATAL => 'all';

# How long anything is waited for, in seconds; PostgreSQL's modules read it when they are loaded.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} ||= 60; }

use Carp;
use Digest::SHA  qw(hmac_sha256 sha256_hex);
use Exporter     qw(import);
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(
  $REQUEST_ID
  $STATUS
  add_databases
  attempts
  can_open_sealed
  fingerprint
  forget_master_key
  key_file
  key_files_of
  new_server
  open_sealed
  random_hex
  server_process
  sign_text
  start_again
  wait_for_server
  wait_until
  write_key
);

# A RequestId, as text: a UUID of version 7.
our $REQUEST_ID = qr/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/;

# status() as a row of columns, for FROM; problems is an array, each on one line.
our $STATUS = do
{
	my %type_of = (
		(map { $_ => 'text' } qw(version openssl master_key)),
		(map { $_ => 'bool' } qw(preloaded locked_memory)),
		(map { $_ => 'bigint' } qw(data_key data_keys limit_overflows requests_waiting requests_lost refusals_omitted)));
	'(SELECT '
	  . join('', map { "max(value) FILTER (WHERE item = '$_')::$type_of{$_} AS $_, " } sort keys %type_of)
	  . q{array_remove(array_agg(CASE item WHEN 'master_key_in_use' THEN value END), NULL) AS master_keys_in_use, }
	  . q{array_remove(array_agg(translate(problem, chr(10), ' ')), NULL) AS problems FROM keyrot.status()) AS status};
};

our $KIND_APP      = 1;
our $KIND_ZONE     = 2;
our $KIND_DATA_KEY = 3;


# Servers

# A started server without any database of ours: new_server(NAME, conf => LINES, init => {...}).
sub new_server
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--no-locale', '--encoding=UTF8' ], %{ $options{init} // {} });
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	$node->start;
	return $node;
}

# Databases with the extension.  The server gets its master key with the first, unless a command prints it.
sub add_databases
{
	my ($node, @names) = @_;
	for my $name (@names)
	{
		$node->safe_psql('postgres', "CREATE DATABASE $name");
		$node->safe_psql(
			$name, q{
			CREATE EXTENSION keyrot;
			SET client_min_messages = error;
			SELECT keyrot.create_master_key() FROM keyrot.status()
			 WHERE item = 'master_key' AND value IS NULL AND current_setting('keyrot.master_key_command') = ''});
	}
	return;
}

# Starts a server that was killed.  Its children may outlive it by a moment and hold its memory.
sub start_again
{
	my ($node) = @_;
	my $started = wait_until(
		sub {
			return 1 if $node->start(fail_ok => 1);

			# The attempt may have left a server that is still on its way.
			$node->stop('fast', fail_ok => 1);
			return 0;
		});
	BAIL_OUT('the server did not come up again') unless $started;
	return;
}

# The process of this title among the server's children, or ''; nothing else tells the launcher's.
sub server_process
{
	my ($node, $title) = @_;
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my ($pid) = map { /^\s*(\d+) postgres: (?:\S+: )?\Q$title\E/ ? $1 : () } split /\n/,
	  `ps -o pid=,args= --ppid $postmaster`;
	return $pid // '';
}

# Waits until a server that restarts by itself lets sessions in.
sub wait_for_server
{
	my ($node, $database) = @_;
	wait_until(sub { ($node->psql($database, 'SELECT 1'))[0] == 0 }) or BAIL_OUT('the server does not come back');
	return;
}

# Waits until the code returns something true, and returns that; bounded as all waiting is.
sub wait_until
{
	my ($code) = @_;
	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $result = eval { $code->() };

		# A client that is refused may be gone before it has been told what to ask.
		croak $@ if $@ && $@ !~ /Broken pipe/;
		return $result if $result;
		usleep(50_000);
	}
	return 0;
}


# Calls

# Runs statements in one session, each for itself, and returns a hash for each:
#   output    what it printed
#   sqlstate  '' where it succeeded, 'lost' where the session did not live to tell
#   message, detail, hint, context    of its error
#   text      all that was said of it on stderr
# VERBOSITY is psql's, so what is said is what any client is told.
sub attempts
{
	my ($node, $database, @statements) = @_;
	my $script = "\\set VERBOSITY verbose\n\\set SHOW_CONTEXT always\n";
	for my $number (0 .. $#statements)
	{
		$script .= "\\echo =mark $number=\n\\warn =mark $number=\n$statements[$number]\n;\n";
	}
	my ($output, $errors, $timed_out) = ('', '', 0);
	$node->psql(
		$database, $script,
		on_error_stop => 0,
		on_error_die  => 0,
		stdout        => \$output,
		stderr        => \$errors,
		timeout       => $PostgreSQL::Test::Utils::timeout_default,
		timed_out     => \$timed_out);
	croak "no answer in time from: @statements" if $timed_out;
	my @outputs = split_at_marks($output);
	my @errors  = split_at_marks($errors);
	return map { taken_apart($outputs[$_], $errors[$_], $statements[$_]) } 0 .. $#statements;
}

sub split_at_marks
{
	my ($text) = @_;
	my @parts  = split /^=mark \d+=$/m, $text, -1;
	shift @parts;
	return map { s/\A\n|\n\z//gr } @parts;
}

sub taken_apart
{
	my ($output, $errors, $statement) = @_;
	my %result = (
		statement => $statement,
		output    => $output // '',
		text      => $errors // '',
		sqlstate  => defined $errors ? '' : 'lost');
	my $field = qr/(?=\n[A-Z][A-Z ]+:  |\n?\z)/;
	if ($result{text} =~ /(?:ERROR|FATAL|PANIC):  (\w{5}): (.*?)$field/s)
	{
		@result{qw(sqlstate message)} = ($1, $2);
	}
	$result{sqlstate} = 'lost'
	  if $result{text} =~ /server closed the connection|connection to server was lost/;
	for my $name (qw(detail hint context))
	{
		$result{$name} = $result{text} =~ /^\U$name\E:  (.*?)$field/ms ? $1 : '';
	}
	$result{message} //= '';
	return \%result;
}

# A signature of a text that a client would compute for itself, in base64.
sub sign_text
{
	my ($secret, $text) = @_;
	return encode_base64(hmac_sha256($text, $secret), '');
}


# The master key file

sub key_file { return $_[0]->data_dir . '/keyrot_master.key'; }

# What lies in the data directory, or another folder, under a name of keyrot's, temporary files included.
sub key_files_of
{
	my ($place) = @_;
	my $folder = ref $place ? $place->data_dir : $place;
	return grep { /key/ } sort(PostgreSQL::Test::Utils::slurp_dir($folder));
}

sub random_hex
{
	my ($digits) = @_;
	open my $source, '<:raw', '/dev/urandom' or croak "cannot read random bytes: $!";
	read($source, my $bytes, ($digits + 1) / 2) or croak "cannot read random bytes: $!";
	close $source;
	return substr unpack('H*', $bytes), 0, $digits;
}

# Replaces whatever stands at the path by a file of these contents and mode, as an administrator would:
# complete before it is there.
sub write_key
{
	my ($path, $contents, $mode) = @_;
	my $temporary = "$path.new";
	unlink $temporary;
	open my $file, '>', $temporary or croak "cannot write $temporary: $!";
	print $file $contents;
	close $file                          or croak "cannot write $temporary: $!";
	chmod($mode // oct(600), $temporary) or croak "cannot chmod $temporary: $!";
	rename($temporary, $path)            or croak "cannot rename $temporary: $!";
	return;
}

# The name of a master key, as documented: the first 8 bytes of SHA-256("keyrot master key" || key).
sub fingerprint
{
	my ($hex) = @_;
	return substr sha256_hex('keyrot master key' . pack('H*', $hex)), 0, 16;
}

# Makes a server one that never had a master key.
sub forget_master_key
{
	my ($node, @databases) = @_;
	$node->safe_psql($_, 'DROP EXTENSION keyrot; CREATE EXTENSION keyrot') for @databases;
	unlink key_file($node);
	return;
}


# Sealed values, read by what is documented of them and by another implementation of AES

sub can_open_sealed
{
	return eval { require Crypt::Mode::ECB; require Crypt::AuthEnc::GCM; 1 } // 0;
}

# XAES-256-GCM: the key and nonce that AES-256-GCM is used with.
sub derive
{
	my ($key, $nonce) = @_;
	my $no_padding = 0;
	my $aes        = Crypt::Mode::ECB->new('AES', $no_padding);
	my @block      = unpack 'C16', $aes->encrypt("\0" x 16, $key);
	my $carry      = $block[0] >> 7;
	my $k1         = '';
	for my $i (0 .. 15)
	{
		my $next = $i < 15 ? $block[ $i + 1 ] >> 7 : 0;
		$k1 .= chr((($block[$i] << 1) & 0xff | $next) ^ ($i == 15 && $carry ? 0x87 : 0));
	}
	my $head   = substr $nonce, 0, 12;
	my $subkey = join '', map { $aes->encrypt("\0${_}X\0$head" ^ $k1, $key) } "\1", "\2";
	return ($subkey, substr $nonce, 12, 12);
}

# Opens a sealed value for what it should be bound to; undef where it does not open.
sub open_sealed
{
	my ($key, $kind, $identifier, $version, $sealed) = @_;
	return undef if length $sealed < 45;
	my ($header, $nonce) = (substr($sealed, 0, 5), substr($sealed, 5, 24));
	my ($text, $tag)     = (substr($sealed, 29, -16), substr($sealed, -16));
	my $bound_to = $header . pack('C n/a* N', $kind, $identifier, $version);
	my ($subkey, $short_nonce) = derive($key, $nonce);
	return Crypt::AuthEnc::GCM::gcm_decrypt_verify('AES', $subkey, $short_nonce, $bound_to, $text, $tag);
}

1;

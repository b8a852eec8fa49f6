# What a server says about statements: to the client, message by message, and in its log, entry by entry; as text
# that two servers can be compared by, without what no two runs have in common (times, process and session
# numbers, numbers of objects that were made on the way).
#
# The log is read in its JSON format, where each field stands for itself:
#
#     $node->append_conf('postgresql.conf', $Said::LOG);

package Said;

use strict;
use warnings FATAL => 'all';

use Exporter qw(import);
use JSON::PP;
use Keyrot;
use PostgreSQL::Test::Utils;
use Protocol;
use Test::More;

our @EXPORT = qw(log_entries log_text run_case said same title);

our $LOG = <<'END';
logging_collector = on
log_destination = jsonlog
log_rotation_size = 0
log_statement = all
log_min_duration_statement = 0
log_min_error_statement = debug5
log_error_verbosity = verbose
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
compute_query_id = on
autovacuum = off
END

# Fields of an entry that differ from run to run.
my @OF_ONE_RUN = qw(timestamp user dbname application_name pid session_id line_num session_start vxid txid);

my $json = JSON::PP->new->utf8->canonical;
my $ended = 0;

# Messages of the protocol as text.
sub said
{
	return join '', map { one_message(@$_) } @_;
}

sub one_message
{
	my ($letter, $body) = @_;
	$body = described($body) if $letter eq 'T';
	$body =~ s/\0/\n    /g if $letter =~ /[NE]/;
	return "$letter $body\n";
}

# A description of rows, without the numbers of objects that are somebody's own.
sub described
{
	my ($body) = @_;
	my $text = unpack 'n', $body;
	my $at = 2;
	while ($at < length $body)
	{
		my ($name, $table, $column, $type, @rest) = unpack "x$at Z* N n N n l> n", $body;
		$at += length($name) + 1 + 18;
		$text .= "\n    $name " . join ' ', map({ $_ < 16384 ? $_ : 'own' } $table, $type), $column, @rest;
	}
	return $text;
}

# Sends a case and returns what comes back as text.  A case is a statement, or messages of several; an array: a
# statement with its bind parameters; a hash: a COPY with its data; or code that is given the session.
sub run_case
{
	my ($session, $case) = @_;
	return said($case->($session)) if ref $case eq 'CODE';
	if (ref $case eq 'ARRAY')
	{
		my ($text, @values) = @$case;
		$session->send_bound($text, \@values);
		return said($session->messages);
	}
	$session->send_query(ref $case ? $case->{text} : $case);
	return said($session->messages(ref $case ? $case->{data} : undef));
}

# The beginning of a case, to name a test by.
sub title
{
	my ($case) = @_;
	my $text = ref $case eq 'ARRAY' ? "bound: $case->[0]" : ref $case eq 'HASH' ? $case->{text} : $case;
	return substr($text, 0, 70) =~ s/[^ -~]/?/gr;
}

# What was logged in sessions of a database up to now, as a hash from application_name to the text of all entries,
# without the statements that set this name.
sub log_entries
{
	my ($node, $database) = @_;
	my %entries;
	for my $line (grep { /^\{/ } split /\n/, log_text($node, $database))
	{
		my $entry = $json->decode($line);
		next if ($entry->{dbname} // '') ne $database || $entry->{message} =~ /\Astatement: SET application_name = /;
		my $name = $entry->{application_name} // '';
		$entries{$name} .= one_entry($entry);
	}
	return %entries;
}

# All that was logged up to now, as it stands in the files.
sub log_text
{
	my ($node, $database) = @_;
	my $end = 'the end of reading number ' . ++$ended;
	my $folder = $node->data_dir . '/log';
	my $text = '';
	$node->safe_psql($database, "SET application_name = '$end'");
	wait_until(
		sub {
			$text = join '', map { slurp_file("$folder/$_") } grep { /\.json\z/ } sort(slurp_dir($folder));
			return index($text, "\"$end\"") >= 0;
		}) or die 'the log does not go on';
	return $text;
}

sub one_entry
{
	my ($entry) = @_;
	delete @$entry{@OF_ONE_RUN};
	$entry->{query_id} = 'some' if $entry->{query_id};
	$entry->{message} =~ s/\bduration: [\d.]+ ms/duration: N ms/;
	$entry->{message} =~ s/\bQuery Identifier"?: -?\d+/Query Identifier: N/g;
	$entry->{message} =~ s/\b\d{5,}\b/N/g if $entry->{message} =~ /\A(?:parse tree|rewritten parse tree|plan)\b/;
	$entry->{detail} =~ s/\b\d{5,}\b/N/g  if $entry->{message} =~ /\A(?:parse tree|rewritten parse tree|plan)\b/;
	return join "\n", map({ "$_: $entry->{$_}" } sort keys %$entry), '', '';
}

# Passes where two texts are one; where not, shows the first line that differs.
sub same
{
	my ($got, $expected, $name) = @_;
	return ok(1, $name) if ($got // 'nothing') eq ($expected // 'nothing');
	my @got      = split /\n/, $got // 'nothing';
	my @expected = split /\n/, $expected // 'nothing';
	my ($first) = grep { ($got[$_] // 'nothing more') ne ($expected[$_] // 'nothing more') } 0 .. @got + @expected;
	diag(map { substr(($_ // 'nothing more'), 0, 300) . "\n" } "got:      $got[$first]", "expected: $expected[$first]")
	  if ok(0, $name) == 0;
	return 0;
}

1;

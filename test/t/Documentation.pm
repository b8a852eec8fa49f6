# The examples of the documentation: finds them, runs them, and compares what they print with what is shown.
#
# A block that opens with ``` and a language is an example:
#
#     sql        statements for psql, which must succeed
#     console    a transcript of psql: "shop=# SELECT ..." is run in the database shop by a superuser,
#                "rotator=> SELECT ..." in the database shop by the role rotator; "shop-#" continues a statement.
#                What is shown below a statement is compared; below a statement without it nothing is.
#                Shown in psql's usual form, or as "psql -qAt" prints it, which is recognised
#     sh, python, js, java    a program, which must succeed
#     ini        settings, which must be known to the server
#     text       right after a program or statements: their output, which is compared
#
# What differs from run to run is compared by its form: RequestIds, times, durations, and what keyrot generated.
# Where the same value is shown twice in a block, the same must be printed twice, and different ones must differ.
# "…" stands for whatever there is, on a line of its own for any number of lines.
#
# Comments of HTML, which no reader sees, stand before a block and say more about it:
#
#     <!-- before: SQL -->       SQL that a superuser runs first
#     <!-- after: SQL -->        SQL that a superuser runs afterwards, which must succeed
#     <!-- with: code -->        code that is appended to the program
#     <!-- arguments: words -->  the program's arguments; $JDBC_URL is the address of the server
#     <!-- needs: programs -->   programs without which the block is skipped
#     <!-- not run: why -->      this block is only shown
#     <!-- server: words -->     of the whole file: "empty" (no database, no extension yet), "preloaded"

package Documentation;

use strict;
use warnings FATAL => 'all';

use Exporter qw(import);

our @EXPORT_OK = qw(read_blocks server_words console_statements difference);

my %PROGRAM = map { $_ => 1 } qw(sql console sh python js java);

sub lines_of
{
	my ($path) = @_;
	open my $file, '<', $path or die "cannot read $path: $!\n";
	my @lines = <$file>;
	close $file;
	chomp @lines;
	return @lines;
}

# The words of the file's own comment.
sub server_words
{
	my ($path) = @_;
	my ($words) = join("\n", lines_of($path)) =~ /^<!-- server: (.*?) -->$/m;
	return { map { $_ => 1 } split ' ', $words // '' };
}

# Every block of a file: line, language, lines, the comments before it by their names, and "shown", the output
# below it, as a block, if any.  Such an output is no block of its own.
sub read_blocks
{
	my ($path) = @_;
	my (@blocks, $block, %said, $comment, $text_since);
	my ($number, $indent) = (0, '');
	for my $line (lines_of($path))
	{
		$number++;
		if ($block)
		{
			if ($line =~ /^\s*```\s*$/)
			{
				push @blocks, $block;
				($block, $text_since) = (undef, 0);
			}
			else { push @{ $block->{lines} }, $line =~ s/^\Q$indent\E//r; }
		}
		elsif (defined $comment)
		{
			my $end = $line =~ s/\s*-->\s*\z//;
			$said{$comment} .= "\n$line";
			$comment = undef if $end;
		}
		elsif ($line =~ /^\s*<!-- (before|after|with|arguments|needs|not run):\s?(.*?)(\s*-->)?\s*$/)
		{
			$said{$1} = $2;
			$comment = $1 unless $3;
		}
		elsif ($line =~ /^(\s*)```(\w*)\s*$/)
		{
			$indent = $1;
			$block = { line => $number, language => $2, lines => [], said => {%said}, follows => !$text_since };
			%said = ();
		}
		elsif ($line =~ /\S/)
		{
			die "$path:$number: a comment for a block, without a block\n" if %said;
			$text_since = 1;
		}
	}
	die "$path:$block->{line}: the block is not closed\n" if $block;
	return joined_with_outputs(@blocks);
}

sub joined_with_outputs
{
	my @joined;
	for my $block (@_)
	{
		if (   $block->{language} eq 'text'
			&& $block->{follows}
			&& @joined
			&& !$joined[-1]{shown}
			&& $PROGRAM{ $joined[-1]{language} }
			&& !exists $joined[-1]{said}{'not run'})
		{
			$joined[-1]{shown} = $block;
		}
		else { push @joined, $block; }
	}
	return @joined;
}

# The statements of a transcript: line, prompt, mark ("#" or ">"), text, and the lines shown below.
sub console_statements
{
	my ($block) = @_;
	my @statements;
	my $number = $block->{line};
	for my $line (@{ $block->{lines} })
	{
		$number++;
		if ($line =~ /^(\w+)=([#>]) (.*)$/)
		{
			push @statements, { line => $number, prompt => $1, mark => $2, text => $3, shown => [] };
		}
		elsif (@statements && !@{ $statements[-1]{shown} } && $line =~ /^\w+[-(\$'"][#>] (.*)$/)
		{
			$statements[-1]{text} .= "\n$1";
		}
		elsif (@statements) { push @{ $statements[-1]{shown} }, $line; }
		else { die "line $number: a transcript begins with a prompt, as in \"shop=# SELECT 1;\"\n"; }
	}
	return @statements;
}

# Forms of what differs from run to run.  "secret" may be shown for one value only.
my $UUID = qr/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/;
my @FORMS = (
	[ 'RequestId', $UUID,                                                         1 ],
	[ 'RequestId', qr/[0-9A-F]{8}-[0-9A-F]{4}-7[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}/, 1 ],
	[ 'secret',    qr/\b[0-9a-f]{64}\b/,                                          1 ],
	[ 'token',     qr/\beyJ[\w-]+\.[\w-]+\.[\w-]+/,                               1 ],
	[ 'key',       qr{(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=},                      1 ],
	[ 'name',      qr/\bak[0-9a-z]{20}\b/,                                        1 ],
	[ 'name',      qr/\bmpgw-[0-9a-z]{10}\b/,                                     1 ],
	[ 'name',      qr/\b[0-9a-f]{16}\b/,                                          1 ],
	[ 'time',      qr/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d)/, 0 ],
	[ 'duration',  qr/(?:\d+ days? )?\b\d\d:\d\d:\d\d(?:\.\d+)?\b|\b\d+(?:\.\d+)? ms\b/, 0 ]);

# Layout is not compared: blanks, the length of rules, empty lines.
sub plain
{
	my ($text) = @_;
	return join "\n", grep { /\S/ } map { s/-{2,}/--/gr =~ s/\s+/ /gr =~ s/\A | \z//gr } split /\n/, $text;
}

# Reads a shown text as a pattern, and returns the names of its groups with it.
sub pattern_of
{
	my ($shown) = @_;
	my ($pattern, @groups, %seen) = ('');
	while (length $shown)
	{
		my ($form) = grep { $shown =~ /\A$_->[1]/ && starts_anew($pattern, $_->[1]) } @FORMS;
		if ($shown =~ s/\A(?:\n…(?=\n|\z)|…\n)//) { $pattern .= '(?s:.*)\n?'; }
		elsif ($shown =~ s/\A…//) { $pattern .= '[^\n]*?'; }
		elsif ($form && $shown =~ s/\A($form->[1])//)
		{
			my $value = $1;
			if (defined $seen{$value}) { $pattern .= "\\g{$seen{$value}}"; }
			else
			{
				push @groups, $form->[2] ? $form->[0] : '';
				$seen{$value} = @groups;
				$pattern .= "($form->[1])";
			}
		}
		elsif ($shown =~ s/\A(\w+|.)//s) { $pattern .= quotemeta $1; }
	}
	return (qr/\A$pattern\z/, @groups);
}

# A form that is looked for at a place within a word would match what it must not.
sub starts_anew { return $_[0] !~ /[0-9A-Za-z]\z/; }

# Compares what is shown with what was printed; '' where they agree, else both, to be read.
sub difference
{
	my ($shown, $printed) = @_;
	my ($pattern, @groups) = pattern_of(plain($shown));
	my @values = plain($printed) =~ $pattern;
	if (!@values)
	{
		return "shown:\n" . indented($shown) . "\nprinted:\n" . indented($printed) . "\n";
	}
	my %owner;
	for my $number (grep { $groups[$_] } 0 .. $#groups)
	{
		return "$groups[$number] $values[$number] was printed twice, where two different ones are shown\n"
		  if $owner{"$groups[$number] $values[$number]"}++;
	}
	return '';
}

sub indented { return join "\n", map { "    $_" } split /\n/, $_[0]; }

1;

# The documentation tells the truth: each example of README.md and doc/*.md is run, in order, on a fresh server for
# each file, and what it prints is compared with what is shown below it.  The tables of functions, settings and views
# are compared with the catalog.
#
# Why not pg_regress: the examples make databases, roles and settings, and some are programs in other languages.  How
# they are marked, and compared, stands in Documentation.pm.  What a block needs and this machine has not (psycopg,
# node-postgres, the JDBC driver, a program) is skipped and counted.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Cwd qw(abs_path);
use Documentation qw(read_blocks server_words console_statements difference);
use File::Path qw(make_path);
use IPC::Run ();
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $TREE     = abs_path("$FindBin::RealBin/../..");
my $JDBC     = '/usr/share/java/postgresql.jar';
my $DATABASE = 'shop';
my @FILES    = map { s{^\Q$TREE/\E}{}r } "$TREE/README.md", sort glob "$TREE/doc/*.md";

my ($node, $folder, $file);
my (%ran, @not_run, @transcript);


# The machine's programs

sub program
{
	my ($name) = @_;
	return (grep { -x } map { "$_/$name" } split /:/, $ENV{PATH})[0];
}

sub runs_quietly { return system("@_ >/dev/null 2>&1") == 0; }

# A Python that knows psycopg, where the block needs it: not every one does that is called so.
my ($python) = grep { -x && runs_quietly($_, q{-c 'import psycopg'}) } '/usr/bin/python3', program('python3') // ();
my $node_js = program('node') && runs_quietly(q{node -e 'require("pg")'});
my $java = program('javac') && -r $JDBC;

# What a block needs and is not here, or ''.
sub missing_for
{
	my ($block) = @_;
	my $language = $block->{language};
	my $text     = join "\n", @{ $block->{lines} };
	return 'psycopg'       if $language eq 'python' && $text =~ /^import psycopg/m && !$python;
	return 'python3'       if $language eq 'python' && !program('python3');
	return 'node-postgres' if $language eq 'js'     && !$node_js;
	return 'javac, or the JDBC driver' if $language eq 'java' && !$java;
	return join ', ', grep { !program($_) } split ' ', $block->{said}{needs} // '';
}


# Running

# Runs a command and returns whether it succeeded, and all that it printed, on both its outputs.
sub printed_by
{
	my ($input, @command) = @_;
	# In a file: a server that a command restarts keeps its outputs, and a pipe would not end.
	my $output = "$folder/output";
	unlink $output;
	my $ok = eval { IPC::Run::run(\@command, '<', \$input, '>&', $output, IPC::Run::timeout(120)) };
	my $printed = slurp_file($output) . ($@ ? "\n$@" : '');
	$printed =~ s{\Q$folder\E}{}g;
	return ($ok, $printed);
}

# The folders of an administrator are folders of the test's.
sub moved
{
	my ($text) = @_;
	$text =~ s{(?<![\w.])/(etc/keyrot|backup|usr/local/sbin)\b}{$folder/$1}g;
	$text =~ s/\bsudo //g;
	$text =~ s/ -o postgres -g postgres\b//g;
	return $text;
}


sub psql { return ('psql', '-X', '-d', @_) }

sub run_sql
{
	my ($sql) = @_;
	return printed_by(moved($sql), psql($DATABASE), '-v', 'ON_ERROR_STOP=1');
}

# How psql is to print: in its usual form, or as "psql -qAt", by what is shown.
sub form_of
{
	my ($shown) = @_;
	my $compact = $shown =~ /\S/ && $shown !~ /^\s*-{2,}|^-\[|^\(\d+ rows?\)|^[A-Z]+:  |\A(?:[A-Z][A-Z ]+\d*(?: \d+)*\n?)+\z/m;
	return '\set QUIET on' . "\n"
	  . ($compact ? "\\pset format unaligned\n\\pset tuples_only on\n" : "\\pset format aligned\n\\pset tuples_only off\n\\set QUIET off\n");
}

# Statements in a row that one session runs, as one process; each gets what it printed.
sub run_session
{
	my (@statements) = @_;
	my ($prompt, $mark) = @{ $statements[0] }{qw(prompt mark)};
	my $script = '';
	for my $number (0 .. $#statements)
	{
		my $shown = join "\n", @{ $statements[$number]{shown} };
		$script .= form_of($shown) . "\\echo =mark $number=\n" . moved($statements[$number]{text}) . "\n";
	}
	my @where = $mark eq '#' ? ($prompt) : ($DATABASE, '-U', $prompt);
	my (undef, $printed) = printed_by($script, psql(@where));
	my @parts = split /^=mark \d+=\n/m, $printed, -1;
	my $before = shift @parts;
	$_->{printed} = shift(@parts) // $before for @statements;
	return;
}

# What is wrong with a transcript, one text for each statement that does not do what is shown.
sub run_transcript
{
	my ($block) = @_;
	my @statements = console_statements($block);
	my @session;
	for my $statement (@statements)
	{
		if (@session && ($session[0]{prompt} ne $statement->{prompt} || $session[0]{mark} ne $statement->{mark}))
		{
			run_session(@session);
			@session = ();
		}
		push @session, $statement;
	}
	run_session(@session);
	my @wrong = map { wrong_with($_) } @statements;
	push @transcript, grep { @{ $_->{shown} } } @statements unless @wrong;
	return @wrong;
}

sub wrong_with
{
	my ($statement) = @_;
	my $place = "$file:$statement->{line}: $statement->{text}\n";
	my $shown = join "\n", @{ $statement->{shown} };
	if ($shown !~ /\S/)
	{
		return $statement->{printed} =~ /^(?:\w+: )?(?:ERROR|FATAL|invalid command)/m ? "$place$statement->{printed}" : ();
	}
	my $difference = difference($shown, $statement->{printed});
	return $difference ? "$place$difference" : ();
}

# Runs a program of a language, from a file, in a folder of its own.
sub run_program
{
	my ($language, $text, @arguments) = @_;
	my ($class) = $text =~ /^public class (\w+)/m;
	my %command = (
		sh     => [ 'bash', '-euo', 'pipefail', 'example.sh' ],
		python => [ $text =~ /^import psycopg/m ? $python : 'python3', 'example.py' ],
		js     => [ 'node', 'example.js' ],
		java   => [ 'java', '-cp', $JDBC, ($class // 'Example') . '.java' ]);
	my @command = @{ $command{$language} };
	my $name = $command[-1];
	unlink "$folder/$name";
	append_to_file("$folder/$name", moved($text) . "\n");
	return printed_by('', 'bash', '-c', 'cd "$0" && exec "$@"', $folder, @command, @arguments);
}

sub words
{
	my ($text) = @_;
	my $url = 'jdbc:postgresql://127.0.0.1:' . $node->port . "/$DATABASE?user=" . (getpwuid $>)[0];
	return map { $_ eq '$JDBC_URL' ? $url : $_ } split ' ', $text // '';
}

# Each setting must be one that the server knows.
sub run_settings
{
	my ($block) = @_;
	my @names = map { /^\s*([\w.]+)\s*=/ ? $1 : () } @{ $block->{lines} };
	my $list = join ', ', map { "('$_')" } @names;
	my (undef, $unknown) = printed_by(
		"LOAD 'keyrot'; SELECT name FROM (VALUES $list) AS v (name) WHERE current_setting(name, true) IS NULL",
		psql('postgres'), '-qAt');
	return $unknown =~ /\S/ ? "$file:$block->{line}: the server does not know: $unknown" : ();
}

# Runs one block and returns what is wrong with it.
sub run_block
{
	my ($block) = @_;
	my ($language, $said, $place) = ($block->{language}, $block->{said}, "$file:$block->{line}");
	return run_transcript($block) if $language eq 'console';
	return run_settings($block)   if $language eq 'ini';
	my $text = join "\n", @{ $block->{lines} };
	my $shown = join "\n", $block->{shown} ? @{ $block->{shown}{lines} } : ();
	$text .= "\n" . $said->{with} if defined $said->{with};
	my ($ok, $printed) =
	    $language eq 'sql'
	  ? run_sql(form_of($shown) . $text)
	  : run_program($language, $text, words($said->{arguments}));
	return "$place: failed\n$printed\n" unless $ok;
	return () unless $shown =~ /\S/;
	my $difference = difference($shown, $printed);
	return $difference ? "$place: $difference" : ();
}

sub check_block
{
	my ($block) = @_;
	my ($language, $said) = ($block->{language}, $block->{said});
	my $name = "$file:$block->{line} ($language)";
	if (defined $said->{'not run'})
	{
		push @not_run, "$name: $said->{'not run'}";
		return;
	}
	if ($language !~ /^(?:sql|console|sh|python|js|java|ini)$/)
	{
		fail("$name is neither run, nor the output of what is run, nor marked as not run");
		return;
	}
  SKIP:
	{
		my $missing = missing_for($block);
		skip "$name: $missing is missing", 1 if $missing;
		my @wrong;
		for my $step (qw(before block after))
		{
			my ($ok, $printed) = (1, '');
			if ($step eq 'block') { push @wrong, run_block($block); }
			elsif (defined $said->{$step}) { ($ok, $printed) = run_sql($said->{$step}); }
			push @wrong, "$name: the SQL $step it failed\n$printed\n" unless $ok;
		}
		ok(!@wrong, $name) or diag(join "\n", @wrong);
		$ran{$language}++;
	}
	return;
}

# A fresh server, instead of the one before, with what an administrator's commands expect to find.
sub start
{
	my ($number, $words, $blocks) = @_;
	$node->stop('immediate') if $node;
	my $conf = "max_connections = 40\nwal_level = logical\n";
	$conf .= "listen_addresses = '127.0.0.1'\n" if $java && grep { $_->{language} eq 'java' } @$blocks;
	$conf .= "shared_preload_libraries = 'keyrot'\nkeyrot.database = '$DATABASE'\n" if $words->{preloaded};
	$node = new_server("documentation_$number", conf => $conf);
	add_databases($node, $DATABASE) unless $words->{empty};
	$folder = $node->basedir . '/machine';
	make_path(map { "$folder/$_" } 'etc/keyrot', 'backup', 'usr/local/sbin');
	chmod oct(700), "$folder/etc/keyrot";
	$ENV{PGHOST}     = $node->host;
	$ENV{PGPORT}     = $node->port;
	$ENV{PGDATA}     = $node->data_dir;
	$ENV{PGDATABASE} = $DATABASE;
	return;
}


# The catalog

# A section of a file, by its heading, down to the next one of the same level.
sub section
{
	my ($path, $heading) = @_;
	my ($level) = $heading =~ /^(#+)/;
	my ($section) = slurp_file("$TREE/$path") =~ /^\Q$heading\E\n(.*?)(?=^$level [^#]|\z)/ms;
	die "$path has no section \"$heading\"\n" unless defined $section;
	return $section;
}

# What stands between backticks in the cells of a section's tables, links left out.
sub in_tables
{
	my ($section) = @_;
	return map { /`([^`]+)`/g } grep { /^\|/ } split /\n/, $section =~ s/\[[^\]]*\]\([^)]*\)//gr;
}

# Every function that users may call: name => its input arguments as the reference writes them.
sub functions_of_catalog
{
	my $rows = $node->safe_psql(
		$DATABASE, q{
		SELECT p.proname, pg_get_function_arguments(p.oid)
		  FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		 WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'keyrot') AND p.proname NOT IN ('has_rights_of', 'running_work', 'read_metrics', 'read_distributed',
		  'node_problem')});
	my %functions;
	for my $row (split /\n/, $rows)
	{
		my ($name, $arguments) = split /\|/, $row, 2;
		$functions{$name} = join ', ', map { as_written($_) } grep { !/^OUT / } split /, /, $arguments;
	}
	return %functions;
}

sub as_written
{
	my ($argument) = @_;
	$argument =~ s/^(?:INOUT|IN|VARIADIC) //;
	$argument =~ s/ DEFAULT (.*?)(?:::[\w ]+(?:\[\])?)?$/ = $1/;
	$argument =~ s/'00:00:00'/'0'/;
	$argument =~ s/\binteger\b/int/;
	$argument =~ s/\btimestamp with time zone\b/timestamptz/;
	return $argument;
}

# The same as the page in the README writes it: names, and in brackets those that have a default.
sub names_only
{
	my @arguments = split /, /, $_[0];
	my @required = map { /^(\w+)/ } grep { !/ = / } @arguments;
	my @optional = map { /^(\w+)/ } grep { / = / } @arguments;
	return join(', ', @required) . (@optional ? (@required ? ' [, ' : '[') . join(', ', @optional) . ']' : '');
}

# Compares the calls in a section with those of the catalog; "…" stands for the rest of the arguments.
sub check_functions
{
	my ($path, $section, %functions) = @_;
	my (@wrong, %found);
	for my $call (grep { /^(?:CALL )?\w+\(/ } in_tables($section))
	{
		my ($name, $arguments) = $call =~ /^(?:CALL )?(\w+)\((.*)\)$/;
		if (!defined $name || !exists $functions{$name})
		{
			push @wrong, "$path has $call, which is no function of keyrot";
			next;
		}
		$found{$name} = 1;
		my $good = $arguments =~ s/…$// ? index($functions{$name}, $arguments) == 0 : $functions{$name} eq $arguments;
		push @wrong, "$path has $call; it is $name($functions{$name})" unless $good;
	}
	push @wrong, map { "$path lacks $_($functions{$_})" } grep { !$found{$_} } sort keys %functions;
	ok(!@wrong, scalar(keys %found) . " functions are in the tables of $path, with their arguments, and no others")
	  or diag(join "\n", @wrong);
	return;
}

sub check_settings
{
	my %shown = map { $_ => 1 } grep { /^keyrot\.\w+$/ } map { (split /\|/)[1] =~ /`([^`]+)`/ ? $1 : () }
	  grep { /^\|/ } split /\n/, section('doc/reference.md', '## Settings');
	my %known = map { $_ => 1 } split /\n/,
	  $node->safe_psql($DATABASE, "LOAD 'keyrot'; SELECT name FROM pg_settings WHERE name LIKE 'keyrot.%'");
	is_deeply([ sort keys %shown ], [ sort keys %known ], 'doc/reference.md has every setting, and no others');
	return;
}

sub check_views
{
	my $section = section('doc/reference.md', '## Views');
	my @missing;
	for my $row (split /\n/, $node->safe_psql($DATABASE, q{
		SELECT c.relname, string_agg(a.attname, ' ') FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
		 WHERE c.relnamespace = 'keyrot'::regnamespace AND c.relkind = 'v' AND a.attnum > 0 GROUP BY c.relname}))
	{
		my ($view, $columns) = split /\|/, $row;
		my ($text) = $section =~ /\*\*`keyrot\.$view`\*\*(.*?)(?=^\*\*`keyrot\.|\z)/ms;
		push @missing, "the view $view" unless defined $text;
		push @missing, map { "$view.$_" } grep { ($text // '') !~ /`$_`/ } split / /, $columns;
	}
	ok(!@missing, 'doc/reference.md has every view and column') or diag('it lacks: ' . join ', ', @missing);
	return;
}

my $number = 0;
for (@FILES)
{
	$file = $_;
	my @blocks = read_blocks("$TREE/$file");
	@transcript = ();
	my $runs = grep { !defined $_->{said}{'not run'} } @blocks;
	start($number++, server_words("$TREE/$file"), \@blocks) if $runs;
	check_block($_) for @blocks;
	my $difference = difference(map { my $part = $_; join "\n", map { $part->($_) } @transcript }
		sub { @{ $_[0]{shown} } }, sub { $_[0]{printed} });
	ok(!$difference, "$file: what its transcripts show fits together") or diag("$file: $difference") if @transcript;
}
# In the server of the last file.
my %functions = functions_of_catalog();
check_functions('doc/reference.md', section('doc/reference.md', '## Functions'), %functions);
check_functions('README.md', section('README.md', '## The functions on one page'),
	map { $_ => names_only($functions{$_}) } keys %functions);
check_settings();
check_views();

note(join ', ', map { "$ran{$_} blocks of $_" } sort keys %ran);
note(scalar @not_run . " blocks are only shown:\n" . join "\n", @not_run);

done_testing();

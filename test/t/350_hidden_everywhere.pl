# A secret is hidden from client and log in whatever language the server speaks, and wherever in a call of keyrot
# it stands, as a literal of a function that takes a secret and as a bind parameter of any.
#
# Why not pg_regress: it takes a server whose messages are translated, databases of other encodings, the messages of
# the protocol, and the log.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Protocol;
use Said;
use Test::More;

# What all secrets here begin with: hexadecimal digits, as in a secret that was generated.
my $MARK = 'deadbeefcafe';
# The same as bytea shows it, and in decimal, as trees of a statement have it.
my $MARKS = join '|', $MARK, unpack('H*', $MARK), join(' ', map { ord } split //, $MARK);
my $count = 0;

sub secret { return sprintf '%s%052d', $MARK, ++$count; }

# Locales are made here, in a folder of our own, from what the system has to make them from.
my %LOCALES = (de_DE => 'de', fr_FR => 'fr', es_ES => 'es', ru_RU => 'ru', ja_JP => 'ja', en_US => '');
my $folder = PostgreSQL::Test::Utils::tempdir;
for my $locale (sort keys %LOCALES)
{
	system('localedef', '-i', $locale, '-f', 'UTF-8', '--no-archive', '--quiet', "$folder/$locale.UTF-8") if -e "/usr/share/i18n/locales/$locale";
}
$ENV{LOCPATH} = $folder;

my $major = `pg_config --version` =~ /(\d+)/ ? $1 : 0;
chomp(my $catalogs = `pg_config --localedir`);

# Why a language cannot be tested here, or ''.
sub missing
{
	my ($locale) = @_;
	return 'there is no localedef, or nothing to make locales from (Debian: locales)' unless -d "$folder/$locale.UTF-8";
	my $language = $LOCALES{$locale};
	return '' if !$language || -e "$catalogs/$language/LC_MESSAGES/postgres-$major.mo";
	return "the server has no messages in that language in $catalogs";
}

my $node = new_server('everywhere', conf => <<"END");
shared_preload_libraries = 'pg_stat_statements,auto_explain,keyrot'
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
keyrot.zone_rate_limit = 0
debug_print_plan = on
$Said::LOG
END
$node->append_conf('postgresql.conf', 'auto_explain.log_parameter_max_length = -1') if $major >= 16;
$node->restart;
write_key(key_file($node), random_hex(64) . "\n");
my %ENCODINGS = (in_ascii => 'SQL_ASCII', in_utf8 => 'UTF8', in_latin1 => 'LATIN1');
for my $database (sort keys %ENCODINGS)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0 ENCODING '$ENCODINGS{$database}' LOCALE 'C'");
	$node->safe_psql($database, <<'END');
CREATE EXTENSION keyrot;
CREATE EXTENSION pg_stat_statements;
CREATE TABLE small (value text PRIMARY KEY CHECK (length(value) > 1), number smallint);
CREATE TYPE kind AS ENUM ('one');
CREATE FUNCTION other(a text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN a; END $$;
SELECT keyrot.create_app('n', 'app-a'), keyrot.create_zone_key('zone-a'), keyrot.add_gateway('zone-a', 'gateway-a');
END
}

# Each field of what the client was told that has a mark.
sub told
{
	my ($answer) = @_;
	return grep { /$MARKS/ } map { "$_: $answer->{error}{$_}" } sort keys %{ $answer->{error} };
}

# Where the log has one of these, each place once.
sub logged
{
	my ($text, $pattern) = @_;
	my %found;
	while ($text =~ /$pattern/g)
	{
		my $start = $-[0] < 200 ? 0 : $-[0] - 200;
		$found{ substr($text, $start, 300) =~ s/\A.*\n|\n.*\z//gr }++;
	}
	return sort keys %found;
}

sub none
{
	my ($name, @found) = @_;
	return is(scalar @found, 0, $name) || diag(join "\n", splice @found, 0, 6);
}

# --- Languages

# What is wrong with the argument that the secret is in, and whose message has its value.
sub translated_errors
{
	return map { s/SECRET/secret()/er } (
		"SELECT keyrot.reset_app_secret('app-a', NULL, 'SECRET'::int)", "SELECT keyrot.reset_app_secret('app-a', NULL, NULL, 'SECRET')",
		"SELECT keyrot.reset_app_secret('app-a', NULL, 'SECRET'::kind::text)", "SELECT keyrot.reset_app_secret('app-a', NULL, ('{' || 'SECRET')::jsonb::text)",
		"SELECT keyrot.reset_app_secret('app-a', NULL, 'SECRET'::regrole::text)", "SELECT keyrot.reset_app_secret('app-a', NULL, 'SECRET'::timestamptz::text)",
		"SELECT keyrot.reset_app_secret('app-a', NULL, '$MARK-$MARK+$MARK'::int)", "SELECT keyrot.reset_app_secret('app-a', NULL, \"SECRET\")", "SELECT keyrot.reset_app_secret('app-a', NULL, SECRET)",
		"SELECT keyrot.reset_app_secret('app-a', NULL, SECRET('x'))", "SELECT keyrot.reset_app_secret('app-a', SECRET => NULL)",
		"SELECT keyrot.reset_app_secret('app-a', NULL 'SECRET')", "SELECT keyrot.reset_app_secret('app-a', NULL, 'SECRET'", "SELECT keyrot.reset_app_secret('app-a', NULL, 'SECRET",
		"SELECT keyrot.reset_app_secret('app-a', NULL, to_number('SECRET', '9')::text COLLATE \"SECRET\")",
		"INSERT INTO small SELECT v FROM (VALUES ('SECRET')) s (v), keyrot.reset_app_secret('app-a', NULL, md5('x')), generate_series(1, 2)",
		"SELECT keyrot.modify_zone_key('zone-a', other('SECRET')::text)", "SELECT keyrot.create_app('n', 'app-b', set_config('SECRET', 'x', false))",
		"DO \$\$ BEGIN PERFORM keyrot.reset_app_secret('app-a', NULL, 'SECRET'::int); END \$\$", "COPY (SELECT keyrot.reset_app_secret('app-a', NULL, 'SECRET'::int)) TO STDOUT",
		"SELECT keyrot.api('ResetAppSecret', '{\"AppKey\": \"app-a\", \"NewAppSecret\": \"SECRET\"')", "SELECT keyrot.reset_app_secret('SECRET')");
}

# Runs them in a database in the language set, where an unrelated error shows that this is spoken.
sub try_language
{
	my ($database, $name) = @_;
	my $session = Protocol->connect($node, $database);
	$session->query("SET lc_messages = '$name'") if $name;
	my $other = $session->query("SELECT 'value-of-somebody-else'::int");
	unlike($other->{message}, qr/invalid input syntax/, 'messages are translated');
	like($other->{message}, qr/value-of-somebody-else/, 'and say what they have to where keyrot is not called');
	for my $statement (translated_errors())
	{
		my $answer = $session->query($statement);
		none("the client: $statement", told($answer)) if ok($answer->{sqlstate}, 'fails');
	}
	$session->close;
	return;
}

for my $locale (grep { $LOCALES{$_} } sort keys %LOCALES)
{
	my $missing = missing($locale);
	diag("PARTLY LEFT OUT: $locale: $missing") if $missing;
	SKIP:
	{
		skip "$locale: $missing", 1 if $missing;
		for my $database (sort keys %ENCODINGS)
		{
			my $before = length log_text($node, $database);
			subtest "$locale, $ENCODINGS{$database}" => sub {
				try_language($database, "$locale.UTF-8");
				my $text = substr log_text($node, $database), $before;
				like($text, qr/value-of-somebody-else/, 'the log has what is not ours');
				none('the log', logged($text, $MARKS));
			};
		}
	}
}

# The environment that a server is started in can ask for a language beside that of its setting.
my $missing = missing('de_DE') || missing('en_US');
diag("PARTLY LEFT OUT: LANGUAGE: $missing") if $missing;
SKIP:
{
	skip "LANGUAGE: $missing", 1 if $missing;
	$node->stop;
	{
		local $ENV{LANGUAGE} = 'de';
		$node->start;
	}
	my $before = length log_text($node, 'in_ascii');
	subtest 'English, and LANGUAGE = de' => sub {
		try_language('in_ascii', 'en_US.UTF-8');
		none('the log', logged(substr(log_text($node, 'in_ascii'), $before), $MARKS));
	};
	$node->restart;
}

# --- A secret in the wrong place

my $session = Protocol->connect($node, 'in_utf8');
$session->query($_) for q{SET lc_messages = 'C'}, q{SELECT keyrot.reset_app_secret('app-a')};
my %GIVEN = (app_key => 'app-a', zone_id => 'zone-a', gateway_id => 'gateway-a', app_name => 'n', action => 'ResetAppSecret');
my @TAKES_SECRET = qw(create_app reset_app_secret create_zone_key modify_zone_key find_secret api);

# Every function and procedure of keyrot's with its parameters, as [name, whether a procedure, [name, type, has a default] ...].
sub functions
{
	my %found;
	my $rows = $session->query(<<'END')->{rows};
SELECT p.oid, p.proname, p.prokind, coalesce(p.proargnames[n], ''), format_type(t, NULL), n > p.pronargs - p.pronargdefaults
  FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid, unnest(p.proargtypes) WITH ORDINALITY AS a (t, at),
       LATERAL (SELECT i FROM (SELECT i, row_number() OVER (ORDER BY i) AS at
                                 FROM generate_series(1, coalesce(cardinality(p.proargmodes), p.pronargs)) i
                                WHERE p.proargmodes IS NULL OR p.proargmodes[i] IN ('i', 'b', 'v')) m WHERE m.at = a.at) AS i (n)
 WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'keyrot') ORDER BY p.proname, p.oid, n
END
	my @functions;
	for my $row (@$rows)
	{
		my ($oid, $name, $kind, @parameter) = @$row;
		push @functions, $found{$oid} = [ $name, $kind eq 'p' ] unless $found{$oid};
		push @{ $found{$oid} }, \@parameter;
	}
	return @functions;
}

# A call that has the value, an expression, in the parameter of this number, and as little else as may be.
sub call_with
{
	my ($function, $number, $value) = @_;
	my ($name, $is_procedure, @parameters) = @$function;
	my @arguments;
	for my $i (0 .. $#parameters)
	{
		my ($parameter, $type, $has_default) = @{ $parameters[$i] };
		next if $i != $number && $has_default eq 't';
		my $argument = $i == $number ? $value : defined $GIVEN{$parameter} ? "'$GIVEN{$parameter}'" : "NULL::$type";
		push @arguments, "$parameter => $argument";
	}
	return ($is_procedure ? 'CALL' : 'SELECT * FROM') . " keyrot.$name(" . join(', ', @arguments) . ')';
}

# One returns rows of which its caller has to name the columns, and is the views'.
my @functions = grep { $_->[2][0] ne '' && $_->[0] ne 'read_distributed' } functions();
cmp_ok(scalar @functions, '>', 35, 'there are functions to call');
my @tried;
for my $function (@functions)
{
	for my $number (0 .. $#$function - 2)
	{
		# A bound value of no type of its own cannot be prepared.
		next if $function->[ $number + 2 ][1] eq 'anyelement';
		my $place = "$function->[0], $function->[ $number + 2 ][0]";
		my %secrets = map { $_ => secret() } qw(bound executed literal);
		my @told = map { told($_) } $session->bound(call_with($function, $number, '$1'), [ $secrets{bound} ]);
		unless ($function->[1])
		{
			$session->query('PREPARE wrong AS ' . call_with($function, $number, '$1'));
			push @told, map { told($_) } map { $session->query($_) } "EXECUTE wrong ('$secrets{executed}')", 'DEALLOCATE wrong';
		}
		push @told, told($session->query(call_with($function, $number, "'$secrets{literal}'"))) if grep { $_ eq $function->[0] } @TAKES_SECRET;
		none("the client: $place", @told);
		push @tried, [ $place, join '|', map { ($_, unpack 'H*', $_) } values %secrets ];
	}
}
my $text = log_text($node, 'in_utf8');
none("the log: $_->[0]", logged($text, $_->[1])) for @tried;
none('the log: no bytes in decimal, as plans have them', logged($text, join ' ', map { ord } split //, $MARK));
like($text, qr/reset_app_secret\(app_key => \$1\)/, 'the statement of a bound call stays readable');

# A secret in the place of an AppKey, in all kinds of statements that hold a call.
my $before = length $text;
$session->query('PREPARE kept (text) AS SELECT keyrot.reset_app_secret($1)');
$session->query('CREATE PROCEDURE noop(u uuid) LANGUAGE plpgsql AS $$ BEGIN END $$');
for my $statement (map { s/CALL/"keyrot.reset_app_secret('" . secret() . "')"/er } 'SELECT CALL', 'VALUES (CALL)', 'EXPLAIN ANALYZE SELECT CALL', 'CREATE TABLE made AS SELECT CALL',
	'COPY (SELECT CALL) TO STDOUT', 'INSERT INTO small SELECT CALL::text', "UPDATE small SET value = CALL::text", 'DECLARE c CURSOR WITH HOLD FOR SELECT CALL', 'CALL noop(CALL)' =~ s/\ACALL/call/r,
	'DO $$ BEGIN PERFORM CALL; END $$', "EXECUTE kept ('" . secret() . "')", "EXPLAIN ANALYZE EXECUTE kept ('" . secret() . "')", "CREATE TABLE made AS EXECUTE kept ('" . secret() . "')",
	"DO \$\$ BEGIN EXECUTE 'SELECT keyrot.reset_app_secret(\$1)' USING '" . secret() . "'; END \$\$", 'PREPARE later AS SELECT CALL', 'EXECUTE later')
{
	none("the client: $statement", told($session->query($statement)));
}
none('the log: a secret for an AppKey', logged(substr(log_text($node, 'in_utf8'), $before), $MARKS));
none('statistics: a secret for an AppKey', grep { /$MARKS/ } split /\n/, $node->safe_psql('in_utf8', 'SELECT query FROM pg_stat_statements'));

done_testing();

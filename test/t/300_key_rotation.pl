# Master keys replaced: what stands in the key file then, which data keys are wrapped by which line, who goes on
# working, and which lines may be taken out; on one server, on its standby, and after a restore.
#
# Why not pg_regress: it writes into the key file of the whole server, takes several databases and servers at
# once, and prepared transactions, which outlive their session.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use File::Copy qw(copy);
use IPC::Run   qw(finish start timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $MOST_KEYS      = 32;
my $SESSIONS       = 6;
my $ROTATIONS_EACH = 5;
my $LIMIT          = 3 * $PostgreSQL::Test::Utils::timeout_default;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $path   = "$folder/keyrot.key";
my $node   = new_server(
	'rotated',
	init => { allows_streaming => 1 },
	conf => <<"END");
keyrot.master_key_file = '$path'
keyrot.zone_rate_limit = 0
max_prepared_transactions = 2
autovacuum = off
END
add_databases($node, 'one', 'two', 'empty');
my $secret    = 'the-secret-of-the-first-app';
my $signature = sign_text($secret, 'm');
my $verify    = qq{SELECT keyrot.verify_app_string('app-1', 'm', '$signature')};

sub lines { return -e $path ? split /\n/, slurp_file($path) : (); }

sub names
{
	return map { fingerprint($_) } lines();
}

sub write_lines
{
	return write_key($path, join '', map { "$_\n" } @_);
}

sub wrapped_by
{
	my ($database) = @_;
	return $node->safe_psql($database,
		q{SELECT string_agg(id || ' ' || encode(master_key, 'hex'), ', ' ORDER BY id) FROM keyrot.data_key});
}

sub in_use
{
	my ($database) = @_;
	return $node->safe_psql($database, 'SELECT unnest(master_keys_in_use) FROM ' . $STATUS . ' ORDER BY 1');
}

# Whether a database's secrets can be read and written, in a new session: a list of what is wrong.
sub wrongs
{
	my (@databases) = @_;
	my @wrongs;
	for my $database (@databases)
	{
		my ($verified, $described, $rotated, $created) = attempts(
			$node,
			$database,
			$verify,
			q{SELECT app_secret FROM keyrot.describe_app_security('app-1')},
			q{SELECT length(secret_key) FROM keyrot.refresh_zone_key('zone-1')},
			q{SELECT length(app_key) FROM keyrot.create_app('App')});
		push @wrongs, "$database: verify: $verified->{text}"    if $verified->{output} ne 't';
		push @wrongs, "$database: describe: $described->{text}" if $described->{output} ne $secret;
		push @wrongs, "$database: refresh: $rotated->{text}"    if $rotated->{output} ne '44';
		push @wrongs, "$database: create: $created->{text}"     if $created->{output} ne '22';
	}
	return @wrongs;
}

sub degraded
{
	my ($server, $database) = @_;
	return $server->safe_psql($database, 'SELECT unnest(problems) FROM ' . $STATUS);
}

# Everything of a database that a failed call should leave as it is.
sub stored { return $node->safe_psql($_[0], 'SELECT * FROM keyrot.data_key ORDER BY id'); }


# A master key, and no data key yet

my $name = (names())[0];
is($node->safe_psql('empty', 'SELECT keyrot.rewrap_data_keys()'),
	'0', 'where no data key is, none is to be wrapped');
$node->safe_psql('empty', 'CALL keyrot.reseal()');
is(join(' ', names()), $name, 'which leaves the key file as it is');
my $second = $node->safe_psql('empty', 'SELECT keyrot.rotate_master_key()');
my $third  = $node->safe_psql('empty', 'SELECT keyrot.rotate_master_key(rewrap => false)');
is(join(' ', names()), "$third $second $name", 'rotate_master_key() puts a key before the others and names it');
is((stat $path)[2] & oct 7777, oct 600, 'in a file of mode 0600');
is(in_use('empty'),            '',      'nothing depends on it yet');
my $recorded = q{SELECT action, target, outcome FROM keyrot.request ORDER BY request_id};
is($node->safe_psql('empty', $recorded), join("\n", "rewrap_data_keys|$name|ok", 'reseal||ok',
		map { "rotate_master_key|$_|ok" } $second, $third), 'each call is on record, with the key that it came to');


# A new line, two databases

for my $database ('one', 'two')
{
	$node->safe_psql(
		$database, qq{
		SELECT FROM keyrot.create_app('App', 'app-1', '$secret');
		SELECT FROM keyrot.create_zone_key('zone-1')});
}
$node->safe_psql('one', 'SELECT keyrot.rotate_data_key()');
my $rotate_here = qq{SELECT length(secret_key) FROM keyrot.refresh_zone_key('zone-1')};
my %open        = map { $_ => $node->background_psql($_) } 'one', 'two';

sub wrongs_of_open_sessions
{
	return
	  grep { $open{$_}->query_safe($verify) ne 't' || $open{$_}->query_safe($rotate_here) ne '44' }
	  sort keys %open;
}
is_deeply([ wrongs_of_open_sessions(), wrongs('one', 'two') ], [], 'two databases work');
my @before     = lines();
my $raw_before = $node->safe_psql('one', 'SELECT id, check_value FROM keyrot.data_key ORDER BY id');
my $other_rows = stored('two');
$name = $node->safe_psql('one', 'SELECT keyrot.rotate_master_key()');
is((names())[0], $name, 'rotate_master_key() returns the fingerprint of the first line');
is_deeply([ (lines())[ 1 .. @before ] ], \@before, 'below it, the older lines stand as they were');
is((stat $path)[2] & oct 7777, oct 600,            'the mode is 0600 still');
is((stat $path)[3],            1,                  'and the file has one name');
is(wrapped_by('one'),          "1 $name, 2 $name", 'the data keys of this database are wrapped by the new key');
is($node->safe_psql('one', 'SELECT id, check_value FROM keyrot.data_key ORDER BY id'),
	$raw_before, 'and are the same keys');
is(stored('two'), $other_rows, 'those of another database are not');
is_deeply([ wrongs_of_open_sessions(), wrongs('one', 'two') ],
	[], 'both work, in open sessions and in new ones');
unlike(degraded($node, 'one'), qr/older master keys/, 'status() finds nothing to do here');
like(degraded($node, 'two'), qr/older master keys.*rewrap_data_keys/, 'and tells what is to do there');
is($node->safe_psql('two', 'SELECT keyrot.rewrap_data_keys()'), '1', 'where rewrap_data_keys() does it');
is($node->safe_psql('two', 'SELECT keyrot.rewrap_data_keys()'), '0', 'once');

# The file first, the data keys later.
my $rows  = stored('one');
my $later = $node->safe_psql('one', 'SELECT keyrot.rotate_master_key(rewrap => false)');
is((names())[0],  $later, 'rotate_master_key(rewrap => false) changes the file');
is(stored('one'), $rows,  'and nothing else');
is_deeply([ wrongs_of_open_sessions(), wrongs('one', 'two') ], [], 'both databases work');
$node->safe_psql('one', 'SELECT keyrot.rotate_data_key()');
is(wrapped_by('one'), "1 $name, 2 $name, 3 $later", 'a new data key is wrapped by the first line at once');
is($node->safe_psql('one', 'SELECT keyrot.rewrap_data_keys()'),
	'2', 'rewrap_data_keys() wraps those that were not');
is(wrapped_by('one'), "1 $later, 2 $later, 3 $later", 'and then all are');

# Rolled back, as a whole or to a savepoint.
$rows = stored('one');
for my $undo ('BEGIN; %s; ROLLBACK', 'BEGIN; SAVEPOINT one; %s; ROLLBACK TO one; COMMIT')
{
	my @lines = lines();
	$node->safe_psql('one', sprintf $undo, 'SELECT keyrot.rotate_master_key()');
	is_deeply([ (lines())[ 1 .. @lines ] ], \@lines, "a rollback leaves a line more: $undo");
	is(stored('one'), $rows, 'the data keys are as they were');
	is_deeply([ wrongs_of_open_sessions(), wrongs('one', 'two') ], [], 'and both databases work');
}


# Which lines may go

sub all_in_use
{
	my %names = map { $_ => 1 } map { split /\n/, in_use($_) } @_;
	return %names;
}
my %used   = all_in_use('one', 'two', 'empty');
my @unused = grep { !$used{ fingerprint($_) } } lines();
is(scalar keys %used, 2, 'status() of each database tells of 2 master keys in use');
is(scalar @unused,    5, 'and so of 5 that may go');
my @complete = lines();
write_lines(grep { $used{ fingerprint($_) } } @complete);
is_deeply([ wrongs_of_open_sessions(), wrongs('one', 'two') ], [], 'without them all works');

# One that may not.
my @kept = grep { fingerprint($_) ne $later } lines();
write_lines(@kept);
my $held = fingerprint($kept[0]);
my $says = qr/^data key \d is wrapped by master key $later; master key file "\Q$path\E" contains $held$/;
$rows = stored('one');
my @calls = (
	$verify,
	q{SELECT keyrot.verify_app_string('app-unknown', 'm', 's')},
	q{SELECT keyrot.verify_zone_string('zone-1', 'm', 's')},
	q{SELECT keyrot.sign_for_app('app-1', 'm')},
	q{SELECT FROM keyrot.describe_app_security('app-1')},
	q{SELECT keyrot.reset_app_secret('app-1')},
	q{SELECT FROM keyrot.refresh_zone_key('zone-1')},
	q{SELECT FROM keyrot.create_app('App')},
	q{SELECT keyrot.create_zone_key('zone-2')},
	q{SELECT keyrot.rotate_data_key()},
	q{SELECT keyrot.rewrap_data_keys()},
	q{SELECT keyrot.rotate_master_key()},
	q{SELECT keyrot.rotate_master_key(false)},
	q{CALL keyrot.reseal()});
my @refused = attempts($node, 'one', @calls);
is_deeply(
	[
		map  { "$_->{statement}: $_->{sqlstate} $_->{message}" }
		grep { $_->{sqlstate} ne '55000' || $_->{message} !~ $says } @refused
	],
	[],
	'without a line that is in use, each of '
	  . @calls
	  . ' calls, verify included, is 55000 and names both keys');
is_deeply([ grep { $_->{hint} !~ /line of master key $later/ } @refused ],
	[], 'with a hint at the line that is missing');
like(degraded($node, 'one'), qr/is wrapped by master key $later; .* contains/, 'status() says the same');
is(stored('one') . join(' ', lines()), $rows . join(' ', @kept),
	'and nothing was changed, in the file neither');
is_deeply([ wrongs('two') ], [], 'the other database works');
my $refused_session = $node->background_psql('one', on_error_stop => 0);
$refused_session->query($verify);
write_lines(@complete);
is($refused_session->query($verify), 't', 'once the line is back, the session that was refused works');
$refused_session->quit;
is_deeply([ wrongs('one', 'two') ], [], 'and so do new ones');


# What cannot be done

# Tries to rotate; returns what is wrong with how that failed.
sub wrongs_of_failure
{
	my ($message,  $hint)   = @_;
	my ($contents, $stored) = (join("\n", lines()), stored('one'));
	my @files = key_files_of($folder);
	my @wrongs;
	for my $arguments ('', 'false')
	{
		my ($attempt) = attempts($node, 'one', "SELECT keyrot.rotate_master_key($arguments)");
		push @wrongs, "SQLSTATE $attempt->{sqlstate}" if $attempt->{sqlstate} ne '55000';
		push @wrongs, "message: $attempt->{message}"  if $attempt->{message} !~ $message;
		push @wrongs, "hint: $attempt->{hint}"        if $attempt->{hint}    !~ $hint;
	}
	push @wrongs, 'the file was changed'      if join("\n", lines()) ne $contents;
	push @wrongs, 'the data keys were'        if stored('one') ne $stored;
	push @wrongs, 'there is another file now' if "@{[ key_files_of($folder) ]}" ne "@files";
	return @wrongs;
}
@complete = lines();
write_lines(@complete, map { random_hex(64) } @complete + 1 .. $MOST_KEYS - 1);
$node->safe_psql('one', 'SELECT keyrot.rotate_master_key()');
is(scalar(lines()), $MOST_KEYS, "there may be $MOST_KEYS lines");
is_deeply([ wrongs('one', 'two') ], [], 'with which all works');
is_deeply([ wrongs_of_failure(qr/"\Q$path\E" has no room for another key/, qr/Remove the lines/) ],
	[], "with $MOST_KEYS lines there is no room for another");
%used = all_in_use('one', 'two', 'empty');
write_lines(grep { $used{ fingerprint($_) } } lines());

chmod oct 500, $folder or die $!;
is_deeply(
	[
		wrongs_of_failure(
			qr/could not add a key to master key file "\Q$path\E": Permission denied/,
			qr/rewrap_data_keys/)
	],
	[],
	'in a folder that the server may not write to, the new line is the administrator\'s to add');
chmod oct 700, $folder or die $!;
chmod oct 644, $path   or die $!;
is_deeply([ wrongs_of_failure(qr/has group or world access/, qr/0600/) ],
	[], 'a file that others may read gets no new key');
chmod oct 600, $path or die $!;
@complete = lines();
rename $path, "$path.moved" or die $!;
symlink "$path.moved", $path or die $!;
is_deeply([ wrongs_of_failure(qr/is a symbolic link/, qr/the file itself/) ],
	[], 'nor does what a symbolic link points to');
unlink $path;
rename "$path.moved", $path or die $!;
write_key($path, join '', "$complete[0]\n", "no key\n");
is_deeply([ wrongs_of_failure(qr/line 2 is not 64 hex digits/, qr/\S/) ], [], 'nor a file that cannot be read');

# Without its file, none of the functions makes another one.
unlink $path;
is_deeply([ wrongs_of_failure(qr/"\Q$path\E" does not exist/, qr/backup/) ],
	[], 'a file that is lost is not made anew');
my @lost =
  map { attempts($node, $_, 'SELECT keyrot.rotate_data_key()', 'SELECT keyrot.rotate_master_key()') } 'one',
  'empty';
push @lost, attempts($node, 'one', 'SELECT keyrot.rewrap_data_keys()', 'CALL keyrot.reseal()');
is( join(' ', map { $_->{sqlstate} } @lost),
	join(' ', ('55000') x @lost),
	'by none of these functions, in no database');
is(join(' ', key_files_of($folder)), '', 'no file is there');
write_lines(@complete);
is_deeply([ wrongs('one', 'two') ], [], 'with the file from its backup all works');

# Who edits the file by hand and calls rewrap_data_keys() comes to the same.
my $by_hand = random_hex(64);
write_lines($by_hand, @complete);
is($node->safe_psql('one', 'SELECT keyrot.rewrap_data_keys()'),
	'3', 'a line added by hand is what data keys are wrapped by then');
is(in_use('one'), fingerprint($by_hand), 'and no other one is in use');
is_deeply([ wrongs('one') ], [], 'which works');


# Many at once

add_databases($node, 'three');
$node->safe_psql(
	'three', qq{
	SELECT FROM keyrot.create_app('App', 'app-1', '$secret');
	SELECT FROM keyrot.create_zone_key('zone-1')});
%used = all_in_use('one', 'two', 'three');
write_lines(grep { $used{ fingerprint($_) } } lines());
my $first = scalar lines();
@before = lines();
my @runs;
for my $number (1 .. $SESSIONS)
{
	my ($out, $err) = ('', '');
	my $script = "SELECT keyrot.rotate_master_key();\n" x $ROTATIONS_EACH;
	$script =~ s/\(\)/(false)/ if $number % 2;
	my $run = start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr((qw(one two three))[ $number % 3 ]),
			'-f',   '-'
		],
		'<',
		\$script,
		'>',
		\$out,
		'2>',
		\$err,
		timeout($LIMIT));
	push @runs, { run => $run, out => \$out, err => \$err };
}
finish($_->{run}) for @runs;
my @returned = map { split /\n/, ${ $_->{out} } } @runs;
is(join('', map { ${ $_->{err} } } @runs),
	'', "$SESSIONS sessions in 3 databases rotate at once, without an error");
is_deeply(
	[ sort @returned, map { fingerprint($_) } @before ],
	[ sort(names()) ],
	'each of their ' . @returned . ' keys, and each of ' . $first . ' that were there, is in the file once');
is_deeply([ (lines())[ -$first .. -1 ] ], \@before, 'the older ones still last');
my %there = map { $_ => 1 } names();
is_deeply([ grep { !$there{$_} } map { split /\n/, in_use($_) } 'one', 'two', 'three' ],
	[], 'and all that is in use is there');
is_deeply([ wrongs_of_open_sessions(), wrongs('one', 'two', 'three') ], [], 'so that all goes on');
$_->quit for values %open;


# A dump from before

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/one.dump", '-d', $node->connstr('one') ],
	'a database is dumped');
my $of_the_dump = in_use('one');
$node->safe_psql($_, 'SELECT keyrot.rewrap_data_keys()') for 'two', 'three';
%used = all_in_use('one', 'two', 'three');
write_lines(grep { $used{ fingerprint($_) } } lines());
$node->safe_psql('one', 'SELECT keyrot.rotate_master_key(); SELECT keyrot.rotate_data_key()') for 1 .. 3;
$node->safe_psql('one', 'CALL keyrot.reseal()');
isnt(in_use('one'), $of_the_dump, 'its keys are rotated, and its secrets resealed');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), "$folder/one.dump" ],
	'and the dump restored beside it');
is_deeply([ wrongs('one', 'restored') ], [], 'with its line in the file, it works');
@complete = lines();
write_lines(grep { fingerprint($_) ne $of_the_dump } @complete);
is((attempts($node, 'restored', $verify))[0]{message} =~ /is wrapped by master key $of_the_dump; / ? 1 : 0,
	1, 'without, the error names the line that it takes');
write_lines(@complete);
is($node->safe_psql('restored', 'SELECT keyrot.rewrap_data_keys()'),
	'3', 'it can be wrapped by the current one');
$node->safe_psql($_, 'SELECT keyrot.rewrap_data_keys()') for 'two', 'three';
write_lines((lines())[0]);
is_deeply([ wrongs('one', 'two', 'three', 'restored') ], [], 'and then one line is enough for all');


# Prepared transactions, which outlive their session and the server

sub data_keys
{
	return $node->safe_psql('one', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM keyrot.data_key});
}

# Calls reseal() beside a prepared transaction, ends that one, and returns what is wrong then.
sub wrongs_beside_prepared
{
	my ($statement, $restart, $end) = @_;
	$node->safe_psql('one', 'CALL keyrot.reseal()');
	my $old = data_keys();
	$node->safe_psql('one', "BEGIN; $statement; PREPARE TRANSACTION 'sealed'");
	$node->restart if $restart;
	my $new = $node->safe_psql('one', 'SELECT keyrot.rotate_data_key()');
	my ($out, $err) = ('', '');
	my $run = start([ 'psql', '-XAtq', '-d', $node->connstr('one'), '-c', 'CALL keyrot.reseal()' ],
		'<', '/dev/null', '>', \$out, '2>', \$err, timeout($LIMIT));
	my @wrongs;
	wait_until(
		sub {
			return $node->safe_psql(
				'one', q{
			SELECT count(*) FROM pg_stat_activity WHERE query ~ '^CALL keyrot' AND wait_event_type = 'Lock'});
		}) or push @wrongs, 'reseal does not wait';
	push @wrongs, 'the old data key is gone too soon: ' . data_keys() if data_keys() ne "$old $new";
	$node->safe_psql('one', "$end PREPARED 'sealed'");
	finish($run) or push @wrongs, "reseal: $err";
	push @wrongs, 'data keys left: ' . data_keys() if data_keys() ne $new;
	return @wrongs, wrongs('one');
}
my $create = q{SELECT FROM keyrot.create_app('Prepared')};
is_deeply([ wrongs_beside_prepared($create, 0, 'COMMIT') ],
	[], 'reseal waits for a prepared transaction that has sealed');
is_deeply([ wrongs_beside_prepared($create, 1, 'COMMIT') ], [], 'also after a restart');
my $reset = q{SELECT keyrot.reset_app_secret('app-1', new_app_secret => 'another-secret-of-app-1')};
is_deeply([ wrongs_beside_prepared($reset, 1, 'ROLLBACK') ], [], 'and for one that is rolled back');
is( $node->safe_psql(
		'one', q{
		SELECT count(d.app_secret) - count(*) FROM keyrot.credentials AS c, keyrot.describe_app_security(c.id) AS d
		 WHERE c.kind = 'app'}),
	'0',
	'every secret opens');

# A data key and a re-wrap, prepared: in nobody's use before they are committed.
my $data_key = data_keys();
$node->safe_psql(
	'one', q{
	BEGIN; SELECT keyrot.rotate_data_key(); SELECT keyrot.rotate_master_key(); PREPARE TRANSACTION 'keys'});
$node->restart;
is_deeply([ wrongs('one', 'two') ], [], 'while new keys are prepared, secrets are sealed with the old ones');
is(data_keys(), $data_key, 'nobody sees the new data key');
$node->safe_psql('one', q{COMMIT PREPARED 'keys'});
is( data_keys() . ' ' . in_use('one'),
	$data_key . ' ' . ($data_key + 1) . ' ' . (names())[0],
	'until it is committed');
is_deeply([ wrongs('one', 'two') ], [], 'and then works');


# A standby

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
my $copy = "$folder/standby.key";
$standby->append_conf('postgresql.conf', "keyrot.master_key_file = '$copy'\n");

sub copy_key
{
	copy($path, "$copy.new") or die $!;
	chmod oct 600, "$copy.new" or die $!;
	rename "$copy.new", $copy or die $!;
	return;
}
sub replayed { return $node->wait_for_catchup($standby, 'replay', $node->lsn('write')); }
copy_key();
$standby->start;
replayed();
is($standby->safe_psql('one', $verify), 't', 'a standby verifies');

# File first, copy, then the data keys: it never notices.
my $on_standby = $standby->background_psql('one', on_error_stop => 0);
$on_standby->query($verify);
$name = $node->safe_psql('one', 'SELECT keyrot.rotate_master_key(false)');
copy_key();
$node->safe_psql('one', 'SELECT keyrot.rewrap_data_keys(); SELECT keyrot.rotate_data_key()');
$node->safe_psql('one', 'CALL keyrot.reseal()');
replayed();
is($on_standby->query($verify) . $standby->safe_psql('one', $verify),
	'tt', 'a standby that gets the file before the data keys are wrapped by it goes on');
is($standby->safe_psql('one', 'SELECT master_key, unnest(master_keys_in_use) FROM ' . $STATUS),
	"$name|$name", 'with the new key');

# Without the copy.
my $behind = $name;
$name = $node->safe_psql('one', 'SELECT keyrot.rotate_master_key()');
replayed();
is($on_standby->query($verify), 't', 'without it, a session that has the data keys goes on');
my ($cut_off) = attempts($standby, 'one', $verify);
is($cut_off->{sqlstate}, '55000', 'a new one does not');
like(
	$cut_off->{message},
	qr/^data key \d+ is wrapped by master key $name; master key file "\Q$copy\E" contains $behind/,
	'and is told which key it lacks');
like($cut_off->{hint},          qr/standby.*primary.*$name/, 'that this is a standby, and where the key is');
like(degraded($standby, 'one'), qr/wrapped by master key $name/, 'as status() tells there');
my $waiting = $standby->background_psql('one', on_error_stop => 0);
is($waiting->query($verify) // '', '', 'a session that was refused');
copy_key();
is($waiting->query($verify) . $standby->safe_psql('one', $verify),
	'tt', 'recovers when the file comes, as do new ones');
my @on_standby = attempts(
	$standby, 'one',
	'SELECT keyrot.rotate_master_key()',
	'SELECT keyrot.rewrap_data_keys()',
	'SELECT keyrot.rotate_data_key()',
	'CALL keyrot.reseal()');
is( join(' ', map { $_->{sqlstate} } @on_standby),
	'25006 25006 25006 25006',
	'keys are the primary\'s to rotate');
$_->quit for $on_standby, $waiting;

# Promoted, it is a primary as good.
$standby->promote;
$name = $standby->safe_psql('one', 'SELECT keyrot.rotate_master_key()');
is($name, fingerprint((split /\n/, slurp_file($copy))[0]), 'promoted, it rotates them');
is($standby->safe_psql('one', $verify), 't',               'and goes on');

done_testing();

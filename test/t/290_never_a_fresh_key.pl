# A cluster whose data keys came without key file and marker file, as with a standby that is older than the
# first key, or through pg_upgrade, gets no fresh master key, whichever database asks and by which call.  One
# that truly has none gets it, however many databases there are and whatever is done with them meanwhile.
#
# Why not pg_regress: it takes standbys, upgrades, databases in a bad way, and a look at the server's files.
#
# Where one version of PostgreSQL alone is at hand, it is upgraded to itself.

use strict;
use warnings FATAL => 'all';
use Cwd qw(getcwd);
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $DATABASES = 20;
my $ROUNDS    = 6;
my @OTHERS    = qw(other_1 other_2 other_3);

# The calls that make a first key in a database without one, and those that make one beside others.
my @FIRST = (
	q{SELECT FROM keyrot.create_app('App')},
	q{SELECT keyrot.create_zone_key('zone-new')},
	q{SELECT * FROM keyrot.api('CreateApp', '{"AppName": "App"}')},
	q{SELECT keyrot.rotate_master_key()},
	q{SELECT keyrot.rotate_master_key(rewrap => false)});
my @FURTHER = (
	q{SELECT FROM keyrot.create_app('App')},
	q{SELECT keyrot.rotate_master_key()},
	q{SELECT keyrot.rewrap_data_keys()},
	q{SELECT keyrot.rotate_data_key()});
my $VERIFY = q{SELECT keyrot.verify_app_string('app-1', 'm', keyrot.sign_string_for_app('app-1', 'm'))};

sub is_refused
{
	my ($try) = @_;
	return $try->{output} =~ /^500\|.*InternalError/ if $try->{statement} =~ /keyrot\.api/;
	return $try->{sqlstate} eq '55000' && $try->{message} =~ /does not exist/ && $try->{hint} =~ /Put the file back/;
}

# Calls each of them for itself, without a marker from the one before, and checks that no key file is made and
# that the cluster learns on which key it depends.
sub check_refused
{
	my ($node, $fingerprint, $what) = @_;
	my ($tried, $refused, $noted, $named) = (0, 0, 0, 0);
	for my $database ('shop', @OTHERS)
	{
		for my $call ($database eq 'shop' ? @FURTHER : @FIRST)
		{
			unlink marker_file($node);
			my ($try) = attempts($node, $database, $call);
			my @files = key_files_of($node);
			$tried++;
			$refused++ if is_refused($try) && !-e key_file($node);
			$noted++   if "@files" eq 'keyrot_master_key.marker' && noted_in($node) eq "$fingerprint\n";
			$named++   if "$try->{text}$try->{output}" =~ /database \\*"shop\\*" depends on master key $fingerprint/;
			note "$database: $call: $try->{text}$try->{output} @files" if $refused != $tried || $noted != $tried;
		}
	}
	is($refused, $tried, "$what: each of $tried calls in " . (1 + @OTHERS) . ' databases is refused');
	is($noted,   $tried, 'after each the marker names the key that the cluster depends on');
	is($named,   @OTHERS * @FIRST, "in databases without data keys the error names it and the database that does ($named times)");
	return;
}

# With the file back, everything is under one key.
sub check_goes_on
{
	my ($node, $key) = @_;
	write_key(key_file($node), $key);
	my @made = map { attempts($node, $_, $FIRST[0]) } 'shop', @OTHERS;
	my @keys = map { $node->safe_psql($_, q{SELECT DISTINCT encode(master_key, 'hex') FROM keyrot.data_key}) } 'shop', @OTHERS;
	is(join('', map { $_->{sqlstate} } @made), '', 'with the file back all ' . @made . ' databases make apps');
	is_deeply([@keys], [ (fingerprint(substr $key, 0, 64)) x @keys ], 'under that key');
	is($node->safe_psql('shop', $VERIFY), 't', 'and what was there verifies');
	return;
}

sub noted_in
{
	my ($node) = @_;
	return -e marker_file($node) ? slurp_file(marker_file($node)) : '';
}

# Makes the first key of a cluster, in one of several databases that have keyrot.
sub make_first_key
{
	my ($node) = @_;
	$node->safe_psql('shop', q{SELECT FROM keyrot.create_app('App', 'app-1')});
	return slurp_file(key_file($node));
}

sub key_of_row
{
	my ($node) = @_;
	return $node->safe_psql('shop', q{SELECT encode(master_key, 'hex') FROM keyrot.data_key});
}

# A standby that was made before the first key.
my $primary = new_server('primary', init => { allows_streaming => 1 });
add_databases($primary, 'shop', @OTHERS);
$primary->backup('before');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'before', has_streaming => 1);
$standby->start;
my $key = make_first_key($primary);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
my ($try) = attempts($standby, 'shop', $VERIFY);
is($try->{sqlstate}, '55000', 'a standby without the key file refuses to use secrets');
is_deeply([ key_files_of($standby) ], [], 'and notes nothing, which is for its primary to do');
$standby->promote;
attempts($standby, 'shop', $VERIFY);
is( noted_in($standby),
	key_of_row($standby) . "\n",
	'promoted, it notes the key that it lacks when a session verifies');
check_refused($standby, key_of_row($standby), 'a standby made before the first key, promoted');
check_goes_on($standby, $key);
$standby->stop;
$primary->stop;

# A cluster that pg_upgrade made.
SKIP:
{
	my $bindir = $primary->config_data('--bindir');
	skip "there is no pg_upgrade in $bindir", 1 unless -x "$bindir/pg_upgrade";
	my $new = new_server('upgraded');
	$new->stop;
	my $cwd = getcwd();
	chdir PostgreSQL::Test::Utils::tempdir();
	command_ok(
		[   'pg_upgrade', '--no-sync',        '-b', $bindir,        '-B', $bindir,
			'-d',         $primary->data_dir, '-D', $new->data_dir, '-s', $new->host,
			'-p',         $primary->port,     '-P', $new->port ],
		'pg_upgrade');
	chdir $cwd;
	$new->start;
	is_deeply([ key_files_of($new) ], [], 'takes neither key file nor marker');
	check_refused($new, key_of_row($new), 'a cluster made by pg_upgrade');
	check_goes_on($new, $key);
	$new->stop;
}

# Databases that are hard to look into.
my $node = new_server('single', conf => "max_prepared_transactions = 2\nmax_worker_processes = 8\n");
add_databases($node, 'shop', 'other_1');
my $marker = marker_file($node);

sub forget
{
	forget_master_key($node, 'shop', 'other_1');
	return;
}

# What is tried in a database without keys, and what is said of it.
sub refused_like
{
	my ($pattern, $what) = @_;
	my ($refusal) = attempts($node, 'other_1', $FIRST[0]);
	ok(is_refused($refusal), "$what: 55000") or diag $refusal->{text};
	like($refusal->{text}, $pattern, 'with the reason');
	ok(!-e key_file($node), 'and no key file');
	return;
}

sub is_made
{
	my ($what) = @_;
	my ($made) = attempts($node, 'other_1', $FIRST[0]);
	is($made->{text}, '', $what);
	is_deeply([ key_files_of($node) ], [ 'keyrot_master.key', 'keyrot_master_key.marker' ], 'with its marker');
	return;
}

$node->safe_psql('shop', q{BEGIN; SELECT FROM keyrot.create_app('App', 'app-1'); PREPARE TRANSACTION 'first'});
$key = slurp_file(key_file($node));
unlink key_file($node), $marker;
refused_like(qr/"shop" depends on master key @{[ fingerprint(substr $key, 0, 64) ]}/, 'a data key that is prepared');
$node->safe_psql('shop', q{COMMIT PREPARED 'first'});

unlink $marker;
$node->safe_psql('postgres', 'ALTER DATABASE shop ALLOW_CONNECTIONS false');
refused_like(qr/"shop" depends on/, 'a database that allows no connections');
unlink $marker;
$node->safe_psql('postgres', 'ALTER DATABASE shop ALLOW_CONNECTIONS true CONNECTION LIMIT 0');
refused_like(qr/"shop" depends on/, 'one with a connection limit of 0');
$node->safe_psql('postgres', 'ALTER DATABASE shop CONNECTION LIMIT -1');

# A session that has its data keys open needs no master key to read, and makes none to write.
write_key(key_file($node), $key);
my $open = $node->background_psql('shop', on_error_stop => 0);
is($open->query_safe($VERIFY), 't', 'a session that has its data keys open');
unlink key_file($node), $marker;
my $refusals = 0;
for my $call (@FURTHER[ 1 .. 3 ])
{
	unlink $marker;
	$open->query($call);
	$refusals++ if $open->{stderr} =~ /ERROR: .*does not exist/ && !-e key_file($node);
	$open->{stderr} = '';
}
is($refusals,                 3,   'is refused each of 3 calls that replace keys');
is($open->query_safe($VERIFY), 't', 'and goes on');
$open->quit;

unlink $marker;
$node->safe_psql('postgres', 'ALTER SYSTEM SET max_worker_processes = 0');
$node->restart;
refused_like(qr/no background worker.*max_worker_processes/s, 'no background worker to be had');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET max_worker_processes');
$node->restart;

# From here on, no database has a data key.
forget();
my $folder = $node->data_dir . '/base/' . $node->safe_psql('shop', 'SELECT oid FROM pg_database WHERE datname = current_database()');
rename "$folder/PG_VERSION", "$folder/PG_VERSION.away" or die $!;
refused_like(qr/"shop" could not be searched/, 'a database that is broken');
ok(!-e $marker, 'nor is anything noted');
rename "$folder/PG_VERSION.away", "$folder/PG_VERSION" or die $!;

my $locker = $node->background_psql('shop');
$locker->query_safe('BEGIN; LOCK TABLE keyrot.data_key IN ACCESS EXCLUSIVE MODE');
refused_like(qr/"shop" could not be searched/, 'a table that is locked');
($try) = attempts($node, 'other_1', "SET statement_timeout = '500ms'; $FIRST[0]");
is($try->{sqlstate}, '57014', 'waiting for it can be cancelled');
ok( $node->poll_query_until(
		'postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'keyrot look for data keys'}),
	'and leaves no worker behind');
$locker->query_safe('ROLLBACK');
$locker->quit;
is_made('then the first key is made');

forget();
$node->safe_psql('postgres', q{UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'shop'});
is_made('a database that DROP DATABASE has left behind is none');
$node->safe_psql('postgres', q{UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'shop'});

# Who makes a data key holds its table, and is in nobody's way.
forget();
$locker = $node->background_psql('shop');
$locker->query_safe('BEGIN; LOCK TABLE keyrot.data_key IN SHARE ROW EXCLUSIVE MODE');
is_made('while another session is about to make a data key in its database, the first key is made');
$locker->quit;

# Many databases, one of which an ordinary role may connect to.
forget();
$node->safe_psql('postgres', "CREATE DATABASE many_$_ TEMPLATE other_1") for 1 .. $DATABASES;
$node->safe_psql('postgres', "REVOKE CONNECT ON DATABASE many_$_ FROM PUBLIC") for 1 .. $DATABASES;
$node->safe_psql('other_1', <<'END_OF_GRANTS');
CREATE ROLE regress_creator LOGIN;
GRANT USAGE ON SCHEMA keyrot TO regress_creator;
GRANT EXECUTE ON FUNCTION keyrot.create_app TO regress_creator;
END_OF_GRANTS
my $user = $ENV{PGUSER};
$ENV{PGUSER} = 'regress_creator';
is_made("beside $DATABASES databases without data keys an ordinary role makes the first one");
if (defined $user) { $ENV{PGUSER} = $user; } else { delete $ENV{PGUSER}; }
for my $call (@FIRST[ 3, 4 ])
{
	forget();
	my ($made) = attempts($node, 'other_1', $call);
	chomp($key = slurp_file(key_file($node)));
	is($made->{output}, fingerprint($key), "so does $call");
}

# Meanwhile others come and go.
my ($made, $churned) = (0, 0);
for my $round (1 .. $ROUNDS)
{
	forget();
	my $churn = $node->background_psql('postgres', on_error_stop => 0);
	$churn->query_until(qr/begun/, "\\echo begun\n" . join '', map { "CREATE DATABASE passing TEMPLATE shop;\nDROP DATABASE passing;\n" } 1 .. 5);
	my ($result) = attempts($node, 'other_1', $FIRST[0]);
	$churn->query('SELECT 1');
	$made++ if $result->{sqlstate} eq '' && -e key_file($node);
	$churned++ if $churn->{stderr} eq '';
	note $result->{text}, $churn->{stderr} if $result->{text} || $churn->{stderr};
	$churn->quit;
}
is($made,    $ROUNDS, "$ROUNDS times the first key was made while databases were created and dropped");
is($churned, $ROUNDS, 'none of ' . $ROUNDS * 10 . ' such commands failed');

done_testing();

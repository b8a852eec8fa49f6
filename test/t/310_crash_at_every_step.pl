# Each function that replaces keys, crashed before each of its steps: the key file is whole and has every line
# that anything depends on, every secret opens, and the function can be called again.
#
# Why not pg_regress: it takes a server that is killed between two calls of the system and comes up again.
#
# Steps are the calls that change files or make them durable, WAL among them, as seen by the library that stands
# between the server and its files (fault.c).  225 does the same for the first key of a cluster.

use strict;
use warnings FATAL => 'all';
use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use Fault;
use PostgreSQL::Test::Utils;
use Test::More;

my $MOST_STEPS = 80;
my $APPS       = 4;
my $MANY_LINES = 20;

my $fault = Fault->build;
# Nobody else shall write what the armed session would write next.
my $node = new_server('steps', conf => <<'END');
restart_after_crash = on
fsync = on
autovacuum = off
checkpoint_timeout = 1h
wal_writer_delay = 10s
bgwriter_delay = 10s
keyrot.zone_rate_limit = 0
END
my $folder = PostgreSQL::Test::Utils::tempdir();
my $path   = "$folder/keyrot.key";
$node->append_conf('postgresql.conf', "keyrot.master_key_file = '$path'");
$node->reload;
add_databases($node, 'one', 'two');
$fault->watch($node->data_dir, $folder);

# Each app has a previous version in grace, and so has the zone.
my $old  = 'the-secret-that-is-in-grace';
my $new  = 'the-secret-that-is-current';
my @keys = map { ("\U$_" x 43) . '=' } 'a', 'q';
for my $database ('one', 'two')
{
	$node->safe_psql(
		$database, qq{
		SELECT FROM generate_series(1, $APPS) AS n, keyrot.create_app('App', 'app-' || n, '$old');
		SELECT keyrot.reset_app_secret('app-' || n, NULL, '$new', '1 day') FROM generate_series(1, $APPS) AS n;
		SELECT keyrot.create_zone_key('zone-1', '$keys[0]');
		SELECT keyrot.modify_zone_key('zone-1', '$keys[1]', '1 day')});
}
my $VERIFY = join ' UNION ALL ', map {
	my $secret = $_;
	map {
		my $signature = sign_text($secret, 'm');
		"SELECT keyrot.verify_app_string('app-$_', 'm', '$signature') AS good"
	} 1 .. $APPS
} $old, $new;

sub key_text { return -e $path ? slurp_file($path) : ''; }

sub lines { return split /\n/, key_text(); }

sub in_use
{
	my %names;
	for my $database ('one', 'two')
	{
		$names{$_} = 1
		  for split /\n/,
		  $node->safe_psql($database, q{SELECT encode(master_key, 'hex') FROM keyrot.data_key});
	}
	return %names;
}

# Takes out lines that nothing depends on, before there is no room for more.
sub trim_key_file
{
	return if lines() < $MANY_LINES;
	my %used  = in_use();
	my @lines = grep { $used{ fingerprint($_) } } lines();
	return write_key($path, join '', map { "$_\n" } @lines);
}

# An answer, or that there is none.
sub ask
{
	my ($database, $query) = @_;
	return eval { $node->safe_psql($database, $query) } // "an error\n";
}

# What is there after a crash, or after a call, as a list of what is wrong with it.
sub wrongs
{
	my ($lines_before, $most_lines_more) = @_;
	my $contents = key_text();
	my @lines    = lines();
	my @wrongs;
	push @wrongs, 'half a key file'     if $contents !~ /\A(?:[0-9a-f]{64}\n)+\z/;
	push @wrongs, 'a readable key file' if -e $path && ((stat $path)[2] & oct 7777) != oct 600;
	my $more = @lines - @$lines_before;
	push @wrongs, "$more lines more"    if $more < 0 || $more > $most_lines_more;
	push @wrongs, 'older lines changed' if $more >= 0 && "@lines[$more .. $#lines]" ne "@$lines_before";
	my %there = map { fingerprint($_) => 1 } @lines;

	for my $database ('one', 'two')
	{
		my ($masters, @results) = split /\n/, ask(
			$database, qq{
			SELECT string_agg(DISTINCT encode(master_key, 'hex'), ' ') FROM keyrot.data_key;
			SELECT count(*) FILTER (WHERE good) FROM ($VERIFY) AS v;
			SELECT count(*) FROM keyrot.credentials AS c, keyrot.describe_app_security(c.id) AS d
			 WHERE c.kind = 'app' AND d.app_secret = '$new' AND d.version = 2;
			SELECT secret_key = '$keys[1]' AND version = 2 FROM keyrot.describe_zone_key('zone-1');
			SELECT count(*) FROM (SELECT secret FROM keyrot.app UNION ALL SELECT previous_secret FROM keyrot.app
				UNION ALL SELECT secret FROM keyrot.zone UNION ALL SELECT previous_secret FROM keyrot.zone) AS s
			 WHERE get_byte(secret, 4) NOT IN (SELECT id FROM keyrot.data_key)});
		my $expected = join ' ', 2 * $APPS, $APPS, 't', 0;
		push @wrongs, "$database: @results instead of $expected" if "@results" ne $expected;
		push @wrongs, map { "no line of master key $_ that is in use" } grep { !$there{$_} } split / /,
		  $masters;
	}
	return @wrongs;
}

# Who belongs to the server's present life.
my $CHECKPOINTER = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
my $checkpointer;

# Waits for the next one.  The server may take a moment to notice that one of its processes was killed.
sub come_back
{
	wait_until(
		sub {
			my $now = eval { $node->safe_psql('postgres', $CHECKPOINTER) } // '';
			return $now ne '' && $now ne $checkpointer;
		}) or BAIL_OUT('the server does not come back');
	return;
}

# The library is loaded and data keys are at hand, so that there are no steps but the function's.
my $WARM_UP = q{
	SELECT pg_backend_pid() FROM } . $STATUS . q{ WHERE keyrot.verify_app_string('app-1', 'm', '') IS NOT NULL};

sub prepare
{
	my ($function) = @_;
	trim_key_file();
	$node->safe_psql('one', $function->{before}) if $function->{before};
	return;
}

# Calls a function in a session of database "one" that is armed, and tells whether it lived to say so.
sub call_armed
{
	my ($function, @order) = @_;
	my $session = $node->background_psql('one', on_error_stop => 0);
	my $pid     = $session->query_safe($WARM_UP);
	$checkpointer = $session->query_safe($CHECKPOINTER);
	$fault->arm($pid, @order);
	my $lived = eval { $session->query("$function->{call};\nSELECT 'alive'") =~ /alive/ };
	$fault->disarm;
	eval { $session->quit };
	return $lived // 0;
}

my $RESEALED = q{
	SELECT count(DISTINCT get_byte(secret, 4)), (SELECT count(*) FROM keyrot.data_key) FROM
		(SELECT secret FROM keyrot.app UNION ALL SELECT previous_secret FROM keyrot.app
		 UNION ALL SELECT secret FROM keyrot.zone UNION ALL SELECT previous_secret FROM keyrot.zone) AS s};
my $REWRAPPED = q{
	SELECT count(*) FROM keyrot.data_key AS k, } . $STATUS . q{ WHERE encode(k.master_key, 'hex') <> status.master_key};
my @functions = (
	{
		name  => 'rotate_master_key()',
		call  => 'SELECT keyrot.rotate_master_key()',
		lines => 1,
		check => [ $REWRAPPED, '0' ]
	},
	{
		name   => 'rewrap_data_keys()',
		before => 'SELECT keyrot.rotate_master_key(rewrap => false)',
		call   => 'SELECT keyrot.rewrap_data_keys()',
		lines  => 0,
		check  => [ $REWRAPPED, '0' ]
	},
	{
		name  => 'rotate_data_key()',
		call  => 'SELECT keyrot.rotate_data_key()',
		lines => 0,
		check => [ 'SELECT count(*) > 1 FROM keyrot.data_key', 't' ]
	},
	{
		name   => 'reseal(2)',
		before => 'SELECT keyrot.rotate_data_key()',
		call   => 'CALL keyrot.reseal(2)',
		lines  => 0,
		check  => [ $RESEALED, '1|1' ]
	});

my ($all_killed, $all_torn) = (0, 0);
for my $function (@functions)
{
	my $name = $function->{name};
	prepare($function);
	ok(call_armed($function), "$name: a session whose steps are counted goes on");
	my @steps = $fault->steps;
	$function->{steps} = [ map { "$_->{call} $_->{path}" . ($_->{new_path} && " $_->{new_path}") } @steps ];
	s/\d{10,}\.tmp/N.tmp/g, s/\Q@{[ abs_path($folder) ]}\E/F/g, s/\Q@{[ abs_path($node->data_dir) ]}/D/g,
	  s/[0-9A-F]{24}/SEGMENT/
	  for @{ $function->{steps} };

	my ($killed, $torn, @found) = (0, 0);
	for my $step (1 .. $MOST_STEPS)
	{
		my @orders = ([$step]);
		while (my $order = shift @orders)
		{
			prepare($function);
			my @lines = lines();
			last if call_armed($function, @$order);
			come_back();
			my ($last) = reverse $fault->steps;
			my $where = ($order->[1] // 'kill') . " at step $step, $last->{call} $last->{path}";
			if   (@$order == 1) { $killed++; }
			else                { $torn++; }

			# Where it writes a file of keys, also in the middle of that.
			push @orders, [ $step, 'tear' ] if @$order == 1 && $last->{length} && $last->{path} =~ /\.tmp$/;
			push @found,  map { "$where: $_" } wrongs(\@lines, $function->{lines});
			@lines = lines();
			my ($again) = attempts($node, 'one', $function->{call});
			push @found, "$where: the next call: $again->{text}" if $again->{sqlstate};
			push @found, map { "$where, after the next call: $_" } wrongs(\@lines, $function->{lines});
			my ($query, $answer) = @{ $function->{check} };
			my $done = ask('one', $query);
			push @found, "$where: the next call has not done its work: $done" if $done ne $answer;
			my @left = grep { /tmp/ } key_files_of($folder), key_files_of($node);
			push @found, "$where: left over: @left" if @left;
			last if @found;
		}
		last if $killed < $step || @found;
	}
	cmp_ok($killed, '>=', @steps - 2,
		"$name: killed before each of $killed steps, and within each of $torn that write keys");
	is_deeply(\@found, [],
		"$name: nothing is lost, nothing is there by halves, and the next call does its work");
	$all_killed += $killed;
	$all_torn   += $torn;
}

# The order of the steps that make things durable.
my %steps = map { $_->{name} => $_->{steps} } @functions;

# Those of the wanted steps that do not come, each after the one before it.
sub out_of_order
{
	my ($name, @wanted) = @_;
	for my $step (@{ $steps{$name} })
	{
		shift @wanted if @wanted && $step =~ $wanted[0];
	}
	diag "$name:\n", map { "$_\n" } @{ $steps{$name} } if @wanted;
	return @wanted;
}
my @line_is_durable = (
	qr/^write F\/keyrot.key.N.tmp$/,
	qr/^fsync F\/keyrot.key.N.tmp$/,
	qr/^rename F\/keyrot.key.N.tmp F\/keyrot.key$/,
	qr/^fsync F$/);
my @commit = (qr/^pwrite D\/pg_wal/, qr/^fdatasync D\/pg_wal/);
is_deeply([ out_of_order('rotate_master_key()', @line_is_durable, @commit) ],
	[], 'rotate_master_key() makes the file durable, then the re-wrap');
is_deeply(
	[
		out_of_order(
			'rewrap_data_keys()', qr/^fsync F\/keyrot.key$/,
			qr/^fsync F$/, @commit)
	],
	[],
	'rewrap_data_keys() makes sure of the file, too, whoever has put the line there');
for my $name ('rotate_master_key()', 'rewrap_data_keys()')
{
	my ($wal) = grep { $steps{$name}[$_] =~ /pg_wal/ } 0 .. $#{ $steps{$name} };
	my @late = grep { /^(?!unlink)\w+ (?:F|D\/keyrot|D$)/ } @{ $steps{$name} }[ $wal .. $#{ $steps{$name} } ];
	is_deeply(\@late, [], "$name writes no WAL before that");
}
for my $function (@functions)
{
	my $last = $function->{steps}[-1] // '';
	like($last, qr/^fdatasync D\/pg_wal/, "$function->{name} ends with what makes its commit durable");
}
note join "\n", "$_->{name}:", @{ $_->{steps} } for @functions;
note "$all_killed steps killed before, $all_torn writes torn";

done_testing();

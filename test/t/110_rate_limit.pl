# The rate limit across sessions: exact both ways where the library is preloaded, and per session elsewhere.
#
# Why not pg_regress: it takes several sessions at once, roles that log in with settings of their own, and a
# server that is started with the library and with a small table.
#
# How the exactness is tested without trusting the machine's speed: a call is admitted or refused at some
# moment between the clock before it and the clock after it, both on record.  Then
#   too many   N + 1 admitted calls, the first begun and the last ended within less than a second, are one
#              admission too many, whenever they were decided in between;
#   too few    a refusal is wrong where fewer than N admitted calls may have been decided in the second
#              before it, which is: ended after its begin less a second, and begun before its end.
# A slow machine widens the intervals and so finds less, but never what is not there.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $SECONDS = 3.5;
my $ENTRIES = 16;
my $SECOND = 1_000_000;    # in microseconds

my $node = new_server('limited', conf => <<END);
max_connections = 40
keyrot.zone_rate_limit = 20
keyrot.rate_limit_entries = $ENTRIES
END
add_databases($node, 'served', 'other');

$node->safe_psql('postgres', q{
	CREATE ROLE regress_callers;
	CREATE ROLE regress_anna LOGIN IN ROLE regress_callers;
	CREATE ROLE regress_bert LOGIN IN ROLE regress_callers, regress_anna;
	CREATE ROLE regress_tuned LOGIN IN ROLE regress_callers;
	CREATE ROLE regress_fast LOGIN IN ROLE regress_callers;
	ALTER ROLE regress_tuned SET keyrot.zone_rate_limit = 3;
	ALTER ROLE regress_fast SET keyrot.zone_rate_limit = 1000;
});
$node->safe_psql($_, <<'END') for qw(served other);
GRANT USAGE ON SCHEMA keyrot TO regress_callers;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA keyrot TO regress_callers;
SELECT keyrot.create_zone_key('zone-1'), keyrot.set_zone_owner('zone-1', 'regress_callers');
CREATE TABLE public.call (session_user_name text, caller text, function text, pid integer, per_second integer,
                          begun timestamptz, ended timestamptz, state text, said text);
GRANT INSERT ON public.call TO regress_callers;

-- One call, and the record of it.  It is undone at once, so that no session waits long for another's lock.
CREATE FUNCTION public.call(function text, zone_id text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    begun timestamptz := clock_timestamp();
    ended timestamptz;
    state text;
    message text;
    hint text;
BEGIN
    BEGIN
        EXECUTE format('SELECT keyrot.%I(%L)', function, zone_id);
        RAISE SQLSTATE 'UNDO0';
    EXCEPTION WHEN OTHERS THEN
        ended := clock_timestamp();
        GET STACKED DIAGNOSTICS
            state := RETURNED_SQLSTATE,
            message := MESSAGE_TEXT,
            hint := PG_EXCEPTION_HINT;
    END;
    INSERT INTO public.call
    VALUES (session_user, current_user, function, pg_backend_pid(),
            current_setting('keyrot.zone_rate_limit')::integer, begun, ended, state, message || '|' || hint);
    RETURN state;
END $$;

-- Calls, with short rests, until the time is over and some calls were refused.
CREATE PROCEDURE public.hammer(function text, zone_id text, until timestamptz, refusals integer, rest float8)
LANGUAGE plpgsql AS $$
DECLARE
    refused integer := 0;
BEGIN
    WHILE clock_timestamp() < until OR refused < refusals LOOP
        IF public.call(function, zone_id) = '53400' THEN
            refused := refused + 1;
        END IF;
        COMMIT;
        PERFORM pg_sleep(rest);
    END LOOP;
END $$;

-- Calls as one caller after the other, all within a second, after a second without any; once more where it
-- took longer.
CREATE FUNCTION public.calls(callers text[], zone_ids text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    started timestamptz;
    states text[];
BEGIN
    FOR attempt IN 1 .. 30 LOOP
        PERFORM pg_sleep(1);
        states := '{}';
        started := clock_timestamp();
        FOR i IN 1 .. cardinality(callers) LOOP
            PERFORM set_config('role', callers[i], true);
            states := states || public.call('refresh_zone_key', zone_ids[i]);
        END LOOP;
        PERFORM set_config('role', 'none', true);
        IF clock_timestamp() < started + interval '1 s' THEN
            RETURN array_to_string(states, ' ');
        END IF;
    END LOOP;
    RAISE 'these calls take more than a second';
END $$;
END

# Sessions that call at once: database, user, role to set, function, ZoneId, rest, refusals to wait for.
my @SESSIONS = (
	(map { [ 'served', 'regress_anna', 'none', 'describe_zone_key', 'zone-1', 0.002, 20 ] } 1 .. 3),
	(map { [ 'served', 'regress_anna', 'none', 'refresh_zone_key', 'zone-1', 0.005, 20 ] } 1 .. 2),
	[ 'served', 'regress_bert', 'regress_anna', 'describe_zone_key', 'zone-1', 0.01, 20 ],
	[ 'served', 'regress_anna', 'regress_callers', 'describe_zone_key', 'zone-1', 0.01, 20 ],
	[ 'other', 'regress_anna', 'none', 'describe_zone_key', 'zone-1', 0.01, 20 ],
	(map { [ 'served', 'regress_tuned', 'none', 'describe_zone_key', 'zone-1', 0.01, 20 ] } 1 .. 2),
	# As fast as they can: more often than the largest limit allows, where the machine is good for it.
	(map { [ 'served', 'regress_fast', 'none', 'describe_zone_key', 'zone-unknown', 0, 0 ] } 1 .. 2));

sub hammer
{
	my @running;
	$node->safe_psql($_, 'TRUNCATE public.call') for qw(served other);
	for my $session (@SESSIONS)
	{
		my ($database, $user, $role, $function, $zone_id, $rest, $refusals) = @$session;
		my %io = (errors => '', output => '');
		# The statements are arguments: an input would not be sent before the session is waited for.
		$io{run} = IPC::Run::start(
			[
				'psql', '-XqAt', '-d', $node->connstr($database) . " user=$user",
				'-c', "SET ROLE $role",
				'-c', "CALL public.hammer('$function', '$zone_id', clock_timestamp() + '$SECONDS s', $refusals, $rest)"
			],
			'<', \undef, '>', \$io{output}, '2>', \$io{errors},
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
		push @running, \%io;
	}
	$_->{run}->finish for @running;
	is(join('', map { $_->{errors} } @running), '', 'all sessions call at once');
	return;
}

# What a session with these connection parameters is told: output, errors.
sub as_user
{
	my ($parameters, $sql) = @_;
	my ($output, $errors) = ('', '');
	$node->psql(
		'served', $sql,
		connstr => $node->connstr('served') . " $parameters",
		stdout => \$output,
		stderr => \$errors,
		timeout => $PostgreSQL::Test::Utils::timeout_default);
	return ($output, $errors);
}

# How many of the sorted numbers are less than the bound.
sub count_below
{
	my ($numbers, $bound) = @_;
	my ($low, $high) = (0, scalar @$numbers);
	while ($low < $high)
	{
		my $middle = int(($low + $high) / 2);
		if ($numbers->[$middle] < $bound) { $low = $middle + 1; }
		else { $high = $middle; }
	}
	return $low;
}

# Holds calls that share one limit against the rule.  The clock rounds its microseconds down.
sub judge_limit
{
	my ($name, $calls) = @_;
	my @admitted = grep { $_->{state} =~ /^(?:UNDO0|P0002)$/ } @$calls;
	my @refused = grep { $_->{state} eq '53400' } @$calls;
	my @begun = sort { $a <=> $b } map { $_->{begun} } @admitted;
	my @ended = sort { $a <=> $b } map { $_->{ended} } @admitted;

	# Those that ended before the second was over, less all that began before it did.
	my @too_many = grep {
		count_below(\@ended, $_->{begun} + $SECOND) - count_below(\@begun, $_->{begun}) > $_->{per_second}
	} @admitted;
	# Those that began before the refusal ended, less all that ended more than a second before it began.
	my @too_few = grep {
		count_below(\@begun, $_->{ended} + 1) - count_below(\@ended, $_->{begun} - $SECOND) < $_->{per_second}
	} @refused;
	note(sprintf '%s: %d admitted, %d refused', $name, scalar @admitted, scalar @refused);
	is(@admitted + @refused, @$calls, "$name: each call is admitted, or refused by the limit");
	is(scalar @too_many, 0, "$name: no second holds more than N admissions");
	is(scalar @too_few, 0, "$name: no call is refused without N admissions in the second before it");
	return;
}

# Judges all that was recorded.  Calls that agree in these columns share a limit; returns how many limits.
sub judge
{
	my ($columns) = @_;
	my %limits;
	for my $database (qw(served other))
	{
		my $rows = $node->safe_psql($database, qq{
			SELECT concat_ws(' ', '$database', $columns), per_second, state,
			       (extract(epoch FROM begun) * $SECOND)::bigint, (extract(epoch FROM ended) * $SECOND)::bigint
			  FROM public.call});
		for my $row (split /\n/, $rows)
		{
			my ($limit, %call);
			($limit, @call{qw(per_second state begun ended)}) = split /\|/, $row;
			push @{ $limits{$limit} }, \%call;
		}
	}
	judge_limit($_, $limits{$_}) for sort keys %limits;
	return scalar keys %limits;
}

# A list as an SQL array.
sub array { return 'ARRAY[' . join(', ', map { "'$_'" } @_) . ']'; }

my $CALLER = 'session_user_name, caller, function';
my $PER_SESSION = q{SELECT array_to_string(problems, ' ') ~ 'rate limits hold per session' FROM } . $STATUS;
my $OVERFLOWS = 'SELECT limit_overflows FROM ' . $STATUS;
my $TABLE_SIZE = q{SELECT setting, context FROM pg_settings WHERE name = 'keyrot.rate_limit_entries'};


# Not preloaded: each session for itself.

is($node->safe_psql('served', $PER_SESSION), 't', 'without preloading, status() tells that limits hold per session');
is(join('/', as_user('', "LOAD 'keyrot'; $TABLE_SIZE")), "$ENTRIES|sighup/", 'the size of the table is accepted without a word');
hammer();
is(judge("$CALLER, pid"), scalar @SESSIONS, 'each session has a limit of its own');

# Before the library is loaded anybody may give the settings' names a value.
my $describe = q{SELECT FROM keyrot.describe_zone_key('zone-1');};
my $show = 'SHOW keyrot.zone_rate_limit;';
is((as_user('user=regress_tuned', "SET client_min_messages = error; SET keyrot.zone_rate_limit = 0; $describe $show"))[0], 3,
	'what a session sets before does not hold');
for my $setting (qw(keyrot.zone_rate_limit KEYROT.Zone_Rate_Limit keyrot.max_grace))
{
	my ($shown, $refusal) = as_user("user=regress_tuned options='-c $setting=0'", "$describe $show");
	like("$shown/$refusal", qr{\A/.*permission denied to set parameter "$setting"}i, "nor is $setting lifted by the connection's options");
}
like((as_user("options='-c keyrot.master_key_file=/elsewhere'", $describe))[1], qr/"keyrot.master_key_file" cannot be set/,
	'a setting of the server comes from no connection, not even a superuser\'s');
$node->safe_psql('postgres', 'ALTER DATABASE served SET keyrot.master_key_file = \'/elsewhere\'');
like((as_user('', $describe))[1], qr/"keyrot.master_key_file" cannot be set/, 'nor from a database');
$node->safe_psql('postgres', 'ALTER DATABASE served RESET keyrot.master_key_file');
$node->safe_psql('postgres', 'GRANT SET ON PARAMETER keyrot.zone_rate_limit TO regress_tuned');
is(join('/', as_user("user=regress_tuned options='-c keyrot.zone_rate_limit=5'", "$describe $show")), '5/',
	'except by a role with the right to');
$node->safe_psql('postgres', 'REVOKE SET ON PARAMETER keyrot.zone_rate_limit FROM regress_tuned');
is((as_user("options='-c keyrot.zone_rate_limit=5'", "$describe $show"))[0], 5, 'or a superuser');


# Preloaded: all sessions together.

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'keyrot'");
$node->restart;
is($node->safe_psql('served', $PER_SESSION), 'f', 'preloaded, status() tells nothing of that');
is($node->safe_psql('served', $TABLE_SIZE), "$ENTRIES|postmaster", 'the size of the table is fixed at the start');
hammer();
is(judge($CALLER), 7, 'the sessions of a database, session user, caller and function have one limit together');

my (undef, $refusal) = as_user("user=regress_tuned options='-c keyrot.zone_rate_limit=0'", 'SELECT 1');
like($refusal, qr/permission denied to set parameter "keyrot.zone_rate_limit"/, 'no caller lifts it with the options of the connection');


# A refusal waits for no row's lock.

my $holder = $node->background_psql('served');
$holder->query_safe(q{BEGIN; SELECT FROM keyrot.zone WHERE zone_id = 'zone-1' FOR UPDATE});
my $calls = join ', ', array(('none') x 5), array(('zone-unknown') x 2, ('zone-1') x 3);
my ($states) = as_user("user=regress_tuned options='-c lock_timeout=50ms'", "SELECT public.calls($calls)");
is($states, 'P0002 P0002 55P03 53400 53400', 'a refused call does not wait for a row that another session has locked');
$holder->query_safe('ROLLBACK');
$holder->quit;


# More callers than the table has entries.

my @crowd = map { "regress_crowd_$_" } 1 .. $ENTRIES + 4;
$node->safe_psql('served', "CREATE ROLE $_ IN ROLE regress_callers") for @crowd;
$node->safe_psql('served', 'TRUNCATE public.call');
is($node->safe_psql('served', $OVERFLOWS), 0, 'so far, no call was refused for want of an entry');
$calls = join ', ', array(@crowd, $crowd[0]), array(('zone-1') x (@crowd + 1));
is( $node->safe_psql('served', "SELECT public.calls($calls)"),
	join(' ', ('UNDO0') x $ENTRIES, ('53400') x 4, 'UNDO0'),
	'where no entry is idle, a caller without one is refused, one that has one is not');
is( $node->safe_psql('served', $OVERFLOWS),
	$node->safe_psql('served', q{SELECT count(*) FROM public.call WHERE state = '53400'}),
	'status() has counted the refused');
is( $node->safe_psql('served', q{
		SELECT DISTINCT regexp_replace(said, '[0-9]+\.[0-9]{3} ms', 'T ms') FROM public.call WHERE state = '53400'}),
	'too many requests: no room to count this call of refresh_zone_key|Try again in T ms.',
	'the error says why, and when to come again');
$calls = join ', ', array((reverse @crowd)[ 0 .. $ENTRIES - 1 ]), array(('zone-1') x $ENTRIES);
is($node->safe_psql('served', "SELECT public.calls($calls)"), join(' ', ('UNDO0') x $ENTRIES),
	'entries that were idle for a second serve other callers');

done_testing();

# A streaming standby: what works there, what is refused, that a rotation takes effect there once it is
# replayed; and parallel workers, here and there, who open the keys for themselves.
#
# Why not pg_regress: it takes a second server in recovery.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Nothing is vacuumed away under a transaction on the standby, which would have to be cancelled then.
my $primary = new_server(
	'primary',
	init => { allows_streaming => 1 },
	conf => "autovacuum = off\nhot_standby_feedback = on\n");
add_databases($primary, 'served');
my ($old, $new) = ('the-old-secret-of-app-1', 'the-new-secret-of-app-1');
$primary->safe_psql('served', <<"END");
SELECT FROM keyrot.create_app('App', 'app-1', '$old');
SELECT FROM keyrot.create_app('Renamed', 'app-2', '$old');
SELECT FROM keyrot.create_zone_key('zone-1');
SELECT FROM keyrot.add_gateway('zone-1', 'gate-1');
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA keyrot TO regress_reader;
GRANT EXECUTE ON FUNCTION keyrot.verify_app_string TO regress_reader;
GRANT SELECT ON keyrot.credentials, keyrot.gateways, keyrot.requests TO regress_reader;
END
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
is((stat $primary->backup_dir . '/copy/keyrot_master.key')[2] & oct(7777),
	oct(600), 'a base backup keeps the mode of the key file');

# The copy of the backup that this server was made from does not.
chmod oct(600), key_file($standby) or die $!;
$standby->start;

sub replayed
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
	return;
}

sub zone_key
{
	return $primary->safe_psql('served', q{SELECT secret_key FROM keyrot.describe_zone_key('zone-1')});
}

my $path = key_file($standby);
replayed();
is( slurp_file($path),
	slurp_file(key_file($primary)),
	'a base backup brings the key file, where it is in the data directory');

# Verification in every form, against signatures made here.
my ($app, $old_app) = map { sign_text($_, 'm') } $new, $old;
my $zone = sign_text(zone_key(), 'm');

sub forms
{
	my ($app_signature, $zone_signature) = @_;
	return (
		qq{keyrot.verify_app_string('app-1', 'm', '$app_signature')},
		qq{keyrot.verify_app_signature('app-1', 'm', decode('$app_signature', 'base64'))},
		qq{keyrot.verify_zone_string('zone-1', 'm', '$zone_signature')},
		qq{keyrot.verify_zone_signature('zone-1', 'm', decode('$zone_signature', 'base64'))},
		qq{keyrot.verify_gateway_string('zone-1', 'gate-1', 'm', '$zone_signature')},
		qq{keyrot.verify_gateway_signature('zone-1', 'gate-1', 'm', decode('$zone_signature', 'base64'))},
		qq{(SELECT valid FROM keyrot.check_gateway_string('zone-1', 'gate-1', 'm', '$zone_signature'))});
}

sub all_forms { return 'SELECT ' . join ', ', forms(@_); }

my $old_forms = all_forms($old_app, $zone);
is($standby->safe_psql('served', $old_forms),
	't|t|t|t|t|t|t', 'every form of verification works on the standby');
is( $standby->safe_psql(
		'served', q{
		SELECT keyrot.verify_app_string('app-unknown', 'm', 's'), keyrot.verify_app_string(' ', 'm', 's'),
		       keyrot.verify_zone_string('zone-unknown', 'm', 's'),
		       keyrot.verify_gateway_string('zone-1', 'gate-unknown', 'm', 's')}
	),
	'f|f|f|f',
	'also of what is unknown');
is( $standby->safe_psql(
		'served', q{
		SELECT keyrot.sign_string_for_app('app-1', 'm'), encode(keyrot.sign_for_app('app-1', 'm'), 'base64'),
		       keyrot.sign_string_for_zone('zone-1', 'm'), encode(keyrot.sign_for_zone('zone-1', 'm'), 'base64')}),
	"$old_app|$old_app|$zone|$zone",
	'signing works');
is( $standby->safe_psql(
		'served', q{
		SELECT reason, version, c.claims, keyrot.verify_gateway_token('zone-1', 'gate-1', token)
		  FROM keyrot.sign_token_for_zone('zone-1', '{"exp": 4102444800}') AS token,
		       LATERAL keyrot.check_gateway_token('zone-1', 'gate-1', token) AS c}),
	'ok|1|{"exp": 4102444800}|t',
	'tokens, too');
my $views = q{
	SELECT * FROM (SELECT kind, id, state, version, modified_at FROM keyrot.credentials ORDER BY id) AS c;
	SELECT * FROM keyrot.gateways;
	SELECT * FROM keyrot.requests ORDER BY request_id;};
is( $standby->safe_psql('served', $views),
	$primary->safe_psql('served', $views),
	'the views tell the same as on the primary');
is( $standby->safe_psql('served', q{SELECT data_keys, master_key FROM } . $STATUS),
	'1|' . fingerprint(substr slurp_file($path), 0, 64),
	'status() works');
is( $standby->safe_psql(
		'served', q{SELECT coalesce(labels ->> 'item', name) AS what FROM keyrot.metrics
		 WHERE value = 1 AND name IN ('keyrot_in_recovery', 'keyrot_status_problem') ORDER BY 1}),
	$standby->safe_psql('served', q{SELECT item FROM keyrot.status() WHERE problem IS NOT NULL UNION SELECT 'keyrot_in_recovery' ORDER BY 1}),
	'so do the metrics');
my $reader = qq{
	SET ROLE regress_reader;
	SELECT (SELECT count(*) FROM keyrot.credentials), keyrot.verify_app_string('app-1', 'm', '$old_app')};
is($standby->safe_psql('served', $reader), '0|t', "an ordinary role's rights hold there");

# Every request needs to be recorded, which a standby cannot do.
my %call = (
	create_app            => q{create_app('App')},
	reset_app_secret      => q{reset_app_secret('app-1')},
	describe_app_security => q{describe_app_security('app-1')},
	modify_app            => q{modify_app('app-1', 'Another')},
	set_app_owner         => q{set_app_owner('app-1', 'pg_monitor')},
	delete_app            => q{delete_app('app-1')},
	end_app_grace         => q{end_app_grace('app-1')},
	revert_app_secret     => q{revert_app_secret('app-1')},
	disable_app           => q{disable_app('app-1')},
	enable_app            => q{enable_app('app-1')},
	set_app_policy        => q{set_app_policy('app-1')},
	list_apps             => q{list_apps()},
	find_secret           => q{find_secret('secret-number-1-of-app')},
	create_zone_key       => q{create_zone_key('zone-2')},
	refresh_zone_key      => q{refresh_zone_key('zone-1')},
	modify_zone_key       => q{modify_zone_key('zone-1', 'bm90IGEgc2VjcmV0IGF0IGFsbCwganVzdCAzMiBieXQ=')},
	describe_zone_key     => q{describe_zone_key('zone-1')},
	set_zone_owner        => q{set_zone_owner('zone-1', 'pg_monitor')},
	delete_zone_key       => q{delete_zone_key('zone-1')},
	end_zone_grace        => q{end_zone_grace('zone-1')},
	revert_zone_key       => q{revert_zone_key('zone-1')},
	disable_zone          => q{disable_zone('zone-1')},
	enable_zone           => q{enable_zone('zone-1')},
	set_zone_policy       => q{set_zone_policy('zone-1')},
	add_gateway           => q{add_gateway('zone-1')},
	api                   => q{api('NoSuchAction')},
	remove_gateway        => q{remove_gateway('zone-1', 'gate-1')},
	rotate_due            => q{rotate_due('0')},
	rebind_owners         => q{rebind_owners()},
	prune_requests        => q{prune_requests('1 day')},
	create_master_key     => q{create_master_key()},
	rotate_master_key     => q{rotate_master_key()},
	rewrap_data_keys      => q{rewrap_data_keys()},
	rotate_data_key       => q{rotate_data_key()});
my @functions = split /\n/, $standby->safe_psql(
	'served', q{
	SELECT proname FROM pg_proc WHERE pronamespace = 'keyrot'::regnamespace
	   AND proname !~ '^(verify|sign|check)_' AND prokind = 'f'
	   AND proname NOT IN ('status', 'read_metrics', 'has_rights_of', 'running_work', 'changes', 'request_id_at', 'request_time',
	     'distribute', 'read_distributed', 'node_problem')
	 ORDER BY proname COLLATE "C"}
);
is_deeply([ sort keys %call ], \@functions, 'every request is known here');
my @refused = attempts($standby, 'served', map { "SELECT * FROM keyrot.$call{$_}" } @functions);
my ($read_only, @refused_on_primary) = attempts(
	$primary, 'served',
	'SET default_transaction_read_only = on',
	map { "SELECT * FROM keyrot.$call{$_}" } @functions);
for my $i (0 .. $#functions)
{
	like(
		"$refused[$i]{sqlstate} $refused[$i]{context}",
		qr/^25006 keyrot request $REQUEST_ID: $functions[$i]/,
		"$functions[$i] gives 25006 on a standby");
	is("$refused_on_primary[$i]{sqlstate}", '25006', 'and in a read-only transaction');
}
my @key_administration = (
	'SELECT keyrot.rotate_master_key()',
	'SELECT keyrot.rewrap_data_keys()',
	'SELECT keyrot.rotate_data_key()',
	'CALL keyrot.reseal()',
	'CALL keyrot.reset_apps(all_owners => true)',
	'CALL keyrot.refresh_zones(all_owners => true)');
is( join(' ', map { $_->{sqlstate} } attempts($standby, 'served', @key_administration)),
	'25006 25006 25006 25006 25006 25006',
	'no key is replaced on a standby');
is( join(' ', map { $_->{sqlstate} }
		  attempts($primary, 'served', 'SET default_transaction_read_only = on', @key_administration)),
	' 25006 25006 25006 25006 25006 25006',
	'nor in a read-only transaction');
is($standby->safe_psql('served', $views), $primary->safe_psql('served', $views), 'nothing came of it');

# Rotations take effect by replay: in a session that has the keys open, and in a new one.
my $session = $standby->background_psql('served');
is($session->query_safe($old_forms), 't|t|t|t|t|t|t', 'a session on the standby has the keys open');
$primary->safe_psql(
	'served', qq{
	SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => '$new');
	SELECT FROM keyrot.reset_app_secret('app-2', 'app-2-new', '$new', '1 day');
	SELECT FROM keyrot.refresh_zone_key('zone-1');});
my $new_forms = all_forms($app, sign_text(zone_key(), 'm'));
replayed();
is($session->query_safe($old_forms),          'f|f|f|f|f|f|f', 'after replay the old credentials are refused');
is($session->query_safe($new_forms),          't|t|t|t|t|t|t', 'and the new ones accepted');
is($standby->safe_psql('served', $old_forms), 'f|f|f|f|f|f|f', 'so they are in a new session');
is($standby->safe_psql('served', $new_forms), 't|t|t|t|t|t|t', 'both of them');
my $renamed = qq{
	SELECT keyrot.verify_app_string('app-2', 'm', '$old_app'), keyrot.verify_app_string('app-2-new', 'm', '$app'),
	       keyrot.verify_app_string('app-2', 'm', '$app'), keyrot.verify_app_string('app-2-new', 'm', '$old_app')};
is($session->query_safe($renamed), 't|t|f|f', 'a grace period holds there, too');
$primary->safe_psql('served', q{SELECT FROM keyrot.end_app_grace('app-2-new')});
replayed();
is($session->query_safe($renamed), 'f|t|f|f', 'until it is ended');

# So do switches, and a lifetime, which ends there by the standby's own clock.
$primary->safe_psql('served', q{SELECT FROM keyrot.disable_app('app-2-new')});
replayed();
is($session->query_safe($renamed), 'f|f|f|f', 'a disabled app is refused');
$primary->safe_psql('served', q{
	SELECT FROM keyrot.enable_app('app-2-new');
	SELECT keyrot.set_app_policy('app-2-new', lifetime => clock_timestamp() - modified_at + '3 s')
	  FROM keyrot.credentials WHERE id = 'app-2-new';});
replayed();
is($session->query_safe($renamed), 'f|t|f|f', 'an enabled one is accepted, within its lifetime');
$session->query_safe(q{SELECT pg_sleep(extract(epoch FROM valid_until - clock_timestamp())) FROM keyrot.credentials WHERE id = 'app-2-new'});
is($session->query_safe($renamed), 'f|f|f|f', 'and refused when that is over, though nothing was replayed');
is($session->query_safe(q{SELECT state FROM keyrot.credentials WHERE id = 'app-2-new'}), 'expired', 'as the view says');

# REPEATABLE READ keeps to its snapshot.
$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; $new_forms");
$primary->safe_psql('served',
	q{
	SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => 'yet-another-secret');
	SELECT FROM keyrot.refresh_zone_key('zone-1')}
);
replayed();
is($session->query_safe($new_forms), 't|t|t|t|t|t|t', 'a transaction that began before keeps its view');
$session->query_safe('COMMIT');
is($session->query_safe($new_forms), 'f|f|f|f|f|f|f', 'the next one does not');
$session->quit;

# The first data key of a database arrives while a session looks on.
$primary->safe_psql('postgres', 'CREATE DATABASE young');
$primary->safe_psql('young',    'CREATE EXTENSION keyrot');
replayed();
my $young = $standby->background_psql('young');
my $first = qq{SELECT keyrot.verify_app_string('app-1', 'm', '$old_app')};
is($young->query_safe($first), 'f', 'without any credential verification is false');
$primary->safe_psql('young', "SELECT FROM keyrot.create_app('First', 'app-1', '$old')");
replayed();
is($young->query_safe($first), 't', 'and true once the first has come');
$young->quit;

# Parallel query: the workers open the keys for themselves, here and there.
$primary->safe_psql(
	'served', qq{
	SELECT FROM keyrot.create_app('Parallel', 'app-3', '$old');
	CREATE TABLE signed WITH (parallel_workers = 2) AS
		SELECT 'm' || i AS message, keyrot.sign_string_for_app('app-3', 'm' || i + i % 2) AS signature
		  FROM generate_series(1, 4000) AS i;
	ANALYZE signed;});
replayed();
my $all_sound = q{SELECT keyrot.verify_app_string('app-3', 'm', '} . $old_app . q{');};
my $parallel  = q{
	SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off;};
my $count =
  q{SELECT count(*) FILTER (WHERE keyrot.verify_app_string('app-3', message, signature)), count(*) FROM signed};
my $forced = q{
	SET debug_parallel_query = on;
	SELECT keyrot.verify_app_string('app-3', message, signature) FROM signed WHERE message = 'm2';};
$forced =~ s/debug_parallel_query/force_parallel_mode/
  if $primary->safe_psql('served', 'SHOW server_version_num') < 160000;

for my $node ($primary, $standby)
{
	my $where = 'on the ' . $node->name;
	is($node->safe_psql('served', "$parallel $count"), '2000|4000', "workers verify $where");
	like(
		$node->safe_psql('served', "$parallel EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) $count"),
		qr/Workers Launched: [12]/,
		"and it is workers who do $where");
	is($node->safe_psql('served', "$all_sound $parallel $count"),
		"t\n2000|4000", "also after the session itself has $where");
	is($node->safe_psql('served', $forced), 't', "and one row is enough $where");

	my $key_file = key_file($node);
	rename $key_file, "$key_file.aside" or die $!;
	my @failed = (attempts($node, 'served', $parallel, $count, $forced))[ 1, 2 ];
	rename "$key_file.aside", $key_file or die $!;
	is(join(' ', map { $_->{sqlstate} } @failed), '55000 55000',
		"a worker without the key file tells $where");
	is(scalar(grep { $_->{message} =~ /"\Q$key_file\E"/ } @failed), 2, "by name $where");
}
is( $primary->safe_psql('served', "$parallel $forced SELECT count(*) FROM keyrot.refresh_zone_key('zone-1')"),
	"t\n1",
	'a rotation works where parallel query is forced');
replayed();

# Without its key file.
rename $path, "$path.aside" or die $!;
my @lost = attempts(
	$standby, 'served',
	(map { "SELECT $_" } forms($app, $zone)),
	q{SELECT keyrot.verify_app_string('app-unknown', 'm', 's')},
	q{SELECT keyrot.sign_for_app('app-1', 'm')});
is( scalar(
		grep { $_->{sqlstate} eq '55000' && $_->{message} =~ /"\Q$path\E" does not exist/ && $_->{hint} }
		  @lost),
	scalar @lost,
	'without its key file the standby gives 55000 by name');
my ($create) = attempts($standby, 'served', q{SELECT * FROM keyrot.create_app('App')});
is($create->{sqlstate},                   '25006',                               'and a request still 25006');
is($standby->safe_psql('served', $views), $primary->safe_psql('served', $views), 'the views work');
like(
	$standby->safe_psql('served', q{SELECT array_to_string(problems, '|') FROM } . $STATUS),
	qr/does not exist/,
	'status() tells');
my ($made) = attempts($standby, 'served', 'SELECT keyrot.create_master_key()');
is($made->{sqlstate}, '25006', 'create_master_key() is a request, too');
is_deeply([ grep { !/aside/ } key_files_of($standby) ], [], 'and nothing is made there');
is( $primary->safe_psql(
		'served', q{SELECT keyrot.verify_app_string('app-1', 'm', keyrot.sign_string_for_app('app-1', 'm'))}),
	't',
	'the primary has its own');
rename "$path.aside", $path or die $!;
is( $standby->safe_psql(
		'served', all_forms(sign_text('yet-another-secret', 'm'), sign_text(zone_key(), 'm'))),
	't|t|t|t|t|t|t',
	'with the file back the standby verifies');

# Promoted, it is a primary like any other.
$primary->stop;
$standby->promote;
$standby->safe_psql('served',
	q{SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => 'the-secret-after-all-that')});
is($standby->safe_psql('served', q{SELECT app_secret, version FROM keyrot.describe_app_security('app-1')}),
	'the-secret-after-all-that|4', 'after promotion it rotates');
is( $standby->safe_psql('served', q{SELECT count(*), max(encode(master_key, 'hex')) FROM keyrot.data_key}),
	'1|' . fingerprint(substr slurp_file($path), 0, 64),
	'with the keys that it had');

done_testing();

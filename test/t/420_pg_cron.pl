# rotate_due, called by pg_cron: what is due is rotated without anybody's doing, by a role that may do nothing else.
#
# Why not pg_regress: it takes a server with pg_cron's launcher, and a minute's patience.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;

# pg_cron looks at its schedule once a minute.
BEGIN { $ENV{PG_TEST_TIMEOUT_DEFAULT} ||= 150; }
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

chomp(my $sharedir = `pg_config --sharedir`);
$sharedir = do { chomp(my $own = `$ENV{PG_CONFIG} --sharedir`); $own } if $ENV{PG_CONFIG};
plan skip_all => 'pg_cron is not installed (Debian: postgresql-NN-cron)' unless -e "$sharedir/extension/pg_cron.control";

my $node = new_server('cron', conf => <<'END');
shared_preload_libraries = 'pg_cron,keyrot'
keyrot.database = 'scheduled'
cron.database_name = 'scheduled'
cron.use_background_workers = on
max_worker_processes = 16
END
add_databases($node, 'scheduled');
$node->safe_psql('scheduled', <<'END');
CREATE EXTENSION pg_cron;
CREATE ROLE tenant;
CREATE ROLE scheduler LOGIN;
GRANT tenant TO scheduler;
GRANT USAGE ON SCHEMA cron, keyrot TO scheduler;
GRANT EXECUTE ON FUNCTION keyrot.rotate_due TO scheduler;
DO $$ BEGIN
    PERFORM keyrot.create_app('App', 'app-' || i) FROM generate_series(1, 3) AS i;
    PERFORM keyrot.set_app_owner('app-' || i, 'tenant') FROM generate_series(1, 2) AS i;
    PERFORM keyrot.set_app_policy('app-' || i, '30 days', grace_period => '1 day') FROM generate_series(1, 3) AS i;
END $$;
UPDATE keyrot.app SET due_at = now() WHERE app_key <> 'app-2';
SET ROLE scheduler;
SELECT cron.schedule('keyrot', '* * * * *', 'SELECT count(*) FROM keyrot.rotate_due()');
END

$node->poll_query_until('scheduled', q{SELECT version = 2 FROM keyrot.app WHERE app_key = 'app-1'}) or die 'pg_cron does not rotate';
is(
	$node->safe_psql('scheduled', q{SELECT id, version, previous_valid_until - modified_at, due_at - modified_at FROM keyrot.credentials ORDER BY id}),
	"app-1|2|1 day|30 days\napp-2|1||30 days\napp-3|1||" .
	  $node->safe_psql('scheduled', q{SELECT due_at - modified_at FROM keyrot.credentials WHERE id = 'app-3'}),
	'what was due and its own to rotate was rotated, with its grace period');
is(
	$node->safe_psql('scheduled', q{SELECT target, action, caller, r.session_user, outcome, version FROM keyrot.requests AS r WHERE action = 'rotate_due'}),
	'app-1|rotate_due|scheduler|scheduler|ok|2', 'on record as the scheduler\'s');
ok($node->poll_query_until('scheduled', q{SELECT bool_or(status = 'succeeded') FROM cron.job_run_details}), 'pg_cron counts it as a success');

$node->stop;
done_testing();

# Tables that are not as they were made: which way rows then go, the background worker, and how a partitioned log is
# made of an existing one, shortened, dumped and restored, as the documentation says.
#
# Why not pg_regress: it takes plans in the server log, a worker, and programs of the client's side.  The regression tests
# themselves run on partitioned tables by "make installcheck-partitioned".

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('partitioned', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'shop'
keyrot.zone_rate_limit = 0
END
add_databases($node, 'shop');
$node->safe_psql('shop', <<'END');
SELECT FROM keyrot.create_app('One', 'app.one', 'the-first-secret-of-one');
SELECT FROM keyrot.create_zone_key('zone-one');
SELECT FROM keyrot.add_gateway('zone-one', 'gate-one');
END

# What statements of keyrot's a call runs on app and request; their plans are in the log.
sub plans
{
	my ($call) = @_;
	my $from = -s $node->logfile;
	$node->safe_psql('shop', <<"END");
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
$call
END
	my @plans = slurp_file($node->logfile, $from) =~ /^\s*(Insert on \S*request\S*|Update on \S*app\S*|\S.*Scan using \S*app\S*pkey)/mg;
	return scalar @plans;
}
my $reset = q{SELECT FROM keyrot.reset_app_secret('app.one');};
my $verify = q{SELECT keyrot.verify_app_string('app.one', 'm', 's');};
is(plans($reset),  0, 'a rotation runs no statement where the tables are as they were made');
is(plans($verify), 0, 'nor does a verification');
$node->safe_psql('shop', 'ALTER TABLE keyrot.app ADD COLUMN team text; ALTER TABLE keyrot.request ADD COLUMN team text');
cmp_ok(plans($reset),  '>', 2, 'a rotation runs statements where somebody has added a column');
is(plans($verify), 0, 'a verification does not, because the column makes no difference to reading');
$node->safe_psql('shop', 'ALTER TABLE keyrot.app DROP COLUMN team; ALTER TABLE keyrot.request DROP COLUMN team');
is(plans($reset), 0, 'and none any more when the column has gone');

# What the worker writes: a failed request that a trigger swallows counts as lost.
sub lost { return $node->safe_psql('shop', 'SELECT requests_lost FROM ' . $STATUS); }
$node->safe_psql('shop', <<'END');
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER swallow BEFORE INSERT ON keyrot.request FOR EACH ROW WHEN (NEW.outcome <> 'ok') EXECUTE FUNCTION swallow();
END
attempts($node, 'shop', q{SELECT * FROM keyrot.refresh_zone_key('unknown-zone')});
ok(wait_until(sub { lost() == 1 }), 'a failed request that a trigger keeps from the log is counted as lost');
$node->safe_psql('shop', 'DROP FUNCTION swallow() CASCADE');

# Additions that keep no row from being written do not keep it from the worker either.
$node->safe_psql('shop', <<'END');
CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION count_rows() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM count(*) FROM rows; RETURN NULL; END';
CREATE TRIGGER a BEFORE INSERT ON keyrot.request FOR EACH ROW EXECUTE FUNCTION pass();
CREATE TRIGGER b AFTER INSERT ON keyrot.request FOR EACH ROW EXECUTE FUNCTION pass();
CREATE TRIGGER c AFTER INSERT ON keyrot.request REFERENCING NEW TABLE AS rows EXECUTE FUNCTION count_rows();
ALTER TABLE keyrot.request ADD COLUMN region text NOT NULL DEFAULT 'here', ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN failed boolean GENERATED ALWAYS AS (outcome <> 'ok') STORED, ADD CONSTRAINT added CHECK (region <> ''),
    ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, REPLICA IDENTITY FULL;
CREATE INDEX added ON keyrot.request (lower(action)) WHERE outcome <> 'ok';
END
attempts($node, 'shop', q{SELECT * FROM keyrot.refresh_zone_key('unknown-added')});
ok(wait_until(sub { $node->safe_psql('shop', q{SELECT region, number > 0, failed, outcome FROM keyrot.request WHERE target = 'unknown-added'}) eq 'here|t|t|P0002' }),
	'a failed request is recorded where the log has additions, which are filled in');
is(lost(), 1, 'and none is lost');
$node->safe_psql('shop', <<'END');
DROP FUNCTION pass() CASCADE;
DROP FUNCTION count_rows() CASCADE;
ALTER TABLE keyrot.request DROP COLUMN region, DROP COLUMN number, DROP COLUMN failed, DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY,
    REPLICA IDENTITY DEFAULT;
DROP INDEX keyrot.added;
END

# An existing log becomes a partitioned one: the commands of the documentation.
my $documentation = slurp_file("$FindBin::RealBin/../../doc/administration.md");
my ($partition) = $documentation =~ /^<!-- not run: \S+ runs it, to partition a log -->\n```sql\n(.*?)^```/ms or BAIL_OUT('no such commands in the documentation');
my ($script, $before) = (PostgreSQL::Test::Utils::tempdir() . '/partition.sql', $node->safe_psql('shop', 'SELECT count(*) FROM keyrot.requests'));
append_to_file($script, $partition);
command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('shop'), '-f', $script ], 'the log is partitioned');
is($node->safe_psql('shop', q{SELECT relkind FROM pg_class WHERE oid = 'keyrot.request'::regclass}), 'p', 'it is a partitioned table');
is($node->safe_psql('shop', 'SELECT count(*) FROM keyrot.requests'), $before, 'all that was in the log is there');
my $id = $node->safe_psql('shop', q{SELECT keyrot.reset_app_secret('app.one', new_app_secret => 'the-second-secret-of-one', grace_period => '2 seconds')});
is($node->safe_psql('shop', "SELECT target FROM keyrot.requests WHERE request_id = '$id'"), 'app.one', 'a request is found');
attempts($node, 'shop', q{SELECT * FROM keyrot.refresh_zone_key('unknown-other')});
ok(wait_until(sub { $node->safe_psql('shop', q{SELECT count(*) FROM keyrot.requests WHERE target = 'unknown-other'}) == 1 }),
	'the worker records a failed one');
ok(wait_until(sub { $node->safe_psql('shop', q{SELECT count(*) FROM keyrot.app WHERE previous_secret IS NOT NULL}) == 0 }),
	'and wipes what has expired');

# A partition that is missing.
my $failed = (
	attempts(
		$node, 'shop', 'BEGIN',
		'DROP TABLE keyrot.request_default',
		'ALTER TABLE keyrot.request DETACH PARTITION keyrot.request_before',
		q{SELECT keyrot.reset_app_secret('app.one')},
		'ROLLBACK'))[3];
is($failed->{sqlstate}, '23514', 'without a partition for it, a request fails with an error of PostgreSQL\'s own');

# Dump and restore: first the rest and the definitions, then partitions, then the rows.
my $dumped = $node->safe_psql('shop', 'SELECT md5(string_agg(r::text, chr(10) ORDER BY request_id, target)) FROM keyrot.request AS r');
my ($commands) = $documentation =~ /^<!-- not run: \S+ runs it, to dump and restore -->\n```sh\n(.*?)^```/ms or BAIL_OUT('no such commands in the documentation');
my $folder = PostgreSQL::Test::Utils::tempdir();
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	command_ok([ 'bash', '-e', '-c', "cd $folder; cp $script partition.sql; $commands" ], 'the partitioned installation is dumped and restored');
}
is($node->safe_psql('shop2', q{SELECT relkind FROM pg_class WHERE oid = 'keyrot.request'::regclass}), 'p', 'the log is partitioned there, too');
is($node->safe_psql('shop2', 'SELECT md5(string_agg(r::text, chr(10) ORDER BY request_id, target)) FROM keyrot.request AS r'), $dumped, 'with the same rows');
my $signature = sign_text('the-second-secret-of-one', 'm');
is($node->safe_psql('shop2', "SELECT keyrot.verify_app_string('app.one', 'm', '$signature')"), 't', 'and the same secrets');
is($node->safe_psql('shop2', q{SELECT keyrot.reset_app_secret('app.one') IS NOT NULL}), 't', 'which can be rotated');
$node->stop;
done_testing();

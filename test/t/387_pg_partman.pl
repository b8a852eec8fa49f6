# The log partitioned by pg_partman, by the commands of the documentation: it makes months and drops them, and the
# partitioned installation is dumped and restored.
#
# Why not pg_regress: it takes pg_partman, and programs of the client's side.  An older pg_partman than 5.2 is no use, as
# the documentation says; then all that is tested is that it refuses.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

chomp(my $sharedir = `$ENV{PG_CONFIG} --sharedir`);
plan skip_all => 'pg_partman is not installed (Debian: postgresql-NN-partman)' unless -e "$sharedir/extension/pg_partman.control";

my $node = new_server('partman', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'shop'
timezone = 'UTC'
END
add_databases($node, 'shop');
sub one { return $node->safe_psql('shop', $_[0]); }

my $documentation = slurp_file("$FindBin::RealBin/../../doc/administration.md");
my ($partition) = $documentation =~ /^<!-- not run: 387_pg_partman\.pl runs it.*? -->\n```sql\n(.*?)^```/ms or BAIL_OUT('no such commands in the documentation');
my ($restore) = $documentation =~ /^<!-- not run: \S+ runs it, to dump and restore -->\n```sh\n(.*?)^```/ms or BAIL_OUT('no commands to dump and restore');
my $folder = PostgreSQL::Test::Utils::tempdir();
my $start  = one(q{SELECT to_char(now() - interval '7 months', 'YYYY-MM-01')});
append_to_file("$folder/partition.sql", $partition =~ s/2026-01-01/$start/r);
sub run_file { return command_result('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('shop'), '-f', "$folder/partition.sql"); }

sub command_result
{
	my ($output, $errors) = ('', '');
	my $ok = IPC::Run::run(\@_, '>', \$output, '2>', \$errors);
	return ($ok, $errors);
}

# What is there, whatever is run
one(q{SELECT FROM keyrot.create_app('App', 'app-1', 'the-first-secret-of-app-1')});
one(q{
	INSERT INTO keyrot.request
	SELECT keyrot.request_id_at(day), 'app-1', day, 'reset_app_secret', r.caller, r.caller_oid, r."session_user", r.session_user_oid, NULL, 1, 'ok', 2
	  FROM generate_series(now() - interval '200 days', now() - interval '1 day', '1 day') AS day,
	       (SELECT * FROM keyrot.request WHERE target = 'app-1') AS r});
my $log = 'SELECT md5(string_agg(r::text, chr(10) ORDER BY request_id, target)) FROM keyrot.request AS r';
my $held = one($log);
my $version = one(q{SELECT default_version FROM pg_available_extensions WHERE name = 'pg_partman'});
my ($done, $errors) = run_file();
SKIP:
{
	my ($major, $minor) = split /\./, $version;
	skip "pg_partman is $version, and 5.2 is needed", 1 if $major < 5 || $major == 5 && $minor < 2;
	ok($done, "the log is partitioned by pg_partman $version") or diag($errors);
	is(one($log), $held, 'all that was in the log is there');
	my $months = q{SELECT string_agg(partition_tablename, ' ' ORDER BY partition_tablename) FROM partman.show_partitions('keyrot.request')};
	my $expected = q{SELECT string_agg(to_char(month, '"request_p"YYYYMMDD'), ' ' ORDER BY month) FROM generate_series(date_trunc('month', now()) - interval '%d months', date_trunc('month', now()) + interval '%d months', '1 month') AS month};
	like(one($months), qr/\A@{[ one(sprintf $expected, 7, 4) ]}/, 'in months, from the one that was named on, four of them ahead');
	my $id = one(q{SELECT keyrot.reset_app_secret('app-1', new_app_secret => 'the-second-secret-of-app-1')});
	is(one("SELECT tableoid::regclass FROM keyrot.request WHERE request_id = '$id'"), one(q{SELECT to_char(now(), '"keyrot.request_p"YYYYMM"01"')}), 'a request is in its month');
	attempts($node, 'shop', q{SELECT * FROM keyrot.refresh_zone_key('unknown')});
	ok(wait_until(sub { one(q{SELECT count(*) FROM keyrot.request WHERE target = 'unknown'}) == 1 }), 'the worker records a failed one');
	is(one(q{SELECT count(*) FROM keyrot.request_default}), 0, 'the default partition has none');
	is(one(q{SELECT count(*) FROM generate_series(timestamptz '2026-01-01', '2046-01-01', '17 days 03:04:05.678') AS t
		WHERE partman.uuid7_time_decoder(keyrot.request_id_at(t)::text) IS DISTINCT FROM keyrot.request_time(keyrot.request_id_at(t))
		   OR left(partman.uuid7_time_encoder(t)::text, 13) <> left(keyrot.request_id_at(t)::text, 13)}),
		0, 'pg_partman and keyrot agree on what the time of a RequestId is');

	# Dump and restore.
	{
		local $ENV{PGHOST} = $node->host;
		local $ENV{PGPORT} = $node->port;
		command_ok([ 'bash', '-e', '-c', "cd $folder; $restore" ], 'the partitioned installation is dumped and restored');
	}
	is($node->safe_psql('shop2', $log), one($log), 'with the same rows');
	is($node->safe_psql('shop2', $months), one($months), 'in the same months');
	is($node->safe_psql('shop2', q{SELECT retention FROM partman.part_config}), '12 months', 'which pg_partman looks after');
	is($node->safe_psql('shop2', q{SELECT keyrot.reset_app_secret('app-1') IS NOT NULL}), 't', 'and secrets can be rotated');

	# Maintenance.
	one(q{UPDATE partman.part_config SET retention = '3 months', premake = 6});
	my $recent = q{SELECT count(*) FROM keyrot.request WHERE request_id >= keyrot.request_id_at(date_trunc('month', now() - interval '3 months'))};
	my $kept   = one($recent);
	one(q{CALL partman.run_maintenance_proc()});
	like(one($months), qr/\A@{[ one(sprintf $expected, 3, 6) ]}/, 'maintenance drops old months and makes new ones');
	is(one($recent), $kept, 'and loses no request within the retention');
}
ok($done || $errors =~ /supports partitioning of data types|p_time_encoder/, "pg_partman $version does it, or refuses it") or diag($errors);
is(one($log), $held, 'and a refusal leaves the log as it was') unless $done;
$node->stop;
done_testing();

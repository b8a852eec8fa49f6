# A partitioned log by the month: months are made, dropped and detached while requests go on, by the commands of the
# documentation, and nothing else is lost.  And credentials in partitions: the worker wipes there what has expired.
#
# Why not pg_regress: it takes clients who rotate meanwhile, and a worker.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use Keyrot;
use PostgreSQL::Test::Utils;
use Protocol;
use Test::More;

my ($CLIENTS, $ROTATIONS) = (4, 2000);
my $TREE   = "$FindBin::RealBin/../..";
my $folder = PostgreSQL::Test::Utils::tempdir();
my $node   = new_server('months', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'shop'
keyrot.zone_rate_limit = 0
END
add_databases($node, 'shop');

# The block of the documentation that this program is named by.
my $documentation = slurp_file("$TREE/doc/administration.md");
sub documented
{
	my ($purpose) = @_;
	my ($block) = $documentation =~ /^<!-- not run: \S+ runs it, to \Q$purpose\E -->\n```sql\n(.*?)^```/ms
	  or BAIL_OUT("the documentation has no commands to $purpose");
	return $block;
}

sub psql_file
{
	my ($name, $commands, $said) = @_;
	append_to_file("$folder/$name", $commands);
	command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('shop'), '-f', "$folder/$name" ], $said);
	return;
}

sub one { return $node->safe_psql('shop', $_[0]); }


# A log of months: one partition for all that is older, and one for each month from two months ago on
my @month = split /\n/, one(q{SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY-MM') FROM generate_series(-2, 3) AS n});
sub partition_of { return 'keyrot.request_' . $month[ $_[0] + 2 ] =~ tr/-/_/r; }
sub start_of     { return "keyrot.request_id_at('$month[ $_[0] + 2 ]-01 UTC')"; }
sub made_for     { return sprintf 'CREATE TABLE %s PARTITION OF keyrot.request FOR VALUES FROM (%s) TO (%s);', partition_of($_[0]), start_of($_[0]), start_of($_[0] + 1); }

my %in_its_place = ('2027-02-01' => $month[1] . '-01', '2027-01-01' => $month[0] . '-01', '2027_01' => $month[0] =~ tr/-/_/r);
my $partition = documented('partition a log') =~ s/(2027-\d\d-01|2027_01)/$in_its_place{$1}/gr;
one('DELETE FROM keyrot.request');
psql_file('partition.sql', $partition, 'the log is partitioned from two months ago on');
one(made_for($_)) for -1, 0;
psql_file('months.sql', documented('make months'), 'months are made ahead of time');
command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('shop'), '-f', "$folder/months.sql" ], 'a second run finds them');
is( one(q{SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'keyrot.request'::regclass}),
	join(' ', (map { partition_of($_) } -2 .. 3), 'keyrot.request_before', 'keyrot.request_default'),
	'as many as the documentation says');

# Old requests, each a change, and what is new.
one(q{SELECT FROM generate_series(0, 9) AS i, keyrot.create_app('App', 'app-' || i)});
one(q{
	INSERT INTO keyrot.request
	SELECT keyrot.request_id_at(day), 'app-1', day, 'reset_app_secret', r.caller, r.caller_oid, r."session_user", r.session_user_oid,
	       NULL, 1, 'ok', 2, NULL, 'app', n::text::xid8
	  FROM generate_series(1, 180) AS n, LATERAL (SELECT now() - (200 - n) * interval '1 day' AS day) AS d,
	       (SELECT * FROM keyrot.request WHERE target = 'app-0') AS r});
sub days { return one("SELECT count(*) FROM keyrot.request WHERE version = 2 AND request_id < keyrot.request_id_at(now() - interval '10 days') $_[0]"); }
is(days(''), 180, 'the log has old requests');
my %days = map { $_ => one("SELECT count(*) FROM $_ WHERE version = 2") } 'keyrot.request_before', partition_of(-2);
cmp_ok($days{$_}, '>', 20, "those in $_") for sort keys %days;
my $detached = one("SELECT md5(string_agg(r::text, chr(10) ORDER BY request_id)) FROM @{[ partition_of(-2) ]} AS r");


# Two months go while clients rotate.

one(q{SELECT keyrot.reset_app_secret('app-0', client_token => 'old'); UPDATE keyrot.retry SET created_at = now() - interval '150 days'});
my $reader = one('SELECT position FROM keyrot.changes(max_count => 100000) ORDER BY changed_at DESC LIMIT 1');
my %within = map { $_ => one("SELECT position FROM keyrot.changes() JOIN $_ USING (request_id) LIMIT 1 OFFSET 5") } 'keyrot.request_before', partition_of(-2);
my $read = sub { "SELECT count(*) FROM keyrot.changes('$_[0]', 100000)" };
my ($refused) = (attempts($node, 'shop', 'BEGIN', "ALTER TABLE keyrot.request DETACH PARTITION @{[ partition_of(-2) ]}", $read->($within{ partition_of(-2) }), 'ROLLBACK'))[2];
is($refused->{sqlstate}, '22023', 'a reader within a month that goes while older ones stay is told to start anew');

append_to_file("$folder/rotate.sql", q{SELECT keyrot.reset_app_secret('app-' || :client_id);} . "\n");
my $rotating = IPC::Run::start(
	[ 'pgbench', '-n', '-c', $CLIENTS, '-t', $ROTATIONS, '-f', "$folder/rotate.sql", $node->connstr('shop') ],
	'>', \my $output, '2>', \my $errors, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
sub rotated { return one(q{SELECT count(*) FROM keyrot.request WHERE action = 'reset_app_secret' AND requested_at > now() - interval '1 day'}) - 1; }
wait_until(sub { rotated() > $CLIENTS * 5 }) or BAIL_OUT('nobody rotates');
psql_file('drop.sql', documented('drop a month') =~ s/'90 days'/'120 days'/r, 'a month is dropped while they do');
one("SET lock_timeout = '2s'; ALTER TABLE keyrot.request DETACH PARTITION @{[ partition_of(-2) ]}");
cmp_ok(rotated(), '<', $CLIENTS * $ROTATIONS, 'so is one detached');
ok($rotating->finish, 'no client notices') or diag($errors);

is(rotated(), $CLIENTS * $ROTATIONS, 'each rotation is on record');
is( one(q{SELECT count(*), min(version), max(version) FROM keyrot.credentials WHERE id ~ 'app-[1-3]'}),
	"3|@{[ $ROTATIONS + 1 ]}|@{[ $ROTATIONS + 1 ]}", 'and was done once');
is(days(''), 180 - $days{'keyrot.request_before'} - $days{ partition_of(-2) }, 'of the old ones nothing is missing but what went');
is(one("SELECT md5(string_agg(r::text, chr(10) ORDER BY request_id)) FROM @{[ partition_of(-2) ]} AS r"), $detached, 'the detached month is as it was');
is(one(q{SELECT count(*) FROM keyrot.retry}), 0, 'an old client_token is gone, since prune_requests was called');

# The change feed afterwards.
is( one("SELECT count(*), count(DISTINCT request_id) FROM keyrot.changes('$reader', 100000) WHERE action = 'reset_app_secret'"),
	join('|', ($CLIENTS * $ROTATIONS) x 2), 'a reader who was up to date gets each change once');
my $left = one('SELECT count(*) FROM keyrot.request WHERE changed_kind IS NOT NULL');
is(one($read->($within{$_})), $left, "one who was within $_ goes on with the oldest that is left") for sort keys %within;
is(one('SELECT count(*) FROM keyrot.changes(NULL, 100000)'), $left, 'so does a new one');

# Pruning what is left of the old ones.
my $old = days(q{AND request_id < keyrot.request_id_at(now() - interval '25 days')});
is(one(q{SELECT keyrot.prune_requests('25 days')}), $old, 'prune_requests removes from partitions by age');
is(days(''), 180 - $days{'keyrot.request_before'} - $days{ partition_of(-2) } - $old, 'and nothing else');


# Credentials in partitions: the worker, and what it wipes.

$node->safe_psql('postgres', 'CREATE DATABASE parted');
command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('parted'), '-f', "$TREE/test/partitioned.sql" ], 'a database for partitioned credentials');
$node->safe_psql('parted', 'CREATE EXTENSION keyrot');
$node->append_conf('postgresql.conf', "keyrot.database = 'parted'");
$node->restart;
sub parted { return $node->safe_psql('parted', $_[0]); }
parted(q{
	SELECT FROM generate_series(1, 30) AS i, keyrot.create_app('App', 'app-' || i);
	SELECT keyrot.create_zone_key('zone-' || i) FROM generate_series(1, 30) AS i;});
is(parted(qq{SELECT count(DISTINCT tableoid) FROM keyrot.$_}), 3, "$_ has rows in each partition") for qw(app zone);
# An hour's grace for all; one app moves to another AppKey, in another partition or not.
parted(q{
	SELECT keyrot.reset_app_secret('app-' || i, grace_period => '1 hour') FROM generate_series(1, 29) AS i;
	SELECT keyrot.reset_app_secret('app-30', 'app-moved', grace_period => '1 hour');
	SELECT FROM generate_series(1, 30) AS i, keyrot.refresh_zone_key('zone-' || i, '1 hour');});
my $kept = q{SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM (
	SELECT app_key AS id FROM keyrot.app WHERE previous_secret IS NOT NULL OR previous_valid_until IS NOT NULL
	UNION ALL SELECT zone_id FROM keyrot.zone WHERE previous_secret IS NOT NULL OR previous_valid_until IS NOT NULL) AS kept};
is(scalar(split / /, parted($kept)), 61, 'each has a previous version');
my $current = q{SELECT md5(string_agg(app_key || version || secret::text, ' ' ORDER BY app_key)) FROM keyrot.app WHERE app_key <> 'app-1'};
my $before  = parted($current);
# An hour passes for all but some in each partition, and another grace that ends has the tables searched.
my $staying = join ', ', map { "'$_'" } map { split / /, parted("SELECT string_agg(id, ' ') FROM (SELECT min($_->[1]) AS id FROM keyrot.$_->[0] WHERE $_->[1] <> 'app-1' GROUP BY tableoid) AS m") }
  [ 'app', 'app_key' ], [ 'zone', 'zone_id' ];
my ($held) = (parted("SELECT string_agg(zone_id, ' ') FROM keyrot.zone WHERE zone_id NOT IN ($staying)") =~ /(\S+)/);
parted(qq{
	UPDATE keyrot.app SET previous_valid_until = previous_valid_until - interval '1 hour' WHERE app_key NOT IN ($staying);
	UPDATE keyrot.zone SET previous_valid_until = previous_valid_until - interval '1 hour' WHERE zone_id NOT IN ($staying)});
my $stays = join ' ', sort $staying =~ /'([^']+)'/g;
my $holder = $node->background_psql('parted');
$holder->query_safe("BEGIN; SELECT FROM keyrot.zone WHERE zone_id = '$held' FOR UPDATE");
parted(q{SELECT keyrot.reset_app_secret('app-1', grace_period => '1 second')});
ok(wait_until(sub { join(' ', sort grep { $_ ne $held } split / /, parted($kept)) eq $stays }), "the worker wipes in all partitions what has expired: $stays stay");
like(parted($kept), qr/\b\Q$held\E\b/, 'and not what somebody holds');
$holder->query_safe('ROLLBACK');
$holder->quit;
ok(wait_until(sub { join(' ', sort split / /, parted($kept)) eq $stays }), 'which it wipes later');
is(parted($current), $before, 'the current versions are what they were');
my $in_grace = q{SELECT string_agg(labels ->> 'kind' || ' ' || value, ' ' ORDER BY labels ->> 'kind') FROM keyrot.metrics WHERE name = 'keyrot_credential_in_grace'};
ok(wait_until(sub { parted($in_grace) eq 'app 3 zone 3' }), 'and counts what stays, each once');
$node->stop;
done_testing();

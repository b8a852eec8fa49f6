# What the documentation asks keyrot's views and status() for, psql shows within 100 columns, with names as long as
# keyrot makes them, and each query finds something: so that nobody needs \x.
#
# Why not pg_regress: the queries are taken from the documentation, and some find what only a preloaded keyrot notes.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Documentation qw(read_blocks);
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $WIDTH = 100;
my $TREE  = "$FindBin::RealBin/../..";
my $READS = qr/\b(?:FROM|JOIN)\s+keyrot\.(?:credentials|requests|gateways|progress|metrics|status\(\))/;

# Statements with where they stand: from blocks of SQL and shell, and from the text.
my @queries;
for my $path ("$TREE/README.md", sort glob "$TREE/doc/*.md")
{
	my ($file) = $path =~ m{([^/]+)$};
	for my $block (read_blocks($path))
	{
		my $text = join "\n", @{ $block->{lines} };
		push @queries, map { [ "$file:$block->{line}", $_ ] } grep { /\A(?:SELECT|WITH)\b.*$READS/s } map { s/\A(?:\s*--.*\n)*\s*//r } split /;[^\n]*(?:\n|\z)/, $text
		  if $block->{language} eq 'sql';
		push @queries, map { [ "$file:$block->{line}", $_ ] } grep { /$READS/ } $text =~ /-c ["'](SELECT [^"]*)["']/g
		  if $block->{language} eq 'sh';
		my @wide = $block->{language} eq 'console' ? grep { length > $WIDTH && /\|/ && !/[#>] / } @{ $block->{lines} } : ();
		is_deeply(\@wide, [], "$file:$block->{line}: what psql shows is not wider") if $text =~ $READS && $block->{language} eq 'console';
	}
	push @queries, map { [ "$file, in the text", s/\s+/ /gr ] } grep { /$READS/ && !/\$1/ } slurp_file($path) =~ /`(SELECT [^`]+)`/g;
}

# A server with something to be found: names as keyrot makes them and as people do, and problems.
my $node = new_server('readable', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'shop'
keyrot.zone_rate_limit = 5
END
add_databases($node, 'shop');
sub sql { return $node->safe_psql('shop', $_[0]); }

sql(q{
	CREATE ROLE billing_service; CREATE ROLE keyrot_operator;
	GRANT USAGE ON SCHEMA keyrot TO keyrot_operator, billing_service;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA keyrot TO keyrot_operator, billing_service;
	ALTER SYSTEM SET keyrot.operator_role = 'keyrot_operator';
	SELECT pg_reload_conf();
	SET ROLE billing_service;
	SELECT FROM generate_series(1, 12) AS i, keyrot.create_app('Shop ' || i);
	SELECT FROM keyrot.create_zone_key('zone-27q0p0bal192'), generate_series(1, 3), keyrot.add_gateway('zone-27q0p0bal192');
	SET ROLE keyrot_operator;
	CALL keyrot.refresh_zones(zone_ids => '{zone-27q0p0bal192}', grace_period => '7 days');
	RESET ROLE;
	CREATE TABLE key AS SELECT id, row_number() OVER (ORDER BY app_id) AS n FROM keyrot.credentials WHERE kind = 'app';
	GRANT SELECT ON key TO PUBLIC;
	SET ROLE keyrot_operator;
	SELECT keyrot.reset_app_secret(id, grace_period => '7 days') FROM key WHERE n < 9;
	SELECT keyrot.set_app_policy(id, rotate_after => '90 days', lifetime => '120 days') FROM key WHERE n IN (1, 2);
	SELECT keyrot.revert_app_secret(id) FROM key WHERE n = 2;
	SELECT keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm')) FROM key WHERE n IN (1, 2, 3, 9);
	SELECT FROM key, keyrot.describe_app_security(id) WHERE n = 3;
	RESET ROLE;
	UPDATE keyrot.app SET modified_at = modified_at - interval '100 days', due_at = due_at - interval '100 days' WHERE app_key IN (SELECT id FROM key WHERE n IN (1, 3, 10));
	SELECT keyrot.verify_app_string('ak00000000000000000000', 'm', ''), keyrot.verify_app_string('ak00000000000000000000', 'm', repeat('A', 43) || '=');
	SELECT keyrot.rotate_data_key()});
attempts($node, 'shop', 'SET ROLE billing_service', q{SELECT keyrot.describe_app_security('ak00000000000000000000')},
	q{SELECT keyrot.end_zone_grace('zone-00')}, (q{SELECT keyrot.describe_zone_key('zone-27q0p0bal192')}) x 9,
	q{BEGIN; SELECT keyrot.refresh_zone_key('zone-27q0p0bal192'); ROLLBACK}, q{BEGIN; SELECT keyrot.reset_app_secret((SELECT max(id) FROM key)); ROLLBACK});
ok(wait_until(sub { sql(q{SELECT count(*) FROM keyrot.request WHERE outcome IN ('P0002', '53400', 'rolled back')}) > 4 }), 'failures are on record');
ok(wait_until(sub { sql(q{SELECT count(*) FROM keyrot.metrics WHERE name = 'keyrot_credential_current'}) }), 'credentials are counted');
my $app     = sql(q{SELECT id FROM key WHERE n = 1});
my $request = sql(q{SELECT max(request_id::text) FROM keyrot.request WHERE action = 'reset_app_secret' AND outcome = 'ok'});

# One that reseals meanwhile is seen in progress; a transaction that may have sealed keeps it from ending.
my $writer = $node->background_psql('shop');
$writer->query_safe("BEGIN; SELECT FROM keyrot.reset_app_secret('$app', grace_period => '7 days')");
sql('SELECT keyrot.rotate_data_key()');
my $reseal = $node->background_psql('shop', on_error_stop => 0);
my $pid    = $reseal->query_safe('SELECT pg_backend_pid()');
$reseal->query_until(qr/called/, "\\echo called\nCALL keyrot.reseal();\n");
$node->poll_query_until('shop', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") or die 'it does not wait';

sub shown
{
	my ($query) = @_;
	$query =~ s/'0190f1c8-7b1e-7c3a-9d2e-5f6a7b8c9d0e'/'$request'/;
	$query =~ s/'shop-\w+'/'$app'/;
	my ($shown, $errors) = ('', '');
	IPC::Run::run([ 'psql', '-X', '-d', $node->connstr('shop'), '-c', $query ], '<', \undef, '>', \$shown, '2>', \$errors);
	return $errors ? "ERROR $errors" : $shown;
}

# Nodes are those of a cluster, which test/citus needs.
@queries = grep { $_->[1] !~ /item = 'node'/ } @queries;
cmp_ok(scalar @queries, '>=', 17, 'the documentation has as many queries');
for my $found (@queries)
{
	my ($place, $query) = @$found;
	my $shown = shown($query);
	my ($rows) = $shown =~ /^\((\d+) rows?\)$/m;
	cmp_ok($rows // 0, '>', 0, "$place finds something: $query") or diag($shown);
	my @wide = grep { length > $WIDTH } split /\n/, $shown;
	is_deeply(\@wide, [], 'and no line of that is wider than it should be') or diag($shown);
}

# status() where much is wrong.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nkeyrot.redact_log = off\nkeyrot.master_key_file = '/nowhere/keyrot/master.key'\n");
$node->restart;
my $shown = shown('SELECT * FROM keyrot.status()');
cmp_ok(sql('SELECT count(problem) FROM keyrot.status()'), '>=', 4, 'a server with problems');
is_deeply([ grep { length > $WIDTH } split /\n/, $shown ], [], 'of which status() tells in lines that are not wider') or diag($shown);

done_testing();

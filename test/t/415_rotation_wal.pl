# What a rotation writes to WAL: the row, which stays on its page and touches no index, and its log row with two index
# entries.  No lock of the row, and of the row only what changed.
#
# Why not pg_regress: WAL is read from where it lies, with a server that nobody else writes to, so that its records are
# those of one rotation.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use Test::More;

my $node = new_server('wal', conf => <<'END');
autovacuum = off
full_page_writes = off
keyrot.zone_rate_limit = 0
END
add_databases($node, 'db');
plan skip_all => 'pg_walinspect is not installed'
  if $node->safe_psql('db', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_walinspect'}) eq '0';
$node->safe_psql('db', q{
	CREATE EXTENSION pg_walinspect;
	SELECT keyrot.create_app('wal', 'walapp');
	SELECT keyrot.create_zone_key('walzone');
	-- Long names on either side of what a rotation changes.
	CREATE ROLE walowner;
	SELECT keyrot.set_app_owner('walapp', 'walowner');
	SELECT keyrot.modify_app('walapp', repeat('n', 100), repeat('d', 1000));
});

# The records that a statement's transaction writes, as resource manager and type, and the bytes of the update.
sub written
{
	my ($statement) = @_;
	my $start = $node->safe_psql('db', 'SELECT pg_current_wal_insert_lsn()');

	$node->safe_psql('db', $statement);
	my $end = $node->safe_psql('db', 'SELECT pg_current_wal_insert_lsn()');
	return $node->safe_psql('db', qq{
		SELECT coalesce(string_agg(record, ' ' ORDER BY record COLLATE "C"), ''), sum(length) FILTER (WHERE record = 'HOT_UPDATE')
		  FROM (SELECT record_type AS record, record_length AS length FROM pg_get_wal_records_info('$start', '$end')
				 WHERE xid <> '0') AS r});
}

for my $statement (
	q{SELECT keyrot.reset_app_secret('walapp')},
	q{SELECT keyrot.reset_app_secret('walapp', grace_period => '1 hour')},
	q{SELECT * FROM keyrot.refresh_zone_key('walzone')})
{
	$node->safe_psql('db', $statement);
	my ($records, $bytes) = split /\|/, written($statement);
	is($records, 'COMMIT HOT_UPDATE INSERT INSERT_LEAF INSERT_LEAF', "what is written for: $statement");

	# Record and tuple headers 80, two sealed secrets of 109 at most, and a few numbers.
	cmp_ok($bytes, '<', $statement =~ /grace/ ? 350 : 220, 'of the row only what changed');
}

# Where somebody else holds the row, it is locked.
my $other = $node->background_psql('db');
$other->query_safe('BEGIN');
$other->query_safe(q{SELECT keyrot.end_app_grace('walapp')});
my $rotating = $node->background_psql('db');
$rotating->query_until(qr/waits/, "\\echo waits\nSELECT keyrot.reset_app_secret('walapp');\n");
ok($node->poll_query_until('db', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'}), 'a second rotation waits');
my $start = $node->safe_psql('db', 'SELECT pg_current_wal_insert_lsn()');
$other->query_safe('COMMIT');
$rotating->query_safe('SELECT 1');
my $end = $node->safe_psql('db', 'SELECT pg_current_wal_insert_lsn()');
is($node->safe_psql('db', qq{SELECT count(*) FROM pg_get_wal_records_info('$start', '$end') WHERE record_type = 'LOCK'}),
	'1', 'then it has locked the row');
$other->quit;
$rotating->quit;
is($node->safe_psql('db', q{SELECT version FROM keyrot.credentials WHERE id = 'walapp'}), '6', 'and every rotation made a version');

done_testing();

# Data keys that change in ways which no session is told of, or while somebody is at work with them: what a
# session seals then can be opened by others, and who administers the keys is not told of work that was not done.
#
# Why not pg_regress: the master key file of its server is not ours to change, and what one session sees of
# another's change depends on which of them begins first.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('changed');
add_databases($node, 'served', 'elsewhere', 'remade');
$node->safe_psql('served', q{SELECT count(c) FROM generate_series(1, 3) AS n, keyrot.create_app('App', 'app-' || n) AS c});

# How many of a database's secrets a new session opens.
sub opened
{
	my ($database) = @_;
	return $node->safe_psql($database,
		q{SELECT count(d.app_secret) FROM keyrot.app AS a, keyrot.describe_app_security(a.app_key) AS d});
}

# An older snapshot does not see a data key that was made since: not wrapped, it is not counted as if it were.
for my $isolation ('REPEATABLE READ', 'SERIALIZABLE')
{
	my $session = $node->background_psql('served', on_error_stop => 0);
	$session->query("BEGIN ISOLATION LEVEL $isolation; SELECT count(*) FROM keyrot.app");
	$node->safe_psql('served', 'SELECT keyrot.rotate_data_key()');
	$session->{stderr} = '';
	$session->query('SELECT keyrot.rotate_master_key()');
	like($session->{stderr}, qr/could not serialize access/, "in $isolation, wrapping a newer data key is refused");
	$session->query('ROLLBACK');
	my $keys = $node->safe_psql('served', 'SELECT count(*) FROM keyrot.data_key');
	is($session->query('SELECT keyrot.rewrap_data_keys()'), $keys, 'and in a transaction of its own wraps all');
	$session->quit;
}
is($node->safe_psql('served', 'SELECT master_keys_in_use = ARRAY[master_key] FROM ' . $STATUS), 't', 'nothing depends on the older keys');

# Other data keys under the ids that an idle session knows, by DELETE and COPY, as logical replication would do
# it, too.
my $folder = PostgreSQL::Test::Utils::tempdir_short();
$node->safe_psql('elsewhere', q{SELECT FROM keyrot.create_app('App', 'app-1'); SELECT keyrot.rotate_data_key() FROM generate_series(1, 2)});
$node->safe_psql('elsewhere', "COPY keyrot.data_key TO '$folder/keys'");
my $idle = $node->background_psql('served');
$idle->query(q{SELECT FROM keyrot.describe_app_security('app-1')});
my @ids = map { $node->safe_psql($_, 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM keyrot.data_key') } 'served', 'elsewhere';
is($ids[0], $ids[1], 'two databases have data keys of the same ids');
$node->safe_psql('served', "DELETE FROM keyrot.data_key; COPY keyrot.data_key FROM '$folder/keys'");
$idle->query(q{SELECT keyrot.reset_app_secret(app_key) FROM keyrot.app});
is(opened('served'), 3, 'what a session seals that knew the keys before them, others open');
$node->safe_psql('served', q{DELETE FROM keyrot.data_key WHERE id = 3});
is($idle->query('SELECT keyrot.rotate_data_key()'), 3, 'and it gives the next id to the next data key');
$idle->quit;

# The extension dropped and made again by somebody for whom a reseal waits.
$node->safe_psql('remade', q{SELECT FROM keyrot.create_app('App', 'app-1'); SELECT keyrot.rotate_data_key()});
my $holder = $node->background_psql('remade');
$holder->query(q{BEGIN; SELECT FROM keyrot.end_app_grace('app-1')});
my $reseal = $node->background_psql('remade', on_error_stop => 0);
$reseal->query_until(qr/resealing/, "\\echo resealing\nCALL keyrot.reseal();\n\\echo ended\n");
ok($node->poll_query_until('remade', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted}), 'a reseal waits');
$holder->query(q{DROP EXTENSION keyrot; CREATE EXTENSION keyrot; SELECT FROM keyrot.create_app('App', 'app-1'); COMMIT});
$reseal->query_until(qr/ended/, '');
like($reseal->{stderr}, qr/data key 2, to which reseal moves secrets, no longer exists/, 'it says that its data key is gone');
is(opened('remade'), 1, 'and leaves the new ones alone');
$_->quit for $holder, $reseal;

done_testing();

# The change feed through restarts, prepared transactions, standbys, failovers and restores; and read while others
# write, without a break: each committed change is told once.
#
# Why not pg_regress: it takes servers that are killed, promoted and restored, and writers that go on meanwhile.
#
# KEYROT_FEED_SECONDS is how long they write (30).

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $WRITERS = 8;
my $READERS = 2;
my $SECONDS = $ENV{KEYROT_FEED_SECONDS} // 30;

my $CONF = "autovacuum = off\nmax_prepared_transactions = 4\nkeyrot.zone_rate_limit = 0\n";
my $primary = new_server('primary', init => { allows_streaming => 1 }, conf => $CONF);
add_databases($primary, 'fed');
$primary->safe_psql('fed', q{SELECT FROM generate_series(1, 20) AS n, keyrot.create_app('Feed', 'app-' || n)});

# Reads on from where the reader is, and returns the changes as "id version" or "id action".
sub news
{
	my ($reader, $node) = @_;
	my $after = defined $reader->{place} ? "'$reader->{place}'" : 'NULL';
	my @rows = split /\n/,
	  $node->safe_psql('fed', qq{SELECT "position", id, coalesce(version::text, action) FROM keyrot.changes($after, 1000000)});
	$reader->{place} = (split /\|/, $rows[-1])[0] if @rows;
	return join ' ', map { s/^[^|]*\|//r =~ s/\|/:/r } @rows;
}

sub reset_app { return $primary->safe_psql('fed', "SELECT keyrot.reset_app_secret('$_[0]')"); }

sub refused
{
	my ($node, $place, $what) = @_;
	my ($said) = attempts($node, 'fed', "SELECT * FROM keyrot.changes('$place')");
	is("$said->{sqlstate} $said->{message}",
		'22023 after is a position of another database, or of a history that was lost', $what);
	like($said->{hint}, qr/start anew/, 'which says what to do');
	return;
}

# A restart, a crash.
my %here;
is(scalar(split / /, news(\%here, $primary)), 20, 'a reader starts at the oldest');
reset_app('app-1');
$primary->restart;
is(news(\%here, $primary), 'app-1:2', 'goes on after a restart');
reset_app('app-1');
$primary->stop('immediate');
$primary->start;
is(news(\%here, $primary), 'app-1:3', 'and after a crash');

# Also where the crash loses WAL behind what was read; and what a reader was told, no crash undoes, though its commit did
# not wait for the disk.
$primary->append_conf('postgresql.conf', "wal_writer_delay = 10s\nwal_writer_flush_after = 1GB\nwal_buffers = 16MB\n");
$primary->restart;
reset_app('app-1');
my $writer = $primary->background_psql('fed');
$writer->query_safe(q{BEGIN; SELECT pg_logical_emit_message(false, 'filler', repeat('x', 500000))});
is(news(\%here, $primary), 'app-1:4', 'a reader, while WAL waits to be written');
$primary->stop('immediate');
eval { $writer->quit };
$primary->start;
is(news(\%here, $primary), '', 'goes on after it');
$primary->safe_psql('fed', q{SET synchronous_commit = off; SELECT keyrot.reset_app_secret('app-1')});
is(news(\%here, $primary), 'app-1:5', 'and is told of a commit that did not wait for the disk');
$primary->stop('immediate');
$primary->start;
is(news(\%here, $primary), '', 'which another crash');
is($primary->safe_psql('fed', q{SELECT version FROM keyrot.credentials WHERE id = 'app-1'}), 5, 'does not undo then');
$primary->append_conf('postgresql.conf', "wal_writer_delay = 200ms\nwal_writer_flush_after = 1MB\n");
$primary->restart;

# Prepared transactions hold the feed back, also over a crash, and are told once they have committed.
for my $end ('COMMIT', 'ROLLBACK')
{
	$primary->safe_psql('fed', q{BEGIN; SELECT keyrot.reset_app_secret('app-2'); PREPARE TRANSACTION 'feed'});
	reset_app('app-3');
	is(news(\%here, $primary), '', 'a prepared transaction holds the feed back');
	$primary->stop('immediate');
	$primary->start;
	is(news(\%here, $primary), '', 'also after a crash');
	$primary->safe_psql('fed', "$end PREPARED 'feed'");
	is( news(\%here, $primary),
		$end eq 'COMMIT' ? 'app-2:2 app-3:2' : 'app-3:3',
		"$end PREPARED ends that");
}
is( (attempts(
			$primary, 'fed',
			'SET keyrot.notify = on',
			q{BEGIN; SELECT keyrot.reset_app_secret('app-2'); PREPARE TRANSACTION 'feed'}))[1]{sqlstate},
	'0A000',
	'what notifies cannot be prepared');

# Notifications: of rotations that commit, and of nothing else.
sub notified
{
	return join ' ', map { /payload "(.*?)" received/ ? $1 =~ s/, "request_id": "$REQUEST_ID"//r : () }
	  split /\n/, $primary->safe_psql('fed', "LISTEN keyrot; SET keyrot.notify = on; @_; SELECT 1");
}
is( notified(
		q{SELECT keyrot.reset_app_secret('app-2'); SELECT keyrot.disable_app('app-2'); SELECT keyrot.create_zone_key('zone-1');
		  BEGIN; SELECT keyrot.refresh_zone_key('zone-1'); SAVEPOINT s; SELECT keyrot.refresh_zone_key('zone-1');
		  ROLLBACK TO s; COMMIT; BEGIN; SELECT keyrot.reset_app_secret('app-2'); ROLLBACK}),
	'{"kind": "app", "id": "app-2", "version": 3} {"kind": "zone", "id": "zone-1", "version": 2}',
	'keyrot.notify tells of rotations that commit');
is( notified(
		q{SELECT keyrot.set_app_policy('app-14', '1 microsecond'); SELECT count(*) FROM keyrot.rotate_due();
		  CALL keyrot.refresh_zones(zone_ids => '{zone-1}'); SELECT keyrot.set_app_policy('app-14')}),
	'{"kind": "app", "id": "app-14", "version": 2} {"kind": "zone", "id": "zone-1", "version": 3}',
	'also of those that are made many at once');
is(notified(q{SET keyrot.notify = off; SELECT keyrot.reset_app_secret('app-2')}), '', 'and of none where it is off');
news(\%here, $primary);

# A standby as reader: it goes on from the primary's positions and the primary from its; what is open on the primary
# holds it back, too, also with more subtransactions than a snapshot holds.
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
chmod oct(600), key_file($standby) or die $!;
$standby->start;

sub replayed
{
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	return;
}
my %there = %here;
reset_app('app-4');
replayed();
is(news(\%there, $standby), 'app-4:2', 'a standby goes on from a position of the primary');
reset_app('app-4');
is(news(\%there, $primary), 'app-4:3', 'and the primary from one of the standby');
is(news(\%here, $primary), 'app-4:2 app-4:3', 'as from its own');

my $open = $primary->background_psql('fed');
$open->query_safe(q{
BEGIN;
SELECT keyrot.reset_app_secret('app-5');
DO $$
BEGIN
    FOR n IN 1 .. 100 LOOP
        BEGIN
            PERFORM keyrot.reset_app_secret('app-6');
            PERFORM 1 / (n % 2);
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END $$;});
reset_app('app-7');
replayed();
is(news(\%there, $standby), '', 'an open transaction holds the standby back');
is($standby->safe_psql('fed', q{SELECT version FROM keyrot.credentials WHERE id = 'app-7'}),
	2, 'though what was committed since is there');
$open->query_safe('COMMIT');
$open->quit;
replayed();
my $told = join ' ', 'app-5:2', (map { 'app-6:' . ($_ + 1) } 1 .. 50), 'app-7:2';
is(news(\%there, $standby), $told, 'then it tells all of it');
is(news(\%here,  $primary), $told, 'as the primary does');

# A reader that the primary has served is ahead of a standby that lags; nothing is told twice, nothing is an error.
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
reset_app('app-8');
is(news(\%here, $primary), 'app-8:2', 'a reader is ahead of the standby');
is(news(\%here, $standby), '',        'and is told nothing there');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
replayed();
is(news(\%here,  $standby), '',        'nor again');
is(news(\%there, $standby), 'app-8:2', 'while others are');

# Failover: who has read what the standby received goes on; who has read more, must start anew.
$open = $primary->background_psql('fed');
$open->query_safe(q{BEGIN; SELECT keyrot.reset_app_secret('app-15')});
reset_app('app-16');
replayed();
$standby->stop;
$open->query_safe('COMMIT');
$open->quit;
my %mixed = %here;
is(news(\%mixed, $primary), 'app-15:2 app-16:2', 'a reader has read what will be lost, and at last what will not');
my %lost = %mixed;
reset_app('app-9');
is(news(\%lost, $primary), 'app-9:2', 'another one at last what will be lost');
$primary->stop('immediate');
$standby->start;
$standby->promote;
$standby->safe_psql('fed', q{SELECT keyrot.reset_app_secret('app-10')});
is(news(\%there, $standby), 'app-16:2 app-10:2', 'a failover disturbs no reader who was not ahead');
refused($standby, $mixed{place}, 'but one who has read what is lost, though the last change is not');
refused($standby, $lost{place},  'and one whose last change is');
$standby->safe_psql('fed', q{SELECT pg_switch_wal(), keyrot.reset_app_secret('app-10') FROM generate_series(1, 50)});
refused($standby, $lost{place}, 'also once the new history is longer than the lost one');
$standby->restart;
is(scalar(split / /, news(\%there, $standby)), 50, 'the others go on after a restart');
$standby->stop;

# A server set back by a copy of its files has the same timeline; its log tells.
$primary->start;
$primary->stop;
$primary->backup_fs_cold('files');
$primary->start;
my %before = %here;
news(\%before, $primary);
my %after = %before;
reset_app('app-11');
is(news(\%after, $primary), 'app-11:2', 'a reader has read what a restore will undo');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($primary, 'files');
chmod oct(600), key_file($copy) or die $!;
$copy->start;
$copy->safe_psql('fed', q{SELECT keyrot.reset_app_secret('app-12') FROM generate_series(1, 50)});
refused($copy, $after{place}, 'a position from after the copy');
is(scalar(split / /, news(\%before, $copy)), 50, 'one from before it is good');
$copy->stop;

# Another cluster: no position counts there.  What was restored may be told; what is new there, is told once.
my $dump = $primary->basedir . '/fed.sql';
$primary->command_ok([ 'pg_dump', '-f', $dump, '-d', $primary->connstr('fed') ], 'a dump');
my $other = new_server('other', conf => $CONF);
$other->safe_psql('postgres', 'CREATE DATABASE fed');
$other->command_ok([ 'psql', '-q', '-X', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $other->connstr('fed') ], 'is restored');
write_key(key_file($other), slurp_file(key_file($primary)));
refused($other, $here{place}, 'a position of another cluster');
my %new;
news(\%new, $other);
my @ids = split /\n/, $other->safe_psql('fed', q{SELECT keyrot.reset_app_secret('app-13') FROM generate_series(1, 3)});
like(news(\%new, $other), qr/app-13:2 app-13:3 app-13:4$/, 'what is new in a restored database is told');
is($other->safe_psql('fed', qq{SELECT count(*), count(DISTINCT request_id) FROM keyrot.changes(max_count => 1000000)
	WHERE request_id IN ('@{[ join "','", @ids ]}')}),
	'3|3', 'once');
$other->stop;

# Writers of all kinds, and readers on the primary and on a standby: none is missed, none repeated, and the readers
# agree on the order.
$primary->backup('loop');
my $replica = PostgreSQL::Test::Cluster->new('replica');
$replica->init_from_backup($primary, 'loop', has_streaming => 1);
chmod oct(600), key_file($replica) or die $!;
$replica->start;
my $folder = $primary->basedir;
append_to_file("$folder/write.sql", <<'END');
\set app random(1, 20)
\set other random(1, 20)
\set what random(1, 6)
\set pause random(1, 30)
\if :what = 1
BEGIN;
SELECT keyrot.reset_app_secret('app-' || least(:app, :other));
\sleep :pause ms
ROLLBACK;
\elif :what = 2
BEGIN;
SELECT keyrot.reset_app_secret('app-' || least(:app, :other));
SAVEPOINT s;
SELECT keyrot.reset_app_secret('app-' || greatest(:app, :other));
ROLLBACK TO s;
SELECT keyrot.reset_app_secret('app-' || greatest(:app, :other));
\sleep :pause ms
COMMIT;
\elif :what = 3
BEGIN;
SELECT pg_current_xact_id();
\sleep :pause ms
SELECT keyrot.reset_app_secret('app-' || :app);
COMMIT;
\else
SELECT keyrot.reset_app_secret('app-' || :app);
\endif
END
my %start;
news(\%start, $primary);
my $mark = $primary->safe_psql('fed', 'SELECT request_id FROM keyrot.request ORDER BY request_id DESC LIMIT 1');
my @readers = map { { %start, node => $_ % 2 ? $replica : $primary, told => [] } } 1 .. $READERS;
my ($out, $err) = ('', '');
my $writers = IPC::Run::start(
	[ 'pgbench', '-n', '-c', $WRITERS, '-j', 2, '-T', $SECONDS, '-f', "$folder/write.sql", $primary->connstr('fed') ],
	'>', \$out, '2>', \$err);
my $readings = 0;
my $end = time + $SECONDS;

sub read_on
{
	my ($reader) = @_;
	my @rows = split /\n/, $reader->{node}->safe_psql('fed', <<"END");
SELECT "position", request_id FROM keyrot.changes('$reader->{place}', @{[ 1 + int rand 200 ]})
END
	$reader->{place} = (split /\|/, $rows[-1])[0] if @rows;
	push @{ $reader->{told} }, map { (split /\|/)[1] } @rows;
	return scalar @rows;
}
while (time < $end)
{
	read_on($_), $readings++ for @readers;
}
IPC::Run::finish($writers) or diag($err);
unlike($err, qr/ERROR|aborted/, "$WRITERS writers wrote for $SECONDS s");
$primary->wait_for_catchup($replica, 'replay', $primary->lsn('insert'));
for my $reader (@readers)
{
	1 while read_on($reader);
}
my @committed = split /\n/,
  $primary->safe_psql('fed', "SELECT request_id FROM keyrot.request WHERE request_id > '$mark' ORDER BY request_id");
for my $reader (@readers)
{
	is_deeply([ sort @{ $reader->{told} } ], \@committed,
		$reader->{node}->name . ' told each of ' . @committed . ' changes once');
}
is_deeply($readers[0]{told}, $readers[1]{told}, 'and both in the same order');
ok($readings > 20, "in $readings readings");
done_testing();

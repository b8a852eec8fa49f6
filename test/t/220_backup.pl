# A base backup taken in the middle of rotations, and recovery to a point in time before a given rotation:
# versions, secrets and the request log are those of that moment, the old secret verifies again and the newer
# one does not.  Without the key file nothing opens, and no other one is made; with it everything does.
#
# Why not pg_regress: it takes servers that are restored from a backup and an archive.
#
# KEYROT_SEED repeats the random numbers of a run.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use KeyrotLoad;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $TRIES    = 200;
my $VERSIONS = 8;      # of the two credentials that are watched

my $node = new_server(
	'original',
	init => { allows_streaming => 1, has_archiving => 1 },
	conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'live'
keyrot.zone_rate_limit = 0
log_statement = none
END
add_databases($node, 'live', 'unused');
my $load = KeyrotLoad->new($node, 'live', positions => 1);
$load->prepare;

# The watched app and zone, which are rotated together; each version's secrets and RequestIds are known.
sub app_secret { return "the-secret-of-version-$_[0]"; }
sub zone_key { return encode_base64(sprintf('key %02d, of 32 bytes as it must be', $_[0]), ''); }

my (@requests, @xids);
my $version = 1;
$requests[1] = [ split /\n/, $node->safe_psql('live',
		"SELECT request_id FROM keyrot.create_app('Watched', 'app-watched', '" . app_secret(1) . "');"
		. " SELECT keyrot.create_zone_key('zone-watched', '" . zone_key(1) . "')") ];

sub rotate
{
	my ($server, $next) = @_;
	my ($app, $zone) = (app_secret($next), zone_key($next));
	return split /\n/, $server->safe_psql(
		'live', qq{
		BEGIN;
		SELECT keyrot.reset_app_secret('app-watched', new_app_secret => '$app', grace_period => '1 hour', client_token => 'to-version-$next');
		SELECT keyrot.modify_zone_key('zone-watched', '$zone');
		SELECT pg_current_xact_id();
		COMMIT});
}

sub rotate_original
{
	my (@told) = rotate($node, ++$version);
	$xids[$version]     = pop @told;
	$requests[$version] = \@told;
	return;
}

# All that is in keyrot's tables, but for previous versions whose grace has ended: the worker wipes them when
# it comes to it.
sub contents
{
	my ($server) = @_;
	my @counts = map {
		my $expired = /^(?:app|zone)$/ ? q{previous_valid_until < now() + interval '10 minutes'} : 'false';
		"SELECT '$_', count(*), md5(string_agg(t, '|' ORDER BY t)) FROM (SELECT jsonb_strip_nulls(to_jsonb(r) -"
		  . " CASE WHEN $expired THEN '{previous_secret,previous_valid_until}'::text[] ELSE '{}' END)::text AS t FROM keyrot.$_ AS r) AS t"
	} qw(app zone gateway data_key request retry);
	return $server->safe_psql('live', join ' UNION ALL ', @counts);
}

# The backup begins and ends in the middle of rotations; so do two of the three moments.
$load->begin;
$load->wait_for($TRIES);
rotate_original();
my $before_backup = $load->count_of_tries;
$node->backup('base');
my $during_backup = $load->count_of_tries - $before_backup;
cmp_ok($during_backup, '>', 0, "$during_backup calls were made while the backup was taken");
rotate_original();
$load->wait_for($TRIES);

my %moments;
rotate_original();
$moments{xid} = {
	version => $version - 1,
	lines   => "recovery_target_xid = '$xids[$version]'\nrecovery_target_inclusive = off",
	log     => qr/recovery stopping before commit of transaction $xids[$version],/
};
$load->wait_for($TRIES);

my $time = $node->safe_psql('live', 'SELECT clock_timestamp() FROM pg_sleep(0.05)');
$moments{time} = {
	version => $version,
	lines   => "recovery_target_time = '$time'",
	log     => qr/recovery stopping before commit of transaction/
};
$node->safe_psql('live', 'SELECT pg_sleep(0.05)');
rotate_original();
$load->wait_for($TRIES);
$load->kill_clients;
$load->repeat_at_once;
ok($load->wait_for_end, 'the clients are gone');
$load->check_acknowledged($node);
$load->check_all_failures($node);

# The third moment is a quiet one, so that all can be compared.
my $named    = contents($node);
my $last_id  = $node->safe_psql('live', q{SELECT max(request_id::text) FROM keyrot.request});
$node->safe_psql('live', q{SELECT pg_create_restore_point('before the next rotation')});
$moments{name} = {
	version => $version,
	lines   => "recovery_target_name = 'before the next rotation'",
	log     => qr/recovery stopping at restore point "before the next rotation"/
};
rotate_original() while $version < $VERSIONS;
$node->safe_psql('live', q{SELECT count(keyrot.reset_app_secret('app-shared')) FROM generate_series(1, 100)});
my $segment = $node->safe_psql('live', 'SELECT pg_walfile_name(pg_switch_wal())');
$node->safe_psql('live', 'CHECKPOINT');
$node->poll_query_until('live', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver") or BAIL_OUT('WAL is not archived');
my $key = slurp_file(key_file($node));

# A server restored from the backup, and recovered to a moment; not started yet.
sub restored
{
	my ($kind) = @_;
	my $server = PostgreSQL::Test::Cluster->new("to_$kind");
	$server->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
	$server->append_conf('postgresql.conf',
		"$moments{$kind}{lines}\nrecovery_target_action = 'promote'\nrecovery_target_timeline = 'current'\narchive_mode = off");
	chmod oct(600), key_file($server) or die $!;
	return $server;
}

sub start_restored
{
	my ($server, $kind) = @_;
	$server->start;
	$server->poll_query_until('live', 'SELECT NOT pg_is_in_recovery()') or BAIL_OUT('recovery does not end');
	like(slurp_file($server->logfile), $moments{$kind}{log}, 'recovery ends at that moment');
	return;
}

# The watched credentials are those of this version: which secrets verify, and which requests are known.
sub check_watched
{
	my ($server, $at) = @_;
	my @verified = grep {
		$server->safe_psql('live',
			"SELECT keyrot.verify_app_string('app-watched', 'm', '" . sign_text(app_secret($_), 'm') . "')") eq 't'
	} 1 .. $VERSIONS;
	is_deeply(\@verified, [ $at - 1, $at ], "of $VERSIONS AppSecrets version $at verifies again, with the one in its grace");
	@verified = grep {
		$server->safe_psql('live',
			"SELECT keyrot.verify_zone_string('zone-watched', 'm', '" . sign_text(zone_key($_), 'm') . "')") eq 't'
	} 1 .. $VERSIONS;
	is_deeply(\@verified, [$at], "of $VERSIONS SecretKeys version $at does, and no other");
	my $log = $server->safe_psql('live',
		q{SELECT request_id FROM keyrot.request WHERE target LIKE '%-watched' AND version IS NOT NULL ORDER BY version, target});
	is($log, join("\n", map { @{ $requests[$_] } } 1 .. $at), "the request log has their requests up to version $at, and none after");
	is( $server->safe_psql('live', q{SELECT app_secret, version FROM keyrot.describe_app_security('app-watched')}),
		app_secret($at) . "|$at",
		'the AppSecret is that of then');
	is( $server->safe_psql('live', q{SELECT secret_key, version FROM keyrot.describe_zone_key('zone-watched')}),
		zone_key($at) . "|$at",
		'so is the SecretKey');
	return;
}

# It rotates on from there; a call that recovery has undone is free to be made again with its client_token.
sub check_goes_on
{
	my ($server, $at) = @_;
	my ($undone) = rotate($server, $at + 1);
	isnt($undone, $requests[ $at + 1 ][0], 'a call that recovery undid is made anew with its client_token');
	is( $server->safe_psql('live', q{SELECT string_agg(version::text, ' ') FROM keyrot.credentials WHERE id LIKE '%-watched'}),
		($at + 1) . ' ' . ($at + 1),
		'versions go on from there');
	my $id = $server->safe_psql('live', q{SELECT public.failing('unknown-to-all')});
	ok(wait_until(sub { $server->safe_psql('live', "SELECT outcome FROM keyrot.request WHERE request_id = '$id'") eq 'P0002' }),
		'failed requests are recorded');
	return;
}

# What needs a master key, in the database that has a data key and in one that never had.
my @NEED_KEY = (
	q{SELECT keyrot.verify_app_string('app-watched', 'm', 's')},
	q{SELECT keyrot.verify_app_string('app-unknown', 'm', 's')},
	q{SELECT keyrot.sign_string_for_zone('zone-watched', 'm')},
	q{SELECT * FROM keyrot.describe_app_security('app-watched')},
	q{SELECT * FROM keyrot.describe_zone_key('zone-watched')},
	q{SELECT keyrot.reset_app_secret('app-watched')},
	q{SELECT keyrot.reset_app_secret('app-watched', 'app-watched-new')},
	q{SELECT * FROM keyrot.refresh_zone_key('zone-shared')},
	q{SELECT * FROM keyrot.create_app('Another')},
	q{SELECT keyrot.create_zone_key('zone-another')});

# Without its key file nothing opens, and no new one is made.
sub check_without_key
{
	my ($server, @in_unused) = @_;
	my $path    = key_file($server);
	my @refused = (attempts($server, 'live', @NEED_KEY), attempts($server, 'unused', @in_unused));
	my @other   = grep { $_->{sqlstate} ne '55000' || $_->{message} !~ /master key file "\Q$path\E" does not exist/ || !$_->{hint} } @refused;
	is_deeply([ map { "$_->{statement}: $_->{text}" } @other ],
		[], 'without the key file each of ' . @refused . ' calls is refused by name: 55000, and what to do');
	ok(!-e $path, 'and no new master key is made');
	like($server->safe_psql('live', q{SELECT array_to_string(problems, '|') FROM } . $STATUS),
		qr/does not exist/, 'status() tells');
	return;
}

for my $kind (qw(xid time))
{
	my $at = $moments{$kind}{version};
	subtest "recovery to a $kind, before version " . ($at + 1) => sub {
		my $server = restored($kind);
		is(slurp_file(key_file($server)), $key, 'a key file in the data directory is in the backup');
		unlink key_file($server) or die $! if $kind eq 'time';
		start_restored($server, $kind);
		if ($kind eq 'time')
		{
			check_without_key($server, q{SELECT * FROM keyrot.create_app('First')});
			write_key(key_file($server), $key);
		}
		my $missing = $load->check_prefix($server);
		cmp_ok($missing, '>', 0, "$missing rotations of the other clients are undone, too");
		check_watched($server, $at);
		$load->check_whole($server);
		check_goes_on($server, $at);
		$load->check_whole($server);
		is($server->safe_psql('live', 'SELECT count(*) FROM keyrot.data_key'), 1, 'it is all under one data key');
		is(slurp_file(key_file($server)), $key, 'and under the master key that it was');
		$server->stop;
	};
}

subtest "recovery to a name, before version " . ($moments{name}{version} + 1) => sub {
	my $server = restored('name');

	# As from a backup that leaves out keyrot's file.
	unlink key_file($server);
	start_restored($server, 'name');
	is(contents($server), $named, 'all of keyrot\'s tables are as they were');
	check_without_key($server);
	write_key(key_file($server), $key);
	is( $server->safe_psql('live', q{SELECT keyrot.verify_app_string('app-watched', 'm', keyrot.sign_string_for_app('app-watched', 'm'))}),
		't',
		'with the key file back it opens');
	$load->check_acknowledged($server);
	check_watched($server, $moments{name}{version});
	is( $server->safe_psql('live', "SELECT count(*) FROM keyrot.request WHERE request_id > '$last_id' AND version IS NOT NULL"),
		0,
		'no rotation is there that was made later');
	$load->check_whole($server);
	check_goes_on($server, $moments{name}{version});
	$load->check_whole($server);
	$server->stop;
};

done_testing();

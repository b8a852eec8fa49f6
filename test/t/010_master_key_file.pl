# The master key file in every state in which it should not be.
#
# Why not pg_regress: it cannot touch the server's files, and a session keeps the keys that it has once
# opened, so each state needs sessions of its own.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use MIME::Base64 qw(encode_base64);
use POSIX        qw(mkfifo);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('states');
add_databases($node, 'keys');
my $path  = key_file($node);
my $aside = "$path.aside";

$node->safe_psql('keys', <<'END');
CREATE ROLE regress_plain;
CREATE ROLE regress_other;
SELECT FROM keyrot.create_app('App', app_key => 'app-1', app_secret => 'the-first-secret-of-app-1');
SELECT FROM keyrot.reset_app_secret('app-1', new_app_secret => 'another-secret-of-app-1', grace_period => '1 day');
SELECT FROM keyrot.create_app('Live', app_key => 'app-live');
SELECT FROM keyrot.create_app('Spare', app_key => 'spare');
CREATE TABLE spare AS SELECT * FROM keyrot.app WHERE app_key = 'spare';
SELECT FROM keyrot.create_zone_key('zone-1');
SELECT FROM keyrot.add_gateway('zone-1', 'gate-1');
END
chomp(my $good = slurp_file($path));
my $wrong     = random_hex(64);
my $signature = sign_text('another-secret-of-app-1', 'message');

# Everything that was ever in a key file here; none of it may come back in words.
my @key_material = ($good, $wrong);

sub known_bad
{
	my ($text) = @_;
	push @key_material, $text =~ /[0-9A-Fa-f]{16,}/g;
	return $text;
}

my $new_key = encode_base64('k' x 32, '');
my @refused = (
	q{SELECT * FROM keyrot.create_app('Never', app_key => 'app-never')},
	q{SELECT keyrot.reset_app_secret('app-1')},
	q{SELECT keyrot.reset_app_secret('app-1', new_app_key => 'app-never')},
	q{SELECT keyrot.reset_app_secret('app-1', new_app_secret => 'given-secret-for-app-1')},
	q{SELECT * FROM keyrot.describe_app_security('app-1')},
	q{SELECT keyrot.create_zone_key('zone-never')},
	q{SELECT * FROM keyrot.refresh_zone_key('zone-1')},
	qq{SELECT keyrot.modify_zone_key('zone-1', '$new_key')},
	q{SELECT * FROM keyrot.describe_zone_key('zone-1')},
	q{SELECT keyrot.sign_for_app('app-1', 'm')},
	q{SELECT keyrot.sign_for_zone('zone-1', 'm')},
	q{SELECT keyrot.sign_string_for_app('app-1', 'm')},
	q{SELECT keyrot.sign_string_for_zone('zone-1', 'm')},
	qq{SELECT keyrot.verify_app_string('app-1', 'message', '$signature')},
	qq{SELECT keyrot.verify_app_string('app-unknown', 'message', '$signature')},
	qq{SELECT keyrot.verify_app_string(' ', 'message', '$signature')},
	qq{SELECT keyrot.verify_app_string(NULL, 'message', '$signature')},
	q{SELECT keyrot.verify_app_string('app-1', 'message', NULL)},
	q{SELECT keyrot.verify_app_signature('app-1', 'm', 's')},
	q{SELECT keyrot.verify_zone_string('zone-1', 'm', 's')},
	q{SELECT keyrot.verify_zone_signature('zone-unknown', 'm', 's')},
	q{SELECT keyrot.verify_gateway_string('zone-1', 'gate-1', 'm', 's')},
	q{SELECT keyrot.verify_gateway_signature('zone-1', 'gate-unknown', 'm', 's')});
my $requests = 9;

my @working = (
	q{SELECT count(*) > 0 FROM keyrot.list_apps(app_key => 'app-1')},
	q{SELECT keyrot.modify_app('app-1', description => 'changed in the meantime') IS NOT NULL},
	q{SELECT keyrot.set_app_owner('app-1', 'regress_other') IS NOT NULL},
	q{SELECT keyrot.end_app_grace('app-1') IS NOT NULL},
	q{SELECT keyrot.delete_app('spare') IS NOT NULL},
	q{SELECT gateway_id = 'gate-2' FROM keyrot.add_gateway('zone-1', 'gate-2')},
	q{SELECT keyrot.remove_gateway('zone-1', 'gate-2') IS NOT NULL},
	q{SELECT keyrot.set_zone_owner('zone-1', 'regress_other') IS NOT NULL},
	q{SELECT keyrot.end_zone_grace('zone-1') IS NOT NULL},
	q{SELECT keyrot.delete_zone_key('spare') IS NOT NULL},
	q{SELECT keyrot.rebind_owners() = 0},
	q{SELECT count(*) > 0 FROM keyrot.credentials},
	q{SELECT count(*) > 0 FROM keyrot.gateways},
	q{SELECT count(*) > 0 FROM keyrot.requests},
	q{SELECT count(*) = 2 FROM pg_catalog.pg_roles WHERE rolname LIKE 'regress%'});

# What a refused call would have changed.
my $untouched = q{SELECT pg_catalog.md5(pg_catalog.string_agg(x, '|' ORDER BY x)) FROM (
  SELECT pg_catalog.concat_ws(',', app_key, version, secret, modified_at) FROM keyrot.app WHERE app_key = 'app-1'
  UNION ALL SELECT pg_catalog.concat_ws(',', zone_id, version, secret, modified_at) FROM keyrot.zone
             WHERE zone_id = 'zone-1'
  UNION ALL SELECT d::text FROM keyrot.data_key AS d
  UNION ALL SELECT app_key FROM keyrot.app WHERE app_key LIKE '%never'
  UNION ALL SELECT zone_id FROM keyrot.zone WHERE zone_id LIKE '%never') AS t (x)};
my $sound = qq{SELECT keyrot.verify_app_string('app-1', 'message', '$signature')};

# States of the key file: a name, how it comes about (the good file lies aside by then), what is said.
my @states = (
	[ 'missing',         sub { }, qr/does not exist/ ],
	[ 'empty',           sub { write_key($path, '') },                               qr/contains no key/ ],
	[ 'without any key', sub { write_key($path, "\n\n") },                           qr/contains no key/ ],
	[ 'short',           sub { write_key($path, known_bad(random_hex(63)) . "\n") }, qr/line 1 / ],
	[ 'cut off',         sub { write_key($path, known_bad(substr $good, 0, 40)) },   qr/line 1 / ],
	[ 'long',            sub { write_key($path, known_bad(random_hex(65)) . "\n") }, qr/line 1 / ],
	[ 'not hexadecimal', sub { write_key($path, substr($good, 0, 63) . "g\n") },     qr/line 1 / ],
	[ 'with blanks',     sub { write_key($path, " $good\n") },                       qr/line 1 / ],
	[   'bad in its second line',
		sub { write_key($path, "$good\n" . known_bad(random_hex(62)) . "\n") },
		qr/line 2 / ],
	[ 'with zero bytes', sub { write_key($path, "\0" x 64 . "\n") }, qr/line 1 / ],
	[   'with too many keys',
		sub {
			write_key($path, join '', map { known_bad(random_hex(64)) . "\n" } 1 .. 33);
		},
		qr/more than 32 keys/ ],
	[ 'too large',  sub { write_key($path, "$good\n" . "\n" x 5000) },           qr/longer than 4096 bytes/ ],
	[ 'unreadable', sub { write_key($path, "$good\n", 0) },                      qr/Permission denied/ ],
	[ 'readable by its group',     sub { write_key($path, "$good\n", oct 640) }, qr/has group or world access/ ],
	[ 'readable by all',           sub { write_key($path, "$good\n", oct 604) }, qr/has group or world access/ ],
	[ 'writable by its group',     sub { write_key($path, "$good\n", oct 620) }, qr/group or world access/ ],
	[ 'a symbolic link',           sub { symlink $aside, $path or die $! },      qr/symbolic link/ ],
	[ 'a dangling symbolic link',  sub { symlink "$path.nowhere", $path or die $! }, qr/symbolic link/ ],
	[ 'a directory',               sub { mkdir $path or die $! },                    qr/not a regular file/ ],
	[ 'a pipe that nobody writes', sub { mkfifo($path, oct 600) or die $! },         qr/not a regular file/ ],
	[ 'of another key',            sub { write_key($path, "$wrong\n") }, qr/\b@{[ fingerprint($good) ]}\b/ ],
	[   'of other keys',
		sub { write_key($path, "$wrong\n" . known_bad(random_hex(64)) . "\n") },
		qr/\b@{[ fingerprint($good) ]}\b/ ]);

# In this session the keys are open from the beginning on, and it goes on whatever becomes of the file.
my $old_session = $node->background_psql('keys');
is($old_session->query_safe($sound), 't', 'a session has its keys open');

# The attempts of which something is true, with what came of them.
sub those
{
	my ($condition, @attempts) = @_;
	return [ map { "$_->{statement}\n$_->{output}\n$_->{text}" } grep { $condition->() } @attempts ];
}

my $live_version = q{SELECT version FROM keyrot.describe_app_security('app-live')};
my $said         = '';
for my $state (@states)
{
	my ($name, $make, $message) = @$state;
	subtest "a key file that is $name" => sub {
		my $before = $node->safe_psql(
			'keys', qq{
			SELECT FROM keyrot.create_zone_key('spare');
			INSERT INTO keyrot.app SELECT * FROM spare ON CONFLICT (app_key) DO UPDATE SET secret = EXCLUDED.secret;
			$untouched});
		rename $path, $aside or die $!;
		$make->();
		my @files         = key_files_of($node);
		my $young_session = $node->background_psql('keys', on_error_stop => 0);
		$young_session->query($sound);
		like($young_session->{stderr}, qr/ERROR/, 'a session that comes now fails');

		my @all =
		  attempts($node, 'keys', @refused, @working,
			q{SELECT array_to_string(problems, '|') FROM } . $STATUS,
			$untouched, 'ANALYZE keyrot.data_key');
		my @results = splice @all, 0, @refused;
		my @fine    = splice @all, 0, @working;
		my ($status, $after) = @all;
		my @failed_requests = @results[ 0 .. $requests - 1 ];
		my @others          = @results[ $requests .. $#results ];

		is_deeply(those(sub { $_->{sqlstate} ne '55000' }, @results), [],
			'every use of a secret gives 55000');
		is_deeply(those(sub { "$_->{message}$_->{hint}" !~ /\Q"$path"\E/ }, @results),
			[], 'it names the file');
		is_deeply(those(sub { $_->{message} !~ $message },  @results), [], 'it says what is wrong');
		is_deeply(those(sub { $_->{hint}    !~ /\S.*\.$/ }, @results), [], 'it says what to do');
		is_deeply(those(sub { $_->{context} !~ /keyrot request $REQUEST_ID: \w+/ }, @failed_requests),
			[], 'every request has its RequestId');
		is_deeply(those(sub { $_->{context} =~ /keyrot request/ }, @others),
			[], 'sign and verify are no requests');
		is_deeply(those(sub { $_->{output} ne 't' }, @fine), [], 'everything else works');
		is($status->{sqlstate}, '', 'status() works');
		like($status->{output}, $message, 'and tells what is wrong');
		is($after->{output}, $before, 'nothing was changed');
		is_deeply([ key_files_of($node) ], \@files, 'no file was made');

		is($old_session->query_safe($sound), 't', 'a session that has its keys verifies');
		my $old_version = $old_session->query_safe($live_version);
		$old_session->query_safe(q{SELECT FROM keyrot.reset_app_secret('app-live')});
		is($old_session->query_safe($live_version), $old_version + 1, 'and rotates');

		-d $path && !-l $path ? rmdir $path : unlink $path;
		rename $aside, $path or die $!;
		$young_session->query('SELECT 1');
		is($young_session->query($sound), 't', 'with the file back, the session that had failed works');
		$said .= join '', $young_session->{stderr}, map { $_->{text} . $_->{output} } @results, @fine,
		  $status;
		$young_session->quit;
	};
}
$old_session->quit;

my $fingerprint = fingerprint($good);
my ($after) =
  attempts($node, 'keys', q{SELECT master_key, array_to_string(problems, '|') FROM } . $STATUS);
like($after->{output}, qr/^$fingerprint\|/, 'status() names the key that is in use');
unlike($after->{output}, qr/key file ".*"/, 'and has nothing to say against its file');

# States in which it should be, though not as keyrot made it.
for my $state (
	[ 'read-only'                       => sub { write_key($path, "$good\n", oct 400) } ],
	[ 'without a newline at its end'    => sub { write_key($path, $good) } ],
	[ 'in upper case'                   => sub { write_key($path, uc($good) . "\n") } ],
	[ 'with the key in its second line' => sub { write_key($path, "$wrong\n$good\n") } ],
	[   'with 32 keys' => sub {
			write_key($path, join '', map { "$_\n" } (map { known_bad(random_hex(64)) } 1 .. 31), $good);
		}
	])
{
	my ($name, $make) = @$state;
	$make->();
	my ($verify, $describe, $rotate, $status) = attempts(
		$node,
		'keys',
		$sound,
		q{SELECT app_secret FROM keyrot.describe_app_security('app-1')},
		q{SELECT keyrot.reset_app_secret('app-live') IS NOT NULL},
		q{SELECT master_key, array_to_string(problems, '|') FROM } . $STATUS);
	is( "$verify->{output} $describe->{output} $rotate->{output}",
		't another-secret-of-app-1 t',
		"a key file $name is good");
	unlike($status->{output}, qr/key file ".*"|is wrapped/, 'and status() finds nothing wrong with it');
}

# A database whose first need comes now gets its data key wrapped by the first line.
write_key($path, "$wrong\n$good\n");
add_databases($node, 'later');
$node->safe_psql('later', q{SELECT FROM keyrot.create_app('Later', app_key => 'later-1')});
is($node->safe_psql('later', q{SELECT encode(master_key, 'hex') FROM keyrot.data_key}),
	fingerprint($wrong), 'a new data key is wrapped by the key in the first line');
is($node->safe_psql('keys', q{SELECT encode(master_key, 'hex') FROM keyrot.data_key}),
	$fingerprint, 'an old one stays wrapped by the key in the second');

write_key($path, "$good\n");
my ($later) = attempts($node, 'later', q{SELECT * FROM keyrot.describe_app_security('later-1')});
is($later->{sqlstate}, '55000', 'without its line a data key does not open');
like(
	$later->{message},
	qr/@{[ fingerprint($wrong) ]}.*\b$fingerprint\b/s,
	'and the error tells which key is needed and which there is');

# A folder that the server can write to but not open: it could not make sure that a new line outlasts a crash.
mkdir my $folder = $node->basedir . '/folder', oct 700 or die $!;
write_key("$folder/key", "$good\n");
$node->append_conf('postgresql.conf', "keyrot.master_key_file = '$folder/key'");
$node->reload;
chmod oct(300), $folder or die $!;
my @unsure = attempts($node, 'keys', $sound, ('SELECT keyrot.rotate_master_key()') x 3);
chmod oct(700), $folder or die $!;
is($unsure[0]{output}, 't', 'a key file in a folder that cannot be opened is good');
is(join(' ', map { $_->{sqlstate} } @unsure[1 .. 3]), '55000 55000 55000', 'but gets no new line');
is(slurp_file("$folder/key"), "$good\n", 'in three attempts');

# A root's file: one that all may read is as bad.  That of mode 0640 needs root to make it.
SKIP:
{
	my ($public) =
	  grep { -f && !-l && (stat)[4] == 0 && ((stat _)[2] & oct 777) == oct 644 } qw(/etc/passwd /etc/fstab);
	skip 'no file of root that all may read', 2 unless $public;
	$node->append_conf('postgresql.conf', "keyrot.master_key_file = '$public'");
	$node->reload;
	my ($root) = attempts($node, 'keys', $sound);
	is($root->{sqlstate}, '55000', "a file of root's that all may read is refused");
	like($root->{message}, qr/"\Q$public\E" has group or world access/, 'and named');
}

$node->append_conf('postgresql.conf', "keyrot.master_key_file = 'keyrot_master.key'");
$node->reload;

# Who may see and set where the file is.  The grant lets the role load the library.
$node->safe_psql('keys', 'GRANT USAGE ON SCHEMA keyrot TO regress_plain');
my $as_plain = q{SET ROLE regress_plain; SELECT keyrot.has_rights_of(0, '') IS NULL};
my @hidden   = attempts(
	$node,
	'keys',
	$as_plain,
	'SHOW keyrot.master_key_file',
	q{SELECT current_setting('keyrot.master_key_file')},
	q{SELECT count(*) FROM pg_settings WHERE name = 'keyrot.master_key_file'},
	q{SET keyrot.master_key_file = 'elsewhere'},
	'RESET ROLE',
	q{SET keyrot.master_key_file = 'elsewhere'},
	'SHOW keyrot.master_key_file');
is($hidden[1]{sqlstate}, '42501',             'an ordinary user cannot see the setting');
is($hidden[2]{sqlstate}, '42501',             'nor by current_setting()');
is($hidden[3]{output},   '0',                 'nor in pg_settings');
is($hidden[4]{sqlstate}, '55P02',             'nor set it');
is($hidden[6]{sqlstate}, '55P02',             'nor can a superuser in a session');
is($hidden[7]{output},   'keyrot_master.key', 'who can see it');

# No word of a key in what was said or logged, however it is written.
my $log = slurp_file($node->logfile);
like($log, qr/master key file "\Q$path\E" does not exist/, 'the log has the errors');
my @leaked = grep { my $secret = $_; "$said$log" =~ /\Q$secret\E/i } map { substr $_, 0, 24 } @key_material;
is(scalar @leaked, 0, 'no message and no line of the log holds key material');
cmp_ok(scalar @key_material, '>', 60, 'of which there was some to look for');

done_testing();

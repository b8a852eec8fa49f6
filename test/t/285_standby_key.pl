# A standby that lacks the master key which its primary has come to use: it goes on with what it has, and
# tells which key it needs, that it is a standby, and whose keys those are.
#
# Why not pg_regress: it takes two servers, each with a key file, and a command, of its own.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_server('primary', init => { allows_streaming => 1 });
add_databases($primary, 'served', 'later');
my $secret = 'the-secret-of-the-one-app';
my $create = qq{SELECT FROM keyrot.create_app('App', 'app-1', '$secret')};
my $sound  = qq{SELECT keyrot.verify_app_string('app-1', 'm', '@{[ sign_text($secret, 'm') ]}')};
$primary->safe_psql($_, $create) for 'served', 'later';
chomp(my $old = slurp_file(key_file($primary)));

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);

# The copy of the backup that this server was made from has lost the file's mode.
chmod oct(600), key_file($standby) or die $!;
$standby->start;

# The primary gets a new key in one of its databases; the standby's key file is forgotten.
my $named = $primary->safe_psql('later', 'SELECT keyrot.rotate_master_key()');
my ($new) = slurp_file(key_file($primary)) =~ /\A([0-9a-f]{64})\n/;
is($named, fingerprint($new), 'the primary has a new master key');

# What every use of a secret says of the missing key, in a new session.
sub told
{
	my ($server, $source) = @_;
	my ($verify, $sign, $status) = attempts($server, 'later', $sound, q{SELECT keyrot.sign_for_app('app-1', 'm')},
		q{SELECT master_key, array_to_string(problems, '|') FROM } . $STATUS);
	is("$verify->{sqlstate} $sign->{sqlstate}", '55000 55000', 'there, no secret can be used');
	my $held = fingerprint($old);
	like($_->{message}, qr/^data key 1 is wrapped by master key $named; $source contains $held$/, 'the error names the key that is needed, and the one there is')
	  for $verify, $sign;
	like($status->{output}, qr/^$held\|.*data key 1 is wrapped by master key $named/, 'as does status()');
	return $verify;
}

sub replayed { $primary->wait_for_catchup($standby); return; }

replayed();
is($primary->safe_psql($_, $sound), 't', "the primary verifies in database $_") for 'served', 'later';
is($standby->safe_psql('served', $sound), 't', 'so does the standby where the old key is enough');
my $error = told($standby, qr/master key file "\Q@{[ key_file($standby) ]}\E"/);
like($error->{hint}, qr/\bstandby\b.*\bprimary\b.*\b$named\b/, 'the hint says that it is a standby, and needs what the primary has');
unlike($error->{text}, qr/\Q@{[ substr $new, 0, 20 ]}\E|\Q@{[ substr $old, 0, 20 ]}\E/, 'without a word of a key');
is(slurp_file(key_file($standby)), "$old\n", 'the key file there is left alone');

# A reseal that its primary has under way, or has stopped, is not the standby's to go on with.
$primary->safe_psql('later', 'INSERT INTO keyrot.reseal SELECT max(id), now(), now(), NULL, 0, 1 FROM keyrot.data_key');
replayed();
my $stopped = q{SELECT array_to_string(problems, '|') ~ 'reseal' FROM } . $STATUS;
is($primary->safe_psql('later', $stopped), 't', 'a primary tells of a reseal that was stopped');
is($standby->safe_psql('later', $stopped), 'f', 'a standby does not');

# A session that has waited for it needs nothing but the file.
my $session = $standby->background_psql('later', on_error_stop => 0);
$session->query($sound);
like($session->{stderr}, qr/ERROR/, 'a session there fails');
write_key(key_file($standby), slurp_file(key_file($primary)));
$session->{stderr} = '';
is($session->query($sound), 't', 'and verifies with the primary\'s file, without a reload');
$session->quit;

# The same where a command prints the keys.
my $folder = PostgreSQL::Test::Utils::tempdir_short();
write_key("$folder/keys", "$old\n");
$standby->append_conf('postgresql.conf', "keyrot.master_key_command = 'cat $folder/keys'");
$standby->restart;
$error = told($standby, 'the output of keyrot\.master_key_command');
like($error->{hint}, qr/\bstandby\b.*\bprimary\b.*\b$named\b/, 'with a command, too, the hint says what a standby needs');
write_key("$folder/keys", "$new\n$old\n");
is($standby->safe_psql('later', $sound), 't', 'and with the key printed there it verifies');

# Once promoted, it is told what a primary is told.
write_key("$folder/keys", "$old\n");
$primary->stop;
$standby->promote;
$error = told($standby, 'the output of keyrot\.master_key_command');
unlike($error->{hint}, qr/standby/, 'promoted, it is no standby any more');
like($error->{hint}, qr/\b$named\b/, 'and lacks the key all the same');

done_testing();

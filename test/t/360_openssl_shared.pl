# OpenSSL is the whole process's: keyrot's neighbours in a session go on using it, and what OpenSSL lacks is
# refused by its name.
#
# Why not pg_regress: it takes a server with TLS and a client certificate, and servers whose OpenSSL is
# configured otherwise.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir();

sub openssl
{
	my (@arguments) = @_;
	my ($said, $complaint) = ('', '');
	IPC::Run::run([ 'openssl', @arguments ], '<', \'', '>', \$said, '2>', \$complaint)
	  or BAIL_OUT("openssl @arguments: $complaint");
	return $said;
}

sub write_file
{
	my ($name, $text) = @_;
	open my $file, '>', "$folder/$name" or BAIL_OUT("cannot write $folder/$name: $!");
	print $file $text;
	close $file or BAIL_OUT("cannot write $folder/$name: $!");
	return "$folder/$name";
}


# Others in the session: connections with a client's certificate, whose private key each of them keeps

my $connections = 25;

# A key and its certificate: by itself for the authority, and by that for the others.
sub make_certificate
{
	my ($file, $name) = @_;
	my @signed = $file eq 'authority' ? ('-x509', '-days', '2', '-out', "$folder/$file.crt") : ('-out', "$folder/$file.request");
	openssl('req', '-new', '-newkey', 'rsa:4096', '-nodes', '-subj', "/CN=$name", '-keyout', "$folder/$file.key", @signed);
	openssl('x509', '-req', '-days', '2', '-in', "$folder/$file.request", '-CA', "$folder/authority.crt",
		'-CAkey', "$folder/authority.key", '-CAcreateserial', '-out', "$folder/$file.crt") unless $file eq 'authority';
	return;
}

SKIP:
{
	my ($version) = eval { openssl('version') } or skip 'PARTLY LEFT OUT: the command openssl is missing', 3;
	my $node = new_server('shared', conf => <<"END");
shared_preload_libraries = 'keyrot'
keyrot.database = 'shared'
fsync = off
listen_addresses = '127.0.0.1'
max_connections = 60
END
	add_databases($node, 'shared');
	skip 'PARTLY LEFT OUT: dblink is missing (postgresql-contrib)', 3
	  unless $node->safe_psql('shared', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'});
	skip 'PARTLY LEFT OUT: this PostgreSQL is built without TLS', 3
	  unless $node->safe_psql('shared', q{SELECT count(*) FROM pg_settings WHERE name = 'ssl_library' AND setting = 'OpenSSL'});
	my ($user) = $node->safe_psql('shared', 'SELECT current_user');
	make_certificate('authority', 'authority');
	make_certificate('server',    '127.0.0.1');
	make_certificate('client',    $user);
	$node->append_conf('postgresql.conf', <<"END");
ssl = on
ssl_ca_file = '$folder/authority.crt'
ssl_cert_file = '$folder/server.crt'
ssl_key_file = '$folder/server.key'
END
	my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
	unlink $node->data_dir . '/pg_hba.conf';
	$node->append_conf('pg_hba.conf', "hostssl shared all 127.0.0.1/32 cert\n$hba");
	$node->restart;
	my $how = "host=127.0.0.1 port=@{[ $node->port ]} dbname=shared user=$user sslmode=verify-full"
	  . " sslrootcert=$folder/authority.crt sslcert=$folder/client.crt sslkey=$folder/client.key";
	my ($used, @connected) = attempts($node, 'shared',
		q{CREATE EXTENSION dblink;
		SELECT FROM keyrot.create_app('App', 'app-1'), keyrot.create_zone_key('zone-1');
		SELECT keyrot.reset_app_secret('app-1'), keyrot.verify_app_string('app-1', 'm', 's'),
			keyrot.sign_for_zone('zone-1', 'm', 'sha1')},
		(map { "SELECT dblink_connect('connection-$_', '$how')" } 1 .. $connections),
		q{SELECT ssl, client_dn FROM dblink('connection-25', 'SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
			AS s (ssl boolean, client_dn text)});
	my $answer = pop @connected;
	is($used->{sqlstate}, '', 'keyrot is used in a session');
	is(scalar(grep { $_->{sqlstate} eq '' } @connected), $connections, "and then $connections connections are made with a client's certificate")
	  or diag((map { $_->{text} } grep { $_->{sqlstate} ne '' } @connected)[0]);
	is($answer->{output}, "t|/CN=$user", 'the last of them works');
	$node->stop;
}


# A server whose OpenSSL has one provider, which lacks what it is told to lack

my $compiler = $ENV{CC} // `pg_config --cc`;
chomp $compiler;
my $module = "$folder/filter_provider.so";
system("$compiler -std=gnu11 -Wall -Wextra -Werror -shared -fPIC -o '$module' '$FindBin::RealBin/../unit/filter_provider.c' -lcrypto") == 0
  or BAIL_OUT("cannot build $module with $compiler");
my $configuration = write_file('openssl.cnf', <<"END");
openssl_conf = all
[all]
providers = providers
[providers]
filter = filter
[filter]
module = $module
activate = 1
END

my $node = new_server('lacking', conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'lacking'
fsync = off
END
add_databases($node, 'lacking');
my ($secret) = $node->safe_psql('lacking', <<'END');
SELECT FROM keyrot.create_app('App', 'app-1');
SELECT app_secret FROM keyrot.describe_app_security('app-1');
END
my $signature = sign_text($secret, 'm');

sub restart_without
{
	my ($algorithms) = @_;
	local $ENV{OPENSSL_CONF} = $configuration;
	local $ENV{FILTERED_OUT} = $algorithms;
	$node->restart;
	return;
}

sub lacks
{
	my ($algorithm, $answer, $name) = @_;
	is("$answer->{sqlstate} $answer->{message}", "0A000 $algorithm is not available", $name);
	return;
}

my $sha256 = "SELECT keyrot.verify_app_string('app-1', 'm', '$signature')";
restart_without('');
my ($with_all) = attempts($node, 'lacking', "$sha256, keyrot.sign_string_for_app('app-1', 'm', 'sha1') IS NOT NULL");
is($with_all->{output}, 't|t', 'a provider that lacks nothing');

restart_without('SHA1');
my @answers = attempts($node, 'lacking', $sha256, (map { "SELECT keyrot.$_" }
	"verify_app_string('app-1', 'm', 's', 'sha1')", "verify_app_string('app-none', 'm', 's', 'sha1')",
	"verify_app_signature(NULL, 'm', 's', 'sha1')", "sign_string_for_app('app-1', 'm', 'sha1')"),
	q{SELECT keyrot.reset_app_secret('app-1', new_app_secret => repeat('S', 20), grace_period => '1 day') IS NOT NULL}, $sha256);
is(join(' ', map { $answers[$_]{output} } 0, 5, 6), 't t t', 'without SHA-1, SHA-256 and rotation go on') or diag(map { $_->{text} } @answers);
lacks('SHA-1', $answers[1], 'verifying with SHA-1 is refused');
like($answers[1]{detail}, qr/\ANo active provider of OpenSSL 3\.\S+ .* offers it\.\z/, 'with what is missing where');
like($answers[1]{hint}, qr/another algorithm/, 'and what to do');
lacks('SHA-1', $answers[2], 'whether or not there is such an app');
lacks('SHA-1', $answers[3], 'or none is given');
lacks('SHA-1', $answers[4], 'signing, too');

restart_without('AES-256-GCM');
@answers = attempts($node, 'lacking', $sha256, q{SELECT keyrot.create_zone_key('zone-1')});
is("$answers[$_]{sqlstate} $answers[$_]{message}", '55000 could not unwrap data key 1: AES-256-GCM is not available',
	'without AES-256-GCM no key can be used, and the error names it') for 0, 1;

$node->restart;
is($node->safe_psql('lacking', $sha256), 't', 'with the default provider all is well again');
$node->stop;

done_testing();

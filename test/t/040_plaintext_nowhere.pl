# No secret lies in the data directory in clear: not in a heap, an index, a dead tuple or WAL, not as
# text, bytes, hex digits or base64, whether the call succeeded, failed or was rolled back.
#
# Why not pg_regress: it needs every byte of the data directory, at rest and after recovery.
#
# The server's log is not looked at here: a client that writes a secret into its statement has it logged
# where log_statement or an error says so.  It lies outside the data directory in these tests.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use File::Find;
use Keyrot;
use MIME::Base64 qw(decode_base64 encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

my $node =
  new_server('bytes', init => { allows_streaming => 1 }, conf => "shared_buffers = 16MB\nautovacuum = off\n");
add_databases($node, 'marked');
my $path = key_file($node);

# Secrets given by callers, each used once.
my @given;
my $count = 0;

sub given_app_secret
{
	my $secret = sprintf 'MARK%02d-%s~%s', ++$count, random_hex(20), '!given-to-an-app';
	push @given, $secret;
	return $secret;
}

sub given_key
{
	my $secret = encode_base64(sprintf('mark%02d:%s', ++$count, random_hex(30)), '');
	push @given, $secret;
	return $secret;
}

my @said;

# Runs a session and checks that each statement came to what was expected; the first letter says: "+" it
# succeeds, "-" it fails.
sub session
{
	my ($name, @statements) = @_;
	my @results   = attempts($node, 'marked', map { substr $_, 1 } @statements);
	my @surprises = map { "$results[$_]{statement}\n$results[$_]{text}" }
	  grep { ($results[$_]{sqlstate} eq '') ne ($statements[$_] =~ /^\+/) } 0 .. $#statements;
	is_deeply(\@surprises, [], "$name: each call does what it should");
	push @said, @results;
	return @results;
}

# Reads the secrets that were generated.
my @generated;

sub read_secrets
{
	push @generated, split /\n/, $node->safe_psql(
		'marked', q{
		SELECT app_secret FROM keyrot.credentials, keyrot.describe_app_security(id)
		 WHERE kind = 'app' AND state = 'current';
		SELECT secret_key FROM keyrot.credentials, keyrot.describe_zone_key(id) WHERE kind = 'zone' AND state = 'current';}
	);
	return;
}

my ($secret, $key) = (\&given_app_secret, \&given_key);
session(
	'apps',
	"+SELECT * FROM keyrot.create_app('One', 'app-1', '@{[ $secret->() ]}', 'the first')",
	"+SELECT * FROM keyrot.create_app('Two', 'app-2')",
	"+SELECT keyrot.reset_app_secret('app-1', new_app_secret => '@{[ $secret->() ]}')",
	"+SELECT keyrot.reset_app_secret('app-1', new_app_secret => '@{[ $secret->() ]}', grace_period => '1 hour')",
	"+SELECT keyrot.reset_app_secret('app-1', 'app-1a', '@{[ $secret->() ]}', '1 hour')",
	"+SELECT keyrot.reset_app_secret('app-1a', 'app-1b', '@{[ $secret->() ]}')",
	"+SELECT keyrot.reset_app_secret('app-2', grace_period => '1 hour')");
read_secrets();
session(
	'more apps',
	"+SELECT keyrot.reset_app_secret('app-2')",
	"+SELECT keyrot.end_app_grace('app-2')",
	"+SELECT keyrot.modify_app('app-2', 'Second', 'renamed')",
	"+SELECT keyrot.set_app_owner('app-2', 'pg_monitor')",
	"+SELECT * FROM keyrot.list_apps()",
	"+SELECT keyrot.sign_for_app('app-2', 'm'), keyrot.sign_string_for_app('app-2', 'm')",
	"+SELECT keyrot.verify_app_signature('app-2', 'm', 's'), keyrot.verify_app_string('app-1', 'm', 's')",
	"+SELECT * FROM keyrot.check_app_string('app-1', 'm', 's'), keyrot.sign_string_with_all_for_app('app-2', 'm')",
	"+SELECT * FROM keyrot.create_app('Three', 'app-3', '@{[ $secret->() ]}')",
	"+SELECT keyrot.delete_app('app-3')");
session(
	'zones',
	"+SELECT keyrot.create_zone_key('zone-1', '@{[ $key->() ]}')",
	"+SELECT keyrot.create_zone_key('zone-2')",
	"+SELECT keyrot.modify_zone_key('zone-1', '@{[ $key->() ]}')",
	"+SELECT keyrot.modify_zone_key('zone-1', '@{[ $key->() ]}', '1 hour')",
	"+SELECT * FROM keyrot.add_gateway('zone-1', 'gate-1')",
	"+SELECT * FROM keyrot.add_gateway('zone-2')",
	"+SELECT keyrot.sign_for_zone('zone-1', 'm'), keyrot.sign_string_for_zone('zone-1', 'm')",
	"+SELECT keyrot.verify_zone_signature('zone-1', 'm', 's'), keyrot.verify_zone_string('zone-1', 'm', 's')",
	"+SELECT keyrot.verify_gateway_signature('zone-1', 'gate-1', 'm', 's')",
	"+SELECT keyrot.verify_gateway_string('zone-1', 'gate-1', 'm', 's')",
	"+SELECT * FROM keyrot.check_zone_string('zone-1', 'm', 's'), keyrot.check_gateway_string('zone-1', 'gate-1', 'm', 's')",
	"+SELECT keyrot.verify_gateway_token('zone-1', 'gate-1', t), c.* FROM keyrot.sign_token_for_zone('zone-1', '{\"exp\": 1}') AS t,"
	  . " keyrot.check_gateway_token('zone-1', 'gate-1', t) AS c, keyrot.sign_string_with_all_for_zone('zone-1', 'm')",
	"+SELECT keyrot.remove_gateway('zone-1', 'gate-1')",
	"+SELECT keyrot.set_zone_owner('zone-1', 'pg_monitor')",
	"+SELECT keyrot.end_zone_grace('zone-1')",
	"+SELECT keyrot.delete_zone_key('zone-1')",
	"+SELECT keyrot.create_zone_key('zone-1', '@{[ $key->() ]}')",
	"+SELECT version, data_keys FROM $STATUS",
	"+SELECT count(*) FROM keyrot.read_metrics()",
	"+SELECT keyrot.prune_requests('1 day')",
	"+SELECT count(keyrot.request_time(request_id)), count(keyrot.request_id_at(changed_at)) FROM keyrot.changes()",
	"+SELECT keyrot.rebind_owners()");
read_secrets();
my @refreshed = session(
	'refreshing',
	"+SELECT secret_key FROM keyrot.refresh_zone_key('zone-2')",
	"+SELECT secret_key FROM keyrot.refresh_zone_key('zone-2', '1 hour')",
	"+BEGIN",
	"+SELECT secret_key FROM keyrot.refresh_zone_key('zone-2')",
	"+SELECT keyrot.reset_app_secret('app-2')",
	"+SELECT app_secret FROM keyrot.describe_app_security('app-2')",
	"+SELECT keyrot.reset_app_secret('app-1b', 'app-1c', '@{[ $secret->() ]}', '1 hour')",
	"+SELECT keyrot.modify_zone_key('zone-1', '@{[ $key->() ]}', '1 hour')",
	"+SELECT * FROM keyrot.create_app('Undone', 'app-undone', '@{[ $secret->() ]}')",
	"+SELECT keyrot.create_zone_key('zone-undone', '@{[ $key->() ]}')",
	"+SAVEPOINT s",
	"+SELECT secret_key FROM keyrot.refresh_zone_key('zone-2')",
	"+ROLLBACK TO s",
	"+ROLLBACK");
push @generated, grep { $_ ne '' && !/^$REQUEST_ID$/ && !/app-/ } map { $_->{output} } @refreshed;

# What fails, before and after the secret was read: malformed, the same as before, in the wrong place,
# taken, unknown, and all of it inside a transaction.
my $current     = given_app_secret();
my $current_key = given_key();
session(
	'failing',
	"+SELECT keyrot.reset_app_secret('app-2', new_app_secret => '$current')",
	"-SELECT keyrot.reset_app_secret('app-2', new_app_secret => '$current')",
	"-SELECT keyrot.reset_app_secret('app-2', new_app_secret => '@{[ $secret->() ]} ')",
	"-SELECT keyrot.reset_app_secret('app-2', new_app_secret => '@{[ $secret->() ]}', grace_period => '-1 s')",
	"-SELECT keyrot.reset_app_secret('app-2', '@{[ $secret->() ]}')",
	"-SELECT keyrot.reset_app_secret('@{[ $secret->() ]}')",
	"-SELECT keyrot.reset_app_secret('app-2', 'app-1', '@{[ $secret->() ]}', '1 hour')",
	"-SELECT keyrot.reset_app_secret('app-unknown', new_app_secret => '@{[ $secret->() ]}')",
	"-SELECT * FROM keyrot.create_app('One', 'app-1', '@{[ $secret->() ]}')",
	"-SELECT * FROM keyrot.create_app(NULL, 'app-4', '@{[ $secret->() ]}')",
	"-SELECT * FROM keyrot.describe_app_security('@{[ $secret->() ]}')",
	"-SELECT keyrot.sign_for_app('@{[ $secret->() ]}', 'm')",
	"+SELECT keyrot.verify_app_string('@{[ $secret->() ]}', 'm', '@{[ $secret->() ]}')",
	"+SELECT keyrot.modify_zone_key('zone-2', '$current_key', '1 hour')",
	"+SELECT keyrot.modify_zone_key('zone-2', '$current_key')",
	"-SELECT keyrot.modify_zone_key('zone-2', '@{[ $key->() ]}=')",
	"-SELECT keyrot.modify_zone_key('zone-unknown', '@{[ $key->() ]}')",
	"-SELECT keyrot.create_zone_key('zone-2', '@{[ $key->() ]}')",
	"-SELECT keyrot.create_zone_key('@{[ $key->() ]}')",
	"-SELECT * FROM keyrot.add_gateway('zone-2', '@{[ $key->() ]}')",
	"+BEGIN",
	"+SELECT keyrot.reset_app_secret('app-2', new_app_secret => '@{[ $secret->() ]}', grace_period => '1 hour')",
	"+SELECT keyrot.modify_zone_key('zone-2', '@{[ $key->() ]}')",
	"-SELECT 1/0",
	"+COMMIT");

# The clouds' own shapes: what succeeds, and what is answered as a failure and undone.
sub api
{
	my ($action, %params) = @_;
	return "+SELECT * FROM keyrot.api('$action', '{" . join(', ', map { qq("$_": "$params{$_}") } sort keys %params) . "}')";
}
session(
	'api',
	api('CreateApp', AppName => 'Four', AppKey => 'app-api', AppSecret => $secret->()),
	api('ResetAppSecret', AppKey => 'app-api', NewAppSecret => $secret->(), GracePeriod => 3600),
	api('ResetAppSecret', AppKey => 'app-api', NewAppSecret => $secret->(), NewAppKey => 'app-1'),
	api('ResetAppSecret', AppKey => $secret->()),
	api('ResetAppSecret', AppKey => 'app-api', $secret->() => 'x', ClientToken => 'token', NewAppSecret => $secret->()),
	api('CreateMultiPathGatewaySecretKey', ZoneId => 'zone-api', SecretKey => $key->()),
	api('CreateMultiPathGatewaySecretKey', ZoneId => 'zone-api', SecretKey => $key->()),
	api('ModifyMultiPathGatewaySecretKey', ZoneId => 'zone-api', SecretKey => $key->(), GracePeriod => 3600),
	api('ModifyMultiPathGatewaySecretKey', ZoneId => 'zone-api', SecretKey => $key->() . 'x'),
	api('ModifyMultiPathGatewaySecretKey', ZoneId => 'zone-api', $key->() => 'x'),
	api($secret->()));
read_secrets();

# Keys are replaced, and every secret moves to another one.
sub wrapped { return $node->safe_psql('marked', q{SELECT id, encode(wrapped, 'hex') FROM keyrot.data_key}); }
my @wrapped = wrapped();
session(
	'keys',
	'+SELECT keyrot.create_master_key()',
	'+SELECT keyrot.rotate_master_key()',
	'+SELECT keyrot.rotate_data_key()',
	'+SELECT keyrot.rewrap_data_keys()',
	'+CALL keyrot.reseal(1)');
push @wrapped, wrapped();
read_secrets();

# A statement of the caller's own that fails after the call has returned, and one by many rows.
session(
	'statements',
	"-SELECT keyrot.reset_app_secret('app-2', new_app_secret => '@{[ $secret->() ]}'), 1 / (random() * 0)::int",
	"+SELECT count(*) FROM generate_series(1, 20) AS i, keyrot.create_app('Many', 'many-' || i)",
	"+SELECT keyrot.reset_app_secret('many-' || i, grace_period => '1 hour') FROM generate_series(1, 20) AS i",
	"+SELECT keyrot.set_app_policy('app-2', '1 day'), keyrot.set_zone_policy('zone-2', '1 day')",
	"+SELECT keyrot.disable_app('app-2'), keyrot.enable_app('app-2'), keyrot.disable_zone('zone-2'), keyrot.enable_zone('zone-2')",
	"+SELECT * FROM keyrot.find_secret('@{[ $secret->() ]}')",
	"+SELECT keyrot.reset_app_secret('app-2', new_app_secret => '@{[ $secret->() ]}', grace_period => '1 hour')",
	"+SELECT keyrot.revert_app_secret('app-2')",
	"+SELECT keyrot.modify_zone_key('zone-2', '@{[ $key->() ]}', '1 hour')",
	"+SELECT keyrot.revert_zone_key('zone-2')",
	"+SELECT * FROM keyrot.rotate_due('0', '1 hour', 3)",
	"+CALL keyrot.reset_apps(app_keys => ARRAY['app-2', 'many-1'], grace_period => '1 hour', batch_size => 1)",
	"+CALL keyrot.refresh_zones(all_owners => true)",
	"+SELECT * FROM keyrot.running_work()",
	"+SELECT keyrot.node_problem()",
	"-SELECT keyrot.distribute()",
	"-SELECT * FROM keyrot.read_distributed('none')"
);
read_secrets();

my %called = map { $_ => 1 } map { $_->{statement} =~ /keyrot\.(\w+)\(/g } @said;
is_deeply(
	[   grep { !$called{$_} } split /\n/,
		$node->safe_psql(
			'marked', q{
		SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'keyrot'::regnamespace
		   AND proname NOT IN ('describe_zone_key', 'has_rights_of') ORDER BY 1}) ],
	[],
	'every function was called');

# A session that is still open, and one that was killed in the middle.
my $open = $node->background_psql('marked');
$open->query_safe(
	"BEGIN; SELECT keyrot.reset_app_secret('many-1', new_app_secret => '@{[ $secret->() ]}', grace_period => '1 hour')"
);

# What the search must find, to show that it can: sealed values of the tables; values in clear that were
# put in a table, as whole texts, as bytes and as digits.
my @sealed = split /\n/, $node->safe_psql(
	'marked', q{
	SELECT encode(secret, 'hex') FROM keyrot.app WHERE secret IS NOT NULL
	UNION ALL SELECT encode(previous_secret, 'hex') FROM keyrot.app WHERE previous_secret IS NOT NULL
	UNION ALL SELECT encode(secret, 'hex') FROM keyrot.zone WHERE secret IS NOT NULL});
my $clear   = 'CLEAR-' . random_hex(30);
# One of several may lie across the boundary of two pages of WAL.
$node->safe_psql('marked', "CREATE TABLE clear AS SELECT '$clear'::text AS t FROM generate_series(1, 3); CHECKPOINT");

# Each form in which a secret could lie somewhere, cut to its first and last sixteen characters.
sub forms_of
{
	my (@bytes) = @_;
	my %forms;
	for my $bytes (@bytes)
	{
		my $hex    = unpack 'H*', $bytes;
		my $base64 = encode_base64($bytes, '') =~ s/=+\z//r;
		for my $form ($bytes, $hex, uc $hex, $base64)
		{
			$forms{ substr $form, 0, 16 } = 1;
			$forms{ substr $form, -16 } = 1;
		}
	}
	return keys %forms;
}

sub bytes_of_secret
{
	my ($secret) = @_;
	return ($secret, pack 'H*', $secret) if $secret =~ /\A[0-9a-f]{64}\z/;
	return ($secret, decode_base64 $secret) if $secret =~ m{\A[A-Za-z0-9+/]{43,}={0,2}\z};
	return $secret;
}

my @master = map { pack 'H*', $_ } split /\n/, slurp_file($path);
my %secret_forms = map { $_ => 'a secret' } forms_of(map { bytes_of_secret($_) } @given, @generated);
my %master_forms = map { $_ => 'a master key' } forms_of(@master);
my %data_key_forms;
for my $data_key (can_open_sealed() ? @wrapped : ())
{
	my ($id, $hex) = split /\|/, $data_key;
	my @opened = grep { defined } map { open_sealed($_, $Keyrot::KIND_DATA_KEY, $id, 1, pack 'H*', $hex) } @master;
	die "data key $id does not open" unless @opened == 1;
	$data_key_forms{$_} = 'a data key' for forms_of(@opened);
}
my %sealed_forms = map { substr(pack('H*', $_), 0, 30) => 'a sealed value' } @sealed, map { s/.*\|//r } @wrapped;
my %clear_forms  = ($clear => 'a text in clear');
my %wanted       = (%secret_forms, %master_forms, %data_key_forms, %sealed_forms, %clear_forms);
my ($pattern)    = map { qr/($_)/ } join '|', map { quotemeta } sort { length $b <=> length $a } keys %wanted;

# Reads every byte below a folder; returns what was found, as name => form => file => number of times.
sub search
{
	my ($folder) = @_;
	my (%found, $bytes);
	find(
		{   no_chdir => 1,
			wanted   => sub {
				my $file = $_;
				return unless -f $file && !-l $file;
				open my $handle, '<:raw', $file or return;
				local $/ = undef;
				my $contents = <$handle> // '';
				$bytes += length $contents;
				$found{ $wanted{$1} }{$1}{$file}++ while $contents =~ /$pattern/g;
			}
		},
		$folder);
	return (\%found, $bytes);
}

sub nothing_in_clear
{
	my ($name) = @_;
	my ($found, $bytes) = search($node->data_dir);
	my $megabytes = int $bytes / 1024 / 1024;
	is_deeply($found->{'a secret'}     // {}, {}, "$name: no secret in $megabytes MB");
	is_deeply($found->{'a data key'} // {}, {}, "$name: no data key");
	my %masters = %{ $found->{'a master key'} // {} };
	is_deeply(
		\%masters,
		{ map { (substr($_, 0, 16) => { $path => 1 }, substr($_, -16) => { $path => 1 }) } map { unpack 'H*', $_ } @master },
		"$name: each of " . @master . ' master keys in its own file only, and once');
	is( scalar keys %{ $found->{'a sealed value'} // {} },
		scalar keys %sealed_forms,
		"$name: all that is sealed is found");
	my @files   = map  { keys %$_ } values %{ $found->{'a sealed value'} // {} };
	my $in_wal  = grep { m{/pg_wal/} } @files;
	my $in_heap = grep { m{/base/} } @files;
	ok($in_wal && $in_heap, "$name: in WAL and in tables");
	my @clear_files = keys %{ $found->{'a text in clear'}{$clear} // {} };
	ok((grep { m{/pg_wal/} } @clear_files) && (grep { m{/base/} } @clear_files),
		"$name: as is a text in clear");
	return;
}

note scalar(@given)
  . ' secrets given, '
  . scalar(@generated)
  . ' generated, '
  . scalar(keys %wanted)
  . ' forms';
cmp_ok(scalar @given,     '>=', 35, 'many secrets were given');
cmp_ok(scalar @generated, '>=', 30, 'and generated');
nothing_in_clear('running');

# A crash, recovery, and an orderly end.
$node->stop('immediate');
eval { $open->quit };
$node->start;
$node->safe_psql('marked', 'VACUUM; CHECKPOINT');
$node->stop;
nothing_in_clear('after a crash');

done_testing();

# Monitoring with the programs that people use: both exporters deliver keyrot.metrics row by row, Prometheus takes it
# from them, and answers every expression that the rules and the dashboard of monitoring/ use.  Alerts on what is wrong
# here are raised; promtool tests the others.
#
# Why not pg_regress: it is about other programs, and what the worker counts.  They listen on loopback, on free ports.
# Where a program is missing (Debian: prometheus, prometheus-postgres-exporter, prometheus-sql-exporter), its points
# are skipped.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Cwd qw(abs_path);
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP qw(decode_json);
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $TREE   = abs_path("$FindBin::RealBin/../..");
my $FILES  = "$TREE/monitoring";
my $folder = PostgreSQL::Test::Utils::tempdir;
my $http   = HTTP::Tiny->new(timeout => 10);
my $quiet  = { map { $_ => '' } grep { /^(?:https?_proxy|all_proxy)$/i } keys %ENV };
delete @ENV{ keys %$quiet };

my %program;
for my $name (qw(prometheus promtool prometheus-postgres-exporter prometheus-sql-exporter))
{
	($program{$name}) = grep { -x } map { "$_/$name" } split /:/, $ENV{PATH};
}

my (@started, %port_of);
END { $_->kill_kill(grace => 5) for @started; }


# A server with something to tell

my $node = new_server('seen', conf => "shared_preload_libraries = 'keyrot'\nkeyrot.database = 'seen'\nkeyrot.app_rate_limit = 0");
add_databases($node, 'seen', 'unseen');
$node->safe_psql(
	'seen', q{
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	SELECT FROM generate_series(1, 9) AS i, keyrot.create_app('App', app_key => 'app-' || i);
	SELECT FROM keyrot.create_zone_key('zone-1');
	SELECT keyrot.set_app_policy('app-1', rotate_after => '1 microsecond');
	SELECT keyrot.set_app_policy('app-2', rotate_after => '1 microsecond'), keyrot.disable_app('app-2');
	SELECT keyrot.set_app_policy('app-3', lifetime => '3 days');
	SELECT keyrot.set_app_policy('app-4', lifetime => '30 days');
	SELECT keyrot.set_app_policy('app-5', lifetime => '1 microsecond');
	SELECT keyrot.reset_app_secret('app-6', grace_period => '20 days');
	SELECT keyrot.reset_app_secret('app-7', new_app_key => 'app-7-new', grace_period => '2 hours');
	SELECT keyrot.reset_app_secret('app-4', grace_period => '1 hour');
	SELECT keyrot.delete_app('app-8');
	SELECT keyrot.refresh_zone_key('zone-1', grace_period => '1 hour');

	-- All but app-4 were rotated the day before yesterday; the new version of the apps was used, both of the zone.
	CREATE TABLE signed AS SELECT 'app' AS kind, s.* FROM unnest(ARRAY['app-4', 'app-6', 'app-7-new']) AS id, keyrot.sign_string_with_all_for_app(id, 'm') AS s
	UNION ALL SELECT 'zone', s.* FROM keyrot.sign_string_with_all_for_zone('zone-1', 'm') AS s;
	SELECT CASE WHEN kind = 'zone' THEN keyrot.verify_zone_string(id, 'm', signature)
	            WHEN version = 2 THEN keyrot.verify_app_string(id, 'm', signature) END FROM signed;
	UPDATE keyrot.app SET modified_at = modified_at - interval '2 days' WHERE app_key ~ 'app-[67]';
	UPDATE keyrot.zone SET modified_at = modified_at - interval '2 days'});
attempts($node, 'seen', q{SELECT keyrot.reset_app_secret('no-such-app')} , q{SELECT keyrot.describe_app_security('no-such-app')},
	q{BEGIN; SELECT keyrot.reset_app_secret('app-9'); ROLLBACK},
	q{SELECT keyrot.api('ResetAppSecret', '{"AppKey": "no-such-app"}')},
	q{BEGIN; SAVEPOINT s; SELECT keyrot.reset_app_secret('app-9'); ROLLBACK TO s; SELECT keyrot.reset_app_secret('app-9'); COMMIT});

# A metric's value, or those of all its rows by their one label.
sub metric
{
	my ($name, $database) = @_;
	return $node->safe_psql($database // 'seen',
		"SELECT string_agg(concat_ws(' ', (SELECT string_agg(l.value, ' ') FROM jsonb_each_text(labels) AS l), value), ', ' ORDER BY labels::text)
		   FROM keyrot.metrics WHERE name = '$name'");
}

# What the worker counted last may be older than the credentials: reading asks it to count, once a minute.
sub counted { return metric('keyrot_credential_in_grace') eq 'app 3, zone 1'; }


# The view

is(metric('keyrot_failures_total'), 'P0002 3, disabled 0, expired 0, malformed 0, mismatch 0, no such gateway 0, rolled back 2, '
	  . 'token expired 0, token not yet valid 0, unknown 0', 'failures are counted by reason');
is(metric('keyrot_requests_total'),
	join(', ', map { "$_->[0] $_->[1]" } sort { $a->[0] cmp $b->[0] }
		  [ create_app => 9 ], [ create_zone_key => 1 ], [ set_app_policy => 5 ], [ disable_app => 1 ], [ reset_app_secret => 8 ],
		  [ delete_app => 1 ], [ refresh_zone_key => 1 ], [ describe_app_security => 1 ], [ create_master_key => 1 ]),
	'requests by function, each once, whatever became of it');
ok(wait_until(sub { return $node->safe_psql('seen', q{SELECT count(*) FROM keyrot.request}) eq '28' }), 'as many as come to be on record');
is(metric('keyrot_requests_total', 'unseen'), '', 'another database than keyrot.database does not tell of them');
is(metric('keyrot_credential_current', 'unseen'), '', 'nor of its credentials');

ok(wait_until(sub { return $node->safe_psql('seen', q{SELECT count(*) FROM keyrot.credential_use}) eq '4' }), 'and four uses are written down');

$node->restart;    # a worker that starts afresh counts at once
ok(wait_until(\&counted), 'the worker has counted the credentials');
my %expected = (
	current => 'app 6, zone 1', retiring => 'app 1, zone 0', retired => 'app 1, zone 0', disabled => 'app 1, zone 0',
	expired => 'app 1, zone 0', overdue => 'app 1, zone 0', expiring => 'app 1, zone 0', may_end => 'app 2, zone 0');
is(metric("keyrot_credential_$_"), $expected{$_}, "$_ credentials") for sort keys %expected;
is( $node->safe_psql('seen', q{
	SELECT state, count(*) FROM keyrot.credentials GROUP BY 1
	EXCEPT SELECT replace(name, 'keyrot_credential_', ''), sum(value) FROM keyrot.metrics GROUP BY 1}),
	'', 'which are the states of the view keyrot.credentials');
is($node->safe_psql('seen', q{SELECT round(value / 86400) FROM keyrot.metrics WHERE name = 'keyrot_grace_seconds' AND labels ->> 'kind' = 'app'}),
	'20', 'the longest grace');
is(metric('keyrot_failures_total') =~ s/ 0(?=,|\z)//gr,
	'disabled, expired, malformed, mismatch, no such gateway, token expired, token not yet valid, unknown', 'a restart sets counters to nothing');

# Numbers that somebody reads are brought up to date twice a minute; the end of this program looks whether they were.
$node->safe_psql('seen', q{SELECT keyrot.disable_app('app-9')});
is(metric('keyrot_credential_disabled'), 'app 1, zone 0', 'and not counted anew for each reader');
attempts($node, 'seen', q{SELECT keyrot.reset_app_secret('no-such-app')});



# The exporters

sub start_program
{
	my ($name, $settings, @arguments) = @_;
	local @ENV{ keys %$settings } = values %$settings;
	push @started, IPC::Run::start([ $program{$name}, @arguments ], '<', \undef, '>', "$folder/$name.log", '2>&1');
	return;
}

sub answer
{
	my ($url) = @_;
	my $response = $http->get($url);
	return $response->{success} ? $response->{content} : '';
}

# A page of an exporter as in the view: a line for each name and set of labels, those of the exporter's own left out.
sub exported
{
	my ($page) = @_;
	my @rows;
	while ($page =~ /^(?:sql_)?(keyrot_\w+)(?:\{(.*)\})? (\S+)$/mg)
	{
		my ($name, $labels, $value) = ($1, $2 // '', $3 + 0);
		my %labels = $labels =~ /(\w+)="([^"]*)"/g;
		delete @labels{qw(server col database driver host sql_job user)};
		push @rows, join ' ', $name, map({ "$_=$labels{$_}" } sort keys %labels), $name =~ /_seconds$/ ? () : $value;
	}
	return join "\n", sort @rows;
}

sub in_view
{
	return join "\n", sort split /\n/, $node->safe_psql(
		'seen', q{
		SELECT concat_ws(' ', name, (SELECT string_agg(l.key || '=' || l.value, ' ' ORDER BY l.key) FROM jsonb_each_text(labels) AS l),
		                 CASE WHEN name !~ '_seconds$' THEN value END)
		  FROM keyrot.metrics});
}

my %exporter = (
	'prometheus-postgres-exporter' => sub {
		my ($port) = @_;
		start_program(
			'prometheus-postgres-exporter',
			{ DATA_SOURCE_NAME => join ' ', 'host=' . $node->host, 'port=' . $node->port, 'user=monitor', 'dbname=seen', 'sslmode=disable' },
			"--web.listen-address=127.0.0.1:$port", '--disable-default-metrics', '--disable-settings-metrics',
			"--extend.query-path=$FILES/postgres_exporter.yml");
	},
	'prometheus-sql-exporter' => sub {
		my ($port) = @_;
		my $place = sprintf 'postgres://monitor@/seen?host=%s&port=%s&sslmode=disable', $node->host, $node->port;
		my $text  = slurp_file("$FILES/sql_exporter.yml");
		$text =~ s{'postgres://.*'}{'$place'} or die 'no connection to replace';
		$text =~ s{interval: 15s}{interval: 1s};
		append_to_file("$folder/sql.yml", $text);
		start_program('prometheus-sql-exporter', {}, "-web.listen-address=127.0.0.1:$port", "-config.file=$folder/sql.yml");
	});

for my $name (sort keys %exporter)
{
  SKIP:
	{
		skip "there is no $name", 1 unless $program{$name};
		my $port = $port_of{$name} = PostgreSQL::Test::Cluster::get_free_port();
		$exporter{$name}->($port);
		my ($there, $here) = ('', '');
		wait_until(sub { ($there, $here) = (exported(answer("http://127.0.0.1:$port/metrics")), in_view()); return $there eq $here });
		is($there, $here, "$name delivers all rows of the view, and no others");
	}
}


# Prometheus

# All expressions of a file: of the rules, or of the dashboard with its variables replaced.
sub expressions_of
{
	my ($file) = @_;
	my $text = slurp_file("$FILES/$file");
	return $text =~ /^\s+expr: (.+)$/mg if $file =~ /yml$/;
	return map { s/\$__rate_interval/1m/gr =~ s/\$instance/.+/gr } map { $_->{expr} }
	  map { @{ $_->{targets} } } @{ decode_json($text)->{panels} };
}

sub ask
{
	my ($expression) = @_;
	my $port    = $port_of{prometheus};
	my $content = $http->post_form("http://127.0.0.1:$port/api/v1/query", { query => $expression })->{content};
	my $result  = eval { decode_json($content) };
	return $result // { status => 'error', error => $content };
}

# How many series an expression gives; -1: it is none.
sub series
{
	my ($expression) = @_;
	my $answer = ask($expression);
	return $answer->{status} eq 'success' ? scalar @{ $answer->{data}{result} } : -1;
}

SKIP:
{
	skip 'there is no promtool', 3 unless $program{promtool};
	for my $arguments ([ 'check', 'rules', "$FILES/rules.yml" ], [ 'test', 'rules', "$TREE/test/monitoring/rules_test.yml" ],
		[ 'check', 'config', '--syntax-only', "$FILES/prometheus.yml" ])
	{
		my $said = '';
		my $ok   = IPC::Run::run([ $program{promtool}, @$arguments ], '<', \undef, '>&', \$said);
		ok($ok, "promtool @{$arguments}[0, 1]") or diag($said);
	}
}

my @alerts = slurp_file("$FILES/rules.yml") =~ /^\s+- alert: (\w+)$/mg;
my $tests  = slurp_file("$TREE/test/monitoring/rules_test.yml");
is_deeply([ grep { $tests !~ /alertname: $_\n\s+exp_alerts:\n/ } @alerts ], [], 'each alert is raised in a test of promtool');

SKIP:
{
	skip 'there is no Prometheus, or no exporter for it', 1
	  if !$program{prometheus} || grep { !$port_of{$_} } keys %exporter;
	my $port = $port_of{prometheus} = PostgreSQL::Test::Cluster::get_free_port();
	my $conf = slurp_file("$FILES/prometheus.yml");
	$conf =~ s{/etc/prometheus/keyrot-rules.yml}{$FILES/rules.yml} or die 'no rules to replace';
	$conf =~ s{localhost:9187}{127.0.0.1:$port_of{'prometheus-postgres-exporter'}} or die 'no target to replace';
	$conf =~ s{localhost:9237}{127.0.0.1:$port_of{'prometheus-sql-exporter'}} or die 'no target to replace';
	append_to_file("$folder/prometheus.yml", "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n$conf");
	start_program('prometheus', {}, "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/prometheus",
		"--web.listen-address=127.0.0.1:$port", '--log.level=warn');

	# Rates need two samples of what there is.
	ok(wait_until(sub { return series('rate(keyrot_failures_total[1m])') >= 2 && series('keyrot_build_info') == 2 }),
		'Prometheus takes the metrics from both exporters, under the same names')
	  or diag(slurp_file("$folder/prometheus.log"));

	my %used;
	for my $file ('rules.yml', 'grafana.json')
	{
		my @expressions = expressions_of($file);
		cmp_ok(scalar @expressions, '>=', 10, "$file has expressions");
		for my $expression (@expressions)
		{
			isnt(series($expression), -1, "$file: $expression") or diag(ask($expression)->{error});
			$used{$_}++ for $expression =~ /\b(keyrot_\w+)/g;
			next if $file eq 'rules.yml' || $expression =~ /limit_full|== 1/;
			cmp_ok(series($expression), '>', 0, 'which finds something');
		}
	}
	my @without = grep { wait_until(sub { return series($_) == 0 ? 0 : 1 }) ? series($_) % 2 : 1 } sort keys %used;
	is_deeply(\@without, [], 'each metric that they use comes from both exporters');
	is_deeply([ grep { !$used{$_} } map { s/ .*//r } split /\n/, in_view() ], [], 'and they use each metric that there is');

	# What is wrong here: app-1 is due, app-3 expires, nobody needs that of app-6, and the key file lies where initdb put it.
	for my $alert (qw(KeyrotOverdue KeyrotExpiring KeyrotGraceMayEnd KeyrotKeyFileInDataDirectory))
	{
		ok(wait_until(sub { return series(qq{ALERTS{alertname="$alert"}}) == 2 }), "$alert is raised");
	}
	is(series('ALERTS{alertname=~"KeyrotWorkerFailed|KeyrotNoMasterKey|KeyrotRequestsLost|KeyrotNotRecorded|KeyrotNoMetrics"}'), 0, 'others are not');
	rename key_file($node), "$folder/key" or die "cannot rename: $!";
	ok(wait_until(sub { return series('ALERTS{alertname="KeyrotNoMasterKey"}') == 2 }), 'where the key file is gone, KeyrotNoMasterKey is');
	is(series('ALERTS{alertname="KeyrotStandbyWithoutMasterKey"}'), 0, 'and not that of a standby');
}

ok(wait_until(sub { return metric('keyrot_credential_disabled') eq 'app 2, zone 0' }), 'readers had the credentials counted again');

done_testing();

# Clients that rotate without end while something happens to their server, and what is checked of it
# afterwards: nothing that was acknowledged is missing, nothing is there by halves, and nothing that
# nobody asked for.
#
# Each client is a psql that is fed by a process of its own, and tells, in a file, of every call that it
# tries and of every answer.  So what clients know is known after the server is gone, and after they are.
#
#     my $load = KeyrotLoad->new($node, 'database');
#     $load->prepare;
#     for (...)
#     {
#         $load->begin;
#         $load->wait_for(500);
#         ... $node is killed, and clients with it ...
#         $load->wait_for_end;
#         ... and started again ...
#         $load->check_acknowledged($node);  ...
#     }

package KeyrotLoad;

use strict;
use warnings FATAL => 'all';

use Exporter     qw(import);
use IO::Handle;
use Keyrot;
use POSIX        ();
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(between_zero_and random_order remembered_seed);

# How often a client makes each kind of call, in parts of their sum.
my %MIX = (
	shared_app  => 3,
	shared_zone => 3,
	pair        => 2,
	chain       => 3,
	token       => 3,
	again       => 1,
	failing     => 2,
	undone      => 1);

# Grace periods without a blank, since psql prints them word by word; the short one ends while the load runs.
my @GRACES = ('0', '0', '1h', '200ms');


# Random numbers

my $seed;

# The seed of this run, which KEYROT_SEED repeats: which calls are made, and when something happens to the
# server.  How far the clients are at that moment is the machine's own.
sub remembered_seed
{
	if (!defined $seed)
	{
		$seed = $ENV{KEYROT_SEED} // hex random_hex(7);
		srand $seed;
		note("KEYROT_SEED=$seed repeats what is random here");
	}
	return $seed;
}

sub between_zero_and
{
	my ($limit) = @_;
	remembered_seed();
	return rand $limit;
}

sub random_order
{
	my (@values) = @_;
	my %rank = map { $_ => between_zero_and(1) } 0 .. $#values;
	return @values[ sort { $rank{$a} <=> $rank{$b} } keys @values ];
}

END
{
	diag("KEYROT_SEED=$seed repeats what was random here") if defined $seed && !Test::More->builder->is_passing;
}


# The clients

# A load on a database of a server.  Options: clients, how many; positions => 1, to have clients tell where in
# WAL they are, so that acknowledged calls can be put into the order of their commits; administrators => 1, for
# somebody who replaces master key and data keys meanwhile, and has the secrets moved to the new ones.
sub new
{
	my ($class, $node, $database, %options) = @_;
	return bless {
		clients        => 5,
		positions      => 0,
		administrators => 0,
		%options,
		node     => $node,
		database => $database,
		folder   => PostgreSQL::Test::Utils::tempdir(),
		round    => 0,
		totals   => {}
	}, $class;
}

# What is rotated by all clients, and a function that fails and tells by which request.
sub prepare
{
	my ($self) = @_;
	$self->{node}->safe_psql($self->{database}, <<'END');
SELECT FROM keyrot.create_app('Shared', 'app-shared');
SELECT FROM keyrot.create_zone_key('zone-shared');
SELECT FROM keyrot.create_app('Pair', 'app-pair');
SELECT FROM keyrot.create_zone_key('zone-pair');
CREATE FUNCTION public.failing(target text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE context text;
	BEGIN
		PERFORM keyrot.refresh_zone_key(target);
		RETURN 'did not fail';
	EXCEPTION WHEN no_data_found THEN
		GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
		RETURN substring(context FROM 'keyrot request (\S+):');
	END $$;
END
	return;
}

# The call that a try made or would make; so that it can be made again.
sub call
{
	my ($try) = @_;
	my ($name, $grace) = @$try{qw(client grace)};
	my $token = $try->{token} eq '-' ? '' : ", client_token => '$try->{token}'";
	if ($try->{kind} eq 'chain')
	{
		my $before = $try->{step} - 1;
		return "request_id FROM keyrot.reset_app_secret('chain-$name-$before', 'chain-$name-$try->{step}',"
		  . " grace_period => '$grace'$token) AS request_id";
	}
	return "request_id FROM keyrot.refresh_zone_key('zone-$name', '$grace'$token)";
}

# What a client says next; each returns psql's input for one try.
my %SAY = (
	shared_app => sub {
		my ($client, $head, $grace) = @_;
		return "\\echo try $head\nSELECT 'done', keyrot.reset_app_secret('app-shared', grace_period => '$grace');\n";
	},
	shared_zone => sub {
		my ($client, $head, $grace) = @_;
		return "\\echo try $head\nSELECT 'done', request_id FROM keyrot.refresh_zone_key('zone-shared', '$grace');\n";
	},
	pair => sub {
		my ($client, $head, $grace) = @_;
		return <<"END";
\\echo try $head
BEGIN;
SELECT 'part', keyrot.reset_app_secret('app-pair', grace_period => '$grace');
SELECT 'part', request_id FROM keyrot.refresh_zone_key('zone-pair', '$grace');
COMMIT;
\\echo committed
END
	},
	chain => sub {
		my ($client, $head, $grace) = @_;
		my $step  = ++$client->{step};
		my $token = $step % 2 ? "step-$client->{name}-$step" : '-';
		my %try   = (client => $client->{name}, kind => 'chain', step => $step, grace => $grace, token => $token);
		return "\\echo try $head $token $step $grace\nSELECT 'done', " . call(\%try) . ";\n";
	},
	token => sub {
		my ($client, $head, $grace) = @_;
		my $token = 'token-' . $client->{name} . '-' . ++$client->{tokens};
		$client->{last} = { client => $client->{name}, kind => 'token', grace => $grace, token => $token };
		return "\\echo try $head $token 0 $grace\nSELECT 'done', " . call($client->{last}) . ";\n";
	},
	again => sub {
		my ($client, $head) = @_;
		return '' unless $client->{last};
		return "\\echo try $head $client->{last}{token}\nSELECT 'done', " . call($client->{last}) . ";\n";
	},
	failing => sub {
		my ($client, $head) = @_;
		return "\\echo try $head\nSELECT 'done', public.failing('unknown-$client->{name}');\n";
	},
	undone => sub {
		my ($client, $head) = @_;
		return
		  "\\echo try $head\nBEGIN;\nSELECT 'part', keyrot.reset_app_secret('app-shared');\nROLLBACK;\n\\echo committed\n";
	});

sub next_input
{
	my ($self, $client) = @_;
	my @kinds = map { ($_) x $self->{mix}{$_} } sort keys %{ $self->{mix} };
	my $kind  = $kinds[ rand @kinds ];
	my $where = $self->{positions} ? "SELECT 'at', pg_current_wal_insert_lsn() - '0/0';\n" : '';
	return $SAY{$kind}->($client, $kind, $GRACES[ rand @GRACES ]) . $where;
}

# An administrator does this over and over.  The key file has room for one more master key a round.
sub next_administration
{
	my ($administrator) = @_;
	my $master = ++$administrator->{number} == $administrator->{moment} ? "SELECT keyrot.rotate_master_key();\n" : '';
	return "${master}SELECT keyrot.rotate_data_key();\nCALL keyrot.reseal(20);\n";
}

# Starts two processes: a psql, and who tells it what to do, as the code makes it up, until it is gone.
sub start_client
{
	my ($self, $name, $client, $next) = @_;
	my $file       = "$self->{folder}/$name";
	my $connection = $self->{node}->connstr($self->{database});
	my $seed_here  = int between_zero_and(2**31);
	pipe(my $reader, my $writer) or die "cannot make a pipe: $!";

	my $psql = fork // die "cannot fork: $!";
	if (!$psql)
	{
		close $writer;
		open STDIN,  '<&', $reader;
		open STDOUT, '>',  "$file.out";
		open STDERR, '>',  "$file.err";
		exec 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $connection, '-f', '-' or POSIX::_exit(127);
	}
	my $talker = fork // die "cannot fork: $!";
	if (!$talker)
	{
		local $SIG{PIPE} = 'DEFAULT';
		close $reader;
		srand $seed_here;
		print $writer $next->($client) while $writer->opened && !$writer->error;
		POSIX::_exit(0);
	}
	$self->{psql}{$psql}      = 1;
	$self->{talkers}{$talker} = 1;
	return;
}

# From now on the clients of this load go to another server, which has the same database.
sub move_to
{
	my ($self, $node) = @_;
	$self->{node} = $node;
	return;
}

# Starts the clients of another round; may be given weights of calls that differ from the usual ones.  What
# each client rotates alone is made first, and durably.
sub begin
{
	my ($self, %weights) = @_;
	remembered_seed();
	$self->{mix} = { %MIX, %weights };
	my $round = ++$self->{round};
	my @names = map { "$round-$_" } 1 .. $self->{clients};
	$self->{since} = $self->{node}->safe_psql(
		$self->{database},
		join '',
		'SET synchronous_commit = on;',
		(map { "SELECT FROM keyrot.create_app('Chain', 'chain-$_-0'); SELECT FROM keyrot.create_zone_key('zone-$_');" } @names),
		'SELECT clock_timestamp();');
	$self->{names}   = \@names;
	$self->{psql}    = {};
	$self->{talkers} = {};
	for my $name (@names)
	{
		$self->start_client($name, { name => $name, step => 0, tokens => 0 }, sub { return $self->next_input($_[0]); });
	}
	for (1 .. $self->{administrators})
	{
		$self->start_client("$round-keys", { number => 0, moment => 1 + int between_zero_and(5) }, \&next_administration);
	}
	return;
}

sub output
{
	my ($self, $name) = @_;
	my $file = "$self->{folder}/$name.out";
	return -e $file ? slurp_file($file) : '';
}

sub count_of_tries
{
	my ($self) = @_;
	return scalar(() = join('', map { $self->output($_) } @{ $self->{names} }) =~ /^try /mg);
}

# Waits until the clients have tried so many more calls in this round.
sub wait_for
{
	my ($self, $tries) = @_;
	$tries += $self->count_of_tries;
	wait_until(sub { $self->count_of_tries >= $tries }) or BAIL_OUT('the clients do not get on');
	return;
}

# The requests that clients were told by now to be done.
sub told_so_far
{
	my ($self) = @_;
	return map { @{ $_->{ids} } } grep { $_->{told} && $_->{kind} =~ /^(?:shared_app|shared_zone|pair|chain|token)$/ }
	  map { told($_, $self->output($_)) } @{ $self->{names} };
}

# Kills all clients, in the middle of whatever they do; their server is left to find out.
sub kill_clients
{
	my ($self) = @_;
	kill 9, keys %{ $self->{psql} };
	return;
}

# After kill_clients(): each of their last calls that has a client_token is repeated at once, while it may be
# under way still.  Then their sessions are waited for.
sub repeat_at_once
{
	my ($self) = @_;
	for my $name (@{ $self->{names} })
	{
		my $last = (told($name, $self->output($name)))[-1];
		next if !$last || $last->{told} || $last->{token} eq '-' || $last->{kind} eq 'again';
		my ($result) = attempts($self->{node}, $self->{database}, 'SELECT ' . call($last));
		is($result->{sqlstate}, '', "a call whose connection was lost is repeated at once: $last->{token}");
		$self->add_to_totals(at_once => 1);
	}
	my $others = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()};
	wait_until(sub { !$self->{node}->safe_psql($self->{database}, $others) }) or BAIL_OUT('sessions stay');
	return;
}

# Waits until all clients have ended, since their server left them or they were killed, and reads what they
# were told.  Tells whether they did end, and for no other reason.
sub wait_for_end
{
	my ($self) = @_;
	my %left   = (%{ $self->{psql} }, %{ $self->{talkers} });
	my $ended  = wait_until(
		sub {
			delete @left{ grep { waitpid($_, POSIX::WNOHANG()) == $_ } keys %left };
			return !%left;
		});
	kill 9, keys %left unless $ended;
	$self->{tries} = [ map { told($_, $self->output($_)) } @{ $self->{names} } ];
	for my $name (@{ $self->{names} }, ("$self->{round}-keys") x $self->{administrators})
	{
		my $errors = slurp_file("$self->{folder}/$name.err");
		next if $errors !~ /ERROR/;
		diag("client $name was told: $errors");
		$ended = 0;
	}
	return $ended;
}

# What one client was told, as a list of its tries in order:
#   kind, client, token, step, grace   what it tried
#   ids        the RequestIds that it was told
#   told       whether it was told that this is done
#   before, after    bounds of its commit's position in WAL, where it was told any
sub told
{
	my ($name, $output) = @_;
	my (@tries, $position);
	for my $line (split /\n/, $output =~ s/[^\n]+\z//r)
	{
		my $try = $tries[-1];
		if ($line =~ /^try (\w+)(?: (\S+))?(?: (\d+) (\S+))?$/)
		{
			push @tries,
			  {
				kind   => $1,
				client => $name,
				token  => $2 // '-',
				step   => $3 // 0,
				grace  => $4 // '0',
				ids    => [],
				told   => 0,
				before => $position
			  };
		}
		elsif ($line =~ /^done\|($REQUEST_ID)$/) { push @{ $try->{ids} }, $1; $try->{told} = 1; }
		elsif ($line =~ /^part\|($REQUEST_ID)$/) { push @{ $try->{ids} }, $1; }
		elsif ($line eq 'committed')             { $try->{told} = 1; }
		elsif ($line =~ /^at\|(\d+)$/)           { $position = $1; $try->{after} //= $1 if $try; }
		else                                     { BAIL_OUT("a client said: $line"); }
	}
	return @tries;
}

# The tries of this round that are of these kinds.
sub tries_of
{
	my ($self, @kinds) = @_;
	my %wanted = map { $_ => 1 } @kinds;
	return grep { $wanted{ $_->{kind} } } @{ $self->{tries} };
}

sub rotations { return $_[0]->tries_of(qw(shared_app shared_zone pair chain token)); }

# Adds up what is told of all rounds at the end.
sub add_to_totals
{
	my ($self, %counts) = @_;
	$self->{totals}{$_} += $counts{$_} for keys %counts;
	return;
}


# The checks

# The requests on record since the round began, by RequestId: how many rows, outcome, version.
sub recorded
{
	my ($self, $node) = @_;
	my $rows = $node->safe_psql($self->{database},
		"SELECT request_id, count(*), max(outcome), coalesce(max(version), 0), min(target) FROM keyrot.request"
		  . " WHERE requested_at >= '$self->{since}' GROUP BY request_id");
	my %recorded;
	for my $row (split /\n/, $rows)
	{
		my ($id, @fields) = split /\|/, $row;
		@{ $recorded{$id} }{qw(rows outcome version target)} = @fields;
	}
	return \%recorded;
}

# Whether a rotation is there: each of its requests, none, or only a part.
sub presence
{
	my ($recorded, $try) = @_;
	my $wanted = $try->{kind} eq 'pair' ? 2 : 1;
	my $found  = grep { $recorded->{$_} && $recorded->{$_}{outcome} eq 'ok' && $recorded->{$_}{version} > 0 } @{ $try->{ids} };
	return $found == 0 ? 'absent' : $found == $wanted ? 'present' : 'part';
}

# Compares what clients were told with what is on record, and sets what is absent.  Returns the number of
# acknowledged rotations that are missing.
sub compare
{
	my ($self, $node) = @_;
	my $recorded = $self->recorded($node);
	my (@half, @missing);
	my %known = map { $_ => 1 } map { @{ $_->{ids} } } $self->rotations;
	my @untold = grep { !$_->{told} } $self->rotations;
	for my $try ($self->rotations)
	{
		$try->{presence} = presence($recorded, $try);
		push @half,    $try if $try->{presence} eq 'part';
		push @missing, $try if $try->{told} && $try->{presence} eq 'absent';
	}
	my @nobodys = grep {
			 $recorded->{$_}{version} > 0
		  && $recorded->{$_}{target} =~ /^(?:app|zone|chain)-(?:shared|pair|\d+-\d+)/
		  && !$known{$_}
	} keys %$recorded;
	my $pairs = grep { $_->{kind} eq 'pair' } $self->rotations;
	is(scalar @half, 0, "of $pairs pairs in one transaction each is there as a whole or not at all");
	cmp_ok(scalar @nobodys, '<=', scalar(@untold), 'nothing is there that nobody asked for, ' . @nobodys . ' of '
		  . @untold . ' rotations whose answer was lost');
	my @twice = grep { $recorded->{$_}{rows} > 1 } keys %$recorded;
	is_deeply(\@twice, [], 'each of ' . keys(%$recorded) . ' requests on record has one row');
	return scalar @missing;
}

# Everything that was acknowledged is there.
sub check_acknowledged
{
	my ($self, $node) = @_;
	my $missing = $self->compare($node);
	my $tried   = $self->rotations;
	my $told    = grep { $_->{told} } $self->rotations;
	is($missing, 0, "of $tried rotations tried, all $told that were acknowledged are there");
	$self->add_to_totals(tried => $tried, acknowledged => $told);
	return;
}

# What is missing of that which was acknowledged is what was committed last.  Returns how much that is.
sub check_prefix
{
	my ($self, $node) = @_;
	my $missing = $self->compare($node);
	my @told    = grep { $_->{told} } $self->rotations;
	my (%gone, @holes);
	for my $try (@told)
	{
		push @holes, $try if $gone{ $try->{client} } && $try->{presence} ne 'absent';
		$gone{ $try->{client} } = 1 if $try->{presence} eq 'absent';
	}
	is(scalar @holes, 0, "of $self->{clients} clients each has lost the last of its rotations and none before, $missing of " . @told . ' together');

	# Whoever began after another had been told of its commit was committed later.
	my ($newest_present) = sort { $b <=> $a } map { $_->{before} // 0 } grep { $_->{presence} eq 'present' } @told;
	my ($oldest_absent) = sort { $a <=> $b } map { $_->{after} // () } grep { $_->{presence} eq 'absent' } @told;
	ok(!defined $oldest_absent || !defined $newest_present || $newest_present < $oldest_absent,
		'and no client has kept what was committed after what another has lost');
	$self->add_to_totals(tried => scalar $self->rotations, acknowledged => scalar @told, missing => $missing);
	return $missing;
}

my $VERSIONS = q{
	WITH made AS (
		SELECT coalesce('app ' || a.app_id, 'zone ' || r.target) AS credential, count(*) AS n,
			   count(DISTINCT r.version) AS versions, min(r.version) AS first, max(r.version) AS last
		  FROM keyrot.request AS r LEFT JOIN keyrot.app AS a ON a.app_key = r.target
		 WHERE r.version IS NOT NULL AND r.outcome = 'ok' GROUP BY 1),
	standing AS (
		SELECT 'app ' || app_id AS credential, max(version) AS version,
			   count(*) FILTER (WHERE secret IS NOT NULL) AS in_force FROM keyrot.app GROUP BY app_id
		 UNION ALL SELECT 'zone ' || zone_id, version, 1 FROM keyrot.zone)
	SELECT credential, version, in_force, n, versions, first, last FROM standing FULL JOIN made USING (credential)
	 WHERE (n, versions, first, last, in_force) IS DISTINCT FROM (version, version, 1, version, 1)};

# A token whose rotation is not there, and a rotation whose token is not: of these zones, only the first
# version was made without one.
my $TOKENS = q{
	SELECT client_token, t.target, r.target, r.version
	  FROM keyrot.retry AS t FULL JOIN (SELECT * FROM keyrot.request WHERE version IS NOT NULL) AS r USING (request_id)
	 WHERE (r.target, r.version, r.outcome) IS DISTINCT FROM (t.target, t.version, 'ok')
	   AND (t.request_id IS NOT NULL OR r.target ~ '^zone-\d+-\d+$' AND r.version > 1)};

my $SECRETS = q{
	SELECT 'app', id, d.app_secret, keyrot.sign_string_for_app(id, 'm'),
		   keyrot.verify_app_string(id, 'm', keyrot.sign_string_for_app(id, 'm'))
	  FROM (SELECT app_key AS id FROM keyrot.app WHERE secret IS NOT NULL OFFSET 0) AS a, keyrot.describe_app_security(id) AS d;
	SELECT 'zone', id, d.secret_key, keyrot.sign_string_for_zone(id, 'm'),
		   keyrot.verify_zone_string(id, 'm', keyrot.sign_string_for_zone(id, 'm'))
	  FROM (SELECT zone_id AS id FROM keyrot.zone OFFSET 0) AS z, keyrot.describe_zone_key(id) AS d};

# Verification opens the previous version, too, and raises where it cannot.
my $PREVIOUS = q{
	SELECT count(*), count(*) FILTER (WHERE CASE kind WHEN 'app' THEN keyrot.verify_app_string(id, 'm', 'bm90IHNpZ25lZA==')
	                                                  ELSE keyrot.verify_zone_string(id, 'm', 'bm90IHNpZ25lZA==') END)
	  FROM (SELECT kind, id FROM keyrot.credentials WHERE previous_valid_until > clock_timestamp() OFFSET 0) AS c};

# Versions, requests and secrets agree with each other, whatever was lost.
sub check_whole
{
	my ($self, $node) = @_;
	my $made = $node->safe_psql($self->{database}, 'SELECT count(*) FROM keyrot.request WHERE version IS NOT NULL');
	is($node->safe_psql($self->{database}, $VERSIONS),
		'', "$made versions: without a gap, each made by one request on record, and no request without its version");
	is( $node->safe_psql(
			$self->{database},
			q{SELECT count(DISTINCT version) FROM keyrot.credentials WHERE id IN ('app-pair', 'zone-pair')}),
		1,
		'what rotates together has the same version');
	my $tokens = $node->safe_psql($self->{database}, 'SELECT count(*) FROM keyrot.retry');
	is($node->safe_psql($self->{database}, $TOKENS), '', "$tokens client_tokens: none without its rotation, none missing");
	my ($secrets, $previous) = attempts($node, $self->{database}, $SECRETS, $PREVIOUS);
	my @rows = split /\n/, $secrets->{output};
	my @unsound = grep {
		my ($kind, $id, $secret, $signature, $verified) = split /\|/, $_;
		$verified ne 't' || $signature ne sign_text($secret, 'm');
	} @rows;
	is("$secrets->{sqlstate} @unsound", ' ', @rows . ' credentials: each can be read, signs by what was read, and verifies');
	like("$previous->{sqlstate} $previous->{output}", qr/^ \d+\|0$/, ($previous->{output} =~ s/\|.*//sr) . ' in grace: their previous versions open');
	return;
}

# Requests that failed or were rolled back, and of which clients were told, are on record once or, after a
# crash, not at all.  Returns how many are on record.
sub check_failures
{
	my ($self, $node) = @_;
	my $recorded = $self->recorded($node);
	my %expected = (failing => 'P0002', undone => 'rolled back');
	my ($found, $all, @wrong) = (0, 0);
	for my $try (grep { $_->{told} } $self->tries_of(keys %expected))
	{
		my $row = $recorded->{ $try->{ids}[0] };
		$all++;
		$found++ if $row;
		push @wrong, $try->{ids}[0] if $row && ($row->{rows} != 1 || $row->{outcome} ne $expected{ $try->{kind} });
	}
	is_deeply(\@wrong, [], "of $all failed or rolled back requests $found are on record, once each and as what they were");
	$self->add_to_totals(failed => $all, failed_recorded => $found);
	return $found;
}

# As check_failures(), where the server has not gone down: all of them come to be on record, but for those that
# found the queue full, which are counted.
sub check_all_failures
{
	my ($self, $node) = @_;
	my $told   = grep { $_->{told} } $self->tries_of('failing', 'undone');
	my $status = sub { return $node->safe_psql($self->{database}, "SELECT $_[0] FROM $STATUS"); };
	ok(wait_until(sub { $status->('requests_waiting') == 0 }), 'no failed or rolled back request waits any more');
	my $lost = $status->('requests_lost');
	cmp_ok($self->check_failures($node) + $lost, '>=', $told, "all $told are on record or counted as lost ($lost)");
	return;
}


# Repeated calls

# A repetition within the session is answered by the first call's RequestId.
sub check_answers
{
	my ($self) = @_;
	my %first   = map { $_->{token} => $_->{ids}[0] } grep { $_->{told} } $self->tries_of('token');
	my @again   = grep { $_->{told} } $self->tries_of('again');
	my @wrong   = grep { $_->{ids}[0] ne ($first{ $_->{token} } // '') } @again;
	is(scalar @wrong, 0, @again . ' calls repeated in their session were answered by the first RequestId');
	return;
}

# The versions that there are of what each client rotates alone: of its zone, and of its chain of AppKeys.
sub standing
{
	my ($self, $node) = @_;
	my $rows = $node->safe_psql(
		$self->{database}, q{
		WITH made AS (SELECT target, version, request_id FROM keyrot.request WHERE version IS NOT NULL)
		SELECT 'token', replace(zone_id, 'zone-', ''), z.version, request_id
		  FROM keyrot.zone AS z LEFT JOIN made ON target = zone_id AND made.version = z.version
		 UNION ALL
		SELECT 'chain', substring(app_key FROM 'chain-(\d+-\d+)'), a.version, request_id
		  FROM keyrot.app AS a LEFT JOIN made ON target = coalesce(previous_app_key, app_key) AND made.version = a.version
		 WHERE secret IS NOT NULL AND app_key LIKE 'chain-%'});
	my %standing;
	for my $row (split /\n/, $rows)
	{
		my ($kind, $client, $version, $id) = split /\|/, $row;
		$standing{"$kind $client"} = { version => $version, id => $id };
	}
	return \%standing;
}

# After the connection was lost, each client repeats what it cannot be sure of: the last call that is there,
# where that had a client_token, and everything that is not.  So each is done once.
sub check_repeated
{
	my ($self, $node) = @_;
	my ($repeated, $answered, $untold, $untold_done, @wrong) = (0, 0, 0, 0);
	my $before = $self->standing($node);
	my %tries;
	push @{ $tries{"$_->{kind} $_->{client}"} }, $_ for $self->tries_of('token', 'chain');
	for my $credential (sort keys %tries)
	{
		my @tries = @{ $tries{$credential} };
		my $there = $before->{$credential}{version} - 1;
		my $first = $there > 0 && $there <= @tries && $tries[ $there - 1 ]{token} ne '-' ? $there - 1 : $there;
		my @todo  = @tries[ $first .. $#tries ];
		my @results = attempts($node, $self->{database}, map { 'SELECT ' . call($_) } @todo);
		for my $number (0 .. $#todo)
		{
			my ($result, $is_there) = ($results[$number], $first + $number < $there);
			my $same = $result->{output} eq $before->{$credential}{id};
			push @wrong, "$credential: $result->{text}" if $result->{sqlstate} || !$is_there == $same;
			push @wrong, "$credential: not the RequestId that was acknowledged"
			  if $is_there && $todo[$number]{told} && $result->{output} ne $todo[$number]{ids}[0];
			$repeated++;
			$answered++ if $is_there;
			next if $todo[$number]{told};
			$untold++;
			$untold_done++ if $is_there;
		}
	}
	my $after = $self->standing($node);
	my $all   = 0;
	for my $credential (sort keys %tries)
	{
		my $tries = @{ $tries{$credential} };
		$all += $tries;
		push @wrong, "$credential: $tries calls, $after->{$credential}{version} versions" if $after->{$credential}{version} != 1 + $tries;
	}
	is_deeply(\@wrong, [],
		"$repeated of $all calls were repeated: $answered had been done and were answered, the others were done; none twice");
	$self->add_to_totals(repeated => $repeated, answered => $answered, untold => $untold, untold_done => $untold_done);
	return;
}

1;

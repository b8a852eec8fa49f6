# The documented query that tells who still signs with the old secret, and whether it is safe to end the grace: right in
# each state of a credential, after a restart, and on a standby; and keyrot_credential_may_end counts what it says yes to.
#
# Why not pg_regress: it takes servers with keyrot preloaded, and a standby.  A day is not waited for: rotations and what
# is written down of uses are put back in time, and the server's start where the query is not about that.

use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use Documentation qw(read_blocks);
use Keyrot;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @SECRETS = map { "may-end-secret-number-$_" } 0 .. 9;
my @KEYS    = map { substr(`printf '%032d' $_ | base64`, 0, 44) } 0 .. 9;

my ($documented) = grep { /\bAS may_end\b/ } map { join "\n", @{ $_->{lines} } } read_blocks("$FindBin::RealBin/../../doc/administration.md");
ok($documented, 'the documentation has the query');
my $query = $documented =~ s/pg_postmaster_start_time\(\)/now() - interval '3 days'/r =~ s/;\s*\z//r;
isnt($query, $documented, 'which takes the start of the server into account');

my $node = new_server('primary', init => { allows_streaming => 1 }, conf => <<'END');
shared_preload_libraries = 'keyrot'
keyrot.database = 'served'
keyrot.zone_rate_limit = 0
END
add_databases($node, 'served');
my $server = $node;

sub sql { return $server->safe_psql('served', $_[0]); }

sub use_of
{
	my ($id, @numbers) = @_;
	my ($function, $secrets) = $id =~ /zone/ ? ('verify_zone_string', \@KEYS) : ('verify_app_string', \@SECRETS);
	for my $number (@numbers)
	{
		my $signature = sign_text($secrets->[$number], 'm');
		sql("SELECT keyrot.$function('$id', 'm', '$signature')") eq 't' or die "$id does not verify by secret $number";
	}
	return;
}

sub rotate
{
	my ($id, $to, $more) = @_;
	$more //= q{grace_period => '7 days'};
	if ($id =~ /zone/) { sql("SELECT keyrot.modify_zone_key('$id', '$KEYS[$to]', $more)"); }
	else               { sql("SELECT keyrot.reset_app_secret('$id', new_app_secret => '$SECRETS[$to]', $more)"); }
	return;
}

# A credential rotated from its first secret to its second one, the day before yesterday.
sub rotated
{
	my ($id, $more) = @_;
	sql($id =~ /zone/ ? "SELECT keyrot.create_zone_key('$id', '$KEYS[1]')" : "SELECT FROM keyrot.create_app('App', '$id', '$SECRETS[1]')");
	rotate($id, 2, $more);
	put_back($id);
	return;
}

sub put_back
{
	my ($id) = @_;
	my ($table, $column) = $id =~ /zone/ ? qw(zone zone_id) : qw(app app_key);
	sql("UPDATE keyrot.$table SET modified_at = modified_at - interval '2 days' WHERE $column = '$id'");
	return;
}

# What the query says, of all or of one: "id answer", the latest use first.
sub answers { return sql("SELECT string_agg(id || ' ' || may_end, ', ' ORDER BY id COLLATE \"C\") FROM ($_[0]) AS q"); }
sub answer { return sql("SELECT string_agg(may_end || CASE WHEN old_used IS NULL THEN '' ELSE ', used' END, ' ') FROM ($query) AS q WHERE id = '$_[0]'"); }

my @expected;

# Makes a credential, and tells what the query says of it.
sub is_answer
{
	my ($id, $expected, $name) = @_;
	is(answer($id), $expected, $name);
	push @expected, "$id " . $expected =~ s/, used//r if $expected ne '';
	return;
}

for my $kind ('app.', 'zone-')
{
	my $id = "${kind}untaken";
	rotated($id);
	is_answer($id, 'no: new never used', "$id: a new secret that nobody has taken up");
	$id = "${kind}moved";
	rotated($id);
	use_of($id, 2);
	is_answer($id, 'yes', "$id: all have moved to the new one");
	$id = "${kind}both";
	rotated($id);
	use_of($id, 2, 1);
	is_answer($id, 'no: within a day, used', "$id: somebody still signs with the old one");
	$id = "${kind}young";
	rotated($id);
	rotate($id, 3);
	use_of($id, 3);
	is_answer($id, 'no: within a day', "$id: rotated a moment ago");
	$id = "${kind}reverted";
	rotated($id);
	use_of($id, 2);
	sql($kind eq 'app.' ? "SELECT keyrot.revert_app_secret('$id')" : "SELECT keyrot.revert_zone_key('$id')");
	put_back($id);
	is_answer($id, 'no: new never used, used', "$id: reverted, and the secret gone back to was not used");
	use_of($id, 1);
	is(answer($id), 'no: within a day, used', "$id: nor when it was may the one reverted end");
	$expected[-1] = "$id no: within a day";
	$id = "${kind}waiting";
	rotated($id, q{grace_period => '7 days', grace_from => 'first_use'});
	is_answer($id, 'no: new never used', "$id: a grace that waits for the first use");
	$id = "${kind}ended";
	rotated($id);
	use_of($id, 2);
	sql($kind eq 'app.' ? "SELECT keyrot.end_app_grace('$id')" : "SELECT keyrot.end_zone_grace('$id')");
	is_answer($id, '', "$id: without a grace there is nothing to be asked");
	$id = "${kind}off";
	rotated($id);
	use_of($id, 2);
	sql($kind eq 'app.' ? "SELECT keyrot.disable_app('$id')" : "SELECT keyrot.disable_zone('$id')");
	is_answer($id, '', "$id: nor of what is disabled");
}

# After a NewAppKey: one row, of the new AppKey, that knows of the old one's uses.
for my $name (qw(moved both untaken))
{
	rotated("key.$name", "new_app_key => 'new.$name', grace_period => '7 days'");
	put_back("new.$name");
	use_of("new.$name", 2) if $name ne 'untaken';
	use_of("key.$name", 1) if $name ne 'moved';
}
is_answer('new.moved', 'yes', 'a new AppKey that all have moved to');
is_answer('new.both', 'no: within a day, used', 'the old AppKey is still in use');
is_answer('new.untaken', 'no: new never used, used', 'or alone is');
is(answer("key.$_"), '', 'the old one has no row') for qw(moved both untaken);
is(answers($query), join(', ', sort @expected), 'of all at once it says the same');
is(answers($documented =~ s/;\s*\z//r), join(', ', map { s/yes/no: within a day/r } sort @expected),
	'a day from the start of the server on, it says no: what was used before may have been forgotten');

# What is counted is what it says yes to, once it is written down; a restart changes nothing.
my $yes = grep { / yes/ } @expected;
sub write_down
{
	# Uses are written down once a minute, and before the worker leaves there is nothing new: a new server does it at once.
	my $marker = shift;
	sql("SELECT FROM keyrot.create_app('Marker', '$marker', '$SECRETS[1]')");
	use_of($marker, 1);
	attempts($node, 'served', q{SELECT keyrot.end_app_grace('none')});
	return wait_until(sub { sql("SELECT count(*) FROM keyrot.credential_use WHERE id = '$marker'") });
}
ok(write_down('mark.one'), 'written down');
$node->restart;
is(answers($query), join(', ', sort @expected), 'after a restart it says the same');
my $counted = q{SELECT sum(value) FROM keyrot.metrics WHERE name = 'keyrot_credential_may_end'};
ok(wait_until(sub { sql($counted) eq $yes }), "and as many are counted: $yes") or is(sql($counted), $yes);

# Of what is written down as two days old, the old secret is out of use.
sql(q{UPDATE keyrot.credential_use SET earlier_last_used_at = earlier_last_used_at - interval '2 days' WHERE id = 'app.both';
	UPDATE keyrot.credential_use SET last_used_at = last_used_at - interval '2 days' WHERE id = 'key.both'});
is(answer('app.both'), 'yes, used', 'an old secret that was last used two days ago');
is(answer('new.both'), 'yes, used', 'also by its old AppKey');
$node->restart;
ok(wait_until(sub { sql($counted) eq $yes + 2 }), 'and they are counted') or is(sql($counted), $yes + 2);

# A standby has uses of its own, of which its primary does not know: so it has to be asked, too.
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
chmod oct(600), key_file($standby) or die $!;
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
$server = $standby;
is(answer('app.moved'), 'yes', 'on a standby: what the primary has written down is known');
use_of('app.moved', 1);
use_of('key.moved', 1);
use_of('zone-untaken', 2);
is(answer('app.moved'), 'no: within a day, used', 'somebody signs with the old secret there');
is(answer('new.moved'), 'no: within a day, used', 'also by the old AppKey');
is(answer('zone-untaken'), 'yes', 'one that is in use there only');
sql("SELECT keyrot.verify_app_string('app.none', 'm', '" . sign_text('x', 'm') . "')");
my $failed = q{SELECT value FROM keyrot.metrics WHERE name = 'keyrot_failures_total' AND labels ->> 'reason' = 'unknown'};
is(sql($failed), '1', 'a verification that failed there is counted there');
$server = $node;
is(sql($failed), '0', 'and not on the primary');
is(join(', ', map { answer($_) } 'app.moved', 'new.moved', 'zone-untaken'), 'yes, yes, no: new never used', 'the primary does not know of it');

done_testing();

-- reset_apps and refresh_zones: those of an owner, of a list, or all, in batches with a commit each.
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE ROLE regress_leaky;
CREATE ROLE regress_responder;
GRANT USAGE ON SCHEMA keyrot TO regress_responder;
GRANT EXECUTE ON PROCEDURE keyrot.reset_apps, keyrot.refresh_zones TO regress_responder;
DO $$ BEGIN
    PERFORM keyrot.create_app('Bulk', 'bulk-' || i, 'bulk-secret-number-' || i) FROM generate_series(1, 7) AS i;
    PERFORM keyrot.create_zone_key('bulk-zone-' || i, test.secret_key(i)) FROM generate_series(1, 3) AS i;
    PERFORM keyrot.set_app_owner('bulk-' || i, 'regress_leaky') FROM generate_series(1, 5) AS i;
    PERFORM keyrot.set_zone_owner('bulk-zone-' || i, 'regress_leaky') FROM generate_series(1, 2) AS i;
END $$;
CREATE FUNCTION test.bulk_versions() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(id || ':' || version, ' ' ORDER BY id) FROM keyrot.credentials WHERE id LIKE 'bulk-%' AND state <> 'retired' $$;
-- What of a call is on record.
CREATE FUNCTION test.bulk_requests(since uuid) RETURNS TABLE (action text, outcome text, requests bigint, targets bigint, ids bigint, callers text) LANGUAGE sql VOLATILE AS $$
    SELECT action, outcome, count(*), count(DISTINCT target), count(DISTINCT request_id), string_agg(DISTINCT caller, ',')
      FROM keyrot.requests WHERE request_id > since AND action IN ('reset_apps', 'refresh_zones') GROUP BY 1, 2 ORDER BY 1, 2 $$;
SELECT max(request_id::text) AS mark FROM keyrot.requests \gset

-- Of an owner: every one of theirs once, in whatever batches, and nobody else's.
CALL keyrot.reset_apps('regress_leaky', batch_size => 2);
SELECT test.bulk_versions();
SELECT bool_or(test.app_accepts('bulk-' || i, 'bulk-secret-number-' || i)) AS old_accepted,
       bool_and(test.app_accepts('bulk-' || i, test.secret_of('bulk-' || i))) AS new_accepted FROM generate_series(1, 5) AS i;
SELECT test.app_accepts('bulk-6', 'bulk-secret-number-6') AS others;
CALL keyrot.refresh_zones('regress_leaky');
SELECT test.bulk_versions();
SELECT test.zone_accepts('bulk-zone-1', test.secret_key(1)) AS old_accepted, test.zone_accepts('bulk-zone-1', test.key_of('bulk-zone-1')) AS new_accepted;
SELECT * FROM test.bulk_requests(:'mark');
SELECT r.target, r.version, r.requested_at = c.modified_at AS same_time, r.pid = pg_backend_pid() AS pid
  FROM keyrot.requests AS r JOIN keyrot.credentials AS c ON c.id = r.target AND c.version = r.version
 WHERE r.action IN ('reset_apps', 'refresh_zones') AND r.request_id > :'mark' ORDER BY request_id;

-- The change feed tells each.
SELECT kind, id, version, action FROM keyrot.changes() AS c WHERE request_id > :'mark' ORDER BY request_id;

-- With a grace period; the next call ends it.
SELECT test.secret_of('bulk-1') AS old_secret \gset
CALL keyrot.reset_apps('regress_leaky', '1 hour', 3);
SELECT test.app_accepts('bulk-1', :'old_secret') AS previous_accepted, test.app_accepts('bulk-1', test.secret_of('bulk-1')) AS new_accepted;
SELECT count(*), min(previous_valid_until - modified_at) AS grace FROM keyrot.credentials WHERE id LIKE 'bulk-%' AND previous_valid_until IS NOT NULL;
CALL keyrot.reset_apps('regress_leaky');
SELECT test.app_accepts('bulk-1', :'old_secret') AS previous_accepted;
SELECT count(*) FROM keyrot.app WHERE app_key LIKE 'bulk-%' AND previous_secret IS NOT NULL;

-- Policy and switch go along; an expired one lives again; a previous version does not outlive its lifetime.
SELECT keyrot.set_app_policy('bulk-1', '10 days', '20 days', '1 hour') IS NOT NULL AS done, keyrot.disable_app('bulk-2') IS NOT NULL AS done,
       keyrot.set_app_policy('bulk-3', NULL, '1 hour') IS NOT NULL AS done;
UPDATE keyrot.app SET modified_at = modified_at - interval '5 days', due_at = due_at - interval '5 days', valid_until = valid_until - interval '5 days'
 WHERE app_key IN ('bulk-1', 'bulk-3');
CALL keyrot.reset_apps('regress_leaky', '16 days');
SELECT id, state, due_at - modified_at AS due, valid_until - modified_at AS lives, previous_valid_until - modified_at < interval '15 days 1 s' AS shortened
  FROM keyrot.credentials WHERE id IN ('bulk-1', 'bulk-2', 'bulk-3') ORDER BY id;
SELECT keyrot.enable_app('bulk-2') IS NOT NULL AS done, keyrot.set_app_policy('bulk-1') IS NOT NULL AS done, keyrot.set_app_policy('bulk-3') IS NOT NULL AS done;

-- A list: each once, whatever the order, of whichever owner.
SELECT test.bulk_versions();
CALL keyrot.reset_apps(app_keys => '{bulk-7,bulk-1,bulk-7,bulk-6}', batch_size => 2);
CALL keyrot.refresh_zones(zone_ids => '{bulk-zone-3}');
SELECT test.bulk_versions();
CALL keyrot.reset_apps(app_keys => '{}');
CALL keyrot.refresh_zones(zone_ids => '{}');
-- Nothing changes where one of it is unknown, retired, somebody else's, or NULL.
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-unknown}', batch_size => 1);
SELECT keyrot.reset_app_secret('bulk-7', 'bulk-8', grace_period => '1 hour') IS NOT NULL AS renamed;
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-7}', batch_size => 1);
CALL keyrot.reset_apps(app_keys => '{bulk-1,NULL}');
CALL keyrot.reset_apps(app_keys => '{bulk-1,"not a key"}');
CALL keyrot.refresh_zones(zone_ids => '{bulk-zone-1,bulk-zone-unknown}');
CALL keyrot.refresh_zones(zone_ids => '{bulk-zone-1,NULL}');
CALL keyrot.refresh_zones(zone_ids => '{""}');
SELECT test.bulk_versions();
-- An AppKey in grace loses it to the rotation of its successor.
SELECT state FROM keyrot.credentials WHERE id = 'bulk-7';
CALL keyrot.reset_apps(app_keys => '{bulk-8}');
SELECT state FROM keyrot.credentials WHERE id = 'bulk-7';
SELECT previous_secret IS NULL AND previous_valid_until IS NULL AS wiped FROM keyrot.app WHERE app_key = 'bulk-7';

-- rotated_before: who was rotated at that time, or since, is left alone; a time to come is now.
SELECT clock_timestamp() AS before \gset
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-2}');
CALL keyrot.reset_apps('regress_leaky', rotated_before => :'before');
SELECT test.bulk_versions();
CALL keyrot.reset_apps('regress_leaky', rotated_before => :'before');
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-2}', rotated_before => :'before');
CALL keyrot.reset_apps('regress_leaky', rotated_before => '-infinity');
SELECT test.bulk_versions();
CALL keyrot.reset_apps('regress_leaky', rotated_before => 'infinity');
SELECT test.bulk_versions();

-- When all is done, nothing is under way.
SELECT * FROM keyrot.progress;

-- Rights: those of the owner of each, and of an operator for all.
SET ROLE regress_responder;
CALL keyrot.reset_apps('regress_leaky');
CALL keyrot.reset_apps(app_keys => '{bulk-1}');
CALL keyrot.reset_apps(all_owners => true);
CALL keyrot.refresh_zones(all_owners => true);
RESET ROLE;
GRANT regress_leaky TO regress_responder;
SELECT max(request_id::text) AS mark FROM keyrot.requests \gset
SET ROLE regress_responder;
CALL keyrot.reset_apps('regress_leaky');
CALL keyrot.refresh_zones('regress_leaky');
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-6}');
RESET ROLE;
SELECT * FROM test.bulk_requests(:'mark');
SELECT test.bulk_versions();
-- An owner whose OID and name disagree: an operator's, among all or by name of the app.
UPDATE keyrot.app SET owner_name = 'regress_renamed' WHERE app_key = 'bulk-5';
SET ROLE regress_responder;
CALL keyrot.reset_apps('regress_leaky', batch_size => 1);
CALL keyrot.reset_apps(app_keys => '{bulk-5}');
RESET ROLE;
SELECT test.bulk_versions();
CALL keyrot.reset_apps(app_keys => '{bulk-5}');
SELECT test.bulk_versions();
GRANT pg_monitor TO regress_responder;
SET keyrot.operator_role = 'pg_monitor';
SET client_min_messages = warning;
SET ROLE regress_responder;
CALL keyrot.reset_apps(all_owners => true);
CALL keyrot.refresh_zones(all_owners => true);
RESET ROLE;
RESET client_min_messages;
RESET keyrot.operator_role;
SELECT test.bulk_versions();
SELECT count(*) AS left_out FROM keyrot.credentials WHERE state IN ('current', 'expired', 'disabled') AND modified_at < clock_timestamp() - interval '1 hour';

-- Exactly one of the three; and the form of the others.
CALL keyrot.reset_apps();
CALL keyrot.refresh_zones(NULL, '1 hour');
CALL keyrot.reset_apps('regress_leaky', all_owners => true);
CALL keyrot.reset_apps('regress_leaky', app_keys => '{}');
CALL keyrot.refresh_zones(all_owners => true, zone_ids => '{bulk-zone-1}');
CALL keyrot.reset_apps(all_owners => NULL);
CALL keyrot.reset_apps('regress_leaky', NULL);
CALL keyrot.reset_apps('regress_leaky', '-1 s');
CALL keyrot.reset_apps('regress_leaky', '1000 years');
CALL keyrot.reset_apps('regress_leaky', batch_size => 0);
CALL keyrot.reset_apps('regress_leaky', batch_size => 100001);
CALL keyrot.reset_apps('regress_leaky', batch_size => NULL);
CALL keyrot.reset_apps(0::regrole);
CALL keyrot.reset_apps(4294967295::oid::regrole);

-- Not where it could not commit.
BEGIN;
CALL keyrot.reset_apps('regress_leaky');
ROLLBACK;
SELECT test.state_of('CALL keyrot.refresh_zones(''regress_leaky'')');
BEGIN READ ONLY;
CALL keyrot.reset_apps('regress_leaky');
ROLLBACK;
-- From a procedure that may commit; and whatever isolation the session is used to.
DO $$ BEGIN CALL keyrot.reset_apps('regress_leaky', batch_size => 2); END $$;
SET default_transaction_isolation = 'repeatable read';
CALL keyrot.reset_apps('regress_leaky', batch_size => 2);
RESET default_transaction_isolation;
SELECT test.bulk_versions();

-- One that can have no further version is named and keeps its secret.
UPDATE keyrot.app SET version = 2147483647 WHERE app_key = 'bulk-2';
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-2,bulk-3}', batch_size => 1);
CALL keyrot.reset_apps('regress_leaky', batch_size => 1);
SELECT test.bulk_versions();
-- What does not open is rotated, with nothing in grace.
UPDATE keyrot.app SET secret = set_byte(secret, 40, get_byte(secret, 40) # 1) WHERE app_key = 'bulk-1';
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-3}', grace_period => '1 hour');
SELECT id, previous_valid_until IS NOT NULL AS in_grace, test.app_accepts(id, test.secret_of(id)) AS accepted FROM keyrot.credentials WHERE id IN ('bulk-1', 'bulk-3') ORDER BY id;

-- A row that is not written as it should be ends the call; the batches before it stay, and it goes on where it was stopped.
SELECT test.bulk_versions();
CREATE FUNCTION test.skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER skip BEFORE UPDATE ON keyrot.app FOR EACH ROW WHEN (OLD.app_key = 'bulk-4') EXECUTE FUNCTION test.skip();
SELECT clock_timestamp() AS before \gset
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-3,bulk-4,bulk-5}', batch_size => 1);
SELECT test.bulk_versions();
DROP TRIGGER skip ON keyrot.app;
CALL keyrot.reset_apps(app_keys => '{bulk-1,bulk-3,bulk-4,bulk-5}', batch_size => 1, rotated_before => :'before');
SELECT test.bulk_versions();
CREATE TRIGGER skip BEFORE INSERT ON keyrot.request FOR EACH ROW WHEN (NEW.target = 'bulk-zone-2') EXECUTE FUNCTION test.skip();
CALL keyrot.refresh_zones('regress_leaky', batch_size => 1);
SELECT test.bulk_versions();
DROP TRIGGER skip ON keyrot.request;

-- Nor is one that is written with other values: a version of the log, the secret in grace, an old AppKey's grace that
-- does not end; and no rule is followed.
CREATE FUNCTION test.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_TABLE_NAME LIKE 'request%' THEN
        NEW.version := NEW.version + 1;
    ELSIF TG_ARGV[0] = 'forget' THEN
        NEW.previous_secret := NULL;
    ELSE
        NEW.previous_secret := OLD.previous_secret;
        NEW.previous_valid_until := OLD.previous_valid_until;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER change BEFORE INSERT ON keyrot.request FOR EACH ROW WHEN (NEW.target = 'bulk-5') EXECUTE FUNCTION test.change();
CALL keyrot.reset_apps(app_keys => '{bulk-5}');
DROP TRIGGER change ON keyrot.request;
CREATE TRIGGER change BEFORE UPDATE ON keyrot.app FOR EACH ROW WHEN (OLD.app_key = 'bulk-5') EXECUTE FUNCTION test.change('forget');
CALL keyrot.reset_apps(app_keys => '{bulk-5}', grace_period => '1 hour');
DROP TRIGGER change ON keyrot.app;
SELECT keyrot.reset_app_secret('bulk-5', 'bulk-5-new', grace_period => '1 hour') IS NOT NULL AS renamed;
CREATE TRIGGER change BEFORE UPDATE ON keyrot.app FOR EACH ROW WHEN (OLD.app_key = 'bulk-5') EXECUTE FUNCTION test.change('keep');
CALL keyrot.reset_apps(app_keys => '{bulk-5-new}');
DROP TRIGGER change ON keyrot.app;
CREATE RULE follow AS ON UPDATE TO keyrot.app DO ALSO NOTIFY followed;
CALL keyrot.reset_apps(app_keys => '{bulk-5-new}');
DROP RULE follow ON keyrot.app;
SELECT id, state, version FROM keyrot.credentials WHERE id LIKE 'bulk-5%' ORDER BY id;
CALL keyrot.reset_apps(app_keys => '{bulk-5-new}');
SELECT id, state, version FROM keyrot.credentials WHERE id LIKE 'bulk-5%' ORDER BY id;
SELECT keyrot.delete_app('bulk-5-new') IS NOT NULL AS deleted;

-- With a prefix, as any other.
SET keyrot.app_secret_prefix = 'shop_';
CALL keyrot.reset_apps(app_keys => '{bulk-1}');
SELECT test.secret_of('bulk-1') ~ '^shop_[0-9A-Za-z]{49}$' AS prefixed;
RESET keyrot.app_secret_prefix;
-- Not limited.
SET keyrot.zone_rate_limit = 1;
CALL keyrot.refresh_zones('regress_leaky', batch_size => 1);
CALL keyrot.refresh_zones('regress_leaky', batch_size => 1);
RESET keyrot.zone_rate_limit;

DROP FUNCTION test.skip(), test.change(), test.bulk_versions(), test.bulk_requests(uuid);
DO $$ BEGIN
    UPDATE keyrot.app SET owner = (SELECT oid FROM pg_roles WHERE rolname = current_user), owner_name = current_user WHERE app_key LIKE 'bulk-%';
    UPDATE keyrot.zone SET owner = (SELECT oid FROM pg_roles WHERE rolname = current_user), owner_name = current_user WHERE zone_id LIKE 'bulk-%';
    PERFORM keyrot.delete_app(id) FROM keyrot.credentials WHERE kind = 'app' AND id LIKE 'bulk-%' AND state NOT IN ('retired', 'retiring');
    PERFORM keyrot.delete_zone_key(id) FROM keyrot.credentials WHERE kind = 'zone' AND id LIKE 'bulk-%';
END $$;
DROP OWNED BY regress_responder;
DROP ROLE regress_responder, regress_leaky;

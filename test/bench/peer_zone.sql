-- One UPDATE + INSERT of the bytes that refresh_zone_key writes; see peer_app.sql.  A zone's sealed key is 89 bytes.
\set key random(60000001, 60010000)
\set id :id + 10
WITH rotated AS (
    UPDATE peer.zone
       SET version = version + 1, secret = '\x3f0c5d9ae1b7264488d2713c527718bf5e26bf81b11d29cc3249c1bbc0dc4d52128fcdd977724edc47f72d0d943b1b6d97745b164a8766f4d3ba6a7755690c45bfc00ed0e6bc4d530347460eab297a397e'::bytea || int8send(:id),
           previous_secret = NULL, previous_valid_until = NULL, modified_at = now()
     WHERE zone_id = :key
    RETURNING version)
INSERT INTO peer.request (request_id, target, requested_at, action, caller, caller_oid,
                          "session_user", session_user_oid, client_addr, pid, outcome, version,
                          changed_kind, changed_in)
SELECT (:id || :client_id || '700080000000')::uuid, :key, now(), 'refresh_zone_key', current_user, 10,
       session_user, 10, inet_client_addr(), pg_backend_pid(), 'ok', version, 'zone', pg_current_xact_id()
  FROM rotated
RETURNING request_id;

-- One UPDATE + INSERT of the bytes that reset_app_secret writes.  The sealed secret (109 bytes of noise) and the
-- id, which counts up as a UUIDv7 does, are the client's: this peer draws nothing and encrypts nothing.  The noise
-- ends with the id: WAL leaves out what a row has at its end as the row before it had.
\set key random(60000001, 60010000)
\set id :id + 10
WITH rotated AS (
    UPDATE peer.app
       SET version = version + 1, secret = '\x8291b8396959d9c14c152929244c6efd4c2da7dc12d94b97e9316a10aea7f66c15e3171e93e5bb2eb8a64b522c4723388eb943c588f8818ab29b067194f5e23c4def6fe7481b162196ec5aeea157d5e75fc2486e63a0765275c55805823315c2e30c6ba401'::bytea || int8send(:id),
           previous_secret = NULL, previous_valid_until = NULL, modified_at = now()
     WHERE app_key = :key
    RETURNING version)
INSERT INTO peer.request (request_id, target, requested_at, action, caller, caller_oid,
                          "session_user", session_user_oid, client_addr, pid, outcome, version,
                          changed_kind, changed_in)
SELECT (:id || :client_id || '700080000000')::uuid, :key, now(), 'reset_app_secret', current_user, 10,
       session_user, 10, inet_client_addr(), pg_backend_pid(), 'ok', version, 'app', pg_current_xact_id()
  FROM rotated
RETURNING request_id;

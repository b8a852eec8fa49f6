-- The columns of the row that a verification needs, by its key.
\set key random(70000001, 70010000)
SELECT version, secret, previous_secret, previous_valid_until FROM keyrot.app WHERE app_key = :key;

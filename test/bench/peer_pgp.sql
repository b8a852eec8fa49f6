-- PL/pgSQL with PGP of pgcrypto; the function is in setup.sql.
\set key random(60000001, 60010000)
\set id :id + 10
SELECT peer.reset_pgp(:key);

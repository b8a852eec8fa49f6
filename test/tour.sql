-- The tour: a master key, and the two main jobs of keyrot, in an empty database.  ./quickstart runs it; by hand:
--
--     createdb tour && psql -X -d tour -f test/tour.sql
--
\set ON_ERROR_STOP on
\set QUIET on
\pset footer off
\pset linestyle unicode
\pset border 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS keyrot;
\set message 'GET /orders/42'
\set ECHO queries

\echo
\echo '### 1. Once for the server: the master key, in a file outside the tables'
\echo
\echo '# What is returned is its fingerprint.  For a tour the data directory is good enough a place.'
SELECT keyrot.create_master_key() AS master_key;

\echo
\echo '### 2. An API caller: an app with its AppKey and AppSecret'
\echo
\echo '# The AppKey is given here; the AppSecret is generated, and sealed before it is stored.'
SELECT app_id, app_key, request_id FROM keyrot.create_app('Tour', app_key => '60030986');

\echo '# A signature with the first pair, as this app would send it with its request.'
SELECT keyrot.sign_string_for_app('60030986', :'message') AS old_signature \gset
SELECT keyrot.verify_app_string('60030986', :'message', :'old_signature') AS accepted;

\echo '# Reset: a new AppKey and a new AppSecret.  The answer is the RequestId, never the secret.'
SELECT keyrot.reset_app_secret('60030986', new_app_key => 'testAppKey') AS request_id;

\echo '# Reading the secret is a right of its own.'
SELECT app_key, app_secret, version FROM keyrot.describe_app_security('testAppKey');

\echo '# The new pair signs and verifies ...'
SELECT keyrot.sign_string_for_app('testAppKey', :'message') AS new_signature \gset
SELECT keyrot.verify_app_string('testAppKey', :'message', :'new_signature') AS new_pair_accepted;

\echo '# ... and the old one is refused, as are the two crosswise.'
SELECT keyrot.verify_app_string('60030986', :'message', :'old_signature') AS old_pair_accepted,
       keyrot.verify_app_string('testAppKey', :'message', :'old_signature') AS new_key_with_old_secret,
       keyrot.verify_app_string('60030986', :'message', :'new_signature') AS old_key_with_new_secret;

\echo
\echo '### 3. A site: one key for all its gateways'
\echo
SELECT keyrot.create_zone_key('zone-27q0p0bal192') AS request_id;

\echo '# Two gateways; the name of the second one is generated.'
SELECT gateway_id AS gateway_1 FROM keyrot.add_gateway('zone-27q0p0bal192', 'mpgw-lbxuhk1oh0') \gset
SELECT gateway_id AS gateway_2 FROM keyrot.add_gateway('zone-27q0p0bal192') \gset
SELECT zone_id, gateway_id FROM keyrot.gateways;

\echo '# A signature with the first key is accepted at both.'
SELECT keyrot.sign_string_for_zone('zone-27q0p0bal192', :'message') AS old_signature \gset
SELECT gateway_id, keyrot.verify_gateway_string(zone_id, gateway_id, :'message', :'old_signature') AS accepted
  FROM keyrot.gateways;

\echo '# Refresh.  The old key is invalid for every statement from the commit on.'
SELECT secret_key, request_id FROM keyrot.refresh_zone_key('zone-27q0p0bal192');

\echo '# The old key is refused at both gateways, the new one accepted.'
SELECT keyrot.sign_string_for_zone('zone-27q0p0bal192', :'message') AS new_signature \gset
SELECT gateway_id,
       keyrot.verify_gateway_string(zone_id, gateway_id, :'message', :'old_signature') AS old_key_accepted,
       keyrot.verify_gateway_string(zone_id, gateway_id, :'message', :'new_signature') AS new_key_accepted
  FROM keyrot.gateways;

\echo '# The gateways'' clients sign in with a token, a JWT under the same key.'
SELECT keyrot.sign_token_for_zone('zone-27q0p0bal192', '{"deviceName": "device-1", "exp": 4102444800}') AS token \gset
SELECT valid, reason, version, claims
  FROM keyrot.check_gateway_token('zone-27q0p0bal192', 'mpgw-lbxuhk1oh0', :'token');

\echo
\echo '### 4. Every request is on record'
\echo
SELECT request_id, action, target, outcome, version FROM keyrot.requests ORDER BY request_id;

-- The tour shows what it promises, or fails.
\set ECHO none
SELECT count(*) <> 2
       OR bool_or(keyrot.verify_gateway_string(zone_id, gateway_id, :'message', :'old_signature'))
       OR NOT bool_and(keyrot.verify_gateway_string(zone_id, gateway_id, :'message', :'new_signature'))
       OR NOT bool_and(keyrot.verify_gateway_token(zone_id, gateway_id, :'token'))
       OR keyrot.verify_app_string('60030986', :'message', keyrot.sign_string_for_app('testAppKey', :'message'))
       OR NOT keyrot.verify_app_string('testAppKey', :'message', keyrot.sign_string_for_app('testAppKey', :'message'))
       AS broken FROM keyrot.gateways \gset
\if :broken
DO $$ BEGIN RAISE EXCEPTION 'the tour did not show what it promises'; END $$;
\endif

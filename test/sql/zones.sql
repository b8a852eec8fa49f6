-- Every function on zones and gateways in its success case, called with named parameters: columns, values,
-- and what each of them leaves as it was.
\set SHOW_CONTEXT never

-- create_zone_key, made and given.
SELECT keyrot.create_zone_key(zone_id => 'zones-made') AS created_by \gset
SELECT test.is_uuid7(:'created_by') AS request_id_is_uuid7;
SELECT keyrot.create_zone_key(zone_id => 'zones-given', secret_key => test.secret_key(11)) IS NOT NULL AS done;
SELECT kind, id, app_id, name, description, owner = current_user AS is_mine, state, version,
       created_at = modified_at AS unmodified, age >= interval '0' AS has_age, previous_valid_until
  FROM keyrot.credentials WHERE id = 'zones-made';
SELECT r.requested_at = c.created_at AS created_when_requested
  FROM keyrot.requests AS r, keyrot.credentials AS c
 WHERE r.request_id = :'created_by' AND c.id = 'zones-made';

-- describe_zone_key
SELECT * FROM keyrot.describe_zone_key(zone_id => 'zones-made') \gset d_
SELECT :'d_secret_key' ~ '^[A-Za-z0-9+/]{43}=$' AS key_is_made, :d_version AS version,
       :'d_created_at'::timestamptz = :'d_modified_at' AS unmodified,
       test.is_uuid7(:'d_request_id') AS request_id_is_uuid7;
SELECT secret_key = test.secret_key(11) AS key_is_as_given FROM keyrot.describe_zone_key('zones-given');
-- The longest key, 48 bytes; those above have the fewest, 32.
SELECT keyrot.create_zone_key('zones-48', encode(decode(repeat('a5', 48), 'hex'), 'base64')) IS NOT NULL AS done;
SELECT secret_key FROM keyrot.describe_zone_key('zones-48');
SELECT test.zone_accepts('zones-48', encode(decode(repeat('a5', 48), 'hex'), 'base64'));

-- refresh_zone_key
SELECT * FROM keyrot.refresh_zone_key(zone_id => 'zones-made', grace_period => '10 minutes') \gset r_
SELECT :'r_secret_key' ~ '^[A-Za-z0-9+/]{43}=$' AS key_is_made, test.is_uuid7(:'r_request_id') AS request_id_is_uuid7;
SELECT secret_key = :'r_secret_key' AS same_key, version, created_at = :'d_created_at' AS same_creation,
       modified_at > created_at AS was_modified
  FROM keyrot.describe_zone_key('zones-made');
SELECT r.requested_at = c.modified_at AS modified_when_requested,
       c.previous_valid_until = r.requested_at + interval '10 minutes' AS grace_from_request, c.state, r.version
  FROM keyrot.requests AS r, keyrot.credentials AS c
 WHERE r.request_id = :'r_request_id' AND c.id = 'zones-made';

-- modify_zone_key
SELECT test.is_uuid7(keyrot.modify_zone_key(zone_id => 'zones-made', secret_key => test.secret_key(12),
                                            grace_period => '1 day')) AS request_id_is_uuid7;
SELECT secret_key = test.secret_key(12) AS same_key, version FROM keyrot.describe_zone_key('zones-made');
SELECT test.zone_accepts('zones-made', test.secret_key(12)) AS given,
       test.zone_accepts('zones-made', :'r_secret_key') AS in_grace;

-- end_zone_grace succeeds, with something in grace or not.
SELECT test.is_uuid7(keyrot.end_zone_grace(zone_id => 'zones-made')) AS request_id_is_uuid7;
SELECT test.zone_accepts('zones-made', test.secret_key(12)) AS given,
       test.zone_accepts('zones-made', :'r_secret_key') AS in_grace;
SELECT test.is_uuid7(keyrot.end_zone_grace(zone_id => 'zones-made')) AS request_id_is_uuid7;
SELECT version, previous_valid_until FROM keyrot.credentials WHERE id = 'zones-made';

-- add_gateway, given and made; the same id in two zones is two gateways.
SELECT gateway_id, test.is_uuid7(request_id) AS request_id_is_uuid7
  FROM keyrot.add_gateway(zone_id => 'zones-made', gateway_id => 'gateway_1');
SELECT gateway_id AS made_gateway FROM keyrot.add_gateway(zone_id => 'zones-made') \gset
SELECT :'made_gateway' ~ '^mpgw-[0-9a-z]{10}$' AS gateway_id_is_made;
SELECT gateway_id FROM keyrot.add_gateway('zones-given', 'gateway_1');
SELECT zone_id, gateway_id = :'made_gateway' AS made, added_at <= clock_timestamp() AS was_added
  FROM keyrot.gateways WHERE zone_id LIKE 'zones-%' ORDER BY zone_id, made;
-- A gateway is covered by its own zone's key only.
SELECT z, g, test.gateway_accepts(z, g, test.secret_key(11)) AS key_of_given,
       test.gateway_accepts(z, g, test.secret_key(12)) AS key_of_made
  FROM (VALUES ('zones-given', 'gateway_1'), ('zones-made', 'gateway_1'), ('zones-given', 'gateway_2')) AS v (z, g);
SELECT test.gateway_accepts('zones-made', :'made_gateway', test.secret_key(12)) AS right_zone,
       test.gateway_accepts('zones-given', :'made_gateway', test.secret_key(11)) AS other_zone;
SELECT state, message, constraint_name FROM test.try('add_gateway', $$'zones-given', 'gateway_1'$$, NULL);

-- remove_gateway
SELECT test.is_uuid7(keyrot.remove_gateway(zone_id => 'zones-made', gateway_id => 'gateway_1')) AS request_id_is_uuid7;
SELECT test.gateway_accepts('zones-made', 'gateway_1', test.secret_key(12)) AS removed,
       test.gateway_accepts('zones-made', :'made_gateway', test.secret_key(12)) AS other;
SELECT keyrot.remove_gateway('zones-made', 'gateway_1');
SELECT keyrot.remove_gateway('zones-unknown', 'gateway_1');
SELECT gateway_id FROM keyrot.add_gateway('zones-made', 'gateway_1');

-- set_zone_owner
CREATE ROLE regress_zone_owner;
SELECT test.is_uuid7(keyrot.set_zone_owner(zone_id => 'zones-made', owner => 'regress_zone_owner'))
    AS request_id_is_uuid7;
SELECT owner FROM keyrot.credentials WHERE id = 'zones-made';

-- delete_zone_key: the gateways go with it.
SELECT test.is_uuid7(keyrot.delete_zone_key(zone_id => 'zones-made')) AS request_id_is_uuid7;
SELECT count(*) FROM keyrot.gateways WHERE zone_id = 'zones-made';
SELECT state, version, owner FROM keyrot.credentials WHERE id = 'zones-made';
SELECT test.zone_accepts('zones-made', test.secret_key(12)) AS zone,
       test.gateway_accepts('zones-made', :'made_gateway', test.secret_key(12)) AS gateway;
SELECT * FROM keyrot.describe_zone_key('zones-made');
SELECT keyrot.add_gateway('zones-made');
-- Made again: the version goes on, the owner stays, the creation is the new one; no gateway comes back.
SELECT keyrot.create_zone_key('zones-made') AS created_by \gset
SELECT c.state, c.version, c.owner, c.created_at > :'d_created_at' AS created_later,
       c.created_at = c.modified_at AS unmodified, c.created_at = r.requested_at AS created_when_requested, r.version
  FROM keyrot.requests AS r, keyrot.credentials AS c
 WHERE r.request_id = :'created_by' AND c.id = 'zones-made';
SELECT count(*) FROM keyrot.gateways WHERE zone_id = 'zones-made';
SELECT test.zone_accepts('zones-made', test.secret_key(12)) AS old_key,
       test.zone_accepts('zones-made', test.key_of('zones-made')) AS new_key;

DROP ROLE regress_zone_owner;

-- Every function on apps in its success case, called with named parameters: columns, values, and what
-- each of them leaves as it was.
\set SHOW_CONTEXT never

-- create_app, all given.
SELECT app_id AS billing_id, app_key, request_id AS created_by
  FROM keyrot.create_app(app_name => 'Billing', app_key => 'apps.billing', app_secret => 'apps-billing-secret-1',
                         description => 'Sends invoices') \gset
SELECT :'app_key' AS app_key, test.is_uuid7(:'created_by') AS request_id_is_uuid7;
SELECT kind, id, app_id = :billing_id AS same_app, name, description, owner = current_user AS is_mine, state, version,
       created_at = modified_at AS unmodified, age >= interval '0' AS has_age, previous_valid_until
  FROM keyrot.credentials WHERE id = 'apps.billing';
SELECT r.requested_at = c.created_at AS created_when_requested
  FROM keyrot.requests AS r, keyrot.credentials AS c
 WHERE r.request_id = :'created_by' AND c.id = 'apps.billing';
-- create_app, as little as possible; the columns come in the order of the contract.
SELECT * FROM keyrot.create_app(app_name => 'Minimal') \gset minimal_
SELECT :minimal_app_id > :billing_id AS next_number, :'minimal_app_key' ~ '^ak[0-9a-z]{20}$' AS key_is_made,
       test.is_uuid7(:'minimal_request_id') AS request_id_is_uuid7;
SELECT app_id = :minimal_app_id AS same_app, app_key = :'minimal_app_key' AS same_key,
       app_secret ~ '^[0-9a-f]{64}$' AS secret_is_made, version, modified_at = created_at AS unmodified
  FROM keyrot.describe_app_security(app_key => :'minimal_app_key');
SELECT name, description FROM keyrot.credentials WHERE id = :'minimal_app_key';
-- Names need not be unique.
SELECT count(*) FROM keyrot.create_app('Billing');

-- describe_app_security
SELECT * FROM keyrot.describe_app_security(app_key => 'apps.billing') \gset d_
SELECT :d_app_id = :billing_id AS same_app, :'d_app_key' AS app_key, :'d_app_secret' AS app_secret,
       :d_version AS version, :'d_created_at'::timestamptz = :'d_modified_at' AS unmodified,
       test.is_uuid7(:'d_request_id') AS request_id_is_uuid7;

-- modify_app: what is NULL stays, and it is no rotation.
SELECT test.is_uuid7(keyrot.modify_app(app_key => 'apps.billing', app_name => 'Invoices')) AS request_id_is_uuid7;
SELECT name, description, version, created_at = modified_at AS unmodified
  FROM keyrot.credentials WHERE id = 'apps.billing';
SELECT keyrot.modify_app(app_key => 'apps.billing', description => 'Sends reminders') IS NOT NULL AS done;
SELECT name, description FROM keyrot.credentials WHERE id = 'apps.billing';
SELECT keyrot.modify_app(app_key => 'apps.billing') IS NOT NULL AS done;
SELECT name, description, version, created_at = modified_at AS unmodified
  FROM keyrot.credentials WHERE id = 'apps.billing';

-- reset_app_secret
SELECT keyrot.reset_app_secret(app_key => 'apps.billing', new_app_secret => 'apps-billing-secret-2',
                               grace_period => '1 hour') AS reset_by \gset
SELECT app_secret, version, created_at = :'d_created_at' AS same_creation, modified_at > created_at AS was_modified
  FROM keyrot.describe_app_security('apps.billing');
SELECT r.requested_at = c.modified_at AS modified_when_requested,
       c.previous_valid_until = r.requested_at + interval '1 hour' AS grace_from_request, c.state, r.version
  FROM keyrot.requests AS r, keyrot.credentials AS c
 WHERE r.request_id = :'reset_by' AND c.id = 'apps.billing';
SELECT keyrot.reset_app_secret(app_key => 'apps.billing', new_app_key => 'apps.billing.2',
                               new_app_secret => 'apps-billing-secret-3') IS NOT NULL AS done;
-- The app goes on under its new AppKey: same number, name, description and creation, next version.
SELECT id, app_id = :billing_id AS same_app, name, description, state, version,
       created_at = :'d_created_at' AS same_creation, previous_valid_until
  FROM keyrot.credentials WHERE app_id = :billing_id ORDER BY version;
SELECT app_key, app_secret, version FROM keyrot.describe_app_security('apps.billing.2');

-- end_app_grace succeeds, with something in grace or not.
SELECT keyrot.reset_app_secret('apps.billing.2', grace_period => '1 day') IS NOT NULL AS done;
SELECT test.app_accepts('apps.billing.2', 'apps-billing-secret-3') AS in_grace;
SELECT test.is_uuid7(keyrot.end_app_grace(app_key => 'apps.billing.2')) AS request_id_is_uuid7;
SELECT test.app_accepts('apps.billing.2', 'apps-billing-secret-3') AS in_grace;
SELECT test.is_uuid7(keyrot.end_app_grace(app_key => 'apps.billing.2')) AS request_id_is_uuid7;
SELECT version, previous_valid_until FROM keyrot.credentials WHERE id = 'apps.billing.2';

-- set_app_owner
CREATE ROLE regress_app_owner;
SELECT test.is_uuid7(keyrot.set_app_owner(app_key => 'apps.billing.2', owner => 'regress_app_owner'))
    AS request_id_is_uuid7;
SELECT id, owner FROM keyrot.credentials WHERE app_id = :billing_id ORDER BY version;

-- list_apps: newest change first, a page at a time, the count of all beside each.
SELECT count(*) FROM generate_series(1, 25) AS n,
                     keyrot.create_app('Listed', app_key => format('apps.listed.%s', n));
SELECT app_key, total_count FROM keyrot.list_apps(app_name => 'Listed');
SELECT app_key, total_count FROM keyrot.list_apps(app_name => 'Listed', page_number => 3, page_size => 10);
SELECT app_key FROM keyrot.list_apps(app_name => 'Listed', page_number => 4);
SELECT count(*) FROM keyrot.list_apps(app_name => 'Listed', page_size => 2147483647);
SELECT count(*) FROM keyrot.list_apps(app_name => 'Listed', page_number => 2147483647, page_size => 2147483647);
SELECT keyrot.reset_app_secret('apps.listed.7') IS NOT NULL AS done;
SELECT app_key FROM keyrot.list_apps(app_name => 'Listed', page_size => 2);
-- All that is given must match, exactly.
SELECT * FROM keyrot.list_apps(app_id => :billing_id) \gset l_
SELECT :'l_app_key' AS app_key, :'l_app_name' AS app_name, :'l_description' AS description,
       :l_total_count AS total_count, :'l_created_at'::timestamptz < :'l_modified_at' AS was_modified,
       test.is_uuid7(:'l_request_id') AS request_id_is_uuid7;
SELECT app_id = :billing_id AS same_app FROM keyrot.list_apps(app_key => 'apps.billing.2');
SELECT app_key FROM keyrot.list_apps(app_id => :billing_id, app_key => 'apps.listed.7');
SELECT app_key FROM keyrot.list_apps(app_key => 'apps.listed.7', app_name => 'Listed');
SELECT app_key FROM keyrot.list_apps(app_name => 'listed');
-- An AppKey that was replaced finds nothing, nor does a number that no app has.
SELECT app_key FROM keyrot.list_apps(app_key => 'apps.billing');
SELECT app_key FROM keyrot.list_apps(app_id => 0);
-- One request, whatever the number of rows.
SELECT count(DISTINCT request_id), count(*) FROM keyrot.list_apps(app_name => 'Listed', page_size => 25);

-- delete_app
SELECT test.is_uuid7(keyrot.delete_app(app_key => 'apps.billing.2')) AS request_id_is_uuid7;
SELECT id, name, state, version, previous_valid_until
  FROM keyrot.credentials WHERE app_id = :billing_id ORDER BY version;
SELECT * FROM keyrot.describe_app_security('apps.billing.2');
SELECT count(*) FROM keyrot.list_apps(app_id => :billing_id);

DROP ROLE regress_app_owner;

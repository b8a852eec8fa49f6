/* keyrot 1.0: schema, tables, views and functions; each REVOKE beside its CREATE, a COMMENT on everything */

\echo Use "CREATE EXTENSION keyrot" to load this file. \quit

-- Created here, not adopted: if a schema of this name already exists, its objects must not become part of the extension.
CREATE SCHEMA keyrot;
REVOKE ALL ON SCHEMA keyrot FROM PUBLIC;
COMMENT ON SCHEMA keyrot IS 'credentials of API callers and edge sites: issue, rotate, verify, guard';


/*
 * Tables.  Credentials start with the same sixteen columns, which the C code reads by position.  What a rotation changes
 * is side by side: WAL has an updated row from its first byte that differs to its last.
 */

CREATE SEQUENCE keyrot.app_id AS bigint;
REVOKE ALL ON SEQUENCE keyrot.app_id FROM PUBLIC;
COMMENT ON SEQUENCE keyrot.app_id IS 'source of app_id';

CREATE TABLE keyrot.app (
    app_key              text COLLATE "C" PRIMARY KEY,
    owner_name           text        NOT NULL,
    created_at           timestamptz NOT NULL,
    owner                oid         NOT NULL,
    version              integer     NOT NULL,
    modified_at          timestamptz NOT NULL,
    secret               bytea,
    previous_secret      bytea,
    previous_valid_until timestamptz,
    grace_after_use      bigint,
    valid_until          timestamptz,
    due_at               timestamptz,
    disabled_at          timestamptz,
    rotate_after         interval,
    lifetime             interval,
    policy_grace         bigint,
    app_id               bigint      NOT NULL,
    previous_app_key     text COLLATE "C",
    app_name             text        NOT NULL,
    description          text,
    CONSTRAINT app_app_id_key UNIQUE NULLS NOT DISTINCT (app_id, previous_app_key)
) WITH (fillfactor = 90);
REVOKE ALL ON TABLE keyrot.app FROM PUBLIC;
COMMENT ON TABLE keyrot.app IS 'one row for each AppKey ever issued; a retired AppKey keeps its row, without a secret';
COMMENT ON COLUMN keyrot.app.grace_after_use IS
    'the microseconds that the previous version has from the first use of its successor on; NULL: until previous_valid_until';
COMMENT ON CONSTRAINT app_pkey ON keyrot.app IS 'an AppKey is unique for all time';
COMMENT ON CONSTRAINT app_app_id_key ON keyrot.app IS
    'an app_id is unique for all time: only one AppKey is the first with it, and each AppKey has at most one successor';

CREATE TABLE keyrot.zone (
    zone_id              text COLLATE "C" PRIMARY KEY,
    owner_name           text        NOT NULL,
    created_at           timestamptz NOT NULL,
    owner                oid         NOT NULL,
    version              integer     NOT NULL,
    modified_at          timestamptz NOT NULL,
    secret               bytea,
    previous_secret      bytea,
    previous_valid_until timestamptz,
    grace_after_use      bigint,
    valid_until          timestamptz,
    due_at               timestamptz,
    disabled_at          timestamptz,
    rotate_after         interval,
    lifetime             interval,
    policy_grace         bigint
) WITH (fillfactor = 90);
REVOKE ALL ON TABLE keyrot.zone FROM PUBLIC;
COMMENT ON TABLE keyrot.zone IS 'one row for each zone that ever had a key; a deleted zone keeps its row, without a key';
COMMENT ON COLUMN keyrot.zone.grace_after_use IS
    'the microseconds that the previous version has from the first use of its successor on; NULL: until previous_valid_until';
COMMENT ON CONSTRAINT zone_pkey ON keyrot.zone IS 'a zone has one key';

/*
 * There is no foreign key to the zone, because a parallel pg_restore may load gateways before zones.
 * A zone's row is never deleted, and add_gateway locks it.
 */
CREATE TABLE keyrot.gateway (
    zone_id    text COLLATE "C" NOT NULL,
    gateway_id text COLLATE "C" NOT NULL,
    added_at   timestamptz      NOT NULL,
    PRIMARY KEY (zone_id, gateway_id)
);
REVOKE ALL ON TABLE keyrot.gateway FROM PUBLIC;
COMMENT ON TABLE keyrot.gateway IS 'the gateways of a zone, all covered by the zone''s one key';

CREATE TABLE keyrot.data_key (
    id          integer PRIMARY KEY,
    wrapped     bytea       NOT NULL,
    master_key  bytea       NOT NULL,
    check_value bytea       NOT NULL,
    created_at  timestamptz NOT NULL
);
REVOKE ALL ON TABLE keyrot.data_key FROM PUBLIC;
COMMENT ON TABLE keyrot.data_key IS 'keys that seal secrets, each wrapped by the master key whose fingerprint is stored with it';

CREATE TABLE keyrot.request (
    request_id       uuid        NOT NULL,
    target           text COLLATE "C" NOT NULL,
    requested_at     timestamptz NOT NULL,
    action           text COLLATE "C" NOT NULL,
    caller           text        NOT NULL,
    caller_oid       oid         NOT NULL,
    "session_user"   text        NOT NULL,
    session_user_oid oid         NOT NULL,
    client_addr      inet,
    pid              integer     NOT NULL,
    outcome          text COLLATE "C" NOT NULL,
    version          integer,
    retry_of         uuid,
    changed_kind     text COLLATE "C",
    changed_in       xid8,
    PRIMARY KEY (request_id, target)
);
REVOKE ALL ON TABLE keyrot.request FROM PUBLIC;
COMMENT ON TABLE keyrot.request IS 'the request log: who requested what, when, from where, and with what outcome';
COMMENT ON COLUMN keyrot.request.changed_kind IS
    'the kind of credential, app or zone, of which verification answers otherwise since; NULL: nothing changed';
COMMENT ON COLUMN keyrot.request.changed_in IS 'the transaction of such a change, by which changes() orders them';

CREATE INDEX request_changes ON keyrot.request (changed_in) WHERE changed_in IS NOT NULL;
COMMENT ON INDEX keyrot.request_changes IS 'what changes() reads';

CREATE TABLE keyrot.retry (
    caller       text COLLATE "C" NOT NULL,
    caller_oid   oid         NOT NULL,
    client_token text COLLATE "C" NOT NULL,
    request_id   uuid        NOT NULL,
    action       text COLLATE "C" NOT NULL,
    target       text COLLATE "C" NOT NULL,
    new_app_key  text COLLATE "C",
    grace_period bigint      NOT NULL,
    grace_from   text COLLATE "C" NOT NULL,
    secret_given boolean     NOT NULL,
    version      integer,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (caller, client_token)
) WITH (fillfactor = 90);
REVOKE ALL ON TABLE keyrot.retry FROM PUBLIC;
COMMENT ON TABLE keyrot.retry IS
    'what each client_token was used for, so that a repeated call is answered without being executed again';

CREATE TABLE keyrot.reseal (
    data_key   integer PRIMARY KEY,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    ended_at   timestamptz,
    done       bigint      NOT NULL,
    total      bigint      NOT NULL
) WITH (fillfactor = 50);
REVOKE ALL ON TABLE keyrot.reseal FROM PUBLIC;
COMMENT ON TABLE keyrot.reseal IS 'progress of moving secrets to each data key, in credentials; ended_at is NULL until it has finished';

CREATE TABLE keyrot.credential_use (
    kind                 text COLLATE "C" NOT NULL,
    id                   text COLLATE "C" NOT NULL,
    version              integer NOT NULL,
    last_used_at         timestamptz,
    earlier_last_used_at timestamptz,
    PRIMARY KEY (kind, id)
) WITH (fillfactor = 70);
REVOKE ALL ON TABLE keyrot.credential_use FROM PUBLIC;
COMMENT ON TABLE keyrot.credential_use IS
    'when the newest version of a credential that was used, and the version before it, last verified, as the worker wrote it down';

SELECT pg_catalog.pg_extension_config_dump('keyrot.app_id', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.app', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.zone', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.gateway', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.data_key', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.request', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.retry', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.reseal', '');
SELECT pg_catalog.pg_extension_config_dump('keyrot.credential_use', '');


/*
 * Views, without any secret or sealed byte.  Their helper costs more than a comparison, so that a condition on a key,
 * which tells nothing of the rows that it meets, is looked at first, in spite of security_barrier.
 */

CREATE FUNCTION keyrot.has_rights_of(role_id oid, role_name text, value anyelement DEFAULT true,
                                     use text DEFAULT NULL, kind text DEFAULT NULL, id text DEFAULT NULL,
                                     version integer DEFAULT NULL) RETURNS anyelement
    AS 'MODULE_PATHNAME', 'keyrot_has_rights_of' LANGUAGE C STABLE PARALLEL SAFE COST 100;
REVOKE ALL ON FUNCTION keyrot.has_rights_of(oid, text, anyelement, text, text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keyrot.has_rights_of(oid, text, anyelement, text, text, text, integer) TO PUBLIC;
COMMENT ON FUNCTION keyrot.has_rights_of(oid, text, anyelement, text, text, text, integer) IS
    'for keyrot''s views: the value, or what memory knows of a later use, where current_user has the rights of this role, known by OID and name, or is an operator; else false or NULL';

CREATE VIEW keyrot.credentials WITH (security_barrier) AS
    SELECT kind, id, app_id, name, description, owner,
           CASE WHEN NOT has_secret AND in_grace_until IS NULL THEN 'retired'
                WHEN is_disabled THEN 'disabled'
                WHEN NOT has_secret THEN 'retiring'
                WHEN valid_until <= pg_catalog.clock_timestamp() THEN 'expired'
                ELSE 'current' END AS state,
           version, created_at, modified_at,
           pg_catalog.clock_timestamp() - modified_at AS age,
           in_grace_until AS previous_valid_until, valid_until, due_at,
           CASE WHEN has_secret THEN
                keyrot.has_rights_of(owner_id, owner, CASE used_version WHEN version THEN last_used_at END,
                                     'last use', kind, id, version) END AS last_used_at,
           keyrot.has_rights_of(owner_id, owner,
                                CASE previous_version WHEN used_version THEN last_used_at
                                                      WHEN used_version - 1 THEN earlier_last_used_at END,
                                'last use', kind, id, previous_version) AS previous_last_used_at
      FROM (SELECT *, CASE WHEN grace_end > pg_catalog.clock_timestamp() THEN grace_end END AS in_grace_until
              FROM (SELECT 'app'::text AS kind, c.app_key AS id, c.app_id AS app_id, c.app_name AS name, c.description AS description,
                       c.owner AS owner_id, c.owner_name AS owner, c.secret IS NOT NULL AS has_secret, c.version,
                       c.created_at, c.modified_at, c.disabled_at IS NOT NULL AS is_disabled, c.valid_until, c.due_at,
                       CASE WHEN c.grace_after_use IS NULL THEN c.previous_valid_until
                            ELSE LEAST(c.previous_valid_until,
                                       keyrot.has_rights_of(c.owner, c.owner_name, NULL::timestamptz, 'first use',
                                                            'app', c.app_key, c.version)
                                       + c.grace_after_use * interval '1 microsecond') END AS grace_end,
                       CASE WHEN c.secret IS NULL THEN c.version ELSE c.version - 1 END AS previous_version,
                       u.version AS used_version, u.last_used_at, u.earlier_last_used_at
                  FROM keyrot.app AS c LEFT JOIN keyrot.credential_use AS u ON u.kind = 'app' AND u.id = c.app_key
                    UNION ALL
                    SELECT 'zone' AS kind, c.zone_id AS id, NULL AS app_id, NULL AS name, NULL AS description,
                       c.owner AS owner_id, c.owner_name AS owner, c.secret IS NOT NULL AS has_secret, c.version,
                       c.created_at, c.modified_at, c.disabled_at IS NOT NULL AS is_disabled, c.valid_until, c.due_at,
                       CASE WHEN c.grace_after_use IS NULL THEN c.previous_valid_until
                            ELSE LEAST(c.previous_valid_until,
                                       keyrot.has_rights_of(c.owner, c.owner_name, NULL::timestamptz, 'first use',
                                                            'zone', c.zone_id, c.version)
                                       + c.grace_after_use * interval '1 microsecond') END AS grace_end,
                       CASE WHEN c.secret IS NULL THEN c.version ELSE c.version - 1 END AS previous_version,
                       u.version AS used_version, u.last_used_at, u.earlier_last_used_at
                  FROM keyrot.zone AS c LEFT JOIN keyrot.credential_use AS u ON u.kind = 'zone' AND u.id = c.zone_id) AS every) AS credential
     WHERE keyrot.has_rights_of(owner_id, owner);
REVOKE ALL ON TABLE keyrot.credentials FROM PUBLIC;
COMMENT ON VIEW keyrot.credentials IS 'apps and zones that the reader may act on, with state, version, age, grace, lifetime and last use';
COMMENT ON COLUMN keyrot.credentials.kind IS 'app or zone';
COMMENT ON COLUMN keyrot.credentials.id IS 'the AppKey, or the ZoneId';
COMMENT ON COLUMN keyrot.credentials.app_id IS 'of an app, the same for all its AppKeys; NULL for a zone';
COMMENT ON COLUMN keyrot.credentials.name IS 'of an app; NULL for a zone';
COMMENT ON COLUMN keyrot.credentials.description IS 'of an app, if it has any; NULL for a zone';
COMMENT ON COLUMN keyrot.credentials.owner IS 'the owner''s name';
COMMENT ON COLUMN keyrot.credentials.state IS
    'current, disabled or expired; retiring: an old AppKey in its grace period; retired: replaced or deleted';
COMMENT ON COLUMN keyrot.credentials.version IS '1, 2, 3 and so on';
COMMENT ON COLUMN keyrot.credentials.created_at IS 'when it was created';
COMMENT ON COLUMN keyrot.credentials.modified_at IS 'when it was last rotated';
COMMENT ON COLUMN keyrot.credentials.age IS 'how long ago it was last rotated';
COMMENT ON COLUMN keyrot.credentials.previous_valid_until IS
    'when the current grace period ends, at the latest where it waits for a first use; else NULL';
COMMENT ON COLUMN keyrot.credentials.valid_until IS 'when the current version''s lifetime ends; NULL: never';
COMMENT ON COLUMN keyrot.credentials.due_at IS 'when its policy has it rotated next; NULL: never';
COMMENT ON COLUMN keyrot.credentials.last_used_at IS 'when the current version last verified; NULL: never, or not known';
COMMENT ON COLUMN keyrot.credentials.previous_last_used_at IS
    'when the version before it last verified, whether or not that is in grace still; NULL: never, or not known';

CREATE VIEW keyrot.gateways WITH (security_barrier) AS
    SELECT g.zone_id, g.gateway_id, g.added_at
      FROM keyrot.gateway AS g JOIN keyrot.zone AS z ON z.zone_id = g.zone_id
     WHERE keyrot.has_rights_of(z.owner, z.owner_name);
REVOKE ALL ON TABLE keyrot.gateways FROM PUBLIC;
COMMENT ON VIEW keyrot.gateways IS 'gateways of the zones that the reader may act on';
COMMENT ON COLUMN keyrot.gateways.zone_id IS 'the zone whose key covers it';
COMMENT ON COLUMN keyrot.gateways.gateway_id IS 'the gateway';
COMMENT ON COLUMN keyrot.gateways.added_at IS 'when it was added';

CREATE VIEW keyrot.requests WITH (security_barrier) AS
    SELECT request_id, target, requested_at, action, caller, caller_oid,
           r.session_user, session_user_oid, client_addr, pid, outcome, version, retry_of
      FROM keyrot.request AS r
     WHERE keyrot.has_rights_of(caller_oid, caller);
REVOKE ALL ON TABLE keyrot.requests FROM PUBLIC;
COMMENT ON VIEW keyrot.requests IS 'requests made by roles whose privileges the reader has; operators see all';
COMMENT ON COLUMN keyrot.requests.request_id IS 'the RequestId, a UUID of version 7, which sorts by time';
COMMENT ON COLUMN keyrot.requests.target IS 'the AppKey or ZoneId of the call, before any renaming; empty where there was none';
COMMENT ON COLUMN keyrot.requests.requested_at IS 'when it was called';
COMMENT ON COLUMN keyrot.requests.action IS 'the function that was called';
COMMENT ON COLUMN keyrot.requests.caller IS 'the name of current_user at the call';
COMMENT ON COLUMN keyrot.requests.caller_oid IS 'that role''s OID';
COMMENT ON COLUMN keyrot.requests.session_user IS
    'the role that logged in; write requests.session_user, because session_user alone is an SQL keyword';
COMMENT ON COLUMN keyrot.requests.session_user_oid IS 'that role''s OID';
COMMENT ON COLUMN keyrot.requests.client_addr IS 'the client''s address; NULL for a Unix socket';
COMMENT ON COLUMN keyrot.requests.pid IS 'the server process of the session';
COMMENT ON COLUMN keyrot.requests.outcome IS 'ok, rolled back, or the SQLSTATE of the error';
COMMENT ON COLUMN keyrot.requests.version IS 'the version that it created; NULL: none';
COMMENT ON COLUMN keyrot.requests.retry_of IS 'the request that this one repeated; NULL: none';

CREATE FUNCTION keyrot.running_work(OUT action text, OUT done bigint, OUT total bigint, OUT started_at timestamptz,
                                    OUT time_left interval, OUT pid integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_running_work' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.running_work() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keyrot.running_work() TO PUBLIC;
COMMENT ON FUNCTION keyrot.running_work() IS
    'bulk work of sessions whose role''s rights current_user has, all of it for an operator; for keyrot''s view progress';

CREATE VIEW keyrot.progress WITH (security_barrier) AS
    SELECT action, done, total, started_at, time_left, pid FROM keyrot.running_work();
REVOKE ALL ON TABLE keyrot.progress FROM PUBLIC;
COMMENT ON VIEW keyrot.progress IS
    'bulk work that runs now: reset_apps, refresh_zones and reseal, how far it has come, and about how long it still takes';
COMMENT ON COLUMN keyrot.progress.action IS 'reset_apps, refresh_zones or reseal';
COMMENT ON COLUMN keyrot.progress.done IS 'credentials that are done';
COMMENT ON COLUMN keyrot.progress.total IS 'credentials that there were to do when it began';
COMMENT ON COLUMN keyrot.progress.started_at IS 'when it began';
COMMENT ON COLUMN keyrot.progress.time_left IS 'about how long the rest takes; NULL before the first batch';
COMMENT ON COLUMN keyrot.progress.pid IS 'the server process of the session that runs it';


/* Apps. */

CREATE FUNCTION keyrot.create_app(app_name text, OUT app_id bigint, INOUT app_key text DEFAULT NULL,
                                  app_secret text DEFAULT NULL, description text DEFAULT NULL,
                                  OUT request_id uuid)
    AS 'MODULE_PATHNAME', 'keyrot_create_app' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.create_app(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.create_app(text, text, text, text) IS
    'creates an app; generates its AppKey and AppSecret if they are not given';

CREATE FUNCTION keyrot.reset_app_secret(app_key text, new_app_key text DEFAULT NULL,
                                        new_app_secret text DEFAULT NULL, grace_period interval DEFAULT '0',
                                        client_token text DEFAULT NULL, grace_from text DEFAULT 'rotation')
    RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_reset_app_secret' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.reset_app_secret(text, text, text, interval, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.reset_app_secret(text, text, text, interval, text, text) IS
    'gives an app a new AppSecret and optionally a new AppKey; returns the RequestId, never the secret';

CREATE FUNCTION keyrot.describe_app_security(OUT app_id bigint, INOUT app_key text, OUT app_secret text,
                                             OUT version integer, OUT created_at timestamptz,
                                             OUT modified_at timestamptz, OUT request_id uuid)
    AS 'MODULE_PATHNAME', 'keyrot_describe_app_security' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.describe_app_security(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.describe_app_security(text) IS 'reads an app''s current AppSecret';

CREATE FUNCTION keyrot.modify_app(app_key text, app_name text DEFAULT NULL, description text DEFAULT NULL)
    RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_modify_app' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.modify_app(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.modify_app(text, text, text) IS
    'changes an app''s name or description; NULL leaves it unchanged';

CREATE FUNCTION keyrot.set_app_owner(app_key text, owner regrole) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_set_app_owner' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.set_app_owner(text, regrole) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.set_app_owner(text, regrole) IS
    'transfers an app to another role, whose privileges the caller must have';

CREATE FUNCTION keyrot.delete_app(app_key text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_delete_app' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.delete_app(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.delete_app(text) IS 'deletes an app; its AppKey can never be used again';

CREATE FUNCTION keyrot.end_app_grace(app_key text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_end_app_grace' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.end_app_grace(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.end_app_grace(text) IS 'ends the grace period of an app''s previous secret';

CREATE FUNCTION keyrot.revert_app_secret(app_key text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_revert_app_secret' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.revert_app_secret(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.revert_app_secret(text) IS
    'makes an app''s previous secret current again, as a new version, during its grace period';

CREATE FUNCTION keyrot.disable_app(app_key text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_disable_app' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.disable_app(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.disable_app(text) IS
    'disables an app: nothing can be verified or signed with its secret until it is enabled';

CREATE FUNCTION keyrot.enable_app(app_key text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_enable_app' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.enable_app(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.enable_app(text) IS
    'enables a disabled app';

CREATE FUNCTION keyrot.set_app_policy(app_key text, rotate_after interval DEFAULT NULL,
                                      lifetime interval DEFAULT NULL, grace_period interval DEFAULT '0')
    RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_set_app_policy' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.set_app_policy(text, interval, interval, interval) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.set_app_policy(text, interval, interval, interval) IS
    'sets when an app is due for rotation, the lifetime of a version, and the grace period of scheduled rotations';

CREATE FUNCTION keyrot.list_apps(INOUT app_id bigint DEFAULT NULL, INOUT app_key text DEFAULT NULL,
                                 INOUT app_name text DEFAULT NULL, page_number integer DEFAULT 1,
                                 page_size integer DEFAULT 10, newest_first boolean DEFAULT true,
                                 OUT description text,
                                 OUT created_at timestamptz, OUT modified_at timestamptz,
                                 OUT total_count bigint, OUT request_id uuid, OUT disabled boolean)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_list_apps' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.list_apps(bigint, text, text, integer, integer, boolean) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.list_apps(bigint, text, text, integer, integer, boolean) IS
    'lists the apps that the caller may act on, ordered by last change, one page at a time';


/* Zones, their keys and gateways. */

CREATE FUNCTION keyrot.create_zone_key(zone_id text, secret_key text DEFAULT NULL) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_create_zone_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.create_zone_key(text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.create_zone_key(text, text) IS 'creates the key of a zone; generates it if it is not given';

CREATE FUNCTION keyrot.refresh_zone_key(zone_id text, grace_period interval DEFAULT '0',
                                        client_token text DEFAULT NULL, grace_from text DEFAULT 'rotation',
                                        OUT secret_key text, OUT request_id uuid)
    AS 'MODULE_PATHNAME', 'keyrot_refresh_zone_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.refresh_zone_key(text, interval, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.refresh_zone_key(text, interval, text, text) IS
    'replaces a zone''s key with a generated one, for all its gateways, and returns it';

CREATE FUNCTION keyrot.modify_zone_key(zone_id text, secret_key text, grace_period interval DEFAULT '0',
                                       client_token text DEFAULT NULL, grace_from text DEFAULT 'rotation')
    RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_modify_zone_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.modify_zone_key(text, text, interval, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.modify_zone_key(text, text, interval, text, text) IS 'replaces a zone''s key with the given one';

CREATE FUNCTION keyrot.describe_zone_key(zone_id text, OUT secret_key text, OUT version integer,
                                         OUT created_at timestamptz, OUT modified_at timestamptz,
                                         OUT request_id uuid)
    AS 'MODULE_PATHNAME', 'keyrot_describe_zone_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.describe_zone_key(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.describe_zone_key(text) IS 'reads a zone''s current key';

CREATE FUNCTION keyrot.set_zone_owner(zone_id text, owner regrole) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_set_zone_owner' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.set_zone_owner(text, regrole) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.set_zone_owner(text, regrole) IS
    'transfers a zone to another role, whose privileges the caller must have';

CREATE FUNCTION keyrot.delete_zone_key(zone_id text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_delete_zone_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.delete_zone_key(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.delete_zone_key(text) IS
    'deletes a zone''s key and gateways; the ZoneId remains reserved for its owner';

CREATE FUNCTION keyrot.end_zone_grace(zone_id text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_end_zone_grace' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.end_zone_grace(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.end_zone_grace(text) IS 'ends the grace period of a zone''s previous key';

CREATE FUNCTION keyrot.revert_zone_key(zone_id text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_revert_zone_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.revert_zone_key(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.revert_zone_key(text) IS
    'makes a zone''s previous key current again, as a new version, during its grace period';

CREATE FUNCTION keyrot.disable_zone(zone_id text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_disable_zone' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.disable_zone(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.disable_zone(text) IS
    'disables a zone: nothing can be verified or signed with its key until it is enabled';

CREATE FUNCTION keyrot.enable_zone(zone_id text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_enable_zone' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.enable_zone(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.enable_zone(text) IS
    'enables a disabled zone';

CREATE FUNCTION keyrot.set_zone_policy(zone_id text, rotate_after interval DEFAULT NULL,
                                       lifetime interval DEFAULT NULL, grace_period interval DEFAULT '0')
    RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_set_zone_policy' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.set_zone_policy(text, interval, interval, interval) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.set_zone_policy(text, interval, interval, interval) IS
    'sets when a zone is due for rotation, the lifetime of a version, and the grace period of scheduled rotations';

CREATE FUNCTION keyrot.add_gateway(zone_id text, INOUT gateway_id text DEFAULT NULL, OUT request_id uuid)
    AS 'MODULE_PATHNAME', 'keyrot_add_gateway' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.add_gateway(text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.add_gateway(text, text) IS 'adds a gateway to a zone; generates its id if it is not given';

CREATE FUNCTION keyrot.remove_gateway(zone_id text, gateway_id text) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_remove_gateway' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.remove_gateway(text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.remove_gateway(text, text) IS 'removes a gateway from a zone';


/* Signatures: verifying needs EXECUTE alone, signing ownership too. */

CREATE FUNCTION keyrot.verify_app_signature(app_key text, message bytea, signature bytea,
                                            algorithm text DEFAULT 'sha256') RETURNS boolean
    AS 'MODULE_PATHNAME', 'keyrot_verify_app_signature' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.verify_app_signature(text, bytea, bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.verify_app_signature(text, bytea, bytea, text) IS
    'whether the signature is the message''s HMAC under the app''s secret';

CREATE FUNCTION keyrot.verify_zone_signature(zone_id text, message bytea, signature bytea,
                                             algorithm text DEFAULT 'sha256') RETURNS boolean
    AS 'MODULE_PATHNAME', 'keyrot_verify_zone_signature' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.verify_zone_signature(text, bytea, bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.verify_zone_signature(text, bytea, bytea, text) IS
    'whether the signature is the message''s HMAC under the zone''s key';

CREATE FUNCTION keyrot.verify_gateway_signature(zone_id text, gateway_id text, message bytea, signature bytea,
                                                algorithm text DEFAULT 'sha256') RETURNS boolean
    AS 'MODULE_PATHNAME', 'keyrot_verify_gateway_signature' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.verify_gateway_signature(text, text, bytea, bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.verify_gateway_signature(text, text, bytea, bytea, text) IS
    'like verify_zone_signature, but false for a gateway that does not belong to the zone';

CREATE FUNCTION keyrot.sign_for_app(app_key text, message bytea, algorithm text DEFAULT 'sha256') RETURNS bytea
    AS 'MODULE_PATHNAME', 'keyrot_sign_for_app' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.sign_for_app(text, bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.sign_for_app(text, bytea, text) IS 'the message''s HMAC under the app''s secret';

CREATE FUNCTION keyrot.sign_for_zone(zone_id text, message bytea, algorithm text DEFAULT 'sha256') RETURNS bytea
    AS 'MODULE_PATHNAME', 'keyrot_sign_for_zone' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.sign_for_zone(text, bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.sign_for_zone(text, bytea, text) IS 'the message''s HMAC under the zone''s key';

CREATE FUNCTION keyrot.verify_app_string(app_key text, string_to_sign text, signature text,
                                         algorithm text DEFAULT 'sha256') RETURNS boolean
    AS 'MODULE_PATHNAME', 'keyrot_verify_app_string' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.verify_app_string(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.verify_app_string(text, text, text, text) IS
    'verify_app_signature for text, hashed as UTF-8, and a base64 signature';

CREATE FUNCTION keyrot.verify_zone_string(zone_id text, string_to_sign text, signature text,
                                          algorithm text DEFAULT 'sha256') RETURNS boolean
    AS 'MODULE_PATHNAME', 'keyrot_verify_zone_string' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.verify_zone_string(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.verify_zone_string(text, text, text, text) IS
    'verify_zone_signature for text, hashed as UTF-8, and a base64 signature';

CREATE FUNCTION keyrot.verify_gateway_string(zone_id text, gateway_id text, string_to_sign text, signature text,
                                             algorithm text DEFAULT 'sha256') RETURNS boolean
    AS 'MODULE_PATHNAME', 'keyrot_verify_gateway_string' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.verify_gateway_string(text, text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.verify_gateway_string(text, text, text, text, text) IS
    'verify_gateway_signature for text, hashed as UTF-8, and a base64 signature';

CREATE FUNCTION keyrot.sign_string_for_app(app_key text, string_to_sign text, algorithm text DEFAULT 'sha256')
    RETURNS text
    AS 'MODULE_PATHNAME', 'keyrot_sign_string_for_app' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.sign_string_for_app(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.sign_string_for_app(text, text, text) IS
    'sign_for_app for text, hashed as UTF-8; returns base64';

CREATE FUNCTION keyrot.sign_string_for_zone(zone_id text, string_to_sign text, algorithm text DEFAULT 'sha256')
    RETURNS text
    AS 'MODULE_PATHNAME', 'keyrot_sign_string_for_zone' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.sign_string_for_zone(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.sign_string_for_zone(text, text, text) IS
    'sign_for_zone for text, hashed as UTF-8; returns base64';


CREATE FUNCTION keyrot.sign_string_with_all_for_app(app_key text, string_to_sign text,
                                                    algorithm text DEFAULT 'sha256',
                                                    OUT id text, OUT version integer, OUT signature text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_sign_string_with_all_for_app' LANGUAGE C VOLATILE ROWS 2;
REVOKE ALL ON FUNCTION keyrot.sign_string_with_all_for_app(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.sign_string_with_all_for_app(text, text, text) IS
    'sign_string_for_app with the current version and with one in its grace period, one row each';

CREATE FUNCTION keyrot.sign_string_with_all_for_zone(zone_id text, string_to_sign text,
                                                     algorithm text DEFAULT 'sha256',
                                                     OUT id text, OUT version integer, OUT signature text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_sign_string_with_all_for_zone' LANGUAGE C VOLATILE ROWS 2;
REVOKE ALL ON FUNCTION keyrot.sign_string_with_all_for_zone(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.sign_string_with_all_for_zone(text, text, text) IS
    'sign_string_for_zone with the current version and with one in its grace period, one row each';


/* Tokens: JWTs signed with HS256 and a zone's key. */

CREATE FUNCTION keyrot.verify_gateway_token(zone_id text, gateway_id text, token text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'keyrot_verify_gateway_token' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.verify_gateway_token(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.verify_gateway_token(text, text, text) IS
    'whether the token was signed with the zone''s key and is valid now; false for a gateway that does not belong to the zone';

CREATE FUNCTION keyrot.sign_token_for_zone(zone_id text, claims jsonb) RETURNS text
    AS 'MODULE_PATHNAME', 'keyrot_sign_token_for_zone' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.sign_token_for_zone(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.sign_token_for_zone(text, jsonb) IS 'a token with these claims, signed with the zone''s key';


/* Checks: verifications that give the reason. */

CREATE FUNCTION keyrot.check_app_string(app_key text, string_to_sign text, signature text,
                                        algorithm text DEFAULT 'sha256', OUT valid boolean, OUT reason text,
                                        OUT version integer, OUT previous boolean)
    AS 'MODULE_PATHNAME', 'keyrot_check_app_string' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.check_app_string(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.check_app_string(text, text, text, text) IS
    'verify_app_string with the reason, and the version that signed';

CREATE FUNCTION keyrot.check_zone_string(zone_id text, string_to_sign text, signature text,
                                         algorithm text DEFAULT 'sha256', OUT valid boolean, OUT reason text,
                                         OUT version integer, OUT previous boolean)
    AS 'MODULE_PATHNAME', 'keyrot_check_zone_string' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.check_zone_string(text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.check_zone_string(text, text, text, text) IS
    'verify_zone_string with the reason, and the version that signed';

CREATE FUNCTION keyrot.check_gateway_string(zone_id text, gateway_id text, string_to_sign text, signature text,
                                            algorithm text DEFAULT 'sha256', OUT valid boolean, OUT reason text,
                                            OUT version integer, OUT previous boolean)
    AS 'MODULE_PATHNAME', 'keyrot_check_gateway_string' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.check_gateway_string(text, text, text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.check_gateway_string(text, text, text, text, text) IS
    'verify_gateway_string with the reason, and the version that signed';

CREATE FUNCTION keyrot.check_gateway_token(zone_id text, gateway_id text, token text, OUT valid boolean,
                                           OUT reason text, OUT version integer, OUT previous boolean,
                                           OUT claims jsonb)
    AS 'MODULE_PATHNAME', 'keyrot_check_gateway_token' LANGUAGE C STABLE PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.check_gateway_token(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.check_gateway_token(text, text, text) IS
    'verify_gateway_token with the reason, the version that signed, and the claims if one did';


/* The two clouds' own shapes. */

CREATE FUNCTION keyrot.api(action text, params jsonb DEFAULT '{}', OUT http_status integer, OUT body jsonb)
    AS 'MODULE_PATHNAME', 'keyrot_api' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.api(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.api(text, jsonb) IS
    'executes an action of either cloud''s API and answers in its JSON; also needs EXECUTE on the corresponding function';


/* Administration. */

CREATE FUNCTION keyrot.rebind_owners() RETURNS bigint
    AS 'MODULE_PATHNAME', 'keyrot_rebind_owners' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.rebind_owners() FROM PUBLIC;
COMMENT ON FUNCTION keyrot.rebind_owners() IS
    'makes the OIDs and names of owners agree again after a restore or a rename; superusers only';

CREATE FUNCTION keyrot.distribute(shard_count integer DEFAULT 32) RETURNS void
    AS 'MODULE_PATHNAME', 'keyrot_distribute' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.distribute(integer) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.distribute(integer) IS
    'spreads the tables, with what is in them, over a Citus cluster; superusers only';

CREATE FUNCTION keyrot.node_problem() RETURNS text
    AS 'MODULE_PATHNAME', 'keyrot_node_problem' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.node_problem() FROM PUBLIC;
COMMENT ON FUNCTION keyrot.node_problem() IS
    'what is wrong with the keys of this node of a cluster, for status(); NULL where nothing is';

CREATE FUNCTION keyrot.read_distributed(view text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_read_distributed' LANGUAGE C VOLATILE STRICT;
REVOKE ALL ON FUNCTION keyrot.read_distributed(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keyrot.read_distributed(text) TO PUBLIC;
COMMENT ON FUNCTION keyrot.read_distributed(text) IS
    'for keyrot''s views in a cluster: the rows that current_user, who may read the view, has the rights of';

CREATE FUNCTION keyrot.find_secret(secret text, OUT kind text, OUT id text, OUT version integer, OUT state text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_find_secret' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.find_secret(text) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.find_secret(text) IS
    'finds which credential a leaked secret belongs to, among those that the caller may act on';

CREATE FUNCTION keyrot.rotate_due(max_age interval DEFAULT NULL, grace_period interval DEFAULT '0',
                                  max_count integer DEFAULT 1000,
                                  OUT kind text, OUT id text, OUT version integer, OUT request_id uuid)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_rotate_due' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.rotate_due(interval, interval, integer) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.rotate_due(interval, interval, integer) IS
    'rotates what is due by its policy, and what has none and is older than max_age, earliest first; never returns a secret';

CREATE PROCEDURE keyrot.reset_apps(owner regrole DEFAULT NULL, grace_period interval DEFAULT '0',
                                   batch_size integer DEFAULT 1000, all_owners boolean DEFAULT false,
                                   app_keys text[] DEFAULT NULL, rotated_before timestamptz DEFAULT NULL)
    AS 'MODULE_PATHNAME', 'keyrot_reset_apps' LANGUAGE C;
REVOKE ALL ON PROCEDURE keyrot.reset_apps(regrole, interval, integer, boolean, text[], timestamptz) FROM PUBLIC;
COMMENT ON PROCEDURE keyrot.reset_apps(regrole, interval, integer, boolean, text[], timestamptz) IS
    'gives the apps of an owner, of a list, or of all a new AppSecret, with a commit each batch';

CREATE PROCEDURE keyrot.refresh_zones(owner regrole DEFAULT NULL, grace_period interval DEFAULT '0',
                                      batch_size integer DEFAULT 1000, all_owners boolean DEFAULT false,
                                      zone_ids text[] DEFAULT NULL, rotated_before timestamptz DEFAULT NULL)
    AS 'MODULE_PATHNAME', 'keyrot_refresh_zones' LANGUAGE C;
REVOKE ALL ON PROCEDURE keyrot.refresh_zones(regrole, interval, integer, boolean, text[], timestamptz) FROM PUBLIC;
COMMENT ON PROCEDURE keyrot.refresh_zones(regrole, interval, integer, boolean, text[], timestamptz) IS
    'gives the zones of an owner, of a list, or of all a new key, with a commit each batch';

CREATE FUNCTION keyrot.prune_requests(older_than interval) RETURNS bigint
    AS 'MODULE_PATHNAME', 'keyrot_prune_requests' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.prune_requests(interval) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.prune_requests(interval) IS
    'removes requests older than this from the request log; returns their number';

CREATE FUNCTION keyrot.create_master_key() RETURNS text
    AS 'MODULE_PATHNAME', 'keyrot_create_master_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.create_master_key() FROM PUBLIC;
COMMENT ON FUNCTION keyrot.create_master_key() IS
    'creates the master key file, unless it exists, and returns the fingerprint of its current key';

CREATE FUNCTION keyrot.changes(after text DEFAULT NULL, max_count integer DEFAULT 1000,
                               OUT "position" text, OUT request_id uuid, OUT kind text, OUT id text,
                               OUT version integer, OUT action text, OUT changed_at timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_changes' LANGUAGE C STABLE;
REVOKE ALL ON FUNCTION keyrot.changes(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.changes(text, integer) IS
    'each committed change of a credential once, after the position of the last one that was read';

CREATE FUNCTION keyrot.request_id_at(moment timestamptz) RETURNS uuid
    AS 'MODULE_PATHNAME', 'keyrot_request_id_at' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.request_id_at(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keyrot.request_id_at(timestamptz) TO PUBLIC;
COMMENT ON FUNCTION keyrot.request_id_at(timestamptz) IS 'the smallest RequestId of a moment, to bound a part of the log by';

CREATE FUNCTION keyrot.request_time(request_id uuid) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'keyrot_request_time' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
REVOKE ALL ON FUNCTION keyrot.request_time(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keyrot.request_time(uuid) TO PUBLIC;
COMMENT ON FUNCTION keyrot.request_time(uuid) IS 'the time of a RequestId; NULL for a UUID of another version';

CREATE FUNCTION keyrot.rotate_master_key(rewrap boolean DEFAULT true) RETURNS text
    AS 'MODULE_PATHNAME', 'keyrot_rotate_master_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.rotate_master_key(boolean) FROM PUBLIC;
COMMENT ON FUNCTION keyrot.rotate_master_key(boolean) IS
    'adds a new current master key and, by default, wraps this database''s data keys with it; returns its fingerprint';

CREATE FUNCTION keyrot.rewrap_data_keys() RETURNS integer
    AS 'MODULE_PATHNAME', 'keyrot_rewrap_data_keys' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.rewrap_data_keys() FROM PUBLIC;
COMMENT ON FUNCTION keyrot.rewrap_data_keys() IS
    'wraps this database''s data keys with the current master key; returns how many were changed';

CREATE FUNCTION keyrot.rotate_data_key() RETURNS integer
    AS 'MODULE_PATHNAME', 'keyrot_rotate_data_key' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.rotate_data_key() FROM PUBLIC;
COMMENT ON FUNCTION keyrot.rotate_data_key() IS
    'creates a new data key for all further sealing and returns its id; reseal() moves existing secrets to it';

CREATE PROCEDURE keyrot.reseal(batch_size integer DEFAULT 1000)
    AS 'MODULE_PATHNAME', 'keyrot_reseal' LANGUAGE C;
REVOKE ALL ON PROCEDURE keyrot.reseal(integer) FROM PUBLIC;
COMMENT ON PROCEDURE keyrot.reseal(integer) IS
    'moves every secret to the current data key, committing after each batch, and drops data keys that are no longer used';

CREATE FUNCTION keyrot.status(OUT item text, OUT value text, OUT problem text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_status' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.status() FROM PUBLIC;
COMMENT ON FUNCTION keyrot.status() IS
    'what is loaded, which keys are in use, how requests are recorded; a problem says what is wrong and what to do';


/* Monitoring: the roles that may see the server's statistics may see these. */

CREATE FUNCTION keyrot.read_metrics(OUT name text, OUT labels jsonb, OUT value double precision, OUT help text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'keyrot_read_metrics' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION keyrot.read_metrics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keyrot.read_metrics() TO pg_monitor;
COMMENT ON FUNCTION keyrot.read_metrics() IS 'what the view keyrot.metrics shows';

CREATE VIEW keyrot.metrics WITH (security_barrier) AS
    SELECT name, labels, value, help FROM keyrot.read_metrics();
REVOKE ALL ON TABLE keyrot.metrics FROM PUBLIC;
GRANT USAGE ON SCHEMA keyrot TO pg_monitor;
GRANT SELECT ON TABLE keyrot.metrics TO pg_monitor;
COMMENT ON VIEW keyrot.metrics IS 'counters and states for monitoring, at little cost; names begin with keyrot_';
COMMENT ON COLUMN keyrot.metrics.name IS 'the metric; a counter since the server started where it ends with _total';
COMMENT ON COLUMN keyrot.metrics.labels IS 'what of the metric this row is, as an object of strings';
COMMENT ON COLUMN keyrot.metrics.value IS 'a number, 0 or 1 for no and yes, or seconds';
COMMENT ON COLUMN keyrot.metrics.help IS 'what it tells, in some words';

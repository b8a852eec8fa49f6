-- See reset_app_secret.sql.
\set key random(60000001, 60010000)
\set id :id + 10
SELECT * FROM keyrot.refresh_zone_key(:key);

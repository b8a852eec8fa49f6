-- The id is for the peers; it is counted here, too, so that the client's work is the same.
\set key random(60000001, 60010000)
\set id :id + 10
SELECT keyrot.reset_app_secret(:key);

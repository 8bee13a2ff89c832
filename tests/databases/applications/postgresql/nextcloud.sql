-- Nextcloud 29 on PostgreSQL, as its migrations (core/Migrations) make it: file cache, shares, properties, jobs, calendars;
-- serial keys, smallint booleans, bytea and text blobs; then rows.
CREATE TABLE oc_storages (id varchar(64), numeric_id bigserial PRIMARY KEY, available integer DEFAULT 1 NOT NULL, last_checked integer);
CREATE UNIQUE INDEX storages_id_index ON oc_storages (id);
CREATE TABLE oc_mimetypes (id bigserial PRIMARY KEY, mimetype varchar(255) DEFAULT '' NOT NULL);
CREATE UNIQUE INDEX mimetype_id_index ON oc_mimetypes (mimetype);
CREATE TABLE oc_filecache (fileid bigserial PRIMARY KEY, storage bigint DEFAULT 0 NOT NULL, path varchar(4000), path_hash varchar(32) DEFAULT '' NOT NULL, parent bigint DEFAULT 0 NOT NULL, name varchar(250), mimetype bigint DEFAULT 0 NOT NULL, mimepart bigint DEFAULT 0 NOT NULL, size bigint DEFAULT 0 NOT NULL, mtime bigint DEFAULT 0 NOT NULL, storage_mtime bigint DEFAULT 0 NOT NULL, encrypted integer DEFAULT 0 NOT NULL, unencrypted_size bigint DEFAULT 0 NOT NULL, etag varchar(40), permissions integer DEFAULT 0, checksum varchar(255));
CREATE UNIQUE INDEX fs_storage_path_hash ON oc_filecache (storage, path_hash);
CREATE INDEX fs_parent_name_hash ON oc_filecache (parent, name);
CREATE INDEX fs_storage_mimetype ON oc_filecache (storage, mimetype);
CREATE INDEX fs_storage_size ON oc_filecache (storage, size, fileid);
CREATE INDEX fs_mtime ON oc_filecache (mtime);
CREATE TABLE oc_filecache_extended (fileid bigint PRIMARY KEY, metadata_etag varchar(40), creation_time bigint DEFAULT 0 NOT NULL, upload_time bigint DEFAULT 0 NOT NULL);
CREATE TABLE oc_share (id bigserial PRIMARY KEY, share_type smallint DEFAULT 0 NOT NULL, share_with varchar(255), password varchar(255), uid_owner varchar(64) DEFAULT '' NOT NULL, uid_initiator varchar(64), parent bigint, item_type varchar(64) DEFAULT '' NOT NULL, item_source varchar(255), item_target varchar(255), file_source bigint, file_target varchar(512), permissions smallint DEFAULT 0 NOT NULL, stime bigint DEFAULT 0 NOT NULL, accepted smallint DEFAULT 0 NOT NULL, expiration timestamp(0) without time zone, token varchar(32), mail_send smallint DEFAULT 0 NOT NULL, share_name varchar(64), note text, attributes json);
CREATE INDEX item_share_type_index ON oc_share (item_type, share_type);
CREATE INDEX token_index ON oc_share (token);
CREATE TABLE oc_users (uid varchar(64) DEFAULT '' PRIMARY KEY, displayname varchar(64), password varchar(255) DEFAULT '' NOT NULL, uid_lower varchar(64) DEFAULT '');
CREATE INDEX user_uid_lower ON oc_users (uid_lower);
CREATE TABLE oc_preferences (userid varchar(64) DEFAULT '' NOT NULL, appid varchar(32) DEFAULT '' NOT NULL, configkey varchar(64) DEFAULT '' NOT NULL, configvalue text, PRIMARY KEY (userid, appid, configkey));
CREATE TABLE oc_properties (id bigserial PRIMARY KEY, userid varchar(64) DEFAULT '' NOT NULL, propertypath varchar(255) DEFAULT '' NOT NULL, propertyname varchar(255) DEFAULT '' NOT NULL, propertyvalue text NOT NULL, valuetype smallint DEFAULT 1);
CREATE TABLE oc_jobs (id bigserial PRIMARY KEY, class varchar(255) DEFAULT '' NOT NULL, argument varchar(4000) DEFAULT '' NOT NULL, last_run integer DEFAULT 0, last_checked integer DEFAULT 0, reserved_at integer DEFAULT 0, execution_duration integer DEFAULT 0, argument_hash varchar(32), time_sensitive smallint DEFAULT 1 NOT NULL);
CREATE TABLE oc_calendarobjects (id bigserial PRIMARY KEY, calendardata bytea, uri varchar(255), calendarid bigint NOT NULL, lastmodified integer, etag varchar(32), size bigint NOT NULL, componenttype varchar(8), firstoccurence bigint, lastoccurence bigint, uid varchar(255), classification integer DEFAULT 0, calendartype integer DEFAULT 0 NOT NULL, deleted_at integer);
CREATE UNIQUE INDEX calobjects_index ON oc_calendarobjects (calendarid, calendartype, uri);
COMMENT ON COLUMN oc_share.attributes IS '(DC2Type:json)';
INSERT INTO oc_storages (id) SELECT 'home::user' || g FROM generate_series(1, 20) g;
INSERT INTO oc_mimetypes (mimetype) VALUES ('httpd'), ('httpd/unix-directory'), ('image/jpeg'), ('text/plain');
INSERT INTO oc_filecache (storage, path, path_hash, parent, name, mimetype, mimepart, size, mtime, storage_mtime, etag, permissions, checksum)
  SELECT 1 + g % 20, p, md5(p), g / 50, substr(p, 7, 200), 1 + g % 4, 1, g * 4294967296, 1700000000 + g, -1, md5('e' || g), 27, CASE g % 9 WHEN 0 THEN 'SHA1:' || md5(g::text) END
  FROM (SELECT g, 'files/' || CASE g % 5 WHEN 0 THEN 'Büro 📁/' WHEN 1 THEN E'tab\tname/' WHEN 2 THEN E'back\\slash/' WHEN 3 THEN 'ZWJ 👩‍👩‍👧/' ELSE '' END || 'file ' || g || repeat('ü', g % 60) || '.jpg' AS p FROM generate_series(1, 3000) g) f;
INSERT INTO oc_filecache_extended SELECT fileid, NULL, mtime, 0 FROM oc_filecache WHERE fileid % 3 = 0;
INSERT INTO oc_users SELECT 'user' || g, 'Näme ' || g, '3|$argon2id$v=19$m=65536,t=4,p=1$' || md5(g::text), 'user' || g FROM generate_series(1, 200) g;
INSERT INTO oc_share (share_type, share_with, uid_owner, item_type, item_source, file_source, file_target, permissions, stime, expiration, token, note, attributes) SELECT g % 4, 'user' || g, 'user' || (g + 1), 'file', g::text, g, '/x ' || g, 31, 1700000000, CASE g % 3 WHEN 0 THEN timestamp '9999-12-31 00:00:00' END, md5('t' || g), repeat(E'long \u2028 note\n', g % 50), '[["permissions","download",false]]' FROM generate_series(1, 400) g;
INSERT INTO oc_preferences SELECT 'user' || g, 'core', 'key', CASE g % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE '{"a":"b\"c"}' END FROM generate_series(1, 400) g;
INSERT INTO oc_properties (userid, propertypath, propertyname, propertyvalue) SELECT 'user' || g, 'calendars/user' || g, '{http://apple.com/ns/ical/}calendar-color', 'O:8:"stdClass":1:{s:1:"x";s:2:"é";}' FROM generate_series(1, 200) g;
INSERT INTO oc_jobs (class, argument, argument_hash) SELECT E'OCA\\Files\\BackgroundJob\\ScanFiles' || g, 'null', md5('null') FROM generate_series(1, 50) g;
INSERT INTO oc_calendarobjects (calendardata, uri, calendarid, size, componenttype, uid) SELECT convert_to(E'BEGIN:VCALENDAR\r\nSUMMARY:Fête 🎉 ' || g || E'\r\nEND:VCALENDAR\r\n', 'UTF8') || decode('00ff5c2e', 'hex'), g || '.ics', 1, 60, 'VEVENT', md5(g::text) FROM generate_series(1, 300) g;

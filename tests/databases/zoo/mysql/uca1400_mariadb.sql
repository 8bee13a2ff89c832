-- Collations of Unicode 14, MariaDB's own and its default of later versions.
-- since: mariadb 10.10
CREATE TABLE t (n varchar(20) COLLATE utf8mb4_uca1400_german2_as_cs, m varchar(20)) COLLATE utf8mb4_uca1400_ai_ci; INSERT INTO t VALUES ('ä', 'x');
CREATE VIEW v AS SELECT n COLLATE utf8mb4_uca1400_nopad_as_cs AS c FROM t;

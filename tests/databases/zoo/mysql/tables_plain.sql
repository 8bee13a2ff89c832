-- Plain tables of common types.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, name varchar(100) NOT NULL DEFAULT 'x', body longtext, at datetime(6), ts timestamp(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), d decimal(30, 10), f double, y year, t time(4), e enum('a', 'it''s', '😀'), s set('x', 'y'), u bigint unsigned, z int(5) unsigned zerofill);
INSERT INTO t VALUES (1, 'Zoë 😀 \\ '' ', 'line\nbreak\r\0\Z', '2026-01-02 03:04:05.678901', '2026-01-02 03:04:05.678', -12345.6789012345, 1e-300, 2026, '-838:59:58.1234', 'it''s', 'x,y', 18446744073709551615, 42), (2, '', NULL, NULL, NULL, NULL, -1.7976931348623157e308, 1901, NULL, NULL, '', 0, 0);

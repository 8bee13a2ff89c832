-- Types that MariaDB has alone: UUID, INET4, INET6.
-- since: mariadb 10.10
CREATE TABLE t (u uuid PRIMARY KEY, a inet4, b inet6); INSERT INTO t VALUES ('123e4567-e89b-12d3-a456-426655440000', '10.0.0.1', '::ffff:1.2.3.4');

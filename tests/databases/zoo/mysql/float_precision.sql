-- FLOAT with all of its bits: the dump programs print six digits of it.
-- since: mariadb 10, mysql 8.0
CREATE TABLE t (id int PRIMARY KEY, f float, d double, x float(7, 3));
INSERT INTO t VALUES (1, 1.23456789, 1.2345678901234567, 1234.567), (2, 16777217, 9007199254740993, 0), (3, 1e-40, 5e-324, -0.001), (4, 3.4028234e38, -0e0, 1);

-- A FEDERATED table whose server does not answer.
-- since: mariadb 10
-- admin:
INSTALL SONAME IF NOT EXISTS 'ha_federatedx';
SET GLOBAL connect_timeout = 10;
-- owner:
CREATE TABLE here (id int PRIMARY KEY);
INSERT INTO here VALUES (1);
SET SESSION sql_mode = '';
-- admin:
CREATE SERVER IF NOT EXISTS zoo_far FOREIGN DATA WRAPPER mysql OPTIONS (HOST '127.0.0.1', DATABASE 'x', USER 'y', PASSWORD 'z', PORT 1);

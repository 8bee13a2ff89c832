-- Extensions that an administrator made, an untrusted one among them; at another target they are there already.
-- since: 15
-- admin:
CREATE EXTENSION pgcrypto;
CREATE EXTENSION pg_stat_statements;
CREATE EXTENSION "uuid-ossp";
-- owner:
CREATE TABLE t (id uuid PRIMARY KEY DEFAULT public.uuid_generate_v4(), secret bytea DEFAULT public.gen_random_bytes(4));
INSERT INTO t DEFAULT VALUES;
-- target:
CREATE EXTENSION pgcrypto;
CREATE EXTENSION pg_stat_statements;
CREATE EXTENSION "uuid-ossp";

-- Constraints NOT ENFORCED, violated by rows.
-- since: 18
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE c (p int REFERENCES p NOT ENFORCED, n int CONSTRAINT loose CHECK (n > 0) NOT ENFORCED);
INSERT INTO c VALUES (9, -1);

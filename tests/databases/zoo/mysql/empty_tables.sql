-- Tables that sessions of others have open are no part of this; a table with no rows and one with no columns shown.
-- since: mariadb 10
CREATE TABLE nothing (id int INVISIBLE DEFAULT 5, one int); INSERT INTO nothing (id, one) VALUES (1, NULL);
CREATE TABLE empty (id int);

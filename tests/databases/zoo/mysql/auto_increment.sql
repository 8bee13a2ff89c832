-- AUTO_INCREMENT past the data, a row 0, of a second column, and at its end.
-- since: mariadb 10, mysql 8.0
CREATE TABLE past (id int PRIMARY KEY AUTO_INCREMENT, n int) AUTO_INCREMENT=5000; INSERT INTO past (n) VALUES (1); DELETE FROM past;
SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
CREATE TABLE zero (id int PRIMARY KEY AUTO_INCREMENT, n int); INSERT INTO zero VALUES (0, 1), (-5, 2), (7, 3);
CREATE TABLE second (a int, b int AUTO_INCREMENT, PRIMARY KEY (a, b)) ENGINE=MyISAM; INSERT INTO second VALUES (1, 5), (2, 1);
CREATE TABLE at_end (id tinyint unsigned PRIMARY KEY AUTO_INCREMENT); INSERT INTO at_end VALUES (255);

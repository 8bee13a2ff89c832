-- Names like those that a restore gives to what it makes.
-- since: mariadb 10, mysql 8.0
CREATE TABLE `liberu-0123456789abcdef` (id int); INSERT INTO `liberu-0123456789abcdef` VALUES (1);
CREATE TABLE `liberu-new-x` (id int); CREATE TABLE marker (done int);

-- Names with newlines and tabs in tables, views, routines and triggers.
-- since: mariadb 10, mysql 8.0
CREATE TABLE `a
b` (`c
d` int); INSERT INTO `a
b` VALUES (1); CREATE TABLE `tab	name` (id int); INSERT INTO `tab	name` VALUES (1);
CREATE VIEW `v
CREATE TABLE x` AS SELECT * FROM `a
b`; CREATE PROCEDURE `p
q`() SELECT 1; CREATE TRIGGER `t
r` BEFORE INSERT ON `tab	name` FOR EACH ROW SET NEW.id = 1;

-- Names with every odd character, reserved words, and of 64 characters.
-- since: mariadb 10, mysql 8.0
CREATE TABLE `select` (`from` int PRIMARY KEY, `a"b` int, `c``d` int, `e'f` int, `g\h` int, `i.j` int, `k/l` int, `%m` int, `_n` int, `-o` int, `p q` int, `r
s` int, `日本` int, KEY `k;1` (`i.j`)); INSERT INTO `select` (`from`, `日本`) VALUES (1, 2);
CREATE TABLE `-- x` (id int); CREATE TABLE `a.b` (id int); CREATE TABLE `a/b` (id int); CREATE TABLE `a\\b` (id int); CREATE TABLE `a\b` (id int); CREATE TABLE `-r` (id int); CREATE TABLE `a%b` (id int); CREATE TABLE `a_b` (id int); CREATE TABLE `a"b` (id int); CREATE TABLE `a'b` (id int); CREATE TABLE `a``b` (id int); CREATE TABLE `a;b` (id int); CREATE TABLE ` a` (id int); CREATE TABLE `@a` (id int); CREATE TABLE `#a` (id int); CREATE TABLE `/*a*/` (id int);
CREATE TABLE `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` (`bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb` int);
INSERT INTO `-- x` VALUES (1); INSERT INTO `a.b` VALUES (2); INSERT INTO `a/b` VALUES (3); INSERT INTO `a\b` VALUES (4); INSERT INTO `-r` VALUES (5); INSERT INTO `a"b` VALUES (6); INSERT INTO `a``b` VALUES (7);
CREATE VIEW `v ``.' "` AS SELECT * FROM `a``b`; CREATE VIEW `-v` AS SELECT * FROM `-r`; CREATE PROCEDURE `p '".``-`() SELECT 1; CREATE FUNCTION `f '".``-`() RETURNS int DETERMINISTIC RETURN 1; CREATE TRIGGER `t '".``-` BEFORE INSERT ON `-r` FOR EACH ROW SET NEW.id = 1; CREATE EVENT `e '".``-` ON SCHEDULE EVERY 1 DAY DO SELECT 1;

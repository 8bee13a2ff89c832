"""A dump on its way into a server: what is a table's, what is built on tables, what means nothing here."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

import pytest

from app.components.mysql_script import MysqlScript
from app.errors import LoadFailed

MIB = 1 << 20
END = b"-- Dump completed on 2026-01-01\n"


def read(
    content: bytes, size: Callable[[], int] = lambda: MIB, *, foreign: bool = False
) -> tuple[bytes, MysqlScript]:
    """What goes to the tables, from chunks of such sizes."""
    script, at = MysqlScript("shop", foreign=foreign), 0
    passed: list[bytes] = []
    while at < len(content):
        length = size()
        passed += script.feed(content[at : at + length])
        at += length
    passed += script.finish()
    return b"".join(passed), script


PHPMYADMIN = rb"""-- phpMyAdmin SQL Dump
-- Database: `u_shop`
SET SQL_MODE = "NO_AUTO_VALUE_ON_ZERO";
START TRANSACTION;
/*!40101 SET NAMES utf8mb4 */;
CREATE DATABASE IF NOT EXISTS `u_shop` DEFAULT CHARACTER SET utf8mb4;
USE `u_shop`;

DELIMITER $$
--
-- Procedures
--
DROP PROCEDURE IF EXISTS `p`$$
CREATE DEFINER=`root`@`localhost` PROCEDURE `p` ()   BEGIN
  SELECT 'a;b';
END$$

CREATE DEFINER=`root`@`localhost` FUNCTION `f` () RETURNS INT(11) DETERMINISTIC RETURN 41$$

DELIMITER ;

CREATE TABLE `posts` (`id` int(11) NOT NULL, `body` text) ENGINE=InnoDB;
INSERT INTO `posts` (`id`, `body`) VALUES
(1, 'DELIMITER ;; -- # /* '),
(2, 'it''s \' "quoted"; \\'),
(3, 'lines that begin with anything
DELIMITER ;;
CREATE VIEW stolen AS SELECT 1;
-- Dump completed
USE mysql;
'),
(4, NULL);
DELIMITER $$
CREATE TRIGGER `t` BEFORE INSERT ON `posts` FOR EACH ROW BEGIN SET NEW.body = 'x'; END
$$
DELIMITER ;
CREATE TABLE `v` (`id` int(11));
DROP TABLE IF EXISTS `v`;
CREATE ALGORITHM=UNDEFINED DEFINER=`root`@`localhost` SQL SECURITY DEFINER VIEW `v` AS SELECT 1 AS `id` ;
ALTER TABLE `posts` ADD PRIMARY KEY (`id`);
DELIMITER $$
CREATE DEFINER=`root`@`localhost` EVENT `e` ON SCHEDULE EVERY 1 DAY DO DELETE FROM posts$$
DELIMITER ;
COMMIT;
"""
#: The texts in it.
POSTS = [
    (1, "DELIMITER ;; -- # /* "), (2, """it's ' "quoted"; \\"""),
    (3, "lines that begin with anything\nDELIMITER ;;\nCREATE VIEW stolen AS SELECT 1;\n"
        "-- Dump completed\nUSE mysql;\n"),
]  # fmt: skip


def test_the_layout_of_phpmyadmin() -> None:
    passed, script = read(PHPMYADMIN, foreign=True)
    for word in (b"PROCEDURE `p`", b"FUNCTION `f`", b"TRIGGER `t`", b"VIEW `v` AS"):
        assert word in script.objects
        assert word not in passed
    assert b"EVENT `e`" in script.events
    assert b"EVENT" not in script.objects
    assert b"root" not in script.objects + script.events
    rows = PHPMYADMIN[PHPMYADMIN.index(b"INSERT") : PHPMYADMIN.index(b"(4, NULL);") + 10]
    assert rows in passed
    assert b"ADD PRIMARY KEY" in passed
    assert b"u_shop`;" not in passed
    assert script.unmarked


def test_the_pieces_that_it_comes_in_change_nothing() -> None:
    expected = read(PHPMYADMIN, foreign=True)
    for seed in range(60):
        rng = random.Random(seed)
        most = rng.choice([1, 3, 10, 100, 1000])
        passed, script = read(PHPMYADMIN, partial(rng.randint, 1, most), foreign=True)
        assert passed == expected[0]
        assert (script.objects, script.events) == (expected[1].objects, expected[1].events)


def test_a_dump_of_ours_needs_its_end_marker() -> None:
    assert not read(b"SELECT 1;\n" + END)[1].unmarked
    for cut in (
        b"",
        b"SELECT 1;\n",
        b"SELECT '\n-- Dump completed\n",
        END + b"SELECT 1;\n",
        b"-- Dump completed, not\n",
    ):
        with pytest.raises(LoadFailed):
            read(cut)


def test_a_foreign_dump_must_not_end_in_the_middle() -> None:
    assert read(b"SELECT 1;\nINSERT INTO t VALUES (1)", foreign=True)[0].strip().endswith(b"(1)")
    block = b"DELIMITER $$\nCREATE PROCEDURE p() SELECT 1$$\n"
    assert read(block, foreign=True)[1].objects.split() == (block + b"DELIMITER ;\n").split()
    passed, script = read(b"CREATE VIEW v AS SELECT 1 -- no end", foreign=True)
    assert script.objects.strip().endswith(b"\n;")
    for cut in (
        b"INSERT INTO t VALUES ('a",
        b"SELECT `a",
        b"/* x",
    ):
        with pytest.raises(LoadFailed, match="middle"):
            read(cut, foreign=True)
    assert passed.strip() == b""


def test_a_byte_order_mark_is_no_part_of_a_statement() -> None:
    assert read(b"\xef\xbb\xbfSELECT 1;\n" + END)[0] == b"SELECT 1;\n" + END + b"\n"


def test_statements_about_the_servers_log_are_left_out_and_named() -> None:
    lines = (
        b"SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;", b"SET @@SESSION.SQL_LOG_BIN= 0;",
        b"SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5';",
        b"SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;", b"set session sql_log_bin=0;",
        b"SET GLOBAL gtid_slave_pos='1';",
    )  # fmt: skip
    passed, script = read(b"\n".join(lines) + b"\nSET NAMES utf8mb4;\nSET @x = 'SQL_LOG_BIN';\n" + END)
    assert len(script.left_out) == len(lines)
    assert passed.replace(END, b"").split() == b"SET NAMES utf8mb4; SET @x = 'SQL_LOG_BIN';".split()


@pytest.mark.parametrize(
    "head",
    [
        b"-- Host: localhost    Database: origin\n", b"-- Current Database: `origin`\n",
        b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `origin` /*!40100 DEFAULT CHARACTER SET utf8mb4 */;\n",
        b"/*!40000 DROP DATABASE IF EXISTS `origin`*/;\n", b"create schema origin;\n",
    ],
)  # fmt: skip
def test_the_database_that_a_dump_comes_from_means_the_target(head: bytes) -> None:
    passed, _ = read(head + b"USE `origin`;\nUSE origin\nUSE shop;\nCREATE TABLE t (a int);\n" + END)
    assert b"USE" not in passed.upper()
    assert b"DATABASE IF" not in passed
    assert b"CREATE TABLE t" in passed
    for other in (
        b"USE mysql;\n",
        b"use `mysql`\n",
        b"CREATE DATABASE b;\n",
        b"DROP DATABASE mysql;\n",
    ):
        with pytest.raises(LoadFailed, match=r"another database, (mysql|b)"):
            read(head + other + END)


@pytest.mark.parametrize(
    "definer",
    [
        b"DEFINER=`admin`@`%`", b"definer = 'admin'@'10.0.0.%'", b'DEFINER="a"@"b"', b"DEFINER=admin",
        b"DEFINER=root@localhost", b"DEFINER=CURRENT_USER()", b"DEFINER=CURRENT_USER",
        b"DEFINER/**/=/* x */ `a``b`@`c`",
        b"/*!50017 DEFINER=`a`@`b`*/",
    ],
)  # fmt: skip
def test_no_definer_is_kept(definer: bytes) -> None:
    for what in (
        b"VIEW v AS SELECT 1",
        b"TRIGGER t BEFORE INSERT ON x FOR EACH ROW SET @a = 1",
        b"PROCEDURE p() SELECT 1",
    ):
        for begin in (b"CREATE ", b"CREATE OR REPLACE ", b"/*!50003 CREATE*/ ", b"create -- x\n"):
            if definer.startswith(b"/*") and not begin.startswith(b"/*"):
                continue
            _, script = read(begin + definer + b" " + what + b";\n" + END)
            assert what in script.objects
            assert b"DEFINER" not in script.objects.upper().replace(b"SQL SECURITY DEFINER", b"")


def test_reading_is_linear() -> None:
    """In lines, in the length of a line, and whatever it takes to tell a string's end: four times as much takes four
    times as long, give or take."""
    row = b"(1,'some text \\' of, a ''row','2024-01-01',NULL,3.14)"
    texts: dict[str, Callable[[int], bytes]] = {
        "short lines": lambda n: b"INSERT INTO t VALUES (1,'abc','xyz12');\n" * (n * 40_000),
        "rows on lines": lambda n: b"INSERT INTO t VALUES\n" + b",\n".join([row] * (n * 20_000)) + b";\n",
        "long lines": lambda n: (b"INSERT INTO t VALUES " + b",".join([row] * 20_000) + b";\n") * n,
        "one line": lambda n: b"INSERT INTO t VALUES " + b",".join([row] * (n * 20_000)) + b";\n",
        "lines in strings": lambda n: b"INSERT INTO t VALUES " + b",".join([b"('a\nb\n')"] * (n * 40_000)) + b";\n",
        "one odd line": lambda n: b"INSERT INTO t VALUES (1,'x');\n" * (n * 4_000) + b"INSERT t VALUES ('\n');\n",
        "comments": lambda n: b"-- x\n/* ; */\n# '\n" * (n * 20_000),
        "a comment": lambda n: b"/* " + b"* " * (n * 300_000) + b"*/\n",
        "views": lambda n: b"CREATE VIEW v AS SELECT ';';\n" * (n * 4_000),
        "a routine": lambda n: b"DELIMITER ;;\n" + b"x\n" * (n * 100_000) + b";;\nDELIMITER ;\n",
        "spaces": lambda n: b"CREATE" + b" /* */" * (n * 40_000) + b"TABLE x (a int);\n",
    }  # fmt: skip
    for name, make in texts.items():
        for size in (1 << 16, 1 << 30):
            spent = []
            for times in (1, 4):
                content = make(times) + END
                begun = time.process_time()
                read(content, partial(int, size))
                spent.append(time.process_time() - begun)
            assert spent[1] < 12 * max(spent[0], 0.02), (name, size)

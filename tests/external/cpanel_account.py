"""A cPanel account on disk, as pkgacct lays it out, and its archives made with the real tools."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

USER = "shopuser"
MAIN = "shop.example.com"
SQL = """\
-- MariaDB dump 10.19  Distrib 10.6.18-MariaDB
/*!40101 SET NAMES utf8mb4 */;
DROP TABLE IF EXISTS `orders`;
CREATE TABLE `orders` (`id` int NOT NULL, `note` varchar(50), PRIMARY KEY (`id`)) ENGINE=InnoDB \
DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci;
INSERT INTO `orders` VALUES (1,'utf8mb4_0900_ai_ci'),(2,'it''s; -- fine'),(3,'x');
-- Dump completed on 2026-01-01  0:00:00
"""


def make_account(root: Path, *, documents: int = 20) -> Path:
    """The unpacked account in `root`/cpmove-shopuser."""
    top = root / f"cpmove-{USER}"
    home = top / "homedir"
    for folder in (
        "cp", "userdata", "mysql", "va", "cron", "dnszones", "apache_tls", f"homedir/etc/{MAIN}",
        "homedir/public_html/img", "homedir/public_html/addon", "homedir/blog_root", f"homedir/mail/{MAIN}",
        "homedir/mail/cur", "homedir/mail/new", "homedir/mail/tmp", "homedir/.cpanel",
    ):  # fmt: skip
        (top / folder).mkdir(parents=True, exist_ok=True)
    (top / "version").write_text("pkgacct version: 10\n")
    (top / "homedir_paths").write_text(f"/home/{USER}\n")
    (top / "cp" / USER).write_text(
        f"DNS={MAIN}\nDNS1=addon.example.org\nCONTACTEMAIL=\nMAILBOX_FORMAT=maildir\nPLAN=x\n"
    )
    (top / "userdata/main").write_text(
        f"---\nmain_domain: {MAIN}\naddon_domains:\n  addon.example.org: addon.{MAIN}\n"
        f"parked_domains:\n  - parked.example.net\nsub_domains:\n  - addon.{MAIN}\n  - blog.{MAIN}\n  - '*.{MAIN}'\n"
    )
    for name, folder in (
        (MAIN, "public_html"),
        (f"addon.{MAIN}", "public_html/addon"),
        (f"blog.{MAIN}", "blog_root"),
    ):
        (top / "userdata" / name).write_text(f"---\ndocumentroot: /home/{USER}/{folder}\nuser: {USER}\n")
    for number in range(documents):
        (home / "public_html/img" / f"{number}.bin").write_bytes(bytes([number % 256]) * (1000 + number))
    (home / "public_html/index.php").write_text("<?php echo 'main';\n")
    (home / "public_html/addon/index.php").write_text("<?php echo 'addon';\n")
    (home / "blog_root/index.php").write_text("<?php echo 'blog';\n")
    (home / "public_html/current").symlink_to("img/1.bin")
    (home / "access-logs").symlink_to(f"/usr/local/apache/domlogs/{USER}")
    (top / f"mysql/{USER}_shop.sql").write_text(SQL)
    (top / f"mysql/{USER}_shop.create").write_text(f"CREATE DATABASE `{USER}_shop`;\n")
    (top / "mysql/roundcube.sql").write_text("x")
    (top / "mysql.sql").write_text(
        f"GRANT USAGE ON *.* TO '{USER}_web'@'localhost' IDENTIFIED BY PASSWORD '*0123456789ABCDEF';\n"
        f"GRANT ALL PRIVILEGES ON `{USER}\\_shop`.* TO '{USER}_web'@'localhost';\n"
    )
    (home / f"etc/{MAIN}/passwd").write_text(
        f"info:x:1000:1000::/home/{USER}/mail/{MAIN}/info:/x\nempty:x:1:1::/x:/x\n"
    )
    (home / f"etc/{MAIN}/shadow").write_text("info:$6$abc$def:::::::\n")
    (home / f"etc/{MAIN}/quota").write_text("info:1048576\n")
    make_maildir(home / f"mail/{MAIN}/info", 5)
    (home / "mail/cur/7.own:2,S").write_text("to the account\n")
    (home / f"mail/{MAIN}/info/cyrus.index").write_text("x")
    (home / "mail/mailbox_format.cpanel").write_text("maildir\n")
    (top / f"va/{MAIN}").write_text("sales: info@shop.example.com\n*: :fail:\n")
    (top / f"cron/{USER}").write_text("0 1 * * * php cron.php\n")
    (top / f"dnszones/{MAIN}.db").write_text("zone\n")
    (top / "apache_tls" / MAIN).write_text("cert\n")
    return top


def make_maildir(folder: Path, messages: int) -> None:
    for name in ("cur", "new", "tmp", ".Sent/cur", ".Sent/new", ".Sent/tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(messages):
        (folder / "cur" / f"{number}.host,S=20:2,S").write_text(f"message {number}\n" * 3)
    with gzip.open(folder / "new" / "90.host,S=9", "wb") as packed:
        packed.write(b"was gzipped\n")
    (folder / ".Sent/cur/91.host:2,S").hardlink_to(folder / "cur/0.host,S=20:2,S")
    (folder / "dovecot-uidlist").write_text("3 V1\n")


def pack(top: Path, kind: str, *, wrapped: bool = True, arguments: tuple[str, ...] = ()) -> Path:
    """`kind`: tar, gz, bz2, xz, zst or zip."""
    base, names = (top.parent, [top.name]) if wrapped else (top, sorted(path.name for path in top.iterdir()))
    target = top.parent / f"{top.name}.{'zip' if kind == 'zip' else 'tar' if kind == 'tar' else f'tar.{kind}'}"
    if kind == "zip":
        subprocess.run(["zip", "-qry", str(target), *names], cwd=base, check=True)
        return target
    plain = top.parent / f"{top.name}.tar"
    subprocess.run(["tar", "-cf", str(plain), *arguments, "--", *names], cwd=base, check=True)
    tools = {"gz": "gzip", "bz2": "bzip2", "xz": "xz", "zst": "zstd"}
    if kind != "tar":
        with plain.open("rb") as source, target.open("wb") as packed:
            subprocess.run([tools[kind], "-c"], stdin=source, stdout=packed, check=True)
    return target


def nest_home(top: Path) -> None:
    """As older versions do: the home as an archive in the archive."""
    subprocess.run(["tar", "-cf", str(top / "homedir.tar"), "-C", str(top / "homedir"), "."], check=True)
    shutil.rmtree(top / "homedir")

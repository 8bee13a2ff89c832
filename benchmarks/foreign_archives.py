"""The same site, mail and dump as a backup of each panel, and how it is brought back by hand."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pipeline import make_tree
from demo.servers import MariadbServer

MAIN, USER = "shop.example.com", "shopuser"
DATABASE = f"{USER}_shop"
MESSAGES = 5000
_TIME = "2611240300"


def make_content(folder: Path, mariadb: MariadbServer) -> None:
    """`site`: the tree of the other benchmark; `mail`: 5,000 messages; `dump.sql`: 200,000 rows."""
    make_tree(folder / "site")
    for name in ("cur", "new", "tmp"):
        (folder / "mail" / name).mkdir(parents=True)
    rng = random.Random(5)
    for number in range(MESSAGES):
        (folder / f"mail/cur/{number}.host:2,S").write_bytes(
            rng.randbytes(rng.randrange(1000, 20_000)).hex().encode()
        )
    mariadb.run("CREATE DATABASE origin")
    mariadb.run(
        "CREATE TABLE orders (id int PRIMARY KEY, note varchar(200), KEY (note));"
        "INSERT INTO orders SELECT seq, SHA2(seq, 512) FROM mysql.seq_1_to_200000",
        "origin",
    )
    with (folder / "dump.sql").open("wb") as dump:
        subprocess.run(["mariadb-dump", *login(mariadb), "origin"], stdout=dump, check=True)
    mariadb.run("DROP DATABASE origin")


def login(mariadb: MariadbServer) -> list[str]:
    return ["-h127.0.0.1", f"-P{mariadb.port}", "-uadmin", f"-p{mariadb.admin_password}"]


@dataclass(frozen=True)
class Panel:
    """`pack`: from the content and an empty folder to the archive. `by_hand`: commands for bash that bring the
    archive $1 back into the folder $2 and write its SQL to their output."""

    pack: Callable[[Path, Path, Path], None]
    archive: str
    by_hand: str


def _write(top: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)


def _linked(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-al", str(source), str(target)], check=True)


def _cpanel(content: Path, work: Path, archive: Path) -> None:
    top = work / f"cpmove-{USER}"
    _linked(content / "site", top / "homedir/public_html")
    _linked(content / "mail", top / f"homedir/mail/{MAIN}/info")
    _linked(content / "dump.sql", top / f"mysql/{DATABASE}.sql")
    _write(top, {
        f"cp/{USER}": f"DNS={MAIN}\n", "userdata/main": f"main_domain: {MAIN}\n", "version": "pkgacct version: 10\n",
        f"userdata/{MAIN}": f"documentroot: /home/{USER}/public_html\n",
    })  # fmt: skip
    subprocess.run(["tar", "-czf", str(archive), "-C", str(work), top.name], check=True)


def _virtualmin(content: Path, work: Path, archive: Path) -> None:
    """The home format: an incremental tar of the home, with the features in .backup."""
    _linked(content / "site", work / "public_html")
    _linked(content / "mail", work / "homes/info/Maildir")
    home = f"/home/{USER}"
    _write(work, {
        f".backup/{MAIN}_virtualmin": f"dom={MAIN}\nuser={USER}\nhome={home}\ndb_mysql={DATABASE}\n",
        f".backup/{MAIN}_mail_users": f"info.{USER}:$6$a$b:1:1::{home}/homes/info:/x:info@{MAIN}:0:0\n\n",
    })  # fmt: skip
    shutil.copy(content / "dump.sql", work / f".backup/{MAIN}_mysql_{DATABASE}")
    subprocess.run(["gzip", str(work / f".backup/{MAIN}_mysql_{DATABASE}")], check=True)
    snapshot = archive.with_suffix(".snapshot")
    subprocess.run(
        ["tar", "-czf", str(archive), f"--listed-incremental={snapshot}", "-C", str(work), "."], check=True
    )  # fmt: skip


def _plesk(content: Path, work: Path, archive: Path) -> None:
    """A subscription: a tar of compressed archives."""
    _linked(content / "site", work / "vhost/httpdocs")
    _linked(content / "mail", work / "mail/info/Maildir")
    top, database = work / "dump", f"databases/{DATABASE}_1"
    (top / database).mkdir(parents=True)
    (work / "sql").mkdir()
    _linked(content / "dump.sql", work / "sql/backup_sqldump")
    for source, name in (("vhost", "user-data"), ("mail", "domainmail"), ("sql", f"{database}/sqldump")):
        target = top / f"{name.replace('sqldump', 'backup_sqldump') if '/' in name else f'backup_{name}'}_{_TIME}.tgz"
        subprocess.run(["tar", "-czf", str(target), "-C", str(work / source), "."], check=True)

    def cid(type: str, path: str = "") -> str:
        file = f"<content-file>backup_{type}_{_TIME}.tgz</content-file>"
        return f'<content><cid type="{type}" path="{path}">{file}</cid></content>'

    _write(top, {f"backup_info_{_TIME}.xml": (
        f'<?xml version="1.0"?><migration-dump><domain name="{MAIN}"><mailsystem>{cid("domainmail")}<mailusers>'
        f'<mailuser name="info"/></mailusers></mailsystem><databases><database name="{DATABASE}" type="mysql">'
        f'{cid("sqldump", database)}</database></databases><phosting www-root="httpdocs">{cid("user-data")}'
        "</phosting></domain></migration-dump>"
    )})  # fmt: skip
    subprocess.run(["tar", "-cf", str(archive), "-C", str(top), "."], check=True)


PANELS = {
    "cpanel": Panel(
        _cpanel, "cpmove.tar.gz", f'tar -xzf "$1" -C "$2" && cat "$2/cpmove-{USER}/mysql/{DATABASE}.sql"'
    ),
    "virtualmin": Panel(
        _virtualmin,
        "virtualmin.tar.gz",
        f'tar -xzf "$1" -C "$2" && gunzip -c "$2/.backup/{MAIN}_mysql_{DATABASE}.gz"',
    ),
    "plesk": Panel(
        _plesk,
        "plesk.tar",
        'tar -xf "$1" -C "$2" && mkdir "$2/vhost" "$2/mail" '
        f'&& tar -xzf "$2/backup_user-data_{_TIME}.tgz" -C "$2/vhost" '
        f'&& tar -xzf "$2/backup_domainmail_{_TIME}.tgz" -C "$2/mail" '
        f'&& tar -xOzf "$2/databases/{DATABASE}_1/backup_sqldump_{_TIME}.tgz" ./backup_sqldump',
    ),
}

"""A virtual server on disk as Virtualmin backs it up, and its archives made with the real tools."""

from __future__ import annotations

import gzip
import mailbox
import shutil
import subprocess
from pathlib import Path

from tests.external.cpanel_account import MAIN, SQL, USER, make_maildir

PLAIN_PASSWORD, HASH_PASSWORD = "PlainSecret-4711", "HashSecret-4712"
SETTINGS_PASSWORD, KEY = "SettingsSecret-4713", "KeySecret-4714"
SECRETS = (PLAIN_PASSWORD, HASH_PASSWORD, SETTINGS_PASSWORD, KEY)
DATABASE = f"{USER}_shop"


def make_home(home: Path, *, documents: int = 20) -> Path:
    """The owner's home: the site, the owner's own mail, and that of `info` below homes."""
    for folder in ("public_html/img", "homes/info", "logs", "cgi-bin", "etc"):
        (home / folder).mkdir(parents=True)
    for number in range(documents):
        (home / "public_html/img" / f"{number}.bin").write_bytes(bytes([number % 256]) * (1000 + number))
    (home / "public_html/index.php").write_text("<?php echo 'main';\n")
    (home / "public_html/current").symlink_to("img/1.bin")
    (home / "logs/access_log").write_text("log\n")
    make_maildir(home / "homes/info/Maildir", 5)
    (home / "Maildir/cur").mkdir(parents=True)
    (home / "Maildir/cur/7.own:2,S").write_text("to the owner\n")
    return home


def features(
    name: str = MAIN, user: str = USER, *, home: str = f"/home/{USER}", settings: str = "", packed: bool = True
) -> dict[str, bytes]:
    """What Virtualmin's features write for a domain, by feature."""
    sql = SQL.encode()
    users = (
        f"{user}:$6$own$own:1001:1001:Owner:{home}:/bin/sh:{user}@{name}:0:0\n{user}@{name}\n"
        f"info.{user}:$6$abc$def:1002:1001:Info:{home}/homes/info:/dev/null:info@{name}:1024:0\ninfo@{name},x@y.z\n"
        f"empty.{user}:!:1003:1001::{home}/homes/empty:/dev/null:empty@{name}:0:0\n\n"
        f"ftp.{user}:$6$ftp$ftp:1004:1001:No mail:{home}/homes/ftp:/bin/ftp::0:0\n\n"
    )
    texts = {
        "virtualmin": f"dom={name}\nuser={user}\nhome={home}\nid=1600000000{len(name)}\npass={SETTINGS_PASSWORD}\n"
        f"db_mysql={DATABASE}\npublic_html_dir=public_html\n{settings}",
        "mysql": "hosts=localhost\n", "mail_users": users, "mail_plainpass": f"info.{user}:{PLAIN_PASSWORD}\n",
        "mail_hashpass": f"info.{user}:{HASH_PASSWORD}\n", "mail_aliases": f"sales@{name}: info@{name}\n",
        "unix": "0 1 * * * php cron.php\n", "dns": "zone\n", "web": "<VirtualHost>\n", "ssl": "<VirtualHost>\n",
        "ssl_cert": "cert\n", "ssl_key": f"{KEY}\n", "ssl_ca": "ca\n",
    }  # fmt: skip
    found = {feature: text.encode() for feature, text in texts.items()}
    found[f"mysql_{DATABASE}" + (".gz" if packed else "")] = gzip.compress(sql) if packed else sql
    return found


def write_features(folder: Path, name: str, found: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for feature, data in found.items():
        (folder / f"{name}_{feature}").write_bytes(data)


def archive(top: Path, target: Path) -> Path:
    """All of a folder as Virtualmin packs it: an incremental tar of `.`, compressed as the name says; or a zip."""
    kind = target.name.removeprefix(target.name.partition(".tar")[0])
    if target.suffix == ".zip":
        subprocess.run(["zip", "-qry", str(target), "."], cwd=top, check=True)
        return target
    snapshot = target.with_name(f"{target.name}.snapshot")
    plain = target.with_name(f"{target.name}.plain")
    subprocess.run(
        ["tar", "-cf", str(plain), f"--listed-incremental={snapshot}", "-C", str(top), "."], check=True
    )  # fmt: skip
    tools = {".tar.gz": "gzip", ".tar.bz2": "bzip2", ".tar.zst": "zstd", ".tar.xz": "xz"}
    if kind in tools:
        with plain.open("rb") as source, target.open("wb") as packed:
            subprocess.run([tools[kind], "-c"], stdin=source, stdout=packed, check=True)
        plain.unlink()
    else:
        plain.rename(target)
    return target


def home_format(folder: Path, kind: str = "tar.gz", *, found: dict[str, bytes] | None = None) -> Path:
    """One per server: the home with `.backup` in it."""
    home = make_home(folder / "home") if not (folder / "home").exists() else folder / "home"
    write_features(home / ".backup", MAIN, found or features())
    return archive(home, folder / f"{MAIN}.{kind}")


def directory_format(folder: Path, kind: str = "tar.gz", *, directory: str = "_dir.tar") -> Path:
    """Features only; the home is an archive of its own."""
    home, top = make_home(folder / "home"), folder / "features"
    write_features(top, MAIN, features(packed=False))
    nested = archive(home, folder / ("nested.zip" if directory.endswith("zip") else "nested.tar"))
    shutil.copy(nested, top / f"{MAIN}{directory}")
    return archive(top, folder / f"{MAIN}.{kind}")


def mail_outside(folder: Path) -> Path:
    """Mail in folders of its own, which are in tars of their own; `old` has an mbox."""
    home = make_home(folder / "home")
    spool, own = folder / "spool", folder / "own"
    spool.mkdir()
    shutil.move(home / "homes/info/Maildir", spool / f"info.{USER}")
    box = mailbox.mbox(spool / f"old.{USER}")
    for number in range(3):
        message = mailbox.mboxMessage(f"Subject: {number}\n\nFrom here on\n\nFrom there\ntext {number}\n")
        message.set_flags("RO" if number == 0 else "" if number == 1 else "ROA")
        box.add(message)
    box.close()
    own.mkdir()
    shutil.move(home / "Maildir", own / "Maildir")
    found = features()
    found["mail_users"] += f"old.{USER}:$6$o$o:1009:1001::/srv/mail/old:/x:old@{MAIN}:0:0\n\n".encode()
    found["mail_files"] = archive(spool, folder / "files.tar").read_bytes()
    found[f"mail_homes_{USER}"] = archive(own, folder / "homes.tar").read_bytes()
    return home_format(folder, found=found)


SUB, ALIAS, OTHER = f"blog.{MAIN}", "alias.example.net", "other.example.org"


def single_file(folder: Path, kind: str = "tar.gz") -> Path:
    """Several servers in one archive: an owner with a sub-server and an alias, another owner, settings."""
    top = folder / "features"
    owner = features(settings="")
    owner_id = f"1600000000{len(MAIN)}"
    sub = features(SUB, home=f"/home/{USER}/domains/{SUB}", settings=f"parent={owner_id}\n")
    other = features(OTHER, "other", home="/home/other")
    kept = {SUB: ("virtualmin", "dns"), OTHER: ("virtualmin", "mail_users", "unix")}
    write_features(top, ALIAS, {"virtualmin": f"dom={ALIAS}\nid=9\nalias={owner_id}\nparent={owner_id}\n".encode()})
    for name, found in ((MAIN, owner), (SUB, sub), (OTHER, other)):
        home = make_home(folder / f"home-{name}", documents=len(name))
        (home / "public_html/index.php").write_text(name)
        if name == SUB:
            shutil.rmtree(home / "Maildir")
            shutil.rmtree(home / "homes")
        write_features(top, name, {key: data for key, data in found.items() if key in kept.get(name, found)})
        shutil.copy(archive(home, folder / "nested.tar"), top / f"{name}_dir.tar")
    for setting in ("virtualmin_config", "virtualmin_templates"):
        (top / setting).write_text("x=1\n")
    return archive(top, folder / f"backup.{kind}")


def settings_only(folder: Path) -> Path:
    top = folder / "settings"
    top.mkdir(parents=True)
    for setting in ("config", "templates", "plans"):
        (top / f"virtualmin_{setting}").write_text("x=1\n")
    return archive(top, folder / "virtualmin.tar.gz")


def made_by_hand(folder: Path, marker: str = "virtualmin.info") -> Path:
    home, top = make_home(folder / "home"), folder / "made"
    (top / "mysql").mkdir(parents=True)
    (top / marker).write_text(f"domain={MAIN}\n")
    subprocess.run(["tar", "-czf", str(top / "public_html.tar.gz"), "-C", str(home), "public_html"], check=True)
    (top / f"mysql/{DATABASE}.sql").write_text(SQL)
    shutil.copytree(home / "homes/info/Maildir", top / "mail/info/Maildir")
    return archive(top, folder / f"{marker}.tar.gz")

"""What a tenant can do to their own site and data, through the API: nothing outside is read or written, nothing
hangs."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from demo.sample_files import differences, snapshot
from demo.servers import mariadb_server
from demo.service import Service
from tests.service.conftest import SITE_UID

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="other users' files need root")
SECRET = "somebody else's, and nobody's business"


def own(path: Path) -> None:
    for found in [path, *path.rglob("*")]:
        os.chown(found, SITE_UID, SITE_UID, follow_symlinks=False)


@pytest.fixture
def neighbour(folder: Path) -> Path:
    """Another tenant's, beside the site; the service itself could read and write it."""
    made = folder / "neighbour"
    (made / "cur").mkdir(parents=True)
    (made / "secret").write_text(SECRET)
    (made / "cur" / "1.M1.host:2,S").write_text(SECRET)
    for path in (made, *made.rglob("*")):
        os.chown(path, 54321, 54321)
        path.chmod(0o700 if path.is_dir() else 0o600)
    return made


def small(folder: Path) -> Path:
    root = folder / "site"
    (root / "wp-content/uploads").mkdir(parents=True)
    (root / "index.html").write_text("<p>hello")
    (root / "wp-content/uploads/a.txt").write_text("a")
    own(root)
    return root


def made(service: Service, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = service.call("POST", "/api/domains", 201, json={"domain_name": "shop.example.com"} | body)
    return found


def restore(service: Service, backup: dict[str, Any], **body: Any) -> dict[str, Any]:
    body = {"clear_existing": True, **body}
    ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=body), 120)
    service.until(lambda: list(service.folder.glob(".liberu-restore-*")), lambda found: not found)
    return ended


def download(service: Service, backup: dict[str, Any], number: int = 1) -> bytes:
    with service.client() as client:
        return client.get(f"/api/backups/{backup['id']}/components/{number}/download").raise_for_status().content


@pytest.mark.parametrize(
    "name",
    ["-rf", "--help", "../x.example.com", "a/b.example.com", "x\ny.example.com", "x.example.com\0", "example", ".",
     "..", "x..example.com", "x.example.com/../../etc", "$(id).example.com", "x;id.example.com", " ",
     "a" * 300 + ".de",
    ],
)  # fmt: skip
def test_names_that_are_none(listening: Service, name: str) -> None:
    listening.call("POST", "/api/domains", 422, json={"domain_name": name})


@pytest.mark.parametrize(
    "path",
    ["/etc", "/", "/home", "relative", "/srv/../etc", "/srv/\0x", "/root/site", "/srv", "/var/www/../../etc/passwd"],
)
def test_places_outside_the_roots(listening: Service, path: str) -> None:
    for field in ("document_root", "mail_path"):
        listening.call("POST", "/api/domains", 422, json={"domain_name": "x.example.com", field: path})


@pytest.mark.parametrize("clear", [True, False])
def test_links_that_were_planted_before_a_restore(
    service: Service, folder: Path, neighbour: Path, clear: bool
) -> None:
    root = small(folder)
    backup = service.backup(made(service, document_root=str(root)))
    before, outside = snapshot(root), snapshot(neighbour)
    shutil.rmtree(root / "wp-content")
    (root / "wp-content").symlink_to(neighbour)
    (root / "index.html").unlink()
    (root / "index.html").symlink_to(neighbour / "secret")
    (root / "more").symlink_to("/")
    own(root)
    ended = restore(service, backup, clear_existing=clear)
    assert ended["status"] == "completed", ended["error_message"]
    assert differences(outside, snapshot(neighbour)) == []
    if not clear:
        assert (root / "more").is_symlink()
        (root / "more").unlink()
    changed = [line for line in differences(before, snapshot(root)) if not line.startswith("b'.':")]
    assert changed == [], "but for the folder's own time"


def test_the_document_root_itself_becomes_a_link(service: Service, folder: Path, neighbour: Path) -> None:
    root = small(folder)
    domain = made(service, document_root=str(root))
    backup, outside = service.backup(domain), snapshot(neighbour)
    root.rename(folder / "elsewhere")
    root.symlink_to(neighbour)
    os.lchown(root, SITE_UID, SITE_UID)  # as the tenant would have made it
    assert service.backup(domain)["status"] == "failed"
    assert restore(service, backup)["status"] == "failed"
    assert differences(outside, snapshot(neighbour)) == []


def test_what_is_no_plain_file(service: Service, folder: Path, neighbour: Path) -> None:
    root = small(folder)
    os.mkfifo(root / "fifo")
    os.mknod(root / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(root / "socket"))
    (root / "neighbour").symlink_to(neighbour)
    (root / "secret").symlink_to(neighbour / "secret")
    own(root)
    backup = service.backup(made(service, document_root=str(root)))
    assert backup["status"] == "completed", backup
    archive = download(service, backup)
    assert len(archive) < 1 << 20, "a device has no end"
    assert SECRET.encode() not in archive
    with tarfile.open(fileobj=BytesIO(archive)) as members:
        types = {member.name: member.type for member in members}
    assert types["./fifo"] == tarfile.FIFOTYPE
    assert types["./neighbour"] == types["./secret"] == tarfile.SYMTYPE
    shutil.rmtree(root / "wp-content")
    ended = restore(service, backup)
    assert ended["status"] == "completed", ended["error_message"]
    assert not (root / "zero").exists() or not stat.S_ISCHR((root / "zero").lstat().st_mode), (
        "devices do not come back"
    )


def test_folders_deeper_than_a_path_can_name(service: Service, folder: Path) -> None:
    root = small(folder)
    handle = os.open(root, os.O_RDONLY)
    for number in range(400):
        os.mkdir(f"deeper and deeper {number:03d}", dir_fd=handle)
        below = os.open(f"deeper and deeper {number:03d}", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    descriptor = os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=handle)
    os.write(descriptor, b"end")
    os.close(descriptor)
    os.close(handle)
    subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(root)], check=True)
    backup = service.backup(made(service, document_root=str(root)))
    assert backup["status"] in ("completed", "partial", "failed"), backup
    if backup["status"] != "completed":
        assert backup["error_message"], "it says what it could not take"
        return
    (root / "index.html").write_text("damaged")
    ended = restore(service, backup)
    assert ended["status"] == "completed" or ended["error_message"], ended
    assert (root / "index.html").read_text() == ("<p>hello" if ended["status"] == "completed" else "damaged")


def test_a_tree_that_changes_all_the_time(service: Service, folder: Path) -> None:
    root = small(folder)
    over = threading.Event()

    def work() -> None:
        number = 0
        while not over.is_set():
            number += 1
            with suppress(OSError):
                (root / f"cache-{number % 50}").write_bytes(os.urandom(5000 + number % 7000))
                (root / f"cache-{(number + 25) % 50}").unlink(missing_ok=True)
                with (root / "access.log").open("ab") as log:
                    log.write(b"x" * 1000)
                (root / "folder").mkdir(exist_ok=True)
                (root / "folder").rmdir()

    writer = threading.Thread(target=work)
    writer.start()
    try:
        domain = made(service, document_root=str(root))
        backups = [service.backup(domain) for _ in range(3)]
    finally:
        over.set()
        writer.join()
    assert {backup["status"] for backup in backups} == {"completed"}, backups[0]["components"]
    ended = restore(service, backups[-1])
    assert ended["status"] == "completed", ended["error_message"]
    assert (root / "index.html").read_text() == "<p>hello"


def test_many_tiny_files(service: Service, folder: Path) -> None:
    root = small(folder)
    for number in range(20_000):
        place = root / f"{number % 100:02d}"
        place.mkdir(exist_ok=True)
        (place / f"{number}").touch()
    subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(root)], check=True)
    backup = service.backup(made(service, document_root=str(root)))
    assert backup["status"] == "completed", backup
    shutil.rmtree(root / "00")
    assert restore(service, backup)["status"] == "completed"
    assert sum(len(names) for _, _, names in os.walk(root)) == 20_002


@pytest.mark.parametrize("what", ["a link", "a folder of links", "somebody else's folder"])
def test_a_maildir_that_is_another_users(service: Service, folder: Path, neighbour: Path, what: str) -> None:
    mail = folder / "mail"
    mine = mail / "anna@shop.example.com"
    mail.mkdir()
    if what == "a link":
        mine.symlink_to(neighbour)
    elif what == "a folder of links":
        (mine / "new").mkdir(parents=True)
        (mine / "cur").symlink_to(neighbour / "cur")
        (mine / "new" / "2.M2.host").symlink_to(neighbour / "secret")
    else:
        shutil.copytree(neighbour, mine)
        (mine / "new").mkdir()
    if what != "somebody else's folder":
        own(mail)
    outside = snapshot(neighbour)
    domain = made(
        service, mail_path=str(mail), mailboxes=[{"email_address": "anna@shop.example.com"}],
        system_user=str(SITE_UID),
    )  # fmt: skip
    backup = service.backup(domain, "email")
    if backup["status"] in ("completed", "partial") and what != "somebody else's folder":
        assert SECRET.encode() not in download(service, backup)
    if backup["status"] in ("completed", "partial"):
        assert restore(service, backup)["status"] in ("completed", "partial", "failed")
    assert differences(outside, snapshot(neighbour)) == []


def test_database_names_with_quotes(service: Service) -> None:
    names = ["we`ird", "qu'o\"te", "-rf", "a;b", "sp ace", "per%cent", "back\\slash", "ümlaut"]
    with mariadb_server() as server:
        for name in names:
            quoted = "`" + name.replace("`", "``") + "`"
            server.run(
                f"CREATE DATABASE {quoted}; CREATE TABLE {quoted}.t (x text); INSERT INTO {quoted}.t VALUES ('1')"
            )
            pattern = quoted.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")  # as GRANT reads it
            server.run(f"GRANT ALL ON {pattern}.* TO shop@'127.0.0.1' IDENTIFIED BY 'shop-pw'")
        account = {
            "engine": "mariadb", "username": "shop", "password": "shop-pw", "host": "127.0.0.1",
            "port": server.port, "admin_username": "admin", "admin_password": server.admin_password,
        }  # fmt: skip
        domain = made(service, databases=[account | {"name": name} for name in names])
        backup = service.backup(domain, "database")
        assert backup["status"] == "completed", backup["error_message"]
        for name in names:
            server.run("UPDATE `" + name.replace("`", "``") + "`.t SET x = '2'")
        ended = restore(service, backup)
        assert ended["status"] == "completed", ended["error_message"]
        for name in names:
            assert server.run("SELECT x FROM `" + name.replace("`", "``") + "`.t").strip() == "1", name

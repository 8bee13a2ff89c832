"""Mail: a restore adds what is missing and loses nothing that was delivered since."""

from __future__ import annotations

import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.mail import MailComponent, MailTarget
from app.components.maildir import MaildirRules
from app.deployments.base import STAGING_PREFIX, User
from app.deployments.standalone import StandaloneDeployment
from app.errors import ArchiveDamaged, CommandFailed
from tests.components.helpers import SITE_UID, Context, codes, collect

OWNER = User(SITE_UID, SITE_UID if os.geteuid() == 0 else os.getegid())


def deliver(folder: Path, address: str, place: str, name: str, text: str) -> None:
    path = folder / address / place
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(text)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{SITE_UID}:{SITE_UID}", str(folder)], check=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shop.example.com"
    for address in ("anna@shop.example.com", "ben@shop.example.com"):
        for number in range(5):
            deliver(made, address, "cur", f"100{number}.host:2,S", f"{address} {number}")
            deliver(made, address, ".Sent/cur", f"300{number}.host:2,S", f"sent {number}")
        deliver(made, address, "new", "2000.host", "unread")
        (made / address / "tmp").mkdir()
        deliver(made, address, ".", "dovecot-uidlist", "old uids")
        deliver(made, address, ".", "subscriptions", "Sent\n")
    return made


def component(folder: Path, *more: str) -> MailComponent:
    addresses = ["anna@shop.example.com", "ben@shop.example.com", *more]
    return MailComponent(StandaloneDeployment(), MailTarget(str(folder), addresses, OWNER))


def messages(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


async def test_merge(folder: Path) -> None:
    dump = await component(folder, "carol@shop.example.com").dump()
    archive = await collect(dump)
    assert codes(dump.report) == ["mailbox_missing"]
    anna, ben = folder / "anna@shop.example.com", folder / "ben@shop.example.com"
    (anna / "cur/1000.host:2,S").unlink()
    (anna / "cur/1001.host:2,S").rename(anna / "cur/1001.host:2,RS")
    (anna / "new/2000.host").rename(anna / "cur/2000.host:2,S")
    (anna / "dovecot-uidlist").unlink()
    deliver(folder, "anna@shop.example.com", "new", "9000.host", "delivered since")
    shutil.rmtree(ben)
    expected = messages(folder)
    report = await component(folder).restore(from_bytes(archive), Context().context, len(archive))
    found = messages(folder)
    assert {key: found[key] for key in expected} == expected, "nothing that was there is lost or changed"
    assert sorted(found.keys() - expected.keys()) == sorted(
        ["anna@shop.example.com/cur/1000.host:2,S", "ben@shop.example.com/new/2000.host"]
        + ["ben@shop.example.com/subscriptions"]
        + [f"ben@shop.example.com/cur/100{n}.host:2,S" for n in range(5)]
        + [f"ben@shop.example.com/.Sent/cur/300{n}.host:2,S" for n in range(5)]
    )
    assert report.facts["added"] == 13
    assert (ben / "cur/1000.host:2,S").stat().st_uid == OWNER.uid
    assert ben.stat().st_uid == OWNER.uid
    again = await component(folder).restore(from_bytes(archive), Context("op2").context, len(archive))
    assert again.facts["added"] == 0
    assert messages(folder) == found
    assert [p for p in folder.iterdir() if p.name.startswith(STAGING_PREFIX)] == []


async def test_a_cut_archive_adds_nothing(folder: Path) -> None:
    archive = await collect(await component(folder).dump())
    (folder / "anna@shop.example.com/cur/1000.host:2,S").unlink()
    before = messages(folder)
    with pytest.raises((ArchiveDamaged, CommandFailed)):
        await component(folder).restore(from_bytes(archive[: len(archive) // 2]), Context().context, len(archive))
    assert messages(folder) == before


async def test_a_link_in_the_place_of_a_quota_is_left_alone(folder: Path, tmp_path: Path) -> None:
    archive = await collect(await component(folder).dump())
    anna = folder / "anna@shop.example.com"
    (anna / "cur/1000.host:2,S").unlink()
    (tmp_path / "precious").write_text("1S\n")
    (anna / "maildirsize").symlink_to(tmp_path / "precious")
    os.link(tmp_path / "precious", folder / "ben@shop.example.com/maildirsize")
    (folder / "ben@shop.example.com/cur/1000.host:2,S").unlink()
    report = await component(folder).restore(from_bytes(archive), Context().context, len(archive))
    assert report.facts["added"] == 2
    assert (tmp_path / "precious").read_text() == "1S\n"


def test_many_messages_need_little_memory() -> None:
    """A folder of 200000: below 60 bytes for each name, and the time of sorting them once."""
    rules = MaildirRules()
    mailbox = b"ann@example.com"
    tracemalloc.start()
    for number in range(200_000):
        rules.have((mailbox, b"cur", b"%d.M1P2.host,S=1:2,S" % number))
    assert rules.name((mailbox, b"new", b"199999.M1P2.host,S=1")) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 200_000
    added = [rules.name((mailbox, b"cur", b"%d.M1P2.host,S=1:2,R" % number)) for number in range(200_000)]
    assert not any(added)
    assert rules.name((b"bob@example.com", b"cur", b"1.M1P2.host,S=1:2,R")) == b"1.M1P2.host,S=1:2,R"


def test_a_mail_folder_that_is_one_maildir() -> None:
    rules = MaildirRules()
    rules.have((b"cur", b"1.host:2,S"))
    assert rules.name((b"new", b"1.host")) is None
    assert rules.name((b".Sent", b"cur", b"1.host:2,S")) is None
    assert rules.name((b".Sent", b"cur", b"2.host:2,S")) == b"2.host:2,S"


def test_copies_come_back_to_their_own_folders() -> None:
    """Dovecot gives a copy the same name in the other folder."""
    rules = MaildirRules()
    inbox, work = (b"ann", b"cur", b"1.host:2,S"), (b"ann", b".Work", b"cur", b"1.host:2,")
    rules.have((b"ann", b".Work", b"cur", b"1.host:2,R"))
    rules.staged(inbox)
    rules.staged(work)
    assert rules.name(work) is None
    assert rules.name(inbox) == b"1.host:2,S", "the copy in the other folder is another one"
    moved = MaildirRules()
    moved.have((b"ann", b".Work", b"cur", b"1.host:2,R"))
    moved.staged(inbox)
    assert moved.name(inbox) is None

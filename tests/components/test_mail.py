"""Mail: a restore adds what is missing and loses nothing that was delivered since."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.mail import MailComponent, MailTarget
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

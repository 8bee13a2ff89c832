"""What an archive wants of a live site: to empty it, to show another's files, to hold the service up."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import from_bytes
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.mail import MailComponent, MailTarget
from app.deployments.base import User
from app.deployments.standalone import StandaloneDeployment
from app.errors import ConsentRequired
from demo.service import Service
from tests.attacks.test_archives import children_of
from tests.components.helpers import SITE_UID, Context, codes, collect
from tests.external.test_hostile import MAIN, link, tar
from tests.service.conftest import folder, service
from tests.service.imports.conftest import importing, owned

__all__ = ["folder", "importing", "service"]
OWNER = User(SITE_UID, SITE_UID if os.geteuid() == 0 else os.getegid())
SUB = f"blog.{MAIN}"


def made(service: Service, name: str, *, files: bool = True) -> tuple[dict[str, Any], Path]:
    root = owned(service.folder / "site" / name / "public_html")
    if files:
        (root / "index.php").write_text("live")
        shutil.chown(root / "index.php", OWNER.uid, OWNER.gid)
    body = {"domain_name": name, "user_id": 7, "deployment": {"type": "standalone"}, "document_root": str(root)}
    return service.call("POST", "/api/domains", 201, json=body), root


def imported(service: Service, content: bytes, **body: Any) -> dict[str, Any]:
    (service.folder / "import/a.tar").write_bytes(content)
    request = {"source": {"type": "file", "path": "a.tar"}, "user_id": 7, "clear_existing": True, **body}
    return service.wait(service.call("POST", "/api/backups/import-external", 202, json=request))


def two_domains(root: str, *members: dict[str, Any]) -> bytes:
    """The main domain's document root is `root`, the other's is whole."""
    return tar(
        {"name": "userdata/main", "data": f"main_domain: {MAIN}\nsub_domains: [{SUB}]\n".encode()},
        {"name": f"userdata/{MAIN}", "data": f"documentroot: /home/u/{root}\n".encode()},
        {"name": f"userdata/{SUB}", "data": b"documentroot: /home/u/blog\n"},
        {"name": "homedir/blog/index.php", "data": b"new"},
        *members,
    )


def test_a_document_root_that_leads_nowhere_wants_an_empty_site(importing: Service) -> None:
    _, root = made(importing, MAIN)
    _, blog = made(importing, SUB)
    content = two_domains("www", link("homedir/www", "/srv/elsewhere"))
    looked = imported(importing, content, dry_run=True)
    assert [item["status"] for item in looked["result"]["items"]] == ["impossible", "ready"]
    ended = imported(importing, content)
    assert ended["status"] == "partial", ended
    assert ended["error_message"].count(MAIN) == 1, ended["error_message"]
    assert "files of shop.example.com: its document root 'www' is a symbolic link" in ended["error_message"]
    assert (root / "index.php").read_text() == "live"
    assert (blog / "index.php").read_text() == "new"


def test_a_document_root_that_is_a_link_is_imported(importing: Service) -> None:
    _, root = made(importing, MAIN)
    made(importing, SUB)
    content = two_domains(
        "www",
        link("homedir/www", "app/current/public"),
        link("homedir/app/current", "releases/7"),
        {"name": "homedir/app/releases/7/public/index.php", "data": b"released"},
    )
    looked = imported(importing, content, dry_run=True)
    assert looked["result"]["items"][0]["bytes"] == len(b"released")
    ended = imported(importing, content)
    assert ended["status"] == "completed", ended
    assert (root / "index.php").read_text() == "released"


def test_an_import_without_a_file_wants_an_empty_site(importing: Service) -> None:
    _, root = made(importing, MAIN)
    _, blog = made(importing, SUB, files=False)
    content = two_domains("www", {"name": "homedir/www", "type": tarfile.DIRTYPE, "mode": 0o755})
    looked = imported(importing, content, dry_run=True)
    assert "allow_empty" in looked["result"]["items"][0]["needs"]
    assert "needs" not in looked["result"]["items"][1]
    ended = imported(importing, content)
    assert ended["status"] == "partial", ended
    [refused, fine] = ended["result"]["items"]
    assert (refused["code"], fine["status"]) == ("consent_required", "completed")
    assert (root / "index.php").read_text() == "live"
    assert (blog / "index.php").read_text() == "new"
    ended = imported(importing, content, allow_empty=True)
    assert ended["status"] == "completed", ended
    assert [path.name for path in root.iterdir() if not path.name.startswith(".liberu")] == []
    assert imported(importing, content)["status"] == "completed", "there is nothing to lose any more"


def test_a_backup_without_a_file_wants_an_empty_site(importing: Service) -> None:
    domain, root = made(importing, MAIN, files=False)
    backup = importing.backup(domain, "files")
    (root / "index.php").write_text("live")

    def ended(path: str, **body: Any) -> dict[str, Any]:
        return importing.wait(importing.call("POST", path, 202, json={"clear_existing": True, **body}))

    one = f"/api/backups/{backup['id']}/restore"
    looked = ended(one, dry_run=True)
    assert "allow_empty" in looked["result"]["components"][0]["facts"]["needs"]
    refused = ended(one)
    assert (refused["status"], refused["error_code"]) == ("failed", "consent_required"), refused
    for body in ({"dry_run": True}, {}):
        bulk = ended("/api/backups/bulk-restore", backup_ids=[backup["id"]], **body)
        assert bulk["result"]["details"][0]["error_code"] == "consent_required", bulk
    assert (root / "index.php").read_text() == "live"
    assert ended(one, clear_existing=False)["status"] == "completed"
    assert (root / "index.php").read_text() == "live"
    assert ended("/api/backups/bulk-restore", backup_ids=[backup["id"]], allow_empty=True)["status"] == "completed"
    assert not (root / "index.php").exists()


def test_an_archive_wants_to_keep_the_service_from_ending(importing: Service) -> None:
    """200,000 members take a while to read; the service and its reader end at once."""
    made(importing, MAIN)
    member = tarfile.TarInfo("homedir/public_html/same").tobuf(tarfile.USTAR_FORMAT)
    archive = importing.folder / "import/a.tar"
    archive.write_bytes(tar()[:-10_240] + member * 200_000 + bytes(1024))
    request = {"source": {"type": "file", "path": "a.tar"}, "user_id": 7, "dry_run": True}
    started = importing.call("POST", "/api/backups/import-external", 202, json=request)
    [reader] = importing.until(lambda: children_of(importing.pid), bool)
    importing.until(
        lambda: importing.call("GET", f"/api/operations/{started['id']}"), lambda it: it["bytes_done"] > 0
    )
    importing.stop()  # within 30 seconds
    assert not Path(f"/proc/{reader}").exists()


def tree(*members: tuple[str, bytes, str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
            info.uid, info.gid = OWNER.uid, OWNER.gid
            if kind == tarfile.SYMTYPE:
                info.linkname = text
            data = text.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


BOX = f"./info@{MAIN}"


async def test_links_in_a_mail_backup_want_a_neighbours_mailbox(folder: Path) -> None:
    place = owned(folder / "mail" / MAIN)
    archive = tree(
        (".", tarfile.DIRTYPE, ""), (BOX, tarfile.DIRTYPE, ""), (f"{BOX}/cur", tarfile.DIRTYPE, ""),
        (f"{BOX}/cur/1.x:2,S", tarfile.REGTYPE, "fine"), (f"{BOX}/cur/9.x:2,S", tarfile.SYMTYPE, "/etc/passwd"),
        (f"{BOX}/.Stolen", tarfile.SYMTYPE, f"../boss@{MAIN}"), (f"{BOX}/pipe", tarfile.FIFOTYPE, ""),
    )  # fmt: skip
    target = MailComponent(StandaloneDeployment(), MailTarget(str(place), [], OWNER))
    report = await target.restore(from_bytes(archive), Context().context, len(archive))
    box = place / BOX
    assert sorted(str(path.relative_to(box)) for path in box.rglob("*")) == ["cur", "cur/1.x:2,S"]
    assert codes(report) == ["not_mail"], "one warning for all"
    [warning] = report.warnings
    assert all(name in warning.message for name in ("9.x:2,S", ".Stolen", "pipe"))


async def test_links_in_a_mailbox_are_not_backed_up(folder: Path) -> None:
    place = owned(folder / "mail" / MAIN)
    (place / BOX / "cur").mkdir(parents=True)
    (place / BOX / "cur/1.x:2,S").write_text("fine")
    (place / BOX / ".Stolen").symlink_to(f"../boss@{MAIN}")
    (place / BOX / "two\nlines*").symlink_to("/etc/passwd")
    os.mkfifo(place / BOX / "pipe")
    dump = await MailComponent(StandaloneDeployment(), MailTarget(str(place), [], OWNER)).dump()
    with tarfile.open(fileobj=io.BytesIO(await collect(dump))) as archive:
        assert {member.type for member in archive} == {tarfile.DIRTYPE, tarfile.REGTYPE}
        assert f"{BOX}/cur/1.x:2,S" in archive.getnames()
    assert codes(dump.report) == ["not_mail"]


@pytest.mark.parametrize("mode", ["exchange", "in_place"])
@pytest.mark.parametrize("what", ["nothing", "links alone"])
async def test_a_tree_without_a_file_wants_an_empty_site(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str, what: str
) -> None:
    root = owned(folder / "site/public_html")
    (root / "index.php").write_text("live")
    empty = [(".", tarfile.DIRTYPE, ""), ("./a", tarfile.DIRTYPE, "")]
    if what == "links alone":
        empty.append(("./a/link", tarfile.SYMTYPE, "../gone"))
    archive = tree(*empty)
    component = FilesComponent(StandaloneDeployment(), FilesTarget(str(root), OWNER))

    async def chosen(*_: object) -> str:
        return mode

    monkeypatch.setattr(component, "_mode", chosen)
    with pytest.raises(ConsentRequired, match="allow_empty"):
        await component.restore(from_bytes(archive), Context().context, len(archive))
    assert (root / "index.php").read_text() == "live"
    assert [path.name for path in root.iterdir()] == ["index.php"]
    added = Context("op2", clear=False, in_place=True)
    if mode != "in_place":
        await component.restore(from_bytes(archive), added.context, len(archive))
        await component.tidy(added.journal)
        assert (root / "index.php").read_text() == "live"
    agreed = Context("op3", empty=True)
    await component.restore(from_bytes(archive), agreed.context, len(archive))
    await component.tidy(agreed.journal)
    assert not (root / "index.php").exists()

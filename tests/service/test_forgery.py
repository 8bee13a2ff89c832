"""Whoever can write at a destination can forge, replay, swap or edit nothing: a restore refuses it and changes
nothing, a scan does not adopt it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from app.security.signing import Signer
from demo.sample_files import differences, snapshot
from demo.service import Service
from tests.service.conftest import SITE_UID


@dataclass
class Two:
    """Two tenants' sites; of the first two backups, of the second one. Folders at the destination, by backup."""

    root: Path
    old: Path
    new: Path
    other: Path
    backup: dict[str, Any]
    destination: int

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.new / "manifest.json").read_text())
        return found

    def write(self, document: dict[str, Any]) -> None:
        (self.new / "manifest.json").write_text(json.dumps(document))


@dataclass
class Prepared:
    """Made once for all forgeries: a service, and the destination as it was before the first."""

    service: Service
    two: Two
    base: Path
    pristine: Path


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "encrypted"])
def prepared(request: pytest.FixtureRequest) -> Iterator[Prepared]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-forgery-"))
    folder.chmod(0o755)
    service = Service(folder)
    service.start()
    try:
        base = folder / "away"
        base.mkdir()
        two = _made(service, base, encrypt=request.param)
        shutil.copytree(base, folder / "pristine")
        yield Prepared(service, two, base, folder / "pristine")
    finally:
        service.stop()
        shutil.rmtree(folder)


@pytest.fixture
def service(prepared: Prepared) -> Service:
    return prepared.service


@pytest.fixture
def two(prepared: Prepared) -> Two:
    shutil.rmtree(prepared.base)
    shutil.copytree(prepared.pristine, prepared.base)
    return prepared.two


def _made(service: Service, base: Path, *, encrypt: bool) -> Two:
    folder = service.folder
    body = {"name": "away", "type": "local", "configuration": {"path": str(base)}, "encrypt": encrypt}
    destination = service.call("POST", "/api/backup-destinations", 201, json=body)["id"]
    made = []
    for user in (7, 8):
        root = folder / f"site{user}"
        root.mkdir()
        (root / "index.html").write_text(f"user {user}" * 500)
        if os.geteuid() == 0:
            os.chown(root, SITE_UID, SITE_UID)
        body = {"domain_name": f"site{user}.example.com", "user_id": user, "document_root": str(root)}
        made.append(service.call("POST", "/api/domains", 201, json=body))
    first, second = made

    def backed_up(domain: dict[str, Any]) -> tuple[dict[str, Any], Path]:
        backup = service.backup(domain, destination_id=destination)
        return backup, base / Path(backup["file_path"]).parent

    _, old = backed_up(first)
    (folder / "site7/index.html").write_text("newer" * 500)
    backup, new = backed_up(first)
    _, other = backed_up(second)
    (folder / "site7/index.html").write_text("live")
    return Two(folder / "site7", old, new, other, backup, destination)


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Two], None]:
    def forge(two: Two) -> None:
        document = two.manifest()
        change(document)
        two.write(document)

    return forge


def signed_by_a_stranger(two: Two) -> None:
    document = two.manifest()
    stranger = Signer(os.urandom(32))
    text = json.dumps(document["manifest"], sort_keys=True, separators=(",", ":")).encode()
    document["signature"] |= {"value": stranger.sign(text), "key_id": stranger.key_id}
    two.write(document)


def replayed(two: Two) -> None:
    """An old manifest, with all that it names, under the new one's name."""
    shutil.rmtree(two.new)
    shutil.copytree(two.old, two.new)


def component(two: Path) -> Path:
    return next(path for path in two.iterdir() if path.name.startswith("01-"))


def one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


FORGERIES: dict[str, Callable[[Two], Any]] = {
    "another owner": edited(lambda d: d["manifest"].__setitem__("owner", 8)),
    "another domain": edited(lambda d: d["manifest"].__setitem__("domain_uid", "0" * 36)),
    "another size": edited(lambda d: d["manifest"]["components"][0]["objects"][0].__setitem__("size", 1)),
    "another hash": edited(lambda d: d["manifest"]["components"][0]["objects"][0].__setitem__("sha256", "0" * 64)),
    "another object": edited(lambda d: d["manifest"]["components"][0]["objects"][0].__setitem__("key", "../../x")),
    "not encrypted any more": edited(lambda d: d["manifest"]["components"][0].__setitem__("encryption", "none")),
    "no signature": edited(lambda d: d.pop("signature")),
    "an empty signature": edited(lambda d: d["signature"].__setitem__("value", "")),
    "an unknown format": edited(lambda d: d["manifest"].__setitem__("format", 99)),
    "a stranger's signature": signed_by_a_stranger,
    "no JSON": lambda two: (two.new / "manifest.json").write_text("{"),
    "nothing": lambda two: (two.new / "manifest.json").write_text(""),
    "a huge number": edited(lambda d: d["manifest"].__setitem__("owner", 10**400)),
    "an old backup under a new name": replayed,
    "an old manifest": lambda two: shutil.copy(two.old / "manifest.json", two.new / "manifest.json"),
    "another tenant's manifest": lambda two: shutil.copy(two.other / "manifest.json", two.new / "manifest.json"),
    "another tenant's files": lambda two: shutil.copy(component(two.other), component(two.new)),
    "older files": lambda two: shutil.copy(component(two.old), component(two.new)),
    "one other byte": lambda two: one_byte(component(two.new)),
    "files cut short": lambda two: os.truncate(component(two.new), 100),
    "no files": lambda two: component(two.new).unlink(),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_it_is_refused(service: Service, two: Two, what: str) -> None:
    FORGERIES[what](two)
    before = snapshot(two.root)
    path = f"/api/backups/{two.backup['id']}/restore"
    ended = service.wait(service.call("POST", path, 202, json={"clear_existing": True}))
    assert ended["status"] == "failed", ended
    codes = {"manifest_invalid", "unknown_signer", "archive_damaged", "object_not_found", "decryption_failed"}
    assert ended["error_code"] in codes, ended
    assert differences(before, snapshot(two.root)) == [], "the live site is as it was"


@pytest.mark.parametrize("what", ["another owner", "a stranger's signature", "an old backup under a new name"])
def test_a_scan_does_not_adopt_it(service: Service, two: Two, what: str) -> None:
    """In a folder of its own, as whoever can write there would put it."""
    forged = two.new.with_name(two.new.name.replace(two.backup["uid"], "01990000-0000-7000-8000-000000000000"))
    shutil.copytree(two.old, forged)
    if what != "an old backup under a new name":
        FORGERIES[what](replace(two, new=forged))
    before = service.call("GET", "/api/backups")["total"]
    path = f"/api/backup-destinations/{two.destination}/scan"
    ended = service.wait(service.call("POST", path, 202))
    assert service.call("GET", "/api/backups")["total"] == before, ended


def test_another_domains_folder_is_no_place_for_it(service: Service, two: Two) -> None:
    """A tenant's backup copied among another one's, with a name that fits."""
    planted = two.other.with_name(two.new.name)
    shutil.copytree(two.new, planted)
    before = service.call("GET", "/api/backups")["total"]
    service.wait(service.call("POST", f"/api/backup-destinations/{two.destination}/scan", 202))
    assert service.call("GET", "/api/backups")["total"] == before

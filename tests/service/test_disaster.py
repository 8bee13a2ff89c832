"""docs/disaster-recovery.md as it stands: all but the destination and the recovery kit is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.sample_databases import SamplePostgresql
from demo.sample_files import differences, snapshot
from demo.sample_mail import ADDRESSES, SampleMail
from demo.servers import postgresql_server
from demo.service import ROOT, Service
from demo.storage_servers import StorageServer, sftp_server
from tests.service.conftest import SITE_UID

GUIDE = ROOT / "docs" / "disaster-recovery.md"


@pytest.fixture
def server() -> Iterator[StorageServer]:
    with sftp_server() as started:
        yield started


class Guide:
    """The guide's blocks; `PATH` and what is set in the text are their environment."""

    def __init__(self, **env: str) -> None:
        self._blocks = dict(re.findall(r"```sh (\w+)\n(.*?)```", GUIDE.read_text(), re.DOTALL))
        self.left = set(self._blocks)
        self.env = {"PATH": os.environ["PATH"], **env}

    def run(self, name: str, **env: str) -> str:
        self.left.discard(name)
        script = self._blocks[name].replace(".venv/bin/python", sys.executable)
        result = subprocess.run(
            ["bash", "-c", script], env=self.env | env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, (name, result.stdout, result.stderr)
        return result.stdout


def test_every_block_of_the_guide(service: Service, site: Path, folder: Path, server: StorageServer) -> None:
    mail = SampleMail(folder / "mail" / "shop.example.com", SITE_UID if os.geteuid() == 0 else -1)
    configuration = server.fresh()
    destination = {"name": "Offsite", "type": server.type, "configuration": configuration}
    with postgresql_server() as postgresql:
        crm = SamplePostgresql(postgresql)
        made = service.call("POST", "/api/backup-destinations", 201, json=destination)
        body = {
            "domain_name": "shop.example.com", "user_id": 7, "document_root": str(site), "databases": [crm.row],
            "mail_path": str(mail.folder), "mailboxes": [{"email_address": address} for address in ADDRESSES],
        }  # fmt: skip
        domain = service.call("POST", "/api/domains", 201, json=body)
        before = snapshot(site), crm.checksum(), mail.messages()
        full = service.backup(domain, "full", destination_id=made["id"])
        (site / "large.bin").unlink()
        later = snapshot(site)
        files = service.backup(domain, "files", destination_id=made["id"])
        assert (full["status"], files["status"]) == ("completed", "completed")
        kit = folder / "kit.tar"
        subprocess.run(
            [sys.executable, "-m", "app.cli", "recovery-kit", str(kit)], cwd=ROOT, check=True, capture_output=True,
            env={"PATH": os.environ["PATH"], "LIBERU_DATA": str(service.folder / "data")},
        )  # fmt: skip

        service.kill()  # the disaster
        shutil.rmtree(service.folder / "data")
        for path in site.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for message in [path for path in mail.folder.rglob("*") if path.is_file()]:
            message.unlink()
        crm.damage()

        guide = Guide(KIT=str(kit), LIBERU_DATA=str(service.folder / "data"))
        guide.run("unpack")
        service.start()
        guide.env |= {"URL": f"http://127.0.0.1:{service.port}", "TOKEN": service.token}
        printed = guide.run("scan", DESTINATION=json.dumps(destination)).splitlines()
        found: list[dict[str, Any]] = json.loads(printed[-1])["data"]
        assert [(b["uid"], b["type"], b["status"], b["user_id"], b["file_size"]) for b in found] == [
            (b["uid"], b["type"], "completed", 7, b["file_size"]) for b in (files, full)
        ]
        again = service.call("POST", "/api/domains", 201, json=body)
        target = {"DOMAIN_ID": str(again["id"])}
        assert '"status": "completed"' in guide.run("restore", BACKUP_ID=str(found[1]["id"]), **target)
        assert differences(before[0], snapshot(site)) == []
        assert crm.checksum() == before[1]
        assert mail.messages() == before[2]
        assert '"status": "completed"' in guide.run("restore", BACKUP_ID=str(found[0]["id"]), **target)
        assert differences(later, snapshot(site)) == []
        repeated = service.wait(
            service.call("POST", f"/api/backup-destinations/{found[0]['destination_id']}/scan", 202)
        )
        assert {name: repeated["result"][name] for name in ("known", "added", "refused", "missing")} == {
            "known": 2, "added": 0, "refused": 0, "missing": [],
        }  # fmt: skip
    service.stop()

    where = (
        f"sftp://{configuration['username']}@{configuration['host']}:{configuration['port']}{configuration['root']}"
    )
    guide.env["FROM"] = where
    if "password" in configuration:
        guide.env["SFTP_PASSWORD"] = configuration["password"]
    else:
        key = folder / "key"
        key.write_text(configuration["private_key"])
        guide.env |= {"SFTP_PRIVATE_KEY_FILE": str(key), "SFTP_PASSPHRASE": configuration["passphrase"]}
    listed = guide.run("list")
    assert full["uid"] in listed
    assert files["uid"] in listed
    out = folder / "out"
    guide.run("fetch", BACKUP=full["uid"], TARGET=str(out))
    assert differences(before[0], snapshot(out / "files")) == []
    assert (out / "02-postgresql-crm.pgdump").read_bytes().startswith(b"PGDMP")
    assert sorted(path.name for path in out.iterdir()) == ["02-postgresql-crm.pgdump", "files", "mail"]
    assert guide.left == set()


def test_a_stranger_and_an_edited_manifest_are_refused_by_name(service: Service, domain: dict[str, Any]) -> None:
    [destination] = service.call("GET", "/api/backup-destinations")["data"]
    first, second = service.backup(domain), service.backup(domain)
    root = service.folder / "data/backups"
    edited = root / first["file_path"]
    edited.write_text(edited.read_text().replace('"completed"', '"partial"'))
    foreign = root / second["file_path"].replace(second["uid"], f"{second['uid'][:-4]}0000")
    foreign.parent.mkdir(exist_ok=True)
    shutil.copy(root / second["file_path"], foreign)
    service.stop()
    for name in ("liberu.db", "engine.db"):
        for path in (service.folder / "data").glob(f"{name}*"):
            path.unlink()
    service.start()
    ended = service.wait(service.call("POST", f"/api/backup-destinations/{destination['id']}/scan", 202))
    assert (ended["result"]["added"], ended["result"]["refused"]) == (1, 2)
    assert {refusal["code"] for refusal in ended["result"]["refusals"]} == {"manifest_invalid"}
    assert [backup["uid"] for backup in service.call("GET", "/api/backups")["data"]] == [second["uid"]]

"""docs/restore-without-us.md, run as it stands: standard tools and the identity file, this service stopped."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from demo.sample_databases import PASSWORD, SampleMariadb, SamplePostgresql
from demo.sample_files import differences, snapshot
from demo.sample_mail import ADDRESSES, SampleMail
from demo.servers import mariadb_server, postgresql_server
from demo.service import Service
from tests.service.conftest import SITE_UID

GUIDE = Path(__file__).parents[2] / "docs" / "restore-without-us.md"


def test_every_block_of_the_guide(service: Service, site: Path, folder: Path) -> None:
    blocks = dict(re.findall(r"```sh (\w+)\n(.*?)```", GUIDE.read_text(), re.DOTALL))
    mail = SampleMail(folder / "mail" / "shop.example.com", SITE_UID if os.geteuid() == 0 else -1)
    with mariadb_server() as mariadb, postgresql_server() as postgresql:
        shop, crm = SampleMariadb(mariadb), SamplePostgresql(postgresql)
        service.call("POST", "/api/backup-destinations", 201, json={
            "name": "d", "configuration": {"path": str(folder / "dest")}, "encrypt": True, "is_default": True,
        })  # fmt: skip
        domain = service.call("POST", "/api/domains", 201, json={
            "domain_name": "shop.example.com", "document_root": str(site), "mail_path": str(mail.folder),
            "databases": [shop.row, crm.row], "mailboxes": [{"email_address": a} for a in ADDRESSES],
        })  # fmt: skip
        backup = service.backup(domain, "full")
        assert backup["status"] == "completed", backup
        service.stop()

        options = folder / "options.cnf"
        options.touch(mode=0o600)
        options.write_text(
            f"[client]\nuser=admin\npassword={mariadb.admin_password}\nhost=127.0.0.1\nport={mariadb.port}\n"
        )
        mariadb.run("CREATE DATABASE again CHARACTER SET utf8mb4; GRANT ALL ON again.* TO shop@'127.0.0.1'")
        postgresql.run("CREATE DATABASE again OWNER crm")
        target = folder / "target"
        target.mkdir()
        [manifest] = (folder / "dest").rglob("manifest.json")
        env = {
            "PATH": os.environ["PATH"], "BACKUP": str(manifest.parent), "TARGET": str(target),
            "IDENTITY": str(folder / "data/keys/age-identity.txt"), "OPTIONS": str(options), "DATABASE": "again",
            "PGHOST": "127.0.0.1", "PGPORT": str(postgresql.port), "PGUSER": "crm", "PGPASSWORD": PASSWORD,
            "PGDATABASE": "again",
        }  # fmt: skip
        printed = {}
        for name, script in blocks.items():
            result = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)
            assert result.returncode == 0, (name, result.stderr)
            printed[name] = result.stdout

        assert set(blocks) == {"details", "check", "files", "mail", "postgresql", "mariadb"}
        names = [part["name"] for part in json.loads(printed["details"])["components"]]
        assert names == ["files", "shop", "crm", "mail"]
        assert printed["check"].count(": OK") == 5
        assert differences(snapshot(site), snapshot(target / "files")) == []
        assert differences(snapshot(mail.folder), snapshot(target / "mail")) == []
        assert shop.checksum("again") == shop.checksum().replace("shop.", "again.")
        assert crm.checksum("again") == crm.checksum()

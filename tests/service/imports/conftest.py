"""A service with an import folder, and domains that foreign backups go into."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.sample_databases import PASSWORD
from demo.servers import MariadbServer
from demo.service import Service
from tests.database_servers import mariadb, postgresql
from tests.external.cpanel_account import MAIN, USER, make_account
from tests.service.conftest import SITE_UID

__all__ = ["mariadb", "postgresql"]

BLOG = f"blog.{MAIN}"


@pytest.fixture
def importing(folder: Path) -> Iterator[Service]:
    (folder / "import").mkdir()
    made = Service(folder, LIBERU_IMPORTS__FOLDER=str(folder / "import"), LIBERU_RESTORES__KEEP_REPLACED_HOURS="0")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def account(folder: Path) -> Path:
    return make_account(folder / "account")


def owned(path: Path) -> Path:
    path.mkdir(parents=True)
    for each in (path, *path.parents[:1]):
        if os.geteuid() == 0:
            shutil.chown(each, SITE_UID, SITE_UID)
    return path


@pytest.fixture
def database(mariadb: MariadbServer) -> Iterator[dict[str, Any]]:
    """`shopuser_shop`, empty, with an account of its own."""
    name = f"{USER}_shop"
    mariadb.run(
        f"CREATE DATABASE {name} CHARACTER SET utf8mb4; CREATE USER web@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"
    )
    mariadb.run(f"GRANT ALL ON {name}.* TO web@'127.0.0.1'")
    yield {
        "engine": "mariadb", "name": name, "username": "web", "password": PASSWORD, "host": "127.0.0.1",
        "port": mariadb.port, "admin_username": "admin", "admin_password": mariadb.admin_password,
    }  # fmt: skip
    mariadb.run(f"DROP DATABASE {name}; DROP USER web@'127.0.0.1'")


class Place:
    """The domains that the account goes into."""

    def __init__(self, service: Service, databases: list[dict[str, Any]], *names: str) -> None:
        self.service = service
        self.site = service.folder / "site"
        self.domains = {}
        for name in names or (MAIN, BLOG, "addon.example.org"):
            body: dict[str, Any] = {
                "domain_name": name, "user_id": 7, "deployment": {"type": "standalone"},
                "document_root": str(owned(self.site / name / "public_html")),
            }  # fmt: skip
            if name == MAIN:
                body |= {"mail_path": str(owned(self.site / name / "mail")), "databases": databases}
            self.domains[name] = service.call("POST", "/api/domains", 201, json=body)

    def give(self, archive: Path) -> dict[str, Any]:
        shutil.copy(archive, self.service.folder / "import" / archive.name)
        return {"type": "file", "path": archive.name}

    def run(self, source: dict[str, Any], **body: Any) -> dict[str, Any]:
        started = self.service.call(
            "POST",
            "/api/backups/import-external",
            202,
            json={"source": source, "user_id": 7, "clear_existing": True, **body},
        )
        ended = self.service.wait(started)
        staging = [path for path in (self.service.folder / "data/imports").glob("*") if path.name != "uploads"]
        self.service.until(lambda: [path for path in staging if path.exists()], lambda left: not left)
        return ended

    def root(self, name: str) -> Path:
        return self.site / name / "public_html"

    def files(self, name: str) -> dict[str, str]:
        return hashes(self.root(name))

    def mail(self) -> set[str]:
        box = self.site / MAIN / "mail"
        return {str(path.relative_to(box)) for path in box.rglob("*") if path.is_file()}


def hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def by_target(ended: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["kind"], item["target"] + ":" + item["name"]): item for item in ended["result"]["items"]}

"""A real service in its own process, as a user runs it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.sample_files import make_site
from demo.service import Service

SITE_UID = 23456 if os.geteuid() == 0 else os.geteuid()


def everything(service: Service) -> bytes:
    """All that the service has written: its data, its log, its destinations; not the site."""
    folders = [path for path in service.folder.iterdir() if path.name != "site"]
    files = [path for folder in folders for path in [folder, *folder.rglob("*")] if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def stored(root: Path) -> list[Path]:
    """Every file at a destination, without the markers of destinations."""
    return [path for path in root.rglob("*") if path.is_file() and not path.name.startswith("destination-")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's own folder, which a site's user cannot enter."""
    made = Path(tempfile.mkdtemp(prefix="liberu-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def listening() -> Iterator[Service]:
    """One for all of a module's tests that leave nothing behind: what is refused is not there."""
    made = Path(tempfile.mkdtemp(prefix="liberu-test-"))
    made.chmod(0o755)
    service = Service(made)
    service.start()
    yield service
    service.stop()
    shutil.rmtree(made)


@pytest.fixture
def site(folder: Path) -> Path:
    root = folder / "site" / "public_html"
    make_site(root, files=100, large=1 << 20, uid=SITE_UID if os.geteuid() == 0 else -1)
    return root


@pytest.fixture
def domain(service: Service, site: Path) -> dict[str, Any]:
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
    made: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    return made

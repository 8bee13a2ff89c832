"""Owners and groups that a restore keeps are named in the settings, and looked up where the site runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from demo.service import Service
from tests.service.conftest import SITE_UID


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_owners_and_groups_may_be_named(folder: Path, site: Path) -> None:
    service = Service(
        folder,
        LIBERU_SITES__RESTORE_OWNERS='["www-data", "no-such-user"]',
        LIBERU_SITES__RESTORE_GROUPS='["www-data", 4711, "4712", "no-such-group"]',
    )
    wanted = {"theirs": (33, 33), "group": (SITE_UID, 4711), "number": (SITE_UID, 4712), "other": (4711, 5000)}
    for name, owner in wanted.items():
        (site / name).write_text(name)
        os.chown(site / name, *owner)
    service.start()
    try:
        body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
        backup = service.backup(service.call("POST", "/api/domains", 201, json=body))
        for name in wanted:
            (site / name).unlink()
        ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={}))
    finally:
        service.stop()
    assert ended["status"] == "completed", ended
    found = {name: ((site / name).stat().st_uid, (site / name).stat().st_gid) for name in wanted}
    assert found == wanted | {"other": (SITE_UID, SITE_UID)}

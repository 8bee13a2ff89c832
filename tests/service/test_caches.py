"""A cache is not backed up, and a backup says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demo.service import Service


@pytest.mark.parametrize("type", ["full", "files"])
def test_a_backup_says_that_a_cache_is_not_in_it(service: Service, site: Path, type: str) -> None:
    cache = {"engine": "redis", "name": "0", "host": "127.0.0.1", "username": "shop"}
    body = {"domain_name": "shop.example.com", "document_root": str(site), "databases": [cache]}
    domain: dict[str, Any] = service.call("POST", "/api/domains", 201, json=body)
    operation = service.wait(service.backup(domain, type))
    assert operation["status"] == "completed"
    backup = service.call("GET", f"/api/backups/{operation['backup_id']}")
    [part] = backup["components"]
    said = [(warning["code"], warning["subject"]) for warning in part["warnings"]]
    assert said == ([("cache_not_backed_up", "redis 0")] if type == "full" else [])

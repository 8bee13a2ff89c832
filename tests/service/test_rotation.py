"""Another master key while the service goes on, and keys that cannot open what is stored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from demo.service import ROOT, Service
from tests.service.conftest import everything


def cli(service: Service, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "LIBERU_DATA": str(service.folder / "data"), **env}
    argv = [sys.executable, "-m", "app.cli", *words]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def with_secrets(service: Service) -> dict[str, Any]:
    """A destination, a domain's deployment, a database, a webhook: one of everything that is sealed."""
    where = {"host": "127.0.0.1", "port": 9, "username": "x", "password": "planted-1"}
    place = {"name": "away", "type": "sftp", "configuration": where}
    made = service.call("POST", "/api/backup-destinations", 201, json=place)
    database = {"engine": "mysql", "name": "shop", "username": "shop", "password": "planted-2"}
    deployment = {"type": "ssh", "host": "127.0.0.1", "username": "x", "password": "planted-3"}
    body = {"domain_name": "shop.example.com", "databases": [database], "deployment": deployment}
    service.call("POST", "/api/domains", 201, json=body)
    service.call(
        "POST", "/api/notification-channels", 201, json={"name": "x", "url": "https://example.com/planted-4"}
    )
    found: dict[str, Any] = made
    return found


def key_file(service: Service) -> Path:
    return service.folder / "data/keys/master.key"


def test_a_new_key_while_the_service_runs(service: Service) -> None:
    destination = with_secrets(service)
    old = key_file(service).read_text()
    done = cli(service, "rotate-keys")
    assert done.returncode == 0, done.stderr
    assert "4 sealed anew" in done.stdout
    new = key_file(service).read_text()
    assert new != old
    assert len(new.splitlines()) == 1, "the old one is forgotten"
    assert key_file(service).stat().st_mode & 0o777 == 0o600
    path = f"/api/backup-destinations/{destination['id']}"
    for _ in range(2):
        assert service.call("GET", path)["secrets"] == ["password"]
        found = service.call("POST", f"{path}/test")
        assert "127.0.0.1" in found["message"], "the password was opened, the server is not there"
        assert "master key" not in found["message"]
        service.stop()
        service.start()
    written = everything(service)
    assert not [number for number in range(1, 5) if f"planted-{number}".encode() in written]
    assert old.strip().encode() not in written
    checked = cli(service, "verify-audit")
    assert "events are as they were written" in checked.stdout
    rotated = service.call("GET", "/api/audit-events", params={"action": "keys.rotate"})["data"]
    assert [event["detail"] for event in rotated] == [{"resealed": 4}]


def test_it_can_be_interrupted_and_repeated(service: Service) -> None:
    with_secrets(service)
    assert cli(service, "rotate-keys", "--keep-old").returncode == 0
    assert len(key_file(service).read_text().splitlines()) == 2
    first = key_file(service).read_text().splitlines()[0]
    again = cli(service, "rotate-keys", "--no-new-key")
    assert again.returncode == 0, again.stderr
    assert key_file(service).read_text().splitlines() == [first]
    service.stop()
    service.start()


def test_a_key_that_cannot_open_what_is_stored_is_refused(service: Service) -> None:
    with_secrets(service)
    service.stop()
    good = key_file(service).read_text()
    key_file(service).write_text(Fernet.generate_key().decode())
    with pytest.raises(AssertionError, match="cannot open what is stored in backup_destinations, row 2"):
        service.start()
    key_file(service).write_text("no key at all")
    with pytest.raises(AssertionError, match="must be a Fernet key"):
        service.start()
    key_file(service).write_text(Fernet.generate_key().decode() + "\n" + good)
    service.start()


def test_a_key_from_the_environment(folder: Path) -> None:
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    service = Service(folder, LIBERU_MASTER_KEY=first)
    service.start()
    try:
        destination = with_secrets(service)
        assert not key_file(service).exists()
        refused = cli(service, "rotate-keys", LIBERU_MASTER_KEY=first)
        assert (refused.returncode, "restart every process" in refused.stderr) == (1, True)
        service.stop()
        service.env["LIBERU_MASTER_KEY"] = f"{second},{first}"
        service.start()
        done = cli(service, "rotate-keys", "--no-new-key", LIBERU_MASTER_KEY=f"{second},{first}")
        assert "4 sealed anew" in done.stdout, done.stderr
        service.stop()
        service.env["LIBERU_MASTER_KEY"] = second
        service.start()
        assert service.call("GET", f"/api/backup-destinations/{destination['id']}")["secrets"] == ["password"]
        assert first.encode() not in everything(service)
        kit = folder / "kit.tar"
        assert cli(service, "recovery-kit", str(kit), LIBERU_MASTER_KEY=second).returncode == 0
        listed = subprocess.run(["tar", "-xOf", str(kit), "keys/master.key"], capture_output=True, check=True)
        assert listed.stdout.decode().strip() == second
    finally:
        service.stop()

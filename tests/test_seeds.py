"""The panel's environment variables become destinations."""

from __future__ import annotations

from pathlib import Path

from app.services.seeds import seeds
from demo.service import Service
from tests.service.conftest import everything

SFTP = {
    "SFTP_HOST": "backup.example.com", "SFTP_PORT": "2222", "SFTP_USERNAME": "panel", "SFTP_PASSWORD": "seed-canary",
    "SFTP_ROOT": "/srv/backups", "SFTP_TIMEOUT": "30",
}  # fmt: skip


def test_each_kind() -> None:
    env = {
        **SFTP, "FTP_HOST": "ftp.example.com", "FTP_USERNAME": "panel", "FTP_PASSWORD": "x", "FTP_PASSIVE": "true",
        "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_BUCKET": "backups",
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_ENDPOINT": "null", "AWS_USE_PATH_STYLE_ENDPOINT": "false",
    }  # fmt: skip
    found, problems = seeds(env)
    assert problems == []
    assert [body.type for body in found] == ["sftp", "ftp", "s3"]
    sftp, ftp, s3 = (body.configuration.plain() for body in found)
    assert (sftp["host"], sftp["port"], sftp["root"]) == ("backup.example.com", 2222, "/srv/backups")
    assert ftp["ssl"] == "explicit", "never in clear by default"
    assert (s3["region"], "endpoint" in s3) == ("eu-central-1", False)
    assert found[0].configuration.secrets() == {"password": "seed-canary"}


def test_in_clear_only_by_name() -> None:
    [ftp], _ = seeds({"FTP_HOST": "ftp.example.com", "FTP_USERNAME": "u", "FTP_SSL": "false"})
    assert ftp.configuration.plain()["ssl"] == "none"


def test_unset_and_incomplete_ones() -> None:
    assert seeds({"SFTP_HOST": "null", "AWS_ACCESS_KEY_ID": "for something else"}) == ([], [])
    found, problems = seeds({"SFTP_HOST": "h.example.com", "SFTP_PORT": "many", "SFTP_PASSWORD": "seed-canary"})
    assert found == []
    assert problems == ["No sftp destination was made from the environment: check port, username"]


def test_the_first_start_makes_them_once(tmp_path: Path) -> None:
    service = Service(tmp_path, **SFTP)
    service.start()
    try:
        [local, sftp] = service.call("GET", "/api/backup-destinations?sort=id")["data"]
        assert (local["is_default"], sftp["type"], sftp["secrets"]) == (True, "sftp", ["password"])
        service.call("DELETE", f"/api/backup-destinations/{sftp['id']}", 204)
        token = service.token
        service.stop()
        service.start()
        assert service.call("GET", "/api/backup-destinations", token=token)["total"] == 1, "deleted, it stays away"
        assert b"seed-canary" not in everything(service)
    finally:
        service.stop()

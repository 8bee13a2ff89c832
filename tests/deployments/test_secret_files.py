"""What earlier versions left in the folder for temporary files when they were killed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from app.deployments.secret_files import remove_old


def aged(path: Path, seconds: int) -> Path:
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))
    return path


def folder(place: Path, name: str, *files: str, mode: int = 0o700, age: int = 0) -> Path:
    made = place / name
    made.mkdir()
    for file in files:
        (made / file).write_text("password=secret")
        (made / file).chmod(0o600)
        aged(made / file, age)
    made.chmod(mode)
    return aged(made, age)


def test_only_ours_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    secret = "0123456789abcdef"
    folder(tmp_path, "liberu-abcd_fg1", secret, age=100_000)
    just_killed = folder(tmp_path, "liberu-abcd_fg2", secret, age=1000)
    (tmp_path / "liberu-12345678.pem").write_text("a certificate")
    (tmp_path / "liberu-12345678.pem").chmod(0o600)
    aged(tmp_path / "liberu-12345678.pem", 100_000)
    others = [
        folder(tmp_path, "liberu-abcd_fg3", secret),  # its command may not have read it yet
        folder(tmp_path, "liberu-abcd_fg4", secret, mode=0o755, age=100_000),
        folder(tmp_path, "liberu-abcd_fg5", secret, "another", age=100_000),
        folder(tmp_path, "liberu-abcd_fg6", "another", age=100_000),
        folder(tmp_path, "liberu-site-abcdefgh", secret, age=100_000),
    ]
    (tmp_path / "liberu-abcd_fg7").symlink_to(others[0])
    kept = [path for other in others for path in other.iterdir()]
    assert remove_old() == 3
    assert all(path.exists() for path in kept)
    assert (tmp_path / "liberu-abcd_fg7").is_symlink()
    assert not (tmp_path / "liberu-abcd_fg1").exists()
    assert not (tmp_path / "liberu-12345678.pem").exists()
    assert list(just_killed.iterdir()) == [], "the password is gone; the folder is, once nobody can want it"
    assert remove_old() == 0

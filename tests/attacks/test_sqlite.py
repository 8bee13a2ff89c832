"""A tenant's SQLite database is a file of their making, and they may put anything in its place at any moment."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import ByteStream
from app.components import sqlite_copy, sqlite_files, sqlite_lock
from app.components.base import Dump
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import CommandResult, User
from app.deployments.standalone import StandaloneDeployment
from tests.attacks.tenant import UID
from tests.components.helpers import collect
from tests.components.sqlite_site import extracted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
OWNER = User(UID, UID)
SECRET = b"what only root may read" * 100


class Watched(StandaloneDeployment):
    """Tells of each command, and lets somebody act before it."""

    def __init__(self, act: Callable[[Sequence[str]], None] = lambda argv: None) -> None:
        super().__init__()
        self._act = act
        self.ran: list[tuple[str, bool, User | None]] = []

    async def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
        self._note(argv, options)
        return await super().run(argv, **options)

    async def stream(self, argv: Sequence[str], **options: Any) -> ByteStream:
        self._note(argv, options)
        async for chunk in super().stream(argv, **options):
            yield chunk

    def _note(self, argv: Sequence[str], options: dict[str, Any]) -> None:
        self.ran.append((argv[0], options.get("confined", False), options.get("user")))
        self._act(argv)


def given(path: Path) -> None:
    os.chown(path, UID, UID)


def make(path: Path, size: int = 1) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (filler)")
        database.execute("INSERT INTO t VALUES (zeroblob(?))", (size,))
        database.commit()
    given(path)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    site = tmp_path / "www"
    site.mkdir()
    given(site)
    (tmp_path / "private").mkdir(mode=0o700)
    make(tmp_path / "private" / "root.db")
    os.chown(tmp_path / "private" / "root.db", 0, 0)
    with closing(sqlite3.connect(tmp_path / "private" / "root.db")) as database:
        database.execute("INSERT INTO t VALUES (?)", (SECRET,))
        database.commit()
    (tmp_path / "private" / "root.db").chmod(0o600)
    return site


async def dumped(site: Path, deployment: StandaloneDeployment) -> tuple[Dump, bytes]:
    dump = await FilesComponent(deployment, FilesTarget(str(site), OWNER)).dump()
    return dump, await collect(dump)


async def test_only_a_confined_command_of_the_tenant_opens_it(site: Path) -> None:
    make(site / "shop.db")
    deployment = Watched()
    dump, _ = await dumped(site, deployment)
    assert dump.report.facts["sqlite"]["copied"] == 1
    opened = [(confined, user) for name, confined, user in deployment.ran if name == "sqlite3"]
    assert (True, OWNER) in opened[1:]  # the first asks for its version
    assert all(entry == (True, OWNER) for entry in opened[1:])


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_tenant_wants_roots_database_in_their_backup(site: Path, tmp_path: Path, what: str) -> None:
    """A link in the place of the database, or of its folder, once it has been looked at: at each command in turn."""
    for moment in ("sqlite3", "tar", "stat", "head"):
        place = site / moment
        place.mkdir()
        given(place)
        make(place / "root.db")
        acted: list[str] = []

        def act(argv: Sequence[str], place: Path = place, moment: str = moment, acted: list[str] = acted) -> None:
            named = argv[0] == moment or (argv[0] == "sh" and f"{moment} -c" in argv[2])
            if not named or acted or (moment == "tar" and "--no-recursion" not in argv):
                return
            acted.append(moment)
            if what == "file":
                (place / "root.db").unlink()
                (place / "root.db").symlink_to(tmp_path / "private" / "root.db")
            else:
                place.rename(site / f"{moment}-moved")
                place.symlink_to(tmp_path / "private")

        _, archive = await dumped(site, Watched(act))
        assert SECRET[:60] not in archive
        extracted(archive, tmp_path / f"restored-{moment}")


async def test_a_tenant_wants_the_backup_to_wait_for_ever(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that is never released, and a pipe in the place of a database."""
    monkeypatch.setattr(sqlite_copy, "_ATTEMPTS", 1)
    monkeypatch.setattr(sqlite_copy, "_COMMAND_SECONDS", 2)
    monkeypatch.setattr(sqlite_lock, "_ANSWER_SECONDS", 2)
    make(site / "locked.db")
    make(site / "pipe.db")

    def act(argv: Sequence[str]) -> None:
        if argv[0] == "sqlite3" and "pipe.db" in argv[-1]:
            (site / "pipe.db").unlink()
            os.mkfifo(site / "pipe.db")

    with closing(sqlite3.connect(site / "locked.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("DELETE FROM t")
        started = time.monotonic()
        dump, archive = await dumped(site, Watched(act))
    assert time.monotonic() - started < 40
    assert ("sqlite_not_consistent", "pipe.db") in [(w.code, w.subject) for w in dump.report.warnings]
    extracted(archive, tmp_path / "restored")
    with closing(sqlite3.connect(tmp_path / "restored" / "locked.db")) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (1,)  # nothing was committed since


async def test_a_tenant_wants_the_disk_and_the_hours_of_the_service(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_copy, "LARGEST", 1 << 20)
    monkeypatch.setattr(sqlite_files, "MOST_KEPT", 8)
    monkeypatch.setattr(sqlite_files, "_MOST_COPIED", 3)
    make(site / "a-large.db", 2 << 20)
    for number in range(12):
        make(site / f"small-{number:02}.db")
    deployment = Watched()
    dump, _ = await dumped(site, deployment)
    assert dump.report.facts["sqlite"]["copied"] == 3
    assert sum(name == "tar" for name, _, _ in deployment.ran) < 10
    messages = [warning.message for warning in dump.report.warnings]
    assert any("more than 8 names" in message for message in messages)


@pytest.fixture
def broken(site: Path) -> Iterator[Path]:
    make(site / "broken.db")
    content = bytearray((site / "broken.db").read_bytes())
    at = content.index(b"CREATE TABLE")
    content[at : at + 12] = b"CREATE TRASH"
    (site / "broken.db").write_bytes(content)
    yield site / "broken.db"


async def test_its_schema_is_not_looked_at(site: Path, broken: Path, tmp_path: Path) -> None:
    """One that SQLite cannot or must not read is a database all the same."""
    with pytest.raises(sqlite3.DatabaseError), closing(sqlite3.connect(broken)) as database:
        database.execute("SELECT * FROM t")
    dump, archive = await dumped(site, StandaloneDeployment())
    assert dump.report.facts["sqlite"] == {"copied": 1, "names": ["broken.db"]}
    extracted(archive, tmp_path / "restored")
    assert (tmp_path / "restored" / "broken.db").read_bytes() == broken.read_bytes()

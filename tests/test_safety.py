"""The safety copy of a restore: found again after a crash at any moment, kept while it is needed, removed after."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from app.archives.compression import Compressor
from app.archives.store import BackupStore
from app.archives.streams import from_bytes
from app.components.base import Dump, Report
from app.db.models import Backup, Destination, Domain, Operation
from app.db.repositories.operations import OperationRepository
from app.db.session import Database
from app.errors import DestinationUnreachable, NotFound, OwnershipLost
from app.jobs.context import JobContext, Result
from app.jobs.safety import BackupSource, SafetyBackup, safety_ended
from app.jobs.writer import BackupWriter
from app.security.keys import KeyRing, load_or_create
from app.services.components import DomainSite
from app.storage.local import LocalDriver

CONTENT = b"CREATE TABLE t (a int);\n" * 1000


class Killed(BaseException):
    pass


class World:
    """An installation with one destination, and a restore that runs."""

    def __init__(self, database: Database, folder: Path, keys: KeyRing) -> None:
        self.database, self.folder, self.keys = database, folder, keys
        self.journal: dict[str, Any] = {}
        self.records = 0
        self.kill_at = 0
        self.opened = 0
        self.away = False
        self.domain: Domain
        self.destination: Destination
        self.context: JobContext

    async def begin(self) -> None:
        async with self.database.transaction() as session:
            self.domain = Domain(
                domain_name="shop.example.com", databases=[], mailboxes=[], deployment={}, exclusions=[]
            )
            self.destination = Destination(
                name="shed", type="local", configuration={"path": str(self.folder)}, recipients=[], encrypt=True
            )
            operation = Operation(type="restore", domain_uid="d", request={}, journal={})
            session.add_all([self.domain, self.destination, operation])
        await self.attempt(operation.uid)

    async def attempt(self, uid: str) -> None:
        async with self.database.transaction() as session:
            operation = await OperationRepository(session).claim(uid)
        assert operation is not None

        async def step(name: str, work: Callable[[], Awaitable[Result]]) -> Result:
            return await work()

        self.context = JobContext(uid, operation.attempt, self.database, step)

    @asynccontextmanager
    async def store(self, destination: Destination) -> AsyncGenerator[BackupStore, None]:
        self.opened += 1
        if self.away:
            raise DestinationUnreachable("the folder is not there")
        yield BackupStore(LocalDriver(self.folder), Compressor(), self.keys.signer)

    async def record(self, entry: dict[str, Any]) -> None:
        self.records += 1
        self.journal.update(entry)
        if self.records == self.kill_at:
            raise Killed

    def copy(self, store: BackupStore | None = None) -> SafetyBackup:
        facts = {"type": "standalone", "reason": "test"}
        site = cast("DomainSite", SimpleNamespace(build=self._build, facts=facts, serving=lambda *_: None))
        place = self.destination if store is not None else None
        source = BackupSource("the restore of backup 1", self.domain, site, "mysql", "shop", place, store)
        return SafetyBackup(
            self.database, BackupWriter(), self.keys, source, self.context, self.journal, self.record, self.store
        )

    async def _build(self, kind: str, name: str, *, reads: bool) -> Any:
        assert reads  # a safety copy changes nothing

        async def dump() -> Dump:
            return Dump(from_bytes(CONTENT), Report())

        return SimpleNamespace(dump=dump)

    async def stored(self) -> SafetyBackup:
        async with self.store(self.destination) as store:
            await self.copy(store).store()
        self.opened = 0
        return self.copy()

    async def backups(self) -> list[Backup]:
        async with self.database.transaction() as session:
            query = select(Backup).options(selectinload(Backup.copies)).order_by(Backup.id)
            return list((await session.scalars(query)).all())

    async def end(self) -> None:
        async with self.database.transaction() as session:
            await safety_ended({"1": self.journal})(session)


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> World:
    made = World(database, tmp_path / "shed", load_or_create(tmp_path / "keys"))
    made.folder.mkdir()
    await made.begin()
    return made


async def test_it_opens_its_own_destination_and_only_when_it_is_read(world: World) -> None:
    copy = await world.stored()
    [backup] = await world.backups()
    assert (backup.status, backup.locked) == ("completed", True)
    assert copy.stored
    assert copy.name == f"backup {backup.id} at destination shed"
    assert world.opened == 0
    assert b"".join([chunk async for chunk in copy.open()]) == CONTENT
    assert world.opened == 1
    await copy.discard()
    await copy.discard()
    assert await world.backups() == []
    assert not [path for path in world.folder.rglob("*") if path.is_file()]


async def test_while_the_destination_is_away_it_says_so_and_stays(world: World) -> None:
    copy = await world.stored()
    world.away = True
    with pytest.raises(DestinationUnreachable):
        await anext(copy.open())
    assert copy.stored
    assert [one.status for one in await world.backups()] == ["completed"]


async def test_a_destination_that_was_deleted(world: World) -> None:
    copy = await world.stored()
    world.journal["safety"]["destination_id"] = 99
    with pytest.raises(NotFound, match="destination shed is gone, and backup"):
        await anext(copy.open())


async def test_one_that_cannot_be_removed_is_left_to_the_clean_up(world: World) -> None:
    copy = await world.stored()
    world.away = True
    with pytest.raises(DestinationUnreachable):
        await copy.discard()
    assert not copy.stored, "it may be gone any time"
    [backup] = await world.backups()
    assert (backup.status, backup.locked, backup.copies[0].state) == ("deleting", False, "deleting")
    world.away = False
    await copy.discard()
    assert await world.backups() == []


@pytest.mark.parametrize("at", range(1, 4))
async def test_a_crash_at_any_record_leaves_no_backup_that_runs_for_ever(world: World, at: int) -> None:
    """Of an uid, of the row's id, of what was stored."""
    world.kill_at = at
    with pytest.raises(Killed):
        await world.stored()
    await world.end()
    assert [one.status for one in await world.backups()] in ([], ["failed"], ["deleting"])
    assert not any(one.locked for one in await world.backups())


@pytest.mark.parametrize("at", range(1, 4))
async def test_the_next_attempt_makes_it_anew(world: World, at: int) -> None:
    world.kill_at = at
    with pytest.raises(Killed):
        await world.stored()
    await world.attempt(world.context.uid)
    copy = await world.stored()
    [backup] = [one for one in await world.backups() if one.status != "deleting"]
    assert copy.name == f"backup {backup.id} at destination shed"
    assert (backup.status, backup.locked) == ("completed", True)
    assert b"".join([chunk async for chunk in copy.open()]) == CONTENT


async def test_a_row_without_its_id_in_the_journal_is_found(world: World) -> None:
    world.kill_at = 2
    with pytest.raises(Killed):
        await world.stored()
    del world.journal["safety"]["backup_id"]  # the record never became durable
    await world.end()
    assert [one.status for one in await world.backups()] == ["failed"]


async def test_when_the_restore_has_ended_it_goes_unless_it_is_needed(world: World) -> None:
    await world.stored()
    world.journal["unsettled"] = True
    await world.end()
    assert [(one.status, one.locked) for one in await world.backups()] == [("completed", True)]
    world.journal["unsettled"] = False
    await world.end()
    assert [(one.status, one.locked) for one in await world.backups()] == [("deleting", False)]


async def test_an_attempt_that_lost_its_turn_removes_nothing(world: World) -> None:
    copy = await world.stored()

    async def lost(entry: dict[str, Any]) -> None:
        raise OwnershipLost("taken over")

    copy._record = lost
    with pytest.raises(OwnershipLost):
        await copy.discard()
    assert [(one.status, one.locked) for one in await world.backups()] == [("completed", True)]

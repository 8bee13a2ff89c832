"""The audit trail shows what was edited, removed, reordered or added, by whoever has the database but no key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db.base import Base, now
from app.db.changes import KEY
from app.db.models import Destination
from app.db.session import Database
from app.errors import AuditBroken
from app.services.audit import AuditService
from demo.servers import postgresql_server

AUDIT = AuditService(b"a key")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as started:
        started.run("CREATE DATABASE audit")
        yield f"postgresql+asyncpg://admin:{started.admin_password}@127.0.0.1:{started.port}/audit"


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path}/state.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("server")
    made = Database(url)
    async with made._engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    yield made
    await made.close()


async def record(database: Database, action: str) -> None:
    async with database.transaction() as session:
        await AUDIT.record(
            session, actor="token:1", action=action, target="/x", outcome="200", detail={"a": ["ü", 1]}
        )


async def run(database: Database, sql: str) -> None:
    async with database.transaction() as session:
        await session.execute(text(sql))


async def test_what_was_written_is_whole(database: Database) -> None:
    assert (await AUDIT.verify(database)).events == 0
    for number in range(5):
        await record(database, f"action {number}")
    found = await AUDIT.verify(database)
    assert (found.events, len(found.head)) == (5, 64)


async def test_many_at_once_make_one_chain(database: Database) -> None:
    await record(database, "first")
    await asyncio.gather(*(record(database, f"action {number}") for number in range(40)))
    assert (await AUDIT.verify(database)).events == 41


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE audit_events SET outcome = '403' WHERE number = 3", "event 3 was edited"),
        ("UPDATE audit_events SET actor = 'token:2' WHERE number = 1", "event 1 was edited"),
        ("UPDATE audit_events SET detail = '{}' WHERE number = 5", "event 5 was edited"),
        ("UPDATE audit_events SET at = '2026-01-01 00:00:00+00:00' WHERE number = 2", "event 2 was edited"),
        ("UPDATE audit_events SET hash = previous WHERE number = 4", "event 4 was edited"),
        ("DELETE FROM audit_events WHERE number = 3", "event 3 was removed"),
        ("DELETE FROM audit_events WHERE number = 1", "event 1 was removed"),
        ("DELETE FROM audit_events WHERE number >= 4", "event 4 was removed"),
        ("DELETE FROM audit_events", "event 1 was removed"),
        ("UPDATE audit_events SET number = NULL WHERE number = 5", "event 5 was removed"),
        ("DELETE FROM audit_heads", "The head of the audit trail was removed"),
        ("UPDATE audit_heads SET number = 4", "The head of the audit trail was edited"),
        ("UPDATE audit_heads SET first_number = 3", "The head of the audit trail was edited"),
        ("UPDATE audit_heads SET hash = ''", "The head of the audit trail was edited"),
    ],
)
async def test_tampering_shows(database: Database, sql: str, what: str) -> None:
    for number in range(5):
        await record(database, f"action {number}")
    await run(database, sql)
    with pytest.raises(AuditBroken, match=what):
        await AUDIT.verify(database)


async def test_two_that_change_places(database: Database) -> None:
    for number in range(5):
        await record(database, f"action {number}")
    for was, becomes in ((2, 100), (3, 2), (100, 3)):
        await run(database, f"UPDATE audit_events SET number = {becomes} WHERE number = {was}")
    with pytest.raises(AuditBroken, match="event 2 was edited"):
        await AUDIT.verify(database)


async def test_an_event_that_a_stranger_added(database: Database) -> None:
    await record(database, "ours")
    async with database.transaction() as session:
        await AuditService(b"another key").record(session, actor="x", action="theirs", outcome="200", detail={})
    with pytest.raises(AuditBroken, match="The head of the audit trail was edited"):
        await AUDIT.verify(database)


async def test_old_events_go_and_the_rest_is_still_a_chain(database: Database) -> None:
    for number in range(5):
        await record(database, f"action {number}")
    await run(database, "UPDATE audit_events SET at = at WHERE number <= 3")
    async with database.transaction() as session:
        await AUDIT.trim(session, now() + timedelta(seconds=1))
    found = await AUDIT.verify(database)
    assert found.events == 1, "that they were removed is an event"
    await record(database, "later")
    assert (await AUDIT.verify(database)).events == 2
    async with database.transaction() as session:
        await AUDIT.trim(session, now() - timedelta(days=1))
    assert (await AUDIT.verify(database)).events == 2


async def test_changes_are_told_without_secrets(database: Database) -> None:
    async with database.transaction() as session:
        row = Destination(name="a", type="sftp", configuration={"host": "x"}, credentials="SEALED", recipients=[])
        session.add(row)
        await session.flush()
        made = list(session.info[KEY])
    async with database.transaction() as session:
        found = await session.get(Destination, row.id)
        assert found is not None
        found.name, found.credentials = "b", "OTHER"
        await session.flush()
        changed = list(session.info[KEY])
    [creation] = made
    assert (creation["what"], creation["how"], creation["id"]) == ("backup_destinations", "created", row.id)
    assert creation["values"]["credentials"] == "…"
    assert changed == [
        {"what": "backup_destinations", "id": row.id, "how": "changed",
         "values": {"name": ["a", "b"], "credentials": ["…", "…"]}},
    ]  # fmt: skip
    assert "SEALED" not in str(made + changed)

"""A restore of PostgreSQL that stops anywhere: old or new, and the next one goes well."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from app.archives.streams import ByteStream, from_bytes
from app.components.base import COMMITTING
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from app.errors import ArchiveDamaged, LiberuError, LoadFailed, OperationCancelled
from demo.servers import PostgresqlServer, postgresql_server
from tests.components.halfway import Case, Step, killed
from tests.components.helpers import Context, Unconfined, collect
from tests.components.test_postgresql import SAMPLE

NEWER = "UPDATE crm.customer SET name = 'newer'; DROP TABLE public.orders; CREATE TABLE public.newer (a int);"


MOMENTS = ("start", "during", "last", "confirmed", "committing", "returned")


class Live:
    def __init__(self, server: PostgresqlServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.target = PostgresqlTarget("shop", "owner", "owner-pw", "127.0.0.1", server.port)
        self.component = PostgresqlComponent(StandaloneDeployment(), self.target)
        self.archive = b""
        self.old = self.new = ""

    async def prepare(self) -> None:
        self.archive = await collect(await self.component.dump())
        (self.folder / "archive").write_bytes(self.archive)
        self.new = self.dump()
        self.server.run(NEWER, "shop", "owner", "owner-pw")
        self.old = self.dump()

    def dump(self) -> str:
        """Schema, rows and large objects; whole lines in their order, but those that name the dump itself."""
        env = {"PATH": SEARCH_PATH, "PGPASSWORD": self.server.admin_password}
        argv = ["pg_dump", "-h", "127.0.0.1", "-p", str(self.server.port), "-U", "admin", "shop"]
        lines = subprocess.run(argv, env=env, capture_output=True, check=True, text=True).stdout.splitlines()
        return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict", "--")))

    async def again(self) -> None:
        assert (await self.component.settle(Context().context)).state == "untouched"
        await self.component.restore(from_bytes(self.archive), Context().context, len(self.archive))
        assert self.dump() == self.new

    def sessions(self) -> str:
        return self.server.run("SELECT pid FROM pg_stat_activity WHERE usename = 'owner'")

    def cut(self) -> None:
        """The line drops: the server ends the session."""
        self.server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'")

    def through(self, folder: Path, program: str) -> PostgresqlComponent:
        """As if psql were another program; `$real` is the true one."""
        path = folder / "bin" / "psql"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nreal=/usr/bin/psql\n{program}\n")
        path.chmod(0o755)
        return PostgresqlComponent(Unconfined(search_path=f"{path.parent}:{SEARCH_PATH}"), self.target)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        yield started


@pytest.fixture
async def live(server: PostgresqlServer, tmp_path: Path) -> object:
    server.run("CREATE ROLE owner LOGIN PASSWORD 'owner-pw'")
    server.run("CREATE DATABASE shop OWNER owner")
    server.run("ALTER SCHEMA public OWNER TO owner", "shop")
    server.run(SAMPLE, "shop", "owner", "owner-pw")
    made = Live(server, tmp_path)
    await made.prepare()
    yield made
    server.run("DROP DATABASE shop WITH (FORCE)")
    server.run("DROP ROLE owner")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_killed_at_any_moment(live: Live, moment: str) -> None:
    killed(Case(str(live.folder), "postgresql", asdict(live.target), Step("", "", moment)))
    async with asyncio.timeout(60):
        while live.sessions():
            await asyncio.sleep(0.05)
    found = live.dump()
    if moment == "returned":
        assert found == live.new
    else:
        assert found in ((live.old, live.new) if moment == "committing" else (live.old,))
    await live.again()


async def test_the_next_attempt_waits_for_the_session_of_the_one_before(live: Live) -> None:
    """Killed at COMMIT while its session is held up: the next one comes after it, and does not mix with it."""
    with live.server.locked("newer", "shop"):
        first = asyncio.create_task(
            live.component.restore(from_bytes(live.archive), Context().context, len(live.archive))
        )
        await _waiting(live, "DO $liberu$%")
        second = asyncio.create_task(
            live.component.restore(from_bytes(live.archive), Context().context, len(live.archive))
        )
        await _waiting(live, "%pg_advisory_xact_lock%")
    await asyncio.gather(first, second)
    assert live.dump() == live.new


async def _waiting(live: Live, query: str) -> None:
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '{query}'"
    async with asyncio.timeout(60):
        while live.server.run(sql) == "0":
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("moment", ["first", "during", "confirm"])
async def test_a_dropped_line_changes_nothing(live: Live, moment: str) -> None:
    async def cut() -> None:
        async with asyncio.timeout(60):
            while not live.sessions():
                await asyncio.sleep(0.05)
        live.cut()

    async def source() -> ByteStream:
        if moment == "first":
            await cut()
        yield live.archive[: len(live.archive) // 2]
        if moment == "during":
            await cut()
        yield live.archive[len(live.archive) // 2 :]

    async def before_confirm() -> None:
        if moment == "confirm":
            await cut()

    context = Context()
    context.before_confirm = before_confirm
    told = "nothing was changed"
    if moment == "first":  # no transaction has told its number: all may have been sent before psql's end is seen
        told += "|either the old or the restored one"
    with pytest.raises(LoadFailed, match=told):
        await live.component.restore(source(), context.context, len(live.archive))
    assert live.dump() == live.old
    await live.again()


#: What psql is told goes into a file first. `LOST`: it does not hear the answer to COMMIT.
_READ = 'cat > "$0.sql"\n'
_LOST = '; code=$?\ngrep -q "^COMMIT;" "$0.sql" && exit 2\nexit $code'
_RUN = '"$real" "$@" < "$0.sql"'


async def test_a_line_that_drops_after_commit_is_asked_about(live: Live, tmp_path: Path) -> None:
    """psql does not see the answer to COMMIT: the server knows."""
    lost = _READ + _RUN + _LOST
    report = await live.through(tmp_path, lost).restore(from_bytes(live.archive), Context().context, 0)
    assert report.facts["tables"] == 3
    assert live.dump() == live.new


async def test_a_line_that_drops_before_commit_changed_nothing(live: Live, tmp_path: Path) -> None:
    cut = _READ + 'grep -v "^COMMIT;" "$0.sql" | "$real" "$@"' + _LOST
    with pytest.raises(LoadFailed, match="nothing was changed"):
        await live.through(tmp_path, cut).restore(from_bytes(live.archive), Context().context, 0)
    assert live.dump() == live.old


async def test_when_nobody_can_tell_it_says_so(live: Live, tmp_path: Path) -> None:
    """The server does not answer any more after the COMMIT."""
    gone = _READ + 'grep -q txid_status "$0.sql" && exit 2\n' + _RUN + _LOST
    context = Context()
    with pytest.raises(LoadFailed, match="the live database is whole, and either the old or the restored one"):
        await live.through(tmp_path, gone).restore(from_bytes(live.archive), context.context, 0)
    assert context.journal[COMMITTING]
    assert live.dump() in (live.old, live.new)
    await live.again()


async def test_an_error_or_a_cancellation_changes_nothing(live: Live) -> None:
    async def source() -> ByteStream:
        yield live.archive[: len(live.archive) // 2]
        raise ArchiveDamaged("the hash differs")

    with pytest.raises(LiberuError):
        await live.component.restore(source(), Context().context, 0)
    assert live.dump() == live.old
    context = Context()
    context.fail = OperationCancelled("cancelled")
    with pytest.raises(OperationCancelled):
        await live.component.restore(from_bytes(live.archive), context.context, 0)
    assert live.dump() == live.old
    assert COMMITTING not in context.journal
    await live.again()

"""A restore of MariaDB that stops at any step, in any way: the live database ends as the old or the new one, whole.

The steps are those of the state machine itself: a new one has its cases by itself.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import from_bytes
from app.components import mysql_swap
from app.components.base import Settled
from app.components.mysql_leftovers import remove_leftovers
from app.components.mysql_restore import InPlaceRestore
from app.components.mysql_scratch import ScratchRestore
from app.errors import (
    CommandFailed,
    DatabaseUnreachable,
    LiberuError,
    LoadFailed,
    OperationCancelled,
    OwnershipLost,
    RestoreUnsettled,
)
from demo.servers import MariadbServer, mariadb_server
from tests.components.halfway import Case, FileContext, Step, build, killed, watched
from tests.components.helpers import collect
from tests.components.test_mysql import OUR_THINGS

WAYS: dict[str, type[ScratchRestore | InPlaceRestore]] = {"scratch": ScratchRestore, "in_place": InPlaceRestore}
#: From here on what is live may have changed.
_TOUCHED = {way: RUN[RUN.index("begin") + 1 :] for way, RUN in ((w, cls.RUN) for w, cls in WAYS.items())}
SAMPLE = r"""
CREATE TABLE customer (id int PRIMARY KEY AUTO_INCREMENT, name varchar(200) CHARACTER SET utf8mb4);
INSERT INTO customer (name) VALUES ('Zoë 😀'), ('it''s');
CREATE TABLE orders (id int PRIMARY KEY, customer int, CONSTRAINT c FOREIGN KEY (customer) REFERENCES customer (id));
INSERT INTO orders SELECT seq, 1 + seq % 2 FROM seq_1_to_50;
CREATE TABLE logged (what text);
CREATE VIEW z_names AS SELECT name FROM customer;
CREATE VIEW a_names AS SELECT name FROM z_names;
CREATE TRIGGER logs AFTER INSERT ON orders FOR EACH ROW INSERT INTO logged VALUES (NEW.id);
CREATE FUNCTION twice(a int) RETURNS int DETERMINISTIC RETURN a * 2;
CREATE PROCEDURE hello() SELECT 'ünïcode';
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY STARTS '2020-01-01 00:00:00' DO DELETE FROM orders WHERE id < 0;
"""
NEWER = (
    "UPDATE customer SET name = 'newer'; DROP TRIGGER logs; DROP TABLE orders; DROP FUNCTION twice;"
    "DROP VIEW a_names; CREATE TABLE newer (c int, FOREIGN KEY (c) REFERENCES customer (id));"
    "CREATE VIEW v AS SELECT * FROM newer;"
    "CREATE TRIGGER t BEFORE INSERT ON customer FOR EACH ROW SET NEW.name = 'x'; CREATE PROCEDURE p() SELECT 1;"
    "CREATE EVENT hourly ON SCHEDULE EVERY 1 HOUR STARTS '2020-01-01 00:00:00' DO DELETE FROM newer;"
)


class Live:
    """A live database, and the backup that is restored into it."""

    def __init__(self, server: MariadbServer, name: str, way: str, folder: Path) -> None:
        self.server, self.name, self.way, self.folder = server, name, way, folder
        self.target: dict[str, Any] = {
            "name": name, "owner": {"username": name, "password": "pw"}, "host": "127.0.0.1", "port": server.port,
            "admin": {"username": "admin", "password": server.admin_password} if way == "scratch" else None,
        }  # fmt: skip
        self.component = build("mysql", self.target)
        self.archive = b""
        self.old = self.new = ""

    async def prepare(self) -> None:
        self.run(SAMPLE)
        self.archive = await collect(await self.component.dump())
        (self.folder / "archive").write_bytes(self.archive)
        self.new = self.dump()
        self.run(NEWER)
        self.old = self.dump()
        assert self.old != self.new

    def run(self, sql: str) -> str:
        return self.server.run(sql, self.name, self.name, "pw")

    def dump(self) -> str:
        """Schema and rows, views, triggers, routines and events, with their definers."""
        return subprocess.run(
            ["mariadb-dump", "-h127.0.0.1", f"-P{self.server.port}", "-uadmin", f"-p{self.server.admin_password}",
             "--routines", "--events", "--triggers", "--order-by-primary", "--skip-comments", self.name],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    def leftovers(self) -> str:
        return self.server.run(OUR_THINGS)

    def context(self, *, unsafe: bool = False) -> FileContext:
        """What a start of the service has: the durable journal."""
        return FileContext(self.folder, self.component, unsafe=unsafe)

    def case(self, kill: Step, **more: Any) -> Case:
        return Case(str(self.folder), "mysql", self.target, kill, **more)

    async def restore(self, context: FileContext) -> None:
        await self.component.restore(from_bytes(self.archive), context.context, len(self.archive))

    def expect(self, settled: Settled) -> None:
        assert self.dump() == (self.new if settled.state == "done" else self.old), settled
        assert self.leftovers() == ""
        assert not self.context().journal.get("unsettled")
        assert not self.context().journal.get("tidy")

    async def again(self) -> None:
        """A restore from the beginning."""
        context = self.context()
        await self.restore(context)
        assert self.dump() == self.new
        assert self.leftovers() == ""
        assert not context.safety.stored


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as started:
        yield started


@pytest.fixture
async def live(server: MariadbServer, way: str, tmp_path: Path) -> Any:
    name = f"d{secrets.token_hex(4)}"
    server.run(f"CREATE DATABASE {name}; CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'pw';")
    server.run(f"GRANT ALL ON {name}.* TO {name}@'127.0.0.1'")
    made = Live(server, name, way, tmp_path)
    await made.prepare()
    yield made
    server.run(f"DROP DATABASE {name}; DROP USER {name}@'127.0.0.1'")


def every(steps: str, *whens: str) -> list[Any]:
    """A case for each step of each way."""
    found = [
        (way, Step(steps, name, when))
        for way, cls in WAYS.items()
        for number, name in enumerate(getattr(cls, steps, ()))
        for when in whens
        if when == "after" or number == 0 or whens == ("before",)
    ]
    return [pytest.param(way, step, id=f"{way}-{step}") for way, step in found]


async def settle_after_a_kill(live: Live) -> Settled:
    """First while the destination is away: what needs it says so, and removes nothing."""
    context = live.context()
    context.safety.away = True
    before = live.context().journal
    try:
        settled = await live.component.settle(context.context)
    except RestoreUnsettled as error:
        assert live.way == "in_place"
        now = live.run("SHOW FULL TABLES WHERE table_type = 'BASE TABLE'").count("BASE TABLE")
        holds = f"may be incomplete (it has {now} tables now)" if now else "is empty"
        for part in (f"the live database {live.name} {holds}", "backup 99 at destination shed",
                     "Nothing was removed", "tried again", "is not there"):  # fmt: skip
            assert part in error.message
        assert context.safety.stored
        assert live.context().journal["unsettled"]
        settled = await live.component.settle(live.context().context)
    else:
        assert live.way == "scratch" or not before.get("unsettled")
    return settled


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("way", "step"), [*every("RUN", "before", "after"), ("scratch", Step("", "", "during")),
                                           ("in_place", Step("", "", "during"))])  # fmt: skip
async def test_killed_at_any_step(live: Live, step: Step) -> None:
    killed(live.case(step))
    settled = await settle_after_a_kill(live)
    live.expect(settled)
    again = await live.component.settle(live.context().context)
    assert again.state == settled.state
    live.expect(again)
    await live.again()


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("way", "step"), every("FINISH", "after"))
async def test_killed_while_it_is_finished(live: Live, step: Step) -> None:
    killed(live.case(Step("RUN", "rename")))
    killed(live.case(step, settle_only=True))
    settled = await live.component.settle(live.context().context)
    assert settled.state == "done"
    live.expect(settled)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("way", "step"), every("UNDO", "before", "after"))
async def test_killed_while_it_is_undone(live: Live, step: Step) -> None:
    """After an error right before its end."""
    killed(live.case(step, fail=Step("RUN", "end", "before")))
    settled = await settle_after_a_kill(live)
    undecided = step == Step("UNDO", "undoing", "before") and live.way == "scratch"
    assert settled.state == ("done" if undecided else "undone")
    live.expect(settled)


def errors() -> list[LiberuError]:
    return [
        DatabaseUnreachable("reason: the server does not answer"),
        LoadFailed("reason: the statement was refused"),
        CommandFailed("mariadb", 1, "reason: No space left on device"),
    ]


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("way", "step"), every("RUN", "before"))
async def test_an_error_at_any_step(live: Live, step: Step) -> None:
    error = errors()[WAYS[live.way].RUN.index(step.name) % 3]

    async def at(reached: Step) -> None:
        if reached == step:
            raise error

    context = live.context()
    with watched(at), pytest.raises(LiberuError) as caught:
        await live.restore(context)
    assert "reason" in caught.value.message
    assert live.dump() == live.old
    assert live.leftovers() == ""
    assert not live.context().journal.get("unsettled")
    if step.name in _TOUCHED[live.way]:
        said = {"scratch": "the live database is as it was", "in_place": "put back from its safety copy"}
        assert said[live.way] in caught.value.message
    if live.way == "in_place":
        assert not context.safety.stored, "nobody removes it later"


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("way", "step"), every("RUN", "before"))
async def test_an_error_that_lasts(live: Live, step: Step) -> None:
    """The server is gone, also for putting it right: it says what is live, and is put right later."""
    gone = False

    async def at(reached: Step) -> None:
        nonlocal gone
        gone = gone or reached == step
        if gone:
            raise DatabaseUnreachable("the server does not answer")

    with watched(at), pytest.raises(LiberuError) as caught:
        await live.restore(live.context())
    journal = live.context().journal
    if step.name in _TOUCHED[live.way]:
        assert isinstance(caught.value, RestoreUnsettled)
        assert journal["unsettled"]
        assert re.search(f"the live database {live.name} (may be incomplete|is empty)", caught.value.message)
        copy = {"scratch": "there is no safety copy", "in_place": "backup 99 at destination shed"}
        assert copy[live.way] in caught.value.message
        assert "Nothing was removed" in caught.value.message
    settled = await settle_after_a_kill(live)
    live.expect(settled)


@pytest.mark.sweep(4)
@pytest.mark.parametrize(("way", "step"), every("RUN", "before"))
async def test_cancelled_at_any_step(live: Live, step: Step) -> None:
    """In the middle of it: the step's command is ended where it is."""

    async def at(reached: Step) -> None:
        if reached == step:
            task = asyncio.current_task()
            assert task is not None
            context.fail = OperationCancelled("cancelled")
            task.cancel()

    context = live.context()
    with watched(at), pytest.raises((asyncio.CancelledError, OperationCancelled)):
        await asyncio.create_task(live.restore(context))
    ending = live.context()
    ending.fail = context.fail
    settled = await live.component.settle(ending.context)
    live.expect(settled)


@pytest.mark.parametrize("way", ["in_place"])
async def test_without_a_safety_copy_it_says_what_is_lost(live: Live) -> None:
    async def at(reached: Step) -> None:
        if reached == Step("RUN", "create", "before"):
            raise LoadFailed("the statement was refused")

    async def no_copy() -> None:
        raise LoadFailed("no copy")

    context = live.context(unsafe=True)
    context.safety.store = no_copy  # type: ignore[method-assign]
    with watched(at), pytest.raises(LoadFailed, match=r"no safety copy, as was agreed to.*must be restored again"):
        await live.restore(context)
    settled = await live.component.settle(live.context().context)
    assert settled.state == "lost"
    assert f"the live database {live.name} is incomplete" in (settled.detail or "")
    await live.again()


@pytest.mark.parametrize("way", ["scratch"])
async def test_what_is_left_after_the_swap_is_a_warning_and_is_tidied(live: Live) -> None:
    context = live.context()

    async def fails(*args: Any, **options: Any) -> None:
        raise DatabaseUnreachable("the server does not answer")

    with pytest.MonkeyPatch.context() as patch:
        remove = remove_leftovers

        async def after_the_swap(*args: Any, with_old: bool, **options: Any) -> None:
            await (fails() if with_old else remove(*args, with_old=with_old, **options))

        patch.setattr(mysql_swap, "remove_leftovers", after_the_swap)
        report = await live.component.restore(from_bytes(live.archive), context.context, len(live.archive))
    assert [one.code for one in report.warnings] == ["not_tidied"]
    assert live.dump() == live.new
    assert "liberu-old-" in live.leftovers()
    journal = live.context().journal
    assert journal["tidy"] is True
    assert "kept" not in journal["mysql"], "what undoes it is not needed any more"
    for _ in range(2):
        await live.component.tidy(journal)
        assert live.leftovers() == ""
    assert live.dump() == live.new


@pytest.mark.parametrize("way", ["scratch", "in_place"])
async def test_another_attempt_is_left_alone(live: Live) -> None:
    killed(live.case(Step("RUN", "begin")))
    context = live.context()
    context.fail = OwnershipLost("taken over")
    with pytest.raises(OwnershipLost):
        await live.component.settle(context.context)
    assert live.dump() == live.old
    assert live.context().journal["unsettled"]
    live.expect(await live.component.settle(live.context().context))


@pytest.mark.parametrize("way", ["scratch"])
async def test_without_the_administrator_it_waits(live: Live) -> None:
    killed(live.case(Step("RUN", "drop")))
    without = build("mysql", {**live.target, "admin": None})
    with pytest.raises(RestoreUnsettled, match=r"may be incomplete.*admin account.*liberu-old-.*Nothing was removed"):
        await without.settle(live.context().context)
    live.expect(await live.component.settle(live.context().context))


@pytest.mark.parametrize("way", ["scratch"])
async def test_what_cannot_be_created_again_needs_consent(live: Live) -> None:
    live.server.run("CREATE DEFINER=admin@'127.0.0.1' VIEW mine AS SELECT user FROM mysql.user", live.name)
    before = live.dump()
    with pytest.raises(LiberuError, match=r"(?s)could not create its present views.*Nothing was changed") as caught:
        await live.restore(live.context())
    assert caught.value.code == "consent_required"
    assert live.dump() == before
    assert live.leftovers() == ""
    await live.restore(live.context(unsafe=True))
    assert live.dump() == live.new


@pytest.mark.parametrize("way", ["scratch"])
async def test_a_rename_that_was_half_done_is_undone(live: Live) -> None:
    """As an old server leaves it that fell in the middle of one."""
    killed(live.case(Step("RUN", "drop")))
    tag = live.context().journal["mysql"]["tag"]
    live.server.run(
        f"SET FOREIGN_KEY_CHECKS = 0; RENAME TABLE {live.name}.customer TO `liberu-old-{tag}`.customer, "
        f"{live.name}.logged TO `liberu-old-{tag}`.logged, "
        f"`liberu-new-{tag}`.customer TO {live.name}.customer, `liberu-new-{tag}`.orders TO {live.name}.orders"
    )
    settled = await live.component.settle(live.context().context)
    assert settled.state == "undone"
    live.expect(settled)


@pytest.mark.parametrize("way", ["scratch"])
async def test_a_statement_that_outlives_its_client_is_waited_for(live: Live) -> None:
    """Killed while its RENAME waits for a table that the site reads: the server goes on with it later."""
    argv = [
        "mariadb",
        "-h127.0.0.1",
        f"-P{live.server.port}",
        "-uadmin",
        f"-p{live.server.admin_password}",
        live.name,
    ]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        reader.stdin.write("BEGIN; SELECT COUNT(*) FROM logged; SELECT SLEEP(500);\n")
        reader.stdin.flush()
        await _seen(live, "SELECT SLEEP")
        restoring = asyncio.create_task(live.restore(live.context()))
        await _seen(live, "RENAME TABLE")
        restoring.cancel()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ScratchRestore, "_failed", _left)
            with pytest.raises(asyncio.CancelledError):
                await restoring
        settling = asyncio.create_task(live.component.settle(live.context().context))
        await _seen(live, "SELECT GET_LOCK")
        assert "RENAME TABLE" in live.server.run("SELECT info FROM information_schema.processlist")
        _end(live, "SELECT SLEEP")
        reader.kill()
    settled = await settling
    assert settled.state == "done", "it was waited for, and seen"
    live.expect(settled)


async def _left(self: ScratchRestore, error: BaseException) -> BaseException:
    return error


async def _seen(live: Live, statement: str) -> None:
    async with asyncio.timeout(120):
        while statement not in live.server.run(
            "SELECT info FROM information_schema.processlist WHERE id <> CONNECTION_ID()"
        ):
            await asyncio.sleep(0.05)


def _end(live: Live, statement: str) -> None:
    sql = f"SELECT id FROM information_schema.processlist WHERE info LIKE '{statement}%' AND id <> CONNECTION_ID()"
    for number in live.server.run(sql).split():
        live.server.run(f"KILL {number}")


@pytest.mark.parametrize(("way", "step"), [("scratch", "drop"), ("scratch", "rename"), ("in_place", "empty")])
async def test_a_restore_is_safe_without_a_settle_before(live: Live, step: str) -> None:
    killed(live.case(Step("RUN", step)))
    await live.again()


@pytest.mark.parametrize("way", ["scratch"])
async def test_what_cannot_be_tried_can_be_undone_all_the_same(live: Live) -> None:
    """A table that nobody but an administrator could create: it moves, and moves back."""
    other = f"other_{live.name}"
    live.server.run(f"CREATE DATABASE {other}; CREATE TABLE {other}.t (id int PRIMARY KEY)")
    live.server.run(f"CREATE TABLE linked (a int, FOREIGN KEY (a) REFERENCES {other}.t (id))", live.name)
    live.old = live.dump()

    async def at(reached: Step) -> None:
        if reached == Step("RUN", "check", "before"):
            raise LoadFailed("the statement was refused")

    try:
        with pytest.raises(LiberuError, match=r"(?s)could not create its present views.*Nothing was changed"):
            await live.restore(live.context())
        with watched(at), pytest.raises(LoadFailed, match="the live database is as it was"):
            await live.restore(live.context(unsafe=True))
        assert live.dump() == live.old
        assert live.leftovers() == ""
    finally:
        live.server.run(f"DROP TABLE IF EXISTS {live.name}.linked; DROP DATABASE {other}")


@pytest.mark.parametrize("way", ["in_place", "scratch"])
async def test_an_administrator_who_comes_or_goes_between_attempts(live: Live) -> None:
    killed(live.case(Step("RUN", "begin")))
    live.expect(await live.component.settle(live.context().context))
    admin = {"username": "admin", "password": live.server.admin_password} if live.way == "in_place" else None
    live.component = build("mysql", {**live.target, "admin": admin})
    await live.again()

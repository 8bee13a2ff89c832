"""A restore in a process of its own that is killed at a step: what the journal and the server keep of it is real.

Run with JSON on stdin (see Case); the journal and the safety copy are files, as durable as a database's.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import ByteStream
from app.components.base import Component, RestoreContext
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.components.mysql_steps import Stepwise
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.standalone import StandaloneDeployment
from app.errors import DestinationUnreachable
from tests.components.helpers import collect

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Step:
    """A step of one of the lists of a class: `when` before or after it, or in the middle of the archive."""

    steps: str
    name: str
    when: str = "after"

    def __str__(self) -> str:
        return f"{self.when}-{self.name}-of-{self.steps}"


@dataclass
class Case:
    """`kill`: where; `fail`: at which step the database refuses, to come into an undo."""

    folder: str
    engine: str
    target: dict[str, Any]
    kill: Step
    fail: Step | None = None
    settle_only: bool = False


class FileSafety:
    """`away`: the destination cannot be reached."""

    def __init__(self, folder: Path, make: Component) -> None:
        self.path = folder / "safety.sql"
        self.away = False
        self.used = 0
        self._make = make

    name = "backup 99 at destination shed"

    @property
    def stored(self) -> bool:
        return self.path.exists()

    def _reach(self) -> None:
        self.used += 1
        if self.away:
            raise DestinationUnreachable("the folder of destination shed is not there")

    async def store(self) -> None:
        self._reach()
        content = await collect(await self._make.dump())
        part = self.path.with_suffix(".part")
        part.write_bytes(content)
        part.rename(self.path)

    async def open(self) -> ByteStream:
        self._reach()
        yield self.path.read_bytes()

    async def discard(self) -> None:
        self._reach()
        self.path.unlink(missing_ok=True)


class FileContext:
    """The journal in a file; what is not in it is forgotten with the process."""

    def __init__(self, folder: Path, component: Component, *, unsafe: bool = False) -> None:
        self.path = folder / "journal.json"
        self.safety = FileSafety(folder, component)
        self.journal: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.fail: BaseException | None = None
        self.before_confirmed: Callable[[], None] = lambda: None
        self.context = RestoreContext(
            "op-1", True, False, self._confirm, self.journal, self._record, self.safety, unsafe
        )

    async def _confirm(self) -> None:
        self.before_confirmed()
        if self.fail is not None:
            raise self.fail

    async def _record(self, entry: dict[str, Any]) -> None:
        self.journal.update(entry)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.journal))
        part.rename(self.path)


def build(engine: str, target: dict[str, Any]) -> Component:
    if engine == "postgresql":
        return PostgresqlComponent(StandaloneDeployment(), PostgresqlTarget(**target))
    accounts = {key: Account(**target[key]) for key in ("owner", "admin") if target.get(key)}
    return MysqlComponent(StandaloneDeployment(), MysqlTarget(**{**target, **accounts}))


@contextmanager
def watched(at: Callable[[Step], Awaitable[None]]) -> Any:
    """Call `at` before and after every step."""
    with pytest.MonkeyPatch.context() as patch:
        through, do = Stepwise.through, Stepwise.do

        async def listed(self: Stepwise, steps: Sequence[str]) -> None:
            before = getattr(self, "steps_name", "")
            self.steps_name = next(name for name in dir(self) if getattr(self, name) is steps)  # type: ignore[attr-defined]
            await through(self, steps)
            self.steps_name = before  # type: ignore[attr-defined]

        async def done(self: Stepwise, name: str) -> None:
            await at(Step(self.steps_name, name, "before"))  # type: ignore[attr-defined]
            await do(self, name)
            await at(Step(self.steps_name, name, "after"))  # type: ignore[attr-defined]

        patch.setattr(Stepwise, "through", listed)
        patch.setattr(Stepwise, "do", done)
        yield


def kill_now() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _run(case: Case) -> None:
    folder = Path(case.folder)
    component = build(case.engine, case.target)
    context = FileContext(folder, component)

    async def at(step: Step) -> None:
        if step == case.kill:
            kill_now()
        if step == case.fail:
            raise_refused()

    async def source() -> ByteStream:
        content = (folder / "archive").read_bytes()
        if case.kill.when == "start":
            kill_now()
        yield content[: len(content) // 2]
        if case.kill.when == "during":
            kill_now()
        yield content[len(content) // 2 :]
        if case.kill.when == "last":
            kill_now()

    if case.kill.when == "confirmed":
        context.before_confirmed = kill_now
    with watched(at), _sent(case.kill.when == "committing"):
        if case.settle_only:
            await component.settle(context.context)
        else:
            await component.restore(source(), context.context, 0)
    if case.kill.when == "returned":
        kill_now()


@contextmanager
def _sent(kill: bool) -> Any:
    """Be killed when COMMIT is in the client's pipe, and nobody waits for what becomes of it."""
    script = PostgresqlComponent._script

    async def cut(self: PostgresqlComponent, *args: Any) -> ByteStream:
        async for chunk in script(self, *args):
            yield chunk
        await asyncio.sleep(0.05)  # until it is written: it is in a queue now
        kill_now()

    with pytest.MonkeyPatch.context() as patch:
        if kill:
            patch.setattr(PostgresqlComponent, "_script", cut)
        yield


def raise_refused() -> None:
    from app.errors import LoadFailed

    raise LoadFailed("the database refused it")


def killed(case: Case) -> None:
    """Run it and see it killed."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.components.halfway"],
        input=json.dumps(asdict(case)), text=True, cwd=ROOT, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == -signal.SIGKILL, (case.kill, result.returncode, result.stderr[-3000:])


def main() -> None:
    given = json.loads(sys.stdin.read())
    given["kill"] = Step(**given["kill"])
    given["fail"] = Step(**given["fail"]) if given["fail"] else None
    asyncio.run(_run(Case(**given)))


if __name__ == "__main__":
    main()

"""What component tests share."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from app.archives.streams import ByteStream, from_bytes
from app.components.base import Dump, Report, RestoreContext
from app.deployments.base import User
from app.deployments.process import Process
from app.deployments.standalone import StandaloneDeployment
from app.errors import DumpIncomplete

SITE_UID = 23456 if os.geteuid() == 0 else os.geteuid()


async def collect(dump: Dump) -> bytes:
    content = b"".join([chunk async for chunk in dump.stream])
    dump.verify()
    return content


class Unconfined(StandaloneDeployment):
    """A confined command gets all that we may: for programs in a tool's place, and to see that what a tool is sent is
    harmless by itself."""

    def _process(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd_fd: int | None,
        user: User | None,
        confined: bool,
    ) -> Process:
        return super()._process(argv, env, cwd_fd, None if confined else user, False)


class MemorySafety:
    """A safety copy in memory of what `make` dumps."""

    name = "backup 99"

    def __init__(self, make: Callable[[], Awaitable[Dump]] | None = None) -> None:
        self._make = make
        self.content: bytes | None = None
        self.discarded = False

    @property
    def stored(self) -> bool:
        return self.content is not None

    async def store(self) -> None:
        assert self._make is not None
        dump = await self._make()
        content = await collect(dump)
        if dump.report.incomplete:
            raise DumpIncomplete("not whole")
        self.content = content

    def open(self) -> ByteStream:
        assert self.content is not None
        return from_bytes(self.content)

    async def discard(self) -> None:
        self.content, self.discarded = None, True


class Context:
    """A restore context that records what was journalled and may fail at `confirm` or after a `record`."""

    def __init__(
        self,
        operation: str = "op1",
        clear: bool = True,
        in_place: bool = False,
        safety: MemorySafety | None = None,
        unsafe: bool = False,
        empty: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.fail_after_record: BaseException | None = None
        self.safety = safety or MemorySafety()
        self.journal: dict[str, Any] = {}
        self.fail: BaseException | None = None
        self.before_confirm: Callable[[], Awaitable[None]] | None = None
        self.confirmed = 0
        self.context = RestoreContext(
            operation=operation,
            clear_existing=clear,
            allow_in_place=in_place,
            confirm=self._confirm,
            journal=self.journal,
            record=self._record,
            safety=self.safety,
            allow_without_safety_copy=unsafe,
            allow_empty=empty,
            facts=facts or {},
        )

    async def _confirm(self) -> None:
        self.confirmed += 1
        if self.before_confirm is not None:
            await self.before_confirm()
        if self.fail is not None:
            raise self.fail

    async def _record(self, entry: dict[str, Any]) -> None:
        self.journal.update(entry)
        if self.fail_after_record is not None:
            raise self.fail_after_record


def codes(report: Report) -> list[str]:
    return [warning.code for warning in (*report.warnings, *report.incomplete)]

"""What component tests share."""

from __future__ import annotations

import os
from typing import Any

from app.components.base import Dump, Report, RestoreContext

SITE_UID = 23456 if os.geteuid() == 0 else os.geteuid()


async def collect(dump: Dump) -> bytes:
    content = b"".join([chunk async for chunk in dump.stream])
    dump.verify()
    return content


class Context:
    """A restore context that records what was journalled and may fail at `confirm`."""

    def __init__(self, operation: str = "op1", clear: bool = True, in_place: bool = False) -> None:
        self.journal: dict[str, Any] = {}
        self.fail: BaseException | None = None
        self.confirmed = 0
        self.context = RestoreContext(
            operation=operation,
            clear_existing=clear,
            allow_in_place=in_place,
            confirm=self._confirm,
            journal=self.journal,
            record=self._record,
        )

    async def _confirm(self) -> None:
        self.confirmed += 1
        if self.fail is not None:
            raise self.fail

    async def _record(self, entry: dict[str, Any]) -> None:
        self.journal.update(entry)


def codes(report: Report) -> list[str]:
    return [warning.code for warning in (*report.warnings, *report.incomplete)]

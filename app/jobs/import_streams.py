"""The parts of a foreign backup as streams that our own backups have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.archives.streams import ByteStream, Sink, produce
from app.deployments.base import User
from app.errors import NotFound
from app.external.inventory import ForeignMailbox
from app.external.limits import Budget, Limits
from app.external.staged import Staged
from app.external.tree import TreeTar, plain_sql
from app.jobs.import_plan import ImportItem


@dataclass(frozen=True, slots=True)
class ForeignStreams:
    """`folder`: where the archive is staged."""

    folder: Path
    limits: Limits

    def stream(self, item: ImportItem, owner: User, warnings: list[str]) -> ByteStream:
        """`warnings` gets what was left out. Raises ForeignArchiveError, NotFound."""
        if (foreign := item.files) is not None:
            return self._in_thread(lambda staged, _: TreeTar(staged, owner, warnings).files(foreign))
        if item.mail:
            boxes = renamed(item)
            return self._in_thread(lambda staged, _: TreeTar(staged, owner, warnings).mail(boxes))
        database = item.database
        assert database is not None

        def dump(staged: Staged, budget: Budget) -> Iterator[bytes]:
            member = staged.get(database.source)
            if member is None:
                raise NotFound(f"{database.source} is not in the archive")
            yield from plain_sql(staged, member, budget)

        return self._in_thread(dump)

    def _in_thread(self, make: Callable[[Staged, Budget], Iterator[bytes]]) -> ByteStream:
        """With an index and a budget of its own."""
        budget = Budget(self.limits, clock=time.thread_time)

        def work(sink: Sink) -> None:
            staged = Staged(self.folder, tick=budget.tick)
            try:
                budget.tick(staged.counted[-1])  # the whole archive explains how long its parts may take
                for chunk in make(staged, budget):
                    sink.write(chunk)
            finally:
                staged.close()

        return produce(work, "import part", budget.stop)


def renamed(item: ImportItem) -> list[ForeignMailbox]:
    """Mailboxes under the name of the domain that they are imported into."""
    return [replace(box, address=f"{box.address.rpartition('@')[0]}@{item.target}") for box in item.mail]

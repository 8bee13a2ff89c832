"""Dumping a PostgreSQL database, and telling what of it the dump does not hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing

from app.archives.streams import ByteStream
from app.components.base import POSITION, Report
from app.components.postgresql_archive import DumpWatch
from app.components.postgresql_catalogue import CatalogueEntry, compare_listing
from app.components.postgresql_listing import Listing
from app.components.postgresql_snapshot import Snapshot
from app.errors import LiberuError

log = logging.getLogger(__name__)


class ListedDump:
    """pg_dump in a snapshot of ours, whose catalogue is compared with what the archive says it holds.

    `dump`: pg_dump's output with these options besides; `psql`, `restore`: see Snapshot and Listing. `excluded`: what
    is left out, and was named. `counting`: `rows` will be asked.
    """

    def __init__(
        self,
        dump: Callable[[Sequence[str]], ByteStream],
        psql: Callable[[ByteStream], ByteStream],
        restore: Callable[[ByteStream], ByteStream],
        watch: DumpWatch,
        report: Report,
        excluded: Collection[tuple[str, str]],
        *,
        counting: bool,
    ) -> None:
        self._dump = dump
        self._watch = watch
        self._report = report
        self.excluded = excluded
        self._counting = counting
        self._snapshot = Snapshot(psql, counting=counting)
        self._listing = Listing(restore)

    async def stream(self) -> ByteStream:
        listed, whole = await self._opened(), False
        options = [f"--snapshot={self._snapshot.id}"] if listed else []
        try:
            async with aclosing(self._watch.watch(self._dump(options))) as chunks:
                async for chunk in chunks:
                    if listed:
                        self._snapshot.begin()
                        await self._listing.feed(chunk)
                    yield chunk
            if listed:
                await self._compare()
            self._snapshot.release()
            whole = True
        finally:
            await asyncio.shield(self._ended(whole=whole))

    async def _opened(self) -> bool:
        try:
            await self._snapshot.open()
        except (LiberuError, ValueError) as error:
            self._unlisted(error)
            return False
        if self._snapshot.lsn:  # what the log has from there on may be in the dump already
            self._report.facts[POSITION] = {"lsn": self._snapshot.lsn, "exact": False}
        return True

    async def _compare(self) -> None:
        try:
            listing = await self._listing.result()
        except LiberuError as error:
            self._unlisted(error)
            return
        before = len(self._report.incomplete)
        await asyncio.to_thread(compare_listing, listing, self.objects, self.excluded, self._report)
        if len(self._report.incomplete) == before:
            self._report.facts["proved"] = "listed"

    def _unlisted(self, error: Exception) -> None:
        log.warning("A dump could not be compared with its database's catalogue: %s", error)
        told = error.message if isinstance(error, LiberuError) else "an answer was not understood"
        self._report.warn("not_listed", f"Whether the dump holds all objects could not be looked at: {told[:300]}")

    async def _ended(self, *, whole: bool) -> None:
        await self._listing.close()
        if not (whole and self._counting):
            await self._snapshot.close()

    async def close(self) -> None:
        """Nobody asks for `rows` any more. Idempotent."""
        await self._snapshot.close()

    @property
    def objects(self) -> Sequence[CatalogueEntry]:
        """What was in the snapshot."""
        return self._snapshot.objects

    async def rows(self) -> dict[int, int]:
        """By the table's number, in the snapshot. Comes after the dump. Raises ComponentError, DeploymentError."""
        return await self._snapshot.rows()

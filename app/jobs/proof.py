"""That a stored dump loads: it is read back from its destination, loaded into a scratch database and compared."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.archives.manifest import StoredObject, Warning_
from app.archives.streams import ByteStream
from app.components.base import Component, Proof, Report, RestoreContext, SafetyCopy
from app.db.base import now
from app.db.models import RestoreRemains
from app.db.repositories.proofs import ProofTurnRepository
from app.db.repositories.remains import RemainsRepository
from app.db.session import Database
from app.errors import ArchiveError, JobError, LiberuError, ObjectNotFound, ProofImpossible
from app.jobs.context import JobContext, Result
from app.jobs.restoring import recorder
from app.jobs.writer import BackupRun
from app.security.keys import KeyRing
from app.services.components import Planned
from app.services.places import server_of
from app.settings import ProofSettings
from app.sizes import human_size

log = logging.getLogger(__name__)
_PAUSE = 1.0
#: What a dump takes once it is loaded, with its indexes and what the server writes beside.
_GROWS = 3


@dataclass(frozen=True, slots=True)
class _Proving:
    """One proof of one component. `stored`: of the component that was dumped; `left`: gets why a scratch database is
    still there."""

    run: BackupRun
    item: Planned
    component: Component
    proof: Proof
    stored: Result
    context: JobContext
    left: list[str] = field(default_factory=list)


class Prover:
    """What cannot be proved, for whatever reason, is a warning: the backup is what it was without."""

    def __init__(self, database: Database, keys: KeyRing, settings: ProofSettings) -> None:
        self._database = database
        self._keys = keys
        self._settings = settings

    def wanted(self, asked: str | None) -> bool:
        """`asked`: of the backup, by its schedule, domain or destination."""
        return asked == "load" or (asked is None and self._settings.load)

    async def prove(
        self,
        run: BackupRun,
        item: Planned,
        component: Component,
        proof: Proof,
        stored: Result,
        context: JobContext,
    ) -> Result:
        """`stored`: of the component that was dumped. Returns what its result is with the proof; `proved` is in its
        facts. Raises JobError."""
        one = _Proving(run, item, component, proof, stored, context)
        proved = await self._judged(one)
        told = [Warning_(code="scratch_left", message=reason[:1000], subject=item.name) for reason in one.left[-1:]]
        return {**proved, "warnings": [*proved["warnings"], *(warning.model_dump() for warning in told)]}

    async def _judged(self, one: _Proving) -> Result:
        """Raises JobError."""
        item, stored = one.item, one.stored
        try:
            async with asyncio.timeout(self._settings.seconds + self._settings.wait_seconds):
                report = await self._proved(one)
        except JobError:
            raise
        except (ArchiveError, ObjectNotFound) as error:  # of what was stored, or of its bytes on the way back
            report = Report()
            report.lack("not_loadable", f"What was stored cannot be read back: {error.message}", item.name)
        except LiberuError as error:
            return unproved(stored, item, error.message)
        except TimeoutError:
            return unproved(stored, item, f"it took longer than {self._settings.seconds:g} seconds")
        incomplete = [*stored["incomplete"], *(lack.model_dump() for lack in report.incomplete)]
        facts = stored["facts"] if report.incomplete else {**stored["facts"], "proved": "loaded"}
        return {**stored, "incomplete": incomplete, "facts": facts}

    async def _proved(self, one: _Proving) -> Report:
        item, size = one.item, one.stored["plain_size"]
        await self._affordable(one.proof, size)
        place = hashlib.sha256(server_of(one.run.domain, item.kind, item.name).encode()).hexdigest()
        async with self._turn(place, item, one.context), self._scratch(one) as restore_context:
            async with asyncio.timeout(self._settings.seconds):
                return await one.proof.load(self._read_back(one.run, one.stored), restore_context, size)

    async def _affordable(self, proof: Proof, plain_size: int) -> None:
        """Raises ProofImpossible."""
        settings = self._settings
        if plain_size > settings.max_bytes:
            raise ProofImpossible(
                f"the dump has {human_size(plain_size)}, and proofs are of {human_size(settings.max_bytes)} at most"
            )
        free = await proof.room()
        if free is None and plain_size > settings.unknown_room_bytes:
            raise ProofImpossible(
                "how much space is free at the database server cannot be told, and the dump has more than "
                f"{human_size(settings.unknown_room_bytes)}"
            )
        if free is not None and free - _GROWS * plain_size < settings.free_bytes:
            raise ProofImpossible(
                f"{human_size(free)} are free at the database server: with the loaded dump it would be less than "
                f"{human_size(settings.free_bytes)}"
            )

    def _read_back(self, run: BackupRun, stored: Result) -> ByteStream:
        """The plain bytes, from the first destination that has them. Raises ProofImpossible."""
        if run.recipients and self._keys.recipient not in run.recipients:
            raise ProofImpossible("only the customer's key opens what is stored")
        identities = [self._keys.identity] if run.recipients else None
        live = run.store.live
        number = next((number for number in stored["stored_at"] if number in live), None)
        if number is None:
            raise ProofImpossible("the destination that it was stored at is gone")
        archive = StoredObject(**stored["object"])
        return live[number].open_component(archive, stored["plain_size"], stored["plain_sha256"], identities)

    @asynccontextmanager
    async def _turn(self, place: str, item: Planned, context: JobContext) -> AsyncGenerator[None, None]:
        """One at a time at a server, whichever process it is in. Raises ProofImpossible when it takes too long."""
        mine = (place, context.uid, context.attempt, str(item.number))
        deadline = time.monotonic() + self._settings.wait_seconds
        while not await self._taken(mine):
            if time.monotonic() >= deadline:
                raise ProofImpossible("other dumps were being loaded at its server all the time")
            await asyncio.sleep(_PAUSE)
        try:
            yield
        finally:
            await asyncio.shield(self._give_back(mine))

    async def _taken(self, mine: tuple[str, str, int, str]) -> bool:
        try:
            async with self._database.transaction() as session:
                await ProofTurnRepository(session).take(*mine)
        except IntegrityError:
            return False
        return True

    async def _give_back(self, mine: tuple[str, str, int, str]) -> None:
        async with self._database.transaction() as session:
            await ProofTurnRepository(session).give_back(*mine)

    @asynccontextmanager
    async def _scratch(self, one: _Proving) -> AsyncGenerator[RestoreContext, None]:
        """What is made on the server is recorded first and removed at the end; after a crash by this operation's next
        attempt, or when it is due (see Tidier)."""
        item, domain_id = one.item, one.run.domain.id
        uid, part = one.context.uid, str(item.number)
        journal: dict[str, Any] = {"kind": item.kind, "name": item.name, "domain_id": domain_id}
        bound = timedelta(seconds=self._settings.seconds + self._settings.wait_seconds)
        one.left.extend(await self._removed(uid, part, one.component))
        if one.left:  # what is known of it must not be forgotten for another one
            raise ProofImpossible("what an earlier try of it has made could not be removed")

        async def saved(journal: Mapping[str, Any]) -> None:
            row = RestoreRemains(
                operation_uid=uid, part=part, domain_id=domain_id, kind=item.kind, name=item.name,
                journal={**journal, "tidy": True},  # whatever it says: all of it goes
                due_at=now() + bound,
            )  # fmt: skip
            async with self._database.transaction() as session:
                await RemainsRepository(session).replace(row)

        try:
            yield RestoreContext(
                operation=f"{uid}-{part}",
                clear_existing=True,
                allow_in_place=False,
                confirm=one.context.beat,
                journal=journal,
                record=recorder(journal, saved),
                safety=_NoCopy(),
                facts=one.stored["facts"],
            )
        finally:
            one.left.extend(await asyncio.shield(self._removed(uid, part, one.component)))

    async def _removed(self, uid: str, part: str, component: Component) -> list[str]:
        """What a proof of this part has made; what cannot be removed now is tried again by the Tidier, and told."""
        async with self._database.transaction() as session:
            row = await RemainsRepository(session).of_part(uid, part)
        if row is None:
            return []
        try:
            await component.tidy(row.journal)
        except (LiberuError, TimeoutError) as error:
            log.warning("The scratch database of a proof could not be removed yet: %s", error)
            row.due_at, row.error_message = now(), str(error)
            async with self._database.transaction() as session:
                await RemainsRepository(session).save(row)
            return [f"The scratch database of its proof is still at the server; it is tried again: {error}"]
        async with self._database.transaction() as session:
            await RemainsRepository(session).forget(row)
        return []


class _NoCopy(SafetyCopy):
    """Nothing live is replaced."""

    stored = False
    name = "no copy"

    async def store(self) -> None:
        raise ProofImpossible("A proof copies nothing")

    def open(self) -> ByteStream:
        raise ProofImpossible("A proof copies nothing")

    async def discard(self) -> None:
        """There is none."""


def unproved(stored: Result, item: Planned, reason: str) -> Result:
    """With a warning that says why it was not loaded."""
    warning = Warning_(
        code="proof_not_done", message=f"Whether its dump loads was not tried: {reason}"[:1000], subject=item.name
    )
    return {**stored, "warnings": [*stored["warnings"], warning.model_dump()]}

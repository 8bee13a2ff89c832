"""What has to be done from time to time: old rows, leftovers, a look at how much space is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import now
from app.db.models import Destination
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.notifications import NotificationRepository
from app.db.repositories.operations import OperationRepository
from app.db.repositories.schedules import ScheduleRepository
from app.db.repositories.sealed import IDENTITY_EXPIRED, NOT_BEGUN, SealedRepository
from app.db.repositories.security import TicketRepository
from app.db.session import Database
from app.deployments.secret_files import remove_old
from app.errors import LiberuError
from app.jobs.background import BackgroundTask
from app.services.audit import AuditService
from app.services.destinations import DestinationService
from app.services.imports import ImportSources
from app.services.notices import Notices
from app.services.removal import Removal
from app.services.unit import transaction
from app.services.upkeep import UpkeepService
from app.settings import HousekeepingSettings, NotificationSettings

log = logging.getLogger(__name__)
_BATCH = 500
_LOOKED_AT_ONCE = 8
_IDENTITY_KEPT = timedelta(hours=24)
#: The engine's rows of an operation that has ended are of no use to anybody.
_ENGINE_DAYS = 7


class Housekeeper(BackgroundTask):
    """Every worker has one; all of it can be done twice. `engine`: removes the engine's rows of what ended before a
    time. `elsewhere`: this worker is bound to a server: it does not look after destinations."""

    def __init__(
        self,
        database: Database,
        destinations: DestinationService,
        upkeep: UpkeepService,
        sources: ImportSources,
        notices: Notices,
        engine: Callable[[datetime], Awaitable[int]],
        removal: Removal,
        audit: AuditService,
        audit_days: int,
        settings: HousekeepingSettings,
        told: NotificationSettings,
        *,
        elsewhere: bool,
    ) -> None:
        self._database = database
        self._destinations = destinations
        self._upkeep = upkeep
        self._sources = sources
        self._notices = notices
        self._engine = engine
        self._removal = removal
        self._audit = audit
        self._audit_days = audit_days
        self._settings = settings
        self._space_low = told.space_low_bytes
        self._elsewhere = elsewhere

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._settings.seconds)
            await self.clean()

    async def clean(self) -> None:
        """Everything, once; what fails does not keep the rest from being done."""
        parts: list[Callable[[datetime], Awaitable[None]]] = [self._rows, self._engine_rows, self._staging]
        if not self._elsewhere:
            parts += [self._space, self._removals, self._sweeps]
        for part in parts:
            try:
                await part(now())
            except Exception as error:  # noqa: BLE001,RUF100  the next time may succeed
                log.warning("Housekeeping (%s) failed: %s", part.__name__, type(error).__name__, exc_info=True)

    async def _rows(self, moment: datetime) -> None:
        """In batches, so that nobody waits for long."""
        before = moment - timedelta(days=self._settings.operations_days)
        while True:
            async with self._database.transaction() as session:
                gone = await OperationRepository(session).forget(before, _BATCH)
            if gone < _BATCH:
                break
        async with self._database.transaction() as session:
            await NotificationRepository(session).forget(moment - timedelta(days=self._settings.deliveries_days))
            await ScheduleRepository(session).forget_runs(before)
            await OperationRepository(session).forget_idempotency(moment - timedelta(hours=24))
            await TicketRepository(session).forget_expired()
            await BackupRepository(session).end_unbegun(moment)
            await self._forget_identities(session, moment)
        async with self._database.transaction() as session:
            await self._audit.trim(session, moment - timedelta(days=self._audit_days))

    async def _forget_identities(self, session: AsyncSession, moment: datetime) -> None:
        """A key that was given for a restore goes with its end; what has not begun after a day is ended."""
        sealed = SealedRepository(session)
        for operation in await sealed.with_identity():
            old = operation.status == "pending" and operation.created_at < moment - _IDENTITY_KEPT
            if old and await sealed.give_up(operation, moment):
                await self._notices.operation(session, operation, "failed", IDENTITY_EXPIRED, NOT_BEGUN)

    async def _engine_rows(self, moment: datetime) -> None:
        while await self._engine(moment - timedelta(days=_ENGINE_DAYS)):
            pass

    async def _staging(self, moment: datetime) -> None:
        """Folders of imports on this machine whose operation has ended or was forgotten, old uploads, and what an
        earlier version left."""
        found = await asyncio.to_thread(self._sources.staged)
        async with self._database.transaction() as session:
            repository = OperationRepository(session)
            active, in_use = {one.uid for one in await repository.active()}, await repository.uploads_in_use()
        await asyncio.to_thread(self._sources.forget_staged, found - active)
        await asyncio.to_thread(self._sources.uploads.forget, in_use, moment)
        await asyncio.to_thread(remove_old)

    async def _space(self, moment: datetime) -> None:
        async with self._database.transaction() as session:
            repository = DestinationRepository(session)
            found = await repository.active()
        places = asyncio.Semaphore(_LOOKED_AT_ONCE)  # one that does not answer must not hold up the rest
        async with asyncio.TaskGroup() as group:
            for destination in found:
                group.create_task(self._look(destination, moment, places))

    async def _look(self, destination: Destination, moment: datetime, places: asyncio.Semaphore) -> None:
        try:
            async with places, asyncio.timeout(60), self._destinations.opened(destination) as store:
                free = await store.free_bytes()
        except (LiberuError, TimeoutError) as error:
            log.warning("How much space destination %s has cannot be seen: %s", destination.id, error)
            return
        if free is None:
            return
        async with self._database.transaction() as session:
            low = free < self._space_low
            changed = await DestinationRepository(session).note_space(destination.id, free, moment, low=low)
            if changed and low:
                await self._notices.space_low(session, destination, free)

    async def _removals(self, moment: datetime) -> None:
        """Deletions that were begun and could not be ended."""
        await self._removal.resume()

    async def _sweeps(self, moment: datetime) -> None:
        """Start a sweep where none was for a while."""
        if self._settings.sweep_days == 0:
            return
        since = moment - timedelta(days=self._settings.sweep_days)
        async with transaction(self._database) as unit:
            for destination in await DestinationRepository(unit.session).active():
                if not await OperationRepository(unit.session).swept(destination.id, since):
                    await self._upkeep.record_sweep(unit, destination, self._settings.sweep_grace_hours)

"""Removal of leftovers at every destination."""

from __future__ import annotations

from datetime import timedelta

from app.bootstrap import application
from app.db.base import now
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.operations import OperationRepository
from app.errors import LiberuError
from app.jobs.sweep import remove_leftovers
from app.settings import Settings


async def sweep_all(settings: Settings, grace_hours: int | None, *, dry_run: bool) -> list[str]:
    """Objects that no manifest names, older than the grace period and of no active operation; and why a destination
    was left out."""
    hours = settings.housekeeping.sweep_grace_hours if grace_hours is None else grace_hours
    removed = []
    runs_nothing = settings.jobs.model_copy(update={"role": "api"})
    async with application(settings.model_copy(update={"jobs": runs_nothing})) as started:
        container = started.container
        async with container.database.transaction() as session:
            repository = DestinationRepository(session)
            destinations = [await repository.get(number) for number in await repository.all_ids()]
            active = await OperationRepository(session).active()
            known = {
                found.id: await BackupRepository(session).counted_on(found.id) for found in destinations if found
            }
            given_up = await BackupRepository(session).given_up()
        for destination in destinations:
            if destination is None:
                continue
            try:
                async with container.destinations.opened(destination) as store:
                    before = now() - timedelta(hours=hours)
                    installation = started.keys.installation
                    swept = await remove_leftovers(
                        store,
                        installation,
                        before,
                        active,
                        dry_run=dry_run,
                        known=known[destination.id],
                        given_up=given_up,
                        hidden=await store.hidden(installation),
                    )
            except LiberuError as error:
                removed.append(f"{destination.name}: not swept, {error.message}")
                continue
            removed += [f"{destination.name}: {info.key}" for info in swept.removed]
            if swept.count > len(swept.removed):
                removed.append(f"{destination.name}: and {swept.count - len(swept.removed)} more")
            removed += [
                f"{destination.name}: left alone, because {one['key']} cannot be read: {one['message']}"
                for one in swept.refused
            ]
    return removed

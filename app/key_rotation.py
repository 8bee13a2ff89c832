"""rotate-keys: another master key, while the service goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.beside import opened, record
from app.errors import KeyMaterialInvalid
from app.security.keys import load
from app.security.recovery_kit import outdated_kit
from app.security.rotation import keep_first, put_first
from app.services.audit import AuditService
from app.services.sealing import SealingService
from app.settings import Settings

#: Other processes look at the file at each use; a request that had begun may still write
#: under the old key, and what it wrote is then found.
_SETTLED_SECONDS = 2.0


async def rotate(settings: Settings, say: Callable[[str], None], *, new_key: bool, keep_old: bool) -> None:
    """Raises KeyMaterialInvalid; can be repeated after any error: nothing is ever under a key that is not there."""
    if settings.master_key is not None and new_key:
        raise KeyMaterialInvalid(
            "The master key comes from LIBERU_MASTER_KEY: put a new key before the old one there, restart every "
            "process, and run rotate-keys --no-new-key"
        )
    folder = settings.keys_folder
    if new_key:
        await asyncio.to_thread(load, folder)  # only where an installation is
        await asyncio.to_thread(put_first, folder)
        await asyncio.to_thread(outdated_kit, folder)
        say("A new key seals from now on; the old one still opens.")
        await asyncio.sleep(_SETTLED_SECONDS)
    async with opened(settings) as (keys, database):
        sealing, total = SealingService(database, keys.cipher), 0
        while changed := await sealing.reseal():
            total += changed
            say(f"{total} sealed anew")
        async with database.transaction() as session:
            await record(keys, session, "keys.rotate", {"resealed": total})
    if keep_old or settings.master_key is not None:
        say("Nothing is under an old key any more: it can be removed.")
        return
    await asyncio.to_thread(keep_first, folder)
    say("The old key is forgotten. Make a new recovery kit: python -m app.cli recovery-kit FILE")


async def note(settings: Settings, action: str) -> None:
    """That somebody has taken the keys, into the audit trail. Raises whatever the database does."""
    async with opened(settings) as (keys, database), database.transaction() as session:
        await record(keys, session, action, {})


async def verify_audit(settings: Settings) -> str:
    """Raises AuditBroken."""
    async with opened(settings) as (keys, database):
        found = await AuditService(keys.audit_key).verify(database)
    return f"{found.events} events are as they were written; the last one's hash is {found.head or 'none'}"

"""What commands need that run beside the service: keys, database, audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.session import Database
from app.schemas.operations import TokenIn
from app.security.keys import KeyRing, load
from app.services.audit import AuditService
from app.services.tokens import TokenService
from app.services.unit import Unit
from app.settings import Settings


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[tuple[KeyRing, Database], None]:
    """Closed at the end. Raises KeyMaterialInvalid."""
    keys = await asyncio.to_thread(load, settings.keys_folder, settings.master_keys)
    database = Database(settings.database_url)
    try:
        yield keys, database
    finally:
        await database.close()


async def record(keys: KeyRing, session: AsyncSession, action: str, detail: dict[str, Any]) -> None:
    await AuditService(keys.audit_key).record(session, actor="cli", action=action, outcome="completed", detail=detail)


async def new_token(settings: Settings, body: TokenIn) -> str:
    """A token that somebody who is on the machine makes, as the audit trail tells."""
    async with opened(settings) as (keys, database), database.transaction() as session:
        token, text = await TokenService(other_way_in=True).create(Unit(session), None, body)
        detail = {"token_id": token.id, "name": token.name, "abilities": token.abilities, "user_id": token.user_id}
        await record(keys, session, "token.create", detail)
    return text

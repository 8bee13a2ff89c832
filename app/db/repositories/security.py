"""Queries on tokens, tickets and the audit trail."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select, update

from app.db.base import now
from app.db.models import ApiToken, SseTicket
from app.db.repositories.base import Page, PageRequest, Repository


class TokenRepository(Repository):
    async def valid(self, sha256: str) -> ApiToken | None:
        return await self._session.scalar(
            select(ApiToken).where(
                ApiToken.token_sha256 == sha256,
                ApiToken.revoked_at.is_(None),
                or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > now()),
            )
        )

    async def touch(self, token: ApiToken) -> None:
        """Note the use, at most once a minute: reading must not write each time."""
        if token.last_used_at is None or token.last_used_at < now() - timedelta(minutes=1):
            await self._session.execute(update(ApiToken).where(ApiToken.id == token.id).values(last_used_at=now()))

    async def get(self, token_id: int) -> ApiToken | None:
        return await self._session.get(ApiToken, token_id)

    async def page(self, request: PageRequest) -> Page[ApiToken]:
        return await self._page(select(ApiToken), request, {"id": ApiToken.id, "name": ApiToken.name})

    async def opens_all(self, token_id: int) -> bool:
        """Whether a token is an operator's that can make others, and is in force."""
        return any(token.id == token_id for token in await self._operators())

    async def lasting(self, but: int) -> bool:
        """Whether there is such a token that never expires, `but` apart."""
        return any(token.id != but and token.expires_at is None for token in await self._operators())

    async def _operators(self) -> list[ApiToken]:
        """Nobody else revokes one of them until the transaction ends."""
        in_force = or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > now())
        query = select(ApiToken).where(ApiToken.user_id.is_(None), ApiToken.revoked_at.is_(None), in_force)
        found = await self._session.scalars(query.order_by(ApiToken.id).with_for_update())
        return [token for token in found if "*" in token.abilities]

    async def any(self) -> bool:
        return await self._session.scalar(select(ApiToken.id).limit(1)) is not None


class TicketRepository(Repository):
    async def take(self, sha256: str, at: datetime) -> int | None:
        """Use a ticket up; the operation it opens, or None."""
        return await self._session.scalar(
            delete(SseTicket)
            .where(SseTicket.ticket_sha256 == sha256, SseTicket.expires_at > at, ~SseTicket.resumes)
            .returning(SseTicket.operation_id)
        )

    async def resumes(self, sha256: str, at: datetime) -> int | None:
        """The operation whose stream was opened before with what goes by this hash; it is not used up."""
        return await self._session.scalar(
            select(SseTicket.operation_id).where(
                SseTicket.ticket_sha256 == sha256, SseTicket.expires_at > at, SseTicket.resumes
            )
        )

    async def forget_expired(self) -> None:
        await self._session.execute(delete(SseTicket).where(SseTicket.expires_at < now()))

"""Queries on whose turn it is to prove a dump at a database server."""

from __future__ import annotations

from sqlalchemy import delete, select

from app.db.models import Operation, ProofTurn
from app.db.repositories.base import Repository
from app.db.repositories.operations import ACTIVE


class ProofTurnRepository(Repository):
    async def take(self, place: str, operation_uid: str, attempt: int, part: str) -> None:
        """Raises IntegrityError while somebody else has it; an attempt that does not run any more has nothing."""
        runs = select(Operation.id).where(
            Operation.uid == ProofTurn.operation_uid,
            Operation.attempt == ProofTurn.attempt,
            Operation.status.in_(ACTIVE),
        )
        await self._session.execute(
            delete(ProofTurn)
            .where(ProofTurn.place == place, ~runs.exists())
            .execution_options(synchronize_session=False)
        )
        self.add(ProofTurn(place=place, operation_uid=operation_uid, attempt=attempt, part=part))
        await self.flush()

    async def give_back(self, place: str, operation_uid: str, attempt: int, part: str) -> None:
        await self._session.execute(
            delete(ProofTurn).where(
                ProofTurn.place == place,
                ProofTurn.operation_uid == operation_uid,
                ProofTurn.attempt == attempt,
                ProofTurn.part == part,
            )
        )

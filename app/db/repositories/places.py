"""Queries on what domains occupy."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, text, tuple_, update

from app.db.models import Domain, DomainDatabase, OccupiedPlace
from app.db.repositories.base import Repository

_LOCK = 0x1BACC0D
#: What sessions hold of domains is not changed.
_UNSEEN = {"synchronize_session": False}


@dataclass(frozen=True, slots=True)
class Occupied:
    """`folder`: what is nested counts too."""

    where: str
    name: str
    folder: bool


@dataclass(frozen=True, slots=True)
class Overlap:
    """`wanted`: which of those that were asked for; `name`: what it overlaps, of whose domain."""

    wanted: Occupied
    name: str
    domain_name: str
    user_id: int | None


class PlaceRepository(Repository):
    async def lock(self) -> None:
        """One transaction at a time decides who occupies what, until it ends. It comes before other locks."""
        if self._session.get_bind().dialect.name == "postgresql":
            await self._session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        else:  # SQLite has one writer: be it, before anything is read
            nothing = update(Domain).where(Domain.id == 0).values(shared=Domain.shared)
            await self._session.execute(nothing, execution_options=_UNSEEN)

    async def overlap(self, domain_id: int | None, wanted: Collection[Occupied]) -> Overlap | None:
        """The first of another domain's places that is one of `wanted`, or around or inside a folder of it."""
        if not wanted:
            return None
        by_where = {(_digest(item.where), item.name): item for item in wanted}
        exact = list(by_where)
        inside = []
        for (where, name), item in by_where.items():
            if item.folder:
                prefix = _below(name)
                inside.append(
                    and_(OccupiedPlace.place == where, func.substr(OccupiedPlace.name, 1, len(prefix)) == prefix)
                )
                exact += [(where, str(parent)) for parent in PurePosixPath(name).parents]
        query = (
            select(Domain.domain_name, Domain.user_id, OccupiedPlace.place, OccupiedPlace.name)
            .join(Domain, Domain.id == OccupiedPlace.domain_id)
            .where(
                OccupiedPlace.place.in_({where for where, _ in by_where}),  # which the index knows
                OccupiedPlace.domain_id != (domain_id or 0),
                or_(tuple_(OccupiedPlace.place, OccupiedPlace.name).in_(exact), *inside),
            )
            .order_by(OccupiedPlace.id)
            .limit(1)
        )
        row = (await self._session.execute(query)).first()
        if row is None:
            return None
        mine = next(item for (where, name), item in by_where.items() if where == row.place and _meets(item, row.name))
        return Overlap(mine, row.name, row.domain_name, row.user_id)

    async def put(self, domain_id: int, found: Collection[Occupied]) -> None:
        """What a domain occupies from now on."""
        await self._session.execute(delete(OccupiedPlace).where(OccupiedPlace.domain_id == domain_id))
        rows = {(_digest(item.where), item.name) for item in found}
        if rows:
            values = [{"domain_id": domain_id, "place": place, "name": name} for place, name in sorted(rows)]
            await self._session.execute(insert(OccupiedPlace), values)

    async def not_placed(self, version: int, limit: int) -> list[tuple[Any, list[Any]]]:
        """Domains whose places were computed by older rules, or never: their settings, and their databases."""
        columns = (Domain.id, Domain.domain_name, Domain.deployment, Domain.document_root, Domain.mail_path)
        query = select(*columns).where(Domain.places_version < version).order_by(Domain.id).limit(limit)
        domains = (await self._session.execute(query)).all()
        databases: dict[int, list[Any]] = {row.id: [] for row in domains}
        if databases:
            of = select(
                DomainDatabase.domain_id, DomainDatabase.engine, DomainDatabase.name, DomainDatabase.host,
                DomainDatabase.port, DomainDatabase.socket,
            ).where(DomainDatabase.domain_id.in_(databases))  # fmt: skip
            for row in (await self._session.execute(of)).all():
                databases[row.domain_id].append(row)
        return [(row, databases[row.id]) for row in domains]

    async def placed(self, domain_ids: Collection[int], version: int) -> None:
        values = {"places_version": version, "updated_at": Domain.updated_at}
        done = update(Domain).where(Domain.id.in_(domain_ids)).values(values)
        await self._session.execute(done, execution_options=_UNSEEN)


def _digest(where: str) -> str:
    """Of one length: an index holds no long text."""
    return hashlib.sha256(where.encode()).hexdigest()


def _below(path: str) -> str:
    return path.rstrip("/") + "/"


def _meets(item: Occupied, name: str) -> bool:
    nested = item.folder and (name.startswith(_below(item.name)) or item.name.startswith(_below(name)))
    return item.name == name or nested

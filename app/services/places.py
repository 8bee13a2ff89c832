"""PlaceService: no two domains in one place, unless an operator says so."""

from __future__ import annotations

from typing import Any

from app.db.models import Domain
from app.db.repositories.places import Occupied, Overlap, PlaceRepository
from app.deployments.places import DatabaseSetting, Place, places
from app.errors import DomainOverlap
from app.schemas.domains import DomainIn
from app.security.tokens import Principal
from app.services.unit import Unit

#: Of the rules in app.deployments.places: when these change, what is stored is computed anew.
VERSION = 2
_BATCH = 200
_WHAT = {
    "document_root": "document root",
    "mail_path": "mail folder",
    "databases": "database",
    "deployment": "namespace",
}


class PlaceService:
    @staticmethod
    async def lock(unit: Unit) -> None:
        """Until the transaction ends nobody else makes a domain, or moves one."""
        await PlaceRepository(unit.session).lock()

    async def claim(
        self, unit: Unit, principal: Principal, domain: Domain | None, body: DomainIn, *, shared: bool
    ) -> set[Place] | None:
        """That `body` takes no other domain's place; to be called before `domain` is changed. None: it occupies what
        it did before. What is new must be stored by `occupy` in the same transaction: others wait until that ends.

        Only what `body` adds is looked at, or all of it when the domain was shared and is no longer. Raises
        DomainOverlap, which names another user's domain to operators only.
        """
        wanted, before = wanted_places(body), set() if domain is None else stored_places(domain)
        no_longer_shared = domain is not None and domain.shared and not shared
        if wanted == before and not no_longer_shared:
            return None
        repository = PlaceRepository(unit.session)
        await repository.lock()
        await self._fill(repository)
        if not shared:
            added = wanted if no_longer_shared else wanted - before
            fields = {_occupied(place): place for place in sorted(added, key=lambda place: place.field)}
            found = await repository.overlap(domain.id if domain else None, fields)
            if found is not None:
                raise _refusal(principal, body.domain_name, fields[found.wanted], found)
        return wanted

    async def claim_database(
        self, unit: Unit, principal: Principal, domain: Domain, database: DatabaseSetting
    ) -> None:
        """That one more database of `domain` takes no other domain's place; `occupy` in the same transaction. Raises
        DomainOverlap, for `principal` to read."""
        repository = PlaceRepository(unit.session)
        await repository.lock()
        await self._fill(repository)
        found = places(domain.domain_name, domain.deployment, None, None, [database])
        wanted = {_occupied(place): place for place in found if place.field == "databases"}
        overlap = None if domain.shared else await repository.overlap(domain.id, wanted)
        if overlap is not None:
            raise _refusal(principal, domain.domain_name, wanted[overlap.wanted], overlap)

    @staticmethod
    async def occupy(unit: Unit, domain: Domain, found: set[Place]) -> None:
        """`domain` has an id."""
        await PlaceRepository(unit.session).put(domain.id, {_occupied(place) for place in found})

    @staticmethod
    async def _fill(repository: PlaceRepository) -> None:
        """Once after an upgrade: what domains of older versions occupy; nothing of that is refused."""
        while rows := await repository.not_placed(VERSION, _BATCH):
            for row, databases in rows:
                found = places(
                    row.domain_name, row.deployment, row.document_root, row.mail_path, map(_setting, databases)
                )
                await repository.put(row.id, {_occupied(place) for place in found})
            await repository.placed([row.id for row, _ in rows], VERSION)


def wanted_places(body: DomainIn) -> set[Place]:
    databases = map(_setting, body.databases)
    return places(body.domain_name, body.deployment.model_dump(), body.document_root, body.mail_path, databases)


def stored_places(domain: Domain) -> set[Place]:
    databases = map(_setting, domain.databases)
    return places(domain.domain_name, domain.deployment, domain.document_root, domain.mail_path, databases)


def server_of(domain: Domain, engine: str, name: str) -> str:
    """Which database server a database of a domain's is at; the same text for the same server."""
    database = domain.database(engine, name)
    assert database is not None
    found = places(domain.domain_name, domain.deployment, None, None, [_setting(database)])
    return next(place.where for place in found if place.field == "databases")


def _setting(row: Any) -> DatabaseSetting:
    return DatabaseSetting(row.engine, row.name, row.host, row.port, row.socket)


def _occupied(place: Place) -> Occupied:
    return Occupied(place.where, place.name, place.field in ("document_root", "mail_path"))


def _refusal(principal: Principal, name: str, place: Place, found: Overlap) -> DomainOverlap:
    known = principal.operator or found.user_id == principal.user_id
    other = f"{found.domain_name} ({found.name})" if known else "another domain"
    how = "is the same as" if found.name == place.name else "overlaps"
    return DomainOverlap(
        f"The {_WHAT[place.field]} {place.name} of {name} {how} a place of {other}: a restore of one would write "
        "over the other. Give it a place of its own; an operator may say shared: true where that is meant",
        field=place.field,
    )

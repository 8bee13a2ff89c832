"""Which database of a domain each database of a backup is restored into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.db.models import Domain, DomainDatabase
from app.errors import InvalidRequest
from app.services.components import Planned

_MYSQL = ("mysql", "mariadb")
#: By a dump's engine, those that can take it.
FAMILIES = {"mysql": _MYSQL, "mariadb": _MYSQL, "postgresql": ("postgresql",)}
#: PostgreSQL cuts a longer name off, and it would be another's.
_LONGEST_POSTGRESQL = 63
_SERVERS_OWN = {
    "information_schema", "mysql", "performance_schema", "postgres", "sys", "template0", "template1",
}  # fmt: skip
_OURS = "liberu-"


@dataclass(frozen=True, slots=True)
class DatabaseTarget:
    """`like`: the domain's database whose server and admin account make this one; None: the domain has it."""

    engine: str
    name: str
    like: DomainDatabase | None = None


def database_targets(
    domain: Domain, parts: Iterable[Planned], names: Mapping[str, str], *, create: bool
) -> dict[int, DatabaseTarget]:
    """By part number, of those that are databases. Where the domain has no database of that name and none is to be
    created, it is the part's own: whoever opens it says that it is missing. Raises InvalidRequest."""
    databases = [part for part in parts if part.kind in FAMILIES]
    if unknown := sorted(names.keys() - {part.name for part in databases}):
        raise InvalidRequest(f"The backup has no database {unknown[0]} to be restored", field="databases")
    found: dict[int, DatabaseTarget] = {}
    for part in databases:
        target = _target(domain, part, names.get(part.name), create=create)
        if target in found.values():
            raise InvalidRequest(
                f"Two databases of the backup go to {target.name}: map one of them", field="databases"
            )
        found[part.number] = target
    return found


def _target(domain: Domain, part: Planned, mapped: str | None, *, create: bool) -> DatabaseTarget:
    name = part.name if mapped is None else mapped
    for known in domain.databases:
        if known.name == name and known.engine in FAMILIES[part.kind]:
            return DatabaseTarget(known.engine, name)
    if create:
        return _new(domain, part, name)
    if mapped is not None:
        raise InvalidRequest(
            f"{domain.domain_name} has no {part.kind} database {name}: add it, or have it made (create)",
            field="databases",
        )
    return DatabaseTarget(part.kind, name)


def _new(domain: Domain, part: Planned, name: str) -> DatabaseTarget:
    too_long = part.kind == "postgresql" and len(name.encode()) > _LONGEST_POSTGRESQL
    if too_long or name.lower() in _SERVERS_OWN or name.lower().startswith(_OURS) or name != name.strip():
        raise InvalidRequest(f"No database {name} can be made for a site", field="databases")
    like = [known for known in domain.databases if known.engine in FAMILIES[part.kind] and _administered(known)]
    like.sort(key=lambda known: known.name != part.name)
    if not like:
        raise InvalidRequest(
            f"{name} cannot be made: {domain.domain_name} has no {part.kind} database with an admin account, which "
            "tells where",
            field="create",
        )
    return DatabaseTarget(like[0].engine, name, like[0])


def _administered(database: DomainDatabase) -> bool:
    """Where its setting names no account, the place it runs in may know one."""
    return database.admin_username is not None or (database.username is None and database.host is None)

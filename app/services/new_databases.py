"""NewDatabases: databases that restores make belong to their domain, with a password that is told once."""

from __future__ import annotations

import secrets

from app.db.models import Domain, DomainDatabase, Operation
from app.db.repositories.domains import DomainRepository
from app.db.repositories.operations import ACTIVE
from app.deployments.places import DatabaseSetting
from app.errors import Conflict, Forbidden, InvalidRequest, NotFound
from app.schemas.operations import AccountOut
from app.security.keys import CredentialCipher
from app.security.tokens import Principal
from app.services.database_targets import DatabaseTarget
from app.services.operations import OperationService
from app.services.places import PlaceService, stored_places
from app.services.unit import Unit

#: Of an account's name MySQL takes 32 characters.
_OF_NAME = 23


class NewDatabases:
    def __init__(self, operations: OperationService, cipher: CredentialCipher) -> None:
        self._operations = operations
        self._cipher = cipher
        self._places = PlaceService()

    async def check(self, unit: Unit, reader: Principal, domain: Domain, target: DatabaseTarget) -> None:
        """Whether a new database would be another domain's. Raises DomainOverlap, for `reader` to read."""
        if target.like is not None:
            await self._places.claim_database(unit, reader, domain, _setting(target, target.like))

    async def add(self, unit: Unit, domain_id: int, target: DatabaseTarget, operation_uid: str) -> Domain:
        """To the domain's setting, with an account of a name that nobody else has; the domain as it is now.
        Idempotent. Raises DomainOverlap, NotFound, InvalidRequest."""
        repository = DomainRepository(unit.session)
        await self._places.lock(unit)
        domain = await repository.get(domain_id)
        known = None if domain is None else domain.database(target.engine, target.name)
        if domain is not None and known is not None and known.made_by == operation_uid:
            return domain
        if domain is None or target.like is None:
            raise NotFound(f"The domain, or its setting for {target.name}, was deleted before its database was made")
        if known is not None:
            raise InvalidRequest(
                f"{domain.domain_name} has got a database {target.name} meanwhile", field="databases"
            )
        like, reader = target.like, Principal(0, domain.user_id, frozenset())
        await self._places.claim_database(unit, reader, domain, _setting(target, like))
        kept = self._cipher.open(like.credentials)
        credentials = {"password": secrets.token_urlsafe(24)}
        if "admin_password" in kept:
            credentials["admin_password"] = kept["admin_password"]
        domain.databases.append(
            DomainDatabase(
                engine=target.engine,
                name=target.name,
                host=like.host,
                port=like.port,
                socket=like.socket,
                username=f"{_plain(target.name)}_{secrets.token_hex(4)}",
                admin_username=like.admin_username,
                credentials=self._cipher.seal(credentials),
                made_by=operation_uid,
            )
        )
        await unit.session.flush()
        await self._places.occupy(unit, domain, stored_places(domain))
        return domain

    async def with_password(self, unit: Unit, domain_id: int, target: DatabaseTarget, operation_uid: str) -> Domain:
        """The domain, whose database has a password now, if it had none. Raises NotFound."""
        domain = await DomainRepository(unit.session).get(domain_id)
        database = None if domain is None else domain.database(target.engine, target.name)
        if domain is None or database is None:
            raise NotFound(f"The database {target.name} was taken out of its domain's setting")
        known = self._cipher.open(database.credentials)
        if "password" not in known or database.made_by is not None:  # of a restore that failed: nobody was told it
            known.setdefault("password", secrets.token_urlsafe(24))
            database.credentials, database.made_by = self._cipher.seal(known), operation_uid
            await unit.session.flush()
        return domain

    async def remove(self, unit: Unit, domain_id: int, engine: str, name: str, operation_uid: str) -> None:
        """What `add` has added for this operation. Idempotent."""
        await self._places.lock(unit)
        domain = await DomainRepository(unit.session).get(domain_id)
        if domain is None:
            return
        added = domain.database(engine, name)
        if added is None or added.made_by != operation_uid:
            return
        domain.databases = [one for one in domain.databases if one is not added]
        await unit.session.flush()
        await self._places.occupy(unit, domain, stored_places(domain))

    async def accounts(self, unit: Unit, principal: Principal, operation_id: int) -> list[AccountOut]:
        """Of the databases that an operation has made: once. Raises NotFound after that, Conflict while it runs."""
        principal.require("backups:restore")
        if not principal.operator:
            raise Forbidden("Passwords of databases are told to an operator's token only")
        operation: Operation = await self._operations.get(unit, principal, operation_id)
        if operation.status in ACTIVE:
            raise Conflict(f"Operation {operation_id} has not ended: what it makes may be removed again")
        found = await DomainRepository(unit.session).made_by(operation.uid)
        if not found:
            raise NotFound(f"Operation {operation_id} has made no account, or its password has been told")
        return [
            AccountOut(
                engine=one.engine,
                database=one.name,
                host=one.host,
                port=one.port,
                socket=one.socket,
                username=one.username or "",
                password=self._cipher.open(one.credentials)["password"],
            )
            for one in found
        ]


def _setting(target: DatabaseTarget, like: DomainDatabase) -> DatabaseSetting:
    return DatabaseSetting(target.engine, target.name, like.host, like.port, like.socket)


def _plain(name: str) -> str:
    """As an account can be called anywhere."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)[:_OF_NAME]

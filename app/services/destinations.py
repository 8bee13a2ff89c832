"""DestinationService: places for backups, and what is stored there."""

from __future__ import annotations

from app.archives.compression import Compressor
from app.archives.store import BackupStore
from app.db.models import Destination
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.destinations import DestinationRepository
from app.errors import Conflict, DestinationProtected, InvalidRequest, NotFound, StorageError
from app.schemas.destinations import ConnectionTest, DestinationIn
from app.security.encryption import parse_recipient
from app.security.keys import KeyRing
from app.security.tokens import Principal
from app.services.unit import Unit
from app.storage.registry import build_driver


class DestinationService:
    def __init__(self, keys: KeyRing, compressor: Compressor) -> None:
        self._keys = keys
        self._compressor = compressor

    def store(self, destination: Destination) -> BackupStore:
        return BackupStore(
            build_driver(destination.type, destination.configuration), self._compressor, self._keys.signer
        )

    def recipients(self, destination: Destination) -> list[str]:
        """Whose keys open what is stored there; empty: it is not encrypted."""
        if not destination.encrypt:
            return []
        own = [self._keys.recipient] if destination.own_key else []
        return [*own, *destination.recipients]

    async def get(self, unit: Unit, principal: Principal, destination_id: int) -> Destination:
        destination = await DestinationRepository(unit.session).get(destination_id)
        if destination is None:
            raise NotFound(f"There is no destination {destination_id}")
        if destination.user_id is not None:
            principal.require_owner(destination.user_id, f"destination {destination_id}")
        return destination

    async def page(self, unit: Unit, principal: Principal, request: PageRequest) -> Page[Destination]:
        return await DestinationRepository(unit.session).page(request, principal.user_id)

    async def choose(self, unit: Unit, principal: Principal, destination_id: int | None) -> Destination:
        """The named destination, or the default one. Raises NotFound, InvalidRequest."""
        if destination_id is not None:
            destination = await self.get(unit, principal, destination_id)
        else:
            found = await DestinationRepository(unit.session).default()
            if found is None:
                raise InvalidRequest("There is no default destination; name one", field="destination_id")
            destination = found
        if not destination.is_active:
            raise InvalidRequest(f"The destination {destination.name} is switched off", field="destination_id")
        return destination

    async def create(self, unit: Unit, principal: Principal, body: DestinationIn) -> Destination:
        self._allow(principal)
        repository = DestinationRepository(unit.session)
        if await repository.by_name(body.name) is not None:
            raise Conflict(f"A destination named {body.name} exists already", field="name")
        destination = Destination(type=body.type)
        await self._apply(repository, destination, body)
        repository.add(destination)
        await repository.flush()
        return destination

    async def update(self, unit: Unit, principal: Principal, destination_id: int, body: DestinationIn) -> Destination:
        self._allow(principal)
        destination = await self.get(unit, principal, destination_id)
        repository = DestinationRepository(unit.session)
        other = await repository.by_name(body.name)
        if other is not None and other.id != destination_id:
            raise Conflict(f"A destination named {body.name} exists already", field="name")
        if destination.is_default and not body.is_default:
            raise DestinationProtected("Make another destination the default one instead", field="is_default")
        moved = destination.configuration != body.configuration.model_dump(mode="json")
        if moved and await repository.has_backups(destination_id):
            raise DestinationProtected("A destination that has backups cannot move", field="configuration")
        await self._apply(repository, destination, body)
        await repository.flush()
        return destination

    async def delete(self, unit: Unit, principal: Principal, destination_id: int) -> None:
        """Raises DestinationProtected for the default destination and for one that has backups."""
        self._allow(principal)
        destination = await self.get(unit, principal, destination_id)
        repository = DestinationRepository(unit.session)
        if destination.is_default:
            raise DestinationProtected("Cannot delete the default backup destination")
        if await repository.has_backups(destination_id):
            raise DestinationProtected("Cannot delete a destination that has backups")
        await repository.delete(destination)
        await repository.flush()

    async def test(self, destination: Destination) -> ConnectionTest:
        """Write, read and delete a small object. Reports a failure instead of raising it."""
        driver = build_driver(destination.type, destination.configuration)
        try:
            await driver.check()
        except StorageError as error:
            return ConnectionTest(connected=False, checks=[], message=error.message)
        finally:
            await driver.close()
        return ConnectionTest(connected=True, checks=["write", "read", "delete"], message="The destination works")

    @staticmethod
    def _allow(principal: Principal) -> None:
        principal.require("destinations:manage")
        principal.require_operator("A local destination")

    @staticmethod
    async def _apply(repository: DestinationRepository, destination: Destination, body: DestinationIn) -> None:
        for recipient in body.recipients:
            parse_recipient(recipient)
        if body.encrypt and not body.own_key and not body.recipients:
            raise InvalidRequest("Without own_key at least one recipient is needed", field="recipients")
        first = await repository.default() is None
        if (body.is_default or first) and not destination.is_default:
            await repository.clear_default()
        destination.name, destination.description = body.name, body.description
        destination.configuration = body.configuration.model_dump(mode="json")
        destination.user_id, destination.is_active = body.user_id, body.is_active
        destination.is_default = body.is_default or first
        destination.retention_days = body.retention_days
        destination.encrypt = bool(body.encrypt) or bool(body.recipients)
        destination.recipients, destination.own_key = body.recipients, body.own_key

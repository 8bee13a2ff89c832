"""DestinationService: places for backups, and what is stored there."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from app.archives.compression import Compressor
from app.archives.layout import MANIFEST
from app.archives.store import BackupStore
from app.db.models import Destination
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.destinations import DestinationRepository
from app.errors import Conflict, DestinationProtected, InvalidRequest, LiberuError, NotFound
from app.schemas.destinations import Check, ConnectionTest, DestinationIn, Usage
from app.security.encryption import parse_recipient
from app.security.keys import KeyRing
from app.security.tokens import Principal
from app.services.unit import Unit
from app.storage.addresses import AddressGuard
from app.storage.base import Options, StorageDriver
from app.storage.config import CONFIGURATIONS, Configuration
from app.storage.registry import build_driver

STEPS = ("write", "read", "compare", "list", "delete")
Pin = Callable[[int, dict[str, Any]], Awaitable[None]]


class DestinationService:
    """`pin` keeps in a destination's configuration what its driver learnt at the first connection."""

    def __init__(
        self, keys: KeyRing, compressor: Compressor, guard: AddressGuard, resume_seconds: float, pin: Pin
    ) -> None:
        self._keys = keys
        self._compressor = compressor
        self._guard = guard
        self._resume_seconds = resume_seconds
        self._pin = pin

    @asynccontextmanager
    async def opened(self, destination: Destination) -> AsyncGenerator[BackupStore, None]:
        """The store at a destination; its connections are closed at the end."""
        driver = self._driver(destination)
        try:
            yield BackupStore(driver, self._compressor, self._keys.signer)
        finally:
            await asyncio.shield(driver.close())

    def _driver(self, destination: Destination) -> StorageDriver:
        secrets = self._keys.cipher.open(destination.credentials)
        options = Options(self._guard, self._resume_seconds, partial(self._pin, destination.id))
        return build_driver(destination.type, {**destination.configuration, **secrets}, options)

    def secrets_of(self, destination: Destination) -> list[str]:
        """Which secrets are set."""
        return sorted(self._keys.cipher.open(destination.credentials))

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
        self._allow(principal, body.type)
        repository = DestinationRepository(unit.session)
        if await repository.by_name(body.name) is not None:
            raise Conflict(f"A destination named {body.name} exists already", field="name")
        destination = Destination(type=body.type)
        await self._apply(repository, destination, body, principal)
        repository.add(destination)
        await repository.flush()
        return destination

    async def update(self, unit: Unit, principal: Principal, destination_id: int, body: DestinationIn) -> Destination:
        """Secrets that are left out stay, but only while the place is the same: another one must not get them."""
        destination = await self.own(unit, principal, destination_id)
        repository = DestinationRepository(unit.session)
        if body.type != destination.type:
            raise InvalidRequest("A destination's type cannot change; make another one", field="type")
        other = await repository.by_name(body.name)
        if other is not None and other.id != destination_id:
            raise Conflict(f"A destination named {body.name} exists already", field="name")
        if destination.is_default and not body.is_default:
            raise DestinationProtected("Make another destination the default one instead", field="is_default")
        if self._moved(destination, body.configuration) and await repository.has_backups(destination_id):
            raise DestinationProtected("A destination that has backups cannot move", field="configuration")
        await self._apply(repository, destination, body, principal)
        await repository.flush()
        return destination

    async def delete(self, unit: Unit, principal: Principal, destination_id: int) -> None:
        """Raises DestinationProtected for the default destination and for one that has backups."""
        destination = await self.own(unit, principal, destination_id)
        repository = DestinationRepository(unit.session)
        if destination.is_default:
            raise DestinationProtected("Cannot delete the default backup destination")
        if await repository.has_backups(destination_id):
            raise DestinationProtected("Cannot delete a destination that has backups")
        await repository.delete(destination)
        await repository.flush()

    async def test(self, unit: Unit, principal: Principal, destination_id: int) -> ConnectionTest:
        """Write, read back, compare, list and delete a small object. Reports a failure instead of raising it."""
        destination = await self.own(unit, principal, destination_id)
        await unit.release()
        driver = self._driver(destination)
        passed: list[str] = []
        try:
            async for step in driver.checks():
                passed.append(step)
        except LiberuError as error:
            failed = Check(name=STEPS[len(passed)], passed=False, message=error.message)
            return ConnectionTest(connected=False, checks=[*_passed(passed), failed], message=error.message)
        finally:
            await asyncio.shield(driver.close())
        works = "The destination works"
        if destination.configuration.get("ssl") == "none":
            works += ", but password and data can be read on the way: use FTPS or SFTP where the server has them"
        return ConnectionTest(connected=True, checks=_passed(passed), message=works)

    async def usage(self, unit: Unit, principal: Principal, destination_id: int) -> Usage:
        """Count what lies at a destination. Raises StorageError."""
        destination = await self.own(unit, principal, destination_id)
        await unit.release()
        driver = self._driver(destination)
        objects = size = backups = 0
        try:
            async for info in driver.list(f"{self._keys.installation}/"):
                objects, size = objects + 1, size + info.size
                backups += info.key.endswith(f"/{MANIFEST}")
            return Usage(objects=objects, bytes=size, backups=backups, free_bytes=await driver.free_bytes())
        finally:
            await asyncio.shield(driver.close())

    async def own(self, unit: Unit, principal: Principal, destination_id: int) -> Destination:
        """One that the caller may change: operators any, others their own. Raises NotFound, Forbidden."""
        destination = await self.get(unit, principal, destination_id)
        self._allow(principal, destination.type)
        if destination.user_id is None:
            principal.require_operator("A destination shared by all")
        return destination

    @staticmethod
    def _allow(principal: Principal, type: str) -> None:
        principal.require("destinations:manage")
        if type == "local":
            principal.require_operator("A local destination")

    @staticmethod
    def _moved(destination: Destination, wanted: Configuration) -> bool:
        known = CONFIGURATIONS[destination.type].model_validate(destination.configuration)
        return known.place() != wanted.place()

    async def _apply(
        self, repository: DestinationRepository, destination: Destination, body: DestinationIn, principal: Principal
    ) -> None:
        for recipient in body.recipients:
            parse_recipient(recipient)
        if body.encrypt and not body.own_key and not body.recipients:
            raise InvalidRequest("Without own_key at least one recipient is needed", field="recipients")
        self._check_address(body.configuration)
        if body.is_default:
            principal.require_operator("The default destination")
        first = principal.operator and await repository.default() is None
        if (body.is_default or first) and not destination.is_default:
            await repository.clear_default()
        self._configure(destination, body.configuration)
        destination.name, destination.description = body.name, body.description
        destination.user_id = body.user_id if principal.operator else principal.user_id
        destination.is_active = body.is_active
        destination.is_default = body.is_default or first
        destination.retention_days, destination.retention = body.retention_days, body.retention.model_dump()
        encrypt = body.type != "local" if body.encrypt is None else body.encrypt
        destination.encrypt = encrypt or bool(body.recipients)
        destination.recipients, destination.own_key = body.recipients, body.own_key

    def _configure(self, destination: Destination, wanted: Configuration) -> None:
        stays = destination.configuration is not None and not self._moved(destination, wanted)
        kept = self._keys.cipher.open(destination.credentials) if stays else {}
        plain = wanted.plain()
        if stays and "host_key" in destination.configuration:
            plain.setdefault("host_key", destination.configuration["host_key"])
        destination.configuration = plain
        destination.credentials = self._keys.cipher.seal(kept | wanted.secrets())

    def _check_address(self, configuration: Configuration) -> None:
        """An address is refused at once; a name is looked up when it is connected to."""
        host = getattr(configuration, "host", None)
        if host is None:
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        self._guard.check(host, host)


def _passed(names: list[str]) -> list[Check]:
    return [Check(name=name, passed=True) for name in names]

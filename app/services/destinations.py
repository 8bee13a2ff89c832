"""DestinationService: places for backups, and what is stored there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

from app.addresses import AddressGuard
from app.archives.compression import Compressor
from app.archives.mirror import MirroredStore
from app.archives.store import BackupStore
from app.db.models import Destination
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.destinations import DestinationRepository
from app.errors import (
    Conflict,
    DestinationNotPrepared,
    DestinationProtected,
    InvalidRequest,
    LiberuError,
    NotFound,
)
from app.schemas.destinations import Check, ConnectionTest, DestinationIn, PrepareIn, Usage
from app.security.encryption import parse_recipient
from app.security.keys import KeyRing
from app.security.tokens import Principal
from app.services.locks import lock_days
from app.services.marking import Marking
from app.services.unit import Unit
from app.services.usage import counted
from app.settings import StorageSettings
from app.sizes import human_size
from app.storage.base import Options, StorageDriver
from app.storage.budget import Budget
from app.storage.config import CONFIGURATIONS, Configuration
from app.storage.connections import Connections
from app.storage.discreet import DiscreetDriver
from app.storage.limits import LimitedDriver, Limits
from app.storage.prepared import PreparedDriver
from app.storage.registry import build_driver
from app.storage.throughput import Throughput

log = logging.getLogger(__name__)
STEPS = ("write", "read", "compare", "list", "delete", "connections")
Pin = Callable[[int, dict[str, Any]], Awaitable[None]]


class DestinationService:
    """`pin` keeps in a destination's configuration what its driver learnt at the first connection."""

    def __init__(
        self, keys: KeyRing, compressor: Compressor, settings: StorageSettings, pin: Pin, marking: Marking
    ) -> None:
        self._keys = keys
        self._marking = marking
        self._compressor = compressor
        self._operators = AddressGuard(settings.allow_link_local)
        self._tenants = AddressGuard(settings.allow_link_local, settings.allow_private)
        self._resume_seconds = settings.resume_seconds
        self._slow_bytes, self._slow_seconds = settings.slow_bytes_per_second, settings.slow_seconds
        self._budget = Budget(settings.buffer_bytes)
        self._pin = pin
        self._limits: dict[int, Limits] = {}
        self._connections: dict[int, Connections] = {}

    @asynccontextmanager
    async def opened(
        self, destination: Destination, at: datetime | None = None, lock_days: int | None = None
    ) -> AsyncGenerator[BackupStore, None]:
        """The store at a destination, which must be prepared (see PreparedDriver), or as it was `at` a time; its
        connections are closed at the end. What is put is locked for `lock_days`. Raises NoPast."""
        async with self._guarded(destination, lock_days) as driver:
            yield BackupStore(driver, self._compressor, self._keys.signer).at(at)

    @asynccontextmanager
    async def _guarded(
        self, destination: Destination, lock_days: int | None = None, *, plainly: bool = False
    ) -> AsyncGenerator[PreparedDriver, None]:
        async with self.reading(destination, lock_days, plainly=plainly) as driver:
            yield self._marking.guarded(destination, driver)

    @asynccontextmanager
    async def reading(
        self, destination: Destination, lock_days: int | None = None, *, plainly: bool = False
    ) -> AsyncGenerator[StorageDriver, None]:
        """The destination's driver, for what is no backup of ours; its connections are closed at the end. Where a
        shared one lies no error tells, unless it is only an operator who reads it (`plainly`)."""
        driver = self._driver(destination, lock_days, plainly=plainly)
        try:
            yield driver
        finally:
            await asyncio.shield(driver.close())

    @asynccontextmanager
    async def mirrored(
        self, destinations: Sequence[Destination], kept_days: int | None = None
    ) -> AsyncGenerator[MirroredStore, None]:
        """The stores at several destinations, to be written at once; the first is the primary. `kept_days`: of the
        retention that governs what is written, when it is not a destination's own."""
        async with AsyncExitStack() as stack:
            stores = {}
            for found in destinations:
                opened = self.opened(found, lock_days=lock_days(found, kept_days))
                stores[found.id] = await stack.enter_async_context(opened)
            yield MirroredStore(stores)

    def _driver(self, destination: Destination, locked: int | None = None, *, plainly: bool = False) -> StorageDriver:
        secrets = self._keys.cipher.open(destination.credentials)
        options = Options(
            self._guard(destination.user_id),
            self._resume_seconds,
            partial(self._pin, destination.id),
            self._budget,
            self._connections.setdefault(destination.id, Connections()),
        )
        configuration = {**destination.configuration, **secrets}
        if "object_lock_days" in configuration:
            configuration["object_lock_days"] = locked
        driver = build_driver(destination.type, configuration, options)
        if destination.user_id is None and not plainly:
            known = CONFIGURATIONS[destination.type].model_validate(destination.configuration)
            driver = DiscreetDriver(driver, known.whereabouts())
        throughput = Throughput(self._slow_bytes, self._slow_seconds)
        tenants = destination.user_id is not None
        return LimitedDriver(driver, self._limits_of(destination), throughput, pace_counts=tenants)

    def _limits_of(self, destination: Destination) -> Limits:
        """Shared by all that runs; made anew when they were changed."""
        limits = self._limits.get(destination.id)
        if limits is None or limits.wanted != (destination.bandwidth, destination.transfers):
            limits = self._limits[destination.id] = Limits(destination.bandwidth, destination.transfers)
        return limits

    @staticmethod
    def configuration_of(destination: Destination, principal: Principal) -> dict[str, Any]:
        """What of it is this caller's business: where a shared destination lies is the operators'."""
        return destination.configuration if principal.operator or destination.user_id is not None else {}

    def secrets_of(self, destination: Destination) -> list[str]:
        """Which secrets are set."""
        return sorted(self._keys.cipher.open(destination.credentials))

    def recipients(self, destination: Destination) -> list[str]:
        """Whose keys open what is stored there; empty: it is not encrypted."""
        if not destination.encrypt:
            return []
        own = [self._keys.recipient] if destination.own_key else []
        return [*own, *destination.recipients]

    def shared_recipients(self, destinations: Sequence[Destination]) -> list[str]:
        """Whose keys open a backup that goes to all of them: what one demands holds everywhere. Raises InvalidRequest
        when two demand different keys."""
        wanted: list[str] = []
        for destination in destinations:
            found = self.recipients(destination)
            if wanted and found and set(found) != set(wanted):
                raise InvalidRequest(
                    f"{destination.name} is encrypted for other keys; make a backup of its own there", field="copies"
                )
            wanted = wanted or found
        return wanted

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

    async def choose_all(
        self, unit: Unit, principal: Principal, destination_id: int | None, further: Sequence[int]
    ) -> list[Destination]:
        """Where one backup goes, the primary first. Raises as `choose`, and InvalidRequest when one is named twice or
        they are not encrypted for the same keys."""
        found = [await self.choose(unit, principal, number) for number in (destination_id, *further)]
        if len({destination.id for destination in found}) < len(found):
            raise InvalidRequest("A destination is named twice", field="copies")
        if len({(destination.type, _place(destination)) for destination in found}) < len(found):
            raise InvalidRequest("Two of these destinations are the same place", field="copies")
        self.shared_recipients(found)
        return found

    async def create(self, unit: Unit, principal: Principal, body: DestinationIn) -> Destination:
        self._allow(principal, body.type)
        repository = DestinationRepository(unit.session)
        other = await repository.by_name(body.name)
        if other is not None:
            raise Conflict(_taken(principal, body.name, other.user_id), field="name")
        destination = Destination(type=body.type)
        await self._apply(repository, destination, body, principal)
        repository.add(destination)
        await repository.flush()
        await self._begin(unit, destination)
        return destination

    async def _begin(self, unit: Unit, destination: Destination) -> None:
        """Make and mark a folder of this machine at once; elsewhere the first use does, which may have to wait."""
        if destination.type != "local":
            return
        await unit.release()
        try:
            async with self.reading(destination, plainly=True) as driver:
                await self._marking.prepare(destination, driver, accept_missing=False)
        except LiberuError as error:  # a test of the destination says so again
            log.warning("Destination %s is not prepared: %s", destination.id, error.message)

    async def prepare(self, unit: Unit, principal: Principal, destination_id: int, body: PrepareIn) -> Destination:
        """Say that where a destination leads now is its place. Raises ConsentRequired, StorageError."""
        destination = await self.own(unit, principal, destination_id)
        await unit.release()
        async with self.reading(destination, plainly=True) as driver:
            await self._marking.prepare(destination, driver, accept_missing=body.accept_missing_backups)
        return destination

    async def update(self, unit: Unit, principal: Principal, destination_id: int, body: DestinationIn) -> Destination:
        """Secrets that are left out stay, but only while the place is the same: another one must not get them."""
        destination = await self.own(unit, principal, destination_id)
        repository = DestinationRepository(unit.session)
        if body.type != destination.type:
            raise InvalidRequest("A destination's type cannot change; make another one", field="type")
        other = await repository.by_name(body.name)
        if other is not None and other.id != destination_id:
            raise Conflict(_taken(principal, body.name, other.user_id), field="name")
        if destination.is_default and not body.is_default:
            raise DestinationProtected("Make another destination the default one instead", field="is_default")
        moved = self._moved(destination, body.configuration)
        if moved and await repository.has_backups(destination_id):
            raise DestinationProtected("A destination that has backups cannot move", field="configuration")
        await self._apply(repository, destination, body, principal)
        if moved:
            destination.prepared_at = None
        await repository.flush()
        if moved:
            await self._begin(unit, destination)
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
        """Write, read back, compare, list and delete a small object, but only where the destination is prepared.
        Reports a failure instead of raising it."""
        destination = await self.own(unit, principal, destination_id)
        await unit.release()
        # Shortly locked, where backups are: a bucket without Object Lock is to be noticed now.
        locked = None if lock_days(destination) is None else 1
        passed: list[str] = []
        try:
            async with self._guarded(destination, locked, plainly=True) as driver:
                await driver.confirm()
                passed.append("prepared")
                async for step in driver.checks():
                    passed.append(step)
                history = await driver.keeps_history()  # known since the deletion
                possible = await driver.connections()
        except LiberuError as error:
            name = "prepared" if isinstance(error, DestinationNotPrepared) else STEPS[max(len(passed) - 1, 0)]
            failed = Check(name=name, passed=False, message=error.message)
            return ConnectionTest(connected=False, checks=[*_passed(passed), failed], message=error.message)
        works = "The destination works"
        if destination.configuration.get("ssl") == "none":
            works += ", but password and data can be read on the way: use FTPS or SFTP where the server has them"
        if history is None:
            works += (
                ", but whether it keeps old versions cannot be seen: allow s3:GetBucketVersioning and "
                "s3:ListBucketVersions, or what is deleted may go on taking space"
            )
        checks = _passed(passed)
        if possible is not None:
            checks.append(Check(name="connections", passed=True, message=_told(*possible)))
        return ConnectionTest(connected=True, checks=checks, message=works)

    async def usage(self, unit: Unit, principal: Principal, destination_id: int) -> Usage:
        """Count what lies at a destination. Raises StorageError."""
        destination = await self.own(unit, principal, destination_id)
        await unit.release()
        async with self._guarded(destination, plainly=True) as driver:
            found = await counted(driver, self._keys.installation)
            await driver.confirm()  # it may have gone away meanwhile
            return found

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
        return _place(destination) != wanted.place()

    async def _apply(
        self, repository: DestinationRepository, destination: Destination, body: DestinationIn, principal: Principal
    ) -> None:
        for recipient in body.recipients:
            parse_recipient(recipient)
        if body.encrypt and not body.own_key and not body.recipients:
            raise InvalidRequest("Without own_key at least one recipient is needed", field="recipients")
        if body.is_default:
            principal.require_operator("The default destination")
        owner = body.user_id if principal.operator else principal.user_id
        self._check_address(body.configuration, owner)
        if owner is not None and body.bandwidth is not None and body.bandwidth < self._slow_bytes:
            raise InvalidRequest(
                f"A user's destination must be allowed at least {human_size(self._slow_bytes)} a second",
                field="bandwidth",
            )
        first = principal.operator and await repository.default() is None
        if (body.is_default or first) and not destination.is_default:
            await repository.clear_default()
        self._configure(destination, body.configuration)
        destination.name, destination.description = body.name, body.description
        destination.user_id = owner
        destination.is_active = body.is_active
        destination.is_default = body.is_default or first
        destination.bandwidth, destination.transfers = body.bandwidth, body.transfers
        destination.proof = body.proof
        destination.operations = body.operations
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

    def _guard(self, user_id: int | None) -> AddressGuard:
        """A tenant's destination must not lead to this machine, nor into networks that only we are in."""
        return self._operators if user_id is None else self._tenants

    def _check_address(self, configuration: Configuration, user_id: int | None) -> None:
        """An address is refused at once; a name is looked up when it is connected to. Raises AddressForbidden,
        InvalidRequest for what is no host."""
        try:
            host = configuration.reached()
            if host is not None:
                self._guard(user_id).check_host(host)
        except ValueError as error:
            raise InvalidRequest(f"The host {error}", field="configuration") from error


def _taken(principal: Principal, name: str, owner: int | None) -> str:
    if principal.operator or owner == principal.user_id:
        return f"A destination named {name} exists already"
    return f"The name {name} is taken by somebody else: choose another one"


def _place(destination: Destination) -> tuple[Any, ...]:
    return CONFIGURATIONS[destination.type].model_validate(destination.configuration).place()


def _told(possible: int, wanted: int) -> str:
    """Of connections at once."""
    if possible >= wanted:
        return f"{possible} at once, as many as are ever used"
    return f"The server allows {possible} at once, {wanted} would be used: the rest waits its turn"


def _passed(names: list[str]) -> list[Check]:
    return [Check(name=name, passed=True) for name in names]

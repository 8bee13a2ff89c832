"""Composition root: builds everything from the settings, for the service and for the CLI."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from app.api.container import Container
from app.api.limits import RateLimiter
from app.archives.compression import Compressor
from app.data_folder import locked, private
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.repositories.executors import InstallationRepository
from app.db.repositories.security import TokenRepository
from app.db.schema import is_at, newest
from app.db.session import Database
from app.deployments.registry import DeploymentRegistry
from app.deployments.secret_files import remove_old
from app.deployments.site import HelperImage
from app.errors import InvalidRequest, KeyMaterialInvalid
from app.jobs.background import BackgroundTask
from app.jobs.backup import BackupJob
from app.jobs.bulk_restore import BulkRestoreJob
from app.jobs.cleanup import CleanupJob
from app.jobs.courier import Courier
from app.jobs.creating import Creating
from app.jobs.engine import JobEngine
from app.jobs.housekeeper import Housekeeper
from app.jobs.imports import ImportJob
from app.jobs.proof import Prover
from app.jobs.restore import RestoreJob
from app.jobs.restoring import Restoring
from app.jobs.runner import Job, OperationRunner
from app.jobs.scan import ScanJob
from app.jobs.scheduler import Scheduler
from app.jobs.sweep import SweepJob
from app.jobs.tidy import Tidier, TidyJob
from app.jobs.verify import VerifyJob
from app.notifications.registry import MessengerRegistry
from app.schemas.destinations import LocalDestinationIn
from app.schemas.operations import TokenIn
from app.security.jwt import JwtVerifier
from app.security.keys import KeyRing, load_or_create
from app.security.tokens import Principal
from app.services.audit import AuditService
from app.services.backups import BackupService
from app.services.bulk_restores import BulkRestoreService
from app.services.components import ComponentFactory
from app.services.deployments import DeploymentService
from app.services.destinations import DestinationService
from app.services.domains import DomainService
from app.services.downloads import DownloadService
from app.services.events import EventService
from app.services.imports import ImportService, ImportSources
from app.services.marking import Marking
from app.services.metrics import MetricsService
from app.services.new_databases import NewDatabases
from app.services.notices import Notices
from app.services.notifications import NotificationService
from app.services.operations import OperationService
from app.services.quotas import QuotaService
from app.services.remains import RemainsService
from app.services.removal import Removal
from app.services.room import Room
from app.services.schedules import ScheduleService
from app.services.sealing import SealingService
from app.services.seeds import seeds
from app.services.tokens import TokenService
from app.services.unit import Unit
from app.services.upkeep import UpkeepService
from app.settings import HelperSettings, Settings
from app.storage.config import LocalConfiguration

log = logging.getLogger(__name__)
_SERVICE = Principal(0, None, frozenset({"*"}))
_STARTING = 0x1BACC0B
_MIGRATIONS = Path(__file__).parent.parent / "migrations"


@dataclass(frozen=True, slots=True)
class Application:
    """`first_token`: the admin token, only at the first start; show it once."""

    container: Container
    keys: KeyRing
    first_token: str | None


def migrate(settings: Settings) -> None:
    """Bring the database to the newest schema. Blocking."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("sqlalchemy.url", settings.database_url.replace("%", "%%"))
    command.upgrade(config, "head")


@asynccontextmanager
async def starting(settings: Settings) -> AsyncGenerator[None, None]:
    """One process at a time makes keys, tables and the first token; the others wait (PostgreSQL's advisory lock)."""
    if not settings.replicated:
        yield
        return

    def lock() -> psycopg.Connection:
        url = settings.database_url.replace("postgresql+asyncpg", "postgresql")
        connection = psycopg.connect(url, autocommit=True)
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":  # it would give bytes, not text
            connection.close()
            raise InvalidRequest(
                f"The state database {connection.info.dbname} has the encoding SQL_ASCII, in which text has no "
                "meaning. Make another one (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0) and name it in "
                "LIBERU_DATABASE__URL"
            )
        connection.execute("SELECT pg_advisory_lock(%s)", (_STARTING,))
        return connection

    connection = await asyncio.to_thread(lock)
    try:
        yield
    finally:
        await asyncio.to_thread(connection.close)


@asynccontextmanager
async def application(settings: Settings) -> AsyncGenerator[Application, None]:
    """Everything, started; stopped at the end."""
    await asyncio.to_thread(remove_old)
    if not settings.replicated or settings.data.exists():
        await asyncio.to_thread(private, settings.data, settings.own_databases)
    with nullcontext() if settings.replicated else locked(settings.data):
        async with starting(settings):
            keys = await asyncio.to_thread(load_or_create, settings.keys_folder, settings.master_keys)
            database = Database(settings.database_url)
            if not await is_at(database, await asyncio.to_thread(newest, _MIGRATIONS)):
                await asyncio.to_thread(migrate, settings)
            await _same_installation(database, keys, settings)
            await SealingService(database, keys.cipher).check()
            made = compose(settings, keys, database)
            first_token = await _first_start(made.container, settings)
            await made.engine.start(made.runner, made.parents, settings.quotas.operations)
        if settings.jobs.role != "api":
            for task in made.tasks:
                task.start()
        try:
            yield Application(made.container, keys, first_token)
        finally:
            await asyncio.gather(*(task.stop() for task in made.tasks))
            await made.engine.stop(settings.server.grace_seconds / 2)
            await made.deployments.close()
            await database.close()


@dataclass(frozen=True, slots=True)
class Composition:
    """`parents`: types of operations that start others. `tasks`: what every worker does besides."""

    container: Container
    engine: JobEngine
    runner: OperationRunner
    parents: set[str]
    deployments: DeploymentRegistry
    tasks: list[BackgroundTask]


def helper_image(helper: HelperSettings) -> HelperImage | None:
    if helper.image is None:
        return None
    return HelperImage(helper.image, helper.service_account, helper.cpu, helper.memory)


def compose(settings: Settings, keys: KeyRing, database: Database) -> Composition:
    """Every collaborator, given to whoever needs it."""
    compressor = Compressor(settings.archives.level)

    async def pin(destination_id: int, found: dict[str, Any]) -> None:
        async with database.transaction() as session:
            await DestinationRepository(session).remember(destination_id, found)

    marking = Marking(database, keys, compressor)
    destinations = DestinationService(keys, compressor, settings.storage, pin, marking)

    removal = Removal(database, destinations)

    async def pin_server(domain_id: int, found: dict[str, Any]) -> None:
        async with database.transaction() as session:
            await DomainRepository(session).remember(domain_id, found)

    where = settings.deployments
    deployments = DeploymentRegistry(
        where.docker_url,
        where.kubeconfig,
        where.rollout_seconds,
        where.silence_seconds,
        helper_image(where.helper),
        keys.installation,
    )
    components = ComponentFactory(deployments, settings.sites, keys.cipher, pin_server, settings.jobs.server)
    room = Room(None if settings.replicated else settings.data, settings.jobs.data_reserve_bytes)
    engine = JobEngine(settings.engine_url, database, settings.jobs, room.waiting, replicated=settings.replicated)
    operations = OperationService(engine)
    new_databases = NewDatabases(operations, keys.cipher)
    creating = Creating(database, new_databases)
    restoring = Restoring(database, components, keys, destinations.opened, settings.restores, creating)
    restores = RestoreJob(database, components, destinations, keys, restoring, creating, settings.jobs)
    domains = DomainService(keys.cipher, settings.sites, helpers=where.helper.image is not None)
    sources = ImportSources(database, destinations, settings.imports, settings.data.absolute() / "imports")
    leaves: dict[str, Job] = {
        "backup": BackupJob(
            database, components, destinations, keys, restoring, Prover(database, keys, settings.proof), settings.jobs
        ),
        "restore": restores,
        "import": ImportJob(
            database, components, destinations, keys, restoring, domains, sources, settings.imports, settings.jobs
        ),
        "verify": VerifyJob(database, destinations),
        "cleanup": CleanupJob(database, destinations, removal),
        "scan": ScanJob(database, destinations),
        "sweep": SweepJob(database, destinations, keys.installation),
        "tidy": TidyJob(restoring),
    }
    parents: dict[str, Job] = {"bulk_restore": BulkRestoreJob(database, engine, restores, settings.jobs.concurrency)}
    notices = Notices()
    audit = AuditService(keys.audit_key)
    messengers = MessengerRegistry(settings.notifications)
    runner = OperationRunner(database, leaves | parents, settings.jobs.max_attempts, notices, audit)
    quotas = QuotaService(settings.quotas)
    backups = BackupService(domains, destinations, operations, quotas, keys.cipher, removal, new_databases)
    overdue_after = timedelta(hours=settings.schedules.overdue_hours)
    schedules = ScheduleService(domains, destinations, backups, operations, notices, overdue_after)
    upkeep = UpkeepService(destinations, operations)
    container = Container(
        database=database,
        audit=audit,
        jwt=JwtVerifier(settings.jwt),
        limiter=RateLimiter(settings.server),
        domains=domains,
        remains=RemainsService(domains),
        deployments=DeploymentService(domains, components),
        destinations=destinations,
        upkeep=upkeep,
        backups=backups,
        bulk_restores=BulkRestoreService(backups, operations),
        downloads=DownloadService(backups, destinations, keys),
        events=EventService(database, settings.server),
        imports=ImportService(sources, destinations, operations, settings.imports),
        metrics=MetricsService(room),
        new_databases=new_databases,
        notifications=NotificationService(messengers, keys.cipher, notices),
        operations=operations,
        quotas=quotas,
        room=room,
        schedules=schedules,
        tokens=TokenService(other_way_in=settings.jwt.issuer is not None),
    )
    scheduler = Scheduler(database, schedules, settings.schedules.tick_seconds, settings.schedules.overdue_seconds)
    told = settings.notifications
    courier = Courier(database, messengers, keys.cipher, told.seconds, told.timeout_seconds)
    housekeeper = Housekeeper(
        database,
        destinations,
        upkeep,
        sources,
        notices,
        engine.forget,
        removal,
        audit,
        settings.audit.days,
        settings.housekeeping,
        told,
        elsewhere=settings.jobs.server is not None,
    )
    tidier = Tidier(database, upkeep, settings.restores.tidy_seconds)
    tasks = [scheduler, courier, housekeeper, tidier]
    return Composition(container, engine, runner, set(parents), deployments, tasks)


async def _same_installation(database: Database, keys: KeyRing, settings: Settings) -> None:
    """Raises KeyMaterialInvalid when the keys are not those that this database was begun with."""
    async with database.transaction() as session:
        known = await InstallationRepository(session).known_or(keys.installation)
    if known != keys.installation:
        raise KeyMaterialInvalid(
            f"The keys in {settings.keys_folder} belong to another installation than the database: put its own back "
            "(from the recovery kit), and give every process the same ones (LIBERU_KEYS)"
        )


async def _first_start(container: Container, settings: Settings) -> str | None:
    """Make what a new installation needs: an admin token and a default destination in the data folder."""
    async with container.database.transaction() as session:
        unit = Unit(session)
        if await DestinationRepository(session).default() is None:
            path = settings.data.absolute() / "backups"
            local = LocalDestinationIn(name="Local", configuration=LocalConfiguration(path=path), is_default=True)
            await container.destinations.create(unit, _SERVICE, local)
        if await TokenRepository(session).any():
            return None
        found, problems = seeds(os.environ)
        for body in found:
            await container.destinations.create(unit, _SERVICE, body)
        for problem in problems:
            log.warning(problem)
        _, text = await container.tokens.create(unit, None, TokenIn(name="admin", abilities=["*"]))
        return text

"""What bootstrap builds for the API."""

from __future__ import annotations

from dataclasses import dataclass

from app.api.limits import RateLimiter
from app.db.session import Database
from app.security.jwt import JwtVerifier
from app.services.audit import AuditService
from app.services.backups import BackupService
from app.services.bulk_restores import BulkRestoreService
from app.services.deployments import DeploymentService
from app.services.destinations import DestinationService
from app.services.domains import DomainService
from app.services.downloads import DownloadService
from app.services.events import EventService
from app.services.imports import ImportService
from app.services.metrics import MetricsService
from app.services.new_databases import NewDatabases
from app.services.notifications import NotificationService
from app.services.operations import OperationService
from app.services.quotas import QuotaService
from app.services.remains import RemainsService
from app.services.room import Room
from app.services.schedules import ScheduleService
from app.services.tokens import TokenService
from app.services.upkeep import UpkeepService


@dataclass(frozen=True, slots=True)
class Container:
    database: Database
    audit: AuditService
    jwt: JwtVerifier
    limiter: RateLimiter
    domains: DomainService
    remains: RemainsService
    deployments: DeploymentService
    destinations: DestinationService
    upkeep: UpkeepService
    backups: BackupService
    bulk_restores: BulkRestoreService
    downloads: DownloadService
    events: EventService
    imports: ImportService
    metrics: MetricsService
    new_databases: NewDatabases
    notifications: NotificationService
    operations: OperationService
    quotas: QuotaService
    room: Room
    schedules: ScheduleService
    tokens: TokenService

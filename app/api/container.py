"""What bootstrap builds for the API."""

from __future__ import annotations

from dataclasses import dataclass

from app.db.session import Database
from app.services.backups import BackupService
from app.services.cleanups import CleanupService
from app.services.destinations import DestinationService
from app.services.domains import DomainService
from app.services.operations import OperationService
from app.services.tokens import TokenService


@dataclass(frozen=True, slots=True)
class Container:
    database: Database
    domains: DomainService
    destinations: DestinationService
    cleanups: CleanupService
    backups: BackupService
    operations: OperationService
    tokens: TokenService

"""All models, so that metadata is complete when one is imported."""

from app.db.models.backup import Backup, BackupComponent, BackupCopy
from app.db.models.destination import Destination
from app.db.models.domain import Domain, DomainDatabase, DomainMailbox, OccupiedPlace
from app.db.models.executor import ExecutorLease, Installation
from app.db.models.notification import NotificationChannel, NotificationDelivery
from app.db.models.operation import IdempotencyKey, Operation
from app.db.models.quota import TenantQuota
from app.db.models.remains import ProofTurn, RestoreRemains
from app.db.models.schedule import BackupSchedule, ScheduleRun
from app.db.models.security import ApiToken, AuditEvent, AuditHead, SseTicket

__all__ = [
    "ApiToken",
    "AuditEvent",
    "AuditHead",
    "Backup",
    "BackupComponent",
    "BackupCopy",
    "BackupSchedule",
    "Destination",
    "Domain",
    "DomainDatabase",
    "DomainMailbox",
    "ExecutorLease",
    "IdempotencyKey",
    "Installation",
    "NotificationChannel",
    "NotificationDelivery",
    "OccupiedPlace",
    "Operation",
    "ProofTurn",
    "RestoreRemains",
    "ScheduleRun",
    "SseTicket",
    "TenantQuota",
]

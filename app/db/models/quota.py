"""What a tenant may use."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, now


class TenantQuota(Base):
    """Of one user; null: as the settings say. `stored_bytes`: of all backups, at all destinations.
    `on_demand_backups`: kept at a time, those of schedules apart. `operations`: running at once."""

    __tablename__ = "tenant_quotas"

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    on_demand_backups: Mapped[int | None]
    operations: Mapped[int | None]
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

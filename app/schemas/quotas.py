"""Quotas as the API takes and gives them."""

from __future__ import annotations

from pydantic import Field

from app.schemas.common import Input, Model


class QuotaIn(Input):
    """Null: as the settings say. `stored_bytes`: of all backups with all their copies; what is there stays when it is
    set lower. `on_demand_backups`: kept at a time, those of schedules apart. `operations`: running at once."""

    stored_bytes: int | None = Field(None, ge=0, le=1 << 62)
    on_demand_backups: int | None = Field(None, ge=0, le=1 << 30)
    operations: int | None = Field(None, ge=1, le=10_000)


class QuotaUse(Model):
    stored_bytes: int
    on_demand_backups: int
    operations: int


class QuotaOut(Model):
    """`quota`: what was set for the user; `limits`: what applies, null: no limit; `used`: with what is expected of
    backups that have begun or wait."""

    user_id: int
    quota: QuotaIn
    limits: QuotaIn
    used: QuotaUse

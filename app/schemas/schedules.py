"""Schedules as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from app.schemas.backups import BackupType, CopyIn
from app.schemas.common import Id, Input, Model, Proof
from app.schemas.destinations import Retention


class ScheduleRetention(Retention):
    """What is kept of the schedule's own backups: those of the last `days`, and what the other rules say."""

    days: int = Field(30, ge=1, le=3650)


class ScheduleIn(Input):
    """Either `frequency` (weekly is on Sunday, monthly on the first) with `schedule_time` (HH:MM or HH:MM:SS), or
    `cron` (five fields); both in `timezone`. `domain_id` null: all domains of `user_id`, or of the token's user.
    `jitter_seconds`: starts are spread over so many seconds after the time, the same for each run of a schedule.
    `copies`: further destinations. `retention` null: as the destinations have it; either is applied after a completed
    backup only. `proof`: of databases, `load`: what was stored is loaded into a scratch database; `list`: what the
    dump holds is listed; null: as the domain has it, else the destination, else the installation."""

    name: str = Field(min_length=1, max_length=255)
    domain_id: Id | None = None
    user_id: Id | None = None
    type: BackupType = "full"
    frequency: Literal["daily", "weekly", "monthly"] | None = None
    schedule_time: str = Field("02:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$")
    cron: str | None = Field(None, max_length=255)
    timezone: str = Field("UTC", max_length=64)
    destination_id: Id | None = None
    copies: list[CopyIn] = Field([], max_length=4)
    retention: ScheduleRetention | None = None
    jitter_seconds: int = Field(1800, ge=0, le=43_200)
    proof: Proof | None = None
    is_active: bool = True

    @model_validator(mode="after")
    def one_of_both(self) -> Self:
        if (self.frequency is None) == (self.cron is None):
            raise ValueError("name either a frequency or a cron expression")
        return self


class ScheduleOut(Model):
    """`next_runs`: the next five times due; a run starts up to `jitter_seconds` later. `last_good_at`: when the
    last run was due whose backups were all completed. `overdue`: what was due long enough ago has not become good."""

    id: int
    name: str
    domain_id: int | None
    user_id: int | None
    type: BackupType
    frequency: str | None
    schedule_time: str | None
    cron: str
    timezone: str
    destination_id: int | None
    copies: list[CopyIn]
    retention: ScheduleRetention | None
    jitter_seconds: int
    proof: Proof | None
    is_active: bool
    next_runs: list[datetime]
    last_run_at: datetime | None
    last_good_at: datetime | None
    overdue: bool
    created_at: datetime


class SkippedDomain(Model):
    domain_id: int
    code: str
    message: str


class ScheduleRunOut(Model):
    """`coalesced`: times that were due before this one, while nothing ran, and that it stands for. `operations`: how
    many of its backups stand how. `outcome`: null until all of them have ended; completed: all good and none skipped.
    `skipped`: domains of which no backup was started."""

    id: int
    due_at: datetime
    started_at: datetime
    by_hand: bool
    coalesced: int
    operations: dict[str, int]
    outcome: str | None
    skipped: list[SkippedDomain]

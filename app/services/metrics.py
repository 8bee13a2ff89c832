"""What a monitoring system asks for, in Prometheus' text format. Numbers and ids, no names: it needs no token."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app.db.base import now
from app.db.repositories.metrics import MetricsRepository
from app.services.room import Room
from app.services.unit import Unit

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class MetricsService:
    """Asked of the database for each scrape, so that every process tells the same of all; `process_*` are its own."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def text(self, unit: Unit) -> bytes:
        found = MetricsRepository(unit.session)
        moment = now()
        oldest, free = await found.oldest_waiting(), await self._room.free()
        families: list[Metric] = [
            _family("operations", "Operations that wait or run", ("type", "status"), await found.active()),
            _family("operations_ended_day", "Operations that ended within a day", ("type", "status"),
                    await found.ended(moment)),
            _family("operation_oldest_waiting_seconds", "Age of the operation that waits longest", (),
                    [((), 0.0 if oldest is None else (moment - oldest).total_seconds())]),
            _family("schedule_overdue", "1 when the schedule has no good backup as young as it should have",
                    ("schedule_id",), await found.overdue()),
            _family("schedule_last_good_timestamp_seconds", "When the schedule's last good run was due",
                    ("schedule_id",), await found.last_good()),
            _family("notifications", "Notifications that wait, or were given up", ("status",),
                    await found.notifications()),
            _family("backup_databases_day", "Databases backed up within a day, by what is proved of their dumps",
                    ("proved",), await found.proved(moment)),
            _family("destination_free_bytes", "As last looked at", ("destination_id",), await found.free_bytes()),
            _family("data_free_bytes", "Left in the data folder, where the databases are", (),
                    [] if free is None else [((), float(free))]),
            _family("workers", "Processes that run operations (PostgreSQL)", ("server",), await found.workers()),
        ]  # fmt: skip
        registry = CollectorRegistry()
        registry.register(_Collected(families))
        ProcessCollector(registry=registry)
        return generate_latest(registry)


def _family(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[object, ...], float]]
) -> Metric:
    family = GaugeMetricFamily(f"liberu_{name}", text, labels=labels)
    for key, value in values:
        family.add_metric([str(part) for part in key], value)
    return family

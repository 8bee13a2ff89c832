"""Parts of a restore that go into each of several volumes: one after the other, each as a part of its own.

Each place has what a part has: a journal, a staging folder, a step, an end. Which places there are is journalled
before the first is touched, and stays so, whatever pods come later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.archives.manifest import ComponentDetails
from app.components.base import PLACE
from app.db.models import Operation
from app.errors import TargetMissing
from app.jobs.context import JobContext, Result
from app.services.components import REPLICA, VOLUME, DomainSite, replica_of

Journal = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PartAt:
    """A part of a backup at one place. `key`: of its journal, its step, its staging and its progress. `replica`: of
    one of several places, what its journal has of it; `volume`: what that is known by."""

    part: ComponentDetails
    key: int
    replica: Mapping[str, Any] | None = None
    volume: str | None = None

    @property
    def told(self) -> Result:
        """In results."""
        return {} if self.replica is None else {"key": self.key, PLACE: self.replica["place"]}

    @property
    def pod(self) -> str | None:
        return None if self.replica is None else str(self.replica["place"]["pod"])


async def parts_at(
    site: DomainSite,
    domain_id: int,
    wanted: Sequence[ComponentDetails],
    every: Sequence[ComponentDetails],
    operation: Operation,
    context: JobContext,
) -> list[PartAt]:
    """Where each of the `wanted` parts of a backup goes: what an earlier attempt has journalled, else found now and,
    unless it is a dry run, journalled. `every`: all that the backup has. Raises DeploymentError."""
    keys = _free(every, operation)
    found: list[PartAt] = []
    new = False
    for part in wanted:
        journal = operation.journal.get(str(part.number), {})
        if REPLICA not in journal and not journal.get("plan"):  # one that has begun goes on as it did
            new = await _find(site, domain_id, part, keys, operation) or new
        found += _known(part, operation) or [PartAt(part, part.number)]
    if new and not operation.request["dry_run"]:
        total = sum(one.part.plain_size for one in found)
        await context.record(journal=operation.journal, bytes_total=total)
    return found


async def _find(
    site: DomainSite, domain_id: int, part: ComponentDetails, keys: Iterator[int], operation: Operation
) -> bool:
    """Whether a part goes into each of several places; then they are in the journal. The first has the part's number
    as its key."""
    replicas = await site.replicas(part.kind)
    if replicas is None:
        return False
    about = {"kind": part.kind, "name": part.name, "domain_id": domain_id}
    for count, served in enumerate(replicas.there):
        key = next(keys) if count else part.number
        absent = () if count else replicas.absent
        operation.journal[str(key)] = {**about, **replica_of(part.number, served, absent)}
    return True


def _known(part: ComponentDetails, operation: Operation) -> list[PartAt]:
    mine = [
        (int(key), journal) for key, journal in operation.journal.items()
        if REPLICA in journal and journal[REPLICA]["number"] == part.number
    ]  # fmt: skip
    return [PartAt(part, key, journal[REPLICA], journal[VOLUME]) for key, journal in sorted(mine)]


def _free(every: Sequence[ComponentDetails], operation: Operation) -> Iterator[int]:
    """Keys that no part of the backup has."""
    used = max([*(part.number for part in every), *map(int, operation.journal)])
    while True:
        used += 1
        yield used


def all_done(operation: Operation, done: Mapping[int, Result]) -> bool:
    """Whether everything that was asked for is, as far as the journal tells, in each of its places."""
    keys = set(operation.request["components"])
    for key, journal in operation.journal.items():
        if (replica := journal.get(REPLICA)) is not None:
            keys.add(int(key))
            if replica["absent"]:
                return False
    return bool(done) and keys <= set(done)


def absent(parts: Sequence[PartAt]) -> list[Result]:
    """Places that were not there when it began, each as a part that has failed."""
    return [
        {
            "number": one.part.number, "kind": one.part.kind, "name": one.part.name, "key": None, PLACE: None,
            "status": "failed", "code": TargetMissing.code, "message": f"not restored into {told}", "warnings": [],
        }
        for one in parts if one.replica is not None
        for told in one.replica["absent"]
    ]  # fmt: skip

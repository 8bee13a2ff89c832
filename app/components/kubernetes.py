"""The objects of a domain's namespace; a restore only makes what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from app.archives.streams import ByteStream
from app.components.base import MAX_NAMED, Component, Dump, Report, RestoreContext, Settled
from app.components.kubernetes_archive import MAX_BYTES, MAX_OBJECT, MAX_OBJECTS, documents, ending, member
from app.components.kubernetes_rules import kept, kind_of, malformed, moved, refused, stripped, title
from app.deployments.kubernetes_objects import KINDS, Document, NamespaceObjects, ObjectKind
from app.errors import DeploymentError, DeploymentRefused, ObjectsRefused

_NAMED = 20
#: Of a part's journal: how many were made, or about to be, the first _NAMED of them; and that all are there.
_APPLIED, _FIRST, _WHOLE = "applied", "first", "whole"
_RBAC = ("Role", "RoleBinding")
#: Every namespace has it from the beginning.
_DEFAULT = "ServiceAccount default"


class _Full(Exception):
    """No more objects fit into the archive."""


@dataclass(slots=True)
class _Plan:
    """What a restore would do: `wanted` is not there, `same` is, `refused` is or cannot be; `left`: what it would not
    make, and why."""

    wanted: list[Document] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


class KubernetesComponent(Component):
    """`sealed`: what is dumped will be encrypted; Secrets are left out otherwise."""

    kind = "kubernetes"

    def __init__(self, objects: NamespaceObjects, *, sealed: bool = False) -> None:
        self._objects = objects
        self._sealed = sealed

    async def dump(self) -> Dump:
        report = Report(facts={"namespace": self._objects.namespace, "objects": {}})
        return Dump(self._archive(report), report)

    async def _archive(self, report: Report) -> AsyncGenerator[bytes, None]:
        """What may not be read is named, and so is what is too much. Raises DeploymentRefused when nothing may be."""
        size, denied = 0, 0
        counts: dict[str, int] = report.facts["objects"]
        try:
            for kind in KINDS:
                try:
                    async with aclosing(self._objects.pages(kind)) as pages:
                        async for page in pages:
                            for one in await asyncio.to_thread(self._members, kind, page, report):
                                if sum(counts.values()) == MAX_OBJECTS or size + len(one) > MAX_BYTES - MAX_OBJECT:
                                    raise _Full
                                counts[kind.name] = counts.get(kind.name, 0) + 1
                                size += len(one)
                                yield one
                except DeploymentError as error:
                    denied += isinstance(error, DeploymentRefused)
                    if error.retryable or denied == len(KINDS):
                        raise
                    report.lack("objects_not_read", error.message, kind.plural)
        except _Full:
            most = f"{MAX_OBJECTS} objects, and {MAX_BYTES - MAX_OBJECT >> 20} MiB"
            report.lack("objects_limit", f"from here on nothing is backed up: {most} are the most", kind.plural)
        yield ending(size)

    def _members(self, kind: ObjectKind, page: Sequence[Document], report: Report) -> list[bytes]:
        made = []
        for found in filter(kept, page):
            if kind.name == "Secret" and not self._sealed:
                why = "not backed up: the destination does not encrypt, and what needs it will not start"
                report.lack("secret_not_backed_up", why, found["metadata"]["name"])
                continue
            one = member(stripped(found))
            if len(one) > MAX_OBJECT:
                report.lack("object_too_large", f"larger than {MAX_OBJECT >> 20} MiB", title(found))
            else:
                made.append(one)
        return made

    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        """Raises ObjectsRefused, DeploymentError."""
        if plain_size > MAX_BYTES:
            raise ObjectsRefused(f"The archive of objects is larger than {MAX_BYTES >> 20} MiB: it is none of ours")
        await self._objects.versions("apps")
        return "apply"

    async def rehearse(self, source: ByteStream, context: RestoreContext) -> Report:
        plan = await self._planned(source)
        told: dict[str, Any] = {
            "created": [title(document) for document in plan.wanted], "same": plan.same, "refused": plan.refused,
            "left_out": [f"{name}: {why}" for name, why in plan.left],
        }  # fmt: skip
        return Report(facts={"objects": {key: named[:MAX_NAMED] for key, named in told.items()}})

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """All are tried before the first is made. What is there is never changed: there is nothing to keep of it.
        Raises ObjectsRefused when anything speaks against it; what stops it half-way is told with names, and the same
        restore goes on there."""
        plan = await self._planned(source)
        if plan.refused:
            more = f"; and {len(plan.refused) - _NAMED} more" if len(plan.refused) > _NAMED else ""
            raise ObjectsRefused(f"Nothing was changed. {'; '.join(plan.refused[:_NAMED])}{more}")
        report = Report(facts={"mode": "apply", "namespace": self._objects.namespace})
        for name, why in plan.left:
            report.lack("object_not_restored", why, name)
        names = [title(document) for document in plan.wanted]
        for done, document in enumerate(plan.wanted):
            await context.confirm()
            await context.record({_APPLIED: done + 1, _FIRST: names[: min(done + 1, _NAMED)]})
            try:
                await self._objects.apply(kind_of(document), document, trial=False)
            except DeploymentError as error:
                error.message = f"{error.message}; made: {_few(names[:done])}; not made: {_few(names[done:])}"
                raise
        await context.record({_APPLIED: len(names), _WHOLE: True})
        report.facts |= {"created": len(names), "same": len(plan.same)}
        return report

    async def settle(self, context: RestoreContext) -> Settled:
        """Nothing that was live was changed; what was made stays, for another restore to go on with."""
        if context.journal.get(_WHOLE):
            return Settled("done")
        if made := context.journal.get(_APPLIED):
            first = ", ".join(context.journal[_FIRST])
            return Settled("lost", f"{made} objects were made, the last one maybe not, and stay: {first}")
        return Settled()

    async def _planned(self, source: ByteStream) -> _Plan:
        """Tries all; changes nothing. Raises ObjectsRefused for an archive that is none of ours."""
        found, plan = await self._read(source), _Plan()
        roles, lost = set(), set()
        for document in sorted(found, key=lambda one: KINDS.index(kind_of(one))):
            if (why := refused(document)) is not None:
                plan.left.append((title(document), why))
                continue
            wanted = moved(document, self._objects.namespace)
            if wanted["apiVersion"] not in await self._objects.versions(kind_of(wanted).group):
                plan.refused.append(f"{title(wanted)}: the cluster does not serve {wanted['apiVersion']}")
            elif wanted["kind"] == "RoleBinding" and wanted["roleRef"].get("name") in lost:
                plan.left.append((title(wanted), "its Role is not made"))
            elif wanted["kind"] == "RoleBinding" and wanted["roleRef"].get("name") in roles:
                await self._compare(plan, wanted, None)  # it cannot be tried before its Role is there
            else:
                await self._try(plan, wanted)
            if wanted["kind"] == "Role" and plan.wanted and plan.wanted[-1] is wanted:
                roles.add(wanted["metadata"]["name"])
            elif plan.left and plan.left[-1][0] == title(wanted):
                lost.add(wanted["metadata"]["name"])
        return plan

    async def _try(self, plan: _Plan, wanted: Document) -> None:
        try:
            absent, would_be = await self._objects.apply(kind_of(wanted), wanted, trial=True)
        except DeploymentError as error:
            if error.retryable:
                raise
            beyond = wanted["kind"] in _RBAC and isinstance(error, DeploymentRefused)  # more than this service has
            if beyond or title(wanted) == _DEFAULT:
                plan.left.append((title(wanted), error.message))
            else:
                plan.refused.append(error.message)
            return
        if absent:
            plan.wanted.append(wanted)
        else:
            await self._compare(plan, wanted, would_be)

    async def _compare(self, plan: _Plan, wanted: Document, would_be: Document | None) -> None:
        """With what is there; `would_be`: after it was applied, as the cluster says."""
        live = await self._objects.get(kind_of(wanted), wanted["apiVersion"], wanted["metadata"]["name"])
        if live is None or (title(wanted) == _DEFAULT and not kept(live)):
            plan.wanted.append(wanted)
        elif stripped(live) == (wanted if would_be is None else stripped(would_be)):
            plan.same.append(title(wanted))
        elif title(wanted) == _DEFAULT:
            plan.left.append((title(wanted), "every namespace has one, and this one's is another"))
        else:
            plan.refused.append(f"{title(wanted)} is there with other content: it is not changed; remove it first")

    async def _read(self, source: ByteStream) -> list[Document]:
        chunks, size = [], 0
        async with aclosing(source):
            async for chunk in source:
                size += len(chunk)
                if size > MAX_BYTES:
                    raise ObjectsRefused(f"The archive of objects is larger than {MAX_BYTES >> 20} MiB")
                chunks.append(chunk)
        return await asyncio.to_thread(_checked, b"".join(chunks))


def _checked(archive: bytes) -> list[Document]:
    found: dict[tuple[str, str], Document] = {}
    for document in documents(archive):
        if (why := malformed(document)) is not None:
            raise ObjectsRefused(f"The archive of objects is none of ours: {why}")
        key = document["kind"], document["metadata"]["name"]
        if key in found:
            raise ObjectsRefused(f"The archive of objects has {title(document)} twice")
        found[key] = document
    return list(found.values())


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (", ".join(names[:_NAMED]) or "nothing") + more

"""A copy of a claim as it is at one moment: a VolumeSnapshot of it, and a claim that is made from that.

Source: snapshot.storage.k8s.io/v1 (VolumeSnapshot: `spec.source`, `status.readyToUse`, `restoreSize`, `error`, which
goes again when a later try succeeds), PersistentVolumeClaim's `dataSource`, DeleteOptions' `preconditions`.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from kubernetes_asyncio import client
from kubernetes_asyncio.client.exceptions import ApiException

from app.deployments.kubernetes import Cluster, mapped
from app.deployments.kubernetes_pods import DOMAIN, MANAGED
from app.errors import DeploymentError, DeploymentRefused, TargetMissing

GROUP, VERSION, PLURAL = "snapshot.storage.k8s.io", "v1", "volumesnapshots"
_CLAIMS = "persistentvolumeclaims"
#: Of each snapshot, claim and pod that we make; whose it is tell the annotations.
LABEL = "liberu.snapshot"
_NAME = re.compile(r"liberu-snapshot-[0-9a-f]{12}(-[0-9]{1,2})?")
_INSTALLATION = "liberu.installation"
_TIMEOUT = 30
_POLL_SECONDS = 1.0
#: Until what was deleted is gone: a claim waits for its pod, a snapshot for the claims that are made of it.
_GONE_SECONDS = 30.0
#: Of objects that are looked at.
_MOST = 100
#: Of what the cluster says of an error.
_TOLD = 300
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][0-9]{1,2})?)([KMGTPE]i|[kMGTPE])?")


def new_name() -> str:
    return f"liberu-snapshot-{secrets.token_hex(6)}"


class Copies:
    """What one installation makes of a domain's claims in a namespace, and takes away again."""

    def __init__(self, cluster: Cluster, namespace: str, domain: str, installation: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.labels = {LABEL: "1", **MANAGED}
        self.annotations = {DOMAIN: domain, _INSTALLATION: installation}

    async def make(self, name: str, claim: str, seconds: float, snapshot_class: str | None = None) -> None:
        """A snapshot and a claim of that, both called `name`. The claim may be bound only when a pod uses it.
        `snapshot_class`: None is the driver's default. Raises TargetMissing when the snapshot is not ready within so
        many seconds, DeploymentError. Remove it either way."""
        core, objects = await self._cluster.core(), client.CustomObjectsApi(await self._cluster.api())
        source: Any = await self.claim(claim)
        metadata = {"name": name, "labels": self.labels, "annotations": self.annotations}
        chosen = {} if snapshot_class is None else {"volumeSnapshotClassName": snapshot_class}
        document = {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": "VolumeSnapshot", "metadata": metadata,
            "spec": {"source": {"persistentVolumeClaimName": claim}, **chosen},
        }  # fmt: skip
        with mapped(f"Making a snapshot of {self._namespace}/{claim}", f"create on {PLURAL}"), _quota():
            await objects.create_namespaced_custom_object(
                GROUP, VERSION, self._namespace, PLURAL, document, _request_timeout=_TIMEOUT
            )
        size = await self._ready(objects, name, claim, seconds)
        made: Any = {
            "metadata": metadata,
            "spec": {
                "accessModes": source.spec.access_modes,
                "storageClassName": source.spec.storage_class_name,
                "volumeMode": source.spec.volume_mode,
                "dataSource": {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": name},
                "resources": {"requests": {"storage": _larger(source.spec.resources.requests["storage"], size)}},
            },
        }
        with mapped(f"Making a claim of snapshot {name}", f"create on {_CLAIMS}"), _quota():
            await core.create_namespaced_persistent_volume_claim(self._namespace, made, _request_timeout=_TIMEOUT)

    async def claim(self, name: str) -> Any:
        """Raises DeploymentError."""
        core = await self._cluster.core()
        with mapped(f"Reading claim {self._namespace}/{name}", f"get on {_CLAIMS}"):
            return await core.read_namespaced_persistent_volume_claim(
                name, self._namespace, _request_timeout=_TIMEOUT
            )

    async def _ready(self, objects: Any, name: str, claim: str, seconds: float) -> str | None:
        """What size a claim of it must have at least."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            with mapped(f"Looking at snapshot {name}", f"get on {PLURAL}"):
                found = await objects.get_namespaced_custom_object(
                    GROUP, VERSION, self._namespace, PLURAL, name, _request_timeout=_TIMEOUT
                )
            status = found.get("status") or {}
            if status.get("readyToUse") is True:
                size: str | None = status.get("restoreSize")
                return size
            if clock() >= end:
                told = str((status.get("error") or {}).get("message") or "no error is told")[:_TOLD]
                raise TargetMissing(
                    f"The snapshot of {self._namespace}/{claim} is not ready after {seconds:g} seconds: {told}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def left(self) -> list[str]:
        """Remove what whoever made it did not, since it was killed: nobody else works at the domain now. Returns what
        stays, for people. Raises DeploymentError when it cannot be looked for."""
        found = {name for plural in ("pods", _CLAIMS, PLURAL) for name in await self._ours(plural)}
        return await self.remove(found) if found else []

    async def remove(self, names: Collection[str]) -> list[str]:
        """Only what is ours; what a pod mounts stays for as long as that, so pods go first. Returns what stays, for
        people. Raises nothing."""
        stays = []
        for plural in ("pods", _CLAIMS, PLURAL):
            told: dict[str, str] = {}
            try:
                await self._removed(plural, names, told)
            except DeploymentError as error:
                told = dict.fromkeys(names, error.message)
            stays += [f"{plural} {self._namespace}/{name}: {why}" for name, why in told.items()]
        return stays

    async def _removed(self, plural: str, names: Collection[str], told: dict[str, str]) -> None:
        """`told` gets those that stay, and why."""
        clock = asyncio.get_running_loop().time
        end, asked, refused = clock() + _GONE_SECONDS, set[str](), dict[str, str]()
        while True:
            there = {name: uid for name, uid in (await self._ours(plural)).items() if name in names}
            told.clear()
            told.update({name: refused.get(name, "it is still being deleted") for name in there})
            new = there.keys() - asked
            if not new and (clock() >= end or not there.keys() - refused.keys()):
                return
            for name in new:
                asked.add(name)
                try:
                    await self._delete(plural, name, there[name])
                except TargetMissing:
                    pass
                except DeploymentError as error:
                    refused[name] = error.message
            if not new:
                await asyncio.sleep(_POLL_SECONDS)

    async def _ours(self, plural: str) -> dict[str, str]:
        """By name its uid. Raises DeploymentError."""
        core, api = await self._cluster.core(), await self._cluster.api()
        wanted: dict[str, Any] = {"label_selector": f"{LABEL}=1", "limit": _MOST, "_request_timeout": _TIMEOUT}
        with mapped(f"Listing {plural} of {self._namespace}", f"list on {plural}"):
            found: Any
            if plural == PLURAL:
                objects = client.CustomObjectsApi(api)
                found = await objects.list_namespaced_custom_object(GROUP, VERSION, self._namespace, PLURAL, **wanted)
            elif plural == "pods":
                found = api.sanitize_for_serialization(await core.list_namespaced_pod(self._namespace, **wanted))
            else:
                found = api.sanitize_for_serialization(
                    await core.list_namespaced_persistent_volume_claim(self._namespace, **wanted)
                )
        every = [item["metadata"] for item in found["items"]]
        return {one["name"]: one["uid"] for one in every if _NAME.fullmatch(one["name"]) and self._is_ours(one)}

    def _is_ours(self, metadata: dict[str, Any]) -> bool:
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        return labels.get(LABEL) == "1" and all(
            annotations.get(key) == self.annotations[key] for key in self.annotations
        )

    async def _delete(self, plural: str, name: str, uid: str) -> None:
        """Not one that took its name."""
        core, objects = await self._cluster.core(), client.CustomObjectsApi(await self._cluster.api())
        now = {"gracePeriodSeconds": 0} if plural == "pods" else {}
        body: Any = {"preconditions": {"uid": uid}, **now}
        at: dict[str, Any] = {"namespace": self._namespace, "name": name, "body": body, "_request_timeout": _TIMEOUT}
        with mapped(f"Removing {name}", f"delete on {plural}"):
            if plural == PLURAL:
                await objects.delete_namespaced_custom_object(group=GROUP, version=VERSION, plural=PLURAL, **at)
            elif plural == "pods":
                await core.delete_namespaced_pod(**at)
            else:
                await core.delete_namespaced_persistent_volume_claim(**at)


@contextmanager
def _quota() -> Iterator[None]:
    """A quota that is used up is a 403, too; its message says so."""
    try:
        yield
    except ApiException as error:
        told = str(error.body)
        if error.status == 403 and "exceeded quota" in told:
            raise DeploymentRefused(f"The namespace's quota is used up: {told[:_TOLD]}") from error
        raise


def _larger(asked: str, restored: str | None) -> str:
    return asked if restored is None or _bytes(asked) >= _bytes(restored) else restored


def _bytes(quantity: str) -> Decimal:
    """As Kubernetes writes them: 1Gi, 500M, 1e9. Raises TargetMissing."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise TargetMissing(f"The size {quantity[:40]!r} is none that Kubernetes writes")
    suffix = found[2] or ""
    unit = 1024 if suffix.endswith("i") else 1000
    power = " kMGTPE".index(suffix[0].replace("K", "k")) if suffix else 0
    return Decimal(found[1]) * Decimal(unit) ** power

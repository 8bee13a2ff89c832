"""A copy of a claim as it is at one moment: a VolumeSnapshot of it, and a claim that is made from that.

Source: snapshot.storage.k8s.io/v1 (VolumeSnapshot: `spec.source`, `status.readyToUse`, `restoreSize`, `error`) and
PersistentVolumeClaim's `dataSource`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

from kubernetes_asyncio import client
from kubernetes_asyncio.client.exceptions import ApiException

from app.deployments.kubernetes import Cluster, mapped
from app.errors import DeploymentError, DeploymentRefused, TargetMissing

log = logging.getLogger(__name__)
GROUP, VERSION, PLURAL = "snapshot.storage.k8s.io", "v1", "volumesnapshots"
#: Of each snapshot and claim that we make; whose it is tells the annotation.
LABEL = "liberu.snapshot"
PREFIX = "liberu-snapshot-"
_DOMAIN = "liberu.domain"
_TIMEOUT = 30
_POLL_SECONDS = 1.0
#: Of what the cluster says of an error.
_TOLD = 300
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][0-9]{1,2})?)([KMGTPE]i|[kMGTPE])?")


class ClaimCopy:
    """One snapshot and its claim, both called `name`, from `make` to `remove`. `key`: of the operation and the claim,
    in letters that Kubernetes allows in names."""

    def __init__(self, cluster: Cluster, namespace: str, claim: str, domain: str, key: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._claim = claim
        self._domain = domain
        self.name = f"{PREFIX}{key}"

    async def make(self, seconds: float, snapshot_class: str | None = None) -> None:
        """The claim may be bound only when a pod uses it. `snapshot_class`: None is the driver's default. Raises
        TargetMissing when the snapshot is not ready within so many seconds or fails, DeploymentError. Remove it
        either way."""
        core, objects = await self._cluster.core(), client.CustomObjectsApi(await self._cluster.api())
        with mapped(f"Reading claim {self._namespace}/{self._claim}", "get on persistentvolumeclaims"):
            claim: Any = await core.read_namespaced_persistent_volume_claim(
                self._claim, self._namespace, _request_timeout=_TIMEOUT
            )
        chosen = {} if snapshot_class is None else {"volumeSnapshotClassName": snapshot_class}
        document = {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": "VolumeSnapshot", "metadata": self._metadata(),
            "spec": {"source": {"persistentVolumeClaimName": self._claim}, **chosen},
        }  # fmt: skip
        with mapped(f"Making a snapshot of {self._namespace}/{self._claim}", f"create on {PLURAL}"), _quota():
            await objects.create_namespaced_custom_object(
                GROUP, VERSION, self._namespace, PLURAL, document, _request_timeout=_TIMEOUT
            )
        size = await self._ready(objects, seconds)
        made: Any = {
            "metadata": self._metadata(),
            "spec": {
                "accessModes": claim.spec.access_modes,
                "storageClassName": claim.spec.storage_class_name,
                "volumeMode": claim.spec.volume_mode,
                "dataSource": {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": self.name},
                "resources": {"requests": {"storage": _larger(claim.spec.resources.requests["storage"], size)}},
            },
        }
        with mapped(f"Making a claim of {self.name}", "create on persistentvolumeclaims"), _quota():
            await core.create_namespaced_persistent_volume_claim(self._namespace, made, _request_timeout=_TIMEOUT)

    async def _ready(self, objects: Any, seconds: float) -> str | None:
        """What size a claim of it must have at least."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            with mapped(f"Looking at snapshot {self.name}", f"get on {PLURAL}"):
                found = await objects.get_namespaced_custom_object(
                    GROUP, VERSION, self._namespace, PLURAL, self.name, _request_timeout=_TIMEOUT
                )
            status = found.get("status") or {}
            if status.get("readyToUse") is True:
                size: str | None = status.get("restoreSize")
                return size
            if status.get("error"):
                told = str(status["error"].get("message") or "it does not say why")[:_TOLD]
                raise TargetMissing(f"The snapshot of {self._namespace}/{self._claim} failed: {told}")
            if clock() >= end:
                raise TargetMissing(
                    f"The snapshot of {self._namespace}/{self._claim} is not ready after {seconds:g} seconds"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def remove(self) -> None:
        """Only what is ours. Raises nothing."""
        core, objects = await self._cluster.core(), client.CustomObjectsApi(await self._cluster.api())
        at: dict[str, Any] = {"namespace": self._namespace, "name": self.name, "_request_timeout": _TIMEOUT}
        custom: dict[str, Any] = {"group": GROUP, "version": VERSION, "plural": PLURAL, **at}
        try:
            with suppress(TargetMissing), mapped(f"Removing claim {self.name}", "delete on persistentvolumeclaims"):
                claim = await core.read_namespaced_persistent_volume_claim(**at)
                if self._is_ours(claim.metadata.labels, claim.metadata.annotations):
                    await core.delete_namespaced_persistent_volume_claim(**at)
            with suppress(TargetMissing), mapped(f"Removing snapshot {self.name}", f"delete on {PLURAL}"):
                found: Any = await objects.get_namespaced_custom_object(**custom)
                if self._is_ours(found["metadata"].get("labels"), found["metadata"].get("annotations")):
                    await objects.delete_namespaced_custom_object(**custom)
        except DeploymentError as error:
            log.warning("The snapshot %s/%s stays: %s", self._namespace, self.name, error.message)

    def _is_ours(self, labels: Any, annotations: Any) -> bool:
        return (labels or {}).get(LABEL) == "1" and (annotations or {}).get(_DOMAIN) == self._domain

    def _metadata(self) -> dict[str, Any]:
        labels = {LABEL: "1", "app.kubernetes.io/managed-by": "liberu-backup"}
        return {"name": self.name, "labels": labels, "annotations": {_DOMAIN: self._domain}}


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

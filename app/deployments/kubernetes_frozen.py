"""Files and mail as they were at one moment: snapshots of the claims that lie there, mounted by a pod of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from kubernetes_asyncio import client

from app.deployments.kubernetes import Cluster, KubernetesDeployment, mapped
from app.deployments.kubernetes_helper import Helper
from app.deployments.kubernetes_pods import mount_at
from app.deployments.kubernetes_snapshot import GROUP, VERSION, Copies, new_name
from app.deployments.site import HelperImage, Role, Waits
from app.errors import DeploymentRefused, TargetMissing

#: Storage in a cloud copies a snapshot away before it is ready.
_SNAPSHOT_SECONDS = 600
_HELPER_SECONDS = 300
_TIMEOUT = 30
_DEFAULT = "snapshot.storage.kubernetes.io/is-default-class"
_DRIVERS = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
_CLASSES = "volumesnapshotclasses"
#: Of claims below one folder.
_MOST_CLAIMS = 10


class FrozenFiles:
    """Of one domain while an operation runs. `image`: of the pods; None: none is set."""

    def __init__(
        self,
        cluster: Cluster,
        domain: str,
        installation: str,
        image: HelperImage | None,
        configuration: Mapping[str, Any],
    ) -> None:
        self._cluster = cluster
        self._domain = domain
        self._installation = installation
        self._image = image
        self._class: str | None = configuration.get("snapshot_class")
        self._seconds: int = configuration.get("snapshot_seconds") or _SNAPSHOT_SECONDS
        self._made: dict[Role, tuple[Copies, list[str]]] = {}
        self._looked: set[str] = set()  # namespaces
        self._looking = asyncio.Lock()

    async def open(
        self, role: Role, pod: Any, container: str, path: str | None, waits: Waits
    ) -> tuple[KubernetesDeployment, str]:
        """Where they are read, and the name of the pod that mounts them. Raises DeploymentError, which says why they
        cannot be. Close it either way."""
        image, claims = await self.check(pod, container, path)
        copies = self._copies(pod)
        await self._remove_left(copies, pod.metadata.namespace)
        name = new_name()
        names = {claim: f"{name}-{number}" for number, claim in enumerate(claims)}
        self._made[role] = copies, [name, *names.values()]
        try:
            for claim, copy in names.items():
                waits(role, f"a snapshot of claim {claim}")
                await copies.make(copy, claim, self._seconds, self._class)
            waits(role, "a pod that mounts the snapshots")
            helper = Helper(self._cluster, image, self._domain, pod, container)
            helper.mounts_copies(name, names, copies.labels, copies.annotations)
            return await helper.start(_HELPER_SECONDS), name
        finally:
            waits(role, None)

    async def check(self, pod: Any, container: str, path: str | None) -> tuple[HelperImage, list[str]]:
        """Whether it can be done, as far as the cluster tells: the pods' image, and which claims are copied. Raises
        DeploymentError, which says why not."""
        if self._image is None:
            raise DeploymentRefused(
                "snapshots are read by a pod of the service's: set LIBERU_DEPLOYMENTS__HELPER__IMAGE"
            )
        claims = claims_below(pod, container, path)
        objects = client.CustomObjectsApi(await self._cluster.api())
        with mapped(f"Looking for {GROUP}/{VERSION} (VolumeSnapshots) in the cluster", "get on /apis"):
            await objects.get_api_resources(GROUP, VERSION, _request_timeout=_TIMEOUT)
        try:
            with mapped("Listing VolumeSnapshotClasses", f"list on {_CLASSES}"):
                found: Any = await objects.list_cluster_custom_object(
                    GROUP, VERSION, _CLASSES, _request_timeout=_TIMEOUT
                )
        except DeploymentRefused:  # who may not ask learns it from the snapshot
            return self._image, claims
        for claim in claims:
            self._require_class(found["items"], await self._copies(pod).claim(claim))
        return self._image, claims

    def _require_class(self, classes: list[Any], claim: Any) -> None:
        said = claim.metadata.annotations or {}
        driver = next((said[key] for key in _DRIVERS if key in said), None)
        fit = [one for one in classes if driver in (None, one["driver"])]
        if self._class is None:
            fit = [one for one in fit if (one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"]
            wanted = f"default VolumeSnapshotClass (annotation {_DEFAULT})"
        else:
            fit = [one for one in fit if one["metadata"]["name"] == self._class]
            wanted = f"VolumeSnapshotClass {self._class}"
        if not fit:
            storage = f"driver {driver}" if driver else "any driver"
            raise TargetMissing(f"there is no {wanted} of {storage}, for claim {claim.metadata.name}")

    def _copies(self, pod: Any) -> Copies:
        return Copies(self._cluster, pod.metadata.namespace, self._domain, self._installation)

    async def _remove_left(self, copies: Copies, namespace: str) -> None:
        """Of earlier operations, once: nothing is made beside what would stay for ever. Raises DeploymentError."""
        async with self._looking:
            if namespace in self._looked:
                return
            if stays := await copies.left():
                raise DeploymentRefused(f"what an earlier backup has made is still there: {'; '.join(stays)[:500]}")
            self._looked.add(namespace)

    async def close(self, role: Role) -> list[str]:
        """Returns what stays, for people. Raises nothing."""
        if role not in self._made:
            return []
        copies, names = self._made[role]
        stays = await copies.remove(names)
        del self._made[role]  # not before: whoever is cancelled here closes it once more
        return stays

    async def close_all(self) -> list[str]:
        return [stays for role in list(self._made) for stays in await self.close(role)]


def claims_below(pod: Any, container: str, path: str | None) -> list[str]:
    """The claims that a folder lies on, and those that are mounted below it. Raises TargetMissing where anything else
    is: a snapshot would lack it."""
    if path is None:
        raise TargetMissing("there is no folder")
    folder, found = PurePosixPath(path), list[str]()
    spec = pod.spec
    there = next(one for one in [*spec.containers, *(spec.init_containers or [])] if one.name == container)
    around = mount_at(there, path)
    if around is None:
        raise TargetMissing(f"{path} is in no volume")
    for mount in [around, *(one for one in there.volume_mounts if folder in PurePosixPath(one.mount_path).parents)]:
        at = PurePosixPath(mount.mount_path)
        volume = next((one for one in spec.volumes or [] if one.name == mount.name), None)
        if volume is None or volume.persistent_volume_claim is None:
            raise TargetMissing(f"{at} is no claim")
        if mount.sub_path_expr:
            raise TargetMissing(f"which folder of its claim {at} is, is told by an expression (subPathExpr)")
        if volume.persistent_volume_claim.claim_name not in found:
            found.append(volume.persistent_volume_claim.claim_name)
    if len(found) > _MOST_CLAIMS:
        raise TargetMissing(f"{len(found)} claims are below {path}, more than {_MOST_CLAIMS}")
    return found

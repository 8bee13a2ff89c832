"""What a pod says of itself: its state, its containers, what lies at a path, whether its database is the primary.

Pure: of pods as the API lists them (core/v1 Pod).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from app.errors import TargetAmbiguous, TargetMissing

#: Containers of service meshes; without a native sidecar they stand beside the site's own.
_SIDECARS = {"istio-proxy", "linkerd-proxy"}
_MAIN = "kubectl.kubernetes.io/default-container"
#: What each pod has for itself, and what ends with it.
_OWN = {"empty_dir", "ephemeral", "csi"}
#: Labels by which an operator says what a pod's database is, and the primary's value:
#: CloudNativePG (docs: labels_annotations; `role` in older versions, and in Patroni, whose leader was `master` before
#: 4.0), Percona for MySQL (k8sps-docs: annotations, only on the primary), mariadb-operator (`mariadb` controllers'
#: tests), Zalando's (Spilo, README of its chart), Crunchy's and Percona's for PostgreSQL (`master` before Patroni
#: 4.0), Oracle's MySQL operator (update_membership_status), KubeDB and KubeBlocks (their runbooks).
_PRIMARY = {
    "cnpg.io/instanceRole": {"primary"},
    "mysql.percona.com/primary": {"true"},
    "k8s.mariadb.com/role": {"primary"},
    "spilo-role": {"master", "primary"},
    "postgres-operator.crunchydata.com/role": {"master", "primary"},
    "mysql.oracle.com/cluster-role": {"primary"},
    "kubedb.com/role": {"primary"},
    "kubeblocks.io/role": {"primary", "leader"},
}
#: Labels that other programs use for other things: Patroni, Bitnami's charts (its PostgreSQL's replicas are `read`).
_ROLES = ("role", "app.kubernetes.io/component")
_LEADERS = {"primary", "master"}
_FOLLOWERS = {"replica", "secondary", "read", "slave", "standby", "standby_leader", "sync_standby"}
#: A label or an annotation: whose a pod is, or another object.
DOMAIN = "liberu.domain"
#: Labels of what we have made.
MANAGED = {"app.kubernetes.io/managed-by": "liberu-backup"}


@dataclass(frozen=True, slots=True)
class Volume:
    """What lies at a path. `key`: the same for all pods that see the same files there. `lasting`: it is there when
    the pod is gone."""

    kind: str
    name: str
    path: str
    key: str
    lasting: bool

    def __str__(self) -> str:
        if self.kind == "image":
            return "no volume"
        told = f"{self.kind} {self.name}"
        return f"{told}, {self.path}" if self.path else told

    @property
    def mortal(self) -> bool:
        """Whether it is sure to be gone when the pod is: not what an expression has made of a claim's path."""
        return self.kind in _OWN or self.kind == "image"

    @property
    def facts(self) -> dict[str, str]:
        """For people and programs."""
        return {"kind": self.kind, "name": self.name, "path": self.path}


@dataclass(frozen=True, slots=True)
class Served:
    """A pod that serves a role, in which container (None: it is not clear), from which volume (None: there is no
    path)."""

    pod: Any
    container: str | None
    volume: Volume | None

    @property
    def name(self) -> str:
        return str(self.pod.metadata.name)

    @property
    def key(self) -> str | None:
        return None if self.volume is None else self.volume.key

    @property
    def lasting(self) -> bool:
        return self.volume is not None and self.volume.lasting

    def __str__(self) -> str:
        return self.name if self.volume is None else f"{self.name} ({self.volume})"


def ready(pod: Any) -> bool:
    return any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])


def ends(pod: Any) -> bool:
    """Whether it is being deleted: it stays Running and Ready for as long as it has been given."""
    return pod.metadata.deletion_timestamp is not None


def ended(pod: Any) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def usable(pod: Any) -> bool:
    return pod.status.phase == "Running" and not ends(pod)


def state(pod: Any) -> str:
    """For people."""
    told = str(pod.status.phase)
    if ends(pod):
        told = "being deleted"
    elif pod.status.phase == "Running" and not ready(pod):
        told = "Running and not ready"
    states = [item.state for item in pod.status.container_statuses or [] if item.state]
    reasons = sorted({pod.status.reason, *(item.waiting.reason for item in states if item.waiting)} - {None})
    return f"{pod.metadata.name} is {told}" + (f" ({', '.join(reasons)})" if reasons else "")


def stateful_set(pod: Any) -> str | None:
    """The one that a pod belongs to: its pods have their own volumes and names, and come one after the other."""
    owners = pod.metadata.owner_references or []
    return next((str(owner.name) for owner in owners if owner.kind == "StatefulSet"), None)


def container_of(pod: Any, wanted: str | None, known: Sequence[str], path: str | None) -> str:
    """The named one; else of those that mount what `path` lies on, or of all, one that is `known`, the only one, the
    one that kubectl takes, or the only one that is no mesh's. Raises TargetMissing, TargetAmbiguous."""
    containers = list(pod.spec.containers)
    names = [container.name for container in containers]
    if wanted:
        every = [*names, *(item.name for item in pod.spec.init_containers or [] if item.restart_policy == "Always")]
        if wanted not in every:
            raise TargetMissing(f"Pod {pod.metadata.name} has no container {wanted}; it has {', '.join(names)}")
        return wanted
    mounting = [container for container in containers if mount_at(container, path)]
    writing = [container for container in mounting if not mount_at(container, path).read_only]
    names = [container.name for container in writing or mounting or containers]
    main = (pod.metadata.annotations or {}).get(_MAIN)
    for found in (
        [name for name in known if name in names],
        names if len(names) == 1 else [],
        [name for name in names if name == main],
        own if len(own := [name for name in names if name not in _SIDECARS]) == 1 else [],
    ):
        if found:
            return str(found[0])
    raise TargetAmbiguous(f"Pod {pod.metadata.name} has several containers ({', '.join(names)}): name one")


def mount_at(container: Any, path: str | None) -> Any:
    """The mount that a path lies on: the deepest of those around it. None: the image's own layer."""
    if path is None:
        return None
    around = [item for item in container.volume_mounts or [] if PurePosixPath(path).is_relative_to(item.mount_path)]
    return max(around, key=lambda item: len(PurePosixPath(item.mount_path).parts), default=None)


def volume_at(pod: Any, container: str | None, path: str) -> Volume:
    """What a path of a container lies on, or of any that mounts something there. `path` of the volume: where on it,
    below `subPath` of the mount."""
    every = [*pod.spec.containers, *(pod.spec.init_containers or [])]
    mounts = [mount_at(item, path) for item in every if container in (None, item.name)]
    mount = next(filter(None, mounts), None)
    volume = next((item for item in pod.spec.volumes or [] if mount and item.name == mount.name), None)
    pod_itself = f"pod {pod.metadata.uid or pod.metadata.name}"
    if mount is None or volume is None:
        return Volume("image", "", path, f"image {pod_itself}", lasting=False)
    below = PurePosixPath(path).relative_to(mount.mount_path)
    inside = str(PurePosixPath(mount.sub_path or mount.sub_path_expr or "", below))
    inside = "" if inside == "." else inside
    source: dict[str, Any] = {
        name: value for name, value in volume.to_dict().items() if value is not None and name != "name"
    }
    kind = next(iter(source), "unknown")
    about = source.get(kind, {})
    if kind == "persistent_volume_claim":
        kind, name, key = "claim", about["claim_name"], f"claim {about['claim_name']}"
    elif kind == "host_path":  # of each node another one
        name = f"{about['path']} of node {pod.spec.node_name}"
        key = f"host_path {name}"
    elif kind in _OWN:
        name, key = volume.name, f"{kind} {volume.name} {pod_itself}"
    else:  # NFS and the like: what is mounted from the same place is the same
        name, key = volume.name, json.dumps({kind: about}, sort_keys=True, default=str)
    if mount.sub_path_expr:  # as $(POD_NAME): what it becomes is not told
        key = f"{key} {pod_itself}"
    lasting = kind not in _OWN and not mount.sub_path_expr
    return Volume(kind, name, inside, f"{key} {inside}".rstrip(), lasting)


def primary(pod: Any, wanted: str | None) -> bool | None:
    """Whether a pod's database is the primary by its labels; None: they do not tell. `wanted`: the primary's label,
    `key=value`."""
    labels = pod.metadata.labels or {}
    if wanted:
        key, _, value = wanted.partition("=")
        return bool(labels.get(key) == value)
    told = [labels[key].lower() in values for key, values in _PRIMARY.items() if key in labels]
    for value in (labels.get(key, "").lower() for key in _ROLES):
        if value in _LEADERS or value in _FOLLOWERS:
            told.append(value in _LEADERS)
    return all(told) if told else None


def primaries(pods: Collection[Any], wanted: str | None) -> list[Any]:
    """Those that may be the primary: said to be it, else not said to be a replica."""
    said = [pod for pod in pods if primary(pod, wanted)]
    return said or ([] if wanted else [pod for pod in pods if primary(pod, None) is None])

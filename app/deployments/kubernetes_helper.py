"""A pod of ours beside a site's: for images without sh or tar, whose volume it mounts on the same node."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from app.deployments.kubernetes import Cluster, KubernetesDeployment, mapped
from app.deployments.kubernetes_pods import DOMAIN, MANAGED, ended, ends, state
from app.deployments.site import HelperImage
from app.errors import DeploymentError, TargetMissing

log = logging.getLogger(__name__)
CONTAINER = "helper"
#: Of every helper; whose it is tells the annotation.
LABEL = "liberu.helper"
_TIMEOUT = 30
_POLL_SECONDS = 1.0
#: What no waiting helps against.
_HOPELESS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}
_LONGEST_SECONDS = 24 * 3600
#: It ends when nothing has run in it for ten minutes: a service that was killed removes nothing.
_WAIT = """
idle=0
while [ "$idle" -lt 6 ]; do
  sleep 100
  set -- /proc/[0-9]*
  idle=$((idle + 1))
  [ "$#" -eq 1 ] || idle=0
done
"""


class Helper:
    """One pod, from `start` to `remove`."""

    def __init__(self, cluster: Cluster, image: HelperImage, domain: str, beside: Any, container: str) -> None:
        self._cluster = cluster
        self._image = image
        self._domain = domain
        self._beside = beside
        self._container = container
        self._namespace = beside.metadata.namespace
        self.name = f"liberu-helper-{secrets.token_hex(6)}"
        self._labels = {LABEL: "1", **MANAGED}
        self._annotations = {DOMAIN: domain}
        self._copies: Mapping[str, str] | None = None

    def mounts_copies(
        self, name: str, copies: Mapping[str, str], labels: dict[str, str], annotations: dict[str, str]
    ) -> None:
        """Of claims, by the name of each, and those alone: on whichever node their volumes can be. Whoever gives it
        its name removes it, too."""
        self.name, self._copies, self._labels, self._annotations = name, copies, labels, annotations

    async def start(self, seconds: float) -> KubernetesDeployment:
        """Raises TargetMissing when it does not run within so many seconds, DeploymentError. Remove it either way."""
        if self._copies is None:
            await self._remove_old()
        core = await self._cluster.core()
        what = f"Making the helper pod {self._namespace}/{self.name}"
        with mapped(what, "create on pods"):
            document: Any = self._document((await self._cluster.api()).sanitize_for_serialization)
            await core.create_namespaced_pod(self._namespace, document, _request_timeout=_TIMEOUT)
        clock = asyncio.get_running_loop().time
        end, told = clock() + seconds, "it has not appeared"
        while True:
            pod = await self._cluster.pod(self._namespace, self.name)
            if pod is not None:
                told = state(pod)
                running = [item for item in pod.status.container_statuses or [] if item.state and item.state.running]
                if pod.status.phase == "Running" and running:
                    break
                waiting = {item.state.waiting.reason for item in pod.status.container_statuses or [] if _waits(item)}
                if ended(pod) or waiting & _HOPELESS:
                    raise TargetMissing(f"The helper pod for {self._domain} does not start: {told}")
            if clock() >= end:
                raise TargetMissing(
                    f"The helper pod for {self._domain} does not run after {seconds:g} seconds: {told}"
                )
            await asyncio.sleep(_POLL_SECONDS)
        deployment = KubernetesDeployment(self._cluster, self._namespace, self.name, CONTAINER)
        await deployment.prepare()
        return deployment

    async def remove(self) -> None:
        """Raises nothing: what stays ends by itself, and goes with the next one."""
        try:
            await self._delete(self.name)
        except DeploymentError as error:
            log.warning("The helper pod %s/%s stays: %s", self._namespace, self.name, error.message)

    async def _delete(self, name: str) -> None:
        core = await self._cluster.core()
        with suppress(TargetMissing), mapped(f"Removing the helper pod {self._namespace}/{name}", "delete on pods"):
            await core.delete_namespaced_pod(name, self._namespace, grace_period_seconds=0, _request_timeout=_TIMEOUT)

    async def _remove_old(self) -> None:
        """Of this domain: those that have ended, since whoever made them was killed."""
        core = await self._cluster.core()
        with mapped(f"Listing pods of {self._namespace}", "list on pods"):
            found = await core.list_namespaced_pod(
                self._namespace, label_selector=f"{LABEL}=1", _request_timeout=_TIMEOUT
            )
        for pod in found.items:
            if (pod.metadata.annotations or {}).get(DOMAIN) == self._domain and ended(pod) and not ends(pod):
                await self._delete(pod.metadata.name)

    def _document(self, plain: Callable[[Any], Any]) -> dict[str, Any]:
        """Its volumes lie where they lie in the site's container, and it runs as that does. The labels are not the
        site's: no Service and no selector finds it."""
        spec = self._beside.spec
        there = next(item for item in spec.containers if item.name == self._container)
        claims = {item.name for item in spec.volumes or [] if self._mounted(item)}
        mounts = [item for item in there.volume_mounts or [] if item.name in claims]
        used = {item.name for item in mounts}
        own = there.security_context
        security = {
            "allowPrivilegeEscalation": False,
            **({"runAsUser": own.run_as_user} if own and own.run_as_user is not None else {}),
            **({"runAsGroup": own.run_as_group} if own and own.run_as_group is not None else {}),
        }
        limits = {"cpu": self._image.cpu, "memory": self._image.memory}
        account = {"serviceAccountName": self._image.service_account} if self._image.service_account else {}
        return {
            "metadata": {
                "name": self.name,
                "labels": self._labels,
                "annotations": self._annotations,
            },
            "spec": {
                **account,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "activeDeadlineSeconds": _LONGEST_SECONDS,
                **({"nodeName": spec.node_name} if self._copies is None else {}),
                "tolerations": plain(spec.tolerations or []),
                "securityContext": self._security(plain(spec.security_context) or {}),
                "volumes": [self._volume(plain(item)) for item in spec.volumes or [] if item.name in used],
                "containers": [
                    {
                        "name": CONTAINER,
                        "image": self._image.image,
                        "command": ["sh", "-c", _WAIT],
                        "securityContext": security,
                        "resources": {"limits": limits, "requests": limits},
                        "volumeMounts": [{**plain(item), "readOnly": False} for item in mounts],
                    }
                ],
            },
        }

    def _mounted(self, volume: Any) -> bool:
        claim = volume.persistent_volume_claim
        return claim is not None and (self._copies is None or claim.claim_name in self._copies)

    def _volume(self, volume: dict[str, Any]) -> dict[str, Any]:
        if self._copies is None:
            return volume
        copy = self._copies[volume["persistentVolumeClaim"]["claimName"]]
        return {"name": volume["name"], "persistentVolumeClaim": {"claimName": copy}}

    def _security(self, found: dict[str, Any]) -> dict[str, Any]:
        """A copy has its groups already: they are not given anew to each file."""
        copied = self._copies is not None and "fsGroup" in found
        return {**found, "fsGroupChangePolicy": "OnRootMismatch"} if copied else found


def _waits(status: Any) -> bool:
    return status.state is not None and status.state.waiting is not None

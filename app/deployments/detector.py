"""What this service runs in, and where a domain runs: asked, not guessed, each answer with its reason."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.deployments.descriptors import open_folder
from app.deployments.site import DomainPlace
from app.errors import DeploymentError, DeploymentUnreachable, TargetAmbiguous, TargetMissing

if TYPE_CHECKING:
    from app.deployments.docker import Engine
    from app.deployments.kubernetes import Cluster

#: What a cloud's firmware calls itself in /sys/class/dmi/id.
_CLOUDS = {
    "amazon": "aws", "google": "gcp", "microsoft": "azure", "digitalocean": "digitalocean", "hetzner": "hetzner",
    "ovh": "ovh", "vultr": "vultr", "linode": "linode", "akamai": "linode", "scaleway": "scaleway",
}  # fmt: skip
_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Probe:
    """One kind of place, whether the domain is there, and why we think so. `unproven`: it may be there, or another
    one."""

    type: str
    found: bool
    reason: str
    unproven: bool = False


@dataclass(frozen=True, slots=True)
class Detection:
    """`type`: where the domain runs; None when nothing was found, or more than one place."""

    type: str | None
    reason: str
    probes: list[Probe] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chosen:
    type: str
    reason: str


class DeploymentDetector:
    """`engine` and `cluster` make the clients of the Docker engine at `docker_url` and of the cluster of `kubeconfig`
    when they are needed. `root`: of the file system this service sees; tests give another."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        docker_url: str,
        cluster: Callable[[], Cluster],
        kubeconfig: Path | None,
        root: Path = Path("/"),
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._kubeconfig = kubeconfig
        self._docker_url = docker_url
        self._root = root

    async def environment(self) -> dict[str, Any]:
        """What this service runs in; the panel's keys, and the reasons."""
        in_cluster = await asyncio.to_thread(self._in_cluster)
        in_docker = await asyncio.to_thread(self._in_container)
        if in_docker is None:
            in_docker = await self._engine_answers()
        mode, reason = "standalone", "neither a service account nor a container nor a Docker engine was found"
        if in_cluster is not None:
            mode, reason = "kubernetes", in_cluster
        elif in_docker is not None:
            mode, reason = "docker", in_docker
        return {
            "mode": mode,
            "reason": reason,
            "cloud_provider": await asyncio.to_thread(self._cloud),
            "is_kubernetes": mode == "kubernetes",
            "is_docker": mode == "docker",
            "is_standalone": mode == "standalone",
            "supports_auto_scaling": mode == "kubernetes",
        }

    def _in_cluster(self) -> str | None:
        if (self._root / "var/run/secrets/kubernetes.io/serviceaccount").is_dir():
            return "a Kubernetes service account is mounted"
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            return "KUBERNETES_SERVICE_HOST is set"
        return None

    def _in_container(self) -> str | None:
        if (self._root / ".dockerenv").exists():
            return "/.dockerenv is there"
        try:
            if "docker" in (self._root / "proc/1/cgroup").read_text():
                return "/proc/1/cgroup names docker"
        except OSError:
            return None
        return None

    async def _engine_answers(self) -> str | None:
        try:
            await self._containers()
        except DeploymentError:
            return None
        return f"a Docker engine answers at {self._docker_url}"

    def _cloud(self) -> str | None:
        for name in ("sys_vendor", "board_vendor", "chassis_vendor"):
            try:
                vendor = (self._root / "sys/class/dmi/id" / name).read_text().lower()
            except OSError:
                continue
            for word, cloud in _CLOUDS.items():
                if word in vendor:
                    return cloud
        return None

    async def _containers(self) -> Any:
        path = urlsplit(self._docker_url).path
        if path and not await asyncio.to_thread(Path(path).exists):  # the client need not even be imported
            raise DeploymentUnreachable(f"there is no Docker engine at {self._docker_url}")
        from app.deployments.docker_site import containers

        async with asyncio.timeout(_SECONDS):
            return await containers(self._engine())

    async def probe(self, place: DomainPlace) -> Detection:
        """Every kind of place is asked. Raises nothing: what cannot be asked is a reason."""
        wanted = place.configuration.get("type", "auto")
        if wanted != "auto":
            return Detection(wanted, "the domain's own setting")
        kubernetes, docker = await self._kubernetes(place), await self._docker(place)
        here = await asyncio.to_thread(self._standalone, place)
        if place.document_root is None and place.mail_path is None and not (docker.found or kubernetes.found):
            here = Probe("standalone", True, "it has no folder: its databases are reached from this machine")
        probes = [kubernetes, docker, here]
        found = [probe for probe in probes if probe.found]
        if len(found) == 1:
            return Detection(found[0].type, found[0].reason, probes)
        if not found and (unproven := [probe.reason for probe in probes if probe.unproven]):
            return Detection(None, unproven[0], probes)
        if not found and self._in_cluster() is None and self._in_container() is None:
            return Detection("standalone", f"this service runs on a plain machine, though {here.reason}", probes)
        if not found:
            return Detection(None, "the domain was found nowhere; set where it runs", probes)
        reasons = "; ".join(f"{probe.type}: {probe.reason}" for probe in found)
        return Detection(None, f"the domain could run in several places ({reasons}); set which", probes)

    async def detect(self, place: DomainPlace) -> Chosen:
        """Raises TargetMissing, TargetAmbiguous."""
        found = await self.probe(place)
        if found.type is not None:
            return Chosen(found.type, found.reason)
        message = f"{place.domain_name}: {found.reason}"
        if any(probe.found or probe.unproven for probe in found.probes):
            raise TargetAmbiguous(message)
        raise TargetMissing(f"{message}: " + "; ".join(f"{probe.type}: {probe.reason}" for probe in found.probes))

    async def _kubernetes(self, place: DomainPlace) -> Probe:
        if self._kubeconfig is None and self._in_cluster() is None:
            return Probe("kubernetes", False, "no kubeconfig is set, and this service runs in no cluster")
        from app.deployments.kubernetes_site import KubernetesSite

        site = KubernetesSite(self._cluster(), place.domain_name, place.configuration)
        try:
            async with asyncio.timeout(_SECONDS):
                pods = await site.pods("files")
        except TargetAmbiguous as error:
            return Probe("kubernetes", False, error.message, unproven=True)
        except (DeploymentError, TimeoutError) as error:
            return Probe("kubernetes", False, str(error) or "the cluster does not answer")
        if not pods:
            return Probe("kubernetes", False, "no pod matches the domain's namespace and selector")
        names = ", ".join(pod.metadata.name for pod in pods[:5])
        return Probe("kubernetes", True, f"pods that match: {names}")

    async def _docker(self, place: DomainPlace) -> Probe:
        try:
            listed = await self._containers()
        except (DeploymentError, TimeoutError) as error:
            return Probe("docker", False, str(error) or "the engine does not answer")
        from app.deployments.docker_site import matching

        matches = matching(listed, place.domain_name, place.configuration, "files")
        if not matches:
            return Probe("docker", False, f"none of {len(listed)} containers is the domain's")
        return Probe("docker", True, f"container {matches[0].name} is {matches[0].state}")

    def _standalone(self, place: DomainPlace) -> Probe:
        problem = "the domain has neither a document root nor a mail folder"
        for folder in (place.document_root, place.mail_path):
            if folder is None:
                continue
            try:
                os.close(open_folder(folder))
            except OSError as error:
                if _is_link(folder):  # where it leads is looked at when it is used
                    return Probe("standalone", True, f"{folder} is a symbolic link on this machine")
                problem = f"{folder} cannot be entered on this machine ({error.strerror})"
            else:
                return Probe("standalone", True, f"{folder} is on this machine")
        return Probe("standalone", False, problem)


def _is_link(path: str) -> bool:
    parent, _, name = path.rstrip("/").rpartition("/")
    try:
        folder = open_folder(parent or "/")
    except OSError:
        return False
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(folder)

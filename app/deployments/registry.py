"""From a domain's deployment setting to its place. Deployments, and their SDKs, are imported when used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.deployments.detector import DeploymentDetector
from app.deployments.site import DomainPlace, OneDeployment, Pin, Site
from app.deployments.standalone import StandaloneDeployment
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from app.deployments.docker import Engine
    from app.deployments.kubernetes import Cluster


class DeploymentRegistry:
    """`docker_url`: the engine of sites that run in containers, `kubeconfig`: the cluster of those in pods, None for
    the one that we run in; each is asked when it is needed. `silence`: seconds without any sign of life from a
    command elsewhere after which it is given up."""

    def __init__(self, docker_url: str, kubeconfig: Path | None = None, silence: float = 120) -> None:
        self._docker_url = docker_url
        self._silence = silence
        self._kubeconfig = kubeconfig
        self._engine: Engine | None = None
        self._cluster: Cluster | None = None
        self.detector = DeploymentDetector(self._docker, docker_url, self._kubernetes, kubeconfig)

    def _kubernetes(self) -> Cluster:
        from app.deployments.kubernetes import Cluster

        if self._cluster is None:
            self._cluster = Cluster(self._kubeconfig, self._silence)
        return self._cluster

    def _docker(self) -> Engine:
        from app.deployments.docker import Engine

        if self._engine is None:
            self._engine = Engine(self._docker_url, self._silence)
        return self._engine

    async def open(self, place: DomainPlace, pin: Pin) -> Site:
        """Close it afterwards. `pin` keeps what was learnt at the first connection. Raises InvalidRequest and, for
        `auto`, DeploymentError."""
        kind = place.configuration.get("type", "auto")
        if kind == "auto":
            found = await self.detector.detect(place)
            site = self._build(found.type, place, pin)
            site.reason = found.reason
            return site
        return self._build(kind, place, pin)

    def _build(self, kind: str, place: DomainPlace, pin: Pin) -> Site:
        if kind == "standalone":
            return OneDeployment(StandaloneDeployment())
        if kind == "ssh":
            from app.deployments.ssh import SshDeployment, server_of

            return OneDeployment(SshDeployment(server_of(place.configuration, self._silence), pin))
        if kind == "docker":
            from app.deployments.docker_site import DockerSite

            return DockerSite(self._docker(), place.domain_name, place.configuration)
        if kind == "kubernetes":
            from app.deployments.kubernetes_site import KubernetesSite

            return KubernetesSite(self._kubernetes(), place.domain_name, place.configuration)
        raise InvalidRequest(f"Deployment type {kind!r} is not supported", field="deployment")

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()
        if self._cluster is not None:
            await self._cluster.close()

"""From a domain's deployment setting to its place. Deployments, and their SDKs, are imported when used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.deployments.detector import DeploymentDetector
from app.deployments.site import DomainPlace, HelperImage, OneDeployment, Pin, Role, Site
from app.deployments.standalone import StandaloneDeployment
from app.errors import InvalidRequest

if TYPE_CHECKING:
    from app.deployments.docker import Engine
    from app.deployments.kubernetes import Cluster


class DeploymentRegistry:
    """`docker_url`: the engine of sites that run in containers, `kubeconfig`: the clusters of those in pods, None for
    the one that we run in; each is asked when it is needed. `rollout_seconds`: how long a pod is waited for.
    `silence`: seconds without any sign of life from a command elsewhere after which it is given up. `helper`: of pods
    that are made beside those whose image has no sh or tar; None: none is. `installation`:
    whose snapshots of claims are removed."""

    def __init__(
        self,
        docker_url: str,
        kubeconfig: Path | None = None,
        rollout_seconds: float = 0,
        silence: float = 120,
        helper: HelperImage | None = None,
        installation: str = "",
    ) -> None:
        self._helper = helper
        self._installation = installation
        self._rollout_seconds = rollout_seconds
        self._docker_url = docker_url
        self._silence = silence
        self._kubeconfig = kubeconfig
        self._engine: Engine | None = None
        self._clusters: dict[str | None, Cluster] = {}
        self.detector = DeploymentDetector(self._docker, docker_url, self._kubernetes, kubeconfig)

    def _kubernetes(self, context: str | None = None) -> Cluster:
        from app.deployments.kubernetes import Cluster

        if context not in self._clusters:
            self._clusters[context] = Cluster(self._kubeconfig, context, self._silence)
        return self._clusters[context]

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

            paths: dict[Role, str | None] = {"files": place.document_root, "mail": place.mail_path}
            setting = place.configuration
            cluster = self._kubernetes(setting.get("context") or None)
            return KubernetesSite(
                cluster, place.domain_name, setting, paths, self._rollout_seconds, self._helper, self._installation
            )
        raise InvalidRequest(f"Deployment type {kind!r} is not supported", field="deployment")

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()
        for cluster in self._clusters.values():
            await cluster.close()

"""From a domain's deployment setting to its place."""

from __future__ import annotations

from app.deployments.detector import DeploymentDetector
from app.deployments.docker import Engine
from app.deployments.docker_site import DockerSite
from app.deployments.site import DomainPlace, OneDeployment, Site
from app.deployments.ssh import Pin, SshDeployment, server_of
from app.deployments.standalone import StandaloneDeployment
from app.errors import InvalidRequest


class DeploymentRegistry:
    """`docker_url`: the engine of sites that run in containers; asked when one is needed."""

    def __init__(self, docker_url: str) -> None:
        self._engine = Engine(docker_url)
        self._standalone = StandaloneDeployment()
        self.detector = DeploymentDetector(self._engine, docker_url)

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
            return OneDeployment(self._standalone)
        if kind == "ssh":
            return OneDeployment(SshDeployment(server_of(place.configuration), pin))
        if kind == "docker":
            return DockerSite(self._engine, place.domain_name, place.configuration)
        raise InvalidRequest(f"Deployment type {kind!r} is not supported", field="deployment")

    async def close(self) -> None:
        await self._engine.close()

"""The containers of one domain, found by name, by label or by compose project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.deployments.base import Deployment
from app.deployments.docker import DockerDeployment, Engine, environment, mapped
from app.deployments.docker_archive import ContainerArchive, ContainerFiles
from app.deployments.site import CACHES, DatabaseAccount, Role, Site, setting_of
from app.errors import TargetAmbiguous, TargetMissing, ToolMissing

_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_DOMAIN, _ROLE = "liberu.domain", "liberu.role"
#: Names of compose services and of the panel's containers, by role; `{}` is the domain's name.
_NAMES: dict[Role, tuple[str, ...]] = {
    "files": ("{}_web", "{}_php", "{}"),
    "database": ("{}_database", "{}_db"),
    "mail": ("{}_mail", "dovecot"),
}
_SERVICES: dict[Role, tuple[str, ...]] = {
    "files": ("web", "php", "nginx", "apache", "app"),
    "database": ("database", "db", "mysql", "mariadb", "postgres", "postgresql"),
    "mail": ("mail", "dovecot"),
}


@dataclass(frozen=True, slots=True)
class Container:
    """As the engine lists it."""

    id: str
    name: str
    state: str
    labels: dict[str, str]


async def containers(engine: Engine) -> list[Container]:
    """All of them, running or not. Raises DeploymentError."""
    with mapped("Listing containers"):
        listed = await engine.client.containers.list(all=True)
    found = []
    for item in listed:
        about = item._container  # what the engine said; aiodocker offers no other way without one more request each
        names = about.get("Names") or [about["Id"]]
        found.append(Container(about["Id"], names[0].lstrip("/"), about["State"], about.get("Labels") or {}))
    return found


def matching(found: list[Container], domain: str, configuration: dict[str, Any], role: Role) -> list[Container]:
    """Which containers serve `role`: the named one, else by our label, by compose project, by the panel's names."""
    if named := configuration.get(setting_of(role, "container")):
        return [item for item in found if item.name == named or item.id.startswith(named)]
    labelled = [
        item for item in found if (item.labels.get(_DOMAIN), item.labels.get(_ROLE, "files")) == (domain, role)
    ]
    if labelled:
        return labelled
    if project := configuration.get("project"):
        members = [item for item in found if item.labels.get(_PROJECT) == project]
        for service in _SERVICES[role]:
            if matches := [item for item in members if item.labels.get(_SERVICE) == service]:
                return matches
        return []
    for pattern in _NAMES[role]:
        if matches := [item for item in found if item.name == pattern.format(domain)]:
            return matches
    return []


def caches(found: list[Container], domain: str, configuration: dict[str, Any]) -> list[Container]:
    """The domain's containers of Redis or Valkey: by our label, by compose project, by the panel's names."""
    project = configuration.get("project")
    names = {f"{domain}_{cache}" for cache in CACHES}
    return [
        item
        for item in found
        if item.name in names
        or (item.labels.get(_DOMAIN) == domain and item.labels.get(_ROLE) in CACHES)
        or (project and item.labels.get(_PROJECT) == project and item.labels.get(_SERVICE) in CACHES)
    ]


class DockerSite(Site):
    kind = "docker"
    contained = True

    def __init__(self, engine: Engine, domain: str, configuration: dict[str, Any]) -> None:
        self._engine = engine
        self._domain = domain
        self._configuration = configuration
        self._open: dict[Role, Deployment] = {}

    async def _container(self, role: Role) -> Container:
        """The one that runs, else the only one. Raises TargetMissing, TargetAmbiguous."""
        matches = matching(await containers(self._engine), self._domain, self._configuration, role)
        candidates = [item for item in matches if item.state == "running"] or matches
        if len(candidates) > 1:
            names = ", ".join(sorted(item.name for item in candidates))
            raise TargetAmbiguous(f"{self._domain}: several containers could be its {role}: {names}; name one")
        if candidates:
            return candidates[0]
        tried = ", ".join(pattern.format(self._domain) for pattern in _NAMES[role])
        raise TargetMissing(
            f"{self._domain} has no container for its {role}: none is named in its setting, labelled "
            f"{_DOMAIN}={self._domain}, in its compose project, or called {tried}"
        )

    async def at(self, role: Role, *, reads: bool = False, volume: str | None = None) -> Deployment:
        if role not in self._open:
            self._open[role] = await self._deployment(await self._container(role), role)
        return self._open[role]

    async def again(self, role: Role, volume: str | None = None) -> None:
        self._open.pop(role, None)
        await self.at(role)

    async def _deployment(self, container: Container, role: Role) -> Deployment:
        """One that runs no commands has its files all the same."""
        where = (self._engine, container.id, container.name)
        if container.state == "running":
            deployment = DockerDeployment(*where, archive=ContainerArchive(*where))
            try:
                await deployment.prepare()
                return deployment
            except ToolMissing:
                why = "has no shell"
        elif container.state in ("created", "exited", "paused"):
            why = f"is {container.state}"
        else:
            raise TargetMissing(f"Container {container.name} is {container.state}; wait until it runs")
        if role == "database":
            raise TargetMissing(f"Container {container.name} {why}: its database cannot be reached; start it")
        return ContainerFiles(*where, why)

    async def database_account(self, engine: str) -> DatabaseAccount:
        container = await self._container("database")
        with mapped(f"Inspecting container {container.name}"):
            found = await self._engine.client.containers.get(container.id)
        return account_in(environment(found._container), engine)

    async def caches(self) -> list[str]:
        found = caches(await containers(self._engine), self._domain, self._configuration)
        return sorted(f"container {item.name}" for item in found)

    async def used(self, role: Role) -> Any:
        container = await self._container(role)
        found = {"container": container.name}
        return found if container.state == "running" else found | {"state": container.state}


def account_in(env: dict[str, str], engine: str) -> DatabaseAccount:
    """From a database container's environment, as the official images take it."""
    if engine == "postgresql":
        return DatabaseAccount(env.get("POSTGRES_USER", "postgres"), env.get("POSTGRES_PASSWORD"))

    def of(name: str) -> str | None:
        return env.get(f"MARIADB_{name}") or env.get(f"MYSQL_{name}")

    root = of("ROOT_PASSWORD")
    return DatabaseAccount(of("USER"), of("PASSWORD"), "root" if root else None, root)

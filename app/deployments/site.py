"""The places of one domain: where its files, its databases and its mail are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from app.deployments.base import Deployment

#: Keeps what was learnt at the first connection in the domain's setting.
Pin = Callable[[dict[str, Any]], Awaitable[None]]
Role = Literal["files", "database", "mail"]


@dataclass(frozen=True, slots=True)
class DatabaseAccount:
    """What a place itself knows of its database's accounts. Empty fields: nothing."""

    username: str | None = None
    password: str | None = None
    admin_username: str | None = None
    admin_password: str | None = None


@dataclass(frozen=True, slots=True)
class DomainPlace:
    """What is known of a domain when its place is looked for. `configuration`: its setting, with secrets."""

    domain_name: str
    configuration: dict[str, Any] = field(repr=False)
    document_root: str | None = None
    mail_path: str | None = None


class Site(ABC):
    """Open while an operation runs. `kind`: where; `reason`: why this place was chosen."""

    kind: str
    reason: str = "the domain's own setting"

    @abstractmethod
    async def at(self, role: Role) -> Deployment:
        """Where commands for `role` are run. Raises DeploymentError."""

    async def database_account(self, engine: str) -> DatabaseAccount:
        """For a database whose setting names no account."""
        return DatabaseAccount()

    @abstractmethod
    async def describe(self) -> dict[str, Any]:
        """What a backup would use, by role. Raises nothing: what is missing is described too."""

    async def close(self) -> None:  # noqa: B027  most places hold nothing
        """Release connections."""


class OneDeployment(Site):
    """A machine that has everything."""

    def __init__(self, deployment: Deployment) -> None:
        self.kind = deployment.kind
        self._deployment = deployment
        self._prepared = False

    async def at(self, role: Role) -> Deployment:
        if not self._prepared:
            await self._deployment.prepare()
            self._prepared = True
        return self._deployment

    async def describe(self) -> dict[str, Any]:
        return dict.fromkeys(("files", "database", "mail"), self.kind)

    async def close(self) -> None:
        await self._deployment.close()

"""A database's account as its container was told: by its environment, files that it names, or a Secret.

Sources: the entrypoints of the official images (mysql, mariadb, postgres on Docker Hub: `…_FILE` stands for a file's
content without the line ends at its end), Bitnami's images and the Secrets of its charts, Secrets of the type
kubernetes.io/basic-auth as CloudNativePG and others write them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType

from app.deployments.base import Deployment
from app.deployments.site import DatabaseAccount
from app.errors import DeploymentError

#: What each is called: the first that has something counts.
_MYSQL = {
    "user": ("MARIADB_USER", "MYSQL_USER"),
    "password": ("MARIADB_PASSWORD", "MYSQL_PASSWORD"),
    "admin": ("MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"),
}
_POSTGRESQL = {
    "user": ("POSTGRES_USER", "POSTGRESQL_USERNAME"),
    "password": ("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
    "admin": ("POSTGRESQL_POSTGRES_PASSWORD", "POSTGRES_POSTGRES_PASSWORD"),
}
#: In a Secret they may be called so besides.
_MYSQL_KEYS = {
    "user": ("username", "user"),
    "password": ("mariadb-password", "mysql-password", "password"),
    "admin": ("mariadb-root-password", "mysql-root-password", "root-password"),
}
_POSTGRESQL_KEYS = {"user": ("username", "user"), "password": ("password",), "admin": ("postgres-password",)}
_MOST_BYTES = 64 << 10
_SECONDS = 30
Opened = Callable[[], Awaitable[Deployment]]


async def account_of(
    environment: Mapping[str, str], engine: str, opened: Opened, secret: Mapping[str, str] = MappingProxyType({})
) -> DatabaseAccount:
    """From a container's environment, for what a Secret does not tell. `opened`: where the files are that it names.
    One that cannot be read tells nothing. Raises DeploymentError."""
    found = {}
    for role, names in (_POSTGRESQL if engine == "postgresql" else _MYSQL).items():
        found[role] = _first(environment, names)
        path = _first(environment, [f"{name}_FILE" for name in names])
        if found[role] is None and path is not None:
            found[role] = await _content(await opened(), path)
    said = _said(secret, engine)
    if said["user"] not in (None, found["user"]):  # the environment's password is another one's
        found["password"] = None
    return _account(engine, {role: said[role] or found[role] for role in found})


def account_in(secret: Mapping[str, str], engine: str) -> DatabaseAccount | None:
    """From a Secret; None: it does not tell whose password it is, or none. Charts put the user elsewhere."""
    said = _said(secret, engine)
    return _account(engine, said) if said["user"] and said["password"] else None


def _said(secret: Mapping[str, str], engine: str) -> dict[str, str | None]:
    names, keys = (_POSTGRESQL, _POSTGRESQL_KEYS) if engine == "postgresql" else (_MYSQL, _MYSQL_KEYS)
    return {role: _first(secret, (*names[role], *keys[role])) for role in names}


def _first(values: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((values[name] for name in names if values.get(name)), None)


def _account(engine: str, found: Mapping[str, str | None]) -> DatabaseAccount:
    postgresql = engine == "postgresql"
    user, admin = found["user"] or ("postgres" if postgresql else None), found["admin"]
    return DatabaseAccount(user, found["password"], ("postgres" if postgresql else "root") if admin else None, admin)


async def _content(deployment: Deployment, path: str) -> str | None:
    try:
        argv = ["head", "-c", str(_MOST_BYTES + 1), "--", path]
        result = await deployment.run(argv, check=False, timeout=_SECONDS)
    except (DeploymentError, TimeoutError):
        return None
    if result.status != 0 or len(result.stdout) > _MOST_BYTES:
        return None
    return result.stdout.decode("utf-8", "replace").rstrip("\n") or None

"""What a domain occupies: which folders and databases, of which machine, container, pod or database server; and a
namespace of its own.

Pure: computed from a domain's setting, nothing is asked. A restore of one domain would write over another whose
places are equal or nested. What cannot be known from the setting is taken as the panel has it: `auto` is the
service's own machine, a container or pod that is not named is the one of the domain's name. Links and other names of
one host are not seen through.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.deployments.site import Role, setting_of

_PORTS = {"mysql": 3306, "mariadb": 3306, "postgresql": 5432}
#: Where clients look when they are told nothing: the same server as without a socket.
_SOCKETS = {
    "/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock",  # noqa: S108
    "/run/postgresql", "/var/run/postgresql", "/tmp",  # noqa: S108
}  # fmt: skip
_CONTAINERS: dict[Role, str] = {"files": "{}_web", "database": "{}_database", "mail": "dovecot"}


@dataclass(frozen=True, slots=True)
class Place:
    """`where`: a machine, container, pod or database server; `name`: the path or the database there; `field`: of the
    domain."""

    where: str
    name: str
    field: Literal["document_root", "mail_path", "databases", "deployment"]


@dataclass(frozen=True, slots=True)
class DatabaseSetting:
    engine: str
    name: str
    host: str | None
    port: int | None
    socket: str | None


def places(
    domain: str,
    deployment: Mapping[str, Any],
    document_root: str | None,
    mail_path: str | None,
    databases: Iterable[DatabaseSetting],
) -> set[Place]:
    found = set()
    if deployment.get("type") == "kubernetes":  # its Secrets and its Ingresses are of one domain
        namespace = kubernetes_defaults(domain, deployment)["namespace"]
        found.add(Place(f"{_cluster(deployment)} namespaces", namespace, "deployment"))
    if document_root is not None:
        found.add(Place(_at(domain, deployment, "files"), document_root, "document_root"))
    if mail_path is not None:
        found.add(Place(_at(domain, deployment, "mail"), mail_path, "mail_path"))
    for database in databases:
        if database.engine in _PORTS:  # Redis is neither backed up nor restored
            found.add(Place(_server(domain, deployment, database), database.name, "databases"))
    return found


def kubernetes_defaults(domain: str, configuration: Mapping[str, Any]) -> dict[str, str]:
    """Where the panel puts a domain, unless its setting says otherwise."""
    name = domain.replace(".", "-")
    namespace = str(configuration.get("namespace") or f"hosting-{name}")
    found = {
        "namespace": namespace,
        "database_namespace": namespace,
        "mail_namespace": namespace,
        "selector": f"app={name}",
        "database_selector": f"app={name}-db",
        "mail_selector": "app=dovecot",
        "credentials_secret": f"{name}-credentials",
    }
    return found | {key: str(value) for key, value in configuration.items() if key in found and value}


def _at(domain: str, deployment: Mapping[str, Any], role: Role) -> str:
    kind = deployment.get("type", "auto")
    if kind == "ssh":
        return f"ssh {_host(str(deployment.get('host')))} {deployment.get('port') or 22}"
    if kind == "kubernetes":
        where = kubernetes_defaults(domain, deployment)
        pods = f"{where[setting_of(role, 'namespace')]} {where[setting_of(role, 'selector')]}"
        return f"{_cluster(deployment)} {pods}"
    if kind == "docker":
        server = deployment.get("server") or ""
        if container := deployment.get(setting_of(role, "container")):
            return f"docker {server} container {container}"
        if project := deployment.get("project"):
            return f"docker {server} project {project} {role}"
        return f"docker {server} container {_CONTAINERS[role].format(domain)}"
    return _machine(deployment)


def _cluster(deployment: Mapping[str, Any]) -> str:
    """Of the clusters, the one that is named; which one the kubeconfig means without a name is not known here."""
    context = deployment.get("context")
    return f"kubernetes of {context}" if context else "kubernetes"


def _machine(deployment: Mapping[str, Any]) -> str:
    """Of the service's machines, the one that is named."""
    return f"machine {deployment.get('server') or ''}"


def _server(domain: str, deployment: Mapping[str, Any], database: DatabaseSetting) -> str:
    """A database with a host is reached from the service's machine when its site runs in containers."""
    engine = "postgresql" if database.engine == "postgresql" else "mysql"
    port = database.port or _PORTS[engine]
    host = None if database.host is None else _host(database.host)
    if host is not None and not _loopback(host):
        return f"{engine} {host} {port}"
    if host is not None and deployment.get("type") in ("docker", "kubernetes"):
        return f"{engine} of {_machine(deployment)} {port}"
    at = _at(domain, deployment, "database")
    if host is None and database.socket is not None and database.socket not in _SOCKETS:
        return f"{engine} of {at} {database.socket} {port if engine == 'postgresql' else ''}"
    return f"{engine} of {at} {port}"


def _host(text: str) -> str:
    name = text.lower().strip("[]").rstrip(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

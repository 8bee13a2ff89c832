"""The pods of one domain, found by namespace and label selector; never by a fixed name."""

from __future__ import annotations

import base64
from typing import Any

from app.deployments.base import Deployment
from app.deployments.docker_site import account_in
from app.deployments.kubernetes import Cluster, KubernetesDeployment, mapped
from app.deployments.places import kubernetes_defaults
from app.deployments.site import CACHES, DatabaseAccount, Role, Site, setting_of
from app.errors import DeploymentRefused, TargetAmbiguous, TargetMissing

_DOMAIN = "liberu.domain"
#: The panel's containers by role; without one of them a pod's only container is taken.
_CONTAINERS: dict[Role, tuple[str, ...]] = {
    "files": ("php-fpm", "nginx", "web"),
    "database": ("mysql", "mariadb", "postgresql", "postgres"),
    "mail": ("dovecot",),
}


class KubernetesSite(Site):
    kind = "kubernetes"
    contained = True

    def __init__(self, cluster: Cluster, domain: str, configuration: dict[str, Any]) -> None:
        self._cluster = cluster
        self._domain = domain
        self._configuration = configuration
        self._where = kubernetes_defaults(domain, configuration)
        self._open: dict[Role, KubernetesDeployment] = {}

    async def pods(self, role: Role) -> list[Any]:
        """Those that match, ready ones first. Raises TargetAmbiguous where nothing says that they are this domain's,
        DeploymentError."""
        selector = self._where[setting_of(role, "selector")]
        namespace = self._where["namespace"]
        with mapped(f"Listing pods of {namespace}", "list on pods"):
            core = await self._cluster.core()
            found = await core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=30)
        if "namespace" not in self._configuration:
            await self._prove(namespace, found.items)
        return sorted(found.items, key=lambda pod: (not _ready(pod), pod.metadata.name))

    async def _prove(self, namespace: str, pods: list[Any]) -> None:
        """Several domains' names give one namespace (a-b.com and a.b.com): that pods in it are this one's is said by
        their label or annotation, or by an Ingress. Raises TargetAmbiguous, which names no other domain."""
        said = {_domain(pod) for pod in pods}
        if said <= {self._domain}:
            return
        why = "pods there are another domain's"
        if said <= {self._domain, None}:
            try:
                if self._domain in await self._cluster.hosts(namespace):
                    return
                why = "no Ingress there is for it"
            except DeploymentRefused as error:
                why = error.message
        raise TargetAmbiguous(
            f"Whether namespace {namespace} is {self._domain}'s cannot be told from its name, which other domains' "
            f"names give too, and {why}. Label its pods, or annotate them, {_DOMAIN}={self._domain}, or set the "
            "namespace in the domain's deployment"
        )

    async def _chosen(self, role: Role) -> tuple[str, str]:
        """Pod and container. Raises TargetMissing, TargetAmbiguous."""
        pods = await self.pods(role)
        selector = self._where[setting_of(role, "selector")]
        where = f"namespace {self._where['namespace']}, selector {selector}"
        running = [pod for pod in pods if pod.status.phase == "Running"]
        if not running:
            state = f"{pods[0].metadata.name} is {pods[0].status.phase}" if pods else "none matches"
            raise TargetMissing(f"{self._domain} has no running pod for its {role} ({where}): {state}")
        pod = running[0]
        names = [container.name for container in pod.spec.containers]
        wanted = self._configuration.get(setting_of(role, "container"))
        if wanted:
            if wanted not in names:
                raise TargetMissing(f"Pod {pod.metadata.name} has no container {wanted}; it has {', '.join(names)}")
            return pod.metadata.name, wanted
        known = [name for name in _CONTAINERS[role] if name in names]
        if known or len(names) == 1:
            return pod.metadata.name, (known or names)[0]
        raise TargetAmbiguous(f"Pod {pod.metadata.name} has several containers ({', '.join(names)}): name one")

    async def at(self, role: Role) -> Deployment:
        """Of several replicas the first ready one: they share what they serve."""
        if role not in self._open:
            pod, container = await self._chosen(role)
            deployment = KubernetesDeployment(self._cluster, self._where["namespace"], pod, container)
            await deployment.prepare()
            self._open[role] = deployment
        return self._open[role]

    async def database_account(self, engine: str) -> DatabaseAccount:
        """From the domain's Secret; where there is none, from the container's environment."""
        namespace, name = self._where["namespace"], self._where["credentials_secret"]
        try:
            with mapped(f"Reading secret {namespace}/{name}", "get on secrets"):
                core = await self._cluster.core()
                secret = await core.read_namespaced_secret(name, namespace, _request_timeout=30)
        except (TargetMissing, DeploymentRefused):  # it may not be read where its right is not given
            return account_in(await self._environment(), engine)
        data = {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in (secret.data or {}).items()}
        return account_in(data, engine)

    async def _environment(self) -> dict[str, str]:
        name, container = await self._chosen("database")
        for pod in await self.pods("database"):
            for found in pod.spec.containers:
                if (pod.metadata.name, found.name) == (name, container):
                    return {item.name: item.value for item in found.env or [] if item.value is not None}
        return {}

    async def caches(self) -> list[str]:
        """Those that say they are the domain's; all of a namespace that is its own."""
        namespace = self._where["namespace"]
        own = "namespace" not in self._configuration
        with mapped(f"Listing pods of {namespace}", "list on pods"):
            core = await self._cluster.core()
            found = await core.list_namespaced_pod(namespace, _request_timeout=30)
        if own:
            await self._prove(namespace, found.items)
        return sorted(
            f"pod {pod.metadata.name}"
            for pod in found.items
            if (own or _domain(pod) == self._domain)
            and any(container.name in CACHES for container in pod.spec.containers)
        )

    async def used(self, role: Role) -> Any:
        pod, container = await self._chosen(role)
        return {"namespace": self._where["namespace"], "pod": pod, "container": container}


def _domain(pod: Any) -> str | None:
    """Whose a pod says that it is: a label holds names of up to 63 letters."""
    found: str | None = {**(pod.metadata.labels or {}), **(pod.metadata.annotations or {})}.get(_DOMAIN)
    return found


def _ready(pod: Any) -> bool:
    return any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])

"""The pods of one domain, found by namespace and label selector; never by a fixed name."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from app.deployments.base import Deployment
from app.deployments.database_accounts import account_in, account_of
from app.deployments.kubernetes import Cluster, KubernetesDeployment, mapped
from app.deployments.kubernetes_access import rights
from app.deployments.kubernetes_fate import fate
from app.deployments.kubernetes_frozen import FrozenFiles
from app.deployments.kubernetes_helper import Helper
from app.deployments.kubernetes_objects import NamespaceObjects
from app.deployments.kubernetes_pods import (
    DOMAIN,
    Served,
    container_of,
    ended,
    ends,
    primaries,
    primary,
    ready,
    state,
    stateful_set,
    usable,
    volume_at,
)
from app.deployments.places import kubernetes_defaults
from app.deployments.site import (
    CACHES,
    ROLES,
    DatabaseAccount,
    Fate,
    HelperImage,
    Replicas,
    Right,
    Role,
    Serving,
    Site,
    setting_of,
)
from app.errors import (
    DeploymentError,
    DeploymentRefused,
    ReplicasDiffer,
    TargetAmbiguous,
    TargetMissing,
    ToolMissing,
)

log = logging.getLogger(__name__)
#: The panel's containers by role; without one of them a pod's only container is taken.
_CONTAINERS: dict[Role, tuple[str, ...]] = {
    "files": ("php-fpm", "nginx", "web"),
    "database": ("mysql", "mariadb", "postgresql", "postgres", "database", "pxc"),
    "mail": ("dovecot",),
}
#: How often it is looked whether a pod is ready, and how many are named.
_POLL_SECONDS = 1
#: For an image that has to be pulled, at least.
_HELPER_SECONDS = 120
_NAMED = 10
#: Of volumes that one restore goes into.
_MOST_REPLICAS = 50


@dataclass(frozen=True, slots=True)
class _Choice(Served):
    """What is used; `others`: those that are not known to have the same, or a sentence for those that are not
    there."""

    container: str
    others: Sequence[Served | str]


class KubernetesSite(Site):
    """`paths`: of what is at a role, where there is one. `rollout_seconds`: how long a pod that is ready is waited
    for. `installation`: whose snapshots are removed."""

    kind = "kubernetes"
    contained = True

    def __init__(
        self,
        cluster: Cluster,
        domain: str,
        configuration: dict[str, Any],
        paths: Mapping[Role, str | None] = MappingProxyType({}),
        rollout_seconds: float = 0,
        helper: HelperImage | None = None,
        installation: str = "",
    ) -> None:
        self._cluster = cluster
        self._domain = domain
        self._configuration = configuration
        self._where = kubernetes_defaults(domain, configuration)
        self._paths = paths
        self._rollout_seconds = rollout_seconds
        self._open: dict[tuple[Role, str | None], tuple[_Choice, KubernetesDeployment]] = {}
        self._used: dict[Role, _Choice] = {}
        self._known: dict[str, _Choice] = {}  # by the pod's uid
        self._opening: defaultdict[Role, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._helper = helper
        self._helpers: dict[str, Helper] = {}  # by the uid of the pod that each is beside
        self._snapshots = bool(configuration.get("snapshots"))
        self._frozen = FrozenFiles(cluster, domain, installation, helper, configuration)
        self._snapshot: dict[Role, str] = {}  # the pod that mounts it
        self._unfrozen: dict[Role, str] = {}

    async def pods(self, role: Role) -> list[Any]:
        """Those that match, ready ones first. Raises TargetAmbiguous where nothing says that they are this domain's,
        DeploymentError."""
        selector = self._where[setting_of(role, "selector")]
        namespace = self._namespace(role)
        with mapped(f"Listing pods of {namespace}", "list on pods"):
            core = await self._cluster.core()
            found = await core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=30)
        if not self._is_own(role):
            await self._prove(namespace, found.items)
        return sorted(found.items, key=lambda pod: (ends(pod) or not ready(pod), pod.metadata.name))

    def _namespace(self, role: Role) -> str:
        return self._where[setting_of(role, "namespace")]

    def _is_own(self, role: Role) -> bool:
        """Whether the setting says that what matches is the domain's: by its namespace, or, in one that many domains'
        databases are in, by a selector; two domains' names give one selector, too."""
        said = self._configuration.get
        if role == "database" and said("database_namespace") not in (None, self._where["namespace"]):
            return bool(said("database_selector"))
        return bool(said(setting_of(role, "namespace")) or said("namespace"))

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
            f"names give too, and {why}. Label its pods, or annotate them, {DOMAIN}={self._domain}, or set the "
            "namespace in the domain's deployment"
        )

    async def at(self, role: Role, *, reads: bool = False, volume: str | None = None) -> Deployment:
        """A pod that is ready; without one a roll-out is waited for. Of several pods with one volume any will do;
        where each has its own, one is read, and changed only where the setting says so."""
        async with self._opening[role]:
            if (role, volume) not in self._open:
                choice = await self._choose(role, volume, self._rollout_seconds)
                self._open[role, volume] = choice, await self._deployment(role, choice)
            choice, deployment = self._open[role, volume]
        self._used[role] = self._known[choice.pod.metadata.uid] = choice
        if choice.others and not (reads or volume or self._one_is_enough(role)):
            raise ReplicasDiffer(self._differ(role, choice))
        return deployment

    async def _deployment(self, role: Role, choice: _Choice) -> KubernetesDeployment:
        """In the pod itself; where that has no sh or tar, in a helper that mounts its claim."""
        deployment = KubernetesDeployment(self._cluster, self._namespace(role), choice.name, choice.container)
        claim = role != "database" and choice.lasting and choice.volume is not None and choice.volume.kind == "claim"
        if self._helper is None or not claim:
            await deployment.prepare()
            return deployment
        try:
            await deployment.prepare()
            if (await deployment.run(["sh", "-c", "command -v tar"], check=False, timeout=60)).status == 0:
                return deployment
        except ToolMissing:
            pass
        await self._remove_helper(choice.pod.metadata.uid)
        helper = Helper(self._cluster, self._helper, self._domain, choice.pod, choice.container)
        self._helpers[choice.pod.metadata.uid] = helper
        self.waits(role, f"a helper pod beside {choice.name}, which has no sh or tar")
        try:
            return await helper.start(max(self._rollout_seconds, _HELPER_SECONDS))
        finally:
            self.waits(role, None)

    async def frozen(self, role: Role) -> Deployment | None:
        """From snapshots, where the setting says so."""
        if not self._snapshots or role == "database":
            return None
        await self.thaw(role)  # of a try that was cut off
        choice = self._used[role] = await self._choose(role, None, self._rollout_seconds)
        self._known[choice.pod.metadata.uid] = choice
        try:
            deployment, self._snapshot[role] = await self._frozen.open(
                role, choice.pod, choice.container, self._paths.get(role), self.waits
            )
        except DeploymentError as error:
            await self.thaw(role, error.message)
            return None
        self._unfrozen.pop(role, None)
        return deployment

    async def thaw(self, role: Role, problem: str | None = None) -> list[str]:
        self._snapshot.pop(role, None)
        stays = await self._frozen.close(role)
        if problem is not None:
            self._unfrozen[role] = "; ".join([problem, *(f"this stays: {one}" for one in stays)])
        return stays

    async def _remove_helper(self, uid: str) -> None:
        if (helper := self._helpers.pop(uid, None)) is not None:
            await helper.remove()

    async def close(self) -> None:
        for uid in list(self._helpers):
            await self._remove_helper(uid)
        for stays in await self._frozen.close_all():
            log.warning("Of a snapshot of %s this stays: %s", self._domain, stays)

    async def again(self, role: Role, volume: str | None = None) -> None:
        for opened in [opened for opened in self._open if opened[0] == role]:
            self._open.pop(opened, None)
        await self.at(role, reads=True, volume=volume)

    async def fate(self, served: Serving | None) -> Fate | None:
        choice = self._known.get((served and served.instance) or "")
        return None if choice is None else await fate(self._cluster, choice.pod, choice.container)

    def serving(self, role: Role) -> Serving | None:
        choice = self._used.get(role)
        return None if choice is None else self._serving(role, choice, choice.others)

    def _serving(self, role: Role, served: Served, others: Sequence[Served | str] = ()) -> Serving:
        facts: dict[str, Any] = {
            "namespace": self._namespace(role), "pod": served.name, "container": served.container,
            "node": served.pod.spec.node_name,
        }  # fmt: skip
        if (helper := self._helpers.get(served.pod.metadata.uid)) is not None:
            facts["helper"] = helper.name
        if (snapshot := self._snapshot.get(role)) is not None:
            facts |= {"snapshot": snapshot, "helper": snapshot}
        if served.volume is not None:
            facts["volume"] = served.volume.facts
        lasting = served.key if served.lasting else None
        allowed = self._one_is_enough(role) or self._each(role)
        mortal = served.volume is not None and served.volume.mortal
        return Serving(
            facts, lasting, tuple(map(str, others)), allowed, served.pod.metadata.uid, served.key, mortal,
            self._unfrozen.get(role),
        )  # fmt: skip

    async def replicas(self, role: Role, *, waits: bool = True) -> Replicas | None:
        """Those that are ready first. Of pods that have one volume, one."""
        if not self._each(role):
            return None
        choice = await self._choose(role, None, self._rollout_seconds if waits else 0)
        found: dict[str | None, Served] = {}
        for served in [choice, *(one for one in choice.others if isinstance(one, Served))]:
            if waits or (usable(served.pod) and ready(served.pod)):
                found.setdefault(served.key, served)
        if len(found) > _MOST_REPLICAS:
            raise ReplicasDiffer(
                f"{self._domain}: {len(found)} pods serve its {role}, each from a volume of its own; a restore goes "
                f"into {_MOST_REPLICAS} at most: set a selector of fewer in the domain's deployment"
            )
        absent = tuple(one for one in choice.others if isinstance(one, str))
        return Replicas(tuple(self._serving(role, served) for served in found.values()), absent)

    async def gone(self, role: Role, place: Mapping[str, Any], instance: str) -> bool:
        pod = await self._cluster.pod(place["namespace"], place["pod"])
        return pod is None or pod.metadata.uid != instance

    def _one_is_enough(self, role: Role) -> bool:
        return self._configuration.get(setting_of(role, "replicas")) == "first"

    def _each(self, role: Role) -> bool:
        return role != "database" and self._configuration.get(setting_of(role, "replicas")) == "each"

    def _differ(self, role: Role, choice: _Choice) -> str:
        pods = ", ".join(str(served) for served in [choice, *choice.others])
        setting = setting_of(role, "replicas")
        if role == "database":
            return (
                f"{self._domain}: which of its database's pods is the primary is not said by their labels: {pods}. "
                f"Set database_primary in the domain's deployment to the primary's label, or {setting}: first where "
                "any of them will do"
            )
        several = f"{self._domain}: several pods serve its {role}, each from a volume of its own: {pods}."
        if self._each(role):
            return f"{several} Only what a backup holds is restored into each of them; set a selector of one of them"
        return (
            f"{several} Give them one, or a selector of one of them, or set {setting} in the domain's deployment: "
            f"with {setting}: first one of them is restored, and the others are left as they are, with {setting}: "
            "each it is done in one after the other"
        )

    async def _choose(self, role: Role, volume: str | None, seconds: float) -> _Choice:
        """Waits for so long until a pod is ready; one that runs will do then, since what is damaged may never become
        ready before it is restored. Raises TargetMissing, TargetAmbiguous."""
        clock = asyncio.get_running_loop().time
        end, pods, waited = clock() + seconds, await self.pods(role), False
        try:
            while True:
                last, fit = clock() >= end, [pod for pod in self._candidates(role, pods) if usable(pod)]
                for some in [[pod for pod in fit if ready(pod)], fit if last else []]:
                    if some and (choice := self._pick(role, some, pods, volume)) is not None:
                        one_of_each = volume is not None and self._each(role)
                        absent = [] if one_of_each else await self._absent(role, choice, pods)
                        if last or not absent:
                            return replace(choice, others=[*choice.others, *absent])
                if last or not (waited or any(not ended(pod) for pod in pods)):
                    raise TargetMissing(self._missing(role, pods, volume))
                waited = True
                self.waits(role, f"a pod that is ready, for its {role}: {_states(pods)}")
                await asyncio.sleep(_POLL_SECONDS)
                pods = await self.pods(role)
        finally:
            if waited:
                self.waits(role, None)

    async def _absent(self, role: Role, choice: _Choice, pods: list[Any]) -> list[str]:
        """Of a StatefulSet whose pods each have a claim, or a database, of their own: that some are not there, where
        we may ask how many there should be."""
        owner, volume = stateful_set(choice.pod), choice.volume
        if role == "database":
            own = primary(choice.pod, self._configuration.get("database_primary")) is None
        else:
            own = volume is not None and volume.kind == "claim" and volume.name.endswith(f"-{choice.name}")
        if owner is None or not own or self._one_is_enough(role):
            return []
        try:
            wanted = await self._cluster.replicas(self._namespace(role), owner)
        except (DeploymentRefused, TargetMissing):
            return []
        there = sum(1 for pod in pods if stateful_set(pod) == owner and not ended(pod))
        return [f"{wanted - there} more of StatefulSet {owner}, not there now"] if there < wanted else []

    def _missing(self, role: Role, pods: list[Any], volume: str | None) -> str:
        selector = self._where[setting_of(role, "selector")]
        where = f"namespace {self._namespace(role)}, selector {selector}"
        wanted = " primary" if role == "database" and any(usable(pod) for pod in pods) else ""
        mounting = "" if volume is None else f" that mounts {volume}, where a restore is to be settled,"
        return f"{self._domain} has no running{wanted} pod{mounting} for its {role} ({where}): {_states(pods)}"

    def _candidates(self, role: Role, pods: list[Any]) -> list[Any]:
        """Of a database the primary, and those of which it is not known."""
        alive = [pod for pod in pods if not ended(pod)]
        if role != "database":
            return alive
        return primaries(alive, self._configuration.get("database_primary")) or (
            alive if self._one_is_enough(role) else []
        )

    def _pick(self, role: Role, fit: list[Any], pods: list[Any], volume: str | None) -> _Choice | None:
        """The first of `fit`, or the one with `volume` (None: there is none), and the others of `pods` that are not
        known to have the same."""
        if role == "database":
            several = [Served(pod, None, None) for pod in self._candidates(role, pods) if usable(pod)]
            return _Choice(fit[0], self._container(role, fit[0]), None, [x for x in several if x.pod is not fit[0]])
        served = [self._served(role, pod) for pod in pods if not ended(pod)]
        mounting = [one for one in served if one.volume is not None and one.volume.kind != "image"]
        served = mounting or served  # without one: jobs and workers of the same label
        found = [one for one in served if any(one.pod is pod for pod in fit) and volume in (None, one.key)]
        if not found:
            return None
        pod = found[0].pod
        others = [one for one in served if one.key != found[0].key and (one.lasting or not ends(one.pod))]
        return _Choice(pod, self._container(role, pod), found[0].volume, others)

    def _served(self, role: Role, pod: Any) -> Served:
        """Whichever container it is: only of the one that is used must it be clear."""
        path, container = self._paths.get(role), None
        with suppress(TargetAmbiguous, TargetMissing):
            container = self._container(role, pod)
        return Served(pod, container, None if path is None else volume_at(pod, container, path))

    def _container(self, role: Role, pod: Any) -> str:
        wanted = self._configuration.get(setting_of(role, "container"))
        return container_of(pod, wanted, _CONTAINERS[role], self._paths.get(role))

    async def database_account(self, engine: str) -> DatabaseAccount:
        """From the domain's Secret; where there is none, or it may not be read, or does not tell all, from what the
        container was told, whether its pod names values, Secrets, ConfigMaps or files."""
        namespace, name = self._where["namespace"], self._where["credentials_secret"]
        try:
            with mapped(f"Reading secret {namespace}/{name}", "get on secrets"):
                core = await self._cluster.core()
                secret = await core.read_namespaced_secret(name, namespace, _request_timeout=30)
            encoded = secret.data or {}
        except (TargetMissing, DeploymentRefused):
            encoded = {}
        data = {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in encoded.items()}
        if (account := account_in(data, engine)) is not None:
            return account
        pod = await self._pod("database")
        return await account_of(await pod.environment(), engine, lambda: self._pod("database"), data)

    async def _pod(self, role: Role) -> KubernetesDeployment:
        """Of several whichever is used."""
        await self.at(role, reads=True)
        used = self._used[role]
        return next(pod for choice, pod in self._open.values() if choice is used)

    def objects(self) -> NamespaceObjects | None:
        namespace = self._configuration.get("namespace")  # one that is only guessed may be another domain's
        if not self._configuration.get("objects") or not namespace:
            return None
        return NamespaceObjects(self._cluster, namespace, self._configuration.get("objects_selector"))

    async def caches(self) -> list[str]:
        """Those that say they are the domain's; all of a namespace that is its own."""
        namespace = self._where["namespace"]
        own = not self._configuration.get("namespace")
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

    async def rights(self) -> list[Right]:
        """By namespace; the Secret is read in the site's own, helpers are made beside files and mail."""
        own, secret = self._where["namespace"], self._where["credentials_secret"]
        helped = {self._namespace(role) for role in ROLES if role != "database" and self._helper is not None}
        frozen = {self._namespace(role) for role in ROLES if role != "database" and self._snapshots}
        return [
            right
            for namespace in dict.fromkeys(map(self._namespace, ROLES))
            for right in await rights(
                self._cluster,
                namespace,
                secret if namespace == own else None,
                helper=namespace in helped,
                objects=namespace == own and bool(self._configuration.get("objects")),
                snapshots=namespace in frozen,
            )
        ]

    async def used(self, role: Role) -> Any:
        choice = await self._choose(role, None, 0)
        found = self._serving(role, choice, choice.others)
        facts = found.facts | ({"others": list(found.others)} if found.others else {})
        if self._snapshots and role != "database":
            try:
                await self._frozen.check(choice.pod, choice.container, self._paths.get(role))
            except DeploymentError as error:
                facts["no_snapshot"] = error.message
        return facts


def _states(pods: list[Any]) -> str:
    return "; ".join(state(pod) for pod in pods[:_NAMED]) or "none matches"


def _domain(pod: Any) -> str | None:
    """Whose a pod says that it is: a label holds names of up to 63 letters."""
    found: str | None = {**(pod.metadata.labels or {}), **(pod.metadata.annotations or {})}.get(DOMAIN)
    return found

"""What this service may do in a namespace with sites, and what it cannot do where it may not.

deploy/kubernetes-rbac.yaml grants just these, kubernetes-rbac-helper.yaml those for helpers,
kubernetes-rbac-snapshots.yaml those for snapshots, tests compare them; kubernetes-rbac-objects.yaml those for a
namespace's objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from kubernetes_asyncio import client

from app.deployments.kubernetes import Cluster, mapped
from app.deployments.kubernetes_objects import KINDS
from app.deployments.site import Right
from app.errors import DeploymentRefused, TargetMissing

_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Needed:
    """`resource`: with its subresource, as RBAC writes it. `without`: what is lost."""

    verb: str
    group: str
    resource: str
    without: str
    required: bool = False
    cluster: bool = False  # of no namespace


NEEDED = (
    Needed("list", "", "pods", "no pod is found: nothing can be backed up or restored", required=True),
    Needed("get", "", "pods/exec", "no command can be run in a pod (since Kubernetes 1.35)", required=True),
    Needed("create", "", "pods/exec", "no command can be run in a pod", required=True),
    Needed("get", "", "secrets", "databases' accounts are taken from their containers' environment, not the Secret"),
    Needed("list", "", "events", "why a pod has ended is told by its status alone"),
    Needed("get", "apps", "statefulsets", "pods of a StatefulSet that are not there count as ones that never were"),
    Needed(
        "list", "networking.k8s.io", "ingresses",
        "whose a namespace is that no setting names must be said by its pods' labels",
    ),
)  # fmt: skip

#: For pods of ours beside a site's, where an image for them is set.
HELPING = (
    Needed("create", "", "pods", "sites whose image has no sh or tar cannot be backed up or restored"),
    Needed("delete", "", "pods", "helper pods stay until they end by themselves"),
)


#: For the objects of namespaces whose domains have them backed up.
LISTING = tuple(
    Needed("list", kind.group, kind.plural, "backups of the namespace's objects are partial without them")
    for kind in KINDS
)


_NO_SNAPSHOT = "no snapshot is made: files and mail are read while they change"
_STAYS = "no snapshot is made, since it would stay"
#: Besides, for domains with `snapshots`.
SNAPSHOTS = (
    *(Needed(verb, "", "persistentvolumeclaims", _NO_SNAPSHOT) for verb in ("get", "create")),
    *(Needed(verb, "", "persistentvolumeclaims", _STAYS) for verb in ("list", "delete")),
    *(Needed(verb, "snapshot.storage.k8s.io", "volumesnapshots", _NO_SNAPSHOT) for verb in ("get", "create")),
    *(Needed(verb, "snapshot.storage.k8s.io", "volumesnapshots", _STAYS) for verb in ("list", "delete")),
    Needed(
        "list", "snapshot.storage.k8s.io", "volumesnapshotclasses",
        "that there is no class for a claim is only told when its snapshot is not ready in time", cluster=True,
    ),
)  # fmt: skip


async def rights(
    cluster: Cluster,
    namespace: str,
    secret: str | None,
    *,
    helper: bool = False,
    objects: bool = False,
    snapshots: bool = False,
) -> list[Right]:
    """In one namespace, by SelfSubjectAccessReview (authorization.k8s.io/v1), which every account may ask for unless
    somebody has taken that away. `secret`: the one that is read there; None: none is. `helper`: pods are made there.
    `objects`: they are backed up, `snapshots`: of claims are made. Raises DeploymentError."""
    found: list[Right] = []
    asked = True
    besides = (HELPING if helper else (), LISTING if objects else (), SNAPSHOTS if snapshots else ())
    for needed in (*NEEDED, *chain.from_iterable(besides)):
        if needed.verb == "get" and needed.resource == "secrets" and secret is None:
            continue
        allowed = None
        if asked:
            try:
                allowed = await _allowed(cluster, namespace, needed, secret)
            except (DeploymentRefused, TargetMissing):  # then we may ask for none
                asked = False
        right = f"{needed.verb} {needed.resource}"
        found.append(Right(namespace, right, needed.required, allowed, needed.without))
    return found


async def _allowed(cluster: Cluster, namespace: str, needed: Needed, secret: str | None) -> bool:
    resource, _, subresource = needed.resource.partition("/")
    attributes = client.V1ResourceAttributes(
        namespace=None if needed.cluster else namespace,
        verb=needed.verb,
        group=needed.group,
        resource=resource,
        subresource=subresource or None,
        name=secret if needed.verb == "get" and needed.resource == "secrets" else None,
    )
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    with mapped("Asking for our rights", "create on selfsubjectaccessreviews"):
        api = client.AuthorizationV1Api(await cluster.api())
        answer = await api.create_self_subject_access_review(
            client.V1SelfSubjectAccessReview(spec=spec), _request_timeout=_TIMEOUT
        )
    return bool(answer.status.allowed)

"""What this service may do in a namespace with sites, and what it cannot do where it may not.

deploy/kubernetes-rbac.yaml grants just these, kubernetes-rbac-helper.yaml those for helpers; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubernetes_asyncio import client

from app.deployments.kubernetes import Cluster, mapped
from app.deployments.site import Right

_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Needed:
    """`resource`: with its subresource, as RBAC writes it. `without`: what is lost."""

    verb: str
    group: str
    resource: str
    without: str
    required: bool = False


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


async def rights(cluster: Cluster, namespace: str, secret: str | None, *, helper: bool = False) -> list[Right]:
    """In one namespace, by SelfSubjectAccessReview (authorization.k8s.io/v1), which every account may ask for.
    `secret`: the one that is read there; None: none is. `helper`: pods are made there. Raises DeploymentError."""
    found = []
    for needed in (*NEEDED, *(HELPING if helper else ())):
        if needed.resource == "secrets" and secret is None:
            continue
        resource, _, subresource = needed.resource.partition("/")
        attributes = client.V1ResourceAttributes(
            namespace=namespace,
            verb=needed.verb,
            group=needed.group,
            resource=resource,
            subresource=subresource or None,
            name=secret if needed.resource == "secrets" else None,
        )
        spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        with mapped("Asking for our rights", "create on selfsubjectaccessreviews"):
            api = client.AuthorizationV1Api(await cluster.api())
            answer = await api.create_self_subject_access_review(
                client.V1SelfSubjectAccessReview(spec=spec), _request_timeout=_TIMEOUT
            )
        found.append(
            Right(
                namespace=namespace,
                right=f"{needed.verb} {needed.resource}",
                required=needed.required,
                allowed=bool(answer.status.allowed),
                without=needed.without,
            )
        )
    return found

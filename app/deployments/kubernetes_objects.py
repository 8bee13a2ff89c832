"""The objects of one namespace: listed, read, and made by server-side apply.

Sources: the Kubernetes API: discovery (`/apis/<group>`), `limit` and `continue` of lists, server-side apply (PATCH of
`application/apply-patch+yaml` with `fieldManager`, `dryRun=All`, `fieldValidation=Strict`; 201: it was not there).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from app.archives.streams import CHUNK
from app.deployments.kubernetes import Cluster, mapped
from app.errors import DeploymentError, DeploymentRefused, DeploymentUnreachable

Document = dict[str, Any]
MANAGER = "liberu-backup"
_TIMEOUT = 30
_PAGE = 50
#: Bytes of one answer: objects are 1.5 MiB at most, where etcd has its defaults.
_MAX_ANSWER = 96 << 20
_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class ObjectKind:
    group: str
    name: str
    plural: str


#: What is backed up, in the order in which it is made again: what others need first. Nothing of the cluster itself.
KINDS = (
    ObjectKind("", "ServiceAccount", "serviceaccounts"),
    ObjectKind("", "ConfigMap", "configmaps"),
    ObjectKind("", "Secret", "secrets"),
    ObjectKind("", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ObjectKind("rbac.authorization.k8s.io", "Role", "roles"),
    ObjectKind("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
    ObjectKind("", "Service", "services"),
    ObjectKind("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
    ObjectKind("apps", "Deployment", "deployments"),
    ObjectKind("apps", "StatefulSet", "statefulsets"),
    ObjectKind("apps", "DaemonSet", "daemonsets"),
    ObjectKind("batch", "CronJob", "cronjobs"),
    ObjectKind("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ObjectKind("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
    ObjectKind("networking.k8s.io", "Ingress", "ingresses"),
    ObjectKind("gateway.networking.k8s.io", "HTTPRoute", "httproutes"),
)


class NamespaceObjects:
    """`selector`: of labels; None: all that are in the namespace."""

    def __init__(self, cluster: Cluster, namespace: str, selector: str | None = None) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._selector = selector
        self._versions: dict[str, list[str]] = {}

    async def pages(self, kind: ObjectKind) -> AsyncGenerator[list[Document], None]:
        """All of a kind, with `apiVersion` and `kind`; nothing where the cluster has no such kind. Raises
        DeploymentError."""
        for version in await self.versions(kind.group):
            begin: str | None = ""
            while begin is not None:
                query = [("limit", str(_PAGE)), ("continue", begin), ("labelSelector", self._selector or "")]
                what = f"Listing {kind.plural} of {self.namespace}"
                status, found = await self._ask(
                    what, f"list on {kind.plural}", "GET", self._path(kind, version), query=[q for q in query if q[1]]
                )
                if status == 404:
                    break
                known = {"apiVersion": version, "kind": kind.name}
                yield [{**known, **item} for item in found.get("items") or []]
                begin = found.get("metadata", {}).get("continue") or None
            else:
                return

    async def versions(self, group: str) -> list[str]:
        """As `apps/v1`, the preferred one first; none: the cluster has no such group. Raises DeploymentError."""
        if group not in self._versions:
            found = ["v1"]
            if group:
                status, about = await self._ask(f"Looking for {group}", "get on /apis", "GET", f"/apis/{group}")
                listed = [] if status == 404 else [about.get("preferredVersion"), *(about.get("versions") or [])]
                found = list(dict.fromkeys(version["groupVersion"] for version in listed if version))
            self._versions[group] = found
        return self._versions[group]

    async def get(self, kind: ObjectKind, version: str, name: str) -> Document | None:
        """None: it is not there. Raises DeploymentError."""
        what = f"Reading {kind.name} {self.namespace}/{name}"
        status, found = await self._ask(what, f"get on {kind.plural}", "GET", self._path(kind, version, name))
        return None if status == 404 else found

    async def apply(self, kind: ObjectKind, document: Document, *, trial: bool) -> tuple[bool, Document]:
        """Whether it was not there, and what is there now. Nothing is taken from other managers. `trial`: nothing is
        changed. Raises DeploymentRefused (RBAC), DeploymentUnreachable, DeploymentError for anything else that the
        cluster has against it."""
        name = document["metadata"]["name"]
        query = [("fieldManager", MANAGER), ("fieldValidation", "Strict"), *([("dryRun", "All")] if trial else [])]
        what = f"Applying {kind.name} {self.namespace}/{name}"
        path = self._path(kind, document["apiVersion"], name)
        status, found = await self._ask(what, f"create and patch on {kind.plural}", "PATCH", path, document, query)
        return status == 201, found

    def _path(self, kind: ObjectKind, version: str, name: str | None = None) -> str:
        root = f"/apis/{version}" if kind.group else f"/api/{version}"
        found = f"{root}/namespaces/{quote(self.namespace, safe='')}/{kind.plural}"
        return found if name is None else f"{found}/{quote(name, safe='')}"

    async def _ask(
        self,
        what: str,
        verb: str,
        method: str,
        path: str,
        body: Document | None = None,
        query: Sequence[tuple[str, str]] = (),
    ) -> tuple[int, Document]:
        """Status and answer: of success, and of what a GET does not find."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/apply-patch+yaml"
        with mapped(what, verb):
            api: Any = await self._cluster.api()  # its annotations know nothing of answers that are not decoded
            response = await api.call_api(
                path, method, query_params=list(query), header_params=headers, body=body,
                auth_settings=["BearerToken"], _return_http_data_only=True, _preload_content=False,
                _request_timeout=_TIMEOUT,
            )  # fmt: skip
            async with response:
                answer = await _whole(what, response)
                found = await asyncio.to_thread(_decoded, answer)
        status = int(response.status)
        if status < 300 or (status == 404 and method == "GET"):
            return status, found
        told = str(found.get("message") or response.reason or "")[:_MAX_REASON]
        if status == 401:
            raise DeploymentRefused(f"{what}: the cluster refuses the credentials; check the kubeconfig")
        if status == 403 and "cannot " in told:  # by RBAC: other refusals name no verb
            rights = "deploy/kubernetes-rbac-objects.yaml"
            raise DeploymentRefused(f"{what}: the cluster denies `{verb}`; allow it ({rights})")
        if status in (410, 429) or status >= 500:  # 410: a list that took too long to go on with
            raise DeploymentUnreachable(f"{what}: the cluster is busy or failing ({status} {told})")
        if status == 403:
            raise DeploymentRefused(f"{what}: the cluster denies it ({told})")
        raise DeploymentError(f"{what}: the cluster refuses it ({status} {told})")


async def _whole(what: str, response: Any) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_chunked(CHUNK):
        size += len(chunk)
        if size > _MAX_ANSWER:
            raise DeploymentError(f"{what}: the answer is longer than {_MAX_ANSWER >> 20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def _decoded(answer: bytes) -> Document:
    """What is no JSON object, as the text of a proxy, tells nothing."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

"""The namespaces' objects of the cluster double: discovery, lists in pages, server-side apply with dry runs.

As an API server does: it adds identity, addresses and defaults, refuses what another manager owns, knows no namespace
that was not made, binds no Role that is not there, and gives no rights that the account does not have.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from copy import deepcopy
from typing import Any
from uuid import uuid4

from aiohttp import web

Document = dict[str, Any]
Allow = Callable[..., None]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_KINDS = {
    "": {
        "serviceaccounts": "ServiceAccount", "configmaps": "ConfigMap", "secrets": "Secret", "services": "Service",
        "persistentvolumeclaims": "PersistentVolumeClaim",
    },
    "apps": {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"},
    "batch": {"cronjobs": "CronJob"},
    "autoscaling": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "policy": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "rbac.authorization.k8s.io": {"roles": "Role", "rolebindings": "RoleBinding"},
    "networking.k8s.io": {"ingresses": "Ingress", "networkpolicies": "NetworkPolicy"},
}  # fmt: skip
_VERSIONS = {"autoscaling": ["v2", "v1"]}
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")


class ObjectsDouble:
    """`most`: how many a page has, however many were asked for. `forbidden`: verbs of roles that the account may not
    give. `watching`: is told of each object right before it is made."""

    def __init__(self, allow: Allow) -> None:
        self._allow = allow
        self.reset()

    def reset(self) -> None:
        """As a new cluster is."""
        self.found: dict[tuple[str, str, str], Document] = {}  # namespace, plural, name
        self.owners: dict[tuple[str, str, str], dict[str, str]] = {}  # of each field, as JSON of its path
        self.namespaces: set[str] = set()
        self.most = 500
        self.pages = 0
        self.trials = 0
        self.forbidden = {"escalate"}
        self.invalid: dict[str, str] = {}  # name → why an admission webhook refuses it
        self.broken: set[str] = set()  # names of which applying fails, though the trial did not
        self.watching: Callable[[str], None] | None = None

    def add_routes(self, application: web.Application, others: dict[tuple[str, str], Handler]) -> None:
        """`others`: by verb and plural, who knows of namespaces that are not ours."""
        for group, kinds in _KINDS.items():
            if group:
                application.router.add_get(f"/apis/{group}", self._discovery(group))
            for version in _VERSIONS.get(group, ["v1"]):
                root = f"/apis/{group}/{version}" if group else f"/api/{version}"
                for plural in kinds:
                    path = f"{root}/namespaces/{{namespace}}/{plural}"
                    wrapped = [
                        self._handler(verb, group, version, plural, others.get((verb, plural)))
                        for verb in ("list", "get", "patch")
                    ]
                    application.router.add_get(path, wrapped[0])
                    application.router.add_get(f"{path}/{{name}}", wrapped[1])
                    application.router.add_patch(f"{path}/{{name}}", wrapped[2])

    def _discovery(self, group: str) -> Handler:
        listed = [{"groupVersion": f"{group}/{one}", "version": one} for one in _VERSIONS.get(group, ["v1"])]
        answer = {"kind": "APIGroup", "name": group, "versions": listed, "preferredVersion": listed[0]}

        async def handle(request: web.Request) -> web.StreamResponse:
            self._allow(request)
            return web.json_response(answer)

        return handle

    def _handler(self, verb: str, group: str, version: str, plural: str, other: Handler | None) -> Handler:
        served = f"{group}/{version}" if group else version

        async def handle(request: web.Request) -> web.StreamResponse:
            namespace = request.match_info["namespace"]
            if namespace not in self.namespaces and other is not None:
                return await other(request)
            self._allow(request, f"{verb} {plural}", *(["create " + plural] if verb == "patch" else []))
            if verb == "list":
                return self._list(request, namespace, plural, served)
            key = namespace, plural, request.match_info["name"]
            if verb == "get":
                if key not in self.found:
                    raise _status(404, f"{plural} {key[2]!r} not found")
                return web.json_response(self.found[key])
            return await self._apply(request, key, served, _KINDS[group][plural])

        return handle

    def _list(self, request: web.Request, namespace: str, plural: str, served: str) -> web.Response:
        """Items do not say their kind."""
        self.pages += 1
        begin = int(request.query.get("continue") or 0)
        most = min(self.most, int(request.query.get("limit") or self.most))
        wanted = dict(one.split("=") for one in filter(None, request.query.get("labelSelector", "").split(",")))
        items = [
            {name: value for name, value in found.items() if name not in ("apiVersion", "kind")}
            for (where, kind, _), found in sorted(self.found.items())
            if (where, kind) == (namespace, plural)
            and wanted.items() <= (found["metadata"].get("labels") or {}).items()
        ]
        rest = {"continue": str(begin + most)} if begin + most < len(items) else {}
        return web.json_response({"apiVersion": served, "metadata": rest, "items": items[begin : begin + most]})

    async def _apply(self, request: web.Request, key: tuple[str, str, str], served: str, kind: str) -> web.Response:
        if request.content_type != "application/apply-patch+yaml":
            raise _status(415, "the double knows server-side apply only")
        asked, trial = await request.json(), request.query.get("dryRun") == "All"
        manager = request.query["fieldManager"]
        if request.query.get("force"):
            raise _status(422, "nobody may force here")
        if key[0] not in self.namespaces:
            raise _status(404, f"namespaces {key[0]!r} not found")
        if (asked["apiVersion"], asked["kind"], asked["metadata"]["name"]) != (served, kind, key[2]):
            raise _status(400, "the object is not what the path says")
        if asked["metadata"].get("namespace") != key[0]:
            raise _status(400, "the namespace of the object does not match")
        if set(asked["metadata"]) & {"uid", "resourceVersion", "managedFields", "creationTimestamp"}:
            raise _status(409, "metadata of another object")
        if key[2] in self.invalid:
            raise _status(403, f"{key[1]} {key[2]!r} is forbidden: {self.invalid[key[2]]}")
        self._escalates(key[0], asked)
        before = self.found.get(key)
        made = self._merged(before, asked, self.owners.get(key, {}), manager)
        if trial:
            self.trials += 1
            return web.json_response(made, status=200 if before else 201)
        if self.watching is not None:
            self.watching(f"{kind} {key[2]}")
        if key[2] in self.broken:
            raise _status(422, f"{key[1]} {key[2]!r} is invalid: a race")
        self.put(key, made, manager, asked)
        return web.json_response(made, status=200 if before else 201)

    def put(self, key: tuple[str, str, str], document: Document, manager: str = "kubectl", said: Any = None) -> None:
        self.found[key] = document
        owners = self.owners.setdefault(key, {})
        owners.update(dict.fromkeys(_leaves(document if said is None else said), manager))

    def make(self, namespace: str, plural: str, document: Document) -> Document:
        """As `kubectl apply` would."""
        self.namespaces.add(namespace)
        document = deepcopy(document)
        document["metadata"]["namespace"] = namespace
        key = namespace, plural, document["metadata"]["name"]
        self.put(key, self._merged(self.found.get(key), document, {}, "kubectl"), "kubectl", document)
        return self.found[key]

    def _escalates(self, namespace: str, asked: Document) -> None:
        if asked["kind"] == "Role":
            for rule in asked.get("rules") or []:
                if self.forbidden & set(rule["verbs"]):
                    raise _status(403, "roles is forbidden: user is attempting to grant RBAC permissions not held")
        if asked["kind"] == "RoleBinding" and (namespace, "roles", asked["roleRef"]["name"]) not in self.found:
            raise _status(404, f"roles {asked['roleRef']['name']!r} not found")

    def _merged(self, before: Document | None, asked: Document, owners: dict[str, str], manager: str) -> Document:
        if before is None:
            return _defaulted(deepcopy(asked))
        there, conflicts = dict(_items(before)), []
        for path, value in _items(asked):
            if path in there and there[path] != value and owners.get(path, manager) != manager:
                conflicts.append(path)
        if conflicts:
            raise _status(409, f"Apply failed with {len(conflicts)} conflicts: {', '.join(conflicts[:3])}")
        made = deepcopy(before)
        _merge(made, asked)
        return made


def _defaulted(made: Document) -> Document:
    metadata, name = made["metadata"], made["metadata"]["name"]
    metadata |= {
        "uid": str(uuid4()), "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
        "managedFields": [{"manager": "someone", "operation": "Apply"}],
    }  # fmt: skip
    annotations = dict(metadata.get("annotations") or {})
    spec = made.get("spec", {})
    if made["kind"] == "Service":
        spec.setdefault("clusterIP", f"10.0.0.{len(name)}")
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec |= {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
        made["status"] = {"loadBalancer": {}}
    if made["kind"] == "PersistentVolumeClaim":
        spec["volumeName"] = f"pvc-{metadata['uid']}"
        annotations |= {"pv.kubernetes.io/bind-completed": "yes", "volume.kubernetes.io/selected-node": "node-1"}
        metadata["finalizers"] = ["kubernetes.io/pvc-protection"]
        made["status"] = {"phase": "Bound"}
    if made["kind"] in _WORKLOADS:
        spec.setdefault("revisionHistoryLimit", 10)
        made["status"] = {"observedGeneration": 1}
        if made["kind"] == "Deployment":
            annotations["deployment.kubernetes.io/revision"] = "3"
    if annotations:
        metadata["annotations"] = annotations
    return made


def _merge(into: Document, asked: Document) -> None:
    for name, value in asked.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = deepcopy(value)


def _items(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Lists are one field here."""
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _items(inner, (*path, name))
        else:
            yield json.dumps([*path, name]), inner


def _leaves(value: Document) -> list[str]:
    return [path for path, _ in _items(value)]


def _status(code: int, message: str) -> web.HTTPException:
    class _Failed(web.HTTPException):
        status_code = code

    body = json.dumps({"kind": "Status", "status": "Failure", "code": code, "message": message})
    return _Failed(text=body, content_type="application/json")

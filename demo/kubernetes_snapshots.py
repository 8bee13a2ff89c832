"""The snapshots of a cluster's double: VolumeSnapshots, their classes, and claims that are made of them.

As a cluster does: a claim of a class with WaitForFirstConsumer is bound when a pod uses it, one that a pod mounts is
deleted only when that is gone, and a snapshot only when no claim waits to be made of it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web

_GROUP = "/apis/snapshot.storage.k8s.io/v1"
_SNAPSHOTS = f"{_GROUP}/namespaces/{{namespace}}/volumesnapshots"
_CLAIMS = "/api/v1/namespaces/{namespace}/persistentvolumeclaims"
DRIVER = "disks.example.com"
_DELETED = "2026-01-01T00:00:00Z"


class SnapshotsDouble:
    """`claims`: the folder of each, as the cluster's; `mounted`: whether a pod has one. `served`: whether the cluster
    has the group. `slow`: so many looks until a snapshot is ready. `error`: what its status says until then. `quota`:
    what a claim is refused with. `stuck`: plurals whose deletion a finalizer holds up. `watching`: is told of each
    snapshot once it is there."""

    def __init__(
        self, folder: Path, claims: dict[str, Path], allow: Callable[..., None], mounted: Callable[[str], bool]
    ) -> None:
        self._folder = folder
        self._claims = claims
        self._allow = allow
        self._mounted = mounted
        self.reset()
        self.made: dict[tuple[str, str], dict[str, Any]] = {}  # by plural and name

    def reset(self) -> None:
        self.served = True
        self.slow = 0
        self.error: str | None = None
        self.quota: str | None = None
        self.stuck: set[str] = set()
        self.watching: Callable[[str], None] | None = None
        self.classes: dict[str, dict[str, Any]] = {"fast": {"driver": DRIVER, "default": True}}

    def claim(self, name: str, folder: Path) -> None:
        """One that is there, of a class with WaitForFirstConsumer."""
        self._claims[name] = folder
        self.made["persistentvolumeclaims", name] = {
            "metadata": {
                "name": name, "uid": str(uuid4()),
                "annotations": {"volume.kubernetes.io/storage-provisioner": DRIVER},
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "volumeMode": "Filesystem",
                "resources": {"requests": {"storage": "1Gi"}},
            },
            "status": {"phase": "Bound"},
        }  # fmt: skip

    def left(self) -> list[tuple[str, str]]:
        """Of what was made of snapshots."""
        return [
            key for key, found in self.made.items() if key[0] == "volumesnapshots" or "dataSource" in found["spec"]
        ]

    def add_routes(self, application: web.Application) -> None:
        for path, plural in ((_SNAPSHOTS, "volumesnapshots"), (_CLAIMS, "persistentvolumeclaims")):
            application.router.add_post(path, self._create(plural))
            application.router.add_delete(f"{path}/{{name}}", self._delete(plural))
        application.router.add_get(_SNAPSHOTS, self.list("volumesnapshots"))
        application.router.add_get(f"{_SNAPSHOTS}/{{name}}", self.get("volumesnapshots"))
        application.router.add_get(f"{_GROUP}/volumesnapshotclasses", self._list_classes)
        application.router.add_get(_GROUP, self._resources)

    def bind(self, claim: str) -> Path:
        """What a pod mounts: a claim of a snapshot gets its volume now."""
        found = self.made.get(("persistentvolumeclaims", claim))
        if claim not in self._claims and found is not None:
            source = self._folder / f"of-{found['spec']['dataSource']['name']}"
            self._claims[claim] = _copy(source, self._folder / f"claim-{claim}")
            found["status"] = {"phase": "Bound"}
        return self._claims[claim]

    def settle(self) -> None:
        """What waited to be deleted goes when nothing needs it any more."""
        for (plural, name), found in list(self.made.items()):
            held = plural in self.stuck or (plural == "persistentvolumeclaims" and self._mounted(name))
            if "deletionTimestamp" in found["metadata"] and not held:
                del self.made[plural, name]
                if plural == "persistentvolumeclaims":
                    self._claims.pop(name, None)

    async def _resources(self, request: web.Request) -> web.Response:
        self._require_group(request)
        kinds = [
            {"name": "volumesnapshots", "singularName": "volumesnapshot", "kind": "VolumeSnapshot",
             "namespaced": True, "verbs": ["create", "delete", "get", "list"]},
        ]  # fmt: skip
        document = {"kind": "APIResourceList", "groupVersion": _GROUP.removeprefix("/apis/"), "resources": kinds}
        return web.json_response(document)

    async def _list_classes(self, request: web.Request) -> web.Response:
        self._require_group(request, "list volumesnapshotclasses")
        key = "snapshot.storage.kubernetes.io/is-default-class"
        items = [
            {
                "metadata": {"name": name, "annotations": {key: "true"} if one["default"] else {}},
                "driver": one["driver"],
            }
            for name, one in self.classes.items()
        ]
        return web.json_response({"kind": "VolumeSnapshotClassList", "metadata": {}, "items": items})

    def _require_group(self, request: web.Request, *wanted: str) -> None:
        self._allow(request, *wanted)
        if not self.served:
            raise web.HTTPNotFound(text="404 page not found")

    def _create(self, plural: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            self._allow(request, f"create {plural}")
            asked = await request.json()
            name, spec = asked["metadata"]["name"], asked["spec"]
            if (plural, name) in self.made:
                raise web.HTTPConflict(text=json.dumps({"reason": "AlreadyExists"}))
            asked["metadata"]["uid"] = str(uuid4())
            if plural == "volumesnapshots":
                source = self._claims[spec["source"]["persistentVolumeClaimName"]]
                _copy(source, self._folder / f"of-{name}")
            else:
                if self.quota is not None:
                    raise web.HTTPForbidden(text=json.dumps({"message": self.quota}))
                asked["status"] = {"phase": "Pending"}
            self.made[plural, name] = asked
            if plural == "volumesnapshots" and self.watching is not None:
                self.watching(name)
            return web.json_response(asked, status=201)

        return handle

    def get(self, plural: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            self._allow(request, f"get {plural}")
            found = self._find(request, plural)
            if plural == "volumesnapshots":
                found = {**found, "status": self._status()}
            return web.json_response(found)

        return handle

    def list(self, plural: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            self._allow(request, f"list {plural}")
            self.settle()
            key, _, value = request.query.get("labelSelector", "").partition("=")
            items = [
                found for (kind, _), found in self.made.items()
                if kind == plural and found["metadata"].get("labels", {}).get(key) == value
            ]  # fmt: skip
            return web.json_response({"kind": "List", "metadata": {}, "items": items})

        return handle

    def _status(self) -> dict[str, Any]:
        self.slow -= 1
        if self.slow < 0:
            return {"readyToUse": True, "restoreSize": "2Gi"}
        return {"readyToUse": False} | ({"error": {"message": self.error}} if self.error else {})

    def _find(self, request: web.Request, plural: str) -> dict[str, Any]:
        self.settle()
        found = self.made.get((plural, request.match_info["name"]))
        if found is None:
            raise web.HTTPNotFound(text="{}")
        return found

    def _delete(self, plural: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            self._allow(request, f"delete {plural}")
            found = self._find(request, plural)
            asked = await request.json() if request.can_read_body else {}
            if asked.get("preconditions", {}).get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
                raise web.HTTPConflict(text=json.dumps({"reason": "Conflict"}))
            found["metadata"]["deletionTimestamp"] = _DELETED
            self.settle()
            return web.json_response(found)

        return handle


def _copy(source: Path, target: Path) -> Path:
    """With owners, and whatever else a volume has."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    return target

"""The snapshots of a cluster's double: VolumeSnapshots, and claims that are made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

_SNAPSHOTS = "/apis/snapshot.storage.k8s.io/v1/namespaces/{namespace}/volumesnapshots"
_CLAIMS = "/api/v1/namespaces/{namespace}/persistentvolumeclaims"


class SnapshotsDouble:
    """`claims`: the folder of each, as the cluster's. `slow`: so many looks until a snapshot is ready. `error`: what
    its status says. `quota`: what a claim is refused with."""

    def __init__(self, folder: Path, claims: dict[str, Path], allow: Callable[..., None]) -> None:
        self._folder = folder
        self._claims = claims
        self._allow = allow
        self.slow = 0
        self.error: str | None = None
        self.quota: str | None = None
        self.made: dict[tuple[str, str], dict[str, Any]] = {}  # by plural and name

    def add_routes(self, application: web.Application) -> None:
        for path, plural in ((_SNAPSHOTS, "volumesnapshots"), (_CLAIMS, "persistentvolumeclaims")):
            application.router.add_post(path, self._create(plural))
            application.router.add_delete(f"{path}/{{name}}", self._delete(plural))
        application.router.add_get(f"{_SNAPSHOTS}/{{name}}", self.get("volumesnapshots"))

    def _create(self, plural: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            self._allow(request, f"create {plural}")
            asked = await request.json()
            name, spec = asked["metadata"]["name"], asked["spec"]
            if plural == "volumesnapshots":
                source = self._claims[spec["source"]["persistentVolumeClaimName"]]
                shutil.copytree(source, self._folder / f"of-{name}", symlinks=True)
            else:
                if self.quota is not None:
                    raise web.HTTPForbidden(text=json.dumps({"message": self.quota}))
                source = self._folder / f"of-{spec['dataSource']['name']}"
                self._claims[name] = shutil.copytree(source, self._folder / f"claim-{name}", symlinks=True)
            self.made[plural, name] = asked
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

    def _status(self) -> dict[str, Any]:
        if self.error is not None:
            return {"readyToUse": False, "error": {"message": self.error}}
        self.slow -= 1
        return {"readyToUse": False} if self.slow >= 0 else {"readyToUse": True, "restoreSize": "2Gi"}

    def _find(self, request: web.Request, plural: str) -> dict[str, Any]:
        found = self.made.get((plural, request.match_info["name"]))
        if found is None:
            raise web.HTTPNotFound(text="{}")
        return found

    def _delete(self, plural: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            self._allow(request, f"delete {plural}")
            found, name = self._find(request, plural), request.match_info["name"]
            del self.made[plural, name]
            if plural == "persistentvolumeclaims":
                shutil.rmtree(self._claims.pop(name))
            return web.json_response(found)

        return handle

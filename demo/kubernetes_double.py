"""A stand-in for a Kubernetes API server: the real HTTP and WebSocket protocol, commands run for real in a chroot.

It behaves as a cluster was measured to (Kubernetes 1.36, containerd 2.1), traps included: stdin closes as soon as
stdout or stderr does; a command that leaves input unread ends without a status; a client that goes away ends nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import WSMsgType, web

from demo.kubernetes_objects import ObjectsDouble
from demo.kubernetes_snapshots import SnapshotsDouble
from demo.ports import free_port
from demo.storage_servers import make_certificate

TOKEN = "kubernetes-canary-token"
_FRAME = 32 << 10
_TOO_LARGE = 32 << 20
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"


@dataclass
class Pod:
    namespace: str
    name: str
    labels: dict[str, str]
    containers: dict[str, Path]  # name → root folder
    phase: str = "Running"
    ready: bool = True
    env: dict[str, str] = field(default_factory=dict)
    #: What commands have in their environment besides, from Secrets that the pod names.
    secret_env: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    node: str = "node-1"
    #: Name → its source as the API has it, as {"persistentVolumeClaim": {"claimName": "site"}}.
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Container → where it mounts which volume, as {"name": "site", "mountPath": "/site", "subPath": "a"}.
    mounts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: Containers that are init containers which stay (native sidecars).
    sidecars: tuple[str, ...] = ()
    owners: list[dict[str, str]] = field(default_factory=list)
    #: It stays Running and Ready for its grace period.
    deleted: bool = False
    waiting: str | None = None
    restarts: int = 0
    #: How its containers ended the last time, as {"reason": "OOMKilled", "exitCode": 137}.
    ended: dict[str, Any] | None = None
    reason: str | None = None
    message: str | None = None
    conditions: list[dict[str, str]] = field(default_factory=list)  # beside Ready
    uid: str = field(default_factory=lambda: str(uuid4()))
    user: tuple[int, int, int] | None = None  # runAsUser, runAsGroup, fsGroup
    asked: dict[str, Any] = field(default_factory=dict)  # the document that it was made of

    def enter(self, root: Path) -> list[str]:
        """What begins a command in a container."""
        who = [] if self.user is None else ["--userspec={}:{}".format(*self.user), f"--groups={self.user[2]}"]
        return ["chroot", *who, str(root)]

    def document(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": self.name, "namespace": self.namespace, "uid": self.uid, "labels": self.labels,
            "annotations": self.annotations, "ownerReferences": self.owners,
        }  # fmt: skip
        if self.deleted:
            metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}
        containers = [name for name in self.containers if name not in self.sidecars]
        state = {"waiting": {"reason": self.waiting}} if self.waiting else {"running": {}}
        return {
            "metadata": metadata,
            "spec": {
                "nodeName": self.node,
                "volumes": [{"name": name, **source} for name, source in self.volumes.items()],
                "containers": [self._container(name) for name in containers],
                "initContainers": [
                    {**self._container(name), "restartPolicy": "Always"} for name in self.sidecars
                ],
            },
            "status": {
                "phase": self.phase,
                "reason": self.reason,
                "message": self.message,
                "conditions": [{"type": "Ready", "status": "True" if self.ready else "False"}, *self.conditions],
                "containerStatuses": [
                    {"name": name, "ready": self.ready, "restartCount": self.restarts, "image": "x", "imageID": "x",
                     "state": state, "lastState": {"terminated": self.ended} if self.ended else {}}
                    for name in containers
                ],
            },
        }  # fmt: skip

    def _container(self, name: str) -> dict[str, Any]:
        env: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in self.env.items()]
        env += [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": "accounts", "key": key.lower()}}}
            for key in self.secret_env
        ]
        return {"name": name, "image": "x", "env": env, "volumeMounts": self.mounts.get(name, [])}


def selects(selector: str, labels: dict[str, str]) -> bool:
    """Of both kinds: a=b, a!=b, a, !a, a in (b,c), a notin (b,c)."""
    for part in re.findall(r"(?:[^,(]|\([^)]*\))+", selector):
        if found := re.fullmatch(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*", part):
            key, how, values = found.groups()
            fits = labels.get(key) in {value.strip() for value in values.split(",")}
            fits = fits == (how == "in")
        elif found := re.fullmatch(r"\s*([^!=\s]+)\s*(!=|==?)\s*(\S*)\s*", part):
            key, how, value = found.groups()
            fits = (labels.get(key) == value) == (how != "!=")
        elif found := re.fullmatch(r"\s*(!?)([^!=\s]+)\s*", part):
            fits = (found[2] in labels) == (not found[1])
        else:
            raise web.HTTPBadRequest(text=json.dumps({"message": f"unable to parse {part}"}))
        if not fits:
            return False
    return True


class ClusterDouble:
    """`protocols`: what it speaks. `denied`: verbs and resources that RBAC denies, as `create pods/exec`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.protocols = [V5, V4]
        self.denied: set[str] = set()
        self.claims: dict[str, Path] = {}  # what a pod that is made mounts
        self.asked: set[str] = set()  # what was wanted, denied or not
        self.pods: list[Pod] = []
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}
        self.objects = ObjectsDouble(self._allow)
        self.snapshots = SnapshotsDouble(folder, self.claims, self._allow, self._mounts)
        self.hosts: dict[str, list[str]] = {}  # namespace → what its Ingress serves
        self.replicas: dict[tuple[str, str], int] = {}  # namespace and StatefulSet → how many pods it is to have
        self.events: list[tuple[str, str, str]] = []  # a pod's uid, a reason, a message
        self.away: str | None = None  # "api": nothing is answered; "kubelet": no command can be begun
        self.listed = 0  # how often it was asked for pods
        self.watching: Callable[[Pod, bytes], None] | None = None  # see _watched
        self.hearing: Callable[[Pod, bytes], None] | None = None  # gets what a command prints
        self._sessions: list[tuple[Pod, _Session]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="kubernetes double", daemon=True)
        self._started = threading.Event()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._own: dict[Path, tuple[subprocess.Popen[bytes], int]] = {}
        self._runner: web.AppRunner | None = None

    def root(self, name: str) -> Path:
        """A folder for a container's root, with /proc and /dev once `mount` was called."""
        root = self.folder / name
        root.mkdir()
        return root

    def mount(self, root: Path) -> None:
        for name in ("proc", "dev"):
            (root / name).mkdir(exist_ok=True)
            self._mount("--rbind", f"/{name}", str(root / name))

    def volume(self, root: Path, source: Path, at: str) -> None:
        """Mount a folder in a container's root."""
        self._mount("--bind", str(source), str(root / at))

    def read_only(self, root: Path) -> None:
        """As `readOnlyRootFilesystem` does; what was mounted in it before stays as it is. Before any `volume`."""
        self._mount("--bind", str(root), str(root))
        self._mount("-o", "remount,bind,ro", str(root))

    def _mount(self, *arguments: str) -> None:
        subprocess.run([*self.entered(), "mount", *arguments], check=True)

    def replace(self, pod: Pod, successor: Pod | None) -> None:
        """Delete a pod with no grace: whatever runs in it is killed. Its successor, if any, has started already."""
        self.pods[:] = [*(found for found in self.pods if found is not pod), *([successor] if successor else ())]
        for there, session in list(self._sessions):
            if there is pod:
                session.kill()

    def restart(self, pod: Pod, reason: str = "OOMKilled", status: int = 137) -> None:
        """Its containers end with all that runs in them, and are there again."""
        pod.restarts, pod.ended = pod.restarts + 1, {"reason": reason, "exitCode": status}
        for there, session in list(self._sessions):
            if there is pod:
                session.kill()

    def cut(self) -> None:
        """Every connection breaks, as when the API server ends; commands run on, their input has ended."""
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        assert self._runner is not None and self._runner.server is not None
        for handler in list(self._runner.server.connections):
            if handler.transport is not None:
                handler.transport.abort()

    def entered(self) -> list[str]:
        """What begins a command that sees the mounts: they are in a namespace that ends with this process, however it
        ends. Whoever deletes our folder then deletes nothing through a mount of /dev."""
        assert self._keeper is not None
        return ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", "--"]

    def own_processes(self, root: Path) -> int:
        """Give a container processes of its own, below a PID 1 that waits for none, as `sleep` and `mysqld` do; in
        place of `mount`. Returns that one's number here."""
        (root / "proc").mkdir(exist_ok=True)
        (root / "dev").mkdir(exist_ok=True)
        script = 'mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc" && echo && exec sleep 1000000'
        argv = [*self.entered(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]
        process = subprocess.Popen([*argv, str(root)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        first = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        self._own[root] = process, first
        return first

    def into(self, root: Path) -> list[str]:
        """What begins a command that sees a container's mounts and processes; see Pod.enter."""
        if root in self._own:
            first = self._own[root][1]
            inside = [f"--mount=/proc/{first}/ns/mnt", f"--pid=/proc/{first}/ns/pid"]
            return ["nsenter", *inside, "--", "setsid"]
        return self.entered()

    def kubeconfig(self, port: int | None = None) -> Path:
        path = self.folder / f"kubeconfig-{port or self.port}"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{"name": "double", "cluster": {
                "server": f"https://127.0.0.1:{port or self.port}",
                "certificate-authority-data": base64.b64encode((self.folder / "cert.pem").read_bytes()).decode(),
            }}],
            "users": [{"name": "double", "user": {"token": TOKEN}}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "double"}}],
        }))  # fmt: skip
        path.chmod(0o600)
        return path

    def trusted(self) -> ssl.SSLContext:
        """For a client of ours."""
        return ssl.create_default_context(cafile=str(self.folder / "cert.pem"))

    def start(self) -> None:
        make_certificate(self.folder)
        own = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "echo; read -r end"]
        self._keeper = subprocess.Popen(own, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        self._keeper.stdout.readline()
        self._thread.start()
        if not self._started.wait(20):
            raise AssertionError("the double does not start")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        for process, _ in self._own.values():
            process.kill()
            process.communicate()
        if self._keeper is not None:
            self._keeper.communicate()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._runner = web.AppRunner(self._application(), handle_signals=False)
        self._loop.run_until_complete(runner.setup())
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=tls).start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=_TOO_LARGE)
        self.snapshots.add_routes(application)
        self.objects.add_routes(application, {
            ("get", "secrets"): self._secret, ("get", "statefulsets"): self._stateful_set,
            ("list", "ingresses"): self._ingresses,
            ("get", "persistentvolumeclaims"): self.snapshots.get("persistentvolumeclaims"),
            ("list", "persistentvolumeclaims"): self.snapshots.list("persistentvolumeclaims"),
        })  # fmt: skip
        base = "/api/v1/namespaces/{namespace}"
        application.router.add_get(f"{base}/pods", self._list)
        application.router.add_post(f"{base}/pods", self._create)
        application.router.add_get(f"{base}/pods/{{name}}", self._get)
        application.router.add_delete(f"{base}/pods/{{name}}", self._delete)
        application.router.add_get(f"{base}/events", self._events)
        application.router.add_get(f"{base}/pods/{{name}}/exec", self._exec)
        reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        application.router.add_post(reviews, self._review)
        return application

    def _allow(self, request: web.Request, *wanted: str) -> None:
        if self.away == "api" and request.transport is not None:
            request.transport.abort()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized(text="{}")
        self.asked.update(wanted)
        if self.denied & set(wanted):
            raise web.HTTPForbidden(text=json.dumps({"message": f"cannot {wanted[0]}"}))

    async def _list(self, request: web.Request) -> web.Response:
        self._allow(request, "list pods")
        wanted = request.query.get("labelSelector", "")
        self.listed += 1
        name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        found = [
            pod.document()
            for pod in self.pods
            if pod.namespace == request.match_info["namespace"]
            and selects(wanted, pod.labels)
            and name in ("", pod.name)
        ]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})

    async def _events(self, request: web.Request) -> web.Response:
        self._allow(request, "list events")
        wanted = request.query.get("fieldSelector", "").removeprefix("involvedObject.uid=")
        found = [
            {"metadata": {"name": f"e{number}"}, "involvedObject": {"uid": uid}, "reason": reason, "message": message,
             "lastTimestamp": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z"}
            for number, (uid, reason, message) in enumerate(self.events) if uid == wanted
        ]  # fmt: skip
        return web.json_response({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": found})

    def _find(self, request: web.Request) -> Pod:
        for pod in self.pods:
            if (pod.namespace, pod.name) == (request.match_info["namespace"], request.match_info["name"]):
                return pod
        raise web.HTTPNotFound(text="{}")

    async def _create(self, request: web.Request) -> web.Response:
        """Of an image that is a folder below ours; its claims are mounted."""
        self._allow(request, "create pods")
        asked = await request.json()
        metadata, spec = asked["metadata"], asked["spec"]
        containers = {item["name"]: self.folder / item["image"] for item in spec["containers"]}
        if not all(root.is_dir() for root in containers.values()):
            made = Pod(request.match_info["namespace"], metadata["name"], {}, {}, waiting="ErrImagePull")
            made.phase = "Pending"
            made.containers = dict.fromkeys(containers, self.folder)
        else:
            made = Pod(request.match_info["namespace"], metadata["name"], {}, containers)
            for item in spec["containers"]:
                self._mount_claims(containers[item["name"]], spec.get("volumes", []), item.get("volumeMounts", []))
        made.labels, made.annotations = metadata.get("labels", {}), metadata.get("annotations", {})
        made.asked = asked
        self.pods.append(made)
        return web.json_response(made.document(), status=201)

    def _mount_claims(self, root: Path, volumes: list[dict[str, Any]], mounts: list[dict[str, Any]]) -> None:
        claims = {item["name"]: item["persistentVolumeClaim"]["claimName"] for item in volumes}
        for mount in mounts:
            (root / mount["mountPath"].strip("/")).mkdir(parents=True, exist_ok=True)
            source = self.snapshots.bind(claims[mount["name"]]) / mount.get("subPath", "")
            self.volume(root, source, mount["mountPath"].strip("/"))

    def _mounts(self, claim: str) -> bool:
        volumes = [volume for pod in self.pods for volume in pod.asked.get("spec", {}).get("volumes", [])]
        return any(volume.get("persistentVolumeClaim", {}).get("claimName") == claim for volume in volumes)

    async def _delete(self, request: web.Request) -> web.Response:
        self._allow(request, "delete pods")
        found = self._find(request)
        self.replace(found, None)
        return web.json_response(found.document())

    async def _get(self, request: web.Request) -> web.Response:
        self._allow(request, "get pods")
        return web.json_response(self._find(request).document())

    async def _secret(self, request: web.Request) -> web.Response:
        self._allow(request, "get secrets")
        key = (request.match_info["namespace"], request.match_info["name"])
        if key not in self.secrets:
            raise web.HTTPNotFound(text="{}")
        data = {name: base64.b64encode(value.encode()).decode() for name, value in self.secrets[key].items()}
        return web.json_response({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": key[1]}, "data": data})

    async def _review(self, request: web.Request) -> web.Response:
        """Of our own rights, which everybody may ask for, as a rule."""
        if "create selfsubjectaccessreviews" in self.denied:
            raise web.HTTPForbidden(text="{}")
        document = await request.json()
        asked = document["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        allowed = f"{asked['verb']} {resource}" not in self.denied
        return web.json_response({**document, "status": {"allowed": allowed}}, status=201)

    async def _stateful_set(self, request: web.Request) -> web.Response:
        self._allow(request, "get statefulsets")
        name = request.match_info["name"]
        replicas = self.replicas.get((request.match_info["namespace"], name))
        if replicas is None:
            raise web.HTTPNotFound(text="{}")
        spec: dict[str, Any] = {
            "replicas": replicas, "serviceName": name, "selector": {}, "template": {"spec": {"containers": []}},
        }  # fmt: skip
        kind = {"kind": "StatefulSet", "apiVersion": "apps/v1"}
        return web.json_response({**kind, "metadata": {"name": name}, "spec": spec})

    async def _ingresses(self, request: web.Request) -> web.Response:
        self._allow(request, "list ingresses")
        rules = [{"host": host} for host in self.hosts.get(request.match_info["namespace"], [])]
        found = [{"metadata": {"name": "site"}, "spec": {"rules": rules}}, {"metadata": {"name": "bare"}, "spec": {}}]
        document = {"kind": "IngressList", "apiVersion": "networking.k8s.io/v1", "metadata": {}, "items": found}
        return web.json_response(document)

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        self._allow(request, "create pods/exec", "get pods/exec")
        self._watched(self._find(request), b"")
        pod = self._find(request)
        root = pod.containers.get(request.query.get("container", ""))
        if self.away == "kubelet":
            message = "error dialing backend: dial tcp 192.0.2.7:10250: connect: connection refused"
            raise web.HTTPInternalServerError(text=json.dumps({"message": message}))
        if root is None or pod.phase != "Running":
            raise web.HTTPBadRequest(text="{}")
        offered = [name.strip() for name in request.headers.get("sec-websocket-protocol", "").split(",")]
        if not set(offered) & set(self.protocols):
            raise web.HTTPForbidden(text="{}")
        socket = web.WebSocketResponse(protocols=self.protocols, max_msg_size=_TOO_LARGE)
        await socket.prepare(request)
        chosen = next(name for name in self.protocols if name in offered)
        argv = [*self.into(root), *pod.enter(root), *request.query.getall("command")]
        self._watched(pod, "\n".join(argv).encode())
        session = _Session(socket, argv, v5=chosen == V5, watching=lambda data: self._watched(pod, data))
        session.env = {"PATH": os.environ["PATH"], **pod.env, **pod.secret_env}
        session.hearing = lambda data: self.hearing and self.hearing(pod, data)
        self._sessions.append((pod, session))
        try:
            await session.run()
        finally:
            self._sessions.remove((pod, session))
        return socket

    def _watched(self, pod: Pod, data: bytes) -> None:
        """Nothing before a command is let into the pod, then its arguments, then what it gets as input."""
        if self.watching is not None:
            self.watching(pod, data)


class _Session:
    def __init__(
        self, socket: web.WebSocketResponse, argv: list[str], *, v5: bool, watching: Callable[[bytes], None]
    ) -> None:
        self._watching = watching
        self.hearing: Callable[[bytes], None] = lambda data: None
        self._socket = socket
        self._argv = argv
        self._v5 = v5
        self.env: dict[str, str] | None = None
        self._process: Any = None
        self._gone = False
        self._unread = 0

    async def run(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, stdin=asyncio.subprocess.PIPE, limit=_FRAME,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True, env=self.env,
            )  # fmt: skip
        except OSError as error:
            await self._status({"status": "Failure", "reason": "InternalError", "code": 500, "message": str(error)})
            return
        await self._send(b"\x01")  # an empty frame comes first
        reading = asyncio.create_task(self._read())
        outputs = [
            asyncio.create_task(self._copy(1, self._process.stdout)),
            asyncio.create_task(self._copy(2, self._process.stderr)),
        ]
        await asyncio.wait(outputs)
        await self._process.wait()
        lost = not reading.done() and self._unread > 0
        reading.cancel()
        await asyncio.wait({reading})
        status = self._process.returncode
        if lost and random.random() < 0.94:  # no status came in 30 of 32 runs
            await self._close()
        elif status == 0:
            await self._status({"status": "Success"})
        else:
            status = 128 - status if status < 0 else status
            await self._status({
                "status": "Failure", "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": str(status)}]},
            })  # fmt: skip

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _copy(self, channel: int, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(_FRAME):
            if channel == 1:
                self.hearing(data)
            await self._send(bytes([channel]) + data)
        self._close_stdin()  # containerd does, at the end of either

    def _close_stdin(self) -> None:
        with suppress(OSError, RuntimeError):
            self._process.stdin.close()

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY or not message.data:
                    continue
                if self._v5 and message.data == b"\xff\x00":
                    self._close_stdin()
                elif message.data[0] == 0:
                    self._watching(message.data[1:])
                    self._unread = len(message.data) - 1
                    self._process.stdin.write(message.data[1:])
                    await self._process.stdin.drain()
                    self._unread = 0
        except (OSError, RuntimeError):
            self._unread = 1
            await asyncio.Event().wait()
        self._gone = True  # the command runs on; only its stdin has ended
        self._close_stdin()

    async def _send(self, frame: bytes) -> None:
        if not self._gone:
            try:
                await self._socket.send_bytes(frame)
            except (OSError, RuntimeError):
                self._gone = True

    async def _status(self, document: dict[str, Any]) -> None:
        await self._send(b"\x03" + json.dumps(document).encode())
        await self._close()

    async def _close(self) -> None:
        with suppress(OSError, RuntimeError):
            await self._socket.close(code=random.choice([1000, 1001]))


@contextmanager
def cluster_double() -> Iterator[ClusterDouble]:
    """Needs root, for chroot."""
    folder = Path(tempfile.mkdtemp(prefix="liberu-cluster-"))
    cluster = ClusterDouble(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)

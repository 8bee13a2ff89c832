"""Sites in pods of a Kubernetes cluster.

Sources: the Kubernetes API (pods, pods/exec, secrets); its WebSocket subprotocols v5.channel.k8s.io and
v4.channel.k8s.io (KEP-4006): a frame is one channel byte and its payload.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes_asyncio import client, config
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.stream import WsApiClient

from app.archives.streams import CHUNK
from app.deployments.base import User
from app.deployments.remote import SILENCE, Channel, RemoteDeployment
from app.errors import (
    DeploymentError,
    DeploymentRefused,
    DeploymentUnreachable,
    StreamCut,
    TargetGone,
    TargetMissing,
)

_STDIN, _STDOUT, _STDERR, _STATUS = range(4)
_CLOSE_STDIN = b"\xff\x00"
_V5 = "v5.channel.k8s.io"
_OFFERED = f"{_V5}, v4.channel.k8s.io"
_TIMEOUT = 30
_MOST_EVENTS = 100
#: Bytes; the kernel takes 2 MiB of arguments and environment together, as a rule.
_MOST_ENVIRONMENT = 4 << 20
#: A WebSocket's own heartbeat kills the stream of a slow consumer.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)  # fmt: skip


@contextmanager
def mapped(what: str, verb: str) -> Iterator[None]:
    """`verb`: what RBAC must allow, for the message of a refusal."""
    try:
        yield
    except ApiException as error:
        raise _explained(what, verb, int(error.status or 0), str(error.reason or "")) from error
    except aiohttp.WSServerHandshakeError as error:
        raise _explained(what, verb, error.status, error.message) from error
    except (config.ConfigException, ValueError) as error:
        raise DeploymentRefused(f"{what}: the cluster's configuration cannot be used ({error})") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise DeploymentUnreachable(f"{what}: the cluster does not answer ({reason})") from error


def _explained(what: str, verb: str, status: int, reason: str) -> DeploymentError:
    if status == 401:
        return DeploymentRefused(f"{what}: the cluster refuses the credentials; check the kubeconfig")
    if status == 403:
        return DeploymentRefused(f"{what}: the cluster denies `{verb}`; allow it (deploy/kubernetes-rbac.yaml)")
    if status in (404, 410):
        return TargetMissing(f"{what}: it is not there (any more)")
    if status == 400:
        return TargetMissing(f"{what}: the pod has no such container, or it does not run")
    if status == 429 or status >= 500:
        return DeploymentUnreachable(f"{what}: the cluster is busy or failing ({status} {reason})")
    return DeploymentError(f"{what}: the cluster refused ({status} {reason})")


class Cluster:
    """Of a kubeconfig (one file, or several with `:` between them), or the one that this service runs in. `context`:
    of the kubeconfig; None: its current one. `silence`: see RemoteDeployment."""

    def __init__(self, kubeconfig: Path | None, context: str | None = None, silence: float = SILENCE) -> None:
        self.silence = silence
        self._kubeconfig = kubeconfig
        self._context = context
        self._lock = asyncio.Lock()
        self._client: client.ApiClient | None = None
        self._streams: WsApiClient | None = None

    async def _connect(self) -> None:
        async with self._lock:
            if self._client is None:
                found = client.Configuration()
                if self._kubeconfig is not None:
                    await config.load_kube_config(
                        str(self._kubeconfig), self._context, client_configuration=found, persist_config=False
                    )
                elif self._context is not None:
                    raise config.ConfigException(f"there is no kubeconfig that could have a context {self._context}")
                else:
                    config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
                self._client, self._streams = client.ApiClient(found), WsApiClient(found)

    async def api(self) -> client.ApiClient:
        """For what has no types, or other ones."""
        await self._connect()
        assert self._client is not None
        return self._client

    async def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(await self.api())

    async def hosts(self, namespace: str) -> set[str]:
        """That the Ingresses of a namespace serve. Raises DeploymentError."""
        await self._connect()
        with mapped(f"Listing ingresses of {namespace}", "list on ingresses"):
            api = client.NetworkingV1Api(self._client)
            found = await api.list_namespaced_ingress(namespace, _request_timeout=_TIMEOUT)
        return {rule.host for ingress in found.items for rule in ingress.spec.rules or [] if rule.host}

    async def pod(self, namespace: str, name: str) -> Any:
        """As it is now; None: there is none of that name. Raises DeploymentError."""
        await self._connect()
        with mapped(f"Listing pods of {namespace}", "list on pods"):
            api = client.CoreV1Api(self._client)
            found = await api.list_namespaced_pod(
                namespace, field_selector=f"metadata.name={name}", _request_timeout=_TIMEOUT
            )
        return next(iter(found.items), None)

    async def events(self, namespace: str, uid: str) -> list[Any]:
        """What was recorded of one pod in about the last hour, the newest ones last. Raises DeploymentError."""
        await self._connect()
        with mapped(f"Listing events of {namespace}", "list on events"):
            api = client.CoreV1Api(self._client)
            found = await api.list_namespaced_event(
                namespace, field_selector=f"involvedObject.uid={uid}", limit=_MOST_EVENTS, _request_timeout=_TIMEOUT
            )
        return list(found.items)

    async def replicas(self, namespace: str, stateful_set: str) -> int:
        """How many pods a StatefulSet is to have. Raises DeploymentError."""
        await self._connect()
        with mapped(f"Reading StatefulSet {namespace}/{stateful_set}", "get on statefulsets"):
            api = client.AppsV1Api(self._client)
            found = await api.read_namespaced_stateful_set(stateful_set, namespace, _request_timeout=_TIMEOUT)
        return int(found.spec.replicas or 0)

    async def exec(self, namespace: str, pod: str, container: str, argv: Sequence[str]) -> Any:
        """A WebSocket on which `argv` runs."""
        await self._connect()
        api: Any = client.CoreV1Api(self._streams)  # its annotations know nothing of WebSockets
        request = await api.connect_get_namespaced_pod_exec(
            pod, namespace, command=list(argv), container=container, stdin=True, stdout=True, stderr=True,
            tty=False, _preload_content=False, _headers={"sec-websocket-protocol": _OFFERED},
        )  # fmt: skip
        return await request

    async def close(self) -> None:
        for made in (self._client, self._streams):
            if made is not None:
                await made.close()
        self._client = self._streams = None


class KubernetesDeployment(RemoteDeployment):
    """Commands in one container of one pod, as whoever it runs as."""

    kind = "kubernetes"
    framed = True

    def __init__(self, cluster: Cluster, namespace: str, pod: str, container: str) -> None:
        super().__init__(cluster.silence)
        self._cluster = cluster
        self._namespace = namespace
        self._pod = pod
        self._container = container

    async def open(self, argv: Sequence[str], cwd: str | None = None, user: User | None = None) -> Channel:
        what = f"Running {argv[0]} in {self._namespace}/{self._pod} ({self._container})"
        try:
            with mapped(what, "get and create on pods/exec"):
                async with asyncio.timeout(_TIMEOUT):
                    websocket = await self._cluster.exec(self._namespace, self._pod, self._container, argv)
        except TargetMissing as error:  # it was there when it was chosen
            raise TargetGone(error.message) from error
        return _ExecChannel(websocket, what)

    async def environment(self) -> dict[str, str]:
        """Of the container, as whoever starts in it has it: from values, Secrets and ConfigMaps. What it lacks is
        taken from the container's first process, where that lets itself be seen: an entrypoint may have set more, as
        from what an agent has put into a file. Raises DeploymentError, StreamCut unless all of it came."""
        mark = secrets.token_hex(16)
        script = 'cat /proc/self/environ && { cat /proc/1/environ 2>/dev/null; printf "\\0%s" "$1"; }'
        channel = await self.open(["sh", "-c", script, "sh", mark])
        found = b""
        try:
            await channel.send_end()
            while len(found) < _MOST_ENVIRONMENT and (chunk := await channel.listen(_TIMEOUT)):
                found += chunk
        except TimeoutError as error:
            raise DeploymentUnreachable(f"{self._namespace}/{self._pod} tells no environment of its own") from error
        finally:
            await channel.close()
        if not found.endswith(b"\0" + mark.encode()):
            where = f"{self._namespace}/{self._pod} ({self._container})"
            raise StreamCut(f"The environment of {where} did not come whole")
        lines = found[: -len(mark)].decode("utf-8", "replace").split("\0")
        return dict(line.split("=", 1) for line in reversed(lines) if "=" in line)  # its own come first, and count


class _ExecChannel(Channel):
    def __init__(self, websocket: Any, what: str) -> None:
        super().__init__()
        self._websocket = websocket
        self._what = what
        self._v5 = websocket._response.headers.get("Sec-WebSocket-Protocol") == _V5  # aiohttp's own says None
        self._held: list[bytes] = []  # of stdout, not received yet
        self._size = 0
        self._ended = False
        self._reader: asyncio.Task[None] | None = None
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._protocol = websocket._conn.protocol
        self._transport = self._protocol.transport
        connected = websocket.get_extra_info("socket")
        if connected is not None:
            with suppress(OSError):
                for level, option, value in _KEEPALIVE:
                    connected.setsockopt(level, option, value)

    async def send(self, data: bytes) -> None:
        await self._send(bytes([_STDIN]) + data)

    async def _send(self, frame: bytes) -> None:
        try:
            await self._websocket.send_bytes(frame)
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenPipeError(str(error)) from error

    async def send_end(self) -> None:
        """v4 has no such thing: the last frame tells the command's end of it (RemoteDeployment.framed)."""
        if self._v5:
            with suppress(BrokenPipeError):
                await self._send(_CLOSE_STDIN)

    async def answer(self) -> None:
        while not self.answered and not self._held and not self._ended:
            await self._more()

    async def receive(self) -> bytes:
        while not self._held and not self._ended:
            await self._more()
        stdout, self._held, self._size = b"".join(self._held), [], 0
        self._room.set()
        return stdout

    async def _more(self) -> None:
        self._arrived.clear()
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        await self._arrived.wait()
        if self._reader.done():
            self._reader.result()  # what it failed by, if it has

    async def _read(self) -> None:
        """Frames have 32 KiB at most: they are gathered while nobody takes them."""
        try:
            while not self._ended:
                while self._size >= CHUNK:
                    self._room.clear()
                    await self._room.wait()
                await self._frame()
                self._arrived.set()
        finally:
            self._ended = True
            self._arrived.set()

    async def _frame(self) -> None:
        message = await self._websocket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            self._ended = True  # closed, for whatever reason: only the trailer proves an end
        elif len(message.data) > 1:
            channel, payload = message.data[0], message.data[1:]
            if channel == _STDOUT:
                self._held.append(payload)
                self._size += len(payload)
            elif channel == _STDERR:
                self.complain(payload)
            elif channel == _STATUS:
                self.complain(_problem(payload))

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(5):
                await self._websocket.close()
                closed = self._protocol.closed
                if closed is not None:  # over TLS it takes longer; aiohttp waits for it nowhere
                    await asyncio.shield(closed)
        self._transport.abort()


def _problem(status: bytes) -> bytes:
    """Why a command could not be started; nothing for one that ended by itself, whose trailer tells."""
    try:
        found = json.loads(status)
        if found.get("status") == "Success" or found.get("reason") == "NonZeroExitCode":
            return b""
        return f"{found.get('message', '')}\n".encode()
    except (ValueError, AttributeError):
        return b"a status that cannot be read\n"

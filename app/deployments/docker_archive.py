"""Folders of a container through the engine's archive endpoint: no tool in the container is needed.

Source: the Docker Engine API 1.41, /containers/{id}/archive (GET, HEAD, PUT); X-Docker-Container-Path-Stat is base64
of JSON whose `mode` is Go's os.FileMode.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, NoReturn

import aiohttp

from app.archives.streams import CHUNK, ByteStream
from app.archives.tar import Member, TarScanner
from app.deployments.base import CommandResult, Deployment, Kept, Owners
from app.deployments.docker import Engine, mapped
from app.deployments.folder_archive import above_its_top, below_its_top
from app.deployments.mounts import below, relative
from app.deployments.tree import Entry, MergeRules, SiteTree, SwapMode, SwapPlan, TreeStatus, User
from app.errors import InvalidRequest, NoSpace, SwapImpossible, TargetMissing

_IS_FOLDER, _IS_LINK = 1 << 31, 1 << 27
_UNKNOWN = 1 << 62
_QUIET = aiohttp.ClientTimeout(sock_connect=5, sock_read=600)
_MOST_LINKS = 1_000_000
_BATCH = 2000


class ContainerArchive:
    """Reads and writes folders of one container, whether it runs or not."""

    def __init__(self, engine: Engine, container: str, name: str) -> None:
        self._engine = engine
        self._container = container
        self._path = f"containers/{container}/archive"
        self._name = name

    @asynccontextmanager
    async def _asked(self, method: str, path: str, **options: Any) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """aiodocker leaves an answer open that nobody reads to its end, and the engine holds the container for it."""
        client = self._engine.client
        async with client._query(self._path, method, params={"path": path}, timeout=_QUIET, **options) as response:
            try:
                yield response
            finally:
                response.close()

    async def check(self, folder: str) -> None:
        """Raises TargetMissing unless it is a folder and no link stands in its path."""
        path = ""
        for part in [part for part in folder.split("/") if part not in ("", ".")]:
            path += f"/{part}"
            with mapped(f"Looking at {path} in container {self._name}"):
                try:
                    async with self._asked("HEAD", path) as response:
                        told = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
                except ValueError as error:  # a refusal of HEAD has no body, which aiodocker cannot read
                    raise TargetMissing(f"{path} in container {self._name} is not there") from error
            if told["mode"] & _IS_LINK or not told["mode"] & _IS_FOLDER:
                raise TargetMissing(
                    f"{path} in container {self._name} is not a folder, or a symbolic link; give its real path"
                )

    async def _raw(self, path: str) -> ByteStream:
        with mapped(f"Reading {path} of container {self._name}"):
            async with self._asked("GET", path) as response:
                async for chunk in response.content.iter_chunked(CHUNK):
                    yield chunk

    def read(self, folder: str, kept: Kept | None = None) -> ByteStream:
        """The folder's content as a tar stream, members './…'. Raises ArchiveDamaged, DeploymentError."""
        return below_its_top(self._raw(folder), kept)

    async def link(self, path: str) -> tuple[bytes, int] | None:
        """The engine archives a link as such, where it is a path's last part. Raises TargetMissing."""
        await self.check(path.rpartition("/")[0] or "/")
        scanner = TarScanner()
        async with aclosing(self._raw(path)) as stream:
            async for chunk in stream:
                for member in scanner.feed(chunk):
                    return (member.link, member.uid) if member.type == "l" else None
        return None

    async def mounts(self, folder: str) -> list[str]:
        with mapped(f"Inspecting container {self._name}"):
            found = await self._engine.client.containers.get(self._container)
        points = [str(mount["Destination"]).encode() for mount in found._container.get("Mounts") or []]
        return relative(below(points, folder), folder)

    async def members(self, folder: str) -> AsyncGenerator[list[Member], None]:
        """What is in the folder, in batches."""
        scanner, batch = TarScanner(), list[Member]()
        async with aclosing(self.read(folder)) as stream:
            async for chunk in stream:
                batch += scanner.feed(chunk)
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
        yield batch

    async def write(self, folder: str, source: ByteStream, owners: Owners) -> None:
        """Extract into a folder: what is there and not in `source` stays. Closes `source`; its error passes through.

        Raises MemberMismatch, NoSpace, DeploymentError; then part of it may have been written.
        """
        async with aclosing(source):
            links: set[bytes] = set()
            async for batch in self.members(folder):
                links |= {member.path for member in batch if member.type == "l"}
                if len(links) > _MOST_LINKS:
                    raise SwapImpossible(f"{folder} holds more than {_MOST_LINKS} symbolic links")
            failed: list[BaseException] = []
            parent, _, top = folder.rstrip("/").rpartition("/")  # the folder's own entry counts only from above it
            body = _noted(above_its_top(source, top, owners, links), failed)
            try:
                with mapped(f"Writing {folder} of container {self._name}"):
                    headers = {"Content-Type": "application/x-tar"}
                    async with self._asked("PUT", parent or "/", data=body, headers=headers) as response:
                        await response.read()
            except Exception as error:
                if failed:
                    raise failed[0] from error
                if "no space left" in str(error).lower():
                    raise NoSpace(f"No space left while writing {folder} of container {self._name}") from error
                raise
            finally:
                await body.aclose()

    async def text(self, path: str) -> str:
        """A small file. Raises TargetMissing."""
        content = bytearray()
        async with aclosing(self._raw(path)) as stream:
            async for chunk in stream:
                content += chunk
                if len(content) > CHUNK:
                    break
        return content[512:].decode("utf-8", "replace").replace("\0", "")


async def _noted(stream: ByteStream, failed: list[BaseException]) -> ByteStream:
    """The HTTP client reports an error of the body as one of the connection."""
    try:
        async with aclosing(stream):
            async for chunk in stream:
                yield chunk
    except Exception as error:
        failed.append(error)
        raise


class ContainerFiles(Deployment):
    """A container that runs no commands: `why` says what it is, as "is exited"."""

    kind = "docker"

    def __init__(self, engine: Engine, container: str, name: str, why: str) -> None:
        self.archive = self._archive = ContainerArchive(engine, container, name)
        self._tree = _ArchiveTree(self._archive, f"Container {name} {why}")
        self._refusal = f"Container {name} {why}: only its files can be read and written; start it, or use another"

    @property
    def tree(self) -> SiteTree:
        return self._tree

    @property
    def privileged(self) -> bool:
        return True

    async def run(self, argv: Sequence[str], **_: Any) -> CommandResult:
        raise TargetMissing(self._refusal)

    async def stream(self, argv: Sequence[str], *, input: ByteStream | None = None, **_: Any) -> ByteStream:
        if input is not None:
            await input.aclose()
        raise TargetMissing(self._refusal)
        yield b""

    async def _named_user(self, name: str) -> User:
        fields = await self._entry("/etc/passwd", name)
        if len(fields) < 4:
            raise InvalidRequest(f"There is no system user {name!r} there", field="system_user")
        return User(int(fields[2]), int(fields[3]))

    async def _named_group(self, name: str) -> int:
        fields = await self._entry("/etc/group", name)
        if len(fields) < 3:
            raise InvalidRequest(f"There is no group {name!r} there")
        return int(fields[2])

    async def _entry(self, file: str, name: str) -> list[str]:
        """A name's line in a file of the container; empty when there is none, nor a file."""
        with suppress(TargetMissing):
            for line in (await self._archive.text(file)).splitlines():
                fields = line.split(":")
                if fields[0] == name:
                    return fields
        return []


class _ArchiveTree(SiteTree):
    """Looks, and nothing else: the engine can neither rename nor remove."""

    def __init__(self, archive: ContainerArchive, what: str) -> None:
        self._archive = archive
        self._what = what

    async def status(self, path: str) -> TreeStatus:
        await self._archive.check(path)
        scanner = TarScanner()
        async with aclosing(self._archive.read(path)) as stream:
            async for chunk in stream:
                for member in scanner.feed(chunk):
                    return TreeStatus(member.uid, member.gid, False, _UNKNOWN)
        raise TargetMissing(f"{path}: the engine sent nothing")

    async def swap_mode(self, path: str) -> SwapMode:
        await self._archive.check(path)
        return "in_place"

    async def inventory(self, path: str, *, live: bool = False) -> AsyncGenerator[list[Entry], None]:
        async with aclosing(self._archive.members(path)) as batches:
            async for batch in batches:
                yield [Entry(m.path, m.type, m.size if m.type == "f" else 0, m.uid, m.gid) for m in batch if m.path]

    async def sync(self, path: str) -> None:
        """The engine has no such request."""

    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]], extracted: User) -> list[bytes]:
        """Nothing to do: ContainerArchive.write has set them."""
        return []

    async def make_folder(self, path: str, owner: User) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise SwapImpossible(f"{self._what}: nothing can be moved or removed in it; start it and try again")

    async def mounts(self, path: str) -> list[str]:
        """Unknown here, and nothing is ever moved."""
        return []

    async def immutable(self, path: str, *, deep: bool) -> list[str]:
        return []

    async def matching(self, path: str, patterns: Sequence[str]) -> list[bytes]:
        return []

    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        self._refuse()

    async def merge(self, plan: SwapPlan, roots: Sequence[bytes]) -> None:
        self._refuse()

    async def measure(self, plan: SwapPlan) -> None:
        self._refuse()

    async def forward(self, plan: SwapPlan) -> list[str]:
        self._refuse()

    async def backward(self, plan: SwapPlan) -> None:
        self._refuse()

    async def carry_over(self, plan: SwapPlan, roots: Sequence[bytes]) -> int:
        self._refuse()

    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        self._refuse()

    async def holds_old(self, plan: SwapPlan) -> bool:
        self._refuse()

    async def remove(self, plan: SwapPlan) -> None:
        self._refuse()

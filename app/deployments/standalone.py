"""Sites of this machine."""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import pwd
from collections.abc import Callable, Mapping, Sequence

from app.archives.streams import ByteStream
from app.deployments.base import CommandResult, Deployment, Outcome, SiteTree, User
from app.deployments.local_tree import LocalTree
from app.deployments.process import (
    SEARCH_PATH,
    Process,
    raise_unless,
    run_process,
    stream_process,
)
from app.errors import InvalidRequest, TargetMissing


class StandaloneDeployment(Deployment):
    """Runs commands as children of this service.

    `search_path` is where tools are looked for; tests point it at other tools.
    """

    kind = "standalone"

    def __init__(self, search_path: str = SEARCH_PATH) -> None:
        self._search_path = search_path
        self._tree = LocalTree(self)

    @property
    def tree(self) -> SiteTree:
        return self._tree

    @property
    def privileged(self) -> bool:
        return os.geteuid() == 0

    def _process(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd_fd: int | None,
        user: User | None,
        confined: bool,
    ) -> Process:
        if user is not None and user.uid == os.geteuid():
            user = None
        secret = self.secret_files.named_by(argv)
        return Process(
            argv,
            env=env,
            cwd_fd=cwd_fd,
            user=user,
            search_path=self._search_path,
            secret=secret,
            confined=confined,
        )

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: ByteStream | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: User | None = None,
        check: bool = True,
        timeout: float | None = None,
        confined: bool = False,
    ) -> CommandResult:
        if confined:
            user = self._confined_user(user, cwd)
        cwd_fd = None if cwd is None else await asyncio.to_thread(self._enter, cwd)
        try:
            process = self._process(argv, env, cwd_fd, user, confined)
            async with asyncio.timeout(timeout):
                result = await run_process(process, input)
        finally:
            if cwd_fd is not None:
                os.close(cwd_fd)
        if check:
            raise_unless((0,), process.name, result.status, result.stderr)
        return result

    async def stream(
        self,
        argv: Sequence[str],
        *,
        input: ByteStream | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: User | None = None,
        accept: Sequence[int] = (0,),
        outcome: Outcome | None = None,
        confined: bool = False,
        see: Callable[[bytes], None] | None = None,
    ) -> ByteStream:
        if confined:
            user = self._confined_user(user, cwd)
        cwd_fd = None if cwd is None else await asyncio.to_thread(self._enter, cwd)
        stdout = stream_process(self._process(argv, env, cwd_fd, user, confined), input, accept, outcome, see)
        try:
            async for chunk in stdout:
                yield chunk
        finally:
            await stdout.aclose()
            if cwd_fd is not None:
                os.close(cwd_fd)

    def _enter(self, path: str) -> int:
        try:
            return self._tree.enter(path)
        except OSError as error:
            raise missing(path, error) from error

    async def _named_user(self, name: str) -> User:
        try:
            entry = await asyncio.to_thread(pwd.getpwnam, name)
        except (KeyError, ValueError) as error:
            raise InvalidRequest(f"There is no system user {name!r} here", field="system_user") from error
        return User(entry.pw_uid, entry.pw_gid)

    async def _named_group(self, name: str) -> int:
        try:
            return (await asyncio.to_thread(grp.getgrnam, name)).gr_gid
        except (KeyError, ValueError) as error:
            raise InvalidRequest(f"There is no group {name!r} here") from error


def missing(path: str, error: OSError) -> TargetMissing:
    """Why a site's folder cannot be used."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return TargetMissing(f"{path} is not a folder, or a symbolic link stands in its path; give its real path")
    return TargetMissing(f"The folder {path} cannot be opened: {error.strerror}")

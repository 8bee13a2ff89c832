"""Child processes of this machine: bounded pipes, whole process groups, no inherited environment."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress

from app.archives.streams import CHUNK, ByteStream, Sink, SourceReader, consume, from_bytes, produce, watched
from app.deployments.base import MAX_STDERR, CommandResult, Outcome, User
from app.deployments.confinement import confine
from app.deployments.secret_files import in_memory, with_path
from app.errors import CommandFailed, ToolMissing

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL = "/bin/sh"
_STDERR_TAIL = 2000
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
#: Dump programs and tar write a few KiB at a time: read one by one, they cost more than what is done with them.
_PAUSE_SECONDS = 0.002


class Process:
    """One command with its pipes; start, use, end."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None,
        cwd_fd: int | None,
        user: User | None,
        search_path: str = SEARCH_PATH,
        secret: tuple[str, str] = ("", ""),
        confined: bool = False,
    ) -> None:
        """`secret`: a name in `argv` that stands for a file, and the file's content. `confined`: see
        Deployment.run."""
        self._argv = list(argv)
        self._env = {"PATH": search_path, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **(env or {})}
        self._cwd_fd = cwd_fd
        self._user = user
        self._secret = secret
        self._confined = confined
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: asyncio.Task[str] | None = None
        self._stdout_fd = -1
        self._stdin_fd = -1

    @property
    def name(self) -> str:
        return os.path.basename(self._argv[0])  # noqa: PTH119

    async def start(self, *, with_stdin: bool) -> None:
        """Raises ToolMissing."""
        read_fd, stdout = os.pipe()
        stdin, write_fd = os.pipe() if with_stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        for descriptor in (read_fd, stdin):
            with suppress(OSError):
                fcntl.fcntl(descriptor, _F_SETPIPE_SZ, CHUNK)
        name, content = self._secret
        shown: tuple[int, ...] = ()
        try:
            if name:
                owner = None if self._user is None else (self._user.uid, self._user.gid)
                shown = (in_memory(content, owner),)
            argv = with_path(self._argv, name, f"/proc/self/fd/{shown[0]}") if shown else self._argv
            self._process = await asyncio.create_subprocess_exec(
                *(confine(argv, _SHELL) if self._confined else argv),
                stdin=stdin,
                stdout=stdout,
                stderr=asyncio.subprocess.PIPE,
                env=self._env,
                # A folder that was opened without following links, whatever its path means by now.
                cwd=None if self._cwd_fd is None else f"/proc/self/fd/{self._cwd_fd}",
                pass_fds=shown,
                start_new_session=True,
                umask=0o077,
                user=None if self._user is None else self._user.uid,
                group=None if self._user is None else self._user.gid,
                extra_groups=None if self._user is None else [self._user.gid],
            )
        except (FileNotFoundError, PermissionError) as error:
            os.close(read_fd)
            if write_fd >= 0:
                os.close(write_fd)
            raise ToolMissing(
                f"{self.name} cannot be run ({error.strerror}); install it on the site's machine"
            ) from error
        finally:
            for descriptor in (stdout, stdin, *shown):
                os.close(descriptor)
        self._stdout_fd, self._stdin_fd = read_fd, write_fd
        assert self._process.stderr is not None
        self._stderr = asyncio.create_task(_gather(self._process.stderr))

    def read_stdout(self, sink: Sink) -> None:
        """Blocking: copy stdout to `sink` until its end. What is long and comes in small pieces is let gather in the
        pipe for a moment, of which a quarter at most is full then."""
        little, total = fcntl.fcntl(self._stdout_fd, _F_GETPIPE_SZ) // 4, 0
        while chunk := os.read(self._stdout_fd, CHUNK):
            sink.write(chunk)
            total += len(chunk)
            if total > CHUNK and len(chunk) < little:
                time.sleep(_PAUSE_SECONDS)

    def write_stdin(self, reader: SourceReader) -> None:
        """Blocking: copy `reader` to stdin. A command that stops reading is no error here: its status tells."""
        try:
            for chunk in reader.chunks():
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._stdin_fd, view) :]
        except BrokenPipeError:
            pass
        except BaseException:
            self.kill()  # first: it must not take a cut input for a whole one
            raise
        finally:
            self.close_stdin()

    def close_stdin(self) -> None:
        descriptor, self._stdin_fd = self._stdin_fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    async def wait(self) -> tuple[int, str]:
        """Status (negative: the signal that ended it) and stderr."""
        assert self._process is not None
        assert self._stderr is not None
        stderr = await self._stderr
        return await self._process.wait(), stderr

    def kill(self) -> None:
        """Kill the command and its children, which ends the reads and writes of its pipes. Idempotent."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill what still runs and release everything. Idempotent."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        if self._stderr is not None:
            self._stderr.cancel()
            with suppress(asyncio.CancelledError):
                await self._stderr

    def close(self) -> None:
        """Close the pipes; only when no thread uses them any more."""
        self.close_stdin()
        descriptor, self._stdout_fd = self._stdout_fd, -1
        if descriptor >= 0:
            os.close(descriptor)


async def _gather(stderr: asyncio.StreamReader) -> str:
    """All of stderr; beyond 1 MiB it is read and dropped, so that the command never blocks on it."""
    kept = bytearray()
    while data := await stderr.read(1 << 16):
        if len(kept) < MAX_STDERR:
            kept += data
    return kept.decode("utf-8", "replace")


def raise_unless(accepted: Sequence[int], name: str, status: int, stderr: str) -> None:
    if status in (126, 127) and status not in accepted:
        raise ToolMissing(f"{name} cannot be run: {stderr.strip()[-_STDERR_TAIL:]}")
    if status not in accepted:
        raise CommandFailed(name, status, stderr.strip()[-_STDERR_TAIL:])


async def stream_process(
    process: Process,
    input: ByteStream | None,
    accept: Sequence[int],
    outcome: Outcome | None,
    see: Callable[[bytes], None] | None = None,
) -> ByteStream:
    """See Deployment.stream. Ends the process however it is left."""
    await process.start(with_stdin=input is not None)
    feeder = (
        None
        if input is None
        else asyncio.create_task(consume(input, process.write_stdin, f"{process.name} input", process.kill))
    )
    stdout = produce(process.read_stdout, process.name, process.kill)
    if see is not None:
        stdout = watched(stdout, see)
    try:
        async for chunk in stdout:
            yield chunk
        if feeder is not None:
            await feeder
        status, stderr = await process.wait()
        if outcome is not None:
            outcome.status, outcome.stderr = status, stderr
        raise_unless(accept, process.name, status, stderr)
    finally:
        await asyncio.shield(_end(process, stdout, feeder))


async def _end(process: Process, stdout: ByteStream, feeder: asyncio.Task[None] | None = None) -> None:
    """Kill the command first: that ends the threads' reads and writes; then the pipes may be closed."""
    await process.end()
    if feeder is not None:
        feeder.cancel()
        await asyncio.wait({feeder})
        if not feeder.cancelled():
            feeder.exception()
    await stdout.aclose()
    process.close()


async def run_process(process: Process, input: ByteStream | bytes | None) -> CommandResult:
    """Feed stdin, gather stdout, return the result. Ends the process however it is left."""
    source = from_bytes(input) if isinstance(input, bytes) else input
    try:
        await process.start(with_stdin=source is not None)
    except BaseException:
        if source is not None:
            await source.aclose()
        raise
    stdout = produce(process.read_stdout, process.name, process.kill)
    reading = asyncio.create_task(_collect(stdout))
    try:
        if source is not None:
            await consume(source, process.write_stdin, f"{process.name} input", process.kill)
        output = await reading
        status, stderr = await process.wait()
        return CommandResult(status, output, stderr)
    finally:
        await asyncio.shield(_end_run(process, reading, stdout))


async def _end_run(process: Process, reading: asyncio.Task[bytes], stdout: ByteStream) -> None:
    await process.end()
    await asyncio.wait({reading})
    await _end(process, stdout)


async def _collect(stdout: ByteStream) -> bytes:
    kept = bytearray()
    async with aclosing(stdout):
        async for chunk in stdout:
            if len(kept) < MAX_STDERR:
                kept += chunk
    return bytes(kept)

"""Commands at another end, over any channel that carries stdin, stdout and stderr.

Each command runs below a small shell script (wrapper.sh) that makes up for what the channels lack: the environment
comes on stdin, so that no secret is in a process list; a line with a nonce after the command's last byte proves that
its output is whole and tells its status; and when the line breaks the command is killed at its end.

The script and the command's arguments come on stdin as well. What a channel starts is short and always the same:
Kubernetes' API takes arguments as part of an address, whose length proxies limit, and sshd's user shell takes all of
them as one, of at most 128 KiB.

Where a channel may lose bytes in silence, as Kubernetes' does, that line has the output's checksum, and input goes in
frames of a size and so many bytes: the command sees an end of input only after the last of them.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import PurePosixPath

from app.archives.streams import ByteStream, from_bytes, watched
from app.deployments import remote_scripts as scripts
from app.deployments.base import MAX_STDERR, CommandResult, Deployment, Outcome, SiteTree, User
from app.deployments.checksums import CHECKSUMS, Checksum, Unchecked
from app.deployments.confinement import confine, shell_text
from app.deployments.process import SEARCH_PATH, raise_unless
from app.deployments.remote_tree import RemoteTree
from app.deployments.secret_files import with_path
from app.errors import (
    DeploymentError,
    DeploymentRefused,
    DeploymentUnreachable,
    InvalidRequest,
    StreamCut,
    TargetMissing,
    ToolMissing,
)

_WRAPPER = shell_text("wrapper.sh")
#: Runs a text that comes on stdin behind its size.
_BOOTSTRAP = (
    "IFS= read -r size || exit 125; "
    'text=$(dd bs="$size" count=1 iflag=fullblock 2>/dev/null) || { echo "dd cannot be run" >&2; exit 127; }; '
    'eval "$text"'
)
_END = "liberu-end {nonce} "
_CHECKSUM = 66
_TRAILER = len(_END.format(nonce="0" * 32)) + len("000 ") + _CHECKSUM + 1
_FRAME = 1 << 20
_INHERITED = "/proc/self/fd/9"
_ALIVE = b"liberu-alive\n"
#: Which group, and in it the wrapper and when that was started. bash may say before that it does not know the locale.
_GROUP = re.compile(rb"^liberu-group (\d+) (\d+) (\d+)\n", re.MULTILINE)
_LONGEST_TOOL = 32
#: Worth a thread, in bytes.
_MUCH = 64 << 10
#: Seconds without a sign of life after which a command is given up, and at most between two of them.
SILENCE = 120.0
_MOST_BEAT = 15
_KILL_SECONDS = 10
_ANSWER_SECONDS = 60


class Channel(ABC):
    """One command at the other end."""

    def __init__(self) -> None:
        self.stderr = bytearray()
        self._silence = SILENCE
        self._patience: asyncio.Timeout | None = None

    def complain(self, data: bytes) -> None:
        """Keep stderr up to 1 MiB, without signs of life; the rest is read and dropped, so that no command blocks."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + self._silence)
        if len(self.stderr) < MAX_STDERR:
            before = max(0, len(self.stderr) - len(_ALIVE))  # one may come in two pieces
            self.stderr += data
            self.stderr[before:] = self.stderr[before:].replace(_ALIVE, b"")

    async def listen(self, silence: float) -> bytes:
        """`receive`, unless nothing at all comes for so many seconds: then TimeoutError. While nobody listens nothing
        is read, and no time counts."""
        self._silence = silence
        try:
            async with asyncio.timeout(silence) as self._patience:
                return await self.receive()
        finally:
            self._patience = None

    @property
    def lost(self) -> bool:
        """Whether the connection itself is gone: a command that gets no input is ended by its wrapper then."""
        return False

    @property
    def answered(self) -> bool:
        """Whether the wrapper's first line has come."""
        return _GROUP.search(self.stderr) is not None

    @abstractmethod
    async def answer(self) -> None:
        """Wait until the wrapper's first line has come on stderr, or all has ended. Raises DeploymentError."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Write to stdin, when there is room. Raises BrokenPipeError when nobody reads it any more."""

    @abstractmethod
    async def send_end(self) -> None:
        """Close stdin; output goes on."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Some of stdout, at most about 1 MiB; empty at its end, when stderr is complete too. Raises DeploymentError.

        That it ended proves nothing: see RemoteDeployment.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release everything. Idempotent."""


class RemoteDeployment(Deployment):
    """What all deployments share whose commands run elsewhere.

    `prefix`: put before every command, as sudo is. `native_users`: `open` can run a command as another user in a
    folder that this user may not enter; elsewhere the wrapper does it. `framed`: the channel alone proves nothing of
    what it carries, or cannot end input. `silence`: seconds without any sign of life, which the wrapper gives however
    quiet its command is, after which that is given up.
    """

    prefix: tuple[str, ...] = ()
    native_users = False
    framed = False

    def __init__(self, silence: float = SILENCE) -> None:
        self.silence = silence
        self._tree = RemoteTree(self)
        self._root: bool | None = None

    @property
    def privileged(self) -> bool:
        if self._root is None:
            raise RuntimeError("prepare() comes first")
        return self._root

    async def prepare(self) -> None:
        if self._root is None:
            found = await self.run(["sh", "-c", scripts.ARRIVE], timeout=_ANSWER_SECONDS)
            self._root = found.stdout.strip() == b"0"

    @property
    def tree(self) -> SiteTree:
        return self._tree

    @abstractmethod
    async def open(self, argv: Sequence[str], cwd: str | None = None, user: User | None = None) -> Channel:
        """Start `argv`; `cwd` and `user` only where `native_users` is set. Raises DeploymentError."""

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
        command = _Command(self, argv, cwd=cwd, user=user, watched=input is None, confined=confined)
        try:
            await command.start(env or {}, input)
            output = command.output()
            async with aclosing(output if see is None else watched(output, see)) as chunks:
                async for chunk in chunks:
                    yield chunk
            status, stderr = await command.ended()
            if outcome is not None:
                outcome.status, outcome.stderr = status, stderr
            raise_unless(accept, command.name, status, stderr)
        finally:
            await asyncio.shield(command.end())

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
        source = from_bytes(input) if isinstance(input, bytes) else input
        outcome = Outcome()
        kept = bytearray()
        every = range(256)
        async with asyncio.timeout(timeout):
            output = self.stream(
                argv, input=source, env=env, cwd=cwd, user=user, accept=every, outcome=outcome, confined=confined
            )
            async with aclosing(output):
                async for chunk in output:
                    if len(kept) < MAX_STDERR:
                        kept += chunk
        assert outcome.status is not None
        if check:
            raise_unless((0,), _name(argv), outcome.status, outcome.stderr)
        return CommandResult(outcome.status, bytes(kept), outcome.stderr)

    async def _named_user(self, name: str) -> User:
        found = await self.run(["sh", "-c", 'id -u "$1" && id -g "$1"', "sh", name], check=False, timeout=60)
        try:
            number, group = found.stdout.split()
            return User(int(number), int(group))
        except ValueError:
            raise InvalidRequest(f"There is no system user {name!r} there", field="system_user") from None

    async def _named_group(self, name: str) -> int:
        found = await self.run(["sh", "-c", scripts.GROUP, "sh", name], check=False, timeout=60)
        if not found.stdout.strip().isdigit():
            raise InvalidRequest(f"There is no group {name!r} there")
        return int(found.stdout)


class _Command:
    """From its start to its proven end."""

    def __init__(
        self,
        deployment: RemoteDeployment,
        argv: Sequence[str],
        *,
        cwd: str | None,
        user: User | None,
        watched: bool,
        confined: bool,
    ) -> None:
        self.name = _name(argv)
        self._deployment = deployment
        self._nonce = secrets.token_hex(16)
        self._watched = watched
        self._cwd = None if cwd is None else _normal(cwd)
        self._native = user if deployment.native_users else None
        who = "" if user is None or self._native else f"{user.uid}:{user.gid}"
        flags = ["1" if flag else "0" for flag in (self._native is not None, watched, deployment.framed)]
        name, secret = deployment.secret_files.named_by(argv)
        self._secret = secret.splitlines()
        shown = with_path(argv, name, _INHERITED)
        shown = confine(shown) if confined else shown
        seconds = min(_MOST_BEAT, deployment.silence / 4)
        beat = f"{int(seconds) or seconds:g}"
        self._text = _script([self._cwd or "", *flags, who, str(len(self._secret)), beat, *shown])
        self._argv = [
            *deployment.prefix, "env", "-i", f"PATH={SEARCH_PATH}", "LC_ALL=C.UTF-8", "HOME=/nonexistent",
            "sh", "-c", _BOOTSTRAP, "sh",
        ]  # fmt: skip
        self._channel: Channel | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._trailer = b""
        self._checksum: Checksum = Unchecked()
        self._finished = False

    async def start(self, env: Mapping[str, str], input: ByteStream | None) -> None:
        try:
            channel = await self._begin(self._text + _header(self._nonce, env, self._secret))
        except BaseException:
            if input is not None:
                await input.aclose()
            raise
        if input is not None:
            self._feeder = asyncio.create_task(self._feed(channel, input))

    async def _begin(self, header: bytes) -> Channel:
        cwd = None if self._native is None else self._cwd
        self._channel = channel = await self._deployment.open(self._argv, cwd, self._native)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                with suppress(BrokenPipeError):  # what happened shows in the output
                    await channel.send(header)
                await channel.answer()
        except TimeoutError as error:
            raise DeploymentUnreachable(f"{self.name} did not start within {_ANSWER_SECONDS} seconds") from error
        return channel

    async def _feed(self, channel: Channel, input: ByteStream) -> None:
        """A command that stops reading is no error here: its status tells. An error of `input` kills it first, so
        that it never sees a clean end."""
        try:
            async with aclosing(input):
                async for chunk in input:
                    for part in self._frames(chunk):
                        await channel.send(part)
            await self._end_input(channel)
        except BrokenPipeError:
            return
        except Exception:
            await self._kill()
            raise

    def _frames(self, chunk: bytes) -> Iterator[bytes]:
        if not self._deployment.framed:
            yield chunk
            return
        for start in range(0, len(chunk), _FRAME):
            part = chunk[start : start + _FRAME]
            yield b"%d\n%b" % (len(part), part)

    async def _end_input(self, channel: Channel) -> None:
        if self._deployment.framed:
            await channel.send(b"0\n")
        await channel.send_end()

    async def output(self) -> ByteStream:
        """Stdout without the trailer."""
        assert self._channel is not None
        held = await self._summed(self._channel) if self._deployment.framed else b""
        while True:
            if len(held) > _TRAILER:
                passed, held = held[:-_TRAILER], held[-_TRAILER:]
                if self._deployment.framed and len(passed) > _MUCH:
                    await asyncio.to_thread(self._checksum.update, passed)
                else:
                    self._checksum.update(passed)
                yield passed
            self._trailer = held
            if self._feeder is not None and self._status():
                await self._stop_feeding()
            if not (chunk := await self._heard(self._channel)):
                break
            held += chunk
        if held and not self._status():
            yield held

    async def _summed(self, channel: Channel) -> bytes:
        """The output's first line names what makes the checksum: on stderr it could come later than what it is of.
        Returns what came behind it, or all that came when there is no such line."""
        first = b""
        while b"\n" not in first and len(first) < _LONGEST_TOOL and (chunk := await self._heard(channel)):
            first += chunk
        name, line, rest = first.partition(b"\n")
        kind = CHECKSUMS.get(name.decode("ascii", "replace"))
        if not line or kind is None:
            return first
        self._checksum = kind()
        return rest

    async def _heard(self, channel: Channel) -> bytes:
        silence = self._deployment.silence
        try:
            return await channel.listen(silence)
        except TimeoutError as error:
            if self._status():  # all has come
                return b""
            raise DeploymentUnreachable(
                f"{self.name} gave no sign of life for {silence:g} seconds: the machine that it runs on, or what "
                "leads there, hangs"
            ) from error

    async def _stop_feeding(self) -> None:
        """The command has ended, whatever of its input is left."""
        if self._feeder is not None and self._channel is not None and not self._feeder.done():
            await self._fed(0)
            with suppress(BrokenPipeError):
                await self._end_input(self._channel)

    async def _fed(self, seconds: float) -> None:
        """Let the feeder come to its end for so long, stop it, and raise the error it had."""
        if self._feeder is None:
            return
        await asyncio.wait({self._feeder}, timeout=seconds)
        self._feeder.cancel()
        await asyncio.wait({self._feeder})
        if not self._feeder.cancelled() and (error := self._feeder.exception()) is not None:
            raise error

    def _status(self) -> str | None:
        """The trailer's, as text."""
        found = self._proof()
        return found[0] if found else None

    def _proof(self) -> list[str]:
        """Status and checksum; empty when the end is not proven."""
        expected = _END.format(nonce=self._nonce).encode()
        if len(self._trailer) == _TRAILER and self._trailer.startswith(expected) and self._trailer.endswith(b"\n"):
            return self._trailer[len(expected) :].decode("ascii", "replace").split()
        return []

    async def ended(self) -> tuple[int, str]:
        """Status and stderr. Raises the input's error, StreamCut, TargetMissing, ToolMissing."""
        status = self._status()
        # Without a status the feeder has an error of its own, or is about to learn that nobody listens.
        await self._fed(_KILL_SECONDS if status is None else 0)
        stderr = self._stderr()
        if status is None:
            raise self._unproven(stderr)
        self._finished = True
        told = self._proof()[-1]
        if told != self._checksum.text:
            raise StreamCut(
                f"The output of {self.name} arrived changed or incomplete: its checksum is not the one sent"
            )
        return int(status), stderr

    def _stderr(self) -> str:
        assert self._channel is not None
        found = _GROUP.search(self._channel.stderr)
        return self._channel.stderr[found.end() if found else 0 :].decode("utf-8", "replace").strip()

    def _unproven(self, stderr: str) -> DeploymentError:
        if "liberu-no-folder" in stderr:
            self._finished = True
            return TargetMissing(
                f"The folder {self._cwd} is not there, cannot be entered, or a symbolic link stands in its path; "
                "give its real path"
            )
        if "liberu-no-user" in stderr:
            self._finished = True
            return ToolMissing(
                "Neither setpriv (util-linux) nor chroot (coreutils) is there to change the user with, nor is its "
                "account for su"
            )
        if self._group() is None and stderr.startswith("sudo:"):
            return DeploymentRefused(f"sudo does not let this user run commands as root: {stderr[-500:]}")
        if self._group() is None and stderr:
            return ToolMissing(f"The other end cannot run sh and env: {stderr[-1000:]}")
        return StreamCut(
            f"The output of {self.name} ended before its end was confirmed: the line broke, or what runs it was "
            f"stopped; {stderr[-1000:] or 'it gave no reason'}"
        )

    def _group(self) -> list[str] | None:
        """The process group at the other end, the wrapper's number and its start time."""
        if self._channel is None:
            return None
        found = _GROUP.search(self._channel.stderr)
        return None if found is None else [number.decode() for number in found.groups()]

    async def _kill(self) -> None:
        """Through a channel of its own: most protocols let a command run on when its channel is closed."""
        group = self._group()
        self._finished = True
        if group is None or group[0] in ("0", "1"):
            return
        with suppress(DeploymentError, TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                channel = await self._deployment.open(
                    [*self._deployment.prefix, "sh", "-c", scripts.KILL, "sh", *group]
                )
                try:
                    await channel.send_end()
                    while await channel.receive():
                        pass
                finally:
                    await channel.close()

    async def end(self) -> None:
        """Kill what still runs and release everything. Idempotent."""
        with suppress(Exception):  # raised where it belongs, or nobody wants it any more
            await self._fed(0)
        if not self._finished and not (self._watched and self._channel is not None and self._channel.lost):
            await self._kill()
        if self._channel is not None:
            await self._channel.close()


def _script(arguments: Sequence[str]) -> bytes:
    """The wrapper with its arguments, behind its size. A text that was cut is one that no shell begins to run.

    Raises InvalidRequest.
    """
    words = " ".join(shlex.quote(word) for word in arguments)
    if "\0" in words:
        raise InvalidRequest("An argument of a command cannot have a zero byte")
    text = f"{{\nset -- {words}\n{_WRAPPER}\n}}".encode("utf-8", "surrogateescape")
    return b"%d\n%b" % (len(text), text)


def _header(nonce: str, env: Mapping[str, str], secret: Sequence[str]) -> bytes:
    """What the wrapper reads before the command's input. Raises InvalidRequest."""
    for name, value in env.items():
        if not value.isprintable() and any(letter in value for letter in "\n\0"):
            raise InvalidRequest(f"The value of {name} must be one line")
    lines = [nonce, *(f"{name}={value}" for name, value in env.items()), "", *secret]
    return "".join(f"{line}\n" for line in lines).encode()


def _name(argv: Sequence[str]) -> str:
    return PurePosixPath(argv[0]).name


def _normal(path: str) -> str:
    """As `pwd -P` prints it."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))

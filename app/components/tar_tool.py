"""The tar of a site's machine: which one it is, and the flags it understands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.components.base import MAX_NAMED, Report
from app.deployments.base import MAX_STDERR, STAGING_PREFIX, Deployment
from app.deployments.process import raise_unless
from app.errors import TargetMissing, ToolMissing


@dataclass(frozen=True, slots=True)
class TarTool:
    """`version` is its first line; only GNU tar keeps xattrs, ACLs, sparse files and an order."""

    version: str
    gnu: bool

    def create(
        self, exclusions: Sequence[str], *, sparse: bool = True, xattrs: bool = True, listed: bool = False
    ) -> list[str]:
        """argv that writes the current folder to stdout; see `excluded` for what a pattern means.

        `sparse`: keep holes, where that is safe (tree_survey). `listed`: stdin has
        more to leave out, as `pattern_of` makes it, a line each.
        """
        if not self.gnu:  # some builds of busybox know no exclusion at all
            return ["tar", "-c", "-f", "-", "."]
        anchored, floating = excluded(exclusions)
        return [
            "tar", "--create", "--file=-", "--format=posix",
            "--pax-option=delete=atime,delete=ctime", "--sort=name", "--numeric-owner",
            *(("--xattrs", "--acls") if xattrs else ()), *(("--sparse",) if sparse else ()), "--wildcards",
            "--anchored", *(("--exclude-from=-",) if listed else ()),
            *(f"--exclude={pattern}" for pattern in anchored),
            "--no-anchored", *(f"--exclude={pattern}" for pattern in floating),
            "--", ".",
        ]  # fmt: skip

    def create_named(self, names: Sequence[str], folder: str) -> list[str]:
        """argv of GNU tar that writes files of the current folder to stdout, as members of `folder`, relative."""
        place = re.sub(r"[\\&,]", r"\\\g<0>", "./" if folder == "." else f"./{folder}/")
        return [
            "tar", "--create", "--file=-", "--format=posix",
            "--pax-option=delete=atime,delete=ctime", "--numeric-owner", "--no-recursion", "--xattrs", "--acls",
            rf"--transform=flags=r;s,^\./,{place},", "--", *(f"./{name}" for name in names),
        ]  # fmt: skip

    def extract(self) -> list[str]:
        """argv that extracts stdin into the current folder, never as another user than the one it runs as."""
        if not self.gnu:
            # busybox restores modes only as far as the umask lets it, and has no option against that.
            return ["sh", "-c", "umask 000 && exec tar -x -f -"]
        # Of a pipe that is full each read wakes its writer: 512 KiB instead of 10 at once.
        return [
            "tar", "--extract", "--file=-", "--blocking-factor=1024", "--preserve-permissions",
            "--no-same-owner", "--numeric-owner",
            "--xattrs", "--acls", "--delay-directory-restore",
        ]  # fmt: skip


def excluded(exclusions: Sequence[str]) -> tuple[list[str], list[str]]:
    """Patterns for whole paths (a leading slash is the folder itself), and for what follows any slash. Both leave out
    all that is below what they match; what an interrupted restore has left is never in a backup."""
    anchored = [f".{pattern.rstrip('/')}" for pattern in exclusions if pattern.startswith("/")]
    floating = [pattern.rstrip("/") for pattern in exclusions if not pattern.startswith("/")]
    return [f"./{STAGING_PREFIX}*", *anchored], floating


def pattern_of(path: bytes) -> bytes:
    """A pattern for one path in a list that is read line by line, where space at a line's end does not count."""
    quoted = re.sub(rb"[*?\[\\]", rb"\\\g<0>", path).replace(b"\n", b"?")
    return quoted[:-1] + b"?" if quoted[-1:].isspace() else quoted


async def probe(deployment: Deployment, report: Report) -> TarTool | None:
    """Find out which tar is there, and say what it cannot keep; None: there is none, but `deployment.archive`.

    Raises ToolMissing.
    """
    if "tar" not in deployment.tools:
        deployment.tools["tar"] = await _found(deployment)
    tool: TarTool | None = deployment.tools["tar"]
    name = "the engine's archive" if tool is None else tool.version
    report.facts["tar"] = name
    if tool is None or not tool.gnu:
        lost = "xattrs, ACLs, sparse files, set-id bits, exclusions"
        report.warn("tar_limited", f"{name or 'This tar'} does not keep {lost}")
    return tool


async def _found(deployment: Deployment) -> TarTool | None:
    try:
        result = await deployment.run(["tar", "--version"], check=False, timeout=30)
        raise_unless(range(126), "tar", result.status, result.stderr)
    except (ToolMissing, TargetMissing) as error:
        if deployment.archive is None:
            raise ToolMissing(f"There is no tar where the site runs; install it there ({error.message})") from error
        return None
    version = result.stdout.decode("utf-8", "replace").partition("\n")[0] or result.stderr.partition("\n")[0]
    return TarTool(version=version.strip(), gnu="GNU tar" in version)


#: GNU tar's complaints about what was there and could not be read; the rest that status 1 stands for are
#: files that changed or vanished while they were read.
_UNREADABLE = re.compile(r"^tar: (?P<name>.*?): (?P<reason>(Cannot|Warning: Cannot) .*?: (?!No such file).*)$")
_CHANGED = re.compile(
    r"^tar: (?P<name>.*?): (?P<reason>file changed as we read it|File removed before we read it|"
    r"socket ignored|(Warning: )?Cannot .*: No such file or directory)$"
)
#: What tar could not read it has filled up with zeros.
_SHRANK = re.compile(r"^tar: (?P<name>.*?): (?P<reason>File shrank by .*)$")
_READ_ERROR = re.compile(r"^tar: (?P<name>.*?): (Warning: )?(?P<reason>Read error at byte .*, while reading .*)$")
_NOISE = re.compile(
    r"^tar: (Exiting with failure status due to previous errors|Removing leading .*|"
    r".*: Warning: Cannot \w*listxattr\w*: (Operation n|N)ot supported)$"  # there are none
)
_BUSYBOX_UNREADABLE = re.compile(
    r"^tar: (?P<name>.*?): (?P<reason>Permission denied|File name too long|Input/output error|Stale file handle|"
    r"Structure needs cleaning|can't open.*)$"
)
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)")
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_SHOWN = 1024
#: Of stderr a deployment keeps MAX_STDERR bytes; a remote one takes a line of its own out.
_CUT_FROM = MAX_STDERR - 4096


def judge_stderr(stderr: str, report: Report) -> bool:
    """Sort tar's complaints into the report; False when one is none of those a dump survives.

    `facts["not_whole"]`: files that tar filled up with zeros, as `shown` writes them; the first MAX_NAMED.
    """
    understood = True
    lines = stderr.splitlines()
    if len(stderr.encode()) >= _CUT_FROM:
        del lines[-1:]  # it may be a part of one
        report.lack("unreadable", "tar complained of more files than its messages are kept of (1 MiB)")
    for line in lines:
        if match := _CHANGED.match(line):
            report.warn("changed_while_read", match["reason"], _plain(match["name"]))
        elif match := _SHRANK.match(line):
            report.warn("changed_while_read", match["reason"], _not_whole(match["name"], report))
        elif match := _READ_ERROR.match(line):
            message = f"{match['reason']}; from there on its content in the backup may be zeros"
            report.lack("unreadable", message, _not_whole(match["name"], report))
        elif _NOISE.match(line):
            continue
        elif match := _UNREADABLE.match(line) or _BUSYBOX_UNREADABLE.match(line):
            report.lack("unreadable", match["reason"], _plain(match["name"]))
        elif line and "error exit delayed" not in line:
            report.warn("tar", line)
            understood = False
    return understood


def _not_whole(name: str, report: Report) -> str:
    names: list[str] = report.facts.setdefault("not_whole", [])
    plain = _plain(name)
    if len(names) < MAX_NAMED and plain not in names[-1:]:
        names.append(plain)
    return plain


def _plain(name: str) -> str:
    """The path that GNU tar writes with escapes."""
    name = name.removeprefix("Warning: ").removeprefix("./")
    return shortened(_ESCAPED.sub(_unescaped, name.encode()))


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8) & 0xFF]) if len(code) == 3 else _LETTERS.get(code, code)


def shortened(path: bytes) -> str:
    """As `shown`; a very long one by both its ends."""
    return shown(path) if len(path) <= _SHOWN else f"{shown(path[:200])}…{shown(path[-80:])}"


def shown(path: bytes) -> str:
    """A path for people, and to compare with others written like it."""
    return path.decode("utf-8", "backslashreplace")


def only_devices_failed(stderr: str) -> bool:
    """Whether all that tar complains of when it extracts are devices that it may not make (GNU, busybox)."""
    made = re.compile(r"^tar: (.+: Cannot mknod: |can't create node .+: )(Operation not permitted|.*EPERM.*)$")
    last = "tar: Exiting with failure status due to previous errors"
    return all(made.match(line) or line == last for line in stderr.splitlines())

"""The tar of a site's machine: which one it is, and the flags it understands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.components.base import Report
from app.deployments.base import STAGING_PREFIX, Deployment
from app.deployments.process import raise_unless
from app.errors import TargetMissing, ToolMissing


@dataclass(frozen=True, slots=True)
class TarTool:
    """`version` is its first line; only GNU tar keeps xattrs, ACLs, sparse files and an order."""

    version: str
    gnu: bool

    def create(self, exclusions: list[str]) -> list[str]:
        """argv that writes the current folder to stdout; see `exclusion` for what a pattern means."""
        if not self.gnu:  # some builds of busybox know no exclusion at all
            return ["tar", "-c", "-f", "-", "."]
        patterns = [f"./{STAGING_PREFIX}*"]
        anchored = [_pattern(e) for e in exclusions if e.startswith("/")]
        floating = [_pattern(e) for e in exclusions if not e.startswith("/")]
        return [
            "tar", "--create", "--file=-", "--format=posix",
            "--pax-option=delete=atime,delete=ctime", "--sort=name", "--numeric-owner", "--xattrs", "--acls",
            "--sparse", "--wildcards",
            "--anchored", *(f"--exclude={pattern}" for pattern in (*patterns, *anchored)),
            "--no-anchored", *(f"--exclude={pattern}" for pattern in floating),
            "--", ".",
        ]  # fmt: skip

    def extract(self) -> list[str]:
        """argv that extracts stdin into the current folder, never as another user than the one it runs as."""
        if not self.gnu:
            # busybox restores modes only as far as the umask lets it, and has no option against that.
            return ["sh", "-c", "umask 000 && exec tar -x -f -"]
        return [
            "tar", "--extract", "--file=-", "--preserve-permissions",
            "--no-same-owner", "--numeric-owner",
            "--xattrs", "--acls", "--delay-directory-restore",
        ]  # fmt: skip


def _pattern(exclusion: str) -> str:
    return f".{exclusion.rstrip('/')}" if exclusion.startswith("/") else exclusion.rstrip("/")


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
    r"File shrank by .*|socket ignored|(Warning: )?Cannot .*: No such file or directory)$"
)
_NOISE = re.compile(r"^tar: (Exiting with failure status due to previous errors|Removing leading .*)$")
_BUSYBOX_UNREADABLE = re.compile(r"^tar: (?P<name>.*?): (?P<reason>Permission denied|can't open.*)$")


def judge_stderr(stderr: str, report: Report) -> bool:
    """Sort tar's complaints into the report; False when one is none of those a dump survives."""
    understood = True
    for line in stderr.splitlines():
        if match := _CHANGED.match(line):
            report.warn("changed_while_read", match["reason"], _plain(match["name"]))
        elif match := _UNREADABLE.match(line) or _BUSYBOX_UNREADABLE.match(line):
            report.lack("unreadable", match["reason"], _plain(match["name"]))
        elif line and not _NOISE.match(line) and "error exit delayed" not in line:
            report.warn("tar", line)
            understood = False
    return understood


def _plain(name: str) -> str:
    return name.removeprefix("Warning: ").removeprefix("./")


def only_devices_failed(stderr: str) -> bool:
    """Whether all that tar complains of when it extracts are devices that it may not make (GNU, busybox)."""
    made = re.compile(r"^tar: (.+: Cannot mknod: |can't create node .+: )(Operation not permitted|.*EPERM.*)$")
    last = "tar: Exiting with failure status due to previous errors"
    return all(made.match(line) or line == last for line in stderr.splitlines())

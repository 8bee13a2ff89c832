"""A document root that is a symbolic link, as `current` → `releases/42`: which folder it means now."""

from __future__ import annotations

import posixpath

from app.deployments.base import Deployment
from app.errors import TargetMissing, ToolMissing

_SECONDS = 60
#: The link's owner, a space and its target; nothing where there is no link.
_READ = r"""
[ -L "./$1" ] || exit 0
owner=$(stat -c %u -- "./$1") && printf '%s ' "$owner" && exec readlink -n -- "./$1"
"""


async def real_folder(deployment: Deployment, path: str) -> str:
    """The folder at `path`, or the one that a link there leads to; `path` itself where it is neither.

    Whoever may write beside the folder may point the link anywhere: at another tenant's site, or at /etc. So it is
    followed only when it leads to a folder below the one that the link lies in, without another link on the way, and
    belongs to root or to whom the folder belongs. What is returned is to be opened without following a link, as any
    document root is. Asked anew for each operation: a deployment of the site changes it.

    Raises TargetMissing, which names the link and its target, and DeploymentError.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    found = await _link(deployment, parent or "/", name)
    if found is None:
        return path
    owner, raw = found
    try:
        target = raw.decode()
    except UnicodeDecodeError:
        raise _refused(path, repr(raw), "the target's name is no UTF-8") from None
    folder = posixpath.normpath(posixpath.join(parent or "/", target))
    top = "/" + "".join(f"{part}/" for part in parent.split("/") if part not in ("", "."))
    if top == "/" or not folder.startswith(top) or ".." in _behind_names(target):
        raise _refused(path, target, f"it does not lead to a folder below {parent or '/'}")
    try:
        status = await deployment.tree.status(folder)
    except TargetMissing as error:
        raise _refused(
            path, target, f"there is no such folder, or there is another link on the way ({error.message})"
        ) from error
    if owner not in (0, status.uid):
        raise _refused(path, target, f"the link belongs to user {owner} and the folder to user {status.uid}")
    return folder


def _behind_names(target: str) -> list[str]:
    """What follows the first name: `..` there is not what it looks like when that name is a link."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        del parts[0]
    return parts


def _refused(path: str, target: str, why: str) -> TargetMissing:
    return TargetMissing(f"{path} is a symbolic link to {target}, which is not followed: {why}; give its real path")


async def _link(deployment: Deployment, parent: str, name: str) -> tuple[int, bytes] | None:
    try:
        result = await deployment.run(["sh", "-c", _READ, "sh", name], cwd=parent, check=False, timeout=_SECONDS)
    except (ToolMissing, TargetMissing):
        if deployment.archive is None:
            return None  # whoever opens the path says what is wrong with it
        try:
            found = await deployment.archive.link(f"{parent.rstrip('/')}/{name}")
        except TargetMissing:
            return None
        return None if found is None else (found[1], found[0])
    owner, _, target = result.stdout.partition(b" ")
    return (int(owner), target) if result.status == 0 and owner.isdigit() and target else None

"""As whom tar reads a site."""

from __future__ import annotations

from app.components.base import Report
from app.components.tar_tool import TarTool
from app.deployments.base import Deployment, User
from app.errors import TargetMissing

_LINKS = "/proc/sys/fs/protected_hardlinks"
#: Where a container is one tenant's, a hard link leads to nothing but its own image.
_CONTAINED = ("docker", "kubernetes")


async def tar_reader(deployment: Deployment, tool: TarTool, owner: User, report: Report) -> User | None:
    """None: root, who can read what belongs to others, as what a web server has written. Its owner, where root would
    put in a backup what its owner must not read, and they could not be stopped from that:

    - busybox's tar looks at a name and opens it later, and follows a link that was put there in between;
    - where the kernel lets anybody make a hard link of anybody's file (fs.protected_hardlinks is 0), any file of the
      file system can be in the site. It cannot be told from one that a restore has linked.

    What cannot be read then is named, and the backup is incomplete.
    """
    if not deployment.privileged or owner.uid == 0:
        return None
    if not tool.gnu:
        report.facts["read_as"] = f"{owner.uid}:{owner.gid}"
        return owner
    if deployment.kind in _CONTAINED or await _links_are_protected(deployment):
        return None
    report.warn(
        "hard_links_unprotected",
        f"the site was read as its own user {owner.uid}: where it runs anybody may make hard links of anybody's "
        "files; set the kernel's fs.protected_hardlinks to 1 there",
    )
    report.facts["read_as"] = f"{owner.uid}:{owner.gid}"
    return owner


async def _links_are_protected(deployment: Deployment) -> bool:
    """False where it cannot be told."""
    if "protected links" not in deployment.tools:
        try:
            found = await deployment.run(["cat", _LINKS], check=False, timeout=60)
        except TargetMissing:
            return False
        deployment.tools["protected links"] = found.status == 0 and found.stdout.strip() == b"1"
    return bool(deployment.tools["protected links"])

"""A domain's mail: maildirs as a tar archive; a restore only adds what is missing.

Source: maildir(5), cr.yp.to/proto/maildir.html: a message keeps its name before ":2," when its flags change and
when it moves from `new` to `cur`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.archives.streams import ByteStream
from app.components.base import Component, Dump, Report, RestoreContext
from app.components.files import FilesComponent, FilesTarget
from app.components.tree_dump import dump_tree
from app.deployments.base import Deployment, SwapPlan, User
from app.errors import NoSpace, TargetMissing
from app.sizes import human_size

#: Bytes that a restore leaves free.
_RESERVE = 64 << 20
_INDEXES = (b"dovecot-uidlist", b"dovecot.index", b"dovecot.list.index", b"dovecot.map.index")


@dataclass(frozen=True, slots=True)
class MailTarget:
    """`folder` holds one maildir for each address, named by the full address."""

    folder: str
    mailboxes: Sequence[str]
    owner: User


class MaildirRules:
    """Two messages are one when their names before ":2," agree, in `new` or `cur` of one mailbox."""

    def folders(self, folder: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
        if folder and folder[-1] in (b"new", b"cur"):
            return [(*folder[:-1], b"new"), (*folder[:-1], b"cur")]
        return [folder]

    def identity(self, name: bytes) -> bytes | None:
        """Indexes describe the old set of messages: the mail server makes new ones."""
        return None if name.startswith(_INDEXES) else name.partition(b":2,")[0]


class MailComponent(Component):
    kind = "mail"

    def __init__(self, deployment: Deployment, target: MailTarget) -> None:
        self._deployment = deployment
        self._target = target

    @property
    def owner(self) -> User:
        """To whom restored mail belongs."""
        return self._target.owner

    async def dump(self) -> Dump:
        """Every maildir of the folder; a mailbox that is listed and not there is a warning."""
        dump = await dump_tree(self._deployment, self._target.folder, None, ())
        for address in self._target.mailboxes:
            try:
                await self._deployment.tree.status(f"{self._target.folder}/{address}")
            except TargetMissing:
                dump.report.warn(
                    "mailbox_missing", "has no maildir: nothing was ever delivered, or it was moved", address
                )
        return dump

    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        """Raises TargetMissing, NoSpace."""
        status = await self._deployment.tree.status(self._target.folder)
        if status.free < plain_size + _RESERVE:
            raise NoSpace(
                f"{self._target.folder} has {human_size(status.free)} free, its mail needs "
                f"{human_size(plain_size + _RESERVE)} with the reserve of {human_size(_RESERVE)}: free some"
            )
        return "merge"

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """Add messages that are not there; nothing delivered since the backup is lost."""
        async with aclosing(source):
            report = Report()
            report.facts["mode"] = await self.preflight(context, plain_size)
            # Staged inside the folder: on its file system, so that adding a message is one hard link.
            plan = SwapPlan(self._target.folder, context.operation, "entries", False)
            tree = self._deployment.tree
            staging = await tree.prepare(plan, self._target.owner)
            try:
                files = FilesComponent(self._deployment, FilesTarget(self._target.folder, self._target.owner))
                await files.extract(source, staging, report)
                await context.confirm()
                report.facts["added"] = await tree.add_missing(plan, MaildirRules())
            finally:
                await asyncio.shield(tree.discard(plan))
            return report

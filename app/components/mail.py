"""A domain's mail: maildirs as a tar archive; a restore only adds what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.archives.streams import ByteStream
from app.components.base import Component, Dump, Report, RestoreContext
from app.components.files import FilesComponent, FilesTarget, dump_tree
from app.components.maildir import MaildirRules
from app.deployments.base import Deployment, SwapPlan, User
from app.errors import NoSpace, TargetMissing


@dataclass(frozen=True, slots=True)
class MailTarget:
    """`folder` holds one maildir for each address, named by the full address."""

    folder: str
    mailboxes: Sequence[str]
    owner: User


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
        if status.free < plain_size + (64 << 20):
            raise NoSpace(f"{self._target.folder} has {status.free} bytes free, its mail needs {plain_size}")
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
                rules = MaildirRules()
                report.facts["added"] = await tree.add_missing(plan, rules)
                if rules.letters_dropped:
                    report.warn(
                        "mail_keywords_dropped",
                        f"{rules.letters_dropped} keywords of restored messages are not kept: their folders' "
                        "dovecot-keywords have no letter for them",
                    )
            finally:
                await asyncio.shield(tree.discard(plan))
            return report

"""What a foreign backup holds, in words of ours. No secret is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: Of a mailbox: "maildir" and "mbox" are imported, the others are reported.
MailFormat = Literal["maildir", "mbox", "mdbox", "unknown"]
Engine = Literal["mysql", "postgresql"]
#: Why a part cannot be imported: an error's code and a sentence.
Problem = tuple[str, str]


@dataclass(slots=True)
class ForeignDatabase:
    """`source`: the archive's member. `format`: "sql" is plain, perhaps gzipped. `size` in bytes as stored."""

    engine: Engine
    name: str
    source: str
    format: Literal["sql", "pg_dump"]
    size: int
    users: list[str] = field(default_factory=list)
    problem: Problem | None = None


@dataclass(slots=True)
class ForeignMailbox:
    """`source`: the folder of its maildir, or its mbox; None: there is an account and no mail. `left_out`: messages
    in folders that are none of a maildir."""

    address: str
    source: str | None
    format: MailFormat
    messages: int = 0
    bytes: int = 0
    left_out: int = 0
    quota: int | None = None


@dataclass(slots=True)
class ForeignDomain:
    """`kind`: main, addon, sub, parked or alias; the last two have no files of their own. `document_root`: the folder
    in the archive, None: there is none. `excluded`: folders in it that are other domains' document roots.
    `incomplete`: the files are only those that changed since an earlier backup."""

    name: str
    kind: Literal["main", "addon", "sub", "parked", "alias"]
    document_root: str | None = None
    files: int = 0
    bytes: int = 0
    parent: str | None = None
    excluded: list[str] = field(default_factory=list)
    incomplete: bool = False
    files_problem: Problem | None = None
    mail_problem: Problem | None = None
    databases: list[ForeignDatabase] = field(default_factory=list)
    mailboxes: list[ForeignMailbox] = field(default_factory=list)

    @property
    def holds_anything(self) -> bool:
        return bool(self.document_root or self.databases or self.mailboxes)


@dataclass(slots=True)
class Inventory:
    """`listed`: what is shown and not imported, by kind: aliases, cron, dns, certificates. `must_reset`: accounts
    whose password cannot be carried over."""

    format: str
    reason: str
    domains: list[ForeignDomain] = field(default_factory=list)
    listed: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    must_reset: list[str] = field(default_factory=list)

    def add_mailbox(self, domain: ForeignDomain, box: ForeignMailbox, *, keeps_password: bool) -> None:
        domain.mailboxes.append(box)
        if not keeps_password:
            self.must_reset.append(box.address)
        if box.left_out:
            self.warnings.append(
                f"{box.address}: {box.left_out} messages are in folders that are none of a maildir; left out"
            )

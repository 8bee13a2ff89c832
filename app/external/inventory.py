"""What a foreign backup holds, in words of ours. No secret is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

#: Of a mailbox: "maildir" and "mbox" are imported, the others are reported.
MailFormat = Literal["maildir", "mbox", "mdbox", "unknown"]
#: Domains, databases and mailboxes of one archive.
MAX_PARTS = 100_000
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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Inventory:
        """Of what `dataclasses.asdict` has made, by way of JSON."""
        return cls(**values | {"domains": [_domain(found) for found in values["domains"]]})

    def add_mailbox(self, domain: ForeignDomain, box: ForeignMailbox, *, keeps_password: bool) -> None:
        domain.mailboxes.append(box)
        if not keeps_password:
            self.must_reset.append(box.address)
        if box.left_out:
            self.warnings.append(
                f"{box.address}: {box.left_out} messages are in folders that are none of a maildir; left out"
            )


def _domain(values: dict[str, Any]) -> ForeignDomain:
    databases = [ForeignDatabase(**found | {"problem": _problem(found["problem"])}) for found in values["databases"]]
    return ForeignDomain(
        **values
        | {
            "files_problem": _problem(values["files_problem"]),
            "mail_problem": _problem(values["mail_problem"]),
            "databases": databases,
            "mailboxes": [ForeignMailbox(**found) for found in values["mailboxes"]],
        }
    )


def _problem(value: list[str] | None) -> Problem | None:
    return None if value is None else (value[0], value[1])

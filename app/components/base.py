"""The contract of every component: how one part of a site becomes a byte stream, and the way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from app.archives.manifest import Warning_
from app.archives.streams import ByteStream
from app.errors import OperationCancelled, OwnershipLost

MAX_NAMED = 200
#: A fact of a part that another program dumped: see RestoreContext.foreign.
FOREIGN = "foreign"
#: A fact of a database: where in its server's log the dump is, as far as the account may ask. MySQL and MariaDB:
#: `file`, `offset`, `gtid`; PostgreSQL: `lsn`. `exact`: it is the snapshot's own; else it was asked right before, and
#: what follows it in the log may be in the dump already.
POSITION = "position"
#: A fact of a part in a pod: `namespace`, `pod`, `container`, `node` and, of files and mail, `volume`.
PLACE = "place"
#: In a part's journal: the server was told to keep what was restored; whether it has is not known.
COMMITTING = "committing"
#: A warning of a restore: what it staged, or has replaced, is still there.
STAGING_LEFT = "staging_left"
NOT_REMOVED = (
    "what the restore left here is not removed yet ({why}); it is tried again: by housekeeping, and before the next "
    "backup or restore of this domain"
)


@dataclass(slots=True)
class Report:
    """What happened beside the bytes.

    `incomplete`: what was there and could not be read or written; it makes the backup partial.
    `warnings`: what was not there to be had, or is not kept. `facts`: counts and versions.
    """

    warnings: list[Warning_] = field(default_factory=list)
    incomplete: list[Warning_] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def warn(self, code: str, message: str, subject: str | None = None) -> None:
        _add(self.warnings, Warning_(code=code, message=message, subject=subject))

    def lack(self, code: str, message: str, subject: str | None = None) -> None:
        _add(self.incomplete, Warning_(code=code, message=message, subject=subject))


def _add(records: list[Warning_], record: Warning_) -> None:
    """Keep the first MAX_NAMED and count the rest, so that a million bad files stay one page."""
    if len(records) < MAX_NAMED:
        records.append(record)
    elif len(records) == MAX_NAMED:
        records.append(Warning_(code="more", message="1 more", subject=None))
    else:
        count = int(records[-1].message.split()[0]) + 1
        records[-1] = Warning_(code="more", message=f"{count} more", subject=None)


class Proof(ABC):
    """That a dump loads: into a scratch database, which `Component.tidy` removes again."""

    @abstractmethod
    async def room(self) -> int | None:
        """Bytes that are free where the server keeps its data; None: that cannot be told. Raises what the database
        raises."""

    @abstractmethod
    async def load(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """Load what was stored of the dump and compare it with the dump's snapshot: what differs is incomplete.

        What is made is journalled before. Touches nothing live. Closes `source`. Raises ProofImpossible when nothing
        can be said of the dump, and what `source` raises.
        """

    async def close(self) -> None:  # noqa: B027  most hold nothing
        """Let go of what is held at the server since the dump, whether it was loaded or not. Idempotent."""


@dataclass(slots=True)
class Dump:
    """`stream` is the plain archive; `report` is complete when it has ended.

    `verify` raises when what was streamed is not a whole dump; call it after the last byte. `proof`: what can show
    that it loads, once it is stored.
    """

    stream: ByteStream
    report: Report
    verify: Callable[[], None] = lambda: None
    proof: Proof | None = None


class SafetyCopy(Protocol):
    """A copy of what is live, kept at the backup's destination while it is replaced."""

    @property
    def stored(self) -> bool:
        """Whether there is a whole copy; known after a restart as well."""
        ...

    @property
    def name(self) -> str:
        """What to call it in a message: the backup it is listed as."""
        ...

    async def store(self) -> None:
        """Dump and store the component; durable and journalled when it returns. Raises what a dump raises, and
        DumpIncomplete when part of it could not be read."""
        ...

    def open(self) -> ByteStream: ...

    async def discard(self) -> None:
        """Remove the copy. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class RestoreContext:
    """What a restore may do.

    `operation` names staging and scratch things. `confirm` raises when this attempt no longer owns the
    operation; it is called right before anything live changes. `record` journals a step durably.
    `resumes`: an attempt goes on with it; false when it is given up. `exclusions`: what the backup left out on
    purpose; None when it does not tell. `taken_at`: when the backup began to read. `keep_hours`: for how long what is
    replaced is kept, as long as `keep_free` bytes stay free. `foreign`: another program made the archive, which need
    not mark its end; that it is whole is known in another way. `allow_empty`: a tree that holds no file may replace
    one that does. `facts`: what the part's dump told of it; nothing of another program's.
    """

    operation: str
    clear_existing: bool
    allow_in_place: bool
    confirm: Callable[[], Awaitable[None]]
    journal: dict[str, Any]
    record: Callable[[dict[str, Any]], Awaitable[None]]
    safety: SafetyCopy
    allow_without_safety_copy: bool = False
    allow_empty: bool = False
    resumes: bool = True
    exclusions: Sequence[str] | None = None
    taken_at: datetime | None = None
    keep_hours: float = 0
    keep_free: int = 0
    foreign: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a change of what is live that an earlier attempt had begun.

    `untouched`: nothing live was changed. `undone`: what is live is the old again. `done`: the new is live and whole,
    nothing of this part is left to do but `tidy`. `lost`: what is live is neither, and there is nothing to put it
    right from (consent was given to go without a safety copy): only another restore helps, which may begin. `detail`:
    a sentence for people.
    """

    state: Literal["untouched", "undone", "done", "lost"] = "untouched"
    detail: str | None = None


async def still_ours(context: RestoreContext) -> bool:
    """Whether this attempt may still put things right: cancelled, yes; taken over by another, no."""
    try:
        await context.confirm()
    except OperationCancelled:
        return True
    except OwnershipLost:
        return False
    return True


class Component(ABC):
    """One part of a site, blind to where the site runs."""

    @abstractmethod
    async def dump(self) -> Dump:
        """Begin a dump. Raises what keeps it from beginning; its stream and `verify` raise the rest."""

    async def dump_to_prove(self) -> Dump:
        """As `dump`, with its proof, where there is an account that may make a scratch database."""
        return await self.dump()

    @abstractmethod
    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        """How a restore of `plain_size` bytes would be done. Touches nothing; raises what speaks against it."""

    @abstractmethod
    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """Replace what is live by `source`, whose last chunk comes only when its hash is right. Closes `source`.

        On any error what is live is as it was, or the error says what it is now.
        """

    async def rehearse(self, source: ByteStream, context: RestoreContext) -> Report:
        """What a restore of `source` would change, told in the report's facts; touches nothing. Closes `source`."""
        await source.aclose()
        return Report()

    async def settle(self, context: RestoreContext) -> Settled:
        """Finish or undo what an attempt that has ended (killed, cancelled, fenced, cut off) had begun to change.

        Comes first: before the backup's destination is opened, room is looked at or anything else that can fail, also
        when the restore is given up. Uses the journal alone; where the old state lies at a destination
        (`context.safety`), that one is opened only when it is needed. Idempotent. Raises what keeps it from being
        done, with the place where what is old lies: then nothing was removed, and it can be called again.
        """
        return Settled()

    async def tidy(self, journal: dict[str, Any]) -> None:  # noqa: B027  most restores keep nothing
        """Remove what a restore that has ended kept, for example the tree it replaced. Idempotent."""

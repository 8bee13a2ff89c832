"""Maildirs in a foreign archive.

Source: maildir(5); the folders of Maildir++ ("Directory Structure") begin with a dot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.external.inventory import ForeignMailbox, MailFormat
from app.external.items import Item, key
from app.external.mbox import FROM, measured
from app.external.names import address, local_part
from app.external.staged import Staged

_MESSAGES = (b"cur", b"new")
#: Of one mbox: their names are held while it is read.
_MAX_MESSAGES = 2_000_000
_MAILDIR = (*_MESSAGES, b"tmp")


def of_maildir(parts: list[bytes]) -> bool:
    """Messages and the folders of messages; a mail server's own files are made anew."""
    if parts[0] in _MAILDIR:
        return True
    return parts[0].startswith(b".") and (len(parts) == 1 or parts[1] in (*_MAILDIR, b"maildirfolder"))


def is_message(parts: list[bytes]) -> bool:
    return len(parts) > 1 and parts[-2] in _MESSAGES


def mailbox(staged: Staged, address: str, folder: str, declared: str, own: set[str] | None = None) -> ForeignMailbox:
    """What lies in a mailbox's folder. `declared`: the format that the archive names. `own`: the folder also holds
    the mailboxes of these domains, which are others'."""
    prefix = key(folder) + b"/"
    others = {name.encode() for name in own or ()}
    messages = size = left_out = 0
    there = False
    for item in staged.below(folder):
        parts = item.path[len(prefix) :].split(b"/")
        if parts[0] in others:
            continue
        there = True
        if item.type in "fh" and is_message(parts):
            if of_maildir(parts):
                messages += 1
                size += staged.size(item)
            else:
                left_out += 1
    kind: MailFormat = "maildir"
    if declared == "mdbox" or staged.is_folder(f"{folder}/storage"):
        kind = "mdbox"
    elif declared not in ("maildir", ""):
        kind = "unknown"
    return ForeignMailbox(address, folder if there else None, kind, messages, size, left_out)


def mbox(staged: Staged, address: str, item: Item) -> ForeignMailbox:
    """A file that holds a mailbox' messages."""
    if item.size and not staged.head(item).startswith(FROM):
        return ForeignMailbox(address, item.name, "unknown", bytes=item.size)
    count, size = measured(staged.read(item), _MAX_MESSAGES)
    return ForeignMailbox(address, item.name, "mbox" if count <= _MAX_MESSAGES else "unknown", count, size)


def maildir_in(staged: Staged, folders: Iterable[str]) -> str | None:
    """The first of the folders that is a maildir, or holds one that is called so. "": the whole archive."""
    for folder in folders:
        for maildir in (f"{folder}/Maildir" if folder else "Maildir", folder):
            if any(staged.is_folder(f"{maildir}/{name}") for name in ("cur", "new")):
                return maildir
    return None


def mailboxes_below(staged: Staged, folder: str, domain: str) -> Iterator[ForeignMailbox]:
    """Of archives made by hand: USER or USER@DOMAIN, each a maildir or with one in it."""
    for user in staged.names(folder):
        maildir = maildir_in(staged, [f"{folder}/{user}"])
        named = address(user) or ((user, domain) if local_part(user) is not None else None)
        if maildir is not None and named is not None and named[1] == domain:
            yield mailbox(staged, "@".join(named), maildir, "maildir")

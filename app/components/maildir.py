"""Which messages of a maildir are added to a live one, and under which names.

Sources: maildir(5), cr.yp.to/proto/maildir.html: a message keeps its name before ":2," when its flags change and when
it moves from `new` to `cur`; Dovecot's "Maildir Mailbox Format": letters a to z in the flags mean what the folder's
own dovecot-keywords says ("0 $Forwarded": a); its "Quota Backend: maildir" and Courier's README.maildirquota:
maildirsize begins with the limits, and every change is a line "bytes messages" at its end.

A message that lies in a folder where the archive has none of its name was moved there, and is not added again:
Dovecot 2, Courier and mutt keep the name (maildir_save_set_dest_basename in Dovecot's maildir-copy.c); where a
program gives it another one, it is another message here. One that the archive has in two folders was copied: each
comes back to its own. What lies in the trash is about to be lost, and does not count, except for what came from
there.
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from bisect import bisect_left, bisect_right

Parts = tuple[bytes, ...]

KEYWORDS, QUOTA = b"dovecot-keywords", b"maildirsize"
#: What describes the set of messages as it was, or is made anew by the server: never added. What says what the owner
#: wants (subscriptions, dovecot-acl, sieve scripts, Courier's keywords and rights) is, where it is missing.
_DESCRIBING = (
    b"dovecot-uidlist", b"dovecot-uidvalidity", b"dovecot.index", b"dovecot.list.index", b"dovecot.map.index",
    b"dovecot.mailbox.log", b"dovecot-acl-list", b"dovecot-keywords.lock", b"courierimapuiddb",
    b"courierpop3dsizelist", QUOTA,
)  # fmt: skip
_COMPILED = b".svbin"
_TRASH = {b"trash", b"deleted", b"deleted items", b"deleted messages"}
_LIMITS = re.compile(rb"[0-9SC,]{1,64}")
_LETTERS = range(ord("a"), ord("z") + 1)


class MaildirRules:
    """Of one restore. `letters_dropped`: keywords of messages that their live folders have no letter for."""

    notes: tuple[bytes, ...] = (KEYWORDS, QUOTA)

    def __init__(self) -> None:
        self.letters_dropped = 0
        self._there = _Set()
        self._anywhere = _Set()
        self._stayed = _Set()
        self._mailboxes: set[Parts] = set()
        self._live: dict[Parts, bytes] = {}
        self._archived: dict[Parts, bytes] = {}
        self._added: dict[Parts, tuple[int, int]] = {}
        self._letters: dict[Parts, dict[int, int] | None] = {}

    def have(self, path: Parts) -> None:
        self._mailboxes.add(_mailbox(path))
        self._there.add(_place(path))
        if _is_message(path) and not _in_trash(path):
            self._anywhere.add(_name(path))

    def staged(self, path: Parts) -> None:
        if _is_message(path) and not _in_trash(path) and self._there.count(_place(path)):
            self._stayed.add(_name(path))

    def note(self, path: Parts, content: bytes, *, live: bool) -> None:
        (self._live if live else self._archived)[path] = content

    def name(self, path: Parts) -> bytes | None:
        last = path[-1]
        if last.startswith(_DESCRIBING) or last.endswith(_COMPILED) or self._there.count(_place(path)):
            return None
        if not _is_message(path):
            return last
        name = _name(path)
        moved = self._anywhere.count(name) > self._stayed.count(name)
        return None if moved else self._translated(path)

    def added(self, path: Parts, size: int) -> None:
        if not _is_message(path) or _in_trash(path):  # what is in the trash is no part of a Maildir++ quota
            return
        root = path[:-2]
        if root[-1:] and root[-1].startswith(b"."):
            root = root[:-1]
        size_before, count = self._added.get(root, (0, 0))
        self._added[root] = size_before + size, count + 1

    def appended(self) -> list[tuple[Parts, bytes]]:
        """The server keeps a quota's limits in the file: it is never replaced, and made only in a new mailbox."""
        found = []
        for root, (size, count) in self._added.items():
            path, line = (*root, QUOTA), b"%d %d\n" % (size, count)
            limits = self._archived.get(path, b"").partition(b"\n")[0]
            if path in self._live:
                found.append((path, line))
            elif _mailbox(path) not in self._mailboxes and _LIMITS.fullmatch(limits):
                found.append((path, limits + b"\n" + line))
        return found

    def _translated(self, path: Parts) -> bytes:
        base, mark, info = path[-1].partition(b":2,")
        flags, comma, rest = info.partition(b",")
        if not any(letter in _LETTERS for letter in flags):
            return path[-1]
        folder = path[:-2]
        if folder not in self._letters:
            self._letters[folder] = self._letters_of(folder)
        letters = self._letters[folder]
        if letters is None:
            return path[-1]
        kept = [letters.get(flag, 0) if flag in _LETTERS else flag for flag in flags]
        self.letters_dropped += kept.count(0)
        return base + mark + bytes(sorted({flag for flag in kept if flag})) + comma + rest

    def _letters_of(self, folder: Parts) -> dict[int, int] | None:
        """Letter in the archive → letter in the live folder; None where that has no meanings of its own yet."""
        live = self._live.get((*folder, KEYWORDS))
        if live is None:
            return None
        meanings = {keyword: letter for letter, keyword in _keywords(live).items()}
        archived = _keywords(self._archived.get((*folder, KEYWORDS), b""))
        return {letter: meanings[keyword] for letter, keyword in archived.items() if keyword in meanings}


def _keywords(content: bytes) -> dict[int, bytes]:
    """Letter → keyword, in lower case: IMAP tells no cases apart."""
    found = {}
    for line in content.splitlines():
        number, _, keyword = line.partition(b" ")
        if keyword and number.isdigit() and len(number) < 3 and int(number) < len(_LETTERS):
            found[_LETTERS[int(number)]] = keyword.strip().lower()
    return found


def _is_message(path: Parts) -> bool:
    return len(path) > 1 and path[-2] in (b"new", b"cur")


def _place(path: Parts) -> bytes:
    """What one thing shares under all its names in one folder; `new` and `cur` are one."""
    if not _is_message(path):
        return b"/".join(path)
    return b"/".join((*path[:-2], b"cur", path[-1].partition(b":2,")[0]))


def _name(path: Parts) -> bytes:
    """What a message shares in all folders of its mailbox."""
    return b"/".join((*_mailbox(path), path[-1].partition(b":2,")[0]))


def _mailbox(path: Parts) -> Parts:
    """The mailbox something lies in: named by an address, or the whole mail folder where that is a maildir itself."""
    top = path[0]
    return () if top.startswith(b".") or top in (b"cur", b"new", b"tmp") or len(path) == 1 else path[:1]


def _in_trash(path: Parts) -> bool:
    """Whether it is a message in a folder that holds what was deleted."""
    folder = path[-3].lower() if _is_message(path) and len(path) > 2 else b""
    return folder.rpartition(b".")[2] in _TRASH


class _Set:
    """Of a million names in 8 MB, each as often as it was added: keyed 64-bit hashes, put in order when asked for."""

    def __init__(self) -> None:
        self._key = os.urandom(16)
        self._parts = [array("Q") for _ in range(256)]
        self._in_order: set[int] = set()

    def _hash(self, name: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(name, digest_size=8, key=self._key).digest(), "big")

    def add(self, name: bytes) -> None:
        number = self._hash(name)
        self._parts[number & 255].append(number)
        self._in_order.discard(number & 255)

    def count(self, name: bytes) -> int:
        number = self._hash(name)
        part = number & 255
        if part not in self._in_order:
            self._parts[part] = array("Q", sorted(self._parts[part]))
            self._in_order.add(part)
        return bisect_right(self._parts[part], number) - bisect_left(self._parts[part], number)

"""One virtual server of a Virtualmin backup, from the files that its features wrote.

Source: Virtualmin's features and their backup files: DOMAIN_virtualmin (KEY=VALUE), DOMAIN_dir (a tar of the home),
DOMAIN_mysql_NAME (SQL, perhaps gzipped), DOMAIN_postgres_NAME (pg_dump's custom format), DOMAIN_mail_users (two lines
a user).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.external.databases import database
from app.external.document_roots import folder_in, lacking
from app.external.formats.base import Expand, inside, opened
from app.external.inventory import Engine, ForeignDatabase, ForeignDomain, ForeignMailbox, Inventory, Problem
from app.external.items import Item, shown
from app.external.key_values import pairs
from app.external.mailboxes import mailbox, maildir_in, mbox
from app.external.names import address, domain_name
from app.external.staged import Staged

_MAX_USERS = 16 << 20
_BLOCK = 1024
_KEYS = {"dom", "id", "alias", "parent", "home", "public_html_dir"}  # not its passwords
_LISTED = {"unix": "cron", "dns": "dns", "web": "web", "ssl_cert": "certificates", "mail_aliases": "aliases"}
_ENGINES: dict[str, Engine] = {"mysql": "mysql", "postgres": "postgresql"}


@dataclass(frozen=True, slots=True)
class MailUser:
    """`login`: the system user. `hash`: crypt(3)'s, "" when there is none that can be carried over. `quota` in
    bytes."""

    login: str
    address: str
    home: str
    hash: str
    quota: int | None


class VirtualServer:
    """`features`: the domain's files by what follows its name and an underscore. `home`: the folder of its home in
    the archive, with a slash at its end or "" for the archive itself; None: it is an archive of its own (`dir`), or
    there is none."""

    def __init__(
        self, staged: Staged, stem: str, features: dict[str, Item], home: str | None, expand: Expand
    ) -> None:
        self._staged = staged
        self._features = features
        self.home = home
        self._expand = expand
        item = features.get("virtualmin")
        settings = pairs(staged.text(item)) if item is not None else iter(())
        self._settings = {key: value for key, value in settings if key in _KEYS}
        self.name = domain_name(self._settings.get("dom")) or domain_name(stem) or ""
        self.id = self._settings.get("id", "")

    @property
    def parent_id(self) -> str:
        return self._settings.get("alias") or self._settings.get("parent") or ""

    @property
    def is_sub(self) -> bool:
        return bool(self.parent_id)

    def read(self, inventory: Inventory) -> ForeignDomain:
        found = ForeignDomain(self.name, "main")
        if self._settings.get("alias"):
            found.kind = "alias"
        elif self.is_sub:
            found.kind = "sub"
        if found.kind != "alias":
            found.files_problem = found.mail_problem = self._open_home()
            self._files(found, inventory)
        found.databases = list(self._databases())
        self._mail(found, inventory)
        self._report(inventory)
        return found

    def _open_home(self) -> Problem | None:
        """Where the home is an archive of its own, look into it."""
        if self.home is not None:
            return None
        for feature, item in self._features.items():
            if feature == "dir" or feature.startswith("dir."):
                self.home = inside(item) + "/"
                return opened(self._expand, item)
        return None

    def _files(self, found: ForeignDomain, inventory: Inventory) -> None:
        if self.home is None or found.files_problem is not None:
            return
        path = self._settings.get("public_html_dir") or "public_html"
        homes = [self._settings.get("home", "").rstrip("/")]
        folder = folder_in(self._staged, self.home, path, homes if homes[0].startswith("/") else ())
        if folder is None or f"{folder}/" == self.home or f"{folder}/".startswith(f"{self.home}.backup/"):
            found.files_problem = lacking(self._staged, self.name, self.home, path)
            return
        found.document_root = folder
        if self._staged.get(f"{self.home}.incremental") is not None:
            found.incomplete = True
            inventory.warnings.append(
                f"{self.name}: a differential backup, it holds only what changed since a full one: import that "
                "one first. These files are added to what is there, and nothing is removed"
            )

    def _databases(self) -> Iterator[ForeignDatabase]:
        for feature, item in self._features.items():
            kind, _, rest = feature.partition("_")
            if kind not in _ENGINES or not rest:
                continue
            yield database(self._staged, _ENGINES[kind], rest.removesuffix(".gz"), item)

    def users(self) -> Iterator[MailUser]:
        """Those that have an address."""
        item = self._features.get("mail_users")
        lines = self._staged.text(item, _MAX_USERS).splitlines() if item is not None else []
        for line in lines[::2]:  # the second of two says where mail goes
            fields = [*line.split(":"), *[""] * 9][:9]
            named = address(fields[7])
            if named is not None and _plain(fields[0]):
                quota = int(fields[8]) * _BLOCK if fields[8].isdecimal() and len(fields[8]) < 15 else 0
                secret = fields[1] if fields[1].startswith("$") else ""
                yield MailUser(fields[0], "@".join(named), fields[5], secret, quota or None)

    def _mail(self, found: ForeignDomain, inventory: Inventory) -> None:
        shared = self._features.get("mail_files")
        if shared is not None:
            found.mail_problem = found.mail_problem or opened(self._expand, shared)
        seen = set[str]()
        for user in self.users():
            if user.address in seen:
                inventory.warnings.append(f"{user.address}: another user has this address too; left out")
                continue
            seen.add(user.address)
            box, problem = self._mailbox(user, shared)
            box.quota = user.quota
            found.mail_problem = found.mail_problem or problem
            inventory.add_mailbox(found, box, keeps_password=bool(user.hash))
        self._unnamed(found, inventory)

    def _unnamed(self, found: ForeignDomain, inventory: Inventory) -> None:
        """Homes with mail whose user has no address."""
        if self.home is None:
            return
        known = {box.source for box in found.mailboxes}
        for name in self._staged.names(f"{self.home}homes"):
            folder = f"{self.home}homes/{name}/Maildir"
            if folder not in known and self._staged.is_folder(folder):
                text = f"{shown(folder)}: mail of nobody who has an address in the archive; left out"
                inventory.warnings.append(text)

    def _mailbox(self, user: MailUser, shared: Item | None) -> tuple[ForeignMailbox, Problem | None]:
        """Where a user's mail lies: in a tar of its own, in that of all, or in the home."""
        own = self._features.get(f"mail_homes_{user.login}")
        problem = opened(self._expand, own) if own is not None else None
        local = user.address.partition("@")[0]
        outside = [inside(own)] if own is not None else []
        if shared is not None:
            outside += [f"{inside(shared)}/{name}" for name in dict.fromkeys((user.login, local))]
        homes = []
        if self.home is not None:
            below = self._settings.get("home", "").rstrip("/")
            if below and (user.home == below or user.home.startswith(f"{below}/")):
                homes.append((self.home + user.home[len(below) :].strip("/")).rstrip("/"))
            homes += [f"{self.home}homes/{name}" for name in dict.fromkeys((user.login, local))]
        maildir = maildir_in(self._staged, [*outside, *homes])
        if maildir is not None:
            return mailbox(self._staged, user.address, maildir, "maildir"), problem
        for path in outside:
            item = self._staged.get(path)
            if item is not None and item.type == "f" and item.size:
                return mbox(self._staged, user.address, item), problem
        return ForeignMailbox(user.address, None, "maildir"), problem

    def _report(self, inventory: Inventory) -> None:
        for feature, kind in _LISTED.items():
            item = self._features.get(feature)
            if item is None or item.size == 0:
                continue
            counted = kind in ("aliases", "cron") and item.size < 1 << 20
            lines = f": {len(self._staged.text(item).splitlines())} lines" if counted else ""
            listed = inventory.listed.setdefault(kind, [])
            if len(listed) < 1000:
                listed.append(f"{self.name}{lines}")


def _plain(login: str) -> bool:
    return bool(login) and "/" not in login and not login.startswith((".", "-"))

"""cPanel's account backups (cpmove, backup-…), and archives made by hand in their image.

Source: the layout of pkgacct's archives as cPanel documents and produces it; userdata files are YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from app.external.databases import database
from app.external.formats.base import Expand, Format, Match, inside, opened
from app.external.formats.cpanel_domains import CpanelDomains
from app.external.inventory import MAX_PARTS, ForeignDatabase, ForeignDomain, Inventory
from app.external.items import Item, shown
from app.external.key_values import pairs
from app.external.mailboxes import mailbox
from app.external.names import domain_name, local_part
from app.external.staged import Staged

_WEAK = ("version", "homedir_paths", "mysql.sql", "dnszones")
_MAX_LISTED = 1000
_SKIPPED = {"roundcube", "horde", "openfileslimit"}
_GRANT = re.compile(r"ON (?:`((?:[^`]|``)+)`|(\w+))\.\* TO '((?:[^'\\]|\\.|'')*)'@")


class CpanelFormat(Format):
    name = "cpanel"

    def sniff(self, staged: Staged, root: str) -> Match | None:
        account = next(staged.files(f"{root}cp"), None)
        if account is not None and staged.get(f"{root}userdata/main") is not None:
            return Match(f"userdata/main and {account.name.removeprefix(root)}")
        if staged.is_folder(f"{root}.cpanel/datastore") and staged.is_folder(f"{root}public_html"):
            return Match("a home alone, with .cpanel/datastore")
        home = next((name for name in ("homedir.tar", "homedir") if staged.exists(f"{root}{name}")), None)
        weak = [name for name in _WEAK if staged.exists(f"{root}{name}")]
        if home and weak:
            return Match(f"{home} and {weak[0]}")
        if home or account:
            return Match(home or "cp/", marker=True)
        return None

    def read(self, staged: Staged, root: str, domain: str | None, expand: Expand) -> Inventory:
        nested = staged.get(f"{root}homedir.tar")
        if nested is not None:
            expand(nested, f"{root}homedir")
        account = _Account(staged, root, expand)
        found = Inventory(self.name, "")
        found.domains = account.domains.read(domain)
        account.databases(found.domains[0])
        account.mailboxes(found)
        account.listed(found)
        found.warnings += account.domains.warnings
        return found

    def password_hashes(self, staged: Staged, root: str, inventory: Inventory) -> dict[str, str]:
        account = _Account(staged, root, lambda item, into: None)
        found = {}
        for domain in inventory.domains:
            hashes = dict(
                line.split(":")[:2] for line in account.etc(domain.name, "shadow").splitlines() if ":" in line
            )
            for box in domain.mailboxes:
                secret = hashes.get(box.address.rpartition("@")[0], "")
                if secret.startswith("$"):  # not "*" or "!", which stand for none
                    found[box.address] = secret
        return found


class _Account:
    def __init__(self, staged: Staged, root: str, expand: Expand) -> None:
        self._staged = staged
        self._root = root
        self._expand = expand
        self._home = f"{root}homedir/"
        if not staged.exists(f"{root}homedir") and staged.is_folder(f"{root}.cpanel"):
            self._home = root  # the archive is the home
        account = next(staged.files(f"{root}cp"), None)
        self.user = account.last if account is not None else ""
        settings = dict(pairs(staged.text(account))) if account is not None else {}
        self.domains = CpanelDomains(staged, root, self._home, self.user, settings)

    def databases(self, main: ForeignDomain) -> None:
        """They belong to the account, so to its main domain."""
        users = self._grants()
        for item in self._dumps(main):
            name = item.last
            stem = name.removesuffix(".gz").removesuffix(".sql")
            if stem != name and stem not in _SKIPPED and not name.endswith(".create"):
                main.databases.append(database(self._staged, "mysql", stem, item, sorted(users.get(stem, ()))))
        for folder in ("psql", "pgsql"):
            for item in self._staged.files(f"{self._root}{folder}"):
                ending = next((end for end in (".tar", ".sql", ".sql.gz") if item.last.endswith(end)), None)
                if ending is not None:
                    stem = item.last.removesuffix(ending)
                    main.databases.append(database(self._staged, "postgresql", stem, item))

    def _dumps(self, main: ForeignDomain) -> Iterator[Item]:
        """Those in a zip archive of their own too."""
        for item in self._staged.files(f"{self._root}mysql"):
            if not item.name.endswith(".zip"):
                yield item
            elif (problem := opened(self._expand, item)) is None:
                yield from self._staged.files(inside(item))
            else:
                stem = item.last.removesuffix(".zip").removesuffix(".sql")
                main.databases.append(ForeignDatabase("mysql", stem, item.name, "sql", item.size, problem=problem))

    def _grants(self) -> dict[str, set[str]]:
        """Who may use which database. The file is read, never run; its password hashes are passed over."""
        found: dict[str, set[str]] = {}
        for line in self._staged.text_of(f"{self._root}mysql.sql", 64 << 20).splitlines():
            if line.startswith("GRANT ") and (match := _GRANT.search(line)):
                name = (match[1] or match[2]).replace("``", "`").replace("\\_", "_").replace("\\%", "%")
                found.setdefault(name, set()).add(match[3])
        return found

    def mailboxes(self, inventory: Inventory) -> None:
        by_name = {found.name: found for found in inventory.domains}
        mail = f"{self._home}mail" if self._staged.exists(f"{self._home}mail") else f"{self._root}mail"
        declared = self._staged.text_of(f"{mail}/mailbox_format.cpanel").strip() or "maildir"
        main = inventory.domains[0]
        for name in dict.fromkeys([*by_name, *self._mail_domains(mail)]):
            found = by_name.get(name)
            if found is None:
                inventory.warnings.append(f"{name}: has mail and is no domain of this account; its mail is left out")
                continue
            quotas, shadow = self._quotas(name), self.etc(name, "shadow")
            for user in dict.fromkeys([*self._accounts(name), *self._folders(f"{mail}/{name}")]):
                box = mailbox(self._staged, f"{user}@{name}", f"{mail}/{name}/{user}", declared)
                box.quota = quotas.get(user)
                inventory.add_mailbox(found, box, keeps_password=f"{user}:" in shadow)
        for user in self._folders(mail):  # archives made by hand: mail/USER@DOMAIN
            local, at, name = user.rpartition("@")
            if at and local and name in by_name:
                by_name[name].mailboxes.append(mailbox(self._staged, user, f"{mail}/{user}", declared))
        if self.user and (self._staged.exists(f"{mail}/cur") or self._staged.exists(f"{mail}/new")):
            own = mailbox(self._staged, f"{self.user}@{main.name}", mail, declared, own=set(by_name))
            if own.messages:
                main.mailboxes.append(own)

    def _mail_domains(self, mail: str) -> Iterator[str]:
        for folder in (f"{self._home}etc", mail):
            for name in self._folders(folder):
                if name.isascii() and domain_name(name) is not None and "@" not in name:
                    yield name

    def _folders(self, folder: str) -> Iterator[str]:
        names = self._staged.names(folder)
        found = (name for name in names if not name.startswith(".") and self._staged.is_folder(f"{folder}/{name}"))
        return islice(found, MAX_PARTS + 1)

    def etc(self, domain: str, name: str) -> str:
        return self._staged.text_of(f"{self._home}etc/{domain}/{name}")

    def _accounts(self, domain: str) -> list[str]:
        names = (line.partition(":")[0] for line in self.etc(domain, "passwd").splitlines())
        return [name for name in names if local_part(name) is not None]

    def _quotas(self, domain: str) -> dict[str, int]:
        pairs = (line.split(":")[:2] for line in self.etc(domain, "quota").splitlines() if ":" in line)
        return {name: int(size) for name, size in pairs if size.isdecimal() and len(size) < 19}

    def listed(self, inventory: Inventory) -> None:
        def rows(folder: str) -> list[str]:
            return [f"{item.last}: {self._lines(item)} lines" for item in self._files(folder)]

        found = {
            "aliases": [row for folder in ("va", "vf", "vad") for row in rows(folder)],
            "cron": rows("cron"),
            "dns": [item.last.removesuffix(".db") for item in self._files("dnszones")],
            "certificates": [
                shown(name)
                for folder in ("apache_tls", "sslcerts")
                for name in islice(self._staged.names(f"{self._root}{folder}"), _MAX_LISTED)
            ],
        }
        inventory.listed = {kind: names[:_MAX_LISTED] for kind, names in found.items() if names}

    def _lines(self, item: Item) -> int:
        return len(self._staged.text(item).splitlines())

    def _files(self, folder: str) -> Iterator[Item]:
        found = (item for item in self._staged.files(f"{self._root}{folder}") if item.size < 1 << 20)
        return islice(found, _MAX_LISTED)

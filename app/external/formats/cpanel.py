"""cPanel's account backups (cpmove, backup-…), and archives made by hand in their image.

Source: the layout of pkgacct's archives as cPanel documents and produces it; userdata files are YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from app.errors import ArchiveInvalid, InvalidRequest
from app.external.formats.base import Expand, Format, Match
from app.external.inventory import ForeignDatabase, ForeignDomain, Inventory
from app.external.mailboxes import mailbox
from app.external.staged import Item, Staged, shown

_WEAK = ("version", "homedir_paths", "mysql.sql", "dnszones")
_SKIPPED = {"roundcube", "horde", "openfileslimit"}
_GRANT = re.compile(r"ON (?:`((?:[^`]|``)+)`|(\w+))\.\* TO '((?:[^'\\]|\\.|'')*)'@")
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{1,62}")
_MAX_DOMAINS = 10_000


class CpanelFormat(Format):
    name = "cpanel"

    def sniff(self, staged: Staged, root: str) -> Match | None:
        accounts = staged.files(f"{root}cp")
        if accounts and staged.get(f"{root}userdata/main") is not None:
            return Match(f"userdata/main and {accounts[0].name.removeprefix(root)}")
        home = (
            "homedir.tar"
            if staged.get(f"{root}homedir.tar")
            else "homedir"
            if _there(staged, f"{root}homedir")
            else None
        )
        weak = [name for name in _WEAK if _there(staged, f"{root}{name}")]
        if home and weak:
            return Match(f"{home} and {weak[0]}")
        if home or accounts:
            return Match(home or "cp/", marker=True)
        return None

    def read(self, staged: Staged, root: str, domain: str | None, expand: Expand) -> Inventory:
        nested = staged.get(f"{root}homedir.tar")
        if nested is not None:
            expand(nested, f"{root}homedir".encode("utf-8", "surrogateescape"))
        account = _Account(staged, root)
        found = Inventory(self.name, "", warnings=account.warnings)
        found.domains = account.domains(domain)
        account.databases(found.domains[0])
        account.mailboxes(found)
        account.listed(found)
        return found


class _Account:
    def __init__(self, staged: Staged, root: str) -> None:
        self._staged = staged
        self._root = root
        self._home = f"{root}homedir"
        self.warnings: list[str] = []
        accounts = staged.files(f"{root}cp")
        self.user = _last(accounts[0]) if accounts else ""
        self._settings = dict(_pairs(staged.text(accounts[0]))) if accounts else {}

    def domains(self, given: str | None) -> list[ForeignDomain]:
        """The main domain first. Raises InvalidRequest."""
        main = self._yaml("userdata/main")
        name = _domain(main.get("main_domain")) or _domain(self._settings.get("DNS")) or given
        if name is None:
            raise InvalidRequest("The archive does not name its domain: name it in the request", field="domain_name")
        found = [ForeignDomain(name, "main", self._root_of(name) or self._default_root())]
        addons = {_domain(key): str(value) for key, value in _mapping(main.get("addon_domains")).items()}
        for addon, backing in addons.items():
            if addon is not None:
                found.append(ForeignDomain(addon, "addon", self._root_of(backing), parent=name))
        for item in _sequence(main.get("sub_domains")):
            sub = _domain(item)
            if sub is not None and sub not in addons.values():
                found.append(ForeignDomain(sub, "sub", self._root_of(sub), parent=name))
        parked = [_domain(item) for item in _sequence(main.get("parked_domains"))]
        found += [ForeignDomain(item, "parked", parent=name) for item in parked if item is not None]
        self._measure(found)
        return found

    def _default_root(self) -> str | None:
        for folder in (f"{self._home}/public_html", self._home):
            if _there(self._staged, folder):
                return folder
        return None

    def _root_of(self, name: str) -> str | None:
        """A domain's folder in the archive: its document root without the home's path."""
        if "/" in name:
            return None
        root = self._yaml(f"userdata/{name}").get("documentroot")
        if not isinstance(root, str):
            return None
        for home in self._homes():
            if root == home or root.startswith(f"{home}/"):
                inside = root[len(home) :].strip("/")
                if ".." in inside.split("/"):
                    break
                folder = f"{self._home}/{inside}" if inside else self._home
                if _there(self._staged, folder):
                    return folder
        self.warnings.append(f"{name}: its document root {root[:200]!r} is not in the archive")
        return None

    def _homes(self) -> list[str]:
        item = self._staged.get(f"{self._root}homedir_paths")
        lines = self._staged.text(item).split() if item is not None and item.type == "f" else []
        homes = [line.rstrip("/") for line in lines if line.startswith("/")]
        homes += [f"/home{number}/{self.user}" for number in ("", *range(1, 10))] if self.user else []
        return sorted(dict.fromkeys(homes), key=len, reverse=True)

    def _measure(self, domains: list[ForeignDomain]) -> None:
        roots = {found.document_root for found in domains if found.document_root}
        for found in domains:
            if found.document_root is None:
                continue
            inside = sorted(root for root in roots if root.startswith(f"{found.document_root}/"))
            found.excluded = [root for root in inside if not any(root.startswith(f"{other}/") for other in inside)]
            for item in self._staged.below(found.document_root):
                if item.type in "fh" and not any(item.name.startswith(f"{folder}/") for folder in found.excluded):
                    found.files += 1
                    found.bytes += self._staged.size(item)

    def databases(self, main: ForeignDomain) -> None:
        """They belong to the account, so to its main domain."""
        users = self._grants()
        for item in self._staged.files(f"{self._root}mysql"):
            name = _last(item)
            stem = name.removesuffix(".gz").removesuffix(".sql")
            if stem != name and stem not in _SKIPPED and not name.endswith(".create"):
                main.databases.append(
                    ForeignDatabase("mysql", stem, item.name, "sql", item.size, sorted(users.get(stem, ())))
                )
        for folder in ("psql", "pgsql"):
            for item in self._staged.files(f"{self._root}{folder}"):
                name = _last(item)
                if name.endswith(".tar"):
                    stem = name.removesuffix(".tar")
                    main.databases.append(ForeignDatabase("postgresql", stem, item.name, "pg_dump", item.size))

    def _grants(self) -> dict[str, set[str]]:
        """Who may use which database. The file is read, never run; its password hashes are passed over."""
        item = self._staged.get(f"{self._root}mysql.sql")
        found: dict[str, set[str]] = {}
        if item is None or item.type != "f":
            return found
        for line in self._staged.text(item, 64 << 20).splitlines():
            if line.startswith("GRANT ") and (match := _GRANT.search(line)):
                name = (match[1] or match[2]).replace("``", "`").replace("\\_", "_").replace("\\%", "%")
                found.setdefault(name, set()).add(match[3])
        return found

    def mailboxes(self, inventory: Inventory) -> None:
        by_name = {found.name: found for found in inventory.domains}
        mail = f"{self._home}/mail" if _there(self._staged, f"{self._home}/mail") else f"{self._root}mail"
        kind = self._staged.get(f"{mail}/mailbox_format.cpanel")
        declared = self._staged.text(kind).strip() if kind is not None and kind.type == "f" else "maildir"
        main = inventory.domains[0]
        for name in dict.fromkeys([*by_name, *self._mail_domains(mail)]):
            found = by_name.get(name)
            if found is None:
                inventory.warnings.append(f"{name}: has mail and is no domain of this account; its mail is left out")
                continue
            quotas = self._quotas(name)
            for user in dict.fromkeys([*self._accounts(name), *self._folders(f"{mail}/{name}")]):
                box = mailbox(self._staged, f"{user}@{name}", f"{mail}/{name}/{user}", declared)
                box.quota = quotas.get(user)
                found.mailboxes.append(box)
                if box.left_out:
                    inventory.warnings.append(
                        f"{box.address}: {box.left_out} messages are in folders that are none of a maildir; left out"
                    )
                if f"{user}:" not in self._etc(name, "shadow"):
                    inventory.must_reset.append(box.address)
        for user in self._folders(mail):  # archives made by hand: mail/USER@DOMAIN
            local, at, name = user.rpartition("@")
            if at and local and name in by_name:
                by_name[name].mailboxes.append(mailbox(self._staged, user, f"{mail}/{user}", declared))
        if self.user and (_there(self._staged, f"{mail}/cur") or _there(self._staged, f"{mail}/new")):
            own = mailbox(self._staged, f"{self.user}@{main.name}", mail, declared, own=set(by_name))
            if own.messages:
                main.mailboxes.append(own)

    def _mail_domains(self, mail: str) -> Iterator[str]:
        for folder in (f"{self._home}/etc", mail):
            for name in self._folders(folder):
                if _domain(name) is not None and "@" not in name:
                    yield name

    def _folders(self, folder: str) -> list[str]:
        names = (name.decode("utf-8", "surrogateescape") for name in self._staged.names(folder))
        return [name for name in names if not name.startswith(".") and self._staged.is_folder(f"{folder}/{name}")]

    def _etc(self, domain: str, name: str) -> str:
        item = self._staged.get(f"{self._home}/etc/{domain}/{name}")
        return self._staged.text(item) if item is not None and item.type == "f" else ""

    def _accounts(self, domain: str) -> list[str]:
        names = (line.partition(":")[0] for line in self._etc(domain, "passwd").splitlines())
        return [name for name in names if name and "/" not in name and not name.startswith((".", "-"))]

    def _quotas(self, domain: str) -> dict[str, int]:
        pairs = (line.split(":")[:2] for line in self._etc(domain, "quota").splitlines() if ":" in line)
        return {name: int(size) for name, size in pairs if size.isdecimal() and len(size) < 19}

    def listed(self, inventory: Inventory) -> None:
        def rows(folder: str) -> list[str]:
            return [f"{_last(item)}: {self._lines(item)} lines" for item in self._files(folder)]

        found = {
            "aliases": [row for folder in ("va", "vf", "vad") for row in rows(folder)],
            "cron": rows("cron"),
            "dns": [_last(item).removesuffix(".db") for item in self._files("dnszones")],
            "certificates": [
                shown(name)
                for folder in ("apache_tls", "sslcerts")
                for name in self._staged.names(f"{self._root}{folder}")
            ],
        }
        inventory.listed = {kind: names[:1000] for kind, names in found.items() if names}

    def _lines(self, item: Item) -> int:
        return len(self._staged.text(item).splitlines())

    def _files(self, folder: str) -> list[Item]:
        return [item for item in self._staged.files(f"{self._root}{folder}") if item.size < 1 << 20]

    def _yaml(self, path: str) -> dict[str, Any]:
        """What cannot be read is a warning, never an order."""
        item = self._staged.get(f"{self._root}{path}")
        if item is None or item.type != "f":
            return {}
        try:
            found = yaml.load(self._staged.text(item), _Plain)  # noqa: S506  a SafeLoader without aliases
        except (yaml.YAMLError, ArchiveInvalid, ValueError, RecursionError) as error:
            self.warnings.append(f"{path} cannot be read: {str(error)[:200]}")
            return {}
        return found if isinstance(found, dict) else {}


class _Plain(yaml.SafeLoader):
    """Knows neither tags of its own nor aliases, by which a few bytes become billions."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _there(staged: Staged, path: str) -> bool:
    return staged.get(path) is not None or staged.is_folder(path)


def _last(item: Item) -> str:
    return item.path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            yield key.strip(), value.strip()


def _mapping(value: Any) -> dict[Any, Any]:
    return dict(list(value.items())[:_MAX_DOMAINS]) if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value[:_MAX_DOMAINS] if isinstance(value, list) else []


def _domain(value: Any) -> str | None:
    """A name that a domain of ours may have; not one that cPanel made for itself, and no wildcard."""
    name = str(value).lower() if isinstance(value, str) else ""
    return name if len(name) <= 253 and _NAME.fullmatch(name) and not name.endswith(".cpanel.site") else None

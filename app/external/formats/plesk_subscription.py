"""A subscription of a Plesk backup: its domain, the sites on it, their mail, and its databases.

Source: the domain element of Plesk's migration-dump; Plesk 9 to 11 name contents docroot, cgi and mailbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from app.external.databases import database
from app.external.document_roots import folder_in, lacking
from app.external.formats.base import Expand
from app.external.formats.plesk_content import PleskContent
from app.external.formats.plesk_dumps import Described
from app.external.inventory import Engine, ForeignDatabase, ForeignDomain, ForeignMailbox, Inventory, Problem
from app.external.mailboxes import mailbox, maildir_in
from app.external.names import domain_name, local_part
from app.external.staged import Staged
from app.external.xml import Element

_TREES = ("user-data", "apache-files")
_OLD_ROOT, _CGI = "docroot", "cgi"
_MAILBOX, _DOMAIN_MAIL = ("mailbox", ""), ("domainmail", "mailbox", "")
_ENGINES: dict[str, Engine] = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgresql"}
#: Passwords that are hashes, which can be carried over.
CRYPT = ("crypt", "encrypted")
_MAX_LISTED = 1000
#: Where Plesk keeps subscriptions.
_HOMES = ("/var/www/vhosts", "/srv/www/vhosts", "/usr/local/psa/home/vhosts")


class Subscription:
    def __init__(self, staged: Staged, root: str, described: Described, expand: Expand, inventory: Inventory) -> None:
        self._staged = staged
        self._content = PleskContent(staged, root, described.folder, expand)
        self._element = described.element
        self._incremental = described.incremental
        self._inventory = inventory
        self._name = domain_name(described.element.get("name")) or ""
        self._homes = [f"{home}/{self._name}" for home in _HOMES]

    def read(self) -> Iterator[ForeignDomain]:
        """The main domain first."""
        main = ForeignDomain(self._name, "main", incomplete=self._incremental)
        hosting = self._element.first("phosting")
        tree, problem = self._hosted(main, hosting, "httpdocs", None, None)
        self._databases(main)
        self._mail(main, self._element)
        yield main
        for site in [] if hosting is None else hosting.all("site", "subdomain"):
            yield from self._site(site, tree, problem)
        for alias in self._element.all("domain-alias"):
            name = domain_name(alias.get("name"))
            if name is not None:
                yield ForeignDomain(name, "alias", parent=self._name)
        for user in [] if hosting is None else hosting.deep("sysuser"):
            self._inventory.must_reset.append(f"system user {user.get('name')[:100]}")
        self._list("dns", [self._name] if self._element.first("dns-zone") is not None else [])
        self._list("certificates", [f"{self._name}: {c.get('name')[:200]}" for c in self._element.all("certificate")])

    def _site(self, site: Element, tree: str | None, problem: Problem | None) -> Iterator[ForeignDomain]:
        given = site.get("name")
        name = domain_name(given)
        if site.name == "subdomain" and (name is None or not name.endswith(f".{self._name}")):
            name = domain_name(f"{given}.{self._name}")
        if name is None:
            self._inventory.warnings.append(f"{given[:200]!r} cannot be a domain here; left out")
            return
        found = ForeignDomain(name, "addon", parent=self._name, incomplete=self._incremental)
        if name.endswith(f".{self._name}"):
            found.kind = "sub"
        hosting = site if site.name == "subdomain" else site.first("phosting")
        usual = f"subdomains/{given}/httpdocs" if site.name == "subdomain" else name
        self._hosted(found, hosting, usual, tree, problem)
        self._mail(found, site)
        yield found

    def _hosted(
        self, found: ForeignDomain, hosting: Element | None, usual: str, tree: str | None, problem: Problem | None
    ) -> tuple[str | None, Problem | None]:
        """Find a domain's document root, in a tree of its own or that of its subscription; return its tree."""
        if hosting is None:
            return None, None
        www = (hosting.get("www-root") or usual).replace("\\", "/")
        cids = list(hosting.all("cid"))
        trees = [cid for name in _TREES for cid in cids if cid.get("type") == name]
        old = [cid for cid in cids if cid.get("type") == _OLD_ROOT]
        if trees:
            tree, problem = self._content.tree(trees)
        if old:
            found.document_root, found.files_problem = self._old(old, www)
        elif tree is not None:
            found.document_root = folder_in(self._staged, f"{tree}/", www, self._homes)
            found.files_problem = problem
            if found.document_root is None and problem is None:
                found.files_problem = lacking(self._staged, found.name, f"{tree}/", www)
        elif problem is not None:
            found.files_problem = problem
        elif not self._incremental:
            self._inventory.warnings.append(f"{found.name}: the backup holds no files of it")
        self._cgi(found, hosting, [cid for cid in cids if cid.get("type") == _CGI])
        return tree, problem

    def _old(self, cids: list[Element], www: str) -> tuple[str | None, Problem | None]:
        """Of Plesk 9 to 11: the document root alone, perhaps in a folder of its name."""
        folder, problem = self._content.tree(cids)
        if folder is not None:
            name = www.rstrip("/").rpartition("/")[2]
            below = folder_in(self._staged, f"{folder}/", name) if name else None
            alone = below is not None and len(list(islice(self._staged.names(folder), 2))) == 1
            return (below if alone else folder), problem
        return None, problem

    def _cgi(self, found: ForeignDomain, hosting: Element, cids: list[Element]) -> None:
        """Programs are put where they could be downloaded only if they were there before."""
        if not cids:
            return
        if hosting.get("cgi_bin_mode") == "www-root" and found.document_root is not None:
            _, problem = self._content.tree(cids, f"{found.document_root}/cgi-bin")
            found.files_problem = found.files_problem or problem
        else:
            self._inventory.warnings.append(
                f"{found.name}: its cgi-bin lies beside the document root, where a domain here has no place; left out"
            )

    def _databases(self, main: ForeignDomain) -> None:
        """They belong to the subscription, so to its main domain."""
        for element in self._element.all("database"):
            name, engine = element.get("name"), _ENGINES.get(element.get("type").lower())
            users = [user.get("name")[:100] for user in element.all("dbuser")]
            self._inventory.must_reset += [f"database user {user}" for user in users]
            if engine is None:
                self._inventory.warnings.append(
                    f"{name[:200]}: a {element.get('type')[:50]} database cannot be imported; left out"
                )
                continue
            cid = element.first("cid")
            item, problem = (None, None) if cid is None else self._content.dump(cid)
            if item is None and problem is None:
                self._inventory.warnings.append(f"{name[:200]}: the backup holds no dump of this database")
                continue
            if item is not None:
                main.databases.append(database(self._staged, engine, name, item, users))
            else:
                main.databases.append(ForeignDatabase(engine, name, name, "sql", 0, users, problem))
        for user in self._element.all("dbuser"):
            self._inventory.must_reset.append(f"database user {user.get('name')[:100]}")

    def _mail(self, found: ForeignDomain, element: Element) -> None:
        system = element.first("mailsystem")
        if system is None:
            return
        shared, found.mail_problem = self._content.tree(
            [cid for cid in system.all("cid") if cid.get("type") in _DOMAIN_MAIL]
        )
        seen = set[str]()
        for user in system.all("mailuser"):
            name = local_part(user.get("name").lower())
            if name is None or name in seen:
                self._inventory.warnings.append(f"{user.get('name')[:100]!r}: no mailbox can be called so; left out")
                continue
            seen.add(name)
            box, problem = self._mailbox(f"{name}@{found.name}", user, shared)
            found.mail_problem = found.mail_problem or problem
            password = user.first("password")
            keeps = password is not None and password.get("type") in CRYPT
            self._inventory.add_mailbox(found, box, keeps_password=keeps)
            self._list("aliases", [f"{alias.text[:100]}@{found.name}: {box.address}" for alias in user.all("alias")])

    def _mailbox(self, address: str, user: Element, shared: str | None) -> tuple[ForeignMailbox, Problem | None]:
        own, problem = self._content.tree([cid for cid in user.all("cid") if cid.get("type") in _MAILBOX])
        folders = [own] if own is not None else []
        name = user.get("name")
        if shared is not None:
            folders += [f"{shared}/{below}" for below in (name, name.lower(), address)]
        maildir = maildir_in(self._staged, folders)
        if maildir is not None:
            box = mailbox(self._staged, address, maildir, "maildir")
        else:
            other = next((f for f in folders if any(item.type == "f" for item in self._staged.below(f))), None)
            box = ForeignMailbox(address, other, "maildir" if other is None else "unknown")
        quota = user.get("mailbox-quota")
        box.quota = int(quota) if quota.isdecimal() and 0 < len(quota) < 19 and int(quota) else None
        return box, problem

    def _list(self, kind: str, rows: list[str]) -> None:
        if rows:
            listed = self._inventory.listed.setdefault(kind, [])
            listed += rows[: _MAX_LISTED - len(listed)]

"""Plesk's backups: of a subscription, of a client or server, and archives made by hand in their image.

Source: the layout of pleskbackup's archives, whose metadata is XML with the root element migration-dump.
"""

from __future__ import annotations

from dataclasses import replace

from app.errors import InvalidRequest
from app.external.document_roots import measure
from app.external.formats.base import Expand, Format, Match
from app.external.formats.plesk_dumps import KEPT, Dumps
from app.external.formats.plesk_made import MARKER, MEMBERS, read_made
from app.external.formats.plesk_subscription import CRYPT, Subscription
from app.external.inventory import ForeignDomain, Inventory
from app.external.items import shown
from app.external.names import domain_name, local_part
from app.external.staged import Staged
from app.external.xml import Element


class PleskFormat(Format):
    name = "plesk"

    def sniff(self, staged: Staged, root: str) -> Match | None:
        found = Dumps(staged, root).marker()
        if found is not None and found[1]:
            return Match(f"{found[0].last} with the root element migration-dump")
        if found is not None:
            return Match(f"{found[0].last}, which cannot be read", marker=True)
        if staged.get(f"{root}{MARKER}") is not None:
            return Match(MARKER, marker=True)
        for name in staged.names(root.rstrip("/")):
            if name.startswith(MEMBERS):
                return Match(shown(name), marker=True)
        return None

    def read(self, staged: Staged, root: str, domain: str | None, expand: Expand) -> Inventory:
        found = Inventory(self.name, "")
        dumps = Dumps(staged, root)
        names = set[str]()
        for described in dumps.domains():
            for read in Subscription(staged, root, described, expand, found).read():
                if read.name in names:
                    found.warnings.append(f"{read.name}: is in the backup twice; the second is left out")
                else:
                    names.add(read.name)
                    found.domains.append(read)
        for name, problem in dumps.broken.items():
            if name not in names:
                found.domains.append(ForeignDomain(name, "main", files_problem=problem))
        found.warnings += dumps.warnings
        found.listed |= {"other_backups": dumps.left_out} if dumps.left_out else {}
        if not any(has.holds_anything for has in found.domains):
            self._by_hand(staged, root, domain, found)
        measure(staged, (has for has in found.domains if has.files_problem is None))
        return found

    def _by_hand(self, staged: Staged, root: str, domain: str | None, found: Inventory) -> None:
        """Where no description names any content, folders may have some. Raises InvalidRequest."""
        made = Inventory(self.name, "")
        try:
            read_made(staged, root, domain, made)
        except InvalidRequest:
            if not found.domains:
                raise
        found.warnings += made.warnings
        if not found.domains or any(has.holds_anything for has in made.domains):
            found.domains, found.must_reset = made.domains, made.must_reset

    def password_hashes(self, staged: Staged, root: str, inventory: Inventory) -> dict[str, str]:
        found = dict[str, str]()
        wanted = {box.address for domain in inventory.domains for box in domain.mailboxes}
        for described in Dumps(staged, root, replace(KEPT, texts=frozenset({"password"}))).domains():
            owners = [described.element]
            hosting = described.element.first("phosting")
            owners += list(hosting.all("site")) if hosting is not None else []
            for owner in owners:
                found |= _hashes(owner)
        return {address: secret for address, secret in found.items() if address in wanted}


def _hashes(owner: Element) -> dict[str, str]:
    """Of passwords that are hashes; what is encrypted for the server it came from is none."""
    found = {}
    system, domain = owner.first("mailsystem"), domain_name(owner.get("name"))
    for user in [] if system is None or domain is None else system.all("mailuser"):
        name, password = local_part(user.get("name").lower()), user.first("password")
        if name is not None and password is not None and password.get("type") in CRYPT:
            secret = password.text.strip()
            if secret.startswith("$") and not secret.startswith("$AES"):
                found[f"{name}@{domain}"] = secret
    return found

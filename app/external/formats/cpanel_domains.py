"""The domains of a cPanel account, and where their files are in its archive.

Source: userdata/main, userdata/NAME and userdata/cache.json as cPanel writes them; addons, pds, sds and sds2, the
lists of older archives (NAME=BACKING, NAME, SUB_DOMAIN, SUB_DOMAIN=PATH).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from app.errors import ArchiveInvalid, InvalidRequest
from app.external.document_roots import folder_in, lacking, measure
from app.external.inventory import ForeignDomain
from app.external.key_values import pairs
from app.external.names import domain_name
from app.external.staged import Staged
from app.external.yaml import read_yaml

_MAX_DOMAINS = 10_000
_MAX_CACHE = 16 << 20
_MAX_HOMES = 100


class CpanelDomains:
    """`home`: the folder of the account's home, with a slash at its end, or "" when the archive is the home."""

    def __init__(self, staged: Staged, root: str, home: str, user: str, settings: dict[str, str]) -> None:
        self._staged = staged
        self._root = root
        self._home = home
        self._user = user
        self._settings = settings
        self._cached: dict[str, str] | None = None
        self.warnings: list[str] = []

    def read(self, given: str | None) -> list[ForeignDomain]:
        """The main domain first. Raises InvalidRequest when nothing names it; ArchiveInvalid when the list of domains
        cannot be read: without it nobody knows what is left out."""
        main = self._yaml("userdata/main", needed=True)
        name = domain_name(main.get("main_domain")) or domain_name(self._settings.get("DNS")) or given
        if name is None:
            raise InvalidRequest("The archive does not name its domain: name it in the request", field="domain_name")
        found = [self._domain(name, "main", name)]
        if main:
            found += self._listed(main, name)
        else:
            found += self._older(name)
        measure(self._staged, found)
        return found

    def _listed(self, main: dict[str, Any], name: str) -> Iterator[ForeignDomain]:
        addons = {domain_name(key): str(value) for key, value in _mapping(main.get("addon_domains")).items()}
        backings = set(addons.values())
        for addon, backing in addons.items():
            if addon is not None:
                yield self._domain(addon, "addon", backing, name)
        for item in _sequence(main.get("sub_domains")):
            sub = domain_name(item)
            if sub is not None and sub not in backings:
                yield self._domain(sub, "sub", sub, name)
        for item in _sequence(main.get("parked_domains")):
            if (parked := domain_name(item)) is not None:
                yield ForeignDomain(parked, "parked", parent=name)

    def _older(self, name: str) -> Iterator[ForeignDomain]:
        roots = {key.replace("_", ".", 1): path for key, path in islice(pairs(self._text("sds2")), _MAX_DOMAINS)}
        addons = dict(pairs(self._text("addons")))
        backing = {value.replace("_", ".", 1) for value in addons.values()}
        for key, value in list(addons.items())[:_MAX_DOMAINS]:
            if (addon := domain_name(key)) is not None:
                yield self._domain(addon, "addon", value, name, roots.get(value.replace("_", ".", 1), ""))
        subs = [line.replace("_", ".", 1) for line in self._text("sds").split()]
        for text in list(dict.fromkeys([*roots, *subs]))[:_MAX_DOMAINS]:
            sub = domain_name(text)
            if sub is not None and sub not in backing:
                yield self._domain(sub, "sub", sub, name, roots.get(sub, ""))
        for text in self._text("pds").split()[:_MAX_DOMAINS]:
            if (parked := domain_name(text)) is not None:
                yield ForeignDomain(parked, "parked", parent=name)

    def _domain(
        self, name: str, kind: Literal["main", "addon", "sub"], told: str, parent: str | None = None, path: str = ""
    ) -> ForeignDomain:
        """With its folder, or why there is none. `told`: the name under which its document root is written down, of
        an addon its backing sub-domain. `path`: in the home, where an older list says so."""
        found = ForeignDomain(name, kind, parent=parent)
        root = "" if path else self._told(told, name)
        if root:
            home = next((home for home in self._homes if root == home or root.startswith(f"{home}/")), None)
            if home is None:
                text = f"{name}: its document root {root[:200]!r} is not in the account's home, nor in the archive"
                found.files_problem = ("not_found", text)
                return found
            path = root[len(home) :].strip("/") or "."
        elif not path and kind == "main":
            path = self._usual()
        elif not path:
            found.files_problem = ("not_found", f"{name}: nothing in the archive says where its document root is")
        if path == ".":
            found.document_root = self._home.rstrip("/")
        elif path:
            found.document_root = folder_in(self._staged, self._home, path, self._homes)
        if path and not (found.document_root and self._staged.is_folder(found.document_root)):
            found.document_root, found.files_problem = None, lacking(self._staged, name, self._home, path)
        return found

    def _usual(self) -> str:
        """Of an account that does not tell; "" when the archive has no home."""
        if self._staged.exists(f"{self._home}public_html"):
            return "public_html"
        return "." if self._home and self._staged.is_folder(self._home.rstrip("/")) else ""

    def _told(self, told: str, name: str) -> str:
        """A domain's document root as it was on its server, "" when nothing tells."""
        root = "" if "/" in told else self._yaml(f"userdata/{told}").get("documentroot")
        return root if isinstance(root, str) and root else self._cache().get(name, "")

    @cached_property
    def _homes(self) -> list[str]:
        """What the home is called on the account's server."""
        lines = (line.rstrip("/") for line in self._text("homedir_paths").split() if line.startswith("/"))
        homes = list(islice(filter(None, lines), _MAX_HOMES))
        homes += [f"/home{number}/{self._user}" for number in ("", *range(1, 10))] if self._user else []
        return sorted(dict.fromkeys(homes), key=len, reverse=True)

    def _text(self, path: str) -> str:
        return self._staged.text_of(f"{self._root}{path}")

    def _cache(self) -> dict[str, str]:
        """Document roots by domain, of the file that lists them all: the first absolute path of each entry."""
        if self._cached is None:
            self._cached = {}
            try:
                entries = json.loads(self._staged.text_of(f"{self._root}userdata/cache.json", _MAX_CACHE) or "{}")
            except (ValueError, RecursionError, ArchiveInvalid) as error:
                self.warnings.append(f"userdata/cache.json cannot be read: {str(error)[:200]}")
                return self._cached
            for key, value in _mapping(entries).items():
                paths = [entry for entry in _sequence(value) if isinstance(entry, str) and entry.startswith("/")]
                if paths:
                    self._cached[str(key)] = paths[0]
        return self._cached

    def _yaml(self, path: str, *, needed: bool = False) -> dict[str, Any]:
        """What cannot be read is a warning, never an order; ArchiveInvalid when it is `needed`."""
        try:
            found = read_yaml(self._text(path), self._staged.tick)
        except ArchiveInvalid as error:
            if needed:
                raise ArchiveInvalid(f"{path}: {error.message}") from error
            self.warnings.append(f"{path} cannot be read: {error.message}")
            return {}
        return found if isinstance(found, dict) else {}


def _mapping(value: Any) -> dict[Any, Any]:
    return dict(list(value.items())[:_MAX_DOMAINS]) if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value[:_MAX_DOMAINS] if isinstance(value, list) else []

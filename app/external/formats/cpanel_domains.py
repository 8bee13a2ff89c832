"""The domains of a cPanel account, and where their files are in its archive.

Source: userdata/main, userdata/NAME and userdata/cache.json as cPanel writes them; addons, pds, sds and sds2, the
lists of older archives (NAME=BACKING, NAME, SUB_DOMAIN, SUB_DOMAIN=PATH).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from app.errors import ArchiveInvalid, InvalidRequest
from app.external.document_roots import folder_in, measure
from app.external.inventory import ForeignDomain
from app.external.key_values import pairs
from app.external.names import domain_name
from app.external.staged import Staged

_MAX_DOMAINS = 10_000
_MAX_CACHE = 16 << 20


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
        """The main domain first. Raises InvalidRequest when nothing names it."""
        main = self._yaml("userdata/main")
        name = domain_name(main.get("main_domain")) or domain_name(self._settings.get("DNS")) or given
        if name is None:
            raise InvalidRequest("The archive does not name its domain: name it in the request", field="domain_name")
        found = [ForeignDomain(name, "main", self._root_of(name) or self._default_root())]
        if main:
            found += self._listed(main, name)
        else:
            found += self._older(name)
        measure(self._staged, found)
        return found

    def _listed(self, main: dict[str, Any], name: str) -> Iterator[ForeignDomain]:
        addons = {domain_name(key): str(value) for key, value in _mapping(main.get("addon_domains")).items()}
        for addon, backing in addons.items():
            if addon is not None:
                yield ForeignDomain(addon, "addon", self._root_of(backing, addon), parent=name)
        for item in _sequence(main.get("sub_domains")):
            sub = domain_name(item)
            if sub is not None and sub not in addons.values():
                yield ForeignDomain(sub, "sub", self._root_of(sub), parent=name)
        for item in _sequence(main.get("parked_domains")):
            if (parked := domain_name(item)) is not None:
                yield ForeignDomain(parked, "parked", parent=name)

    def _older(self, name: str) -> Iterator[ForeignDomain]:
        roots = {
            key.replace("_", ".", 1): folder_in(self._staged, self._home, path)
            for key, path in pairs(self._text("sds2"))
        }
        addons = dict(pairs(self._text("addons")))
        backing = {value.replace("_", ".", 1) for value in addons.values()}
        for key, value in list(addons.items())[:_MAX_DOMAINS]:
            if (addon := domain_name(key)) is not None:
                folder = roots.get(value.replace("_", ".", 1)) or self._root_of(value, addon)
                yield ForeignDomain(addon, "addon", folder, parent=name)
        subs = [line.replace("_", ".", 1) for line in self._text("sds").split()]
        for text in list(dict.fromkeys([*roots, *subs]))[:_MAX_DOMAINS]:
            sub = domain_name(text)
            if sub is not None and sub not in backing:
                yield ForeignDomain(sub, "sub", roots.get(sub) or self._root_of(sub), parent=name)
        for text in self._text("pds").split()[:_MAX_DOMAINS]:
            if (parked := domain_name(text)) is not None:
                yield ForeignDomain(parked, "parked", parent=name)

    def _default_root(self) -> str | None:
        for folder in (f"{self._home}public_html", self._home.rstrip("/")):
            if folder and self._staged.exists(folder):
                return folder
        return None

    def _root_of(self, name: str, alias: str | None = None) -> str | None:
        """A domain's folder in the archive: its document root without the home's path. `alias`: an addon's name."""
        if "/" in name:
            return None
        root = self._yaml(f"userdata/{name}").get("documentroot") or self._cache().get(alias or name)
        if not isinstance(root, str):
            return None
        for home in self._homes():
            below = root == home or root.startswith(f"{home}/")
            if below and (folder := folder_in(self._staged, self._home, root[len(home) :])) is not None:
                return folder
        self.warnings.append(f"{name}: its document root {root[:200]!r} is not in the archive")
        return None

    def _homes(self) -> list[str]:
        homes = [line.rstrip("/") for line in self._text("homedir_paths").split() if line.startswith("/")]
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

    def _yaml(self, path: str) -> dict[str, Any]:
        """What cannot be read is a warning, never an order."""
        try:
            found = yaml.load(self._text(path), _Plain)  # noqa: S506  a SafeLoader without aliases
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


def _mapping(value: Any) -> dict[Any, Any]:
    return dict(list(value.items())[:_MAX_DOMAINS]) if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value[:_MAX_DOMAINS] if isinstance(value, list) else []

"""Every key name at a destination, in one place.

    <installation id>/<domain slug>-<domain uid>/<20261123T021500Z>_<type>_<backup uid>.<attempt>/
        01-files.tar.zst.age … details.json.zst.age  manifest.json
    <installation id>/destination-<destination uid>.json

The last is the marker of a destination: where it is, the place is the one that was prepared.
Keys hold numbers and ASCII slugs only: true names may be hostile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime

MANIFEST = "manifest.json"
_MARKER = re.compile(r"[^/]+/destination-[0-9a-f-]{36}\.json")
_EXTENSIONS = {
    "files": "tar", "mail": "tar", "kubernetes": "tar", "mysql": "sql", "mariadb": "sql", "postgresql": "pgdump",
}  # fmt: skip
#: Of which a domain has one each.
_SINGLE = ("files", "mail", "kubernetes")


def slug(name: str) -> str:
    """Lower-case ASCII letters, digits and hyphens, at most 40 characters, never empty."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "x"


def marker_key(installation: str, destination_uid: str) -> str:
    """One for each installation and destination: several may share a place."""
    return f"{installation}/destination-{destination_uid}.json"


def is_marker(key: str) -> bool:
    return _MARKER.fullmatch(key) is not None


@dataclass(frozen=True, slots=True)
class BackupFolder:
    """Where one attempt at one backup lies."""

    installation: str
    domain_name: str
    domain_uid: str
    created_at: datetime
    type: str
    backup_uid: str
    attempt: int

    @property
    def domain_prefix(self) -> str:
        return f"{self.installation}/{slug(self.domain_name)}-{self.domain_uid}/"

    @property
    def prefix(self) -> str:
        when = self.created_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        return f"{self.domain_prefix}{when}_{self.type}_{self.backup_uid}.{self.attempt}/"

    @property
    def earlier(self) -> list[BackupFolder]:
        """Of the attempts before this one, the latest first."""
        return [replace(self, attempt=number) for number in range(self.attempt - 1, 0, -1)]

    @property
    def manifest_key(self) -> str:
        return f"{self.prefix}{MANIFEST}"

    def component_key(self, number: int, kind: str, name: str, *, encrypted: bool) -> str:
        label = kind if kind in _SINGLE else f"{kind}-{slug(name)}"
        return f"{self.prefix}{number:02d}-{label}.{_EXTENSIONS[kind]}.zst{_suffix(encrypted)}"

    def details_key(self, *, encrypted: bool) -> str:
        return f"{self.prefix}details.json.zst{_suffix(encrypted)}"


def plain_name(domain_name: str, created_at: datetime, kind: str, name: str) -> str:
    """What a component is called as a file of its own."""
    label = kind if kind in _SINGLE else f"{kind}-{slug(name)}"
    when = created_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{slug(domain_name)}-{when}-{label}.{_EXTENSIONS[kind]}"


def parsed_folder(prefix: str) -> str:
    """The slug of the domain's name in a backup's folder; empty for a folder that is none of ours."""
    match = re.fullmatch(r"[^/]+/(?P<slug>[a-z0-9-]+)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/[^/]+/", prefix)
    return match["slug"] if match else ""


def parsed_component(key: str, kind: str) -> str:
    """The slug of a component's name in its key: the kind itself for those of which there is one."""
    match = re.fullmatch(rf"\d+-{kind}-(?P<slug>[a-z0-9-]+)\..*", key.rpartition("/")[2])
    return match["slug"] if match else kind


def _suffix(encrypted: bool) -> str:
    return ".age" if encrypted else ""

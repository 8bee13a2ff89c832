"""What is at a destination as old versions only: deleted, by us or by somebody else, and not gone."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from app.archives.layout import MANIFEST
from app.storage.base import ObjectInfo, OldVersions


def attempts_of(key: str) -> str:
    """What the keys of all attempts of one backup begin with."""
    folder = key.rpartition("/")[0]
    parent, _, name = folder.rpartition("/")
    backup = name.rpartition(".")[0]
    return f"{parent}/{backup}." if backup else f"{folder}/"


@dataclass(slots=True)
class Hidden:
    """`manifests`: of backups that a scan of the past would find; `backups`: as attempts_of names them. `objects`:
    all that is hidden, with the size of its versions."""

    manifests: list[str] = field(default_factory=list)
    backups: set[str] = field(default_factory=set)
    objects: list[ObjectInfo] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of these backups."""
        return sum(info.size for info in self.objects if attempts_of(info.key) in self.backups)


async def found(history: AsyncIterable[OldVersions]) -> Hidden:
    hidden = Hidden()
    async for old in history:
        if old.current:
            continue
        hidden.objects.append(ObjectInfo(old.key, old.size, old.changed_at))
        if old.versions and old.key.endswith(f"/{MANIFEST}"):
            hidden.manifests.append(old.key)
            hidden.backups.add(attempts_of(old.key))
    return hidden

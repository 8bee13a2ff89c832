"""What a sweep has done."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.errors import LiberuError
from app.storage.base import ObjectInfo

_NAMED = 1000


@dataclass(slots=True)
class Swept:
    """What a sweep removed, and the manifests that could not be read, whose folders it left alone; of each the first
    thousand are named."""

    count: int = 0
    bytes: int = 0
    removed: list[ObjectInfo] = field(default_factory=list)
    refused_count: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)

    def remove(self, info: ObjectInfo) -> None:
        self.count, self.bytes = self.count + 1, self.bytes + info.size
        if self.count <= _NAMED:
            self.removed.append(info)

    def refuse(self, key: str, error: Exception) -> None:
        code, message = (error.code, error.message) if isinstance(error, LiberuError) else ("internal_error", "")
        self.refused_count += 1
        if self.refused_count <= _NAMED:
            self.refused.append({"key": key, "code": code, "message": message})

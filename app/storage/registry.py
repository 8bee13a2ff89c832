"""From a destination's type and configuration to its driver. Drivers are imported when used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import InvalidRequest
from app.storage.base import StorageDriver
from app.storage.config import LocalConfiguration


def build_driver(kind: str, configuration: Mapping[str, Any]) -> StorageDriver:
    """Return an unconnected driver. Raises InvalidRequest for an unknown type."""
    if kind == "local":
        from app.storage.local import LocalDriver

        return LocalDriver(LocalConfiguration.model_validate(configuration).path)
    raise InvalidRequest(f"Destination type {kind!r} is not supported", field="type")

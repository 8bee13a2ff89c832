"""What a destination's `configuration` holds, one model per type."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

DestinationType = Literal["local"]


class LocalConfiguration(BaseModel):
    """A folder of this machine."""

    model_config = ConfigDict(extra="forbid")

    path: Path = Field(description="Absolute path of the folder that holds the backups")

    @field_validator("path")
    @classmethod
    def absolute(cls, value: Path) -> Path:
        if not value.is_absolute() or ".." in value.parts or "\0" in str(value):
            raise ValueError("must be an absolute path without '..'")
        return value

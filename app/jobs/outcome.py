"""How a job ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

Apply = Callable[[AsyncSession], Awaitable[None]]


@dataclass(slots=True)
class Outcome:
    """`apply` writes what else must change in the transaction that ends the operation."""

    status: str
    result: dict[str, Any]
    message: str | None = None
    apply: Apply | None = None
    code: str | None = None

"""The contract of making a database with its account, by an administrator, and of taking both back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from app.components.base import Report


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not there, and is made. `host`: of a MySQL account."""

    database: bool
    account: bool
    host: str = ""

    @property
    def noted(self) -> dict[str, Any]:
        """For a journal."""
        return asdict(self)

    @classmethod
    def of(cls, noted: Mapping[str, Any]) -> Missing:
        return cls(noted["database"], noted["account"], noted["host"])


class NewDatabase(ABC):
    """Only SQL of ours runs as the administrator, never a byte of a dump. A password is in no statement that a server
    writes down as it came."""

    @abstractmethod
    async def missing(self) -> Missing:
        """What there is not. Raises the database's errors."""

    @abstractmethod
    async def make(self, facts: Mapping[str, Any], report: Report) -> None:
        """What is missing; the account gets the database and nothing else. `facts`: of the dump, whose character set
        it gets where the server knows that. Can be repeated. Raises LoadFailed, the database's errors."""

    @abstractmethod
    async def remove(self, made: Missing, *, surely_ours: bool) -> None:
        """What was made, and nothing else. `surely_ours`: the server has said that it made the database; else it goes
        only if nobody else can have made it meanwhile. Idempotent. Raises the database's errors, LoadFailed."""

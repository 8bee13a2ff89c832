"""Shapes that several resources share."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict

#: As the database holds it: more than it can hold names nothing.
Id = Annotated[int, Ge(1), Le((1 << 31) - 1)]
T = TypeVar("T")


class Model(BaseModel):
    model_config = ConfigDict(from_attributes=True, extra="forbid")


class PageOf(BaseModel, Generic[T]):
    data: list[T]
    current_page: int
    per_page: int
    total: int
    last_page: int


class Problem(BaseModel):
    """RFC 9457 problem details. `errors`: field → messages, for 422."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool = False
    request_id: str | None = None
    errors: dict[str, list[str]] | None = None

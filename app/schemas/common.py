"""Shapes that several resources share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, model_validator

from app.sizes import LARGEST_ID

#: As the database holds it: more than it can hold names nothing.
Id = Annotated[int, Ge(1), Le(LARGEST_ID)]
#: Of a query: no database compares what holds a zero byte.
Text = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]
#: Of a database's dump, once it is stored: load it into a scratch database, or only list what it holds.
Proof = Literal["load", "list"]
_LARGEST = (1 << 63) - 1


def _kept(value: datetime) -> datetime:
    if not 1970 <= value.year <= 9000:  # beyond, it is no time in another zone
        raise ValueError("must be between the years 1970 and 9000")
    return value


Moment = Annotated[datetime, AfterValidator(_kept)]
T = TypeVar("T")


class Model(BaseModel):
    model_config = ConfigDict(from_attributes=True, extra="forbid")


class Input(Model):
    """A request's body. No text in it, however deep, holds what databases and protocols end at, and no number is
    larger than a database takes."""

    @model_validator(mode="before")
    @classmethod
    def storable(cls, value: Any) -> Any:
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, str) and "\0" in one:
                raise ValueError("must not hold a zero byte")
            if isinstance(one, int) and abs(one) > _LARGEST:
                raise ValueError("holds a number that is too large")
            if isinstance(one, dict):
                left += [*one, *one.values()]
            elif isinstance(one, list):
                left += one
        return value


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

"""For how long what is stored is locked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db.models import Destination
from app.services.locks import ending, lock_days, lock_extension


def destination(days: Any) -> Destination:
    configuration = {} if days is None else {"object_lock_days": days}
    return Destination(configuration=configuration, retention_days=40)


@pytest.mark.parametrize(
    ("days", "kept_days", "locked"),
    [(None, 7, None), (5, None, 5), (5, 90, 5), ("retention", None, 40), ("retention", 90, 90)],
)
def test_a_new_object_follows_what_governs_it(days: Any, kept_days: int | None, locked: int | None) -> None:
    assert lock_days(destination(days), kept_days) == locked


@pytest.mark.parametrize(
    ("days", "least", "until"), [("retention", 10, 20), (3650, 10, 20), (20, 10, 20), (4, 2, 4), (1, 0.5, 1)]
)
def test_an_extension_holds_over_a_week_and_not_for_ever(days: Any, least: float, until: float) -> None:
    moment = datetime.now(UTC)
    expected = moment + timedelta(days=least), moment + timedelta(days=until)
    assert lock_extension(destination(days), moment) == expected
    assert lock_extension(destination(None), moment) is None


def test_the_end_of_a_lock_in_words() -> None:
    assert ending(datetime(2026, 11, 26, 3, tzinfo=UTC)) == "until 2026-11-26 03:00 UTC"
    assert "legal hold" in ending(datetime.max.replace(tzinfo=UTC))

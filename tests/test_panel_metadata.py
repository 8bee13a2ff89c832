"""What the panel gives to travel with a backup must be readable when that is restored."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.archives.manifest import Details, pack_details, unpack_details
from app.schemas.backups import MAX_DEPTH, BackupIn


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"k": value}
    return value


@pytest.mark.parametrize("metadata", [None, 7, "x", {"dns": [1, {"a": "ключ"}]}, nested(MAX_DEPTH)])
def test_what_is_accepted_comes_back(metadata: Any) -> None:
    accepted = BackupIn(domain_id=1, panel_metadata=metadata).panel_metadata
    details = Details(backup_uid="u", domain_name="d", components=[], panel_metadata=accepted)
    assert unpack_details(pack_details(details), "k").panel_metadata == metadata


@pytest.mark.parametrize(
    "metadata", [nested(MAX_DEPTH + 1), nested(230), nested(5000), float("nan"), {"half": "\ud800"}, "x" * (1 << 20)]
)
def test_what_could_not_be_read_again_is_refused_at_once(metadata: Any) -> None:
    with pytest.raises(ValidationError):
        BackupIn(domain_id=1, panel_metadata=metadata)

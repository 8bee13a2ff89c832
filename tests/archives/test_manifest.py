"""A manifest is signed whole: no edit of it is believed, and no garbage breaks its reader."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.archives.manifest import Manifest, StoredObject, seal, unseal
from app.errors import LiberuError
from app.security.signing import Signer

_SIGNER = Signer(b"\x01" * 32)
_FOLDER = "inst/d-u/f/"
_NOW = datetime(2026, 11, 24, tzinfo=UTC)
_SEALED = seal(
    Manifest(
        installation="inst", folder=_FOLDER, backup_uid="b", domain_uid="u", owner=7, type="files",
        status="completed", created_at=_NOW, finished_at=_NOW,
        details=StoredObject(key="inst/d-u/f/details.json.zst", size=10, sha256="0" * 64),
        details_encryption=None, components=[],
    ),
    _SIGNER,
)  # fmt: skip


def test_what_was_sealed_is_read() -> None:
    assert unseal(_SEALED, _SIGNER, _FOLDER).backup_uid == "b"


@given(st.integers(0, len(_SEALED) - 1), st.integers(0, 255))
def test_no_changed_byte_changes_what_is_read(position: int, value: int) -> None:
    changed = bytearray(_SEALED)
    changed[position] = value
    try:
        read = unseal(bytes(changed), _SIGNER, _FOLDER)
    except LiberuError:
        return
    assert read == unseal(_SEALED, _SIGNER, _FOLDER)


@given(st.one_of(st.binary(max_size=500), st.text(max_size=500).map(str.encode)))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(LiberuError):
        unseal(data, _SIGNER, _FOLDER)

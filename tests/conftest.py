"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.archives.compression import Compressor
from app.security.signing import Signer


@pytest.fixture
def compressor() -> Iterator[Compressor]:
    made = Compressor()
    yield made
    made.close()


@pytest.fixture
def signer() -> Signer:
    return Signer(b"\x01" * 32)

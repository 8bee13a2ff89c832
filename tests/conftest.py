"""Fixtures that every test may use."""

from __future__ import annotations

import pytest

from app.archives.compression import Compressor
from app.security.signing import Signer


@pytest.fixture
def compressor() -> Compressor:
    return Compressor()


@pytest.fixture
def signer() -> Signer:
    return Signer(b"\x01" * 32)

"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.archives.compression import Compressor
from app.security.signing import Signer
from demo.ceph import S3Server, s3_server


@pytest.fixture
def compressor() -> Compressor:
    return Compressor()


@pytest.fixture
def signer() -> Signer:
    return Signer(b"\x01" * 32)


@pytest.fixture(scope="session")
def s3_store() -> Iterator[S3Server]:
    """One for the whole run: it takes a quarter of a minute to start."""
    with s3_server() as server:
        yield server

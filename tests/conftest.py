"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from app.archives.compression import Compressor
from app.db.base import Base
from app.db.session import Database
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


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """The state, empty, in SQLite."""
    made = Database(f"sqlite+aiosqlite:///{tmp_path}/state.db")
    async with made._engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield made
    await made.close()


#: Files that take longest: begun last, one of two workers would wait for them.
_LONG = (
    "test_replicas",
    "test_mysql_halfway",
    "test_swap_matrix",
    "test_schedules.py",
    "test_cut",
    "test_access_matrix",
    "test_hostile_tenant",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.nodeid for name in _LONG))

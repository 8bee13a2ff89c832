"""Fixtures that every test may use."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from app.archives.compression import Compressor
from app.db.base import Base
from app.db.session import Database
from app.security.signing import Signer
from demo.ceph import S3Server, s3_server
from demo.service import Service
from tests import sampling
from tests.forked import ForkedProcess


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


def pytest_configure() -> None:
    Service.launch = ForkedProcess
    os.environ.setdefault(sampling.SEED, str(random.SystemRandom().randrange(1 << 32)))


@pytest.hookimpl(trylast=True)  # after those that a marker leaves out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.nodeid for name in _LONG))
    left_out = _left_out(items)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def _left_out(items: list[pytest.Item]) -> set[pytest.Item]:
    """What a run takes no sample of: see the marker `sweep`."""
    sweeps: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sweep") is not None:
            sweeps[item.nodeid.partition("[")[0]].append(item)
    left_out: set[pytest.Item] = set()
    for name, cases in sweeps.items():
        marker = cases[0].get_closest_marker("sweep")
        assert marker is not None
        most = marker.args[0] if marker.args else len(cases)
        left_out |= set(cases) - set(sampling.sampled(name, cases, most))
    return left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not sampling.whole():
        seed = f"{sampling.SEED}={os.environ[sampling.SEED]}"
        terminalreporter.write_line(f"samples of sweeps: {seed}; all of them: {sampling.SWEEPS}=whole")

"""Fixtures: this system's database servers, one of each for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.servers import MariadbServer, PostgresqlServer, mariadb_server, postgresql_server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariadbServer]:
    with mariadb_server() as started:
        yield started


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        yield started

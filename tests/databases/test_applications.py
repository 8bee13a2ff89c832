"""Databases of applications come back: Django, WordPress, one like Magento's, Nextcloud, with rows hard to keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.databases import test_zoo_mysql as mysql
from tests.databases import test_zoo_postgresql as postgresql
from tests.databases.comparison import NATIVE
from tests.databases.proving import denied
from tests.databases.zoo.case import Case, cases

pytestmark = pytest.mark.sweep(3)
FOLDER = Path(__file__).with_name("applications")


@pytest.fixture(scope="module")
def mysql_servers() -> Iterator[mysql.Servers]:
    with ExitStack() as stack:
        yield mysql.Servers(stack)


@pytest.fixture(scope="module")
def postgresql_servers() -> Iterator[postgresql.Servers]:
    with ExitStack() as stack:
        yield postgresql.Servers(stack)


def _named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("way", mysql.WAYS)
@pytest.mark.parametrize("case", cases("mysql", FOLDER), ids=_named)
async def test_an_application_comes_back_on_mariadb(mysql_servers: mysql.Servers, case: Case, way: str) -> None:
    """`admin`, `alone`, `other`: as in the zoo."""
    zoo = await mysql_servers.zoo(case, way, mysql.SYSTEM)
    assert (zoo.incomplete, zoo.refused) == ([], None)
    assert {warning.code for warning in zoo.warnings} <= {"not_transactional"}  # of an old plugin's MyISAM
    _has_rows(zoo.before)
    if way == "admin":
        assert not await denied(zoo.component("zoo_live", admin=True))
    await mysql.comes_back(zoo, way)


@pytest.mark.parametrize("way", ["other", "same"])
@pytest.mark.parametrize("case", cases("postgresql", FOLDER), ids=_named)
async def test_an_application_comes_back_on_postgresql(
    postgresql_servers: postgresql.Servers, case: Case, way: str
) -> None:
    zoo = await postgresql_servers.zoo(case, postgresql.SYSTEM)
    assert (zoo.warnings, zoo.refused) == ([], None)
    _has_rows(zoo.before)
    if way == "other":
        assert not await denied(zoo.component("zoo", admin=True))
    await postgresql.comes_back(zoo, way)


def _has_rows(before: dict[str, list[str]]) -> None:
    assert sum(len(lines) for section, lines in before.items() if section != NATIVE) > 100

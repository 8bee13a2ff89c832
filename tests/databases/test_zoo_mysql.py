"""Every kind of object of MariaDB and MySQL comes back, or is named, or is refused before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from app.archives.manifest import Warning_
from app.archives.streams import from_bytes
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from app.errors import ConsentRequired, LiberuError
from demo import versions
from demo.servers import MariadbServer, mariadb_server, mysql_server
from tests.components.helpers import Context, MemorySafety, collect
from tests.databases.catalogue_mysql import Client, mysql_drop_rows, mysql_native, mysql_snapshot
from tests.databases.comparison import NATIVE, NotWhole, Snapshot, differences, unexplained
from tests.databases.known_mysql import KNOWN
from tests.databases.proving import denied
from tests.databases.zoo.case import Case, cases, parameter, version

pytestmark = pytest.mark.sweep(20)
PASSWORD = "owner-pw"
SYSTEM = "mariadb"
WAYS = ["other", "admin", "alone"]
ACCOUNTS = f"""
CREATE USER owner@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; CREATE USER copier@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
CREATE USER other@'%' IDENTIFIED BY '{PASSWORD}'; CREATE ROLE reader; CREATE DATABASE zoo_elsewhere;
GRANT ALL ON zoo_live.* TO owner@'127.0.0.1'; GRANT ALL ON zoo_copy.* TO copier@'127.0.0.1';
"""


#: Who refers into it is no reason to keep it.
FORGET = "SET FOREIGN_KEY_CHECKS = 0; DROP DATABASE IF EXISTS {};"


def _matrix() -> list[ParameterSet]:
    return [
        parameter(case, way, server, KNOWN, again=not first)
        for case, server, ways, first in _runs()
        for way in (WAYS if first else ways)
    ]


def _proofs() -> list[ParameterSet]:
    return [parameter(case, "proof", server, {}, again=not first) for case, server, _, first in _runs()]


def _runs() -> Iterator[tuple[Case, str, list[str], bool]]:
    """Cases, where and in which ways; whether the server is the first to know it. This system's server in all ways;
    the newer ones in all for what they are the first to know."""
    servers: list[tuple[str, str, tuple[int, ...], list[str]]] = [(SYSTEM, "mariadb", (10, 11), WAYS)]
    servers += [(f"mariadb-{name}", "mariadb", version(name), ["admin"]) for name in versions.mariadb()]
    servers += [(f"mysql-{name}", "mysql", version(name), ["admin", "alone"]) for name in versions.mysql()]
    for case in cases("mysql"):
        for server, product, number, ways in servers:
            since = case.since(product)
            if since is None or since > number or (case.options and server not in {SYSTEM, "mysql-9.7"}):
                continue
            older = case.since("mariadb")  # this system's
            yield case, server, ways, server == SYSTEM or older is None or older > (10, 11)


class Zoo:
    """One case's database on one server, its state and its backup."""

    def __init__(self, server: MariadbServer, case: Case, name: str) -> None:
        self.case = case
        self.server = server
        folder = _programs(name)
        self._path = f"{folder}:{SEARCH_PATH}" if folder else SEARCH_PATH
        client, dump = ("mysql", "mysqldump") if name.startswith("mysql") else ("mariadb", "mariadb-dump")
        self._client, self._dump = (f"{folder}/{client}", f"{folder}/{dump}") if folder else (client, dump)
        self.before: Snapshot = {}
        self.warnings: list[Warning_] = []
        self.incomplete: list[Warning_] = []
        self.facts: dict[str, Any] = {}
        self.archive = b""
        self.refused: LiberuError | None = None

    def create(self, database: str) -> None:
        options = self.case.keys.get("database", "CHARACTER SET utf8mb4")
        self.server.run(f"{FORGET.format(database)} CREATE DATABASE {database} {options};")

    def fill(self) -> None:
        for who, sql in self.case.sections:
            if who == "owner":
                self.server.run(sql, "zoo_live", "owner", PASSWORD)
            elif who == "admin":
                self.server.run(sql, "zoo_live")

    async def back_up(self, *, admin: bool) -> None:
        self.before = self.snapshot("zoo_live")
        try:
            dump = await self.component("zoo_live", admin=admin).dump()
            self.archive = await collect(dump)
            self.warnings, self.incomplete = dump.report.warnings, dump.report.incomplete
            self.facts = dump.report.facts
        except LiberuError as error:
            self.refused = error

    def damage(self, *, rows: bool) -> None:
        """`rows`: all of them go; else the safety copy that a restore makes is as hard to load as the backup."""
        if rows:
            mysql_drop_rows(self._reader("zoo_live"))
        self.server.run("CREATE TABLE liberu_newer (c int PRIMARY KEY)", "zoo_live")

    def component(self, database: str, *, admin: bool) -> MysqlComponent:
        user = "owner" if database == "zoo_live" else "copier"
        administrator = Account("admin", self.server.admin_password) if admin else None
        target = MysqlTarget(database, Account(user, PASSWORD), administrator, "127.0.0.1", self.server.port)
        return MysqlComponent(StandaloneDeployment(self._path), target)

    def snapshot(self, database: str) -> Snapshot:
        """By the catalogues and by the native program."""
        return self.catalogue(database) | {NATIVE: mysql_native(self._reader(database), self._dump)}

    def catalogue(self, database: str) -> Snapshot:
        return mysql_snapshot(self._reader(database))

    def _reader(self, database: str) -> Client:
        return Client(self.server, database, self._client)


class Servers:
    """Each version with its options is started once, when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[tuple[str, tuple[str, ...]], MariadbServer] = {}
        self._zoo: dict[str, Zoo] = {}

    async def zoo(self, case: Case, way: str, name: str) -> Zoo:
        """The backup of a copy elsewhere serves what follows it as well: it leaves the database as it was."""
        known = self._zoo.pop(name, None)
        if known is None or known.case is not case:
            known = Zoo(self._server(name, case.options), case, name)
            known.server.run(f"{FORGET.format('zoo_elsewhere')} CREATE DATABASE zoo_elsewhere;")
            known.create("zoo_live")
            known.fill()
            await known.back_up(admin=way != "alone")
        if way == "other":
            known.create("zoo_copy")
            self._zoo[name] = known
        return known

    def _server(self, name: str, options: tuple[str, ...]) -> MariadbServer:
        if (name, options) not in self._started:
            product, _, number = name.partition("-")
            if product == "mysql":
                made = mysql_server(versions.mysql()[number], options)
            else:
                made = mariadb_server(versions.mariadb()[number] if number else None, options)
            server = self._stack.enter_context(made)
            server.run(ACCOUNTS)
            self._started[name, options] = server
        return self._started[name, options]


def _programs(name: str) -> str:
    product, _, number = name.partition("-")
    known = versions.mysql() if product == "mysql" else versions.mariadb()
    return f"{known[number]}/usr/bin" if number else ""


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.mark.parametrize(("case", "way", "name"), _matrix())
async def test_what_was_backed_up_comes_back(servers: Servers, case: Case, way: str, name: str) -> None:
    """`admin`: with an administrator; `alone`: without; `other`: into a database of another name and account."""
    await comes_back(await servers.zoo(case, way, name), way)


@pytest.mark.parametrize(("case", "way", "name"), _proofs())
async def test_a_proof_denies_nothing_that_loads(servers: Servers, case: Case, way: str, name: str) -> None:
    zoo = await servers.zoo(case, way, name)
    assert zoo.refused or not await denied(zoo.component("zoo_live", admin=True))
    assert not zoo.server.run(
        "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'liberu%' UNION ALL "
        "SELECT user FROM mysql.user WHERE user LIKE 'liberu%'"
    )


async def comes_back(zoo: Zoo, way: str) -> None:
    """Raises NotWhole."""
    if zoo.refused is not None:
        raise NotWhole(f"the backup fails: {zoo.refused.code}: {zoo.refused.message}")
    assert "not_in_dump" not in {one.code for one in zoo.incomplete}
    database = "zoo_copy" if way == "other" else "zoo_live"
    if way != "other":
        zoo.damage(rows=way == "admin")
    live = zoo.catalogue(database)
    component = zoo.component(database, admin=way != "alone")
    context = Context(safety=MemorySafety(component.dump), facts=zoo.facts)
    try:
        await component.preflight(context.context, len(zoo.archive))
    except LiberuError:
        assert not differences(live, zoo.catalogue(database))  # refused in time
        return
    try:
        restored = await component.restore(from_bytes(zoo.archive), context.context, len(zoo.archive))
    except LiberuError as error:
        changed = differences(live, zoo.catalogue(database))
        if not changed and (isinstance(error, ConsentRequired) or zoo.incomplete):
            return  # refused in time, or the backup was never called completed
        told = f"LIVE CHANGED {changed[:20]}" if changed else "live as it was"
        raise NotWhole(f"the restore fails: {error.code}: {error.message} [{told}]") from error
    warnings = [*zoo.warnings, *zoo.incomplete, *restored.warnings, *restored.incomplete]
    before, after = dict(zoo.before), zoo.snapshot(database)
    if way == "other":  # grants are on names
        before.pop("grants", None)
        after.pop("grants", None)
    if lacking := unexplained(before, after, warnings):
        raise NotWhole("not as it was, and nobody said so:\n" + "\n".join(lacking[:60]))

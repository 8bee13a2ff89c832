"""Every kind of object that pg_dump knows comes back, or is named, or is refused before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from app.archives.manifest import Warning_
from app.archives.streams import from_bytes
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from app.errors import LiberuError
from demo import versions
from demo.servers import PostgresqlServer, postgresql_server
from tests.components.helpers import Context, collect
from tests.databases.catalogue_postgresql import (
    connect,
    postgresql_drop_rows,
    postgresql_native,
    postgresql_snapshot,
)
from tests.databases.comparison import NATIVE, NotWhole, Snapshot, differences, unexplained
from tests.databases.known_postgresql import KNOWN, UNLOADABLE
from tests.databases.proving import denied
from tests.databases.zoo.case import Case, cases, parameter, version

pytestmark = pytest.mark.sweep(20)
PASSWORD = "owner-pw"
SYSTEM = "system"
ROLES = (
    "CREATE ROLE owner LOGIN PASSWORD 'owner-pw'; CREATE ROLE other LOGIN; CREATE ROLE reader; CREATE ROLE writer;"
)


SUBSCRIPTIONS = (
    "SELECT quote_ident(subname) FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
    "WHERE d.datname = current_database()"
)


def _proofs() -> list[ParameterSet]:
    """On this system's server; on the newer ones for what is not in it."""
    made: list[ParameterSet] = []
    for case in cases("postgresql"):
        since = case.since() or (0,)
        fitting = [name for name in sorted(versions.postgresql(), key=version) if version(name) >= since]
        for server in [SYSTEM] if since <= (15,) else fitting:
            made.append(parameter(case, "proof", server, {}, again=False))
    return made


def _matrix() -> list[ParameterSet]:
    """This system's server in both ways, the newest in one; the newer in both for what is not in this system's."""
    made: list[ParameterSet] = []
    for case in cases("postgresql"):
        since = case.since() or (0,)
        fitting = [name for name in sorted(versions.postgresql(), key=version) if version(name) >= since]
        if since <= (15,):
            runs = [(SYSTEM, "other"), (SYSTEM, "same"), *((name, "same") for name in fitting[-1:])]
        else:
            runs = [(name, way) for name in fitting for way in ("other", "same")]
        for server, way in runs:
            made.append(parameter(case, way, server, KNOWN, again=since <= (15,) and server != SYSTEM))
    return made


class Zoo:
    """One case's database on one server, its state and its backup."""

    def __init__(self, server: PostgresqlServer, case: Case, binaries: Path | None) -> None:
        self.case = case
        self.server = server
        programs = binaries or Path(server.psql).parent
        self._path = f"{programs}:{SEARCH_PATH}"
        self._pg_dump = str(programs / "pg_dump")
        self.before: Snapshot = {}
        self.warnings: list[Warning_] = []
        self.archive = b""
        self.refused: LiberuError | None = None

    def create(self, database: str) -> None:
        self.drop(database)
        with connect(self.server) as connection:
            connection.autocommit = True
            options = self.case.keys.get("database", "")
            connection.execute(f"CREATE DATABASE {database} OWNER owner {options}".encode())
        with connect(self.server, database) as connection:
            connection.execute("ALTER SCHEMA public OWNER TO owner")

    def fill(self) -> None:
        for who, sql in self.case.sections:
            if who == "owner":
                self.server.run(sql, "zoo", "owner", PASSWORD)
            elif who == "admin":
                self.server.run(sql, "zoo")

    def prepare(self) -> None:
        """What an administrator of another target makes beforehand: extensions, for example."""
        for who, sql in self.case.sections:
            if who == "target":
                self.server.run(sql, "zoo_copy")

    async def back_up(self) -> None:
        self.before = self.snapshot("zoo")
        try:
            dump = await self.component("zoo").dump()
            self.archive = await collect(dump)
            self.warnings = [*dump.report.warnings, *dump.report.incomplete]
        except LiberuError as error:
            self.refused = error

    def damage(self) -> None:
        postgresql_drop_rows(self.server, "zoo")
        self.server.run("CREATE TABLE liberu_newer (c int)", "zoo", "owner", PASSWORD)

    def component(self, database: str, *, admin: bool = False) -> PostgresqlComponent:
        account = ("admin", self.server.admin_password) if admin else (None, None)
        target = PostgresqlTarget(database, "owner", PASSWORD, "127.0.0.1", self.server.port, *account)
        return PostgresqlComponent(StandaloneDeployment(self._path), target)

    def snapshot(self, database: str) -> Snapshot:
        """By the catalogues and by the native program."""
        return self.catalogue(database) | {NATIVE: postgresql_native(self.server, database, self._pg_dump)}

    def catalogue(self, database: str) -> Snapshot:
        return postgresql_snapshot(self.server, database)

    def drop(self, database: str) -> None:
        with connect(self.server) as connection:
            connection.autocommit = True
            there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [database]).fetchone()
            if there is None:
                return
            with connect(self.server, database) as inside:
                inside.autocommit = True
                for (name,) in inside.execute(SUBSCRIPTIONS).fetchall():
                    inside.execute(f"DROP SUBSCRIPTION {name}".encode())
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())


class Servers:
    """Each version is started once, when it is first asked for; so is a case, whose backup serves all ways."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[str, PostgresqlServer] = {}
        self._zoo: dict[str, Zoo] = {}

    async def zoo(self, case: Case, name: str) -> Zoo:
        known = self._zoo.get(name)
        if known is None or known.case is not case:
            known = Zoo(self._server(name), case, _binaries(name))
            self._zoo.pop(name, None)
            known.create("zoo")
            known.fill()
            await known.back_up()
            self._zoo[name] = known
        return known

    def _server(self, name: str) -> PostgresqlServer:
        if name not in self._started:
            server = self._stack.enter_context(postgresql_server(_binaries(name)))
            server.run(ROLES)
            self._started[name] = server
        return self._started[name]


def _binaries(name: str) -> Path | None:
    return None if name == SYSTEM else versions.postgresql()[name]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.mark.parametrize(("case", "way", "name"), _matrix())
async def test_what_was_backed_up_comes_back(servers: Servers, case: Case, way: str, name: str) -> None:
    """`same`: over the database that is there, emptied, with a table more; `other`: into an empty one beside it."""
    await comes_back(await servers.zoo(case, name), way)


@pytest.mark.parametrize(("case", "way", "name"), _proofs())
async def test_a_proof_denies_what_does_not_load_and_nothing_else(
    servers: Servers, case: Case, way: str, name: str
) -> None:
    zoo = await servers.zoo(case, name)
    lacks = [] if zoo.refused else await denied(zoo.component("zoo", admin=True))
    assert [lack.code for lack in lacks] == (["not_loadable"] if case.name in UNLOADABLE else []), lacks
    assert all(UNLOADABLE[case.name] in lack.message for lack in lacks)
    assert not zoo.server.run("SELECT datname FROM pg_database WHERE datname LIKE 'liberu%'")


async def comes_back(zoo: Zoo, way: str) -> None:
    """Raises NotWhole."""
    if zoo.refused is not None:
        raise NotWhole(f"the backup fails: {zoo.refused.code}: {zoo.refused.message}")
    assert "not_in_dump" not in {one.code for one in zoo.warnings}
    target = "zoo" if way == "same" else "zoo_copy"
    if way == "same":
        zoo.damage()
    else:
        zoo.create(target)
        zoo.prepare()
    live = zoo.catalogue(target)
    component = zoo.component(target)
    try:
        await component.preflight(Context().context, len(zoo.archive))
    except LiberuError:
        assert not differences(live, zoo.catalogue(target))  # refused in time
        return
    try:
        restored = await component.restore(from_bytes(zoo.archive), Context().context, len(zoo.archive))
    except LiberuError as error:
        changed = differences(live, zoo.catalogue(target))
        if not changed and UNLOADABLE.get(zoo.case.name, "\0") in error.message:
            return  # as a proof says: the backup is partial
        told = f"LIVE CHANGED {changed[:20]}" if changed else "live as it was"
        raise NotWhole(f"the restore fails: {error.code}: {error.message} [{told}]") from error
    warnings = [*zoo.warnings, *restored.warnings, *restored.incomplete]
    if lacking := unexplained(zoo.before, zoo.snapshot(target), warnings):
        raise NotWhole("not as it was, and nobody said so:\n" + "\n".join(lacking[:60]))

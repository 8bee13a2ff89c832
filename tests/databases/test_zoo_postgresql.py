"""Every kind of object that pg_dump knows comes back, or is named, or is refused before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from app.errors import LiberuError
from demo import versions
from demo.servers import PostgresqlServer, postgresql_server
from tests.components.helpers import Context, collect
from tests.databases.catalogue_postgresql import postgresql_drop_rows, postgresql_native, postgresql_snapshot
from tests.databases.comparison import NotWhole, Snapshot, differences, unnamed
from tests.databases.known_postgresql import KNOWN
from tests.databases.zoo.case import Case, cases, version

PASSWORD = "owner-pw"
SYSTEM = "system"
NEWEST = max(versions.postgresql(), key=version, default=SYSTEM)
ROLES = "CREATE ROLE owner LOGIN PASSWORD 'owner-pw'; CREATE ROLE other LOGIN; CREATE ROLE reader; CREATE ROLE writer;"


def _matrix() -> list[object]:
    """This system's server in both ways; the newest in one; those between for what they were the first to know."""
    made = []
    for case in cases("postgresql"):
        since = case.since() or (0,)
        fitting = [name for name in sorted(versions.postgresql(), key=version) if version(name) >= since]
        chosen = {fitting[0], fitting[-1]} if since > (15,) and fitting else {NEWEST} & set(fitting)
        runs = [(SYSTEM, "same"), (SYSTEM, "other")] if since <= (15,) else []
        runs += [(name, way) for name in sorted(chosen) for way in (["same"] if since <= (15,) else ["same", "other"])]
        for server, way in runs:
            name = f"{case.name}/{way}/{server}"
            reason = next((text for pattern, text in KNOWN.items() if fnmatch(name, pattern)), None)
            marks = [pytest.mark.xfail(strict=True, raises=NotWhole, reason=reason)] if reason else []
            made.append(pytest.param(case, way, server, id=name, marks=marks))
    return made


class Servers:
    """Each version is started once, when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[str, PostgresqlServer] = {}

    def get(self, name: str) -> PostgresqlServer:
        if name not in self._started:
            server = self._stack.enter_context(postgresql_server(self.programs(name)))
            server.run(ROLES)
            self._started[name] = server
        return self._started[name]

    @staticmethod
    def programs(name: str) -> Path | None:
        return None if name == SYSTEM else versions.postgresql()[name]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


class Zoo:
    """One case's database on one server, and an empty one beside it."""

    def __init__(self, servers: Servers, case: Case, name: str) -> None:
        self.case = case
        self.server = servers.get(name)
        programs = Servers.programs(name)
        self._path = SEARCH_PATH if programs is None else f"{programs}:{SEARCH_PATH}"
        self._pg_dump = "/usr/lib/postgresql/15/bin/pg_dump" if programs is None else str(programs / "pg_dump")
        if programs is None and not Path(self._pg_dump).exists():
            self._pg_dump = "pg_dump"

    def create(self, database: str) -> None:
        self.server.run(f"CREATE DATABASE {database} OWNER owner {self.case.keys.get('database', '')}")
        self.server.run("ALTER SCHEMA public OWNER TO owner", database)

    def fill(self, database: str) -> None:
        for who, sql in self.case.sections:
            if who == "owner":
                self.server.run(sql, database, "owner", PASSWORD)
            elif who == "admin":
                self.server.run(sql, database)

    def prepare(self, database: str) -> None:
        """What an administrator of the target makes beforehand: extensions, for example."""
        for who, sql in self.case.sections:
            if who == "target":
                self.server.run(sql, database)

    def damage(self, database: str) -> None:
        postgresql_drop_rows(self.server, database)
        self.server.run("CREATE TABLE public.liberu_newer (c int)", database, "owner", PASSWORD)

    def component(self, database: str) -> PostgresqlComponent:
        target = PostgresqlTarget(database, "owner", PASSWORD, "127.0.0.1", self.server.port)
        return PostgresqlComponent(StandaloneDeployment(self._path), target)

    def snapshot(self, database: str) -> Snapshot:
        found = postgresql_snapshot(self.server, database)
        found["pg_dump"] = postgresql_native(self.server, database, self._pg_dump)
        return found

    def drop(self) -> None:
        for database in ("zoo", "zoo_copy"):
            self.server.run(
                "DO $$ DECLARE s record; BEGIN FOR s IN SELECT subname FROM pg_subscription LOOP "
                "EXECUTE format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', s.subname); "
                "EXECUTE format('DROP SUBSCRIPTION %I', s.subname); END LOOP; END $$",
                database,
            )
            self.server.run(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.mark.parametrize(("case", "way", "name"), _matrix())
async def test_what_was_backed_up_comes_back(servers: Servers, case: Case, way: str, name: str) -> None:
    zoo = Zoo(servers, case, name)
    zoo.create("zoo")
    zoo.create("zoo_copy")
    try:
        zoo.fill("zoo")
        await _round(zoo, "zoo" if way == "same" else "zoo_copy")
    finally:
        zoo.drop()


async def _round(zoo: Zoo, target: str) -> None:
    before = zoo.snapshot("zoo")
    try:
        dump = await zoo.component("zoo").dump()
        archive = await collect(dump)
    except LiberuError as error:
        raise NotWhole(f"the backup fails: {error.code}: {error.message}") from error
    if target == "zoo":
        zoo.damage(target)
    else:
        zoo.prepare(target)
    live = zoo.snapshot(target)
    component = zoo.component(target)
    try:
        await component.preflight(Context().context, len(archive))
    except LiberuError:
        assert not differences(live, zoo.snapshot(target))  # refused in time
        return
    try:
        restored = await component.restore(from_bytes(archive), Context().context, len(archive))
    except LiberuError as error:
        changed = differences(live, zoo.snapshot(target))
        told = f"LIVE CHANGED {changed[:20]}" if changed else "live as it was"
        raise NotWhole(f"the restore fails: {error.code}: {error.message} [{told}]") from error
    warnings = [*dump.report.warnings, *dump.report.incomplete, *restored.warnings, *restored.incomplete]
    after = zoo.snapshot(target)
    found = differences(before, after)
    if lacking := unnamed(found, warnings):
        raise NotWhole("not as it was, and nobody said so:\n" + "\n".join(lacking[:60]))

"""Each dump says where in its server's log it is, and is in statements that its server takes again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest

from app.archives.streams import from_bytes
from app.components.base import POSITION
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlTarget
from app.components.postgresql import PostgresqlComponent, PostgresqlTarget
from app.deployments.process import SEARCH_PATH
from app.deployments.standalone import StandaloneDeployment
from demo import versions
from demo.servers import MariadbServer, mariadb_server, mysql_server, postgresql_server
from tests.components.helpers import Context, MemorySafety, collect

PASSWORD = "owner-pw"
LOGS = ["--log-bin=binlog", "--server-id=7"]
Started = Callable[..., AbstractContextManager[MariadbServer]]
SERVERS: dict[str, tuple[Started, str]] = {
    "MariaDB": (mariadb_server, ""),
    **{
        f"MariaDB {name}": (partial(mariadb_server, root), f"{root}/usr/bin:")
        for name, root in versions.mariadb().items()
    },
    **{f"MySQL {name}": (partial(mysql_server, root), f"{root}/usr/bin:") for name, root in versions.mysql().items()},
}


class Shop:
    def __init__(self, server: MariadbServer, path: str) -> None:
        self.server = server
        self._path = path + SEARCH_PATH
        server.run(f"CREATE DATABASE shop; CREATE USER owner@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        server.run("GRANT ALL ON shop.* TO owner@'127.0.0.1'")

    def run(self, sql: str) -> str:
        return self.server.run(sql, "shop", "owner", PASSWORD)

    def component(self, *, admin: bool = False) -> MysqlComponent:
        administrator = Account("admin", self.server.admin_password) if admin else None
        target = MysqlTarget("shop", Account("owner", PASSWORD), administrator, "127.0.0.1", self.server.port)
        return MysqlComponent(StandaloneDeployment(self._path), target)


@pytest.fixture(params=sorted(SERVERS))
def logging(request: pytest.FixtureRequest) -> Iterator[Shop]:
    start, path = SERVERS[request.param]
    more = ["--gtid-mode=ON", "--enforce-gtid-consistency=ON"] if request.param.startswith("MySQL") else []
    with start(options=[*LOGS, *more]) as server:
        made = Shop(server, path)
        made.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        yield made


async def test_what_comes_after_the_position_is_not_in_the_dump(logging: Shop) -> None:
    dump = await logging.component(admin=True).dump()
    logging.run("INSERT INTO t VALUES (2)")  # the dump's program has not begun
    stream = dump.stream
    first = await anext(stream)
    logging.run("INSERT INTO t VALUES (3)")
    content = first + b"".join([chunk async for chunk in stream])
    position = dump.report.facts[POSITION]
    events = logging.server.run(f"SHOW BINLOG EVENTS IN '{position['file']}' FROM {position['offset']}")
    assert len(re.findall("Write_rows|INSERT INTO", events)) == (1 if position["exact"] else 2)
    assert b"(2)" in content
    assert b"(3)" not in content
    assert re.fullmatch(r"\d+-\d+-\d+|[0-9a-f-]{36}:1-\d+", position["gtid"])


async def test_an_account_that_may_not_ask_is_backed_up_all_the_same(logging: Shop) -> None:
    dump = await logging.component().dump()
    await collect(dump)
    position = dump.report.facts.get(POSITION)
    assert position is not None  # MariaDB tells of its snapshot, MySQL the transactions
    assert position["gtid"] if position["file"] is None else position["exact"]


async def test_a_server_without_a_log_has_no_position() -> None:
    with mariadb_server() as server:
        shop = Shop(server, "")
        shop.run("CREATE TABLE t (id int PRIMARY KEY)")
        for admin in (True, False):
            dump = await shop.component(admin=admin).dump()
            await collect(dump)
            assert POSITION not in dump.report.facts


async def test_a_dump_with_a_position_comes_back(logging: Shop) -> None:
    component = logging.component(admin=True)
    archive = await collect(await component.dump())
    logging.run("DELETE FROM t")
    context = Context(safety=MemorySafety(component.dump))
    await component.restore(from_bytes(archive), context.context, len(archive))
    assert logging.run("SELECT * FROM t") == "1"


async def test_postgresql_tells_where_its_log_is() -> None:
    with postgresql_server() as server:
        server.run(f"CREATE ROLE owner LOGIN PASSWORD '{PASSWORD}'")
        server.run("CREATE DATABASE shop OWNER owner")
        server.run("CREATE TABLE t (id int)", "shop", "owner", PASSWORD)
        target = PostgresqlTarget("shop", "owner", PASSWORD, "127.0.0.1", server.port)
        before = server.run("SELECT pg_current_wal_lsn()")
        dump = await PostgresqlComponent(StandaloneDeployment(), target).dump()
        await collect(dump)
        after = server.run("SELECT pg_current_wal_lsn()")
        lsn = dump.report.facts[POSITION]["lsn"]
        assert server.run(f"SELECT '{before}'::pg_lsn <= '{lsn}' AND '{lsn}' <= '{after}'::pg_lsn") == "t"


async def _longest_statement(component: MysqlComponent) -> tuple[bytes, int]:
    content = await collect(await component.dump())
    statements = re.findall(rb"^INSERT INTO .*?;\n(?=^[-/UI\n])", content, re.MULTILINE | re.DOTALL)
    return content, max(map(len, statements))


@pytest.mark.parametrize("packet", [1 << 20, 4 << 20, 16 << 20])
async def test_statements_are_as_large_as_the_server_takes(packet: int) -> None:
    """And come back, also into a server that takes less."""
    with mariadb_server(options=[f"--max-allowed-packet={packet}"]) as server:
        shop = Shop(server, "")
        shop.run("CREATE TABLE t (id int PRIMARY KEY, x varchar(2000))")
        shop.run("INSERT INTO t SELECT seq, REPEAT(CHAR(97 + seq % 26), 1900) FROM seq_1_to_12000")
        before = shop.run("SELECT SUM(CRC32(CONCAT(id, x))), COUNT(*) FROM t")
        component = shop.component(admin=True)
        content, longest = await _longest_statement(component)
        most = min(8 << 20, packet)
        assert most * 0.9 < longest < most
        server.run("SET GLOBAL max_allowed_packet = 1048576")
        shop.run("DELETE FROM t WHERE id % 2")
        await component.restore(from_bytes(content), Context().context, len(content))
        assert shop.run("SELECT SUM(CRC32(CONCAT(id, x))), COUNT(*) FROM t") == before

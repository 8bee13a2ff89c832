"""Private database servers on free loopback ports, ended by whoever started them."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from demo.ports import free_port


@dataclass
class PostgresqlServer:
    """`argv`, `user`: how the server is started. `psql`: the program itself, which starts faster than the script that
    Debian puts before it."""

    port: int
    admin_password: str = "admin-pw"
    psql: str = "psql"
    argv: list[str] = field(default_factory=list)
    user: int | None = None
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.argv, user=self.user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.run("SELECT 1")
                return
            except AssertionError:
                time.sleep(0.1)

    def stop(self) -> None:
        """As an administrator who does not wait for clients (PostgreSQL's fast shutdown)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def run(self, sql: str, database: str = "postgres", user: str = "admin", password: str | None = None) -> str:
        env = {
            "PATH": os.environ["PATH"], "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": user,
            "PGPASSWORD": password or self.admin_password, "PGDATABASE": database,
        }  # fmt: skip
        result = subprocess.run(
            [self.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            input=sql, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    @contextmanager
    def locked(self, table: str, database: str) -> Iterator[None]:
        """Hold an exclusive lock on a table."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="admin", password=self.admin_password, dbname=database
        ) as connection:
            connection.execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(Identifier(table)))
            yield


@contextmanager
def postgresql_server(binaries: Path | None = None) -> Iterator[PostgresqlServer]:
    """`binaries`: another version's, see demo.versions; None: this system's."""
    system = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    binaries = binaries or system
    folder = Path(tempfile.mkdtemp(prefix="liberu-pg-"))
    server = PostgresqlServer(free_port(), psql=str(system / "psql"))
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = entry.pw_uid
    secret = folder / "pw"
    secret.write_text(server.admin_password)
    secret.chmod(0o644)
    data = folder / "data"
    subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), "-U", "admin", "-A", "scram-sha-256", f"--pwfile={secret}",
         "-E", "UTF8", "--locale=C.UTF-8", "-N"],
        user=user, check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    server.user = user
    server.argv = [
        str(binaries / "postgres"), "-D", str(data), "-p", str(server.port), "-h", "127.0.0.1", "-k", str(folder),
        "-c", "fsync=off",
    ]  # fmt: skip
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@dataclass
class MariadbServer:
    """`run` connects as the administrator over the socket, unless told otherwise."""

    port: int
    socket: str
    admin_password: str = "admin-pw"

    def run(self, sql: str, database: str = "", user: str = "admin", password: str | None = None) -> str:
        folder = Path(tempfile.mkdtemp(prefix="liberu-mariadb-client-"))
        options = folder / "client.cnf"
        options.touch(mode=0o600)
        secret = (password or self.admin_password).replace("\\", "\\\\").replace('"', '\\"')
        options.write_text(
            f'[client]\nuser={user}\npassword="{secret}"\nhost=127.0.0.1\nport={self.port}\n'
            "default-character-set=utf8mb4\n"
        )
        argv = ["mariadb", f"--defaults-file={options}", "-N", "-B", "--raw", f"--database={database}"]
        try:
            result = subprocess.run(argv, input=sql, capture_output=True, text=True, check=False)
        finally:
            shutil.rmtree(folder)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


@contextmanager
def mariadb_server(root: Path | None = None, options: Sequence[str] = ()) -> Iterator[MariadbServer]:
    """`root`: where another version is unpacked, see demo.versions; None: this system's. `options`: of the server,
    over our own."""
    base = [] if root is None else [f"--basedir={root}/usr"]
    path = f"{os.environ['PATH']}:/usr/sbin" if root is None else f"{root}/usr/bin:{root}/usr/sbin"
    with _folder("mysql") as (folder, user):
        subprocess.run(
            [_program("mariadb-install-db", path), "--no-defaults", *base, f"--datadir={folder}/data",
             "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
             "--innodb-use-native-aio=0"],
            user=user, check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        with _mysql_server([_program("mariadbd", path), "--no-defaults", *base], folder, user, options) as server:
            yield server


@contextmanager
def mysql_server(root: Path, options: Sequence[str] = ()) -> Iterator[MariadbServer]:
    """MySQL's own server, of those that are unpacked at `root`, see demo.versions. `options`: see mariadb_server."""
    program = [
        f"{root}/usr/sbin/mysqld",
        "--no-defaults",
        f"--basedir={root}/usr",
        "--mysqlx=OFF",
        "--secure-file-priv=",
    ]
    program += [f"--lc-messages-dir={root}/usr/share/mysql", f"--plugin-dir={root}/usr/lib/mysql/plugin"]
    with _folder("mysql") as (folder, user):
        made = [*program, "--initialize-insecure", f"--datadir={folder}/data"]
        subprocess.run(made, user=user, check=True, capture_output=True, cwd=folder)
        with _mysql_server(program, folder, user, options) as server:
            yield server


@contextmanager
def _folder(owner: str) -> Iterator[tuple[Path, int | None]]:
    """A folder for a server, and as whom it is to run: it refuses to be root."""
    folder = Path(tempfile.mkdtemp(prefix=f"liberu-{owner}-"))
    user = None
    try:
        if os.geteuid() == 0:
            entry = pwd.getpwnam(owner)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            user = entry.pw_uid
        yield folder, user
    finally:
        shutil.rmtree(folder)


def _program(name: str, path: str) -> str:
    return shutil.which(name, path=path) or name


@contextmanager
def _mysql_server(
    program: list[str], folder: Path, user: int | None, options: Sequence[str]
) -> Iterator[MariadbServer]:
    server = MariadbServer(free_port(), str(folder / "s"))
    start = folder / "start.sql"
    temporary = folder / "tmp"  # of its own: a server that starts removes what others keep there
    temporary.mkdir()
    if user is not None:
        os.chown(temporary, user, -1)
    start.write_text(
        f"CREATE USER admin@'127.0.0.1' IDENTIFIED BY '{server.admin_password}';\n"
        "GRANT ALL ON *.* TO admin@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    start.chmod(0o644)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*program, f"--datadir={folder}/data", f"--socket={server.socket}", f"--port={server.port}",
         f"--tmpdir={temporary}", "--bind-address=127.0.0.1", f"--init-file={start}", "--skip-name-resolve",
         "--skip-log-bin",
         "--innodb-use-native-aio=0",  # the kernel has few slots, and tests start many servers
         "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--event-scheduler=OFF", *options],
        user=user, stdout=subprocess.DEVNULL, stderr=log, cwd=folder,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                server.run("SELECT 1")
                break
            except AssertionError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError((folder / "log").read_text()[-2000:]) from None
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(60)
        log.close()

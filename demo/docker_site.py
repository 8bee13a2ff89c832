"""A site that runs in containers: its web server's, its database's and the mail server's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from demo.docker_engine import DockerEngine, docker_engine, gnu_root
from demo.ports import free_port
from demo.sample_databases import PASSWORD
from demo.servers import MariadbServer

_MARIADB = ("mariadbd", "mariadb", "mariadb-dump")


@dataclass(frozen=True, slots=True)
class DockerPlace:
    """`mariadb`: the database container's server, as this machine reaches it."""

    engine: DockerEngine
    mariadb: MariadbServer


@contextmanager
def docker_site(domain: str, site: Path, mail: Path) -> Iterator[DockerPlace]:
    """`site` is /var/www/html in `<domain>_web`, `mail` is /var/mail in `dovecot`; `<domain>_database` runs MariaDB
    with the accounts in its environment, as its official image has them."""
    with docker_engine() as engine:
        images(engine)
        engine.container(f"{domain}_web", "gnu:1", "sleep", "1000000", options=["-v", f"{site}:/var/www/html"])
        engine.container("dovecot", "gnu:1", "sleep", "1000000", options=["-v", f"{mail}:/var/mail"])
        with mariadb_container(engine, f"{domain}_database") as server:
            yield DockerPlace(engine, server)


def images(engine: DockerEngine) -> None:
    root = Path(tempfile.mkdtemp(prefix="liberu-image-"))
    try:
        gnu_root(root)
        engine.image("gnu:1", root)
        gnu_root(root, _MARIADB)
        shutil.copytree("/usr/share/mysql", root / "usr/share/mysql", symlinks=True)
        engine.image("mariadb:1", root)
    finally:
        shutil.rmtree(root)


@contextmanager
def mariadb_container(engine: DockerEngine, name: str) -> Iterator[MariadbServer]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-mariadb-"))
    try:
        data = folder / "data"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
             "--skip-test-db", "--skip-name-resolve", "--user=root"],
            check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        server = MariadbServer(free_port(), "")
        (folder / "start.sql").write_text(
            f"SET PASSWORD FOR root@localhost = PASSWORD('{server.admin_password}');\n"
            f"CREATE USER admin@'127.0.0.1' IDENTIFIED BY '{server.admin_password}';\n"
            "GRANT ALL ON *.* TO admin@'127.0.0.1' WITH GRANT OPTION;\n"
            f"CREATE USER shop@localhost IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON shop.* TO shop@localhost;\n"
        )
        env = {
            "MARIADB_USER": "shop", "MARIADB_PASSWORD": PASSWORD, "MARIADB_ROOT_PASSWORD": server.admin_password,
            "MARIADB_DATABASE": "shop",
        }  # fmt: skip
        options = ["-v", f"{folder}:/var/lib/mysql", "--tmpfs", "/run/mysqld"]
        for key, value in env.items():
            options += ["-e", f"{key}={value}"]
        # The engine has no network of its own: the server listens on this machine's loopback.
        engine.run(
            "run", "-d", "--init", "--network", "host", "--name", name, *options, "mariadb:1",
            "mariadbd", "--no-defaults", "--user=root", "--datadir=/var/lib/mysql/data", f"--port={server.port}",
            "--socket=/run/mysqld/mysqld.sock", "--bind-address=127.0.0.1", "--init-file=/var/lib/mysql/start.sql",
            "--skip-name-resolve", "--skip-log-bin", "--innodb-buffer-pool-size=32M", "--event-scheduler=OFF",
            "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                server.run("SELECT 1")
                break
            except AssertionError:
                if time.monotonic() > deadline:
                    raise RuntimeError(engine.run("logs", name)) from None
                time.sleep(0.2)
        yield server
    finally:
        with suppress(subprocess.CalledProcessError):
            engine.run("rm", "-f", name)
        shutil.rmtree(folder, ignore_errors=os.geteuid() != 0)

"""A MariaDB and a PostgreSQL database through the API, by turns with the databases' own programs in a pipe; the
service's memory at rest and at its peak.

BENCH_MIB: how large each dump is, about (1024). BENCH_PAIRS: how often (3). The servers run as in the tests; both
sides of a pair use the same one.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.pipeline import memory, ours, peer
from demo.servers import MariadbServer, mariadb_server, postgresql_server
from demo.service import Service

PAIRS = int(os.environ.get("BENCH_PAIRS", "3"))
MIB = int(os.environ.get("BENCH_MIB", "1024"))
#: Of both tables together in a dump, about.
_ROW_BYTES = 430
_PASSWORD = "bench-pw"
#: Of the MariaDB server: the tests' own have 32 MB, too little for an index of this size.
_OPTIONS = ("--innodb-buffer-pool-size=2G", "--innodb-log-file-size=512M")
_COUNT = "SELECT COUNT(*), SUM(id) FROM orders"

_MARIADB = """
CREATE TABLE customer (id int PRIMARY KEY AUTO_INCREMENT, name varchar(200), email varchar(200), made datetime,
  photo varbinary(64), balance decimal(10,2), KEY (name), KEY (made));
INSERT INTO customer SELECT seq, CONCAT('Zoë it''s ', MD5(seq)), CONCAT(MD5(-seq), '@example.com'),
  '2020-01-01' + INTERVAL seq MINUTE, UNHEX(SHA2(seq, 256)), seq / 7 FROM seq_1_to_{rows};
CREATE TABLE orders (id int PRIMARY KEY, customer int, note text, data text, KEY (customer));
INSERT INTO orders SELECT seq, 1 + seq * 7 % {rows}, CONCAT('line\\nbreak; "quoted" ', SHA2(seq, 256)),
  CONCAT('{{"order": ', seq, ', "sum": "', MD5(seq), '"}}') FROM seq_1_to_{rows};
"""
_POSTGRESQL = r"""
CREATE TABLE customer (id serial PRIMARY KEY, name text, email text, made timestamp, photo bytea, balance numeric);
INSERT INTO customer SELECT g, 'Zoë it''s ' || md5(g::text), md5((-g)::text) || '@example.com',
  timestamp '2020-01-01' + g * interval '1 minute', sha256(g::text::bytea), g / 7.0 FROM generate_series(1, {rows}) g;
CREATE INDEX ON customer (name); CREATE INDEX ON customer (made);
CREATE TABLE orders (id int PRIMARY KEY, customer int, note text, data jsonb);
INSERT INTO orders SELECT g, 1 + g * 7 % {rows}, E'line\nbreak; "quoted" ' || encode(sha256(g::text::bytea), 'hex'),
  jsonb_build_object('order', g, 'sum', md5(g::text)) FROM generate_series(1, {rows}) g;
CREATE INDEX ON orders (customer);
"""


@dataclass
class Subject:
    """`row`: as the API takes it. `backup`, `restore`: the peer's commands of $1 its archive and $2 the age recipient
    or identity. `emptied`: makes an empty database for the peer's restore. `run`: SQL, as the administrator."""

    row: dict[str, Any]
    backup: str
    restore: str
    emptied: list[str]
    run: Callable[..., str]


@contextmanager
def mariadb(folder: Path) -> Iterator[Subject]:
    with mariadb_server(options=_OPTIONS) as server:
        make_mariadb(server, "bench")
        options = folder / "bench.cnf"
        options.touch(0o600)
        options.write_text(
            f"[client]\nuser=admin\npassword={server.admin_password}\nhost=127.0.0.1\nport={server.port}\n"
            "default-character-set=utf8mb4\n"
        )
        server.run(_MARIADB.format(rows=MIB * (1 << 20) // _ROW_BYTES), "bench")
        yield Subject(
            {
                "engine": "mariadb", "name": "bench", "username": "bench", "password": _PASSWORD, "host": "127.0.0.1",
                "port": server.port, "admin_username": "admin", "admin_password": server.admin_password,
            },
            f"mariadb-dump --defaults-file={options} --single-transaction --routines --events --hex-blob bench "
            '| zstd -3 -T2 -q | age -r "$2" >"$1" && sync "$1"',
            f'age -d -i "$2" "$1" | zstd -dq | mariadb --defaults-file={options} peer',
            ["CREATE OR REPLACE DATABASE peer CHARACTER SET utf8mb4"],
            server.run,
        )  # fmt: skip


def make_mariadb(server: MariadbServer, name: str) -> None:
    server.run(
        f"CREATE DATABASE {name} CHARACTER SET utf8mb4; CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}';"
        f"GRANT ALL ON {name}.* TO {name}@'127.0.0.1'"
    )


@contextmanager
def postgresql(folder: Path) -> Iterator[Subject]:
    with postgresql_server() as server:
        server.run(f"CREATE ROLE bench LOGIN PASSWORD '{_PASSWORD}'; ALTER ROLE bench CREATEDB;")
        for name in ("bench", "peer"):
            server.run(f"CREATE DATABASE {name} OWNER bench;")
        server.run(_POSTGRESQL.format(rows=MIB * (1 << 20) // _ROW_BYTES), "bench", "bench", _PASSWORD)
        secret = folder / "pgpass"
        secret.touch(0o600)
        secret.write_text(f"127.0.0.1:{server.port}:*:bench:{_PASSWORD}\n")
        to = f"PGPASSFILE={secret} PGHOST=127.0.0.1 PGPORT={server.port} PGUSER=bench"
        yield Subject(
            {
                "engine": "postgresql", "name": "bench", "username": "bench", "password": _PASSWORD,
                "host": "127.0.0.1", "port": server.port,
            },
            f'{to} pg_dump -Fc -f "$1" bench && sync "$1"',
            f'{to} pg_restore --no-owner --single-transaction -d peer "$1"',
            ["DROP DATABASE peer;", "CREATE DATABASE peer OWNER bench;"],
            server.run,
        )  # fmt: skip


def main() -> None:
    report: dict[str, Any] = {"name": "databases", "mib": MIB, "pairs": PAIRS}
    for name, make in (("mariadb", mariadb), ("postgresql", postgresql)):
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="liberu-bench-", dir=os.environ.get("BENCH_FOLDER")))
            stack.callback(shutil.rmtree, folder)
            folder.chmod(0o755)
            subject = stack.enter_context(make(folder))
            service = Service(folder, LIBERU_PROOF__LOAD="false")  # its cost: docs/databases.md
            stack.callback(service.stop)
            service.start()
            report[name] = measure(service, folder, name, subject)
    report["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(json.dumps(report))


def by_turns(mine: Callable[[], float], theirs: Callable[[], float], *, theirs_first: bool) -> tuple[float, float]:
    """Seconds of ours and theirs."""
    taken = []
    for work in (theirs, mine) if theirs_first else (mine, theirs):
        os.sync()
        taken.append(work())
    return (taken[1], taken[0]) if theirs_first else (taken[0], taken[1])


def measure(service: Service, folder: Path, name: str, subject: Subject) -> dict[str, Any]:
    idle = memory(service.pid, "VmRSS")
    destination = {"name": "bench", "configuration": {"path": str(folder / "dest")}, "encrypt": True}
    where = service.call("POST", "/api/backup-destinations", 201, json=destination)
    body = {"domain_name": f"{name}.example.com", "databases": [subject.row]}
    domain = service.call("POST", "/api/domains", 201, json=body)
    identity = folder / "data/keys/age-identity.txt"
    recipient = subprocess.run(
        ["age-keygen", "-y", str(identity)], capture_output=True, text=True, check=True
    ).stdout.strip()
    archive = folder / "peer.archive"
    before = subject.run(_COUNT, "bench")
    seconds: dict[str, list[tuple[float, float]]] = {"backup": [], "restore": []}
    request = {"domain_id": domain["id"], "type": "database", "destination_id": where["id"]}
    backup_id = 0

    def back_up() -> float:
        nonlocal backup_id
        taken, ended = ours(service, "/api/backups", request)
        backup_id = ended["backup_id"]
        return taken

    def restore() -> float:
        taken, _ = ours(service, f"/api/backups/{backup_id}/restore", {"clear_existing": True})
        assert subject.run(_COUNT, "bench") == before
        return taken

    def empty() -> None:
        for statement in subject.emptied:
            subject.run(statement)

    for pair in range(PAIRS):
        first = bool(pair % 2)  # whoever comes second may pay for what the first has left to be written
        theirs = partial(peer, subject.backup, str(archive), recipient)
        seconds["backup"].append(by_turns(back_up, theirs, theirs_first=first))
        empty()
        theirs = partial(peer, subject.restore, str(archive), str(identity))
        seconds["restore"].append(by_turns(restore, theirs, theirs_first=first))
        for what, taken in seconds.items():
            print(f"{name} {pair + 1}: {what}: ours {taken[-1][0]:.2f} s, theirs {taken[-1][1]:.2f} s", flush=True)
    [size] = [part["plain_size"] for part in service.call("GET", f"/api/backups/{backup_id}")["components"]]
    return {
        "dump_mib": round(size / (1 << 20)),
        "rss_mib": {"idle": round(idle, 1), "peak": round(memory(service.pid, "VmHWM"), 1)},
        **{
            what: {
                "ours_s": round(statistics.median(mine for mine, _ in taken), 2),
                "theirs_s": round(statistics.median(theirs for _, theirs in taken), 2),
                "ratio": round(statistics.median(mine / theirs for mine, theirs in taken), 3),
            }
            for what, taken in seconds.items()
        },
    }

"""A SQLite database that somebody writes all the time: every transaction touches every page."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

ROWS = 3000
_FILL = f"""
CREATE TABLE page (id INTEGER PRIMARY KEY, n INTEGER, filler BLOB);
CREATE TABLE done (n INTEGER PRIMARY KEY);
WITH RECURSIVE i (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM i WHERE x < {ROWS})
INSERT INTO page SELECT x, 0, randomblob(4000) FROM i;
"""
STEP = """
BEGIN IMMEDIATE; UPDATE page SET n = n + 1; INSERT INTO done SELECT max(n) FROM page; COMMIT;
"""
_WRITER = f"""
import os, sqlite3, sys, time
uid = int(sys.argv[2])
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(uid), os.setuid(uid)
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
database.execute("PRAGMA synchronous = OFF")
while True:
    database.executescript({STEP!r})
    print("committed", flush=True)
    time.sleep(0.02)
"""


def make(path: Path, mode: str, uid: int) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.executescript(_FILL)
    for found in path.parent.glob(f"{path.name}*"):
        os.chown(found, uid, uid if os.geteuid() == 0 else -1)


@contextmanager
def written(path: Path, uid: int) -> Iterator[None]:
    """Meanwhile it is written, with pauses of a few milliseconds; once before this goes on."""
    argv = [sys.executable, "-c", _WRITER, str(path), str(uid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"committed\n"
            drain = subprocess.Popen(["cat"], stdin=writer.stdout, stdout=subprocess.DEVNULL)
            writer.stdout.close()
            yield
            assert writer.poll() is None, "the writer has failed"
        finally:
            writer.kill()
            drain.wait(20)


def committed(path: Path) -> int:
    with closing(sqlite3.connect(path, timeout=60)) as database:
        return int(database.execute("SELECT max(n) FROM done").fetchone()[0] or 0)


def extracted(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        found.extractall(folder, filter="tar")


def state(path: Path) -> int:
    """How many transactions it holds. Fails when it does not hold them whole, and all before them."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        pages = database.execute("SELECT count(*), min(n), max(n) FROM page").fetchone()
        last, count = database.execute("SELECT coalesce(max(n), 0), count(*) FROM done").fetchone()
    assert pages == (ROWS, last, last)
    assert count == last
    return int(last)

"""A snapshot that a session of ours holds open: the dump reads it, and so does whoever asks what is in it."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing

from app.archives.streams import ByteStream, from_bytes
from app.components.postgresql_catalogue import CATALOGUE, CatalogueEntry, entries
from app.errors import ComponentError

_OPEN_SECONDS = 60
#: Of a list of what is in a database, or in a dump.
MOST_LISTED = 128 << 20
_COUNTED = re.compile(rb"^(\d+)\t(\d+)$", re.MULTILINE)

#: With no search path; a database that does not know its characters is asked for its bytes.
PLAIN = """SET search_path = '';
SELECT set_config('client_encoding',
  CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, false) AS encoding
  \\gset liberu_
"""

#: Nobody answers this session's input before the dump has ended: what it was given is told by its name, which holds
#: 63 bytes. Not everywhere may it ask where the write-ahead log is (on a standby: what of it was replayed).
_HOLD = (
    PLAIN
    + """SET idle_in_transaction_session_timeout = 0;
SET statement_timeout = 0;
\\set ON_ERROR_STOP off
\\set liberu_lsn ''
SELECT coalesce((CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text, '')
  AS lsn \\gset liberu_
\\set ON_ERROR_STOP on
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT set_config('application_name', concat('liberu {tag} ', pg_export_snapshot(), ' ', :'liberu_lsn'), false)
  AS name \\gset liberu_
"""
)
_ASK = (
    PLAIN
    + """DO $liberu$ BEGIN
  FOR i IN 1..600 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN EXISTS (SELECT FROM pg_stat_activity
      WHERE application_name LIKE 'liberu {tag} %' AND usename = session_user);
    PERFORM pg_sleep(0.05);
  END LOOP;
END $liberu$;
SELECT split_part(application_name, ' ', 3) AS snapshot, split_part(application_name, ' ', 4) AS lsn
  FROM pg_stat_activity WHERE application_name LIKE 'liberu {tag} %' AND usename = session_user \\gset liberu_
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET TRANSACTION SNAPSHOT :'liberu_snapshot';
\\echo :liberu_snapshot :liberu_lsn
"""
    + CATALOGUE
    + "COMMIT;\n"
)
#: Of each table that a dump has rows of; a row of it: number and count. A partition's number is that of the whole
#: table: loaded through that one, rows may come into other partitions (where a hash is of an enum).
COUNT = """SELECT format('SELECT %s, count(*) FROM ONLY %s', coalesce(pg_partition_root(c.oid)::oid, c.oid),
  c.oid::regclass)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \\gexec
"""


class Snapshot:
    """`psql`: what psql prints of a script, as the account that dumps. `counting`: count the rows too.

    `id`: for pg_dump's --snapshot; `objects`: what was there; `lsn`: where the log was right before, empty where that
    cannot be told."""

    def __init__(self, psql: Callable[[ByteStream], ByteStream], *, counting: bool) -> None:
        self._psql = psql
        self._counting = counting
        self._tag = secrets.token_hex(8)
        self._begun, self._dumped = asyncio.Event(), asyncio.Event()
        self._session: asyncio.Task[bytes] | None = None
        self.id = ""
        self.lsn = ""
        self.objects: list[CatalogueEntry] = []

    async def open(self) -> None:
        """Raises ComponentError, DeploymentError; nothing is left of it then."""
        self._session = asyncio.create_task(gathered(self._psql(self._held())))
        self._session.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody may ask
        asking = asyncio.create_task(gathered(self._psql(from_bytes(_ASK.replace("{tag}", self._tag).encode()))))
        try:
            await asyncio.wait({self._session, asking}, timeout=_OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                if self._session.done():
                    self._session.result()
                raise ComponentError("the server opened no snapshot in time")
            found, _, listed = asking.result().partition(b"\n")
            self.id, _, self.lsn = found.decode().strip().partition(" ")
            self.objects = await asyncio.to_thread(entries, listed)
        except BaseException:
            await stopped(asking)
            await self.close()
            raise

    async def _held(self) -> ByteStream:
        yield _HOLD.replace("{tag}", self._tag).encode()
        if self._counting:
            await self._begun.wait()
            yield COUNT.encode()
        await self._dumped.wait()
        yield b"COMMIT;\n"

    def begin(self) -> None:
        """The dump reads the snapshot: a session that fails takes it away from nobody any more, and rows are counted.
        Idempotent."""
        self._begun.set()

    def release(self) -> None:
        """The dump has ended: the session may, when it has counted."""
        self._begun.set()
        self._dumped.set()

    async def rows(self) -> dict[int, int]:
        """By the table's number; waits until they are counted. Raises ComponentError, DeploymentError."""
        if self._session is None:
            raise ComponentError("no snapshot was held open while it was dumped")
        self.release()
        return counted(await asyncio.shield(self._session))

    async def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            await stopped(self._session)
            self._session = None


async def gathered(printed: ByteStream) -> bytes:
    """All of it; not more than MOST_LISTED bytes. Raises ComponentError."""
    found = bytearray()
    async with aclosing(printed):
        async for chunk in printed:
            found += chunk
            if len(found) > MOST_LISTED:
                raise ComponentError(f"the list of what is in the database is larger than {MOST_LISTED >> 20} MiB")
    return bytes(found)


def counted(printed: bytes) -> dict[int, int]:
    """By the number of a table, of all its partitions."""
    rows: Counter[int] = Counter()
    for number, count in _COUNTED.findall(printed):
        rows[int(number)] += int(count)
    return rows


async def stopped(task: asyncio.Task[bytes]) -> None:
    """Its error is nobody's any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()

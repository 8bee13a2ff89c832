"""Whether a database is at the newest migration, found without Alembic: to load that takes a second and 7 MiB at each
start, and nearly always there is nothing to do."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db.session import Database

_NAMED = re.compile(r"""^(revision|down_revision)\b[^=\n]*=\s*["']([0-9a-f]+)["']""", re.MULTILINE)


def newest(migrations: Path) -> str | None:
    """The revision that no other one follows; None when that is not exactly one, or a file names none."""
    revisions: set[str] = set()
    followed: set[str] = set()
    for file in (migrations / "versions").glob("[!_]*.py"):
        named = dict(_NAMED.findall(file.read_text()))
        if "revision" not in named:
            return None
        revisions.add(named["revision"])
        followed.add(named.get("down_revision", ""))
    heads = revisions - followed
    return heads.pop() if len(heads) == 1 else None


async def is_at(database: Database, revision: str | None) -> bool:
    """False also where that cannot be told: Alembic tells what is wrong."""
    try:
        async with database.transaction() as session:
            found = await session.execute(text("SELECT version_num FROM alembic_version"))
            return revision is not None and found.scalars().all() == [revision]
    except DBAPIError:
        return False

"""SQLite databases that are written all the time, wherever a site runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import User
from tests.components.helpers import collect
from tests.components.sqlite_site import STEP, extracted, make, state
from tests.deployments.conftest import Place

OWNER = User(33, 33)
#: Each connection is closed again, as most sites do it.
_WRITE = f"""
while [ ! -e stop ]; do sqlite3 -cmd '.timeout 60000' shop.db "{STEP.strip()}" || exit 1; echo >>turns; done
"""


@asynccontextmanager
async def written(place: Place) -> AsyncGenerator[None, None]:
    user = OWNER if place.deployment.privileged else None
    task = asyncio.create_task(place.deployment.run(["sh", "-c", _WRITE], cwd=place.folder, user=user))
    try:
        async with asyncio.timeout(30):
            while not task.done() and "turns" not in await place.sh('ls "$1"', place.folder):
                await asyncio.sleep(0.05)
        yield
        assert not task.done()
    finally:
        await place.sh('touch "$1/stop"', place.folder)
        with suppress(Exception):
            async with asyncio.timeout(30):
                await task


async def put(place: Place, content: bytes) -> None:
    await place.deployment.run(["sh", "-c", 'cat >"$1/shop.db"', "sh", place.folder], input=content)
    if place.deployment.privileged:
        await place.sh('chown 33:33 "$1" "$1/shop.db"', place.folder)


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_a_busy_database_comes_back_whole(place: Place, tmp_path: Path, mode: str) -> None:
    make(tmp_path / "shop.db", mode, 0)
    await put(place, (tmp_path / "shop.db").read_bytes())
    if "busybox" in place.kind:
        await place.sh('printf x >"$1/shop.db-wal"', place.folder)
        dump = await FilesComponent(place.deployment, FilesTarget(place.folder, OWNER)).dump()
        await collect(dump)
        assert ("sqlite_not_consistent", "shop.db") in [(w.code, w.subject) for w in dump.report.warnings]
        return
    async with written(place):
        dump = await FilesComponent(place.deployment, FilesTarget(place.folder, OWNER)).dump()
        archive = await collect(dump)
    assert "sqlite_not_consistent" not in [warning.code for warning in dump.report.warnings]
    extracted(archive, tmp_path / "restored")
    assert state(tmp_path / "restored" / "shop.db") >= 1

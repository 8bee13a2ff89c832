"""SQLite databases of a site come back as they were at one time, whoever writes while they are read."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import from_bytes
from app.components.base import Dump
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import CommandResult, User
from app.deployments.standalone import StandaloneDeployment
from tests.components.helpers import SITE_UID, Context, codes, collect
from tests.components.sqlite_site import STEP, committed, extracted, make, state, written

OWNER = User(SITE_UID, SITE_UID if os.geteuid() == 0 else os.getegid())
TOOLS = ("tar", "find", "sh", "xargs", "head", "cat", "stat", "date", "tr", "dd", "wc", "setpriv", "env", "id")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Each tool of ours runs as its user: they must get there."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/") and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    site = tmp_path / "www"
    site.mkdir()
    (site / "index.php").write_text("<?php")
    for path in (site, site / "index.php"):
        os.chown(path, OWNER.uid, OWNER.gid)
    return site


def component(site: Path, deployment: StandaloneDeployment | None = None) -> FilesComponent:
    return FilesComponent(deployment or StandaloneDeployment(), FilesTarget(str(site), OWNER))


def only(tmp_path: Path, *more: str) -> StandaloneDeployment:
    """A machine with these tools and no others."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in (*TOOLS, *more):
        found = shutil.which(name, path="/usr/bin:/bin")
        assert found, name
        (folder / name).symlink_to(found)
    return StandaloneDeployment(str(folder))


def said(dump: Dump) -> list[tuple[str, str | None]]:
    """Without what tar says of the folder, in which journals come and go."""
    told = [(warning.code, warning.subject) for warning in (*dump.report.warnings, *dump.report.incomplete)]
    return [found for found in told if found != ("changed_while_read", ".")]


@pytest.mark.parametrize("client", ["sqlite3", "python3"])
@pytest.mark.parametrize("mode", ["delete", "truncate", "wal"])
async def test_a_busy_database_comes_back_whole(site: Path, tmp_path: Path, mode: str, client: str) -> None:
    """Every time: without care most copies are of no one time, and some are damaged."""
    make(site / "shop.db", mode, OWNER.uid)
    deployment = only(tmp_path, client)
    with written(site / "shop.db", OWNER.uid):
        for turn in range(4):
            before = committed(site / "shop.db")
            dump = await component(site, deployment).dump()
            archive = await collect(dump)
            assert said(dump) == []
            assert dump.report.facts["sqlite"] == {"copied": 1, "names": ["shop.db"]}
            folder = tmp_path / f"restored-{turn}"
            extracted(archive, folder)
            assert before <= state(folder / "shop.db") <= committed(site / "shop.db")


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_a_restore_leaves_nothing_beside_it_that_belongs_to_another_state(site: Path, mode: str) -> None:
    """The live WAL or journal of a merge, and its index, would be taken for the restored database's."""
    database = site / "data" / "shop.sqlite3"
    database.parent.mkdir()
    os.chown(database.parent, OWNER.uid, OWNER.gid)
    make(database, mode, OWNER.uid)
    with closing(sqlite3.connect(database, isolation_level=None)) as busy:
        busy.executescript(STEP)
        dump = await component(site).dump()
        archive = await collect(dump)
        assert said(dump) == []
        busy.executescript(STEP * 3)
        subprocess.run(["cp", "-a", database.parent, site / "kept"], check=True)
    shutil.rmtree(database.parent)
    (site / "kept").rename(database.parent)  # as a machine that stopped leaves it
    target = component(site)
    await target.restore(from_bytes(archive), Context(clear=False).context, len(archive))
    assert database.stat().st_uid == OWNER.uid
    assert state(database) == 1


async def test_a_database_at_rest_needs_no_tool(site: Path, tmp_path: Path) -> None:
    make(site / "shop.db", "wal", OWNER.uid)
    with closing(sqlite3.connect(site / "shop.db", isolation_level=None)) as open_database:
        open_database.executescript(STEP)  # in the WAL only
        for path in site.glob("shop.db*"):
            os.chown(path, OWNER.uid, OWNER.gid)
            os.utime(path, (1e9, 1e9))
        dump = await component(site, only(tmp_path)).dump()
        archive = await collect(dump)
    assert said(dump) == []
    extracted(archive, tmp_path / "restored")
    assert state(tmp_path / "restored" / "shop.db") == 1


async def test_without_a_tool_what_is_written_all_the_time_is_named(site: Path, tmp_path: Path) -> None:
    for name in ("shop.db", "blog.db"):
        make(site / name, "wal", OWNER.uid)
    with written(site / "shop.db", OWNER.uid):
        dump = await component(site, only(tmp_path)).dump()
        await collect(dump)
    assert ("sqlite_not_consistent", "shop.db") in said(dump)
    assert ("sqlite_not_consistent", "blog.db") not in said(dump)
    told = next(warning.message for warning in dump.report.warnings if warning.code == "sqlite_not_consistent")
    assert "install sqlite3" in told


async def test_what_a_killed_writer_has_left_is_kept_with_its_journal(site: Path, tmp_path: Path) -> None:
    """Nobody may roll it back but the site itself; the restored one does at its first use."""
    make(site / "shop.db", "delete", OWNER.uid)
    crash = (
        "import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "d.execute('PRAGMA cache_size = 2'); d.execute('PRAGMA synchronous = OFF'); "
        "d.execute('BEGIN'); d.execute('UPDATE page SET n = n + 1'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", crash, str(site / "shop.db")], check=True)
    assert (site / "shop.db-journal").stat().st_size > 0
    os.chown(site / "shop.db-journal", OWNER.uid, OWNER.gid)
    before = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in site.iterdir())
    dump = await component(site).dump()
    archive = await collect(dump)
    assert said(dump) == []
    assert sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in site.iterdir()) == before
    extracted(archive, tmp_path / "restored")
    assert state(tmp_path / "restored" / "shop.db") == 0


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_nothing_is_made_or_changed_beside_a_live_database(site: Path, mode: str) -> None:
    make(site / "shop.db", mode, OWNER.uid)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in site.iterdir())
    dump = await component(site).dump()
    await collect(dump)
    assert said(dump) == []
    assert sorted((path.name, path.stat().st_mtime_ns) for path in site.iterdir()) == before


async def test_odd_names_and_deep_folders(site: Path, tmp_path: Path) -> None:
    names = [
        "a &, b\\1/ü 😀/it's;$(x).db",
        "-rf/-x.sqlite",
        "%41?#/q?mode=rwc.sqlite3",
        f"{'x' * 120}/{'y' * 150}.db",
    ]
    for name in names:
        (site / name).parent.mkdir(parents=True)
        make(site / name, "wal", OWNER.uid)
    (site / "not one.db").write_text("Thumbs")
    (site / "empty.db").touch()
    with closing(sqlite3.connect(site / names[0], isolation_level=None)) as busy:
        busy.executescript(STEP)
        for path in site.rglob("*"):
            os.chown(path, OWNER.uid, OWNER.gid)
        dump = await component(site).dump()
        archive = await collect(dump)
    assert said(dump) == []
    assert dump.report.facts["sqlite"]["names"] == [names[0], *sorted(names[1:])]
    extracted(archive, tmp_path / "restored")
    assert [state(tmp_path / "restored" / name) for name in names] == [1, 0, 0, 0]
    assert (tmp_path / "restored" / "not one.db").read_text() == "Thumbs"


async def test_a_name_of_other_bytes_is_named_when_it_is_in_use(site: Path) -> None:
    path = os.fsencode(site) + b"/\xff.db"
    make(Path(os.fsdecode(path)), "wal", OWNER.uid)
    with closing(sqlite3.connect(path, isolation_level=None)) as busy:
        busy.executescript(STEP)
        dump = await component(site).dump()
        await collect(dump)
    assert said(dump) == [("sqlite_not_consistent", "\\xff.db")]


class Interrupted(StandaloneDeployment):
    """Somebody acts after the WAL was read, and before its header is looked at again."""

    def __init__(self, database: sqlite3.Connection) -> None:
        super().__init__()
        self._database = database

    async def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
        if argv[0] == "head":
            self._database.executescript(STEP)
        return await super().run(argv, **options)


async def test_a_wal_that_is_begun_anew_while_it_is_read_is_not_taken(site: Path, tmp_path: Path) -> None:
    """All of it is in the database then: half of the old one would take pages back."""
    make(site / "shop.db", "wal", OWNER.uid)
    with closing(sqlite3.connect(site / "shop.db", isolation_level=None)) as busy:
        busy.executescript(STEP)
        busy.execute("PRAGMA wal_checkpoint(PASSIVE)")  # all is in the database: the next who writes begins anew
        for path in site.glob("shop.db*"):
            os.chown(path, OWNER.uid, OWNER.gid)
        old = (site / "shop.db-wal").read_bytes()[:32]
        dump = await component(site, Interrupted(busy)).dump()
        archive = await collect(dump)
        assert (site / "shop.db-wal").read_bytes()[:32] != old
    assert said(dump) == []
    extracted(archive, tmp_path / "restored")
    assert (tmp_path / "restored" / "shop.db-wal").stat().st_size == 0
    assert state(tmp_path / "restored" / "shop.db") == 1


async def test_links_and_exclusions_are_left_alone(site: Path, tmp_path: Path) -> None:
    make(tmp_path / "elsewhere.db", "wal", OWNER.uid)
    (site / "link.db").symlink_to(tmp_path / "elsewhere.db")
    make(site / "cache.db", "wal", OWNER.uid)
    target = FilesTarget(str(site), OWNER, exclusions=["cache.db*"])
    dump = await FilesComponent(StandaloneDeployment(), target).dump()
    extracted(await collect(dump), tmp_path / "restored")
    assert codes(dump.report) == []
    assert "sqlite" not in dump.report.facts
    assert sorted(path.name for path in (tmp_path / "restored").iterdir()) == ["index.php", "link.db"]


async def test_a_cache_that_saves_into_the_site_is_named(site: Path) -> None:
    (site / "dump.rdb").write_bytes(b"REDIS0011")
    dump = await component(site).dump()
    await collect(dump)
    assert said(dump) == [("cache_not_backed_up", "dump.rdb")]

"""A tenant acts at every moment of a backup or a restore: at each call that root makes on this machine, as fast as
they can elsewhere. Nothing of anybody else is read, changed or given away, and nothing of theirs is lost unnamed."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.archives.streams import from_bytes
from app.components.base import RestoreContext
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import CommandResult, Deployment, User
from app.deployments.standalone import StandaloneDeployment
from app.errors import LiberuError
from tests.attacks.conftest import SECRET, Field, Home
from tests.attacks.moments import before_each
from tests.attacks.tenant import UID, Tenant, facts
from tests.components.helpers import Context, collect
from tests.deployments.test_swap_matrix import Faulty, _Entries

OWNER = User(UID, UID)
STAGING = ".liberu-restore-op1"


BACKUPS = 6


@pytest.mark.parametrize("field", ["standalone", "ssh", "docker-gnu", "docker-busybox"], indirect=True)
async def test_a_tenant_wants_what_lies_elsewhere_in_their_backup(field: Field) -> None:
    """A folder, and a file, are a link to somewhere else every other moment while they are read."""
    site, canary = field.there(field.home.site), field.there(field.home.canary)
    component = FilesComponent(field.deployment, FilesTarget(site, OWNER))
    for number in range(40):
        (field.home.site / f"sub/deep/{number:02}.php").write_text("x" * 20000)
    own(field.home.site)
    field.tenant.do("os.symlink(canary, site + '/flip')", site=site, canary=canary)
    field.tenant.do("os.symlink(canary + '/secret', site + '/file')", site=site, canary=canary)
    flips = "exchange(site + '/sub', site + '/flip'); exchange(site + '/a.php', site + '/file')"
    with field.tenant.racing(flips, site=site) as racer:
        for _ in range(BACKUPS):
            with suppress(LiberuError):  # a folder that is never there when it is looked for is told
                assert SECRET.encode() not in await collect(await component.dump())
    assert racer.turns > 100


@pytest.mark.parametrize("links", ["0", ""])
async def test_a_tenant_wants_a_file_of_root_s_in_their_backup(home: Home, links: str) -> None:
    """By a hard link of it, where the kernel lets them make one, or does not tell."""
    os.link(home.key, home.site / "mine")
    real = StandaloneDeployment()

    class Kernel(Faulty):
        async def run(self, argv: Any, **options: Any) -> CommandResult:
            if argv[-1].endswith("/protected_hardlinks"):
                return CommandResult(0 if links else 1, f"{links}\n".encode(), "")
            return await real.run(argv, **options)

    kernel: Any = Kernel(real, real.tree)
    dump = await FilesComponent(kernel, FilesTarget(str(home.site), OWNER)).dump()
    content = await collect(dump)
    print(f"root's key is in the backup: {SECRET.encode() in content}; {[w.message for w in dump.report.incomplete]}")
    assert SECRET.encode() not in content
    assert [warning.subject for warning in dump.report.incomplete] == ["mine"]
    assert "hard_links_unprotected" in [warning.code for warning in dump.report.warnings]


#: What the tenant does all the time; what it takes to undo it is part of it.
RACES = {
    "sub": "exchange(site + '/sub', site + '/flip')",
    "site": "exchange(site, home + '/link')",
    "staging": "for top in (home, site):\n"
    "  if os.path.lexists(top + '/.liberu-restore-op1'):\n"
    "    os.rename(top + '/.liberu-restore-op1', home + '/away'); os.symlink(canary, top + '/.liberu-restore-op1')\n"
    "    os.unlink(top + '/.liberu-restore-op1'); os.rename(home + '/away', top + '/.liberu-restore-op1')\n",
    "what is extracted": "if 'new' in kept:\n"
    "  exchange('sub', 'flip', kept['new'])\n"
    "else:\n"
    "  for process in os.listdir('/proc'):\n"
    "    try:\n"
    "      if os.readlink('/proc/%s/cwd' % process).endswith('/new'):\n"
    "        kept['new'] = os.open('/proc/%s/cwd' % process, os.O_RDONLY)\n"
    "        os.symlink(canary, 'flip', dir_fd=kept['new'])\n"
    "    except OSError: pass\n",
}


@pytest.mark.parametrize("field", ["standalone", "entries", "ssh", "docker-gnu", "docker-busybox"], indirect=True)
async def test_a_tenant_races_with_a_restore(field: Field) -> None:
    site, canary = field.there(field.home.site), field.there(field.home.canary)
    target = FilesTarget(site, OWNER, allowed_uids=frozenset({33}))
    os.chown(field.home.site / "sub" / "secret", 33, UID)  # given away by root when it is restored
    content = await collect(await FilesComponent(field.deployment, target).dump())
    names = {"site": site, "canary": canary, "home": field.there(field.home.folder)}
    field.tenant.do("os.symlink(canary, site + '/flip'); os.symlink(canary, home + '/link')", **names)
    endings: dict[str, str] = {}
    runs = [True, False] * 2 if field.kind in ("standalone", "entries") else [True]
    for number, (race, clear) in enumerate(itertools.product(RACES, runs)):
        field.tenant.do("kept.clear()")
        journal = Journal(field.deployment, target, clear ^ (number % 3 == 1))
        with field.tenant.racing(RACES[race], **names):
            endings[race] = endings.get(race, "") + f"{await journal.run(content)} "
        field.tenant.do("os.path.islink(site) and exchange(site, home + '/link')", **names)
        await journal.after()
        assert facts(field.home.canary) == field.home.outside, race
        field.home.unharmed()
    print(f"{field.kind}: {endings}")


def own(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)


def entries_only(deployment: Deployment) -> Any:
    return Faulty(deployment, _Entries(deployment.tree))


#: What the tenant does at one moment. `staging` is the folder's name where the mode puts it.
DEEDS = {
    "own folder": "os.rename(staging, home + '/away'); os.mkdir(staging); os.mkdir(staging + '/new');"
    "os.mkdir(staging + '/old')",
    "own link": "os.rename(staging, home + '/away'); os.symlink(canary, staging)",
    "away": "os.rename(staging, home + '/away')",
    "root's folder": "os.rename(staging, home + '/away'); os.rename(home + '/private', staging)",
    "site a link": "os.rename(site, home + '/was'); os.symlink(canary, site)",
    "site root's": "os.rename(site, home + '/was'); os.rename(home + '/private', site)",
    "parent a link": "os.rename(home, home + '-was'); os.symlink(canary, home)",
    "sub a link": "os.rename(site + '/sub', home + '/was'); os.symlink(canary, site + '/sub')",
    "names": "open(site + '/-rf', 'w').close(); open(site + '/a\\nb', 'w').close(); os.mkdir(site + '/--help')",
}


class Journal:
    """A restore with a journal that outlives an attempt."""

    def __init__(self, deployment: Any, target: FilesTarget, clear: bool) -> None:
        self.component = FilesComponent(deployment, target)
        self.journal: dict[str, Any] = {}
        context = Context(clear=clear).context
        self.context: RestoreContext = dataclasses.replace(context, record=self._record, journal=self.journal)

    async def _record(self, entry: dict[str, Any]) -> None:
        self.journal.update(entry)

    async def run(self, content: bytes) -> str:
        """What became of it; errors that have no name pass through."""
        try:
            await self.component.restore(from_bytes(content), self.context, len(content))
        except LiberuError as error:
            assert error.message
            return type(error).__name__
        return "completed"

    async def after(self) -> str:
        """What the next attempt and housekeeping make of it."""
        try:
            state = (await self.component.settle(self.context)).state
            await self.component.tidy(self.journal)
        except LiberuError as error:
            assert error.message
            return type(error).__name__
        return state


def contents(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def again(home: Home) -> None:
    """The home as it was, with a live site that differs from its backup."""
    top = home.canary.parent
    for path in (home.folder, top / "home-was"):
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
    (home.site / "sub" / "deep").mkdir(parents=True)
    for name in ("a.php", "new.php", "sub/c.php", "sub/deep/new.php"):
        (home.site / name).write_text(f"live {name}")
    own(home.folder)
    home.private.mkdir(mode=0o700)
    for path in (home.key, home.private / "inner"):
        path.write_text(SECRET)
        path.chmod(0o600)


@pytest.mark.parametrize("mode", ["exchange", "entries"])
@pytest.mark.parametrize("clear", [True, False])
async def test_a_tenant_acts_at_every_call_of_a_restore(home: Home, tenant: Tenant, mode: str, clear: bool) -> None:
    real = StandaloneDeployment()
    deployment = real if mode == "exchange" else entries_only(real)
    content = await collect(await FilesComponent(real, FilesTarget(str(home.site), OWNER)).dump())
    staging = (home.folder if mode == "exchange" else home.site) / STAGING
    names = {"home": home.folder, "site": home.site, "staging": staging, "canary": home.canary}

    async def attempt(at: int, deed: str) -> tuple[int, str]:
        """How many calls there were, and how it ended."""
        again(home)
        before = contents(home.site)
        calls = 0

        def act(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal calls
            if staging.exists():  # until then there is nothing of root's
                calls += 1
                if calls == at:
                    tenant.do(DEEDS[deed], **names)

        journal = Journal(deployment, FilesTarget(str(home.site), OWNER), clear)
        with before_each(act):
            ended = await journal.run(content)
        settled = await journal.after()
        case = f"{deed} at call {at}: {ended}, then {settled}"
        assert facts(home.canary) == home.outside, case
        home.unharmed()
        found = contents(home.folder) | contents(Path(f"{home.folder}-was"))
        assert SECRET in found, case
        if ended != "completed" and settled not in ("done",):
            assert before <= found, case
        return calls, ended

    calls, ended = await attempt(-1, "away")
    assert ended == "completed"
    assert calls > 20, calls
    endings: dict[str, int] = {}
    deeds = itertools.cycle(DEEDS)
    for at in range(1, calls + 1, 2 if mode == "exchange" else 5):
        _, ended = await attempt(at, next(deeds))
        endings[ended] = endings.get(ended, 0) + 1
    print(f"{mode}, {calls} calls: {endings}")

"""Whatever fails in a restore of files, and wherever: the live tree is the old or the new one, and nothing of either
is lost without a word. The cases are made from the state machine: a step of it without cases fails.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.archives.streams import ByteStream, from_bytes
from app.components.base import RestoreContext
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.deployments.base import Deployment, User
from app.deployments.swap import TRANSITIONS, pack, unpack
from app.deployments.tree import SiteTree, SwapPlan
from app.errors import (
    DeploymentUnreachable,
    DestinationUnreachable,
    LiberuError,
    NoSpace,
    OperationCancelled,
    SwapImpossible,
    SwapUnfinished,
)
from demo.kubernetes_double import ClusterDouble
from tests import sampling
from tests.components.helpers import Context, collect
from tests.deployments.conftest import Place

KINDS = ["standalone", "entries", "ssh-sudo", "docker-gnu", "docker-busybox", "kubernetes-gnu"]
HERE = ("standalone", "entries")
#: What a swap calls that changes something, and what it journals; (name, how far it comes).
CHANGING = ("prepare", "merge", "measure", "forward", "carry_over", "remove")
POINTS = [
    *((step, when) for step in CHANGING for when in ("before", "after")),
    ("forward", "middle"),
    ("forward", "late"),
    ("confirm", "before"),
    *((f"record {state}", when) for state in ("planned", "begun", "swapped") for when in ("before", "after")),
]
FAULTS = ["killed", "no space", "line down", "cancelled"]
#: What comes after: the same operation goes on, is given up, or goes on and its destination is away.
AFTERMATHS = ["goes on", "given up", "destination away"]


class Killed(BaseException):
    """Nothing runs after it."""


class FaultyTree:
    """A tree where one step fails. `killed` and `line down` last: no later call gets through either."""

    def __init__(self, real: SiteTree, fault: Fault) -> None:
        self._real = real
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **options: Any) -> Any:
            self._fault.lasts()
            self._fault.meet(name, "before")
            if name == "forward" and self._fault.step == "forward" and self._fault.when in ("middle", "late"):
                await self._part(arguments[0])
            result = await method(*arguments, **options)
            self._fault.meet(name, "after")
            return result

        return call

    async def _part(self, plan: SwapPlan) -> None:
        """As far as it comes: some entries have been moved."""
        names = unpack(plan.names)
        if not names:  # one rename: there is no middle
            self._fault.strike()
        some = names[: len(names) // 2 if self._fault.when == "middle" else -1]
        await self._real.forward(dataclasses.replace(plan, names=pack(some)))
        self._fault.strike()


@dataclasses.dataclass
class Fault:
    step: str
    when: str
    kind: str
    struck: bool = False
    cancel: Callable[[], None] = lambda: None

    def meet(self, step: str, when: str) -> None:
        if (step, when) == (self.step, self.when) and not self.struck:
            self.strike()

    def strike(self) -> None:
        self.struck = True
        if self.kind == "cancelled":
            self.cancel()
            raise OperationCancelled("The operation was cancelled")
        raise {
            "killed": Killed(),
            "no space": NoSpace("No space left"),
            "line down": DeploymentUnreachable("The line is down"),
        }[self.kind]

    def lasts(self) -> None:
        if self.struck and self.kind == "killed":
            raise Killed
        if self.struck and self.kind == "line down":
            raise DeploymentUnreachable("The line is down")


class Faulty:
    """A deployment whose tree is another one."""

    def __init__(self, real: Deployment, tree: Any) -> None:
        self._real = real
        self.tree = tree

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Restore:
    """One attempt at a restore, with a journal that outlives it."""

    def __init__(self, place: Place, site: str, clear: bool, journal: dict[str, Any], fault: Fault | None) -> None:
        deployment: Any = place.deployment
        if place.kind == "entries":
            tree = _Entries(deployment.tree)
            deployment = Faulty(deployment, tree)
        if fault is not None:
            deployment = Faulty(deployment, FaultyTree(deployment.tree, fault))
            fault.cancel = self._cancel
        owner = User(33, 33) if place.deployment.privileged else User(0, 0)
        self.component = FilesComponent(deployment, FilesTarget(site, owner))
        self.journal = journal
        self._fault = fault
        self._cancelled = False
        made = Context(clear=clear)
        self.context: RestoreContext = dataclasses.replace(
            made.context, confirm=self._confirm, record=self._record, journal=journal, keep_hours=0
        )

    def _cancel(self) -> None:
        self._cancelled = True

    async def _confirm(self) -> None:
        if self._fault is not None:
            if self._fault.struck and self._fault.kind == "killed":
                raise Killed
            self._fault.meet("confirm", "before")
        if self._cancelled:
            raise OperationCancelled("The operation was cancelled")

    async def _record(self, entry: dict[str, Any]) -> None:
        state = (entry.get("plan") or {}).get("state")
        if self._fault is not None:
            if self._fault.struck and self._fault.kind == "killed":
                raise Killed
            self._fault.meet(f"record {state}", "before")
        self.journal.update(copy.deepcopy(entry))
        if self._fault is not None:
            self._fault.meet(f"record {state}", "after")

    async def run(self, content: bytes) -> Any:
        return await self.component.restore(from_bytes(content), self.context, len(content))

    async def settle(self, *, resumes: bool) -> str:
        return (await self.component.settle(dataclasses.replace(self.context, resumes=resumes))).state

    async def tidy(self) -> None:
        await self.component.tidy(self.journal)


class _Entries:
    """This machine, where a whole folder cannot be exchanged."""

    def __init__(self, real: SiteTree) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def swap_mode(self, path: str) -> str:
        return "entries"


_SITE = """
set -e
mkdir -p "$1/www/deep/er" "$1/www/uploads" "$1/www/only old"
cd -- "$1/www"
for name in a b c d e; do echo "$name" >"$name.php"; done
echo in >deep/er/in
echo hidden >.htaccess
ln -s deep/er link
[ "$(id -u)" != 0 ] || chown -hR 33:33 .
"""
_CHANGE = """
set -e
cd -- "$1"
echo changed >a.php; rm b.php deep/er/in; echo new >new.php; mkdir extra; echo x >extra/x; echo y >"only old/y"
[ "$(id -u)" != 0 ] || chown -hR 33:33 .
"""
_FACTS = r"""
cd -- "$1"
find . ! -path './.liberu-restore-*' -exec stat -c '%n %A %u:%g' {} \; | sort
find . ! -path './.liberu-restore-*' -type f -exec md5sum {} \; | sort
"""


async def facts(place: Place, site: str) -> list[str]:
    return (await place.sh(_FACTS, site)).splitlines()


async def staging(place: Place) -> str:
    return (await place.sh('find "$1" -name ".liberu-restore-*" -prune', place.folder)).strip()


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest) -> AsyncGenerator[Place, None]:
    from tests.deployments import conftest

    real = "standalone" if request.param == "entries" else request.param
    request.param, kind = real, request.param
    made = conftest.place.__wrapped__ if hasattr(conftest.place, "__wrapped__") else None
    assert made is not None
    async for found in made(request):
        yield Place(kind, found.deployment, found.folder)


async def prepared(place: Place, clear: bool) -> tuple[str, bytes, list[str], list[str]]:
    """The site as it is live, the backup that is restored, what is live as facts, and what it is once restored."""
    site = f"{place.folder}/www"
    await place.sh(_SITE, place.folder)
    content = await collect(await Restore(place, site, clear, {}, None).component.dump())
    await place.sh(_CHANGE, site)
    old = await facts(place, site)
    trial = Restore(place, site, clear, {}, None)
    await trial.run(content)
    await trial.tidy()
    new = await facts(place, site)
    await place.sh('rm -rf "$1/www"', place.folder)
    await place.sh(_SITE, place.folder)
    await place.sh(_CHANGE, site)
    assert await facts(place, site) == old != new
    return site, content, old, new


def cases() -> Iterator[tuple[str, str, str, str]]:
    """Each point with each fault, what comes after in turn."""
    number = 0
    for fault in FAULTS:
        for step, when in POINTS:
            yield step, when, fault, AFTERMATHS[number % len(AFTERMATHS)]
            number += 1


def test_every_state_has_cases() -> None:
    entered = {step.removeprefix("record ") for step, _ in POINTS if step.startswith("record ")}
    assert set(TRANSITIONS) - {"undone", "tidied"} == entered, "a state that is entered without a case"
    reads = {
        "status", "swap_mode", "mounts", "immutable", "matching", "inventory", "sync", "holds_old", "set_owners",
        "add_missing", "backward", "make_folder",
    }  # fmt: skip
    assert set(SiteTree.__abstractmethods__) - reads == set(CHANGING), "a step that changes something without a case"
    assert len(list(cases())) * len(KINDS) >= 150


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("fault_kind", FAULTS)
async def test_the_live_tree_is_the_old_or_the_new_one(place: Place, fault_kind: str, clear: bool) -> None:
    if (KINDS.index(place.kind) + FAULTS.index(fault_kind)) % 2 == clear and place.kind not in HERE:
        pytest.skip("another place elsewhere has this one")
    site, content, old, new = await prepared(place, clear)
    mine = [
        (step, when, aftermath)
        for step, when, kind, aftermath in cases()
        if kind == fault_kind
        and not (clear and step in ("merge", "carry_over"))
        # Elsewhere a case takes seconds: the other half of the points is another place's.
        and (place.kind in HERE or POINTS.index((step, when)) % 2 == KINDS.index(place.kind) % 2)
    ]
    for step, when, aftermath in sampling.sampled(f"{place.kind} {fault_kind} {clear}", mine, 3):
        case = f"{step} {when}: {fault_kind}, {aftermath}"
        journal: dict[str, Any] = {}
        fault = Fault(step, when, fault_kind)
        first = Restore(place, site, clear, journal, fault)
        status = "completed"
        try:
            await first.run(content)
            await first.tidy()
        except (Killed, LiberuError) as error:
            status = "killed" if isinstance(error, Killed) else "failed"
            if isinstance(error, SwapUnfinished):
                assert ".liberu-restore-" in error.message, f"{case}: it must name where the old entries are"
        assert fault.struck or (step, fault_kind) == ("remove", "cancelled"), f"{case}: never happened"
        found = await facts(place, site)
        if status == "failed" and not journal.get("unsettled"):
            assert found in (old, new), case
        if status == "completed":
            assert found == new, case
        state = await aftermath_of(place, site, clear, journal, aftermath, content)
        found = await facts(place, site)
        assert found in (old, new), f"{case}: neither old nor new, {state}"
        assert (found == new) == (state == "done"), f"{case}: told {state}"
        assert await staging(place) == "", case
        await place.sh('rm -rf "$1/www"', place.folder)
        await place.sh(_SITE, place.folder)
        await place.sh(_CHANGE, site)


async def aftermath_of(
    place: Place, site: str, clear: bool, journal: dict[str, Any], aftermath: str, content: bytes
) -> str:
    """What the next attempt, or whoever gives the operation up, says of it."""
    again = Restore(place, site, clear, journal, None)
    state = await again.settle(resumes=aftermath != "given up")
    if aftermath == "goes on":
        await again.run(content)
        state = "done"
    elif aftermath == "destination away" and state != "done":

        async def away() -> ByteStream:
            raise DestinationUnreachable("The destination does not answer")
            yield b""

        with pytest.raises(DestinationUnreachable):
            await again.component.restore(away(), again.context, len(content))
        state = "untouched"
    await again.tidy()
    return state


@contextmanager
def mounted(place: Place, request: pytest.FixtureRequest, path: str, kind: str) -> Iterator[None]:
    """With a mount at a path of the site; a pod of the double is a folder, with a namespace of mounts of its own."""
    enter: list[str] = []
    if place.kind.startswith("kubernetes"):
        double: ClusterDouble = request.getfixturevalue("cluster")
        enter, path = double.entered(), f"{double.folder / place.kind.partition('-')[2]}{path}"
    source = ("-t", "tmpfs", "none") if kind == "tmpfs" else ("--bind", path)
    subprocess.run([*enter, "mount", *source, path], check=True)
    try:
        yield
    finally:
        subprocess.run([*enter, "umount", path], check=True)


@pytest.mark.parametrize("clear", [True, False])
async def test_an_entry_that_nobody_may_move_is_named_before_anything_changes(place: Place, clear: bool) -> None:
    if place.kind.startswith(("docker", "kubernetes")):
        pytest.skip("there is no lsattr in these images: see the next test")
    site, content, old, _ = await prepared(place, clear)
    await place.sh('chattr +i "$1/d.php"', site)
    try:
        attempt = Restore(place, site, clear, {}, None)
        with pytest.raises(LiberuError, match=r"d\.php.*chattr") as caught:
            await attempt.run(content)
        assert caught.value.code == "target_protected"
        assert await facts(place, site) == old
    finally:
        await place.sh('chattr -i "$1/d.php"', site)
    assert await staging(place) == ""


@pytest.mark.parametrize("clear", [True, False])
async def test_an_entry_that_cannot_be_moved_half_way_undoes_what_was_moved(
    place: Place, clear: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A mount that appears at the last moment: EBUSY in the middle of the swap."""
    if place.kind not in ("entries", "ssh-sudo", "kubernetes-gnu"):
        pytest.skip("a whole folder is exchanged, or the container may not mount")
    site, content, old, new = await prepared(place, clear)

    async def none(*_: Any, **__: Any) -> list[str]:
        return []

    attempt = Restore(place, site, clear, {}, None)
    real = attempt.component._deployment.tree
    monkeypatch.setattr(type(real._real if isinstance(real, _Entries) else real), "mounts", none)
    with mounted(place, request, f"{site}/d.php", "bind"):
        with pytest.raises((SwapImpossible, SwapUnfinished), match=r"d\.php"):
            await attempt.run(content)
        assert await facts(place, site) == old
    await Restore(place, site, clear, attempt.journal, None).tidy()
    assert await staging(place) == ""
    again = Restore(place, site, clear, {}, None)
    await again.run(content)
    assert await facts(place, site) == new


async def test_a_file_system_inside_the_site_is_never_touched(place: Place, request: pytest.FixtureRequest) -> None:
    if place.kind.startswith("docker"):
        pytest.skip("the container may not mount")
    site, content, old, _ = await prepared(place, True)
    with mounted(place, request, f"{site}/uploads", "tmpfs"):
        await place.sh('echo precious > "$1/uploads/photo"', site)
        with pytest.raises(LiberuError, match="uploads") as caught:
            await Restore(place, site, True, {}, None).run(content)
        assert caught.value.code == "target_protected"
        assert await place.sh('cat "$1/uploads/photo"', site) == "precious\n"
    assert await facts(place, site) == old
    assert await staging(place) == ""


async def test_what_arrives_under_a_restored_name_is_kept(place: Place) -> None:
    """Between the moment its old entry is moved out and the new one is moved in."""
    if place.kind == "standalone":
        pytest.skip("one rename: there is no moment in between")
    site, content, _, _ = await prepared(place, True)
    attempt = Restore(place, site, True, {}, None)
    tree = attempt.component._deployment.tree

    class Arriving(_Entries):
        async def swap_mode(self, path: str) -> str:
            return "entries"

        async def forward(self, plan: SwapPlan) -> list[str]:
            only = [name for name in unpack(plan.names) if name == b"ba.php"]
            await place.sh('mv "$1/a.php" "$1/$2/old/" && echo arrived >"$1/a.php"', site, plan.staging_name)
            assert only
            return await self._real.forward(plan)

    attempt.component._deployment = Faulty(attempt.component._deployment, Arriving(tree))  # type: ignore[assignment]
    report = await attempt.run(content)
    assert [warning.code for warning in report.warnings if warning.code == "arrived_meanwhile"], report.warnings
    kept = await place.sh('cat "$1"/.liberu-restore-*/arrived/a.php*', site)
    assert kept == "arrived\n"
    assert await place.sh('cat "$1/a.php"', site) == "a\n"

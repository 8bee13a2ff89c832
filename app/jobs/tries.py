"""A part of a backup or restore whose stream is cut is begun again, where its site runs then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from app.archives.manifest import Warning_
from app.deployments.site import Serving
from app.errors import (
    CommandFailed,
    ComponentError,
    ConsentRequired,
    DatabaseAccessDenied,
    DatabaseUnreachable,
    DeploymentUnreachable,
    LiberuError,
    ObjectsRefused,
    ProofImpossible,
    RestoreUnsettled,
    StreamCut,
    SwapUnfinished,
    TargetGone,
    TargetMissing,
    ToolMissing,
)
from app.jobs.context import JobContext, Result
from app.services.components import DomainSite
from app.settings import JobSettings

T = TypeVar("T")
log = logging.getLogger(__name__)
_CUT = (StreamCut, DeploymentUnreachable, TargetGone)
#: What a place that was there is like while it comes back.
_COMING = (*_CUT, TargetMissing, DatabaseUnreachable)
#: What a command, or a database's client, may tell of a server that ends.
_BY_THE_END = (CommandFailed, ComponentError)
_NEVER = (DatabaseAccessDenied, ObjectsRefused, ProofImpossible)
#: What may have been cut while it made ready, or was put right: its cause tells.
_AROUND = (ConsentRequired, RestoreUnsettled, SwapUnfinished)
_LAST_PAUSE = 15.0


def cut(error: LiberuError, *, again: bool = False, ended: bool = False) -> bool:
    """Whether a part has failed because it was cut off from its site, which may be there again soon: decided here and
    nowhere else. `again`: it was cut off before. `ended`: what it ran in has: as a database's server that hangs up
    when its pod is deleted."""
    found: BaseException | None = error
    while isinstance(found, _AROUND):
        found = found.__cause__
    kinds = (*_CUT, *(_COMING if again else ()), *(_BY_THE_END if ended else ()))
    return isinstance(found, kinds) and not isinstance(found, _NEVER)


class Tries:
    """Of one part, `kind` and `name` at a site. A place that nothing of the operation has reached is not waited
    for: then it was not cut off."""

    def __init__(
        self, settings: JobSettings, context: JobContext, site: DomainSite, number: int, kind: str, name: str
    ) -> None:
        self._most = settings.part_tries
        self._seconds = settings.part_wait_seconds
        self._context = context
        self._site = site
        self._number, self._kind, self._name = number, kind, name
        self._served: Serving | None = None
        self._cuts: list[str] = []

    def began(self) -> None:
        """Comes when the component was built: in which pod it is."""
        self._served = self._site.serving(self._kind, self._name)

    async def run(self, work: Callable[[], Awaitable[T]], volume: str | None = None) -> T:
        """What `work` returns, which changes nothing when it fails; `volume`: as for `after`. Raises what it raised
        last."""
        while True:
            try:
                return await work()
            except LiberuError as error:
                if not await self.after(error, volume):
                    raise

    async def after(self, error: LiberuError, volume: str | None = None) -> bool:
        """Whether the part may be tried again after this: its place is there again then, with `volume`, where a
        restore had begun. Otherwise `error` tells what had happened. Raises nothing."""
        served, self._served = self._served, None
        fate = None
        if self._site.reached and cut(error, again=True, ended=True):
            fate = await self._site.fate(served)
        if not (self._site.reached and cut(error, again=bool(self._cuts), ended=fate is not None and fate.ended)):
            if self._cuts:
                _add(error, f"before, {self._told()}")
            return False
        self._cuts.append(error.message if fate is None else fate.told)
        log.info("%s of operation %s was cut off: %s", self._name, self._context.uid, self._cuts[-1])
        problem: str | None = ""
        if len(self._cuts) < self._most:
            problem = await self._there(volume)
        if problem is None:
            return True
        _add(error, self._told() if fate else "", problem, self._counted())
        return False

    def warnings(self) -> list[Result]:
        """Of a part that went well at last."""
        if not self._cuts:
            return []
        message = f"was begun again, since {self._told()}"
        return [Warning_(code="tried_again", message=message[:1000], subject=self._name).model_dump()]

    def _told(self) -> str:
        return "; then ".join(dict.fromkeys(self._cuts))

    def _counted(self) -> str:
        return f"it was begun {len(self._cuts)} times" if len(self._cuts) > 1 else ""

    async def _there(self, volume: str | None) -> str | None:
        """Wait until the place is there again. None: it is; else why not."""
        began, last = time.monotonic(), ""
        try:
            async with asyncio.timeout(self._seconds):
                for pause in _pauses():
                    self._tell(f"the site of its {self._kind} again: {self._cuts[-1]}")
                    await asyncio.sleep(pause)
                    try:
                        await self._site.again(self._kind, self._name, volume)
                        return None
                    except (*_COMING, ToolMissing) as error:
                        last = error.message
                    except TimeoutError:
                        last = "it does not answer"
        except TimeoutError:
            return f"it was waited for in vain until now: {last}" if last else "it was not waited for"
        except LiberuError as error:
            return error.message
        finally:
            self._seconds -= min(self._seconds, time.monotonic() - began)
            self._tell(None)
        return None

    def _tell(self, what: str | None) -> None:
        entry: dict[str, Any] = self._context.progress.get(str(self._number), {})
        entry.pop("waits_for", None)
        if what is not None and entry:
            self._context.note(self._number, waits_for=what, tries=len(self._cuts) + 1)


def _pauses() -> Iterator[float]:
    pause = 1.0
    while True:
        yield pause
        pause = min(pause * 2, _LAST_PAUSE)


def _add(error: LiberuError, *told: str) -> None:
    """Also to what it is around, which may be what is told at last."""
    error.message = "; ".join([error.message, *filter(None, told)])
    error.args = (error.message,)
    if isinstance(error, _AROUND) and isinstance(error.__cause__, LiberuError):
        _add(error.__cause__, *told)

"""The server: uvicorn's, with bounds for connections, enough descriptors, and an end that comes."""

from __future__ import annotations

import faulthandler
import resource
import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from app.api.clients import Trusted, network_of
from app.api.connections import Bounds, Connections
from app.settings import ServerSettings

#: Descriptors that are kept for work: databases, destinations, files, pipes to commands.
_RESERVE = 1024
#: Connections that may wait to be accepted, and so be open for a moment beyond the limit.
_BACKLOG = 2048
#: More descriptors are of no use, and some programs that we start close each one that there could be.
_MOST_DESCRIPTORS = 65536
_FASTER_SECONDS = 2
#: Long, since the oldest ones make room when there is none: to be asked anew costs more than to wait.
_IDLE_SECONDS = 60


def raise_descriptors() -> int:
    """The soft limit of open files becomes the hard one; what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def connections_for(descriptors: int, wanted: int) -> tuple[int, int]:
    """How many connections, and how many of them may wait to be accepted: at least half of the descriptors, or
    `_RESERVE`, are for work."""
    room = descriptors - min(_RESERVE, descriptors // 2)
    backlog = min(_BACKLOG, room // 2)
    return max(1, min(wanted, room - backlog)), max(1, backlog)


class Server(uvicorn.Server):
    """Ends within `grace` seconds of the first SIGTERM, and at once at the second: what runs is taken up again by the
    next start, as after a crash. A thread of C watches over that: it ends a process whatever that is at."""

    def __init__(self, config: uvicorn.Config, grace: float) -> None:
        super().__init__(config)
        self._grace = grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        again = self.should_exit
        super().handle_exit(sig, frame)
        self.force_exit = self.force_exit or again
        faulthandler.dump_traceback_later(_FASTER_SECONDS if again else self._grace, exit=True)


def serve(app: FastAPI, settings: ServerSettings) -> None:
    """Until a signal comes."""
    most, backlog = connections_for(raise_descriptors(), settings.connections)
    trusted = Trusted(settings.trusted_proxies)
    bounds = Bounds(
        most,
        min(most, settings.connections_per_address or max(1, most // 2)),
        settings.head_seconds,
        settings.slow_seconds,
        exempt=trusted.__contains__,
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Connections(bounds, network_of),  # type: ignore[arg-type]  # it is called as a class would be
        ws="none",
        log_level="warning",
        proxy_headers=False,
        backlog=backlog,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, int(settings.grace_seconds / 4)),
    )
    server = Server(config, settings.grace_seconds)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)

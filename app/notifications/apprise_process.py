"""Apprise in a process of its own, as `python -m`: its libraries look names up, follow redirects and connect by
themselves, so here every socket judges where it leads; and it can be ended when its time is over.

Standard input: a JSON object with `url`, `title`, `text` and `allow_private`. The exit status is the answer.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
from typing import Any

from app.addresses import AddressGuard
from app.errors import AddressForbidden

TAKEN, UNKNOWN, NOT_TAKEN, FORBIDDEN = 0, 10, 11, 12


class _Sockets:
    """`refused`: the last address that was."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self.refused: AddressForbidden | None = None

    def guard(self) -> None:
        """For all sockets of this process, those of TLS too."""
        plain, sends = socket.socket.connect, socket.socket.sendto

        def connect(of: socket.socket, address: Any) -> None:
            plain(of, self._judged(of, address))

        def connect_ex(of: socket.socket, address: Any) -> int:
            try:
                plain(of, self._judged(of, address))
            except OSError as error:
                return error.errno or 1
            return 0

        def sendto(of: socket.socket, data: Any, *where: Any) -> Any:
            return sends(of, data, *where[:-1], self._judged(of, where[-1]))  # type: ignore[call-overload]

        for name, made in (("connect", connect), ("connect_ex", connect_ex), ("sendto", sendto)):
            setattr(socket.socket, name, made)

    def _judged(self, of: socket.socket, address: Any) -> Any:
        """The address itself, where a name was given. Raises PermissionError, which libraries expect."""
        try:
            if of.family not in (socket.AF_INET, socket.AF_INET6):
                raise AddressForbidden("A service of this machine may not be reached")
            host, port, *rest = address
            [found, *_] = socket.getaddrinfo(host, port, of.family, of.type)
            self._guard.check(host, str(found[4][0]))
        except AddressForbidden as error:
            self.refused = error
            raise PermissionError(error.message) from error
        return (found[4][0], port, *rest)


def main() -> int:
    wanted = json.load(sys.stdin)
    sockets = _Sockets(AddressGuard(allow_private=wanted["allow_private"]))
    sockets.guard()
    from apprise import Apprise

    # It says to its log why something was not sent, and there with the URL.
    logging.disable()
    made = Apprise()
    if not made.add(wanted["url"]):
        return UNKNOWN
    if made.notify(title=wanted["title"], body=wanted["text"]):
        return TAKEN
    return FORBIDDEN if sockets.refused else NOT_TAKEN


if __name__ == "__main__":
    sys.exit(main())

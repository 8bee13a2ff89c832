"""Where a request ends: a proxy before us and we must be of one opinion, or one client's request becomes another's.

Sources: RFC 9112, sections 2.2 (bare CR and LF), 5.2 (obsolete line folding), 6.1 (Transfer-Encoding) and 6.3 (the
length of a message); RFC 9110, section 8.6 (Content-Length).
"""

from __future__ import annotations

import re
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Bytes of a header, as h11 has it.
_HEADER = 16 << 10
#: A line that does not end in CR LF, or that goes on in the next one.
_LOOSE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]")
_LENGTH, _ENCODING = (re.compile(rb"(?im)^%s[ \t]*:" % name) for name in (b"content-length", b"transfer-encoding"))


class StrictConnection(h11.Connection):
    """h11 takes a Transfer-Encoding for the truth where there is a Content-Length too, ends lines at LF, joins folded
    ones, and has one length of many equal ones: as the standard allows, and as proxies may not."""

    def next_event(self) -> Any:
        """Raises h11.RemoteProtocolError: one 400, and the connection is closed."""
        if self.their_state is not h11.IDLE:
            return super().next_event()
        before, _ = self.trailing_data
        event = super().next_event()
        if isinstance(event, h11.Request):
            after, _ = self.trailing_data
            _judge(before[: len(before) - len(after)], event.http_version)
        return event


def _judge(head: bytes, version: bytes) -> None:
    lengths, encodings = len(_LENGTH.findall(head)), len(_ENCODING.findall(head))
    if _LOOSE.search(head):
        raise h11.RemoteProtocolError("a line of the header does not end where it should")
    if lengths + encodings > 1 or (lengths and b"," in _value(head)):
        raise h11.RemoteProtocolError("the length of the body is said twice")
    if encodings and version < b"1.1":
        raise h11.RemoteProtocolError("HTTP/1.0 knows no Transfer-Encoding")


def _value(head: bytes) -> bytes:
    """Of Content-Length."""
    return _LENGTH.split(head, 1)[1].partition(b"\r\n")[0]


class StrictProtocol(H11Protocol):
    """For uvicorn's `http`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = StrictConnection(h11.SERVER, self.config.h11_max_incomplete_event_size or _HEADER)

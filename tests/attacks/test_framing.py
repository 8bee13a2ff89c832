"""A client wants two answers to one request: behind a proxy the second one is somebody else's."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from demo.service import Service

POST = b"POST /api/backups HTTP/1.1\r\nHost: x\r\n"
HIDDEN = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("framing"), LIBERU_SERVER__FAILURES_PER_MINUTE="0")
    made.start()
    yield made
    made.stop()


def said(service: Service, sent: bytes) -> bytes:
    """All that is answered until the service closes the connection."""
    heard = b""
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.settimeout(30)
        line.sendall(sent)
        while chunk := line.recv(1 << 16):
            heard += chunk
    return heard


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"transfer-encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN,
        b"POST /api/backups HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: +0\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: -1\r\n\r\n" + HIDDEN,
        POST + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
        POST + "Content-Length: ٠\r\n\r\n".encode() + HIDDEN,
        POST + b"Content-Length : 0\r\n\r\n" + HIDDEN,
        POST + b"Content-Length:\r\n 0\r\n\r\n" + HIDDEN,
        POST + b"X: a\r\n b\r\n\r\n" + HIDDEN,
        POST + b"X: a\nContent-Length: 0\r\n\r\n" + HIDDEN,
        POST + b"X: a\rContent-Length: 0\r\n\r\n" + HIDDEN,
        POST.replace(b"\r\n", b"\n") + b"\n" + HIDDEN,
        POST + b"X: a\r\n\n" + HIDDEN,
        POST + b"Host: y\r\n\r\n" + HIDDEN,
        b"\n" + HIDDEN + HIDDEN,
    ],
)
def test_one_request_wants_two_answers(service: Service, sent: bytes) -> None:
    heard = said(service, sent)
    assert heard.startswith(b"HTTP/1.1 400 "), heard
    assert heard.count(b"HTTP/1.1 ") == 1, "and nothing after it"


def test_chunks_want_to_end_where_others_do_not(service: Service) -> None:
    start = POST.replace(b"/api/backups", b"/api/tokens") + f"Authorization: Bearer {service.token}\r\n".encode()
    for body in (
        b"1\nx\n0\n\n",
        b"1;\nx\r\nx\r\n0\r\n\r\n",
        b"1\r\nxX\r\n0\r\n\r\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"\r\n",
    ):
        heard = said(service, start + b"Transfer-Encoding: chunked\r\n\r\n" + body + HIDDEN)
        assert heard.count(b"HTTP/1.1 ") == 1, heard
        assert heard.startswith(b"HTTP/1.1 400 "), heard


def test_who_speaks_plainly_is_answered(service: Service) -> None:
    """Several requests on one connection, one of them with a body in chunks, and slowly."""
    one = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    two = POST + b"Content-Length: 2\r\n\r\n{}"
    last = HIDDEN.replace(b"Host: x", b"Host: x\r\nConnection: close")
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.settimeout(30)
        for byte in one + two + HIDDEN + last:
            line.sendall(bytes([byte]))
        heard = b""
        while chunk := line.recv(1 << 16):
            heard += chunk
    statuses = [part.partition(b" ")[0] for part in heard.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"401", b"401", b"200", b"200"]

"""What `kubectl exec` does and no more: one command in a pod over a WebSocket (RFC 6455), stdin and stdout passed on.

python -m benchmarks.raw_exec CA PORT TOKEN NAMESPACE POD CONTAINER in|out COMMAND...
"""

from __future__ import annotations

import os
import ssl
import sys
import threading
from collections.abc import Iterator
from socket import create_connection
from urllib.parse import urlencode

_CHUNK = 1 << 15
_BINARY = 0x82
_CLOSE = 0x88
_MASKED = 0x80


def connect(ca: str, port: str, token: str, path: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=ca)
    connection = context.wrap_socket(create_connection(("127.0.0.1", int(port))), server_hostname="127.0.0.1")
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n".encode()
    )
    return connection


def frames(connection: ssl.SSLSocket) -> Iterator[memoryview]:
    """What the server sends after its handshake, one by one."""
    held = bytearray()

    def need(count: int) -> None:
        while len(held) < count:
            data = connection.recv(1 << 18)
            if not data:
                raise EOFError
            held.extend(data)

    while b"\r\n\r\n" not in held:
        need(len(held) + 1)
    assert held.startswith(b"HTTP/1.1 101"), bytes(held[:200])
    del held[: held.index(b"\r\n\r\n") + 4]
    while True:
        need(2)
        kind, size, start = held[0], held[1] & 127, 2
        if size == 126:
            need(4)
            size, start = int.from_bytes(held[2:4]), 4
        elif size == 127:
            need(10)
            size, start = int.from_bytes(held[2:10]), 10
        need(start + size)
        if kind == _CLOSE:
            return
        with memoryview(held) as view:
            yield view[start : start + size]
        del held[: start + size]


def frame(payload: bytes) -> bytes:
    """Masked, as a client's must be; with zeros."""
    size = len(payload)
    head = bytes([_BINARY, _MASKED | size]) if size < 126 else bytes([_BINARY, _MASKED | 127]) + size.to_bytes(8)
    return b"%b\0\0\0\0%b" % (head, payload)


def feed(connection: ssl.SSLSocket) -> None:
    while data := os.read(0, _CHUNK):
        connection.sendall(frame(b"\0" + data))
    connection.sendall(frame(b"\xff\0"))


def main() -> int:
    ca, port, token, namespace, pod, container, way, *command = sys.argv[1:]
    asked = [("container", container), ("stdout", "true"), ("stderr", "true"), ("stdin", "true")]
    query = urlencode([*asked, *(("command", word) for word in command)])
    connection = connect(ca, port, token, f"/api/v1/namespaces/{namespace}/pods/{pod}/exec?{query}")
    if way == "in":
        threading.Thread(target=feed, args=(connection,), daemon=True).start()
    status = 1
    for message in frames(connection):
        if message and message[0] == 1 and len(message) > 1:
            os.write(1, message[1:])
        elif message and message[0] == 2:
            os.write(2, message[1:])
        elif message and message[0] == 3:
            status = 0 if b'"Success"' in bytes(message) else 1
        message.release()
    return status


if __name__ == "__main__":
    sys.exit(main())

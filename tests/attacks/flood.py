"""Many connections that mean no good: flood.py PORT KIND COUNT ADDRESSES. Prints `ready` when all were opened once,
and goes on until it is ended; what the server closes is opened again.

heads    requests whose head never ends          bodies   requests whose body never ends
idle     one good request, and then nothing      readers  good requests whose answers are not read
"""

from __future__ import annotations

import asyncio
import itertools
import random
import resource
import socket
import sys

port, kind, count, addresses = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
opened = itertools.count(1)
FIRST = {
    "heads": b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-",
    "bodies": b"POST /api/domains HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n{",
    "idle": b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    "readers": b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 5,
}[kind]


async def one(number: int) -> None:
    loop = asyncio.get_running_loop()
    once = True
    while True:
        with socket.socket() as connection:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.bind((f"127.0.{number % addresses // 250}.{number % addresses % 250 + 1}", 0))
            try:
                await loop.sock_connect(connection, ("127.0.0.1", port))
                if once and next(opened) == count:
                    print("ready", flush=True)
                once = False
                await loop.sock_sendall(connection, FIRST)
                while True:
                    await asyncio.sleep(random.uniform(0.5, 2))
                    if kind in ("heads", "bodies"):
                        await loop.sock_sendall(connection, b"x")
                    elif kind == "idle" and not await loop.sock_recv(connection, 4096):
                        break
                    elif connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        raise ConnectionError
            except (OSError, TimeoutError):
                pass
        await asyncio.sleep(random.uniform(0.2, 1))


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))
            if number % 100 == 99:
                await asyncio.sleep(0.01)


asyncio.run(main())

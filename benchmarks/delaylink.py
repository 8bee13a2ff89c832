"""A line with a long round trip: two network namespaces joined through TUN, every packet held back for a while.

Unlike a proxy, it leaves TCP's own windows between the two ends. For kernels without netem; needs root, iproute2
and /dev/net/tun.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CLIENT, SERVER = "10.99.0.1", "10.99.0.2"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000  # linux/if_tun.h
_MTU = "9000"
#: Linux's defaults, whatever this machine has.
_BUFFERS = {"rmem": "4096 131072 6291456", "wmem": "4096 16384 4194304"}


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def inside(namespace: str, argv: list[str]) -> list[str]:
    return ["ip", "netns", "exec", namespace, *argv]


@contextmanager
def long_line(round_trip_ms: int) -> Iterator[tuple[str, str]]:
    """Yield the namespaces of the client and of the server, which have the addresses CLIENT and SERVER."""
    names = [f"liberu{os.getpid()}{side}" for side in "ab"]
    process: subprocess.Popen[bytes] | None = None
    try:
        for name in names:
            _ip("netns", "add", name)
        argv = [sys.executable, "-m", "benchmarks.delaylink", *names, str(round_trip_ms / 2000)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise AssertionError("the line could not be made")
        yield names[0], names[1]
    finally:
        if process is not None:
            process.kill()
            process.wait()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def _end(namespace: str, number: int, own: str, other: str) -> int:
    device = f"tun{number}x{os.getpid()}"[:15]
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
    _ip("link", "set", device, "netns", namespace)
    _ip("-n", namespace, "link", "set", "lo", "up")
    _ip("-n", namespace, "link", "set", device, "mtu", _MTU, "txqueuelen", "20000", "up")
    _ip("-n", namespace, "addr", "add", own, "peer", other, "dev", device)
    for key, value in _BUFFERS.items():
        subprocess.run(inside(namespace, ["sysctl", "-qw", f"net.ipv4.tcp_{key}={value}"]), check=True)
    return descriptor


def main() -> None:
    delay = float(sys.argv[3])
    ends = [_end(sys.argv[1], 0, CLIENT, SERVER), _end(sys.argv[2], 1, SERVER, CLIENT)]
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    held: deque[tuple[float, int, bytes]] = deque()  # one delay for all: in order
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, end, packet = held.popleft()
            with suppress(OSError):  # the device's queue is full: the packet is lost, as on any line
                os.write(end, packet)
        wait = max(0.0, held[0][0] - now) if held else None
        for end in select.select(ends, [], [], wait)[0]:
            due = time.monotonic() + delay
            for _ in range(64):
                try:
                    held.append((due, other[end], os.read(end, 65536)))
                except BlockingIOError:
                    break


if __name__ == "__main__":
    main()

"""Free ports in a row."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row, below those the system gives to clients."""
    for first in random.SystemRandom().sample(range(15000, 30000, count), 50):
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports")


def free_port() -> int:
    return free_ports(1)

"""One put or get through a driver, in a process of its own: seconds and peak memory as JSON.

Reads {"type", "configuration", "operation", "path", "key"} from stdin.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.cli import limit_arenas
from app.errors import ObjectNotFound
from app.storage.base import Options
from app.storage.registry import build_driver

CHUNK = 1 << 20


async def source(path: Path) -> AsyncGenerator[bytes, None]:
    with path.open("rb", buffering=0) as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def memory(field: str) -> float:
    """MiB, of proc_pid_status(5)."""
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(f"{field}:"))


async def transfer(job: dict[str, Any]) -> dict[str, float]:
    driver = build_driver(job["type"], job["configuration"], Options())
    with suppress(ObjectNotFound):  # the connection is open then, as it is in a service that runs
        await driver.stat("nothing")
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the imports is not the transfer's
    idle = memory("VmRSS")
    started = time.monotonic()
    size = 0
    if job["operation"] == "put":
        size = (await driver.put(job["key"], source(Path(job["path"])))).size
    else:
        async for chunk in driver.get(job["key"]):
            size += len(chunk)
    seconds = time.monotonic() - started
    await driver.close()
    return {
        "seconds": seconds, "size": size, "idle": idle,
        "peak": memory("VmHWM"),
    }  # fmt: skip


if __name__ == "__main__":
    limit_arenas()
    print(json.dumps(asyncio.run(transfer(json.load(sys.stdin)))))

"""One put or get through a driver, in a process of its own: seconds and peak memory as JSON.

Reads {"type", "configuration", "operation", "path", "key"} from stdin.
"""

from __future__ import annotations

import asyncio
import json
import resource
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


async def transfer(job: dict[str, Any]) -> dict[str, float]:
    driver = build_driver(job["type"], job["configuration"], Options())
    with suppress(ObjectNotFound):  # the connection is open then, as it is in a service that runs
        await driver.stat("nothing")
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
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
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


if __name__ == "__main__":
    limit_arenas()
    print(json.dumps(asyncio.run(transfer(json.load(sys.stdin)))))

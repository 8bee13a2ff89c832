"""One Deployment.stream, drained, in a process of its own: seconds and peak memory as JSON. The job is on stdin."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

from app.cli import limit_arenas
from app.deployments.base import Deployment
from app.deployments.docker import DockerDeployment, Engine
from app.deployments.ssh import SshDeployment, server_of
from benchmarks.transfer import memory


async def _forget(found: dict[str, Any]) -> None:
    return None


async def stream(job: dict[str, Any]) -> dict[str, float]:
    engine = Engine(job.get("url", ""))
    if job["kind"] == "docker":
        deployment: Deployment = DockerDeployment(engine, job["container"], job["container"])
    else:
        deployment = SshDeployment(server_of(job["configuration"]), _forget)
    await deployment.prepare()
    Path("/proc/self/clear_refs").write_text("5")
    idle, size = memory("VmRSS"), 0
    started = time.monotonic()
    async with aclosing(deployment.stream(job["argv"], cwd=job["cwd"])) as output:
        async for chunk in output:
            size += len(chunk)
    seconds = time.monotonic() - started
    await deployment.close()
    await engine.close()
    return {"seconds": seconds, "size": size, "idle": idle, "peak": memory("VmHWM")}


if __name__ == "__main__":
    limit_arenas()
    print(json.dumps(asyncio.run(stream(json.load(sys.stdin)))))

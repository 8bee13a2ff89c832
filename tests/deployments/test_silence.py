"""Who hangs gives no sign of life; who is merely slow does, and so does one whose reader is slow."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from app.archives.streams import ByteStream
from app.deployments.remote import RemoteDeployment
from app.errors import DeploymentUnreachable
from tests.deployments.conftest import PLACES, opened

KINDS = [kind for kind in PLACES if kind != "standalone"]


@pytest.fixture(params=KINDS)
async def there(request: pytest.FixtureRequest) -> AsyncGenerator[RemoteDeployment, None]:
    async with opened(request.param, request) as deployment:
        assert isinstance(deployment, RemoteDeployment)
        deployment.silence = 2
        yield deployment


async def _endless() -> ByteStream:
    while True:
        yield bytes(1 << 20)


#: Says its process group, freezes it as a machine that hangs would, and would go on for ever.
HANG = "IFS= read -r line </proc/$$/stat; set -- $line; kill -STOP -- -$5 || kill -STOP -$5; sleep 1000"


@pytest.mark.parametrize("fed", [False, True])
async def test_what_hangs_is_given_up(there: RemoteDeployment, fed: bool) -> None:
    async with asyncio.timeout(60):
        with pytest.raises(DeploymentUnreachable, match="gave no sign of life for 2 seconds") as raised:
            await there.run(["sh", "-c", HANG], input=_endless() if fed else None)
    assert raised.value.retryable
    there.silence = 60  # a busy machine needs longer than two seconds to begin a command
    found = await there.run(["sh", "-c", "ps -ef 2>/dev/null || ps"])
    assert b"kill -STOP" not in found.stdout, "what hung was killed when it could be"


async def test_what_is_slow_or_read_slowly_is_waited_for(there: RemoteDeployment) -> None:
    quiet = asyncio.create_task(there.run(["sh", "-c", "printf before >&2; sleep 5; echo ' after' >&2; echo done"]))
    argv = ["sh", "-c", "i=0; while [ $((i += 1)) -le 40 ]; do head -c 1000000 /dev/zero; done"]
    size, pauses = 0, [3.0]
    async with aclosing(there.stream(argv)) as output:
        async for chunk in output:
            size += len(chunk)
            if pauses and size > 1_000_000:
                await asyncio.sleep(pauses.pop())  # longer than it may be silent
    assert size == 40_000_000
    result = await quiet
    assert (result.stdout, result.stderr) == (b"done\n", "before after")


async def test_a_server_that_hangs_is_given_up(request: pytest.FixtureRequest) -> None:
    """sshd itself; its command runs on."""
    script = """
    above() { IFS= read -r line <"/proc/$1/stat"; set -- ${line##*) }; echo "$2"; }
    name= number=$$
    while [ "$name" != sshd ]; do number=$(above "$number"); IFS= read -r name <"/proc/$number/comm"; done
    printf '%-500s' "$number"
    sleep 1000
    """
    pid: int | None = None
    async with opened("ssh", request) as deployment:
        assert isinstance(deployment, RemoteDeployment)
        deployment.silence = 2
        try:
            async with asyncio.timeout(60):
                with pytest.raises(DeploymentUnreachable, match="no sign of life"):
                    async with aclosing(deployment.stream(["sh", "-c", f"({script}) | cat"])) as output:
                        async for chunk in output:
                            if pid is None:
                                pid = int(chunk)
                                os.kill(pid, signal.SIGSTOP)
        finally:
            if pid is not None:
                os.kill(pid, signal.SIGKILL)

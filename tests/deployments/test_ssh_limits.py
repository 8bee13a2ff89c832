"""Servers that limit SSH sessions and connections."""

from __future__ import annotations

import asyncio
from typing import Any

from app.archives.streams import from_bytes
from app.deployments.ssh import SshDeployment, server_of
from demo.ssh_servers import login_begun, ssh_host


async def _forget(found: dict[str, Any]) -> None:
    return None


async def test_many_commands_where_a_connection_has_one_session() -> None:
    with ssh_host(limits="MaxSessions 1\nMaxStartups 100") as host:
        deployment = SshDeployment(server_of(host.configuration), _forget)
        try:
            await deployment.prepare()

            async def one(number: int) -> bytes:
                return (await deployment.run(["cat"], input=from_bytes(b"%d" % number))).stdout

            assert await asyncio.gather(*(one(number) for number in range(6))) == [b"%d" % n for n in range(6)]
        finally:
            await deployment.close()


async def test_a_server_that_hangs_up_while_others_log_in() -> None:
    with ssh_host(limits="MaxStartups 1\nLoginGraceTime 100") as host:
        deployment = SshDeployment(server_of(host.configuration), _forget)
        try:
            with login_begun(host.configuration):
                preparing = asyncio.create_task(deployment.prepare())
                done, _ = await asyncio.wait({preparing}, timeout=0.5)
                assert not done
            await preparing
        finally:
            await deployment.close()

"""Servers that limit connections: told from a refusal, waited for, remembered, and never a deadlock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, aclosing
from typing import Any

import pytest
from aioftp.common import Code
from aioftp.errors import StatusCodeError

from app.errors import DestinationBusy, DestinationRefused
from app.storage.base import Options, StorageDriver
from app.storage.connections import Connections
from app.storage.ftp_session import mapped
from app.storage.registry import build_driver
from demo.ftp_servers import proftpd_server, vsftpd_server
from demo.ssh_servers import login_begun
from demo.storage_servers import StorageServer, sftp_server
from tests.storage.test_contract import keys, read, stream

ONE, TWO = "MaxClientsPerUser 1", "MaxClientsPerUser 2"
Made = Callable[..., StorageDriver]


@pytest.fixture
async def drivers() -> AsyncGenerator[Callable[[StorageServer, dict[str, Any]], Made], None]:
    """Of one destination: they share what they learn."""
    async with AsyncExitStack() as stack:

        def of(server: StorageServer, configuration: dict[str, Any]) -> Made:
            connections = Connections()

            def make(resume_seconds: float = 20) -> StorageDriver:
                options = Options(resume_seconds=resume_seconds, connections=connections)
                driver = build_driver(server.type, configuration, options)
                stack.push_async_callback(driver.close)
                return driver

            return make

        yield of


LIMITED: list[tuple[str, Callable[[], AbstractContextManager[StorageServer]], int]] = [
    ("proftpd-1", lambda: proftpd_server(limits=ONE), 1),
    ("proftpd-2", lambda: proftpd_server(limits=TWO), 2),
    ("vsftpd-1", lambda: vsftpd_server(per_ip=1), 1),
]


@pytest.fixture(params=LIMITED, ids=lambda param: param[0])
def limited(request: pytest.FixtureRequest) -> Any:
    _, make, count = request.param
    with make() as server:
        yield server, count


@pytest.mark.timeout(180)
async def test_everything_works_within_the_limit(limited: Any, drivers: Any) -> None:
    server, count = limited
    make = drivers(server, server.fresh())
    driver = make()
    await driver.check()
    assert await driver.connections() == (count, 4)
    content = {f"a/{number}": os.urandom(300_000) for number in range(6)}
    await asyncio.gather(*(driver.put(key, stream(value)) for key, value in content.items()))
    second = make()
    found = await asyncio.gather(*(read(one, key) for key in content for one in (driver, second)))
    assert found == [value for value in content.values() for _ in range(2)]
    assert sorted(await keys(second)) == sorted(content)


@pytest.mark.timeout(180)
async def test_a_download_that_nobody_reads_lets_an_upload_pass(drivers: Any) -> None:
    """A restore reads its archive while a safety copy is written to the same place."""
    with proftpd_server(limits=ONE) as server:
        make = drivers(server, server.fresh())
        reader, writer = make(), make()
        content = os.urandom(20_000_000)
        await reader.put("old", stream(content))
        found = bytearray()
        async with aclosing(reader.get("old")) as chunks:
            async for chunk in chunks:
                if not found:
                    await writer.put("safety", stream(b"copy"))
                found += chunk
        assert bytes(found) == content
        assert await read(reader, "safety") == b"copy"


@pytest.mark.timeout(180)
async def test_an_upload_that_waits_for_its_source_lets_that_be_read(
    drivers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.connections._PATIENT", 0.5)
    monkeypatch.setattr("app.storage.connections._VERY_PATIENT", 1.0)
    with proftpd_server(limits=ONE) as server:
        driver = drivers(server, server.fresh())()
        content = os.urandom(5_000_000)
        await driver.put("one", stream(content))
        await driver.put("two", driver.get("one"))
        assert await read(driver, "two") == content


@pytest.mark.timeout(120)
async def test_a_limit_that_others_have_used_up_is_named(drivers: Any) -> None:
    with proftpd_server(limits=ONE) as server:
        configuration = server.fresh()
        other = drivers(server, configuration)()
        await other.check()  # keeps its connection
        driver = drivers(server, configuration)(resume_seconds=1)
        with pytest.raises(DestinationBusy, match=r"allows no more connections.*maximum number of clients"):
            await driver.check()
        await other.close()
        await driver.check()
        configuration["password"] = "wrong"
        with pytest.raises(DestinationRefused, match="authentication failed"):
            await drivers(server, configuration)().check()


@pytest.mark.parametrize(
    "code, said",
    [
        ("530", "Sorry, the maximum number of clients (1) for this user are already connected."),
        ("530", "Sorry, the maximum number of hosts (1) for this user are already connected."),
        ("530", "Sorry, max 10 users -- try again later"),
        ("421", "There are too many connections from your internet address."),
        ("421", "There are too many connected users, please try later."),
        ("421", "Too many connections (3) from this IP"),
        ("421", "50 users (the maximum) are already logged in, sorry"),
        ("421", "I can't accept more than 2 connections as the same user"),
        ("421", "Too many users are connected, please try again later."),
        ("421", "Refusing connection. Reason: Max. connection count reached for your user account."),
        ("421", "Maximum number of clients reached"),
    ],
)
def test_what_servers_say_of_a_limit(code: str, said: str) -> None:
    with pytest.raises(DestinationBusy), mapped("Connecting"):
        raise StatusCodeError(Code("230"), Code(code), [said])


@pytest.mark.parametrize(
    "said", ["Login incorrect.", "Too many login failures", "Maximum login attempts exceeded", "Not logged in"]
)
def test_what_servers_say_of_a_password(said: str) -> None:
    with pytest.raises(DestinationRefused), mapped("Connecting"):
        raise StatusCodeError(Code("230"), Code("530"), [said])


@pytest.mark.timeout(120)
async def test_sftp_on_a_server_that_hangs_up_on_new_connections(drivers: Any) -> None:
    """sshd's MaxStartups 1: somebody else's connection that never logs in keeps us out until it is gone."""
    with sftp_server(limits="MaxStartups 1\nMaxSessions 1\nLoginGraceTime 100") as server:
        configuration = server.fresh()
        driver = drivers(server, configuration)()
        with login_begun(configuration):
            trying = asyncio.create_task(driver.put("a", stream(b"1")))
            done, _ = await asyncio.wait({trying}, timeout=1)
            assert not done, "it is neither given up nor taken for a refusal"
        await trying
        assert await read(driver, "a") == b"1"
        assert await driver.connections() == (6, 6)


async def test_sftp_with_fewer_connections_than_a_long_line_wants(
    drivers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.sftp_connections._LONG_LINE", 0.0)
    with sftp_server(limits="MaxStartups 1\nMaxSessions 1") as server:
        driver = drivers(server, server.fresh())()
        await driver.put("a", stream(b"1"))
        with login_begun(server.configuration):
            content = os.urandom(10_000_000)
            await driver.put("b", stream(content))
            assert await read(driver, "b") == content
            assert await driver.connections() == (1, 6)

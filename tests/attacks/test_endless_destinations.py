"""What whoever runs a destination wants: that an operation never ends. See tests/storage/test_hostile.py too."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator

import pytest
from asyncssh import SFTPName

from app.errors import DestinationInvalid, DestinationTooSlow, DestinationUnreachable, StorageError
from app.storage import pages
from app.storage.base import Options
from app.storage.limits import LimitedDriver, Limits
from app.storage.registry import build_driver
from app.storage.throughput import Throughput
from tests.storage.test_contract import keys, read
from tests.storage.test_hostile import (
    attributes,
    entries,
    ftp,
    ftp_server,
    listening,
    listing_of,
    s3,
    s3_server,
    sftp,
    token_of,
)

TREE = 300


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take long or much to reach is reached earlier."""
    for module in ("ftp", "sftp", "s3", "s3_versions"):
        monkeypatch.setattr(f"app.storage.{module}.MAX_LISTED", TREE)


# Listings without an end


async def test_a_bucket_that_always_has_another_page_of_new_names() -> None:
    async def page(target: str) -> AsyncGenerator[bytes, None]:
        number = token_of(target)
        yield entries(*(f"k{number}-{index}" for index in range(100)), token=f"t{number + 1}")

    async with s3(s3_server(page)) as driver:
        with pytest.raises(DestinationInvalid, match="more than"):
            await keys(driver)


@pytest.mark.parametrize("marker", ["same", "next", "none"])
async def test_a_bucket_whose_versions_have_no_end(marker: str) -> None:
    numbers = itertools.count()

    async def page(target: str) -> AsyncGenerator[bytes, None]:
        if "versions" not in target:
            yield b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            return
        following = {"same": "k", "next": f"k{next(numbers)}", "none": ""}[marker]
        found = "".join(
            f"<Version><Key>k{number}</Key><VersionId>v</VersionId><IsLatest>true</IsLatest><Size>1</Size>"
            "<LastModified>2026-11-26T15:00:00Z</LastModified></Version>"
            for number in range(100)
        )
        last = f"<NextKeyMarker>{following}</NextKeyMarker>" if following else ""
        yield f"<ListVersionsResult>{found}<IsTruncated>true</IsTruncated>{last}</ListVersionsResult>".encode()

    async with s3(s3_server(page)) as driver:
        with pytest.raises(DestinationInvalid):
            async for _ in driver.history():
                pass


async def test_a_tree_of_folders_that_has_no_end() -> None:
    """Two in each: no folder has many, and none is deep."""
    two = [SFTPName(name, "", attributes(mode=0o40755)) for name in (b"a", b"b")]
    async with sftp(listing_of(*two)) as driver:
        with pytest.raises(DestinationInvalid, match="more than"):
            await keys(driver)
    listing = b"type=dir;modify=20260101000000; a\r\ntype=dir;modify=20260101000000; b\r\n"
    async with ftp(ftp_server({}, listing, repeat=False)) as driver:
        with pytest.raises(DestinationInvalid, match="more than"):
            await keys(driver)


async def test_a_folder_of_names_that_are_long_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MOST_BYTES", 1 << 20)
    long = SFTPName(b"/" * 9_000, "", attributes())
    async with sftp(listing_of(long, endless=True)) as driver:
        with pytest.raises(DestinationInvalid, match="does not come to an end"):
            await keys(driver)
    line = b"x" * 16_000 + b"\r\n"
    async with ftp(ftp_server({}, line)) as driver:
        with pytest.raises(DestinationInvalid, match="does not come to an end"):
            await keys(driver)


def test_no_listing_takes_days(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = pages.Progress("Listing", seconds=pages.MOST_SECONDS)
    progress.seen(10_000_000)
    monkeypatch.setattr(pages, "MOST_SECONDS", -1)
    with pytest.raises(DestinationUnreachable, match="too slowly"):
        progress.seen(0)


# One byte after another


async def trickle(writer: asyncio.StreamWriter, content: bytes, pause: float = 0.1) -> None:
    for byte in content:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(pause)


async def test_a_bucket_whose_answers_begin_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte begins the SDK's timeout anew."""
    monkeypatch.setattr("app.storage.s3_session._SECONDS", 1)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await trickle(writer, b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 8000)

    async with s3(handler) as driver, asyncio.timeout(60):
        with pytest.raises(DestinationUnreachable):
            await driver.stat("k")


@pytest.mark.parametrize("command", ["EPSV", "MLSD", "RETR", "SIZE"])
async def test_an_ftp_server_whose_answers_have_many_slow_lines(command: str) -> None:
    usual = {"USER": "331 password", "PASS": "230 in", "TYPE": "200 ok", "CWD": "250 ok", "SIZE": "213 10"}

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := (await reader.readline()).decode().split():
            if line[0] == command:
                while True:
                    writer.write(b"150-more\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.2)
            if line[0] == "EPSV":
                writer.write(f"229 ok (|||{passive}|)\r\n".encode())
            else:
                writer.write(f"{usual.get(line[0], '500 what?')}\r\n".encode())
            await writer.drain()

    async with listening(_patient) as passive, listening(handler) as port, asyncio.timeout(60):
        configuration = {
            "host": "127.0.0.1", "port": port, "username": "u", "password": "p", "ssl": "none",
            "allow_plaintext": True, "timeout": 1, "root": "/r",
        }  # fmt: skip
        driver = build_driver("ftp", configuration, Options(resume_seconds=0))
        with pytest.raises(StorageError):
            await (keys(driver) if command == "MLSD" else read(driver, "k"))
        await driver.close()


async def _patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the other end has had enough."""
    await reader.read()


async def test_a_destination_that_gives_and_takes_one_byte_after_another() -> None:
    """Whatever the driver takes for progress, the operation is not kept waiting."""

    async def body(target: str) -> AsyncGenerator[bytes, None]:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    async with s3(s3_server(body, {"Content-Length": "10000000"})) as driver, asyncio.timeout(60):
        with pytest.raises(DestinationTooSlow):
            await read(LimitedDriver(driver, Limits(), Throughput(2 << 20, 0.5)), "k")
    async with ftp(ftp_server({"SIZE": "213 10000000"}, b"x", repeat=False)) as driver, asyncio.timeout(60):
        with pytest.raises(StorageError):
            await read(LimitedDriver(driver, Limits(), Throughput(2 << 20, 0.5)), "k")

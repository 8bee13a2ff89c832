"""Servers that answer without an end, or with what cannot be: each answer is bounded, each problem a typed error."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import asyncssh
import pytest
from asyncssh import SFTPAttrs, SFTPName, SFTPServer

from app.errors import DestinationInvalid, DestinationUnreachable, SizeMismatch, StorageError
from app.storage import pages
from app.storage.base import Options, StorageDriver
from app.storage.registry import build_driver
from tests.storage.test_contract import keys, read

MIB = 1 << 20
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        tasks = [task for task in serving if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in which the loop closes the sockets


@asynccontextmanager
async def flat(most: int = 32 * MIB) -> AsyncIterator[None]:
    """What runs within allocates no more than that at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take long or much to reach is reached earlier."""
    monkeypatch.setattr("app.storage.sftp.MAX_IN_FOLDER", 5_000)
    monkeypatch.setattr("app.storage.ftp.MAX_IN_FOLDER", 5_000)


# FTP


async def endlessly(writer: asyncio.StreamWriter, line: bytes) -> None:
    while True:
        writer.write(line * 1000)
        await writer.drain()


def ftp_server(answers: dict[str, str], listing: bytes, *, repeat: bool = True) -> Handler:
    """`answers`: by command, instead of the usual ones; `listing`: sent once, or over and over."""

    async def send_listing(writer: asyncio.StreamWriter) -> None:
        writer.write(listing)
        await writer.drain()
        if repeat:
            await endlessly(writer, listing)
        writer.close()

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        data: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        usual = {"USER": "331 password", "PASS": "230 in", "TYPE": "200 ok", "CWD": "250 ok", "OPTS": "200 ok",
                 "SIZE": "213 10", "MDTM": "213 20260101000000"}  # fmt: skip
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            while line := (await reader.readline()).decode().strip():
                command = line.split()[0].upper()
                answer = answers.get(command, usual.get(command, "500 what?"))
                if command == "EPSV":

                    async def accept(_: asyncio.StreamReader, other: asyncio.StreamWriter) -> None:
                        await data.put(other)

                    passive = await stack.enter_async_context(await asyncio.start_server(accept, "127.0.0.1", 0))
                    answer = f"229 ok (|||{passive.sockets[0].getsockname()[1]}|)"
                if command in ("MLSD", "RETR"):
                    writer.write(b"150 here\r\n")
                    other = await data.get()
                    with suppress(OSError):
                        await send_listing(other)
                    answer = "226 done"
                if answer.endswith("*"):
                    tasks.create_task(endlessly(writer, f"{answer[:-1]}\r\n".encode()))
                else:
                    writer.write(f"{answer}\r\n".encode())
                await writer.drain()

    return control


@asynccontextmanager
async def ftp(handler: Handler) -> AsyncIterator[StorageDriver]:
    async with listening(handler) as port:
        configuration = {
            "host": "127.0.0.1", "port": port, "username": "u", "password": "p", "ssl": "none",
            "allow_plaintext": True, "timeout": 5, "root": "/r",
        }  # fmt: skip
        driver = build_driver("ftp", configuration, Options(resume_seconds=0))
        yield driver
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await driver.close()


@pytest.mark.parametrize(
    ("listing", "error", "says"),
    [
        (b"type=file;size=1;modify=20260101000000; name\r\n", DestinationInvalid, "more than"),
        (b"total 8\r\n", DestinationInvalid, "more than"),
        (b"type=file;size=1; " + b"x" * 1000, DestinationInvalid, "does not end"),
    ],
    ids=["entries", "nothing", "a line"],
)
async def test_an_ftp_listing_without_an_end(listing: bytes, error: type[StorageError], says: str) -> None:
    async with ftp(ftp_server({}, listing)) as driver, flat():
        with pytest.raises(error, match=says):
            await keys(driver)


@pytest.mark.parametrize("size", ["-5", str(1 << 63), "many", ""])
async def test_ftp_sizes_that_cannot_be(size: str) -> None:
    listing = f"type=file;size={size};modify=99990101000000; k\r\n".encode()
    async with ftp(ftp_server({"SIZE": f"213 {size}"}, listing, repeat=False)) as driver:
        for work in (keys(driver), driver.stat("k"), read(driver, "k")):
            with pytest.raises(DestinationInvalid):
                await work


async def test_ftp_times_that_cannot_be_are_unknown() -> None:
    listing = (
        b"type=file;size=1;modify=99999999999999; k\r\ntype=dir;modify=0; ..\r\ntype=file;size=1; " + b"n" * 9000
    )
    async with ftp(ftp_server({"MDTM": "213 99999999999999"}, listing, repeat=False)) as driver:
        assert [(info.key, info.modified_at) async for info in driver.list()] == [("k", None)]
        assert (await driver.stat("k")).modified_at is None


@pytest.mark.parametrize("answer", ["213-more*", "213-" + "x" * 100_000, "\xff\xfe", "x*", "1 1"])
async def test_ftp_replies_that_are_none(answer: str) -> None:
    async with ftp(ftp_server({"SIZE": answer}, b"")) as driver, flat():
        with pytest.raises((DestinationInvalid, DestinationUnreachable)):
            await driver.stat("k")


async def test_an_ftp_object_that_is_longer_than_the_server_said() -> None:
    async with ftp(ftp_server({}, b"x" * 1000)) as driver, flat():
        with pytest.raises(SizeMismatch):
            await read(driver, "k")


# SFTP


def attributes(size: int = 1, mtime: int = 1, mode: int = 0o100644) -> SFTPAttrs:
    return SFTPAttrs(size=size, permissions=mode, atime=mtime, mtime=mtime)


class HostileSftp(SFTPServer):
    names: Callable[[], AsyncIterator[SFTPName]]
    found = attributes()

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        async for name in type(self).names():
            yield name

    def stat(self, path: bytes) -> SFTPAttrs:
        return self.found if path.endswith(b"k") else attributes(mode=0o40755)

    lstat = stat

    def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        return object()

    async def read(self, file: object, offset: int, size: int) -> bytes:
        return b"x" * size

    def close(self, file: object) -> None:
        return None


class _Anybody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@asynccontextmanager
async def sftp(server: type[HostileSftp]) -> AsyncIterator[StorageDriver]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    listener = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=_Anybody, server_host_keys=[key], sftp_factory=server
    )
    configuration = {"host": "127.0.0.1", "port": listener.get_port(), "username": "u", "password": "p", "timeout": 5,
                     "root": "/r"}  # fmt: skip
    driver = build_driver("sftp", configuration, Options(resume_seconds=0))
    try:
        yield driver
    finally:
        await driver.close()
        listener.close()


def listing_of(*names: SFTPName, endless: bool = False) -> type[HostileSftp]:
    async def given() -> AsyncGenerator[SFTPName, None]:
        while True:
            for name in names:
                yield name
            if not endless:
                return

    return type("Server", (HostileSftp,), {"names": staticmethod(given)})


async def test_an_sftp_listing_without_an_end() -> None:
    async with sftp(listing_of(SFTPName(b"name", "", attributes()), endless=True)) as driver, flat(64 * MIB):
        with pytest.raises(DestinationInvalid, match="more than"):
            await keys(driver)


async def test_sftp_names_of_a_megabyte_and_out_of_their_folder() -> None:
    strange = [b"n" * MIB, b"../up", b"a/b", b"/etc/passwd", b".", b"..", b"", b"odd\nname", b"\xff"]
    server = listing_of(*(SFTPName(name, "", attributes()) for name in [*strange, b"good"]))
    async with sftp(server) as driver:
        assert await keys(driver) == ["good"]


async def test_an_sftp_folder_that_holds_itself_for_ever() -> None:
    async with sftp(listing_of(SFTPName(b"same", "", attributes(mode=0o40755)))) as driver:
        assert await keys(driver) == []


async def test_sftp_sizes_that_cannot_be() -> None:
    server = listing_of(SFTPName(b"k", "", attributes(size=1 << 63)))
    server.found = attributes(size=1 << 63)
    async with sftp(server) as driver:
        for work in (keys(driver), driver.stat("k"), read(driver, "k")):
            with pytest.raises(DestinationInvalid):
                await work


async def test_an_sftp_listing_that_stands_still() -> None:
    async def given() -> AsyncGenerator[SFTPName, None]:
        yield SFTPName(b"one", "", attributes())
        await asyncio.Event().wait()

    async with sftp(type("Server", (HostileSftp,), {"names": staticmethod(given)})) as driver:
        driver._connections.timeout = 1  # type: ignore[attr-defined]
        with pytest.raises(DestinationUnreachable):
            await keys(driver)


# S3


def s3_server(page: Callable[[str], AsyncIterator[bytes]], head: dict[str, str] | None = None) -> Handler:
    """`page`: the body of an answer to a GET, by its query."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := (await reader.readuntil(b"\r\n\r\n")).decode():
            method, target = request.split()[:2]
            fields = {"Last-Modified": "Thu, 26 Nov 2026 15:00:00 GMT", "ETag": '"e"', **(head or {})}
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            if method == "HEAD":
                writer.write(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())
                await writer.drain()
                continue
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n")
            async for chunk in page(target):
                writer.write(chunk)
                await writer.drain()
            return

    return serve


@asynccontextmanager
async def s3(handler: Handler) -> AsyncIterator[StorageDriver]:
    async with listening(handler) as port:
        configuration = {"key": "k", "secret": "s", "bucket": "bucket", "endpoint": f"http://127.0.0.1:{port}",
                         "use_path_style_endpoint": True, "timeout": 5}  # fmt: skip
        driver = build_driver("s3", configuration, Options(resume_seconds=0))
        yield driver
        await driver.close()


def entries(*keys: str, size: str = "1", token: str | None = None) -> bytes:
    items = "".join(
        f"<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-26T15:00:00Z</LastModified></Contents>"
        for key in keys
    )
    more = "false" if token is None else "true"
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return f"<ListBucketResult>{items}<IsTruncated>{more}</IsTruncated>{following}</ListBucketResult>".encode()


def token_of(target: str) -> int:
    found = re.search(r"continuation-token=t(\d+)", target)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("cycle", [1, 2, 7])
async def test_s3_pages_that_come_again(cycle: int) -> None:
    async def page(target: str) -> AsyncGenerator[bytes, None]:
        yield entries("k", token=f"t{token_of(target) % cycle + 1}")

    async with s3(s3_server(page)) as driver:
        with pytest.raises(DestinationInvalid, match="do not come to an end"):
            await keys(driver)


async def test_s3_pages_without_a_token_and_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_EMPTY_PAGES", 20)

    async def lost(target: str) -> AsyncGenerator[bytes, None]:
        yield entries("k", token="")

    async def empty(target: str) -> AsyncGenerator[bytes, None]:
        yield entries(token=f"t{token_of(target) + 1}")

    for page in (lost, empty):
        async with s3(s3_server(page)) as driver:
            with pytest.raises(DestinationInvalid, match="do not come to an end"):
                await keys(driver)


async def test_an_s3_page_without_an_end_and_one_with_a_key_of_a_megabyte() -> None:
    async def endless(target: str) -> AsyncGenerator[bytes, None]:
        yield b"<ListBucketResult>"
        while True:
            yield b"<Contents><Key>k</Key></Contents>" * 1000

    async with s3(s3_server(endless)) as driver, flat(96 * MIB):
        with pytest.raises(DestinationInvalid, match="short text"):
            await keys(driver)

    async def large(target: str) -> AsyncGenerator[bytes, None]:
        yield entries("n" * MIB, "good", "odd&#10;name", "a//b", "../up")

    async with s3(s3_server(large)) as driver:
        assert await keys(driver) == ["good"]


@pytest.mark.parametrize("size", ["-5", str(1 << 63), "9" * 40])
async def test_s3_sizes_that_cannot_be(size: str) -> None:
    async def page(target: str) -> AsyncGenerator[bytes, None]:
        yield entries("k", size=size)

    async with s3(s3_server(page, {"Content-Length": size})) as driver:
        for work in (keys(driver), driver.stat("k"), read(driver, "k")):
            with pytest.raises(StorageError):
                await work


async def test_an_s3_object_that_is_longer_than_the_store_said() -> None:
    async def body(target: str) -> AsyncGenerator[bytes, None]:
        while True:
            yield bytes(MIB)

    async with s3(s3_server(body, {"Content-Length": "10"})) as driver, flat():
        with pytest.raises(SizeMismatch):
            await read(driver, "k")


def test_a_listing_that_crawls_is_given_up() -> None:
    progress = pages.Progress("Listing", seconds=-1)
    with pytest.raises(DestinationUnreachable, match="too slowly"):
        progress.seen(1)
    pages.Progress("Listing", seconds=-1).seen(1000)

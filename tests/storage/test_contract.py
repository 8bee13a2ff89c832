"""The one contract suite of all storage drivers; a driver's own part is its fixture."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidName, ObjectNotFound, SizeMismatch
from app.storage.base import Options, StorageDriver
from app.storage.limits import LimitedDriver, Limits
from app.storage.memory import MemoryDriver
from app.storage.registry import build_driver
from app.storage.s3 import S3Driver
from demo.ceph import S3Server
from demo.ftp_servers import proftpd_server, vsftpd_server
from demo.service import ROOT
from demo.storage_servers import StorageServer, sftp_server

PLACES = ["local", "sftp", "sftp-bare", "s3", "ftp", "ftps", "ftps-implicit", "vsftpd", "vsftpd-tls"]


@pytest.fixture(scope="module")
def sftp() -> Iterator[StorageServer]:
    with sftp_server() as server:
        yield server


@pytest.fixture(scope="module")
def sftp_bare() -> Iterator[StorageServer]:
    """Without OpenSSH's extensions, as other servers are."""
    refused = "posix-rename,fsync,statvfs,fstatvfs,limits"
    with sftp_server(["-P", refused]) as server:
        yield server


@pytest.fixture(scope="module")
def ftp() -> Iterator[StorageServer]:
    with proftpd_server() as server:
        yield server


@pytest.fixture(scope="module")
def ftps() -> Iterator[StorageServer]:
    with proftpd_server("explicit") as server:
        yield server


@pytest.fixture(scope="module")
def ftps_implicit() -> Iterator[StorageServer]:
    with proftpd_server("implicit", reuse=False, tls="TLSv1.2") as server:
        yield server


@pytest.fixture(scope="module")
def vsftpd() -> Iterator[StorageServer]:
    with vsftpd_server() as server:
        yield server


@pytest.fixture(scope="module")
def vsftpd_tls() -> Iterator[StorageServer]:
    with vsftpd_server("explicit") as server:
        yield server


@pytest.fixture
def s3(s3_store: S3Server) -> StorageServer:
    return s3_store


def place(name: str, request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any]]:
    """Type and configuration of a new, empty place."""
    if name == "local":
        (folder / "root").mkdir()
        return "local", {"path": str(folder / "root")}
    server: StorageServer = request.getfixturevalue(name.replace("-", "_"))
    return server.type, server.fresh()


@pytest.fixture(params=[*PLACES, "limited", "memory"])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[StorageDriver, None]:
    if request.param == "memory":
        made: StorageDriver = MemoryDriver()
    elif request.param == "limited":
        made = LimitedDriver(build_driver(*place("local", request, tmp_path), Options()), Limits(1 << 30, 2))
    else:
        made = build_driver(*place(request.param, request, tmp_path), Options())
    yield made
    await made.close()


async def stream(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


async def read(driver: StorageDriver, key: str, offset: int = 0) -> bytes:
    return b"".join([chunk async for chunk in driver.get(key, offset)])


async def keys(driver: StorageDriver, prefix: str = "") -> list[str]:
    return sorted([info.key async for info in driver.list(prefix)])


async def test_put_get_stat_round_trip(driver: StorageDriver) -> None:
    info = await driver.put("a/b/c.bin", stream(b"hello ", b"world"), 11)
    assert (info.key, info.size) == ("a/b/c.bin", 11)
    assert await read(driver, "a/b/c.bin") == b"hello world"
    assert (await driver.stat("a/b/c.bin")).size == 11


async def test_put_replaces(driver: StorageDriver) -> None:
    await driver.put("k", stream(b"a long first content"))
    await driver.put("k", stream(b"short"))
    assert await read(driver, "k") == b"short"


async def test_get_from_an_offset(driver: StorageDriver) -> None:
    await driver.put("k", stream(b"0123456789"))
    assert await read(driver, "k", 4) == b"456789"
    assert await read(driver, "k", 10) == b""
    assert await read(driver, "k", 99) == b""


async def test_empty_object(driver: StorageDriver) -> None:
    await driver.put("empty", stream(), 0)
    assert (await driver.stat("empty")).size == 0
    assert await read(driver, "empty") == b""


async def test_64_mib_object_keeps_every_byte(driver: StorageDriver) -> None:
    block = os.urandom(1 << 20)
    digest = hashlib.sha256(block * 64)
    await driver.put("big", stream(*[block] * 64), 64 << 20)
    found = hashlib.sha256()
    async for chunk in driver.get("big"):
        assert len(chunk) <= 2 << 20
        found.update(chunk)
    assert found.digest() == digest.digest()


async def test_source_error_leaves_nothing_and_passes_through(driver: StorageDriver) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"x" * 1000
        raise RuntimeError("the dump failed")

    await driver.put("old", stream(b"kept"))
    for key in ("new", "old"):
        with pytest.raises(RuntimeError, match="the dump failed"):
            await driver.put(key, broken())
    assert await keys(driver) == ["old"]
    assert await read(driver, "old") == b"kept"


@pytest.mark.parametrize("announced", [3, 20])
async def test_source_that_lies_about_its_size(driver: StorageDriver, announced: int) -> None:
    with pytest.raises(SizeMismatch):
        await driver.put("k", stream(b"0123456789"), announced)
    assert await keys(driver) == []


async def test_cancellation_leaves_nothing(driver: StorageDriver) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield b"x"
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(driver.put("k", endless()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(driver) == []


async def test_nothing_is_visible_while_a_put_runs(driver: StorageDriver) -> None:
    seen: list[str] = []

    async def looking() -> AsyncGenerator[bytes, None]:
        yield b"x" * 10
        seen.extend(await keys(driver))
        with pytest.raises(ObjectNotFound):
            await driver.stat("k")
        yield b"y"

    await driver.put("k", looking())
    assert seen == []


async def test_concurrent_puts_of_one_key_end_with_one_of_them(driver: StorageDriver) -> None:
    contents = [bytes([65 + n]) * 100_000 for n in range(8)]
    await asyncio.gather(*(driver.put("same", stream(content)) for content in contents))
    assert await read(driver, "same") in contents
    assert await keys(driver) == ["same"]


async def test_listing_thousands_by_prefix(driver: StorageDriver) -> None:
    await asyncio.gather(*(driver.put(f"p{n % 3}/x{n:04d}", stream(b"1")) for n in range(2100)))
    assert len(await keys(driver)) == 2100
    assert await keys(driver, "p1/") == [f"p1/x{n:04d}" for n in range(2100) if n % 3 == 1]
    assert await keys(driver, "none/") == []


async def test_prefix_is_a_folder_not_a_string(driver: StorageDriver) -> None:
    await driver.put("ab/c", stream(b"1"))
    assert await keys(driver, "a/") == []
    with pytest.raises(InvalidName):
        await keys(driver, "a")


async def test_delete_is_idempotent(driver: StorageDriver) -> None:
    await driver.put("a/b", stream(b"1"))
    await driver.delete("a/b")
    await driver.delete("a/b")
    assert await keys(driver) == []
    with pytest.raises(ObjectNotFound):
        await driver.stat("a/b")
    with pytest.raises(ObjectNotFound):
        await read(driver, "a/b")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "./a",
        "a/.",
        ".put-1",
        "a\0b",
        "a\nb",
        "a\\b",
        "x" * 2000,
    ],
)
async def test_keys_that_try_to_leave_the_root(driver: StorageDriver, key: str) -> None:
    with pytest.raises(InvalidName):
        await driver.put(key, stream(b"1"))
    with pytest.raises(InvalidName):
        await read(driver, key)
    with pytest.raises(InvalidName):
        await driver.stat(key)
    with pytest.raises(InvalidName):
        await driver.delete(key)


async def test_unicode_and_odd_keys(driver: StorageDriver) -> None:
    odd = ["täst/ключ", "with space/-dash", "emoji/😀", "quote'\"/$x;`"]
    for key in odd:
        await driver.put(key, stream(key.encode()))
    assert await keys(driver) == sorted(odd)
    for key in odd:
        assert await read(driver, key) == key.encode()


async def test_check_passes_and_leaves_nothing(driver: StorageDriver) -> None:
    await driver.check()
    assert await keys(driver) == []


@pytest.mark.parametrize("name", [*PLACES, "memory"])
async def test_what_could_be_no_key_is_neither_listed_nor_touched(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whatever others put there: a sweep deletes what is listed, and no name may end it."""
    found: list[str]
    if name == "memory":
        memory = MemoryDriver()
        await memory.put("a/good", stream(b"1"))
        for strange in STRANGE:
            memory._objects[strange.decode("utf-8", "surrogateescape")] = memory._objects["a/good"]
        assert await keys(memory) == ["a/good"]
        return
    kind, configuration = place(name, request, tmp_path)
    driver = build_driver(kind, configuration, Options())
    try:
        await driver.put("a/good", stream(b"1"))
        if kind == "s3":
            before = await strange_objects(driver)
        else:
            server = None if name == "local" else request.getfixturevalue(name.replace("-", "_"))
            root = Path(configuration["path"]) if server is None else server.data / Path(configuration["root"]).name
            before = strange_files(root)
        found = await keys(driver)
        # A line of a listing ends at a line break: what comes before it looks like a name, and names nothing.
        assert set(found) - {"a/odd", "a/folder"} == {"a/good"}, found
        assert kind == "ftp" or found == ["a/good"]
        later = datetime.now(UTC) + timedelta(hours=1)
        await driver.remove_leftovers("", later)
        for key in found:
            await driver.delete(key)
        assert (await strange_objects(driver) if kind == "s3" else strange_files(root)) == before
    finally:
        await driver.close()


STRANGE = [
    b"a/odd\nname",
    b"a/bell\x07",
    b"a/delete\x7f",
    b"a/undecodable\xff",
    b"a/back\\slash",
    b"a/folder\nodd/inside",
    b"/".join([b"a", *[b"d" * 200] * 6]),
]


def strange_files(root: Path) -> list[str]:
    """Make them, as often as one likes; what lies there but for the good one."""
    for key in STRANGE:
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in (root, *root.rglob("*")):
        path.chmod(0o777)
    (root / "a/.put-folder").mkdir(exist_ok=True)
    return sorted(str(path) for path in root.rglob("*") if path.name != "good")


async def strange_objects(driver: StorageDriver) -> list[str]:
    assert isinstance(driver, S3Driver)
    bucket, prefix = driver._configuration.bucket, driver._configuration.prefix
    names = [*(key.decode() for key in STRANGE[:3] + STRANGE[4:6]), "/", "//x", "a/../b", "a/./b", "a/", "d/" * 450]

    async def make(client: Any) -> list[str]:
        for name in names:
            await client.put_object(Bucket=bucket, Key=prefix + name, Body=b"1")
        listed = await client.list_objects_v2(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"] for item in listed["Contents"] if not item["Key"].endswith("/good"))

    return await driver._s3.call("Making strange objects", make)


async def test_cancelled_at_any_moment_a_put_shows_nothing(driver: StorageDriver) -> None:
    started = asyncio.get_running_loop().time()
    await driver.put("k", stream(b"x"))
    took = asyncio.get_running_loop().time() - started
    await driver.delete("k")
    for number in range(30):
        task = asyncio.create_task(driver.put("k", stream(b"x")))
        await asyncio.wait({task}, timeout=took * number / 20)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert await keys(driver) == [], f"cancelled after {number}/20 of a put"
        else:
            await driver.delete("k")


async def test_puts_and_deletions_in_one_folder_never_fail(driver: StorageDriver) -> None:
    """A deletion removes folders that it leaves empty, a put makes them."""

    async def one(number: int) -> None:
        for turn in range(4):
            key = f"a/b{number % 2}/c/{number}-{turn}"
            await driver.put(key, stream(b"x"), 1)
            await driver.delete(key)

    async def look() -> None:
        for _ in range(5):
            await keys(driver)
            await driver.remove_leftovers("", datetime.now(UTC) - timedelta(hours=1))

    await asyncio.gather(*(one(number) for number in range(40)), look())
    assert await keys(driver) == []


@pytest.mark.parametrize("name", ["local", "sftp", "sftp-bare", "ftp", "vsftpd"])
async def test_a_folder_that_a_deletion_removes_as_soon_as_it_is_made(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver: Any = build_driver(*place(name, request, tmp_path), Options())
    make, left = type(driver)._make_folder, 5

    def due(folder: Any) -> bool:
        nonlocal left
        left -= os.fsencode(folder).endswith(b"/b") and left > 0
        return os.fsencode(folder).endswith(b"/b") and left > 0

    def at_once(self: Any, folder: Path) -> None:
        make(self, folder)
        if due(folder):
            folder.rmdir()

    async def remote(self: Any, session: Any, folder: Any) -> None:
        await make(self, session, folder)
        if due(folder):
            await (session.rmdir(folder) if isinstance(folder, bytes) else session.command(f"RMD {folder}", "2xx"))

    monkeypatch.setattr(type(driver), "_make_folder", at_once if name == "local" else remote)
    try:
        await driver.put("a/b/k", stream(b"x"))
        assert left == 0, "the moment came"
        assert await keys(driver) == ["a/b/k"]
    finally:
        await driver.close()


async def test_one_key_put_and_deleted_at_once(driver: StorageDriver) -> None:
    puts = [driver.put("a/b/k", stream(b"x" * 1000)) for _ in range(20)]
    ended = await asyncio.gather(*puts, *(driver.delete("a/b/k") for _ in range(20)), return_exceptions=True)
    removed = [one for one in ended if isinstance(one, ObjectNotFound)]  # before it was verified
    assert [one for one in ended if isinstance(one, BaseException)] == removed
    assert await keys(driver) in ([], ["a/b/k"])


@pytest.mark.parametrize("name", PLACES)
async def test_kill_in_the_middle_of_a_put_shows_nothing(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kind, configuration = place(name, request, tmp_path)
    program = (
        "import asyncio, json, sys\nfrom app.storage.base import Options\n"
        "from app.storage.registry import build_driver\n"
        "async def source():\n    yield b'x' * 20_000_000\n"
        "    print('written', flush=True)\n    await asyncio.sleep(600)\n"
        "kind, configuration = json.load(sys.stdin)\n"
        "asyncio.run(build_driver(kind, configuration, Options()).put('a/k', source()))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdout:
        process.stdin.write(json.dumps([kind, configuration]).encode())
        process.stdin.close()
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    driver = build_driver(kind, configuration, Options())
    try:
        assert await keys(driver) == []
        later = datetime.now(UTC) + timedelta(seconds=5)
        assert await driver.remove_leftovers("", datetime.now(UTC) - timedelta(hours=1)) == 0
        assert await driver.remove_leftovers("other/", later) == 0, "another installation's"
        assert await driver.remove_leftovers("a/", later) == 1
        assert await driver.remove_leftovers("", later) == 0
    finally:
        await driver.close()

"""`make test-large`: an object of 5 GiB, through every driver, on disk."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.storage.base import Options
from app.storage.registry import build_driver
from demo.ceph import s3_server
from demo.ftp_servers import proftpd_server, vsftpd_server
from demo.storage_servers import StorageServer, sftp_server
from tests.storage.test_contract import keys

SIZE = 5 << 30
MIB = 1 << 20
Place = tuple[str, dict[str, Any]]
_SERVERS: dict[str, Callable[[], AbstractContextManager[StorageServer]]] = {
    "sftp": sftp_server,
    "ftp": proftpd_server,
    "ftps": lambda: proftpd_server("explicit"),
    "vsftpd-tls": lambda: vsftpd_server("explicit"),
    "s3": lambda: s3_server(store="bluestore"),
}

pytestmark = [pytest.mark.large, pytest.mark.timeout(1800)]


@contextmanager
def place(name: str, folder: Path) -> Iterator[Place]:
    if name == "local":
        yield "local", {"path": str(folder / "root")}
        return
    with _SERVERS[name]() as server:
        yield server.type, server.fresh()


def memory() -> int:
    """Peak of this process in MiB, of proc_pid_status(5)."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) // 1024


@pytest.mark.parametrize("name", ["local", *_SERVERS])
async def test_five_gibibytes_come_back(name: str, tmp_path: Path) -> None:
    noise = random.Random(7).randbytes(2 * MIB)
    written = hashlib.sha256()

    async def source() -> AsyncGenerator[bytes, None]:
        for number in range(SIZE // MIB):
            start = number * 257 % MIB
            chunk = noise[start : start + MIB]
            written.update(chunk)
            yield chunk

    with place(name, tmp_path) as (kind, configuration):
        driver = build_driver(kind, configuration, Options())
        try:
            await driver.put("small", source_of(b"x"))
            Path("/proc/self/clear_refs").write_text("5")
            before = memory()
            info = await driver.put("deep/large", source())
            assert info.size == SIZE
            assert (await driver.stat("deep/large")).size == SIZE
            found = hashlib.sha256()
            async for chunk in driver.get("deep/large"):
                found.update(chunk)
            assert found.digest() == written.digest()
            tail = b"".join([chunk async for chunk in driver.get("deep/large", SIZE - 3)])
            start = (SIZE // MIB - 1) * 257 % MIB
            assert tail == noise[start + MIB - 3 : start + MIB]
            assert memory() - before < 100, "memory does not grow with the object"
            await driver.delete("deep/large")
            assert await keys(driver) == ["small"]
        finally:
            await driver.close()


async def source_of(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content

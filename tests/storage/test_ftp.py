"""What FTP has beyond the contract: TLS, both modes, broken lines, servers that refuse, fill up or lie."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.errors import (
    CertificateInvalid,
    DestinationRefused,
    DestinationUnreachable,
    NoSpace,
    SizeMismatch,
    StorageError,
)
from app.storage.base import Options, StorageDriver
from app.storage.registry import build_driver
from demo.ftp_servers import PASSWORD, proftpd_server, vsftpd_server
from demo.ports import free_ports
from demo.storage_servers import StorageServer, wait_for
from tests.storage.test_contract import keys, read, stream

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@pytest.fixture(scope="module", params=["proftpd", "proftpd-tls", "vsftpd-tls"])
def server(request: pytest.FixtureRequest) -> Iterator[StorageServer]:
    make: Any = {"proftpd": proftpd_server, "vsftpd": vsftpd_server}[request.param.partition("-")[0]]
    with make("explicit" if request.param.endswith("tls") else "none") as started:
        yield started


class Place:
    """Drivers of one folder, closed at the end."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration
        self._made: list[StorageDriver] = []

    def driver(self, resume_seconds: float = 20, **changes: Any) -> StorageDriver:
        options = Options(resume_seconds=resume_seconds)
        self._made.append(build_driver("ftp", self.configuration | changes, options))
        return self._made[-1]

    async def close(self) -> None:
        for made in self._made:
            await made.close()


@pytest.fixture
async def place(server: StorageServer) -> AsyncGenerator[Place, None]:
    made = Place(server.fresh())
    yield made
    await made.close()


async def test_wrong_credentials_and_unreachable_servers(place: Place) -> None:
    with pytest.raises(DestinationRefused, match="authentication failed"):
        await place.driver(password="wrong").check()
    with pytest.raises(DestinationUnreachable):
        await place.driver(port=free_ports(1)).check()


@pytest.mark.parametrize("server", ["proftpd-tls", "vsftpd-tls"], indirect=True)
async def test_a_certificate_must_be_trusted(place: Place) -> None:
    with pytest.raises(CertificateInvalid):
        await place.driver(certificate=None).check()
    await place.driver(certificate=None, verify_certificate=False).check()


def test_no_plaintext_without_saying_so() -> None:
    configuration = {"host": "ftp.example.com", "username": "u", "password": "p", "ssl": False}
    with pytest.raises(ValidationError, match="can be read on the way"):
        build_driver("ftp", configuration, Options())
    build_driver("ftp", configuration | {"allow_plaintext": True}, Options())


async def test_active_mode(place: Place) -> None:
    driver = place.driver(passive=False)
    content = os.urandom(3_000_000)
    await driver.put("a/b", stream(content))
    assert await read(driver, "a/b", 7) == content[7:]
    assert await keys(driver) == ["a/b"]


async def test_a_line_that_breaks_in_the_middle_of_a_put_is_resumed(place: Place, server: StorageServer) -> None:
    block = random.Random(1).randbytes(1_000_003)
    driver = place.driver()

    cuts = [9, 21]

    async def breaking() -> AsyncGenerator[bytes, None]:
        for number in range(36):
            # A break is noticed by the next write: until then there is nothing new to break.
            if cuts and number >= cuts[0] and server.drop_connections():
                cuts.pop(0)
            yield block

    info = await driver.put("big", breaking())
    assert info.size == 36 * len(block)
    assert await read(driver, "big") == block * 36
    assert await keys(driver) == ["big"]
    assert len(cuts) < 2, "it broke at least once"


async def test_a_line_that_breaks_in_the_middle_of_a_get_is_resumed(place: Place, server: StorageServer) -> None:
    content = random.Random(2).randbytes(30_000_001)
    driver = place.driver()
    await driver.put("big", stream(content))
    found = bytearray()
    async for chunk in driver.get("big", 5):
        if len(found) < 10_000_000 <= len(found) + len(chunk):
            assert server.drop_connections() > 0
        found += chunk
    assert bytes(found) == content[5:]


async def test_a_read_left_early_leaves_a_working_driver(place: Place) -> None:
    driver = place.driver()
    content = os.urandom(20_000_000)
    await driver.put("big", stream(content))
    reading = driver.get("big")
    await anext(reading)
    await reading.aclose()
    assert await read(driver, "big") == content


async def test_epsv_and_mlsd_refused_with_550_fall_back() -> None:
    with proftpd_server(deny="EPSV MLSD") as old:
        place = Place(old.fresh())
        driver = place.driver()
        await driver.check()
        await driver.put("-dash/with space", stream(b"1"))
        assert await keys(driver) == ["-dash/with space"]
        await place.close()


@needs_root
@pytest.mark.parametrize("make", [proftpd_server, vsftpd_server])
async def test_a_full_disk_is_named_and_older_objects_stay(make: Any) -> None:
    with make(size="24m") as small:
        place = Place(small.fresh())
        driver = place.driver(resume_seconds=3)
        await driver.put("old", stream(b"kept"))
        with pytest.raises(NoSpace):
            await driver.put("new", stream(*[os.urandom(1 << 20)] * 40))
        assert await keys(driver) == ["old"]
        await driver.put("again", stream(*[os.urandom(1 << 20)] * 10))
        await place.close()


@contextmanager
def faulty(folder: Path, fault: str) -> Iterator[Place]:
    port = free_ports(1)
    program = str(Path(__file__).with_name("faulty_ftp.py"))
    log = folder / "log"
    (folder / "data").mkdir()
    with log.open("wb") as out:
        argv = [sys.executable, program, str(folder / "data"), str(port), fault]
        process = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        wait_for("127.0.0.1", port, process, log)
        yield Place({
            "host": "127.0.0.1", "port": port, "username": "test", "password": PASSWORD, "ssl": "none",
            "allow_plaintext": True, "timeout": 3,
        })  # fmt: skip
    finally:
        process.terminate()
        process.wait(10)


async def test_a_server_that_loses_the_end_and_says_all_is_well(tmp_path: Path) -> None:
    with faulty(tmp_path, "lose=1000000") as place:
        driver = place.driver(resume_seconds=2)
        with pytest.raises(SizeMismatch, match="are at the server"):
            await driver.put("k", stream(os.urandom(2_000_000)))
        assert await keys(driver) == []
        await place.close()


async def test_a_server_that_tells_another_address_is_not_followed(tmp_path: Path) -> None:
    with faulty(tmp_path, "pasv=203.0.113.9") as place:
        await place.driver().check()
        await place.close()


@pytest.mark.parametrize("fault", ["drop=300000", "stall=300000"])
async def test_a_line_that_never_gets_far_is_given_up_or_crawled_over(tmp_path: Path, fault: str) -> None:
    content = os.urandom(2_000_000)
    with faulty(tmp_path, fault) as place:
        driver = place.driver(resume_seconds=2, timeout=1)
        try:
            await driver.put("k", stream(content))
        except StorageError:
            assert await keys(driver) == []
        else:
            assert (tmp_path / "data" / "k").read_bytes() == content
        await place.close()


async def test_a_download_that_is_cut_again_and_again_arrives_whole(tmp_path: Path) -> None:
    content = os.urandom(2_000_000)
    with faulty(tmp_path, "drop=300000") as place:
        (tmp_path / "data" / "k").write_bytes(content)
        assert await read(place.driver(), "k") == content
        await place.close()


async def test_a_deletion_that_fails_is_never_taken_for_done() -> None:
    with proftpd_server(deny="DELE") as stubborn:
        place = Place(stubborn.fresh())
        driver = place.driver()
        await driver.put("a/b", stream(b"1"))
        with pytest.raises(StorageError):
            await driver.delete("a/b")
        assert await keys(driver) == ["a/b"]
        await place.close()

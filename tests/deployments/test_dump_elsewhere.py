"""What a dump of the files of other places says: mounts, devices, long paths, blocks that cannot be read."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.archives.streams import from_bytes
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.tree_survey import longest
from app.deployments.base import User
from app.deployments.docker import Engine
from app.deployments.docker_site import DockerSite
from app.deployments.folder_archive import below_its_top
from app.errors import ArchiveDamaged
from demo.docker_engine import DockerEngine
from demo.odd_disk import odd_disk
from tests.components.helpers import collect
from tests.deployments.conftest import Place

OWNER = User(33, 33)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.jpg").write_bytes(os.urandom(200_000))
    (tmp_path / "shared" / "b.jpg").write_text("b")
    return tmp_path / "shared"


@pytest.fixture
def container(engine: DockerEngine, containers: dict[str, str], shared: Path) -> Iterator[str]:
    name = "mounts.example.com"
    options = ("-v", f"{shared}:/srv/www/up:ro", "--cap-add", "MKNOD")
    engine.container(name, "docker-gnu:1", "sleep", "100000", options=options)
    engine.run("exec", name, "sh", "-c", "echo hello >/srv/www/index.html")
    yield name
    engine.run("rm", "-f", name)


@pytest.mark.parametrize("stopped", [False, True])
async def test_mounts_of_a_container_are_named(engine: DockerEngine, container: str, stopped: bool) -> None:
    if stopped:
        engine.run("stop", "-t", "0", container)
    client = Engine(engine.url)
    deployment = await DockerSite(client, container, {"container": container}).at("files")
    dump = await FilesComponent(deployment, FilesTarget("/srv/www", OWNER)).dump()
    archive = await collect(dump)
    await client.close()
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert {"./index.html", "./up/b.jpg"} <= set(found.getnames())
    assert dump.report.facts["mounts"] == ["up"]
    assert ("mount_included", "up") in [(warning.code, warning.subject) for warning in dump.report.warnings]


async def test_the_engine_stops_at_a_block_that_cannot_be_read(
    engine: DockerEngine, containers: dict[str, str], shared: Path, tmp_path: Path
) -> None:
    """It names nothing and sends no more: at least the place is told."""
    name = "damaged.example.com"
    (tmp_path / "disk").mkdir()
    client = Engine(engine.url)
    with odd_disk(tmp_path / "disk", shared, bad={"a.jpg": 100_000}):
        options = ("-v", f"{tmp_path / 'disk'}:/srv/www:ro")
        engine.container(name, "docker-gnu:1", "sleep", "100000", options=options)
        try:
            engine.run("stop", "-t", "0", name)
            deployment = await DockerSite(client, name, {"container": name}).at("files")
            with pytest.raises(ArchiveDamaged, match=r"www/a\.jpg or after it"):
                await collect(await FilesComponent(deployment, FilesTarget("/srv/www", OWNER)).dump())
        finally:
            engine.run("rm", "-f", name)
            await client.close()


async def test_devices_and_long_paths_are_left_out_and_named(engine: DockerEngine, container: str) -> None:
    long = "/".join(["d" * 199] * 19)
    most = longest("/srv/www")
    script = f"mknod /srv/www/null c 1 3; mkdir -p /srv/www/{long}"
    engine.run("exec", container, "sh", "-c", script)
    engine.run("exec", container, "sh", "-c", f"cd /srv/www/{long} && echo >{'f' * (most + 1 - len(long) - 1)}")
    engine.run("stop", "-t", "0", container)
    client = Engine(engine.url)
    deployment = await DockerSite(client, container, {"container": container}).at("files")
    dump = await FilesComponent(deployment, FilesTarget("/srv/www", OWNER)).dump()
    archive = await collect(dump)
    await client.close()
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        names = found.getnames()
    assert f"./{long}" in names
    assert "./null" not in names
    assert not [name for name in names if len(name) > most + 2]
    assert [lack.code for lack in dump.report.incomplete] == ["path_too_long"]
    assert ("device_left_out", "null") in [(warning.code, warning.subject) for warning in dump.report.warnings]


async def test_without_anybody_to_ask_devices_are_left_out() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        device = tarfile.TarInfo("www/null")
        device.type = tarfile.CHRTYPE
        made.addfile(device)
        made.addfile(tarfile.TarInfo("www/x"))
    stream = below_its_top(from_bytes(file.getvalue()))
    with tarfile.open(fileobj=io.BytesIO(b"".join([chunk async for chunk in stream]))) as found:
        assert found.getnames() == ["./x"]


async def test_the_same_is_found_everywhere(place: Place) -> None:
    """Holes are kept, exclusions counted, and what is too long is left out, by GNU tar at the other end."""
    folder = place.folder
    deep, most = "/".join(["d" * 199] * 19), longest(folder)
    await place.sh(
        'umask 022 && cd "$1" && mkdir cache && echo 1 >cache/1 && echo 2 >a.log && echo hello >index.html && '
        "dd if=/dev/null of=hole bs=1 count=0 seek=104857600 2>/dev/null && "
        'mkdir -p "$2" && cd "$2" && echo >"$3" && echo >"$4"',
        folder, deep, "f" * (most - len(deep) - 1), "g" * (most - len(deep)),
    )  # fmt: skip
    target = FilesTarget(folder, OWNER, exclusions=("/cache", "*.log"))
    dump = await FilesComponent(place.deployment, target).dump()
    archive = await collect(dump)
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        names = found.getnames()
    assert "./index.html" in names
    assert dump.report.facts["mounts"] == []
    if "busybox" in place.kind:
        assert dump.report.facts["exclusions"] == []
        return
    assert dump.report.facts["exclusions"] == ["/cache", "*.log"]
    assert dump.report.facts["left_out"] == 2
    assert len(archive) < 1 << 20, "a hole is no data"
    assert [lack.code for lack in dump.report.incomplete] == ["path_too_long"]
    assert max(len(name) for name in names) == most + 2

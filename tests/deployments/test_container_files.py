"""Containers that run no commands: their files are read and written through the engine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.archives.streams import from_bytes
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.mail import MailComponent, MailTarget
from app.deployments.base import User
from app.deployments.docker import Engine
from app.deployments.docker_archive import ContainerFiles
from app.deployments.docker_site import DockerSite
from app.deployments.folder_archive import above_its_top, below_its_top
from app.errors import (
    ArchiveDamaged,
    ConsentRequired,
    InvalidRequest,
    MemberMismatch,
    SwapImpossible,
    TargetAmbiguous,
    TargetMissing,
)
from demo.docker_engine import DockerEngine
from tests.components.helpers import Context, collect

OWNER = User(33, 33)
_MAKE = """
mkdir -p /srv/www/deep/er /srv/www/empty && cd /srv/www && echo index >index.html && ln index.html deep/hard
printf 'a\\0b' >'deep/er/with space' && echo ü >'deep/ümlaut' && ln -s ../index.html deep/link
head -c 3000000 /dev/zero >large && chmod 640 index.html && chown -hR 33:33 /srv/www && touch -d @1700000000 large
printf 'x' >"$(printf 'deep/latin1-\\351')" && chown 33:33 deep/latin1* && touch /srv/www/.liberu-restore-old
"""


@pytest.fixture
async def sites(engine: DockerEngine, containers: dict[str, str]) -> AsyncGenerator[Callable[..., DockerSite], None]:
    client = Engine(engine.url)
    made: list[str] = []

    def site(name: str, *, kind: str = "docker-gnu", stopped: bool = True) -> DockerSite:
        container = engine.container(name, f"{kind}:1", "sleep", "100000")
        made.append(container)
        engine.run("exec", container, "sh", "-c", _MAKE)
        if stopped:
            engine.run("stop", "-t", "0", container)
        return DockerSite(client, name, {"container": name, "mail_container": name})

    yield site
    await client.close()
    for container in made:
        engine.run("rm", "-f", container)


async def listing(engine: DockerEngine, name: str) -> list[str]:
    engine.run("start", name)
    script = "cd /srv/www && find . ! -name '.liberu*' -printf '%P %y %m %U:%G %l\\n' | sort"
    script += "; sha256sum large; stat -c %Y large"
    found = engine.run("exec", name, "sh", "-c", script).splitlines()
    engine.run("stop", "-t", "0", name)
    return found


async def test_a_stopped_container_is_dumped_and_restored(
    engine: DockerEngine, sites: Callable[..., DockerSite]
) -> None:
    site = sites("stopped.example.com")
    assert await site.used("files") == {"container": "stopped.example.com", "state": "exited"}
    deployment = await site.at("files")
    before = await listing(engine, "stopped.example.com")
    assert len(before) == 13
    assert await deployment.resolve_user("www-data") == OWNER
    assert await deployment.resolve_group("www-data") == 33
    with pytest.raises(InvalidRequest, match="no group"):
        await deployment.resolve_group("nobody-has-this")
    component = FilesComponent(deployment, FilesTarget("/srv/www", OWNER))
    dump = await component.dump()
    content = await collect(dump)
    assert [warning.code for warning in dump.report.warnings] == ["tar_limited"]
    engine.run("start", "stopped.example.com")
    damage = "cd /srv/www && rm -rf deep && echo no >index.html && echo more >new && chown -h 0:0 . index.html"
    engine.run("exec", "stopped.example.com", "sh", "-c", damage)
    engine.run("stop", "-t", "0", "stopped.example.com")
    for context in (Context(), Context(in_place=True), Context(clear=False)):
        with pytest.raises(ConsentRequired, match="start it, or add and overwrite files only"):
            await component.restore(from_bytes(content), context.context, len(content))
    context = Context(clear=False, in_place=True)
    report = await component.restore(from_bytes(content), context.context, len(content))
    assert "in_place" in [warning.code for warning in report.warnings]
    after = await listing(engine, "stopped.example.com")
    assert [line for line in after if not line.startswith("new f")] == before
    assert len(after) == len(before) + 1, "what is not in the backup stays"


async def test_a_planted_link_leads_nowhere(engine: DockerEngine, sites: Callable[..., DockerSite]) -> None:
    site = sites("planted.example.com")
    component = FilesComponent(await site.at("files"), FilesTarget("/srv/www", OWNER))
    content = await collect(await component.dump())
    engine.run("start", "planted.example.com")
    plant = "cd /srv && rm -rf www/deep && ln -s /etc www/deep; ln -s www l"
    engine.run("exec", "planted.example.com", "sh", "-c", plant)
    engine.run("stop", "-t", "0", "planted.example.com")
    context = Context(clear=False, in_place=True)
    await component.restore(from_bytes(content), context.context, len(content))
    engine.run("start", "planted.example.com")
    shown = engine.run("exec", "planted.example.com", "sh", "-c", "ls -A /etc; stat -c %F /srv/www/deep")
    engine.run("stop", "-t", "0", "planted.example.com")
    assert shown.splitlines() == ["group", "hostname", "hosts", "mtab", "passwd", "resolv.conf", "directory"]
    for path in ("/srv/l", "/srv/www/large", "/nowhere"):
        with pytest.raises(TargetMissing):
            await FilesComponent(await site.at("files"), FilesTarget(path, OWNER)).dump()


async def test_what_needs_commands_says_so(engine: DockerEngine, sites: Callable[..., DockerSite]) -> None:
    site = sites("idle.example.com")
    with pytest.raises(TargetMissing, match="is exited: only its files"):
        await (await site.at("files")).run(["true"])
    mail = MailComponent(await site.at("mail"), MailTarget("/srv/www", [], OWNER))
    content = await collect(await mail.dump())
    with pytest.raises(SwapImpossible, match="start it"):
        await mail.restore(from_bytes(content), Context().context, len(content))
    database = DockerSite(Engine(engine.url), "x", {"database_container": "idle.example.com"})
    with pytest.raises(TargetMissing, match="its database cannot be reached; start it"):
        await database.at("database")
    await database._engine.close()


async def test_a_running_container_without_a_shell_has_its_files(
    engine: DockerEngine, sites: Callable[..., DockerSite]
) -> None:
    site = sites("bare.example.com", stopped=False)
    engine.run("exec", "bare.example.com", "mv", "/bin/sh", "/bin/hidden")
    deployment = await site.at("files")
    assert isinstance(deployment, ContainerFiles)
    assert len(await collect(await FilesComponent(deployment, FilesTarget("/srv/www", OWNER)).dump())) > 3_000_000


async def test_several_stopped_ones_are_not_guessed(engine: DockerEngine, sites: Callable[..., DockerSite]) -> None:
    label = ("--label", "liberu.domain=two.example.com")
    made = [engine.run("create", "--network", "none", *label, "docker-gnu:1", "true") for _ in range(2)]
    client = Engine(engine.url)
    with pytest.raises(TargetAmbiguous, match="name one"):
        await DockerSite(client, "two.example.com", {}).at("files")
    await client.close()
    engine.run("rm", *made)


def archive(*members: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as made:
        for facts in members:
            info = tarfile.TarInfo(facts["name"])
            for key, value in facts.items():
                setattr(info, key, value)
            made.addfile(info, io.BytesIO(bytes(info.size)))
    return file.getvalue()


async def rewritten(content: bytes, links: set[bytes] | None = None) -> bytes:
    stream = above_its_top(from_bytes(content), "www", lambda uid, gid: (33, 33), links or set())
    return b"".join([chunk async for chunk in stream])


async def test_no_member_lies_behind_a_link_that_is_there() -> None:
    content = archive({"name": "./deep/x"})
    with pytest.raises(MemberMismatch, match="behind a symbolic link"):
        await rewritten(content, {b"deep"})
    assert await rewritten(content, {b"deeper"})


LINK = {"name": "./a", "type": tarfile.SYMTYPE, "linkname": "/etc"}


@pytest.mark.parametrize(
    "members",
    [
        [{"name": "../x"}], [{"name": "/etc/passwd"}], [{"name": "./a/../../x"}], [LINK, {"name": "./a/passwd"}],
        [LINK, {"name": "./b", "type": tarfile.LNKTYPE, "linkname": "./a/shadow"}],
        [{"name": "./b", "type": tarfile.LNKTYPE, "linkname": "../../etc/shadow"}],
        [{"name": "./null", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}],
    ],
)  # fmt: skip
async def test_members_that_would_leave_the_folder_are_refused(members: list[dict[str, Any]]) -> None:
    with pytest.raises(MemberMismatch):
        await rewritten(archive(*members))


async def test_members_get_allowed_owners_and_no_capabilities() -> None:
    pax = {"SCHILY.xattr.security.capability": "x", "SCHILY.xattr.user.note": "kept", "SCHILY.acl.access": "y"}
    content = archive({"name": "./tool", "uid": 0, "gid": 0, "uname": "root", "pax_headers": pax, "size": 700})
    with tarfile.open(fileobj=io.BytesIO(await rewritten(content))) as found:
        (member,) = found.getmembers()
    assert (member.uid, member.gid, member.uname, member.size) == (33, 33, "", 700)
    assert {key for key in member.pax_headers if "SCHILY" in key} == {"SCHILY.xattr.user.note"}


@pytest.mark.parametrize("cut", [1, 512, 1024, 1025, 5000, 10_240])
async def test_a_cut_archive_of_the_engine_is_found_out(cut: int) -> None:
    files = [{"name": f"top/{number}", "size": 900} for number in range(20)]
    content = archive({"name": "top"}, *files)
    assert len(content) > 50 * 512 > 10_240 + cut
    for cutting in (content[: 50 * 512 - cut], content[: 61 * 512], content[: 61 * 512] + bytes(512), b""):
        with pytest.raises(ArchiveDamaged):
            async for _ in below_its_top(from_bytes(cutting)):
                pass


@given(st.binary(max_size=3000))
async def test_no_input_makes_another_error(noise: bytes) -> None:
    base = archive({"name": "top", "type": tarfile.DIRTYPE}, {"name": "top/é" * 40, "size": 10})
    for content in (noise, base[: len(noise)] + noise, base[:300] + noise + base[300:]):
        try:
            async for _ in below_its_top(from_bytes(content)):
                pass
            await rewritten(content)
        except (ArchiveDamaged, MemberMismatch):
            pass

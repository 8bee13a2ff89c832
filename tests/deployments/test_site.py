"""Files and mail of a site, wherever it runs: dumped, restored, swapped, merged; nothing lost on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.archives.streams import ByteStream, from_bytes
from app.components.base import Component
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.mail import MailComponent, MailTarget
from app.deployments.base import User
from app.errors import SwapImpossible, TargetMissing
from tests.components.helpers import Context, codes, collect
from tests.deployments.conftest import PLACES, Place

pytestmark = pytest.mark.parametrize("place", [*PLACES, "docker-tarless"], indirect=True)

_SITE = r"""
set -e
cd -- "$1"
mkdir -p www/deep/er www/empty
echo index >www/index.html
echo hidden >www/.htaccess
printf 'a\0b' >"www/deep/er/with space.bin"
echo line >"www/deep/new
line"
printf x >"www/deep/ümlaut"
ln -s ../index.html www/deep/link
ln -s /etc/passwd www/deep/outside
ln www/index.html www/deep/hard
head -c 3000000 /dev/zero >www/large
chmod 640 www/.htaccess
chmod 2750 www/deep
[ "$(id -u)" != 0 ] || chown -hR 33:33 www
"""
_FACTS = r"""
cd -- "$1"
find . -exec stat -c '%n %A %u:%g' {} \; | sort
find . -type f -exec sha256sum {} \; | sort
find . -type l -exec ls -l {} \; | sed 's/.* -> //' 2>/dev/null | sort
"""


@pytest.fixture
async def site(place: Place) -> str:
    await place.sh(_SITE, place.folder)
    return f"{place.folder}/www"


def files(place: Place, root: str) -> FilesComponent:
    owner = User(33, 33) if place.deployment.privileged else User(0, 0)
    return FilesComponent(place.deployment, FilesTarget(root, owner))


async def facts(place: Place, root: str) -> list[str]:
    result = await place.deployment.run(["sh", "-c", _FACTS, "sh", root])
    found = result.stdout.decode("utf-8", "surrogateescape")
    if place.kind.endswith("busybox"):  # a dump says so: tar_limited
        found = found.replace("./deep drwxr-s---", "./deep drwxr-x---")
    return found.splitlines()


async def restore(component: Component, content: bytes, context: Context) -> Any:
    return await component.restore(from_bytes(content), context.context, len(content))


async def staging(place: Place) -> str:
    return (await place.sh('find "$1" -name ".liberu-restore-*"', place.folder)).strip()


async def test_files_come_back_as_they_were(place: Place, site: str) -> None:
    component = files(place, site)
    before = await facts(place, site)
    content = await collect(await component.dump())
    await place.sh('cd "$1" && rm -rf deep index.html && echo other >new && mkdir later && echo y >later/y', site)
    context = Context()
    report = await restore(component, content, context)
    assert report.facts["members"] == 13
    await component.tidy(context.journal)
    assert await facts(place, site) == before
    assert await staging(place) == ""


async def test_merging_keeps_what_is_newer(place: Place, site: str) -> None:
    component = files(place, site)
    content = await collect(await component.dump())
    script = """cd "$1" && rm deep/er/* && echo changed >index.html && mkdir -p later/on && echo y >later/on/y
        ln -s nowhere later/dangling; echo "odd" >".odd name"; [ "$(id -u)" != 0 ] || chown -hR 33:33 ."""
    await place.sh(script, site)
    context = Context(clear=False)
    late = f"{site}/deep/uploaded meanwhile"

    async def upload() -> None:
        await place.sh('echo late >"$1"; [ "$(id -u)" != 0 ] || chown 33:33 "$1"', late)

    context.before_confirm = upload
    report = await restore(component, content, context)
    assert (await place.sh('cat "$1/index.html"', site)) == "index\n"
    listed = await place.sh('cd "$1" && ls -A . deep/er later later/on', site)
    for name in ("with space.bin", "dangling", "y", ".odd name", "large"):
        assert name in listed
    assert report.facts["carried_over"] == 1
    assert await place.sh('cat "$1"', late) == "late\n"
    await component.tidy(context.journal)
    assert await staging(place) == ""


async def test_a_restore_that_fails_changes_nothing(place: Place, site: str) -> None:
    component = files(place, site)
    content = await collect(await component.dump())
    before = await facts(place, site)

    async def cut() -> ByteStream:
        yield content[: len(content) // 2]
        raise ValueError("the line broke")

    context = Context()
    with pytest.raises(ValueError, match="the line broke"):
        await component.restore(cut(), context.context, len(content))
    assert await facts(place, site) == before
    context = Context()
    context.fail = RuntimeError("another attempt owns it")
    with pytest.raises(RuntimeError):
        await restore(component, content, context)
    assert await facts(place, site) == before
    assert await staging(place) == ""


async def test_a_planted_staging_folder_is_refused(place: Place, site: str) -> None:
    component = files(place, site)
    content = await collect(await component.dump())
    outside = f"{place.folder}/outside"
    await place.sh('mkdir "$1" && echo precious >"$1/file"', outside)

    context = Context()

    async def plant() -> None:
        script = """cd "$1" && for name in .liberu-restore-*; do mv "$name" "../moved"; ln -s "$2" "$name"; done"""
        await place.sh(script, site, outside)

    if place.kind == "standalone":
        pytest.skip("its staging is beside the site")
    context.before_confirm = plant
    with pytest.raises((SwapImpossible, TargetMissing)):
        await restore(component, content, context)
    assert await place.sh('ls -A "$1"', outside) == "file\n"
    assert "index.html" in await place.sh('ls -A "$1"', site)


async def test_a_busy_site_is_merged_while_files_come_and_go(place: Place, site: str) -> None:
    """Files that vanish while they are linked, new folders, files that are replaced by rename; some are not the
    owner's."""
    component = files(place, site)
    content = await collect(await component.dump())
    churn = """touch "$1/go" && i=0; while [ -e "$1/go" ]; do i=$((i + 1)); echo $i >"$1/deep/s"
        mv "$1/deep/s" "$1/deep/session"; mkdir -p "$1/cache/$i"; echo x >"$1/cache/$i/x"
        rm -rf "$1/cache/$((i - 2))"; done 2>/dev/null"""
    busy = asyncio.create_task(place.sh(churn, site))
    try:
        while "session" not in await place.sh('ls "$1/deep"', site):
            pass
        for _ in range(3):
            context = Context(clear=False)
            report = await restore(component, content, context)
            told = {"tar_limited", "arrived_meanwhile", "not_carried_over"}
            assert set(codes(report)) <= told, report.warnings
            await component.tidy(context.journal)
    finally:
        await place.sh('rm -f "$1/go"', site)
        await busy
    assert (await place.sh('cat "$1/index.html"', site)) == "index\n"
    assert await place.sh('cat "$1/deep/session"', site) != ""
    assert await staging(place) == ""


async def test_set_group_id_and_sticky_bits_survive_for_allowed_groups(place: Place, site: str) -> None:
    if not place.deployment.privileged or place.kind.endswith(("busybox", "tarless")):
        pytest.skip("files cannot be given away, or this tar keeps no such bits")
    script = """cd "$1" && mkdir shared && echo x >shared/run && chown -R 33:4242 shared && chmod 3770 shared &&
        chmod 6755 shared/run"""
    await place.sh(script, site)
    target = FilesTarget(site, User(33, 33), allowed_gids=frozenset({4242}))
    component = FilesComponent(place.deployment, target)
    content = await collect(await component.dump())
    await place.sh('rm -r "$1/shared"', site)
    context = Context()
    await restore(component, content, context)
    await component.tidy(context.journal)
    kept = await place.sh("cd \"$1\" && stat -c '%a %u:%g' shared shared/run", site)
    assert kept.splitlines() == ["3770 33:4242", "2755 33:4242"], "a program never runs as another user"


_MAIL = r"""
set -e
cd -- "$1"
for box in ann@example.com bob@example.com; do
  mkdir -p "mail/$box/cur" "mail/$box/new" "mail/$box/tmp" "mail/$box/.Sent/cur" "mail/$box/.Sent/new"
  for n in 1 2 3; do echo "to $box $n" >"mail/$box/cur/$n.host:2,S"; done
  echo new >"mail/$box/new/9.host"
  echo sent >"mail/$box/.Sent/cur/5.host:2,S"
  echo idx >"mail/$box/dovecot-uidlist"
done
[ "$(id -u)" != 0 ] || chown -hR 33:33 mail
"""


async def test_mail_is_added_and_nothing_delivered_since_is_lost(place: Place) -> None:
    await place.sh(_MAIL, place.folder)
    root = f"{place.folder}/mail"
    owner = User(33, 33) if place.deployment.privileged else User(0, 0)
    component = MailComponent(place.deployment, MailTarget(root, ["ann@example.com", "bob@example.com"], owner))
    content = await collect(await component.dump())
    script = """cd "$1" && rm -rf bob@example.com && cd ann@example.com && rm cur/1.host:2,S &&
        mv cur/2.host:2,S "cur/2.host:2,RS" && mv new/9.host cur/9.host:2,S && echo later >new/77.host
        [ "$(id -u)" != 0 ] || chown -h 33:33 new/77.host"""
    await place.sh(script, root)
    report = await restore(component, content, Context())
    assert report.facts["added"] == 1 + 5
    listed = (await place.sh('cd "$1" && find . -type f | sort', root)).split()
    assert [name for name in listed if "ann" in name and ".Sent" not in name] == [
        "./ann@example.com/cur/1.host:2,S", "./ann@example.com/cur/2.host:2,RS", "./ann@example.com/cur/3.host:2,S",
        "./ann@example.com/cur/9.host:2,S", "./ann@example.com/dovecot-uidlist", "./ann@example.com/new/77.host",
    ]  # fmt: skip
    assert len([name for name in listed if "bob" in name]) == 5
    if place.deployment.privileged:
        owners = await place.sh("cd \"$1\" && find . -exec stat -c '%u:%g' {} \\; | sort -u", root)
        assert owners.split() == ["33:33"]
    assert (await restore(component, content, Context())).facts["added"] == 0, "again adds nothing"
    assert await staging(place) == ""

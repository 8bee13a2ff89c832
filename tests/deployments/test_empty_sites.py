"""Wherever a site runs: it is emptied with consent only, and its mail is folders and files."""

from __future__ import annotations

import pytest

from app.archives.streams import from_bytes
from app.components.extraction import FilesTarget
from app.components.files import FilesComponent
from app.components.mail import MailComponent, MailTarget
from app.deployments.base import User
from app.errors import ConsentRequired
from tests.attacks.test_imports import tree
from tests.components.helpers import Context, codes, collect
from tests.deployments.conftest import PLACES, Place

pytestmark = pytest.mark.parametrize("place", PLACES, indirect=True)
_SITE = 'mkdir "$1/www" && echo live >"$1/www/index.php" && { [ "$(id -u)" != 0 ] || chown -R 33:33 "$1/www"; }'
_MAIL = """
mkdir -p "$1/mail/ann/cur" && cd -- "$1/mail"
echo one >ann/cur/1.host:2,S
ln -s /etc/passwd ann/cur/9.host:2,S
ln -s ../bob ann/.Stolen
[ "$(id -u)" != 0 ] || chown -hR 33:33 .
"""


def owner(place: Place) -> User:
    return User(33, 33) if place.deployment.privileged else User(0, 0)


async def test_a_tree_without_a_file_asks_first(place: Place) -> None:
    await place.sh(_SITE, place.folder)
    root = f"{place.folder}/www"
    component = FilesComponent(place.deployment, FilesTarget(root, owner(place)))
    archive = tree((".", b"5", ""), ("./a", b"5", ""))
    looked = await component.rehearse(from_bytes(archive), Context().context)
    assert "allow_empty" in looked.facts["needs"]
    with pytest.raises(ConsentRequired, match="allow_empty"):
        await component.restore(from_bytes(archive), Context().context, len(archive))
    assert await place.sh('cat "$1/index.php"', root) == "live\n"
    agreed = Context("op2", empty=True)
    await component.restore(from_bytes(archive), agreed.context, len(archive))
    await component.tidy(agreed.journal)
    assert await place.sh('ls "$1"', root) == "a\n"


async def test_links_are_no_mail(place: Place) -> None:
    await place.sh(_MAIL, place.folder)
    folder = f"{place.folder}/mail"
    component = MailComponent(place.deployment, MailTarget(folder, [], owner(place)))
    dump = await component.dump()
    archive = await collect(dump)
    if not place.kind.endswith("busybox"):  # whose tar can leave nothing out
        assert b"Stolen" not in archive
        assert "not_mail" in codes(dump.report)
    archive = tree(
        (".", b"5", ""), ("./ann", b"5", ""), ("./ann/cur", b"5", ""), ("./ann/cur/2.host:2,S", b"0", "two"),
        ("./ann/cur/8.host:2,S", b"2", "/etc/passwd"), ("./ann/.Other", b"2", "../bob"),
    )  # fmt: skip
    report = await component.restore(from_bytes(archive), Context().context, len(archive))
    assert "not_mail" in codes(report)
    assert await place.sh('ls -A "$1/ann" "$1/ann/cur"', folder) == (
        f"{folder}/ann:\n.Stolen\ncur\n\n{folder}/ann/cur:\n1.host:2,S\n2.host:2,S\n9.host:2,S\n"
    ), "what is live stays as it is"

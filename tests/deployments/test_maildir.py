"""Maildirs, wherever they lie: keywords keep their meaning, quotas their limits, moved messages are not doubled."""

from __future__ import annotations

import pytest

from app.archives.streams import from_bytes
from app.components.base import Report
from app.components.mail import MailComponent, MailTarget
from app.deployments.base import User
from tests.components.helpers import Context, codes, collect
from tests.deployments.conftest import PLACES, Place

pytestmark = pytest.mark.parametrize("place", PLACES, indirect=True)

_MAIL = r"""
set -e
mkdir -p "$1/mail"
cd -- "$1/mail"
for box in ann bob; do
  for folder in . .Work .Trash; do mkdir -p "$box/$folder/cur" "$box/$folder/new" "$box/$folder/tmp"; done
  printf '0 $Forwarded\n1 blue\n2 $Label1\n' >"$box/dovecot-keywords"
  printf '0 green\n' >"$box/.Work/dovecot-keywords"
  echo one >"$box/cur/1.host:2,FSab"
  echo two >"$box/cur/2.host:2,c"
  echo three >"$box/cur/3.host:2,S"
  echo work >"$box/.Work/cur/4.host:2,Sa"
  echo deleted >"$box/cur/5.host:2,S"
  echo trash >"$box/.Trash/cur/6.host:2,ST"
  printf '1000S,50C\n600 6\n' >"$box/maildirsize"
  echo Work >"$box/subscriptions"
  echo 'user=x lr' >"$box/.Work/dovecot-acl"
  for name in dovecot-uidlist dovecot-uidvalidity.5 dovecot.index.cache dovecot.index.log.2 dovecot.mailbox.log \
    dovecot-acl-list .dovecot.svbin courierimapuiddb; do echo old >"$box/$name"; done
done
[ "$(id -u)" != 0 ] || chown -hR 33:33 .
"""
#: Since then: other numbers for the keywords, a message moved, one deleted, what is made anew not yet there.
_SINCE = r"""
set -e
cd -- "$1/mail"
rm -rf bob
cd ann
printf '0 blue\n1 $MDNSent\n2 $forwarded\n' >dovecot-keywords
rm .Work/dovecot-keywords .Work/cur/4.host* cur/1.host* cur/2.host* subscriptions .Work/dovecot-acl
rm dovecot-* dovecot.* .dovecot.svbin courierimapuiddb 2>/dev/null || :
printf '0 blue\n1 $MDNSent\n2 $forwarded\n' >dovecot-keywords
mv cur/3.host* .Work/cur/3.host:2,RS
mv cur/5.host* .Trash/cur/5.host:2,S
printf '2000S,90C\n100 1\n' >maildirsize
[ "$(id -u)" != 0 ] || chown -hR 33:33 .
"""


async def restored(place: Place) -> Report:
    owner = User(33, 33) if place.deployment.privileged else User(0, 0)
    await place.sh(_MAIL, place.folder)
    component = MailComponent(place.deployment, MailTarget(f"{place.folder}/mail", ["ann", "bob"], owner))
    archive = await collect(await component.dump())
    await place.sh(_SINCE, place.folder)
    report = await component.restore(from_bytes(archive), Context().context, len(archive))
    again = await component.restore(from_bytes(archive), Context("op2").context, len(archive))
    assert again.facts["added"] == 0
    return report


async def names(place: Place, box: str) -> list[str]:
    found = await place.sh('cd -- "$1" && find . -type f', f"{place.folder}/mail/{box}")
    return sorted(line.removeprefix("./") for line in found.splitlines())


async def test_a_mailbox_that_went_on(place: Place) -> None:
    report = await restored(place)
    assert await names(place, "ann") == sorted(
        [
            "cur/1.host:2,FSac",  # blue and $Forwarded are other letters here
            "cur/2.host:2,",  # $Label1 has none
            ".Work/cur/3.host:2,RS",  # moved, so not added again
            ".Work/cur/4.host:2,Sa",
            "cur/5.host:2,S", ".Trash/cur/5.host:2,S",  # in the trash it is about to be lost
            ".Trash/cur/6.host:2,ST",
            ".Work/dovecot-keywords", ".Work/dovecot-acl", "dovecot-keywords", "maildirsize", "subscriptions",
        ]
    )  # fmt: skip
    assert codes(report)[-1] == "mail_keywords_dropped"
    assert report.warnings[-1].message.startswith("1 keyword")
    read = 'cd -- "$1" && cat maildirsize dovecot-keywords .Work/dovecot-keywords'
    assert await place.sh(read, f"{place.folder}/mail/ann") == (
        "2000S,90C\n100 1\n21 4\n0 blue\n1 $MDNSent\n2 $forwarded\n0 green\n"
    ), "the live quota's limits stay, and what was added is counted"


async def test_a_mailbox_that_is_gone(place: Place) -> None:
    await restored(place)
    assert await names(place, "bob") == sorted(
        [
            "cur/1.host:2,FSab", "cur/2.host:2,c", "cur/3.host:2,S", ".Work/cur/4.host:2,Sa", "cur/5.host:2,S",
            ".Trash/cur/6.host:2,ST", ".Work/dovecot-keywords", ".Work/dovecot-acl", "dovecot-keywords",
            "maildirsize", "subscriptions",
        ]
    )  # fmt: skip
    found = await place.sh('cat "$1"', f"{place.folder}/mail/bob/maildirsize")
    assert found == "1000S,50C\n27 5\n", "the limits come back, and with them what there is"
    if place.deployment.privileged:
        owner = await place.sh('stat -c %u "$1"', f"{place.folder}/mail/bob/maildirsize")
        assert owner.strip() == "33"

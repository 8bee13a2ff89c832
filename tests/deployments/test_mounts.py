"""Mounts below a folder, from the kernel's table."""

from __future__ import annotations

from app.deployments.mounts import mounts_below

_TABLE = r"""
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:25 / /home/shop/public_html rw - ext4 /dev/sdb rw
31 30 0:26 / /home/shop/public_html/uploads rw shared:1 - nfs4 server:/uploads rw
32 30 8:1 /srv/a /home/shop/public_html/with\040space\134040 rw - ext4 /dev/sda1 rw
33 30 8:1 /srv/b /home/shop/public_html/uploads rw - ext4 /dev/sda1 rw
34 22 8:1 /srv/c /home/shop/public_html2/uploads rw - ext4 /dev/sda1 rw
broken line
"""


def test_mounts_below_a_folder() -> None:
    expected = ["/home/shop/public_html/uploads", "/home/shop/public_html/with space\\040"]
    assert mounts_below(_TABLE, "/home/shop/public_html") == expected
    assert mounts_below(_TABLE, "/home//shop/./public_html/") == expected
    assert mounts_below(_TABLE, "/home/shop/public_html/uploads") == []
    assert mounts_below(_TABLE, "/home/shop/public") == []
    assert len(mounts_below(_TABLE, "/")) == 4


def test_names_of_any_bytes() -> None:
    table = b"31 30 0:26 / /site/\xff\xfe\\012 rw - nfs4 x rw\n32 30 0:26 / /site/h\xc3\xa9 rw - nfs4 x rw\n"
    found = mounts_below(table.decode("utf-8", "surrogateescape"), "/site")
    assert [name.encode("utf-8", "surrogateescape") for name in found] == [b"/site/h\xc3\xa9", b"/site/\xff\xfe\n"]

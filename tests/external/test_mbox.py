"""Messages of an mbox are those that were put into it."""

from __future__ import annotations

import io
import mailbox
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deployments.base import User
from app.external.mbox import measured, messages, pieces
from app.external.tree import TreeTar
from tests.external import virtualmin_domain
from tests.external.conftest import parsed, streamed
from tests.external.cpanel_account import MAIN

LINES = st.lists(st.sampled_from(["text", "", "From here", ">From there", ">>From x", " From"]), max_size=8)


def put(folder: Path, texts: list[str]) -> bytes:
    path = folder / "box"
    path.unlink(missing_ok=True)
    box = mailbox.mbox(path)
    for text in texts:
        box.add(mailbox.mboxMessage(text))
    box.close()
    return path.read_bytes()


def chunked(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(5))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(st.lists(LINES, min_size=1, max_size=5), st.integers())
def test_every_message_once(tmp_path_factory: pytest.TempPathFactory, bodies: list[list[str]], seed: int) -> None:
    texts = [f"Subject: {number}\n\n" + "".join(f"{line}\n" for line in body) for number, body in enumerate(bodies)]
    data = put(tmp_path_factory.mktemp("mbox"), texts)
    chunks = chunked(data, random.Random(seed))
    found = [(size, file.read()) for _, size, file in messages(chunks, Path("/tmp"))]
    assert [size for size, _ in found] == [len(content) for _, content in found]
    assert measured(chunks, 10**6) == (len(texts), sum(size for size, _ in found))
    plain = [text.encode().replace(b">From there", b"From there").replace(b">>From x", b">From x") for text in texts]
    assert [content.rstrip(b"\n") for _, content in found] == [text.rstrip(b"\n") for text in plain]


def test_names_follow_the_content(tmp_path: Path) -> None:
    texts = ["Subject: a\n\none\n", "Subject: b\n\ntwo\n", "Subject: a\n\none\n"]
    first = {name for name, _, _ in messages([put(tmp_path, texts)], tmp_path)}
    later = {name for name, _, _ in messages([put(tmp_path, ["Subject: new\n\nx\n", *texts[1:]])], tmp_path)}
    assert len(first) == 3
    assert len(first & later) == 2, "what is still there keeps its name"


def test_large_messages_and_endless_lines(tmp_path: Path) -> None:
    data = b"From x\n" + b"a" * (5 << 20) + b"\n\nFrom y\nshort\n"
    chunks = [data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20)]
    found = [(size, len(file.read())) for _, size, file in messages(chunks, tmp_path)]
    assert found == [((5 << 20) + 1, (5 << 20) + 1), (6, 6)]
    assert list(tmp_path.iterdir()) == []
    assert list(pieces([b""])) == []


async def test_an_mbox_becomes_a_maildir(tmp_path: Path) -> None:
    archive = virtualmin_domain.mail_outside(tmp_path)
    async with parsed(tmp_path / "staging", streamed(archive)) as parser:
        boxes = [box for box in parser.read(None, None).domains[0].mailboxes if box.format == "mbox"]
        mail = b"".join(TreeTar(parser.staged, User(33, 33)).mail(boxes))
    with tarfile.open(fileobj=io.BytesIO(mail)) as found:
        files = {member.name: found.extractfile(member) for member in found if member.isfile()}
        contents = {name: file.read() for name, file in files.items() if file is not None}
    flags = sorted(name.partition(":2,")[2] for name in contents if "/cur/" in name)
    assert flags == ["RS", "S"]
    assert len([name for name in contents if name.startswith(f"./old@{MAIN}/new/")]) == 1
    assert all(b"From here on\n\nFrom there\ntext" in content for content in contents.values())

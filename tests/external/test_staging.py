"""What an attempt has read is whole or not there, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from app.external import staged as staging
from app.external.parser import ExternalBackupParser
from tests.external import plesk_dump, virtualmin_domain
from tests.external.conftest import SMALL, parsed, streamed
from tests.external.cpanel_account import MAIN

#: Reads a staged archive and dies when it has written so many pieces of what is nested in it.
DIE = """
import os, signal, sys
from pathlib import Path
from app.external.parser import ExternalBackupParser
from app.external.staged import Staged
from tests.external.conftest import SMALL
left, write = int(sys.argv[2]), Staged.write
def counted(self, data):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, data)
Staged.write = counted
ExternalBackupParser(Path(sys.argv[1]), SMALL).read(None, None)
print(left)
"""


async def test_a_kill_while_nested_archives_are_read(tmp_path: Path) -> None:
    archive = plesk_dump.subscription(tmp_path)
    async with parsed(tmp_path / "whole", streamed(archive)) as parser:
        expected = parser.read(None, None)
        done = parser.staged.end
    async with parsed(tmp_path / "killed", streamed(archive)):
        pass
    root = str(Path(__file__).parents[2])
    for pieces in (1, 5, 20):  # each goes on from the last
        argv = [sys.executable, "-c", DIE, str(tmp_path / "killed"), str(pieces)]
        ended = subprocess.run(argv, cwd=root, capture_output=True, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    parser = ExternalBackupParser(tmp_path / "killed", SMALL)
    try:
        assert parser.staged.sealed
        assert asdict(parser.read(None, None)) == asdict(expected)
        once = parser.staged.end
        assert asdict(parser.read(None, None)) == asdict(expected)
        assert parser.staged.end == once, "what has been read is not read again"
        assert once >= done
    finally:
        parser.close()


async def test_a_kill_while_the_archive_itself_was_read(tmp_path: Path) -> None:
    """The index may be in any state: it is made anew."""
    folder = tmp_path / "staging"
    async with parsed(folder, streamed(virtualmin_domain.home_format(tmp_path))):
        pass
    index = folder / "index"
    index.write_bytes(index.read_bytes()[:6000] + os.urandom(3000))
    parser = ExternalBackupParser(folder, SMALL)
    try:
        assert not parser.staged.sealed
        with (tmp_path / f"{MAIN}.tar.gz").open("rb") as source:
            parser.stage(source)
        assert parser.staged.sealed
        assert parser.read(None, None).domains[0].files == 21
    finally:
        parser.close()


async def test_after_the_machine_has_started_anew_it_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was forced to the disk, so what is there may lack its end."""
    async with parsed(tmp_path / "staging", streamed(virtualmin_domain.home_format(tmp_path))) as parser:
        assert parser.staged.sealed
        monkeypatch.setattr(staging, "_boot", lambda: "another")
        assert not parser.staged.sealed

"""Two sample maildirs."""

from __future__ import annotations

import os
from pathlib import Path

ADDRESSES = ("anna@shop.example.com", "ben@shop.example.com")


class SampleMail:
    def __init__(self, folder: Path, uid: int) -> None:
        self.folder = folder
        self._uid = uid
        for number, address in enumerate(ADDRESSES):
            for place in ("cur", "new", "tmp", ".Sent/cur", ".Sent/new", ".Sent/tmp"):
                (folder / address / place).mkdir(parents=True)
            for message in range(150):
                self._deliver(address, "cur", f"17{number}{message:05d}.M1P2.host:2,S", f"message {message}")
            for message in range(20):
                self._deliver(address, ".Sent/cur", f"18{number}{message:05d}.M1P2.host:2,S", f"sent {message}")
                self._deliver(address, "new", f"19{number}{message:05d}.M1P2.host", f"unread {message} größe")
        for path in [folder, *folder.rglob("*")]:
            self._own(path)

    def _own(self, path: Path) -> None:
        if self._uid >= 0:
            os.chown(path, self._uid, self._uid)

    def _deliver(self, address: str, place: str, name: str, text: str) -> None:
        path = self.folder / address / place / name
        path.write_text(f"Subject: {text}\nTo: {address}\n\n{text}\n" * 20)
        self._own(path)

    def messages(self) -> dict[str, str]:
        """Address, folder and name without flags → content."""
        return {
            f"{path.parent.parent.relative_to(self.folder)}/{path.name.partition(':2,')[0]}": path.read_text()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def damage(self) -> str:
        for path in sorted((self.folder / ADDRESSES[0] / "cur").iterdir())[:100]:
            path.unlink()
        for path in (self.folder / ADDRESSES[1] / ".Sent/cur").iterdir():
            path.unlink()
        self._deliver(ADDRESSES[0], "new", "2000000000.M1P2.host", "delivered after the backup")
        return "120 messages deleted, one delivered since the backup"

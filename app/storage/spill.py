"""What a listing has still to visit or to give: beyond a bound it lies on disk, so that memory stays flat."""

from __future__ import annotations

import tempfile
from types import TracebackType
from typing import IO

_KEPT = 20_000
_BLOCK = 10_000


class Stack:
    """Lines of text, last in, first out: the newest few thousand in memory, the rest in a temporary file."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._blocks: list[int] = []
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __bool__(self) -> bool:
        return bool(self._lines or self._blocks)

    def push(self, line: str) -> None:
        """`line` holds no line break."""
        self._lines.append(line)
        if len(self._lines) > _KEPT:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed with the stack
            self._blocks.append(self._file.seek(0, 2))
            self._file.write("\n".join(self._lines[:_BLOCK]).encode())
            self._lines = self._lines[_BLOCK:]

    def pop(self) -> str:
        """Raises IndexError when it is empty."""
        if not self._lines and self._blocks and self._file is not None:
            start = self._blocks.pop()
            self._file.seek(start)
            self._lines = self._file.read().decode().split("\n")
            self._file.truncate(start)
        return self._lines.pop()

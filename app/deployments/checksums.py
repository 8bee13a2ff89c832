"""What the wrapper's `cksum` or `sha256sum` prints of a command's output, made of what has arrived."""

from __future__ import annotations

import hashlib
import zlib
from abc import ABC, abstractmethod


class Checksum(ABC):
    """Fed in order."""

    @abstractmethod
    def update(self, data: bytes) -> None: ...

    @property
    @abstractmethod
    def text(self) -> str:
        """As the wrapper sends it: without blanks."""


class Cksum(Checksum):
    """POSIX's CRC and length (cksum in XCU). Its polynomial is zlib's, with the highest bit first: the CRC of a text
    is zlib's of the text whose bytes are mirrored, mirrored. In an image's tools it costs a small part of SHA-256."""

    def __init__(self) -> None:
        self._crc = 0xFFFFFFFF  # zlib begins with its complement, POSIX with zero
        self._length = 0

    def update(self, data: bytes) -> None:
        self._crc = zlib.crc32(data.translate(_MIRRORED), self._crc)
        self._length += len(data)

    @property
    def text(self) -> str:
        size = (self._length.bit_length() + 7) // 8
        crc = zlib.crc32(self._length.to_bytes(size, "little").translate(_MIRRORED), self._crc)
        mirrored = int.from_bytes(crc.to_bytes(4, "little").translate(_MIRRORED))
        return f"{mirrored}:{self._length}"


class Sha256(Checksum):
    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    @property
    def text(self) -> str:
        return f"{self._hash.hexdigest()}:-"


class Unchecked(Checksum):
    """Where there is neither tool."""

    def update(self, data: bytes) -> None:
        pass

    @property
    def text(self) -> str:
        return "-"


_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
CHECKSUMS: dict[str, type[Checksum]] = {"cksum": Cksum, "sha256sum": Sha256, "-": Unchecked}

"""age encryption (C2SP, age-encryption.org/v1) through rage's Python binding."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pyrage

from app.errors import ArchiveDamaged, DecryptionFailed, KeyMaterialInvalid

BUFFER = 1 << 20


def parse_recipient(text: str) -> Any:
    """A public key `age1…`, whose private half we need not hold. Raises KeyMaterialInvalid."""
    try:
        return pyrage.x25519.Recipient.from_str(text.strip())
    except Exception as error:  # pyrage's errors have no common base
        raise KeyMaterialInvalid(f"{text!r} is not an age public key (age1…)", field="recipients") from error


def parse_identity(text: str) -> Any:
    """A private key `AGE-SECRET-KEY-1…`. The text never appears in the error."""
    try:
        return pyrage.x25519.Identity.from_str(text.strip())
    except Exception as error:
        raise KeyMaterialInvalid("This is not an age identity (AGE-SECRET-KEY-1…)", field="identity") from error


def generate_identity() -> str:
    return str(pyrage.x25519.Identity.generate())


def recipient_of(identity: str) -> str:
    return str(parse_identity(identity).to_public())


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Guarded(io.RawIOBase):
    """What keeps the first error of a source or sink: the binding would flatten it into its own."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self._inner = inner
        self.failure: BaseException | None = None
        self.abandoned = False  # what is still buffered goes nowhere

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except BaseException as error:
            self.failure = error
            raise
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        if self.abandoned or self.failure is not None:
            return len(data)
        try:
            return int(self._inner.write(data))
        except BaseException as error:
            self.failure = error
            raise


@contextmanager
def _buffered(source: Readable, sink: Writable) -> Iterator[tuple[Readable, Writable]]:
    """Both with buffers in C: the binding reads and writes 8 KiB at a time. The first error of either passes through.

    After an error nothing more is written.
    """
    read, written = _Guarded(source), _Guarded(sink)
    output = io.BufferedWriter(written, BUFFER)
    try:
        yield io.BufferedReader(read, BUFFER), output
        output.flush()
    except Exception:
        if (failure := read.failure or written.failure) is not None:
            raise failure from None
        raise
    finally:
        written.abandoned = True  # closing flushes


def encrypt(source: Readable, sink: Writable, recipients: Sequence[str]) -> None:
    """Encrypt all of `source` to every recipient; its errors pass through. Blocking: call in a thread."""
    keys = [parse_recipient(text) for text in recipients]
    with _buffered(source, sink) as (plain, encrypted):
        pyrage.encrypt_io(plain, encrypted, keys)


def decrypt(source: Readable, sink: Writable, identities: Sequence[str]) -> None:
    """Decrypt all of `source`; its errors pass through. Blocking: call in a thread.

    Raises DecryptionFailed when no identity fits and ArchiveDamaged when the stream is cut or altered.
    """
    keys = [parse_identity(text) for text in identities]
    with _buffered(source, sink) as (encrypted, plain):
        try:
            pyrage.decrypt_io(encrypted, plain, keys)
        except Exception as error:  # an OSError too, when a block was altered
            if "matching" in str(error).lower():
                raise DecryptionFailed(
                    "None of the identities at hand can open this archive; give the identity of one of its recipients"
                ) from error
            raise ArchiveDamaged(f"The archive cannot be decrypted: {error}") from error

"""age encryption (C2SP, age-encryption.org/v1) through rage's Python binding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pyrage

from app.errors import ArchiveDamaged, DecryptionFailed, KeyMaterialInvalid


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


class _Guard:
    """A file-like object that keeps its own errors: the binding would flatten them into its own."""

    def __init__(self, inner: Any, guards: list[_Guard]) -> None:
        self._inner = inner
        self.failure: BaseException | None = None
        guards.append(self)

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._inner.read(size))
        except BaseException as error:
            self.failure = error
            raise

    def write(self, data: bytes) -> int:
        try:
            return int(self._inner.write(data))
        except BaseException as error:
            self.failure = error
            raise

    def flush(self) -> None:
        return None


def _first_failure(guards: list[_Guard]) -> BaseException | None:
    return next((guard.failure for guard in guards if guard.failure is not None), None)


def encrypt(source: Readable, sink: Writable, recipients: Sequence[str]) -> None:
    """Encrypt all of `source` to every recipient; its errors pass through. Blocking: call in a thread."""
    keys = [parse_recipient(text) for text in recipients]
    guards: list[_Guard] = []
    try:
        pyrage.encrypt_io(_Guard(source, guards), _Guard(sink, guards), keys)
    except Exception as error:
        raise _first_failure(guards) or error from None


def decrypt(source: Readable, sink: Writable, identities: Sequence[str]) -> None:
    """Decrypt all of `source`; its errors pass through. Blocking: call in a thread.

    Raises DecryptionFailed when no identity fits and ArchiveDamaged when the stream is cut or altered.
    """
    keys = [parse_identity(text) for text in identities]
    guards: list[_Guard] = []
    try:
        pyrage.decrypt_io(_Guard(source, guards), _Guard(sink, guards), keys)
    except Exception as error:
        if (failure := _first_failure(guards)) is not None:
            raise failure from None
        if "matching" in str(error).lower():
            raise DecryptionFailed(
                "None of the identities at hand can open this archive; give the identity of one of its recipients"
            ) from error
        raise ArchiveDamaged(f"The archive cannot be decrypted: {error}") from error

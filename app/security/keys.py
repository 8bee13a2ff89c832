"""The keys of an installation: files of mode 0600 in a folder of mode 0700, made at first start."""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.errors import KeyMaterialInvalid
from app.security.encryption import generate_identity, recipient_of
from app.security.rotation import KeyFile, KeySource
from app.security.signing import Signer

FILES = ("master.key", "age-identity.txt", "signing.key", "installation-id")


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """`identity` opens every archive encrypted to us; `signer` signs manifests; `cipher` holds credentials."""

    installation: str
    identity: str
    signer: Signer
    cipher: CredentialCipher
    created: bool

    @property
    def audit_key(self) -> bytes:
        """Of the audit trail's chain; from the signing key, so that the database alone cannot make it."""
        return self.signer.derived(b"liberu audit chain v1")

    @property
    def recipient(self) -> str:
        return recipient_of(self.identity)


class CredentialCipher:
    """Encrypts credentials for the database (Fernet; several keys while one replaces another)."""

    def __init__(self, keys: list[bytes] | KeySource) -> None:
        """`keys`: the first seals, all of them open; a function is asked at each use."""
        self._source = keys
        self._known: list[bytes] | None = None
        self._made: list[Fernet] = []
        self._keys()

    def _keys(self) -> list[Fernet]:
        wanted = self._source if isinstance(self._source, list) else self._source()
        if wanted != self._known:
            try:
                made = [Fernet(key) for key in wanted]
            except (ValueError, binascii.Error) as error:
                raise KeyMaterialInvalid("A master key must be a Fernet key: 32 bytes in URL-safe base64") from error
            if not made:
                raise KeyMaterialInvalid("There is no master key")
            self._made, self._known = made, list(wanted)
        return self._made

    def is_current(self, sealed: str) -> bool:
        """Whether it is under the key that seals now."""
        try:
            self._keys()[0].decrypt(sealed.encode())
        except InvalidToken:
            return False
        return True

    def resealed(self, sealed: str) -> str:
        """The same under the key that seals now. Raises KeyMaterialInvalid."""
        made = self.seal(self.open(sealed))
        assert made is not None
        return made

    def seal(self, secrets_: dict[str, str]) -> str | None:
        """Ciphertext of `secrets_`, None for an empty one."""
        return self._keys()[0].encrypt(json.dumps(secrets_).encode()).decode() if secrets_ else None

    def open(self, sealed: str | None) -> dict[str, str]:
        """Raises KeyMaterialInvalid when the master key is not the one it was sealed under."""
        if sealed is None:
            return {}
        try:
            opened: dict[str, str] = json.loads(MultiFernet(self._keys()).decrypt(sealed.encode()))
        except InvalidToken as error:
            raise KeyMaterialInvalid(
                "Stored credentials cannot be opened with this master key; restore the key that sealed them"
            ) from error
        return opened


def load_or_create(folder: Path, master: str | None = None) -> KeyRing:
    """Read the installation's keys; make all of them when none is there. `master`: the master key from elsewhere, or
    several, with blanks or commas between; the file is not looked at then.

    Raises KeyMaterialInvalid when some are missing: a new one would silently orphan what the old one opened.
    """
    present = [name for name in FILES if (folder / name).exists()]
    created = not present
    if created:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if master is None:
            _write(folder / "master.key", Fernet.generate_key().decode())
        _write(folder / "age-identity.txt", generate_identity())
        _write(folder / "signing.key", base64.b64encode(secrets.token_bytes(32)).decode())
        _write(folder / "installation-id", secrets.token_hex(8))
    found = load(folder, master)
    return replace(found, created=created)


def load(folder: Path, master: str | None = None) -> KeyRing:
    """As load_or_create, of keys that are there. Raises KeyMaterialInvalid when one is missing."""
    wanted = FILES if master is None else FILES[1:]
    missing = ", ".join(name for name in wanted if not (folder / name).exists())
    if missing:
        raise KeyMaterialInvalid(f"{folder} lacks {missing}; put it back from the recovery kit")
    identity, signing, installation = ((folder / name).read_text().strip() for name in FILES[1:])
    source: list[bytes] | KeySource = KeyFile(folder)
    if master is not None:
        source = [text.encode() for text in master.replace(",", " ").split()]
    return KeyRing(installation, identity, load_signer(signing), CredentialCipher(source), created=False)


def load_signer(text: str) -> Signer:
    """From the content of signing.key. Raises KeyMaterialInvalid."""
    try:
        return Signer(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise KeyMaterialInvalid("The signing key is not base64") from error


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())

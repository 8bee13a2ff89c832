"""The keys of an installation: files of mode 0600 in a folder of mode 0700, made at first start."""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.errors import KeyMaterialInvalid
from app.security.encryption import generate_identity, recipient_of
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
    def recipient(self) -> str:
        return recipient_of(self.identity)


class CredentialCipher:
    """Encrypts credentials for the database (Fernet; several keys while one replaces another)."""

    def __init__(self, keys: list[bytes]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except (ValueError, binascii.Error) as error:
            raise KeyMaterialInvalid("The master key must be a Fernet key: 32 bytes in URL-safe base64") from error

    def seal(self, secrets_: dict[str, str]) -> str | None:
        """Ciphertext of `secrets_`, None for an empty one."""
        return self._fernet.encrypt(json.dumps(secrets_).encode()).decode() if secrets_ else None

    def open(self, sealed: str | None) -> dict[str, str]:
        """Raises KeyMaterialInvalid when the master key is not the one it was sealed under."""
        if sealed is None:
            return {}
        try:
            opened: dict[str, str] = json.loads(self._fernet.decrypt(sealed.encode()))
        except InvalidToken as error:
            raise KeyMaterialInvalid(
                "Stored credentials cannot be opened with this master key; restore the key that sealed them"
            ) from error
        return opened


def load_or_create(folder: Path) -> KeyRing:
    """Read the installation's keys; make all of them when none is there.

    Raises KeyMaterialInvalid when some are missing: a new one would silently orphan what the old one opened.
    """
    present = [name for name in FILES if (folder / name).exists()]
    created = not present
    if created:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        _write(folder / "master.key", Fernet.generate_key().decode())
        _write(folder / "age-identity.txt", generate_identity())
        _write(folder / "signing.key", base64.b64encode(secrets.token_bytes(32)).decode())
        _write(folder / "installation-id", secrets.token_hex(8))
    elif len(present) < len(FILES):
        missing = ", ".join(name for name in FILES if name not in present)
        raise KeyMaterialInvalid(f"{folder} lacks {missing}; put it back from the recovery kit")
    master, identity, signing, installation = ((folder / name).read_text().strip() for name in FILES)
    return KeyRing(installation, identity, load_signer(signing), CredentialCipher([master.encode()]), created)


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

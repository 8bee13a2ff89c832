"""Ed25519 (RFC 8032) signatures of manifests, under a key independent of the master key."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.errors import KeyMaterialInvalid, ManifestInvalid, UnknownSigner


class Signer:
    """Signs with one key and verifies signatures of every trusted one."""

    def __init__(self, private: bytes, trusted: tuple[bytes, ...] = ()) -> None:
        try:
            self._private = Ed25519PrivateKey.from_private_bytes(private)
        except ValueError as error:
            raise KeyMaterialInvalid("The signing key must be 32 bytes") from error
        self._seed = private
        own = self._private.public_key().public_bytes_raw()
        self._trusted = {key_id(public): public for public in (own, *trusted)}
        self.key_id = key_id(own)
        self.public_key = base64.b64encode(own).decode()

    def sign(self, message: bytes) -> str:
        return base64.b64encode(self._private.sign(message)).decode()

    def derived(self, purpose: bytes) -> bytes:
        """A key for something else, which does not tell this one (HMAC-SHA256)."""
        return hmac.new(self._seed, purpose, hashlib.sha256).digest()

    def verify(self, message: bytes, signature: str, signer: str) -> None:
        """Raises UnknownSigner for a key we do not trust, ManifestInvalid for a wrong signature."""
        public = self._trusted.get(signer)
        if public is None:
            raise UnknownSigner(
                f"The manifest is signed by key {signer}, which this installation does not trust; "
                "an operator can adopt another installation's backups with its recovery kit"
            )
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature), message)
        except (InvalidSignature, ValueError) as error:
            raise ManifestInvalid("The manifest's signature is wrong: it was edited or damaged") from error


def key_id(public: bytes) -> str:
    """A short name of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]

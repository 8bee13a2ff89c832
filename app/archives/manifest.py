"""The commit record of a backup, and the encrypted details beside it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import ManifestInvalid
from app.security.signing import Signer

MAX_MANIFEST_BYTES = 16 << 20


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredObject(_Record):
    """One object; `key` is relative to the destination's root, `size` in bytes."""

    key: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ManifestComponent(_Record):
    number: int = Field(ge=1)
    kind: str
    objects: list[StoredObject] = Field(min_length=1)
    base: str | None = None
    compression: Literal["zstd-seekable"] = "zstd-seekable"
    encryption: Literal["age"] | None = None
    recipients: list[str] = []


class Manifest(_Record):
    """What a destination knows about a backup without the key: no names, no plain hashes."""

    format_version: Literal[1] = 1
    installation: str
    folder: str
    backup_uid: str
    domain_uid: str
    owner: int | None
    type: str
    status: Literal["completed", "partial"]
    created_at: datetime
    finished_at: datetime
    components: list[ManifestComponent]
    details: StoredObject
    details_encryption: Literal["age"] | None = None


class Warning_(_Record):
    """Something the operator should know. `subject` names the file, routine or view."""

    code: str
    message: str
    subject: str | None = None


class ComponentDetails(_Record):
    """What only the key's holder may read about one component. Sizes in bytes."""

    number: int
    kind: str
    name: str
    plain_size: int
    plain_sha256: str
    started_at: datetime
    finished_at: datetime
    warnings: list[Warning_] = []
    incomplete: list[Warning_] = []
    facts: dict[str, Any] = {}


class Details(_Record):
    format_version: Literal[1] = 1
    backup_uid: str
    domain_name: str
    components: list[ComponentDetails]
    failures: list[Warning_] = []
    panel_metadata: Any = None
    deployment: dict[str, str] = {}


def _canonical(manifest: Manifest) -> bytes:
    return json.dumps(manifest.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()


def seal(manifest: Manifest, signer: Signer) -> bytes:
    """The bytes of manifest.json: the manifest, and a signature over its canonical JSON."""
    message = _canonical(manifest)
    signature = {"algorithm": "ed25519", "key_id": signer.key_id, "value": signer.sign(message)}
    return json.dumps({"manifest": json.loads(message), "signature": signature}, indent=1).encode()


def unseal(data: bytes, signer: Signer, folder: str) -> Manifest:
    """Authenticate manifest.json as read from `folder`. Raises ManifestInvalid, UnknownSigner."""
    try:
        document = json.loads(data)
        signature = document["signature"]
        key_id, value = str(signature["key_id"]), str(signature["value"])
        manifest = Manifest.model_validate(document["manifest"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ManifestInvalid(f"{folder}manifest.json is not a manifest of ours: damaged or edited") from error
    signer.verify(_canonical(manifest), value, key_id)
    if manifest.folder != folder:
        raise ManifestInvalid(
            f"The manifest in {folder} belongs to {manifest.folder}: it was moved or copied; put it back"
        )
    return manifest

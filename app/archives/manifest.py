"""The commit record of a backup, and the encrypted details beside it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from app.errors import ArchiveDamaged, ArchiveError, ManifestInvalid
from app.security.signing import Signer
from app.sizes import human_size

#: Bytes. A domain has 500 databases at most, and a destination 20 recipients: one of all that takes 1 MiB.
MAX_MANIFEST_BYTES = 4 << 20
#: Bytes of plain JSON. What people should know of a component is a few hundred lines, the panel's own part 1 MiB.
MAX_DETAILS_BYTES = 32 << 20
#: What no destination holds: sums of a few such sizes still fit into a database.
MAX_SIZE = (1 << 60) - 1


def _of_our_time(value: datetime) -> datetime:
    """In other years no zone is safe to convert to."""
    if not 1970 <= value.year <= 9000:
        raise ValueError("must be a time between the years 1970 and 9000")
    return value


Size = Annotated[int, Ge(0), Le(MAX_SIZE)]
Number = Annotated[int, Ge(1), Le((1 << 31) - 1)]
Moment = Annotated[AwareDatetime, AfterValidator(_of_our_time)]
Short = Annotated[str, MaxLen(64)]
Key = Annotated[str, MaxLen(1024)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredObject(_Record):
    """One object; `key` is relative to the destination's root, `size` in bytes."""

    key: Key
    size: Size
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ManifestComponent(_Record):
    number: Number
    kind: Short
    objects: list[StoredObject] = Field(min_length=1)
    base: str | None = None
    compression: Literal["zstd-seekable"] = "zstd-seekable"
    encryption: Literal["age"] | None = None
    recipients: list[str] = []


class Manifest(_Record):
    """What a destination knows about a backup without the key: no names, no plain hashes."""

    format_version: Literal[1] = 1
    installation: Key
    folder: Key
    backup_uid: Short
    domain_uid: Short
    owner: Annotated[int, Ge(-(1 << 31)), Le((1 << 31) - 1)] | None
    type: Short
    status: Literal["completed", "partial"]
    created_at: Moment
    finished_at: Moment
    components: list[ManifestComponent]
    details: StoredObject
    details_encryption: Literal["age"] | None = None

    def component(self, number: int) -> ManifestComponent:
        """Raises ManifestInvalid."""
        for entry in self.components:
            if entry.number == number:
                return entry
        raise ManifestInvalid(f"The manifest in {self.folder} has no component {number}")


class Warning_(_Record):
    """Something the operator should know. `subject` names the file, routine or view."""

    code: str
    message: str
    subject: str | None = None


class ComponentDetails(_Record):
    """What only the key's holder may read about one component. Sizes in bytes."""

    number: Number
    kind: Short
    name: str
    plain_size: Size
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

    def component(self, number: int) -> ComponentDetails:
        """Raises ManifestInvalid."""
        for part in self.components:
            if part.number == number:
                return part
        raise ManifestInvalid(f"The details of backup {self.backup_uid} have no component {number}")


def _canonical(manifest: Manifest) -> bytes:
    return json.dumps(manifest.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()


def seal(manifest: Manifest, signer: Signer) -> bytes:
    """The bytes of manifest.json: the manifest, and a signature over its canonical JSON. Raises ManifestInvalid for
    one that could not be read again."""
    message = _canonical(manifest)
    signature = {"algorithm": "ed25519", "key_id": signer.key_id, "value": signer.sign(message)}
    data = json.dumps({"manifest": json.loads(message), "signature": signature}, indent=1).encode()
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(
            f"The manifest takes {human_size(len(data))}, more than the {human_size(MAX_MANIFEST_BYTES)} that are "
            "read again: back fewer databases up at once"
        )
    return data


def unseal(data: bytes, signer: Signer, folder: str) -> Manifest:
    """Authenticate manifest.json as read from `folder`. Raises ManifestInvalid, UnknownSigner."""
    try:
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError("too large")
        document = json.loads(data)
        signature = document["signature"]
        key_id, value = str(signature["key_id"]), str(signature["value"])
        if not re.fullmatch(r"[0-9a-f]{16}", key_id):  # it is shown to people
            raise ValueError("no key id")
        manifest = Manifest.model_validate(document["manifest"])
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError) as error:
        raise ManifestInvalid(f"{folder}manifest.json is not a manifest of ours: damaged or edited") from error
    signer.verify(_canonical(manifest), value, key_id)
    if manifest.folder != folder:
        raise ManifestInvalid(
            f"The manifest in {folder} belongs to {manifest.folder}: it was moved or copied; put it back"
        )
    return manifest


def pack_details(details: Details) -> bytes:
    """Plain JSON that `unpack_details` reads again: a backup whose details cannot be read cannot be restored. Raises
    ArchiveError when it could not."""
    try:
        data = details.model_dump_json().encode()
        if len(data) <= MAX_DETAILS_BYTES:
            Details.model_validate_json(data)
            return data
        reason = f"they take {human_size(len(data))}, more than {human_size(MAX_DETAILS_BYTES)}"
    except ValueError as error:  # what cannot be written, or not be read: nested too deep, half a character
        reason = str(error).splitlines()[0]
    raise ArchiveError(f"The details of the backup could not be read again: {reason}; look at its panel_metadata")


def unpack_details(data: bytes, key: str) -> Details:
    """Raises ArchiveDamaged."""
    try:
        return Details.model_validate_json(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveDamaged(f"{key} does not hold the details of a backup") from error

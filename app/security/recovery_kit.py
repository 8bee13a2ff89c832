"""The recovery kit: every key of an installation in one tar file, to be kept away from the machine."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from app.errors import KeyMaterialInvalid
from app.security.keys import FILES

_SAVED = "recovery-kit-saved"


def write_kit(keys: Path, out: Path) -> None:
    """Write `out` with mode 0600 and note that it was made. Raises KeyMaterialInvalid; never overwrites."""
    missing = [name for name in FILES if not (keys / name).is_file()]
    if missing:
        raise KeyMaterialInvalid(f"{keys} lacks {', '.join(missing)}: start the service once, or set LIBERU_DATA")
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyMaterialInvalid(f"{out} cannot be written ({error.strerror}); choose another file") from error
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as kit:
            for name in FILES:
                kit.add(keys / name, f"keys/{name}")
        file.flush()
        os.fsync(file.fileno())
    (keys / _SAVED).touch(mode=0o600)


def kit_saved(keys: Path) -> bool:
    return (keys / _SAVED).exists()

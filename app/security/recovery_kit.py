"""The recovery kit: every key of an installation in one tar file, to be kept away from the machine."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path

from app.errors import KeyMaterialInvalid
from app.security.keys import FILES

_SAVED = "recovery-kit-saved"


def write_kit(keys: Path, out: Path, master: str | None = None) -> None:
    """Write `out` with mode 0600. `master`: the master key where no file has it. Raises
    KeyMaterialInvalid; never overwrites."""
    wanted = FILES if master is None else FILES[1:]
    missing = [name for name in wanted if not (keys / name).is_file()]
    if missing:
        raise KeyMaterialInvalid(f"{keys} lacks {', '.join(missing)}: start the service once, or set LIBERU_DATA")
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyMaterialInvalid(f"{out} cannot be written ({error.strerror}); choose another file") from error
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as kit:
            for name in wanted:
                kit.add(keys / name, f"keys/{name}")
            if master is not None:
                text = "\n".join(master.replace(",", " ").split()).encode() + b"\n"
                entry = tarfile.TarInfo(f"keys/{FILES[0]}")
                entry.size, entry.mode = len(text), 0o600
                kit.addfile(entry, BytesIO(text))
        file.flush()
        os.fsync(file.fileno())


def confirm_kit(keys: Path) -> None:
    """Somebody has the kit elsewhere: the reminder ends. Raises KeyMaterialInvalid where that cannot be noted."""
    try:
        (keys / _SAVED).touch(mode=0o600)
    except OSError as error:
        raise KeyMaterialInvalid(f"{keys / _SAVED} cannot be written ({error.strerror})") from error


def outdated_kit(keys: Path) -> None:
    """There is a key that no kit holds."""
    (keys / _SAVED).unlink(missing_ok=True)


def kit_saved(keys: Path) -> bool:
    return (keys / _SAVED).exists()

"""What runs in a process of its own: a foreign archive from stdin, or what has been read of it; the answer to stdout.

`python -m app.external.child ORDER`, where ORDER is JSON: `parent`, `folder`, `limits`, `memory`, and what `inspect`
needs; without it the archive is read from stdin. The answer is JSON too: the inventory, or an error's code and words.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.errors import LiberuError
from app.external.limits import Limits
from app.external.parser import ExternalBackupParser

_PR_SET_PDEATHSIG = 1
#: Seconds of processor time between our own error, which says what to do, and the system's signal.
_GRACE = 10


def main() -> None:
    order = json.loads(sys.argv[1])
    _die_with(order["parent"])
    resource.setrlimit(resource.RLIMIT_AS, (order["memory"], order["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _answer(order)
    except LiberuError as error:
        answer = {"error": error.code, "message": error.message, "field": error.field}
    except MemoryError:
        answer = {"error": "memory"}
    json.dump(answer, sys.stdout)  # names that are no UTF-8 as lone surrogates, which JSON can spell


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    parser = ExternalBackupParser(Path(order["folder"]), Limits(**order["limits"]), _allow)
    try:
        if "inspect" not in order:
            with open(0, "rb", buffering=0) as source:
                parser.stage(source)
            return {}
        wanted = order["inspect"]
        inventory = parser.read(wanted["format"], wanted["domain"])
        hashes = parser.password_hashes(inventory) if wanted["hashes"] else {}
        return {"inventory": asdict(inventory), "hashes": hashes}
    finally:
        parser.close()


def _allow(seconds: float) -> None:
    """What hangs in a single call, where no budget is asked, is ended by the system."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds) + _GRACE, resource.RLIM_INFINITY))


def _die_with(parent: int) -> None:
    """Two processes must never read into one folder: when the service dies, so does this."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the service has ended")


if __name__ == "__main__":
    main()

"""How a command that gets foreign bytes is run: a small shell (confine.sh) gives everything up and becomes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.deployments.tree import User

#: nobody and nogroup: the kernel's own numbers for them, whether they have names or not.
NOBODY = User(65534, 65534)


def shell_text(name: str) -> str:
    """A script of this folder without its comments: it travels as an argument."""
    text = Path(__file__).with_name(name).read_text()
    return "\n".join(line for line in text.splitlines() if line[:1] != "#")


_CONFINE = shell_text("confine.sh")


def confine(argv: Sequence[str], shell: str = "sh") -> list[str]:
    """`argv` below the shell that confines it, to be run as the user that it is for."""
    return [shell, "-c", _CONFINE, "sh", *argv]

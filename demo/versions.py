"""Other versions of the database servers than this system's, where `scripts.database_servers` has unpacked them."""

from __future__ import annotations

from pathlib import Path

UNPACKED = Path(__file__).parent.parent / "build" / "servers"


def mariadb() -> dict[str, Path]:
    """Version → where it is unpacked."""
    return _there({"11.8": UNPACKED / "trixie"}, "usr/sbin/mariadbd")


def mysql() -> dict[str, Path]:
    return _there({"9.7": UNPACKED / "sid"}, "usr/sbin/mysqld")


def postgresql() -> dict[str, Path]:
    """Version → the folder of its programs."""
    known = {"17": UNPACKED / "trixie", "18": UNPACKED / "sid"}
    return _there({name: root / f"usr/lib/postgresql/{name}/bin" for name, root in known.items()}, "postgres")


def _there(known: dict[str, Path], program: str) -> dict[str, Path]:
    return {name: folder for name, folder in known.items() if (folder / program).exists()}

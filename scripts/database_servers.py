"""Other versions of the database servers than this system's, unpacked side by side: for tests, never for a site.

    python -m scripts.database_servers build/servers

Debian's newer releases have them. Packages come from the mirror that this machine's apt uses and are verified by apt;
nothing is installed. Each program is wrapped to run with the C library of its own release.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

#: By release of Debian: the packages whose programs are wanted.
WANTED = {
    "trixie": (
        "mariadb-server-core",
        "mariadb-client-core",
        "mariadb-client",
        "postgresql-17",
        "postgresql-client-17",
    ),
    "sid": ("mysql-server-core", "mysql-client-core", "postgresql-18", "postgresql-client-18"),
}
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_FOLDERS = ("usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin")
_KEPT = re.compile(r"lib|openssl-provider|mariadb-common|mysql-common|tzdata")


class Release:
    """One release of Debian, known to an apt of its own."""

    def __init__(self, name: str, mirror: str, state: Path) -> None:
        self._state = state
        for folder in ("lists/partial", "cache/archives/partial", "etc"):
            (state / folder).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources").write_text(f"deb {mirror} {name} main\n")
        self._apt = [
            f"Dir::State={state}", f"Dir::State::Lists={state}/lists", f"Dir::State::status={state}/status",
            f"Dir::Cache={state}/cache", f"Dir::Etc::sourcelist={state}/sources", "Dir::Etc::sourceparts=-",
            f"Dir::Etc::preferencesparts={state}/etc", "APT::Sandbox::User=root", "Acquire::Languages=none",
        ]  # fmt: skip

    def _run(self, tool: str, *argv: str, cwd: Path | None = None) -> str:
        options = [part for option in self._apt for part in ("-o", option)]
        done = subprocess.run([tool, *options, *argv], check=True, text=True, stdout=subprocess.PIPE, cwd=cwd)
        return done.stdout

    def update(self) -> None:
        self._run("apt-get", "-qq", "update")

    def closure(self, wanted: tuple[str, ...]) -> list[str]:
        """`wanted` and the libraries that they load."""
        found: set[str] = set()
        todo = set(wanted)
        while todo:
            found |= todo
            shown = self._run("apt-cache", "show", "--no-all-versions", *sorted(todo))
            named = {
                re.split(r"[ :(|]", part.strip(), maxsplit=1)[0]
                for line in re.findall(r"^(?:Pre-)?Depends: (.*)$", shown, re.MULTILINE)
                for part in line.split(",")
            }
            todo = {name for name in named if _KEPT.match(name)} - found
        return sorted(found)

    def unpack(self, packages: list[str], root: Path) -> None:
        folder = self._state / "debs"
        folder.mkdir()
        self._run("apt-get", "-qq", "download", *packages, cwd=folder)
        for package in folder.iterdir():
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)


def wrap(root: Path) -> None:
    """Let each program of `root` run by its own loader, whoever starts it by its path."""
    libraries = ":".join(str(path) for path in (root / "usr/lib/x86_64-linux-gnu", root / "lib/x86_64-linux-gnu"))
    loader = next(path for path in (root / _LOADER, root / "lib64/ld-linux-x86-64.so.2") if path.exists())
    for program in (path for pattern in _FOLDERS for folder in root.glob(pattern) for path in folder.iterdir()):
        if program.is_symlink() or not program.is_file() or program.read_bytes()[:4] != b"\x7fELF":
            continue
        real = program.with_name(f".{program.name}")
        program.rename(real)
        program.write_text(
            f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" --argv0 "{program}" "{real}" "$@"\n'
        )
        program.chmod(0o755)


def mirror() -> str:
    """Where this machine's apt has Debian from. Raises LookupError."""
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages"]
    for line in subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines():
        place, _, component = line.partition(" ")
        if component == "main" and "security" not in place:
            return place
    raise LookupError("This machine's apt knows no mirror of Debian")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in WANTED.items():
        root = folder / name
        if root.exists():
            continue
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=folder) as made:
            release = Release(name, mirror(), Path(made) / "apt")
            release.update()
            unpacked = Path(made) / "root"
            release.unpack(release.closure(wanted), unpacked)
            for path in unpacked.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    path.chmod(path.stat().st_mode & ~(stat.S_ISUID | stat.S_ISGID))
            shutil.rmtree(unpacked / "usr/share/doc", ignore_errors=True)
            unpacked.rename(root)
        wrap(root.absolute())


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())

"""One file of the zoo: its SQL and what it needs.

A file begins with a comment that says what it holds, then lines of the form `-- key: value`, then SQL in sections:

    -- since: 15                          the oldest server that knows it; MySQL's files name it per product
    -- database: ENCODING 'LATIN1' …      what follows CREATE DATABASE
    -- server: --log-bin=binlog           options of a server of its own
    -- slow: yes                          not in every run: `make test-large`
    -- admin:                             SQL of an administrator, in the database
    -- owner:                             SQL of the database's owner, as is what comes before any section
    -- target:                            SQL of an administrator in an empty database that is restored into
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.databases.comparison import NotWhole

FOLDER = Path(__file__).parent
_KEY = re.compile(r"^-- (since|database|server|slow):(.*)$")
_SECTION = re.compile(r"^-- (admin|owner|target):\s*$")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    keys: dict[str, str] = field(default_factory=dict)
    #: (who, SQL), in the file's order.
    sections: list[tuple[str, str]] = field(default_factory=list)

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(self.keys.get("server", "").split())

    def since(self, product: str = "") -> tuple[int, ...] | None:
        """The oldest version that knows it; None: no version of this product does."""
        found = self.keys.get("since", "")
        if not found:
            return (0,)
        if product:
            named = re.search(rf"{product} ([\d.]+)", found)
            return version(named[1]) if named else None
        return version(found)


def parameter(case: Case, way: str, server: str, known: dict[str, str], *, again: bool) -> ParameterSet:
    """`known`: `file/way/server`, as a pattern, to what happens. `again`: an older server runs it too: only `make
    test-large` does it on this one, and what is known of the older may be better here."""
    name = f"{case.name}/{way}/{server}"
    reason = next((text for pattern, text in known.items() if fnmatch(name, pattern)), None)
    marks = [pytest.mark.xfail(strict=not again, raises=NotWhole, reason=reason)] if reason else []
    marks += [pytest.mark.large] if again or "slow" in case.keys else []
    return pytest.param(case, way, server, id=name, marks=marks)


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def cases(engine: str, folder: Path = FOLDER) -> list[Case]:
    return [_read(path) for path in sorted((folder / engine).glob("*.sql"))]


def _read(path: Path) -> Case:
    keys: dict[str, str] = {}
    sections: list[tuple[str, list[str]]] = [("owner", [])]
    for line in path.read_text().splitlines(keepends=True):
        if found := _KEY.match(line):
            keys[found[1]] = found[2].strip()
        elif found := _SECTION.match(line):
            sections.append((found[1], []))
        else:
            sections[-1][1].append(line)
    return Case(path.stem, keys, [(who, "".join(lines)) for who, lines in sections if "".join(lines).strip()])

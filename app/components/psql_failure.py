"""Why a load failed, from what psql printed."""

from __future__ import annotations

import re

_ERROR = re.compile(r"^psql:<stdin>:\d+: [^:\n]{1,40}:  ([0-9A-Z]{5}): (.*)$", re.MULTILINE)
_FAILED = re.compile(r"^psql:<stdin>:\d+: STATEMENT:  (.{0,400})", re.MULTILINE)
_NUMBERED = re.compile(r"/\* (\d+) \*/ (?:-- )?(.*)")
_WORD = r'(?:"[^"\n]{1,63}"|[A-Za-z_][\w$]*)'
_OBJECT = re.compile(rf"[A-Za-z]+(?:\s+{_WORD}(?:\.{_WORD}){{0,2}}){{0,4}}")
_ROW = re.compile(r"^CONTEXT:  COPY .{1,200}, line (\d+)", re.MULTILINE)
_SHOWN = 300


def statement_of(stderr: str) -> str | None:
    """The first line of the statement that failed, as psql (ECHO=errors) prints it."""
    found = _FAILED.search(stderr)
    return found[1] if found else None


def failure(stderr: str) -> str:
    """Which statement failed and why, from what psql (VERBOSITY=verbose, ECHO=errors) printed; not what is in it."""
    errors = [found for found in _ERROR.finditer(stderr) if found[1][:2] not in ("00", "01")]  # notices, warnings
    if not errors:
        own = [line for line in stderr.splitlines() if line.startswith("psql:") and "STATEMENT:" not in line]
        return own[-1][:_SHOWN] if own else "psql ended and gave no reason"
    error = errors[-1]
    reason = f"{error[2][:_SHOWN]} ({error[1]})"
    statement = _FAILED.search(stderr, error.end())
    numbered = _NUMBERED.match(statement[1]) if statement else None
    if numbered is None:
        return reason
    about = _OBJECT.match(numbered[2])
    row = _ROW.search(stderr, error.end())
    return (
        f"statement {numbered[1]}{f' ({about[0]})' if about else ''}{f', row {row[1]}' if row else ''}: {reason}"
        if not numbered[2].startswith("INSERT")
        else f"statement {numbered[1]} or one of the inserts after it{f' ({about[0]})' if about else ''}: {reason}"
    )

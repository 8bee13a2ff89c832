"""What a dump cannot hold, and what a restore left out of one, in words."""

from __future__ import annotations

from typing import Any

from app.components.base import MAX_NAMED, Report
from app.components.postgresql_sql import identifier
from app.components.psql_entries import DUPLICATES, RIGHTS, left_of
from app.components.psql_script import PsqlScript
from app.errors import DatabaseAccessDenied


def gaps(found: dict[str, Any], report: Report, account: str) -> tuple[list[str], set[tuple[str, str]]]:
    """From what UNREADABLE tells: pg_dump's options for what it would fail at as a whole, named in the report; the
    relations that are left out. Raises DatabaseAccessDenied for too many."""
    report.facts |= {"encoding": found["encoding"], **found["locale"]}
    options = ["--encoding=SQL_ASCII"] if found["encoding"] == "SQL_ASCII" else []
    unreadable, hidden = found["unreadable"], found["hidden"]
    if len(unreadable) > MAX_NAMED:
        raise DatabaseAccessDenied(
            f"{account} may not read {len(unreadable)} of the tables; configure the account that owns them"
        )
    for schema, name in unreadable:
        options.append(f"--exclude-table={identifier(schema)}.{identifier(name)}")
        shown = _shown(f"{schema}.{name}")
        report.lack("table_not_readable", f"{shown}: {account} may not read it; left out", shown)
    if hidden:
        options.append("--enable-row-security")
    for schema, name in hidden:
        shown = _shown(f"{schema}.{name}")
        report.lack(
            "rows_may_be_hidden",
            f"{shown}: a policy of row level security holds for {account} too; only the rows that "
            "it shows are in the backup",
            shown,
        )
    for name in found["subscriptions"]:
        shown = _shown(name)
        report.warn(
            "subscription_left_out",
            f"Subscription {shown}: only an administrator can back it up; left out",
            shown,
        )
    return options, {(schema, name) for schema, name in unreadable}


def _shown(name: str) -> str:
    """Without the bytes that are no text, which a SQL_ASCII database may have in names."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def report_of(script: PsqlScript | None, printed: bytes, account: str) -> Report:
    """What was left out of the dump, and what could not be known."""
    report = Report()
    if script is None:
        return report
    if script.unmarked:
        report.warn(
            "no_end_marker",
            "The dump does not say where it ends, as pg_dump's do: the archive it was in is whole, but whoever wrote "
            "the dump may have stopped early",
        )
    for what, count in script.left_out.items():
        if what != "kept":
            report.warn("left_out_of_dump", f"{count} × {what} of the dump: left out", what)
    for label, what in script.left.items():
        if what == "kept":
            report.warn("kept", f"{label}: it is another role's here, and was left as it is", label)
        else:
            report.warn("grants_left_out", f"{label}: it is another server's role, left out", label)
    for owner, labels in script.owners.others(account).items():
        for label in labels:
            report.warn("owner_changed", f"{label} belonged to {owner}, and is {account}'s now", label)
    left = left_of(printed)
    if left is None:
        report.warn("left_out_unknown", "What of the dump was left out was printed, and could not be read")
        return report
    count, named = left
    for code, label in named:
        report.warn(*_reason(code, label), label)
    if count > len(named):
        report.warn("more", f"{count - len(named)} more were left out")
    return report


def _reason(code: str, label: str) -> tuple[str, str]:
    if code == "path":
        return (
            "search_path_used",
            f"{label}: it names something without its schema, and was made with the search path of the account",
        )
    if code in DUPLICATES:
        return "kept", f"{label}: it is there, and not the account's to replace; it was left as it is"
    if RIGHTS.match(label.encode()):
        return "grants_left_out", f"{label}: the role is not here, or the object is not the account's ({code})"
    return "needs_administrator", f"{label}: only an administrator can make it ({code}); left out"

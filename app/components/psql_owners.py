"""Whose the objects of a dump were: pg_dump names the owner of each."""

from __future__ import annotations

from collections import Counter

from app.components.psql_entries import Entry

#: How many of a kind are told by name.
NAMED = 100


class Owners:
    """Whose the objects of a dump were."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._labels: dict[str, list[str]] = {}

    def add(self, entry: Entry) -> None:
        if entry.owner not in self._labels and len(self._labels) >= NAMED:
            return
        self.counts[entry.owner] += 1
        labels = self._labels.setdefault(entry.owner, [])
        if len(labels) < NAMED and entry.type != "SCHEMA":
            labels.append(entry.label)

    def others(self, account: str) -> dict[str, list[str]]:
        """By role, what belonged to others than the account whose dump it was: this one, or who owned the most."""
        if not self.counts:
            return {}
        own = account if account in self.counts else self.counts.most_common(1)[0][0]
        return {owner: labels for owner, labels in self._labels.items() if owner != own and labels}

"""What does not come back yet: `file/way/server`, as a pattern, to what happens. Whoever fixes one removes it."""

from __future__ import annotations

KNOWN: dict[str, str] = {}

"""Numbers: how large they get, and bytes as people read them."""

from __future__ import annotations

#: Of what the database numbers.
LARGEST_ID = (1 << 31) - 1


def human_size(n: int) -> str:
    """1024-based, two decimals, as the panel shows sizes: 1536 is "1.50 KB"."""
    value = float(n)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if abs(value) < 1024:
            return f"{value:.2f} {unit}"
        value /= 1024
    return f"{value:.2f} PB"

"""Files of KEY=VALUE lines, as cPanel's and Webmin's tools write them."""

from __future__ import annotations

from collections.abc import Iterator


def pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            yield key.strip(), value.strip()

"""A driver that says what is wrong, but not where: for destinations that are used by others than their owner."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from app.errors import LiberuError
from app.storage.base import StorageDriver
from app.storage.wrapped import WrappedDriver

log = logging.getLogger(__name__)
#: As asyncio writes where it could not connect to, and what may be an address.
_PEER = re.compile(r"\('[^']*', \d+(?:, \d+, \d+)?\)")
_ADDRESS = re.compile(r"(?<![\w.:])[0-9a-fA-F:.]{2,45}(?![\w:])")
_HIDDEN = "…"


class DiscreetDriver(WrappedDriver):
    """`words`: of the place, which no error's message holds. The log has the whole message, for operators."""

    def __init__(self, driver: StorageDriver, words: Sequence[str]) -> None:
        super().__init__(driver)
        self._words = words
        longest_first = sorted((word for word in words if word.strip("/")), key=len, reverse=True)
        named = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest_first)
        self._places = [re.compile(named)] if named else []

    @contextmanager
    def _around(self) -> Iterator[None]:
        try:
            yield
        except LiberuError as error:
            message = error.message
            for pattern in (*self._places, _PEER):
                message = pattern.sub(_HIDDEN, message)
            message = _ADDRESS.sub(_without_address, message)
            if message != error.message:
                log.warning("A shared destination: %s", error.message)
                error.message, error.args = message, (message,)
            raise

    def at(self, moment: datetime) -> StorageDriver:
        with self._around():
            return DiscreetDriver(self._driver.at(moment), self._words)


def _without_address(found: re.Match[str]) -> str:
    text = found[0].rstrip(".:") if not found[0].endswith("::") else found[0]
    try:
        ipaddress.ip_address(text)
    except ValueError:  # a time, a number, a word
        return found[0]
    return _HIDDEN + found[0][len(text) :]

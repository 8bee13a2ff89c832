"""The views, triggers and routines of a dump, in an order in which they can be made."""

from __future__ import annotations

import re

from app.components.mysql_statements import view_of

_NAME = re.compile(rb"`(?:[^`]|``)*+`")
#: Around a view; what other objects need begins otherwise.
_OF_VIEW = b"/*!50001 SET "


class Objects:
    """Pieces of a script, as they come: one for each view that is dropped or made, one for all between two of them.

    The dump programs write views by name, each over stand-ins of those that sort later, which WITH CHECK OPTION is
    not allowed on (1368); here a view comes after those that it names.
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[bytes, bytearray]] = [(b"", bytearray())]
        self.size = 0

    def keep(self, text: bytes) -> None:
        self.size += len(text)
        name, last = view_of(text) or b"", self._pieces[-1]
        if name == last[0] or (not name and text.startswith(_OF_VIEW)):
            last[1].extend(text)
        else:
            self._pieces.append((name, bytearray(text)))

    def script(self) -> bytes:
        at = {name: number for number, (name, _) in enumerate(self._pieces) if name}  # its last piece makes it
        order: list[int] = []
        waiting = list(range(len(self._pieces)))[::-1]
        begun, done = set[int](), set[int]()
        while waiting:
            number = waiting.pop()
            name, text = self._pieces[number]
            if number in done:
                continue
            if name and at[name] == number and number not in begun:
                begun.add(number)
                waiting.append(number)
                needs = {at[other] for other in _NAME.findall(bytes(text)) if other in at}
                waiting += sorted(needs - begun - done, reverse=True)
                continue
            done.add(number)
            order.append(number)
        return b"".join(bytes(self._pieces[number][1]) for number in order)

"""Internationalised domain names as IDNA 2008 has them (RFC 5890 to 5893, UTS 46 for what people type).

A name has two forms: A-labels (`xn--e1afmkfd.xn--p1ai`), which are stored, compared and looked up, and U-labels
(`пример.рф`), which are for people.
"""

from __future__ import annotations

import unicodedata

import idna

_PREFIX = "xn--"
#: More than any name can have, however it is composed: nobody waits for what is longer.
_LONGEST = 1000
#: Alphabets whose letters look like one another's.
_ALIKE = {"LATIN", "GREEK", "CYRILLIC"}


def to_ascii(name: str) -> str:
    """A domain name with A-labels, in small letters. What is plain ASCII stays: its labels are not judged here.

    Raises ValueError, which says what is wrong.
    """
    if len(name) > _LONGEST:
        raise ValueError("is too long for a domain name")
    if not name.isascii():
        try:
            name = idna.uts46_remap(name, std3_rules=True, transitional=False)
        except idna.IDNAError as error:
            raise ValueError(f"is no domain name by IDNA 2008: {error}") from error
    return ".".join(_label(label) for label in name.lower().split("."))


def _label(label: str) -> str:
    if label.isascii() and not label.startswith(_PREFIX):
        return label
    try:
        shown = idna.ulabel(label)
        made = idna.alabel(shown).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"{label!r} is no label of a domain name by IDNA 2008: {error}") from error
    alphabets = {unicodedata.name(letter, "").partition(" ")[0] for letter in shown} & _ALIKE
    if len(alphabets) > 1:
        mixed = " and ".join(sorted(alphabet.capitalize() for alphabet in alphabets))
        raise ValueError(f"{label!r} mixes {mixed} letters, which look alike")
    return made


def to_unicode(name: str) -> str:
    """A stored name as people read it; labels that are none by IDNA 2008 stay as they are."""
    return ".".join(_shown(label) for label in name.split(".")) if _PREFIX in name else name


def _shown(label: str) -> str:
    try:
        return idna.ulabel(label) if label.startswith(_PREFIX) else label
    except (idna.IDNAError, UnicodeError):
        return label


def address_to_ascii(address: str) -> str:
    """An e-mail address with its domain as A-labels; the part before the @ stays, and a domain that is plain ASCII.

    Raises ValueError.
    """
    local, at, domain = address.rpartition("@")
    return address if domain.isascii() and _PREFIX not in domain.lower() else f"{local}{at}{to_ascii(domain)}"

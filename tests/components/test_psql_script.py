"""What reaches psql: data and SQL unchanged, no command of psql's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.components.psql_script import ScriptFilter
from app.errors import LoadFailed

GENUINE = rb"""
\restrict abcDEF123
SET standard_conforming_strings = on;
-- a comment with a backslash \! and a quote '
/* nested /* \! */ still \! */
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT '\!' ; $$;
CREATE FUNCTION g() RETURNS text LANGUAGE sql AS $_$ SELECT $$\! ; $$ $_$;
CREATE FUNCTION h() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END;
 SELECT 2; END;
BEGIN;
COMMENT ON EXTENSION pgcrypto IS 'x';
INSERT INTO t VALUES ('back\slash', E'it\'s \\', "odd\".x, 'two
lines \!');
COPY public.t (a, "b;c") FROM stdin;
1	\\x \N
\! not a command here
\.
SELECT 1;
COPY public.empty (a) FROM stdin;
\.
\unrestrict abcDEF123
"""


def passed(data: bytes, size: int) -> bytes:
    script = ScriptFilter()
    out = b"".join(piece for n in range(0, len(data), size) for piece in script.feed(data[n : n + size]))
    assert script.between_statements
    return out


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10**6])
def test_a_genuine_dump_passes_unchanged_but_for_its_own_keys(size: int) -> None:
    dropped = (b"\\restrict", b"\\unrestrict", b"COMMENT ON EXT", b"BEGIN;")
    lines = [b"" if line.startswith(dropped) else line for line in GENUINE.split(b"\n")]
    assert passed(GENUINE, size) == b"\n".join(lines)


@pytest.mark.parametrize(
    "hostile",
    [
        b"\\! touch /tmp/x\n",
        b"SELECT 1; \\! id\n",
        b"SELECT 'x' \\g |id\n",
        b"SELECT '\\'; \\! id\n",
        b"SELECT E'\\''; \\! id --'\n",
        b"SELECT $a$ $b$ $a$; \\copy t from program 'id'\n",
        b"/* x */ \\connect other\n",
        b"COPY t FROM stdin;\n1\n\\.\n\\! id\n",
        b"COPY t (a) FROM stdin WITH (FORMAT csv);\n\\! id\n",
        b"SELECT a$b$ \\! id\n",
        b'SELECT "a" \\! id\n',
        b"SELECT 'x' -- '\n\\! id\n",
        b"COMMIT;SELECT 1;\n",
        b"/* x */ commit ;\n",
        b"SELECT 1; END;\n",
        b"SELECT te'\\'; \\! id\n",
    ],
)
@pytest.mark.parametrize("size", [1, 10**6])
def test_every_command_is_refused(hostile: bytes, size: int) -> None:
    with pytest.raises(LoadFailed):
        passed(hostile, size)


PARTS = [
    b"'",
    b'"',
    b"\\",
    b"$$",
    b"$a$",
    b"--",
    b"/*",
    b"*/",
    b"\n",
    b";",
    b"E",
    b"x",
    b"COPY t FROM stdin",
    b"\\.\n",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=25), st.integers(1, 5))
def test_chunk_borders_change_nothing(parts: list[bytes], size: int) -> None:
    data = b"".join(parts) + b"\n"

    def outcome(step: int) -> bytes | None:
        script = ScriptFilter()
        try:
            return b"".join(p for n in range(0, len(data), step) for p in script.feed(data[n : n + step]))
        except LoadFailed:
            return None

    assert outcome(size) == outcome(10**6)

"""What psql is given of a dump: its statements for the server alone, its rows as they are, nothing else."""

from __future__ import annotations

import re
from base64 import b64decode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.components.psql_failure import failure
from app.components.psql_script import PsqlScript
from app.errors import LoadFailed

GENUINE = rb"""
\restrict abcDEF123
SET standard_conforming_strings = on;
-- a comment with a backslash \! and a quote '
/* nested /* \! */ still \! */
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT '\!' ; $$;
CREATE FUNCTION g() RETURNS text LANGUAGE sql AS $_$ SELECT $$\! ; $$ $_$;
CREATE FUNCTION h() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END, t.begin FROM t;
 SELECT 2; END;
CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; DELETE FROM v);
BEGIN;
COMMENT ON EXTENSION pgcrypto IS 'x';
INSERT INTO t VALUES ('back\slash', E'it\'s \\', "odd\".x, 'two
lines \!');
INSERT INTO t VALUES ('a;b', 'it''s');
insert into t VALUES ('\');
SELECT a$b$ FROM t -- not $b$ a quote; '
;
COPY public.t (a, "b;c") FROM stdin;
1	\\x \N
\! not a command here
\.x
\.
SELECT 1;
COPY public.empty (a) FROM stdin;
\.
\unrestrict abcDEF123
"""
STATEMENTS = [
    rb"SET standard_conforming_strings = on",
    rb"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT '\!' ; $$",
    rb"CREATE FUNCTION g() RETURNS text LANGUAGE sql AS $_$ SELECT $$\! ; $$ $_$",
    rb"""CREATE FUNCTION h() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END, t.begin FROM t;
 SELECT 2; END""",
    rb"CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; DELETE FROM v)",
    rb"""INSERT INTO t VALUES ('back\slash', E'it\'s \\', "odd\".x, 'two
lines \!');INSERT INTO t VALUES ('a;b', 'it''s');insert into t VALUES ('\')""",
    b"SELECT a$b$ FROM t -- not $b$ a quote; '\n",
    b'COPY public.t (a, "b;c") FROM stdin',
    b"1\t\\\\x \\N\n\\! not a command here\n\\.x\n",
    b"SELECT 1",
    b"COPY public.empty (a) FROM stdin",
    b"",
]  # fmt: skip
CELL = re.compile(
    rb"SELECT pg_catalog\.convert_from\(pg_catalog\.decode\('([A-Za-z0-9+/=\n]*)', 'base64'\), "
    rb"pg_catalog\.pg_client_encoding\(\)\) \\gexec\n"
)


def read_back(given: bytes) -> list[bytes]:
    """As psql reads it; fails for anything that is neither a cell of ours nor rows after a COPY."""
    found, at = [], 0
    while at < len(given):
        cell = CELL.match(given, at)
        assert cell is not None, given[at : at + 200]
        text = re.sub(rb"^/\* \d+ \*/ ", b"", b64decode(cell[1]))
        found.append(re.sub(rb";\s*(?=insert)", b";", text, flags=re.IGNORECASE))
        at = cell.end()
        if text.startswith(b"COPY") and b"FROM stdin" in text:
            end = given.index(b"\n\\.\n", at - 1)
            found.append(given[at : end + 1])
            at = end + 4
    return found


def passed(data: bytes, size: int = 1 << 20, *, plain: bool = False) -> list[bytes]:
    script = PsqlScript(plain=plain)
    out = b"".join(piece for n in range(0, len(data), size) for piece in script.feed(data[n : n + size]))
    return read_back(out + b"".join(script.end()))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 257, 10**6])
def test_a_genuine_dump_is_split_into_its_statements(size: int) -> None:
    assert passed(GENUINE, size) == STATEMENTS


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        (b"\\! touch /tmp/x\n", "psql command"),
        (b"SELECT 1; \\! id\n", "after statement 1"),
        (b"SELECT 'x' \\g |id\n;", "backslash outside quotes in statement 1"),
        (b"SELECT '\\'; \\! id\n", "psql command"),
        (b"SELECT E'\\''; \\! id --'\n", "psql command"),
        (b"SELECT $a$ $b$ $a$; \\copy t from program 'id'\n", "psql command"),
        (b"/* x */ \\connect other\n", "another database"),
        (b"COPY t FROM stdin;\n1\n\\.\n\\! id\n", "psql command"),
        (b"COPY t FROM stdin; SELECT 1;\n1\n\\.\n", "Something follows"),
        (b"COPY t FROM stdin WITH (FORMAT binary);\n\\! id\n", "options that are not known"),
        (b"COPY t FROM stdin /* x */;\n\\! id\n", "options that are not known"),
        (b"COPY t (a) FROM stdin WHERE a > 1;\n\\.\n", "options that are not known"),
        (b"COPY t (a" + b"\n" * (2 << 20) + b") FROM stdin;\n\\.\n", "longer than 1 MiB"),
        (b"COPY t FROM stdin;\n1\n", "ends in the middle"),
        (b"COPY t FROM stdin;\n1\n\\.", "ends in the middle"),
        (b"SELECT a$b$ \\! id\n;", "backslash outside quotes"),
        (b"SELECT \xc3\xa9$$;\n\\! id\n--$$\n;\n", "psql command"),
        (b"SELECT 'x' -- '\n\\! id\n;", "backslash outside quotes"),
        (b"SET standard_conforming_strings = off; SELECT '\\'';\n\\! id\n--';\n", "psql command"),
        (b"ROLLBACK;SELECT 1;\n", "transaction command"),
        (b"/* x */ savepoint x;\n", "transaction command"),
        (b"SELECT 1; END;\n", "transaction command"),
        (b"SELECT 'a\0b';\n", "NUL byte"),
        (b"COPY t FROM stdin;\na\0\n\\.\n", "NUL byte"),
        (b"SELECT 'a", "ends in the middle"),
        (b"SELECT 1", "ends in the middle"),
        (b"SELECT 1; /* a", "ends in the middle"),
    ],
)
@pytest.mark.parametrize("size", [1, 10**6])
def test_what_cannot_be_passed_on_is_refused_with_its_place(hostile: bytes, why: str, size: int) -> None:
    with pytest.raises(LoadFailed, match=why):
        passed(hostile, size if len(hostile) < 10**6 else 10**6)


@pytest.mark.parametrize(
    "copy",
    [
        b"COPY t FROM stdin",
        b'copy  "a ""b"" \xc3\xa9" . "c(d" ("x,y", z )\nFROM  STDIN ',
        b"COPY t FROM stdin WITH (FORMAT csv, HEADER, DELIMITER ';', NULL '')",
        b"COPY t FROM stdin WITH CSV HEADER",
    ],
)
@pytest.mark.parametrize("end", [b"\\.\n", b"\\.\r\n"])
def test_rows_pass_as_they_are_up_to_the_line_that_ends_them(copy: bytes, end: bytes) -> None:
    rows = b"1\t\\.\r\n \\.\n\\.\\\n\\. \n\n\\.\r\r\nx"
    script = PsqlScript()
    out = b"".join(script.feed(copy + b";  \r\n" + rows + b"\n" + end + b"SELECT 2;\n")) + b"".join(script.end())
    _, _, rest = out.partition(b"\\gexec\n")
    assert rest.startswith(rows + b"\n\\.\nSELECT pg_catalog.")


def test_transactions_owners_and_unknown_settings_are_left_out_and_counted() -> None:
    script = PsqlScript(plain=True, foreign=True, unknown={"transaction_timeout"})
    out = b"".join(
        script.feed(
            b"BEGIN;\nSET transaction_timeout = 0;\nCREATE TABLE t (a int);\nALTER TABLE public.t OWNER TO \"a b\";\n"
            b"GRANT ALL ON TABLE t\n TO PUBLIC;\nALTER DEFAULT PRIVILEGES FOR ROLE x GRANT ALL ON TABLES TO y;\n"
            b"ALTER TABLE t ADD COLUMN b text DEFAULT 'x OWNER TO y';\nCOMMIT;\n"
        )
    ) + b"".join(script.end())  # fmt: skip
    assert read_back(out) == [
        b"CREATE TABLE t (a int)",
        b"ALTER TABLE t ADD COLUMN b text DEFAULT 'x OWNER TO y'",
    ]
    assert script.left_out == {"owners": 1, "grants": 2, "transaction_timeout": 1}
    assert list(script.left) == [
        "GRANT ALL ON TABLE t TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT ALL ON TABLES TO y",
    ]
    assert script.unmarked


def test_a_long_statement_passes_in_pieces() -> None:
    """Nothing holds a statement of any length as a whole."""
    script = PsqlScript()
    text = b"INSERT INTO t VALUES ('" + b"x" * (3 << 20) + b"')"
    data = b"SELECT 1;" + text + b";SELECT 2;"
    pieces = [piece for n in range(0, len(data), 1 << 18) for piece in script.feed(data[n : n + (1 << 18)])]
    out = b"".join(pieces) + b"".join(script.end())
    assert read_back(out) == [b"SELECT 1", text, b"SELECT 2"]
    assert max(map(len, pieces)) < 2 << 20


def test_a_statement_without_an_end_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.components.psql_script._LONGEST", 4 << 20)
    script = PsqlScript()
    with pytest.raises(LoadFailed, match="Statement 2 of the dump is longer than 4 MiB"):
        list(script.feed(b"SELECT 1; SELECT '"))
        for _ in range(6):
            list(script.feed(b"x" * (1 << 20)))


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (
            "psql:<stdin>:4: NOTICE:  00000: secret\nLOCATION:  x, y.c:1\n"
            'psql:<stdin>:9: ERROR:  23505: duplicate key value violates unique constraint "t_pkey"\n'
            "DETAIL:  Key (a)=(secret) already exists.\nLOCATION:  x, y.c:1\n"
            "psql:<stdin>:9: STATEMENT:  /* 7 */ UPDATE public.t SET a = 'secret'\n",
            'statement 7 (UPDATE public.t SET a): duplicate key value violates unique constraint "t_pkey" (23505)',
        ),
        (
            "psql:<stdin>:9: ERROR:  22P02: invalid input syntax for type integer\n"
            'CONTEXT:  COPY t, line 3, column a: "secret"\n'
            "psql:<stdin>:9: STATEMENT:  /* 12 */ COPY public.t (a) FROM stdin\n",
            "statement 12 (COPY public.t), row 3: invalid input syntax for type integer (22P02)",
        ),
        (
            "psql:<stdin>:9: ERROR:  22003: integer out of range\n"
            "psql:<stdin>:9: STATEMENT:  /* 12 */ INSERT INTO t VALUES (1, 'secret')\n",
            "statement 12 or one of the inserts after it (INSERT INTO t VALUES): integer out of range (22003)",
        ),
        ("psql: error: connection to server failed\n", "psql: error: connection to server failed"),
        ("secret\n", "psql ended and gave no reason"),
    ],
)
def test_an_error_names_the_statement_and_not_what_is_in_it(printed: str, told: str) -> None:
    assert failure(printed) == told


PARTS = [
    b"'", b'"', b"\\", b"$$", b"$a$", b"--", b"/*", b"*/", b"\n", b";", b"E", b"x", b"-", b"e'", b"\xe9", b"\r",
    b"COPY t FROM stdin;\n", b"\\.\n", b"INSERT INTO t VALUES ('", b"');", b"CREATE RULE (", b"BEGIN ATOMIC ", b"END",
    b"CREATE FUNCTION ", b"SET standard_conforming_strings = off;", b" " * 300,
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=30), st.integers(1, 9))
def test_chunk_borders_change_nothing(parts: list[bytes], size: int) -> None:
    data = b"".join(parts) + b"\n"

    def outcome(step: int) -> list[bytes] | None:
        try:
            return passed(data, step)
        except LoadFailed:
            return None

    assert outcome(size) == outcome(10**6)


KEPT = b"""--
-- Name: f(text); Type: FUNCTION; Schema: public; Owner: admin
--

CREATE FUNCTION f(text) RETURNS text LANGUAGE internal AS 'x';
--
-- Name: the irs; Type: TABLE; Schema: public; Owner: other
--

CREATE TABLE public."the irs" (a int);
--
-- Data for Name: the irs; Type: TABLE DATA; Schema: public; Owner: other
--

COPY public."the irs" (a) FROM stdin;
1
\\.
--
-- Name: the irs fk; Type: FK CONSTRAINT; Schema: public; Owner: other
--

ALTER TABLE ONLY public."the irs" ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES t(a);
--
-- Name: the; Type: TABLE; Schema: public; Owner: owner
--

CREATE TABLE public.the (a int);
"""


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_another_roles_stays_with_its_rows(size: int) -> None:
    script = PsqlScript(kept=frozenset({("public", "the irs")}))
    pieces = [piece for n in range(0, len(KEPT), size) for piece in script.feed(KEPT[n : n + size])]
    function, table = read_back(b"".join(pieces) + b"".join(script.end()))
    assert function.startswith(b"-- CREATE FUNCTION f(text)") and b"WHEN SQLSTATE '42710'" in function
    assert table == b"CREATE TABLE public.the (a int)"
    assert list(script.left) == [
        "TABLE public.the irs",
        "TABLE DATA public.the irs",
        "FK CONSTRAINT public.the irs fk",
    ]
    assert script.owners.others("owner") == {"admin": ["FUNCTION public.f(text)"]}

"""Scripts whose author wants psql to run something: each deceives a reader of SQL that is not psql itself."""

from __future__ import annotations

HEAD = b"--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.made (a text);\n"
END = b"\n--\n-- PostgreSQL database dump complete\n--\n\n"


def dump(body: bytes) -> bytes:
    return HEAD + body + END


def shells(command: bytes) -> dict[str, bytes]:
    """By what each of them plays with; `command` is a psql command such as `\\! id`."""
    pad = b" " * (1 << 20)
    return {
        "a letter beyond ASCII before a dollar": b"SELECT 1 AS \xc3\xa9$$;\n%s\n-- $$\n;\n" % command,
        "standard_conforming_strings": b"SET standard_conforming_strings = off;\nSELECT '\\'';\n%s\n--';\n" % command,
        "an encoding whose characters end in a backslash": (
            b"SET client_encoding = 'SJIS';\nSELECT E'\x81\\';\n%s\n--';\n" % command
        ),
        "a COPY that is too long to be looked at": (
            b"SET search_path = public;\nCREATE TABLE stdin (a int);\nCOPY (SELECT 1%sFROM stdin--\n) TO STDOUT;\n"
            b"%s\n\\.\n" % (pad, command)
        ),
        "a setting that a function makes": (
            b"SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);\n"
            b"SELECT '\\'';COPY public.made FROM stdin;--';\nSELECT '%s';\n" % command
        ),
        "rows of a COPY that is none": (
            b"SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);\n"
            b"SELECT '\\'';COPY public.made FROM stdin;--';\nCOPY public.made FROM stdin;\n%s\n\\.\n" % command
        ),
        "a COPY of a table that is not there": b"COPY public.nowhere FROM stdin;\n%s\n\\.\n" % command,
        "a COPY of a view": b"CREATE VIEW public.v AS SELECT 1;\nCOPY public.v FROM stdin;\n%s\n\\.\n" % command,
        "a COPY in an aborted transaction": (
            b"DO $$ BEGIN RAISE EXCEPTION 'x'; END $$;\nCOPY public.made FROM stdin;\n%s\n\\.\n" % command
        ),
        "a session that ends before its rows": (
            b"SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());\n"
            b"COPY public.made FROM stdin;\n%s\n\\.\n" % command
        ),
        "a session that ends within its rows": (
            b"CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS "
            b"'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END';\n"
            b"CREATE TRIGGER t BEFORE INSERT ON public.made FOR EACH ROW EXECUTE FUNCTION public.f();\n"
            b"COPY public.made FROM stdin;\n%s\\.\n" % (b"%s\n" % command * 30_000)
        ),
        "a time that is up within its rows": (
            b"SET statement_timeout = 1;\nCOPY public.made FROM stdin;\n%s\\.\n" % (b"%s\n" % command * 30_000)
        ),
        "a NUL byte that hides a line's end": b"COPY public.made FROM stdin;\na\0\n\\.\n%s\n\\.\n" % command,
        "a line's end of another system": b"COPY public.made FROM stdin;\nx\r\\.\r%s\r\n\\.\r\n%s\n"
        % (command, command),
        "a line longer than psql reads at once": (
            b"COPY public.made FROM stdin;\n%s\\.\n%s\n\\.\n" % (b"x" * 8186, command)
        ),
        "a body of its own": (
            b"CREATE FUNCTION public.f() RETURNS int BEGIN ATOMIC SELECT 1; END;\n%s\n END;\n" % command
        ),
        "a name": b'CREATE TABLE public."%s\n%s\n" (a int);\n' % (command, command),
        "a variable of psql's": b"SELECT :'made', :{?made};\n\\set made `touch x`\n%s\n" % command,
    }

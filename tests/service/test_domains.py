"""Domains: none takes another's place, and their names are one whichever form they are written in."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.servers import PostgresqlServer, postgresql_server
from demo.service import Service

SSH = {"type": "ssh", "host": "web1.example.net", "username": "root", "password": "x"}
MYSQL = {"engine": "mysql", "name": "shop", "username": "shop", "password": "x"}
POSTGRESQL = MYSQL | {"engine": "postgresql"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("domains"), LIBERU_SITES__ROOTS='["/srv/sites"]')
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "service" in request.fixturenames:
        service: Service = request.getfixturevalue("service")
        for domain in service.call("GET", "/api/domains", params={"per_page": 200})["data"]:
            service.call("DELETE", f"/api/domains/{domain['id']}", 204)


def made(service: Service, name: str, expect: int = 201, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = service.call("POST", "/api/domains", expect, json={"domain_name": name, **body})
    return answer


def docker(**more: Any) -> dict[str, Any]:
    return {"document_root": "/var/www/html", "deployment": {"type": "docker", **more}}


def kubernetes(**more: Any) -> dict[str, Any]:
    return {"document_root": "/var/www/html", "deployment": {"type": "kubernetes", **more}}


OVERLAPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one document root": ({"document_root": "/srv/sites/a"}, {"document_root": "/srv//sites/./a/"}),
    "inside it": ({"document_root": "/srv/sites/a"}, {"document_root": "/srv/sites/a/b/staging"}),
    "around it": ({"document_root": "/srv/sites/a/public"}, {"document_root": "/srv/sites/a"}),
    "auto is this machine": (
        {"document_root": "/srv/sites/a", "deployment": {"type": "standalone"}}, {"document_root": "/srv/sites/a"}),
    "one mail folder": ({"mail_path": "/srv/sites/mail"}, {"mail_path": "/srv/sites/mail"}),
    "mail inside a site": ({"document_root": "/srv/sites/a"}, {"mail_path": "/srv/sites/a/mail"}),
    "one server by SSH": (
        {"document_root": "/x", "deployment": SSH},
        {"document_root": "/x/y", "deployment": SSH | {"host": "WEB1.example.net.", "username": "other"}}),
    "the whole of a server": (
        {"document_root": "/", "deployment": SSH}, {"document_root": "/x", "deployment": SSH}),
    "one container": (docker(container="web1"), docker(container="web1")),
    "the container of another's name": (docker(), docker(container="first.example.com_web")),
    "one compose project": (docker(project="shop"), docker(project="shop")),
    "one pod": (kubernetes(namespace="x", selector="app=a"), kubernetes(namespace="x", selector="app=a")),
    "the pod of another's name": (
        kubernetes(), kubernetes(namespace="hosting-first-example-com", selector="app=first-example-com")),
    "the live database": ({"databases": [MYSQL]}, {"databases": [MYSQL | {"engine": "mariadb", "username": "x"}]}),
    "by socket and by address": (
        {"databases": [MYSQL | {"socket": "/run/mysqld/mysqld.sock"}]},
        {"databases": [MYSQL | {"host": "127.0.0.1", "port": 3306}]}),
    "one database server": (
        {"databases": [POSTGRESQL | {"host": "DB.example.net"}]},
        {"databases": [POSTGRESQL | {"host": "db.example.net", "port": 5432}], "deployment": SSH}),
    "one of many": (
        {"databases": [MYSQL | {"name": f"d{n}"} for n in range(500)]},
        {"databases": [MYSQL | {"name": f"d{n}"} for n in range(499, 900)]}),
}  # fmt: skip


@pytest.mark.parametrize("what", OVERLAPS)
def test_a_place_that_another_domain_has_is_refused(service: Service, what: str) -> None:
    first, second = OVERLAPS[what]
    made(service, "first.example.com", **first)
    problem = made(service, "second.example.com", 409, **second)
    assert problem["code"] == "domain_overlap"
    assert "first.example.com" in problem["detail"]
    by_name = {"domain_name": "-", **second} | {"domain_name": "second.example.com"}
    service.call("PUT", "/api/domains/by-name/second.example.com", 409, json=by_name)
    assert service.call("GET", "/api/domains")["total"] == 1
    later = made(service, "second.example.com")
    body = {"domain_name": "second.example.com", **second}
    assert service.call("PUT", f"/api/domains/{later['id']}", 409, json=body)["code"] == "domain_overlap"


APART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "beside it": ({"document_root": "/srv/sites/a"}, {"document_root": "/srv/sites/ab"}),
    "another case": ({"document_root": "/srv/sites/a"}, {"document_root": "/srv/sites/A/b"}),
    "wildcards are letters": ({"document_root": "/srv/sites/a_b%"}, {"document_root": "/srv/sites/axb%c/d"}),
    "another server": (
        {"document_root": "/srv/sites/a", "deployment": {"type": "standalone", "server": "one"}},
        {"document_root": "/srv/sites/a", "deployment": {"type": "standalone", "server": "two"}}),
    "another server by SSH": (
        {"document_root": "/x", "deployment": SSH}, {"document_root": "/x", "deployment": SSH | {"port": 2222}}),
    "a container each": (docker(), docker()),
    "a pod each": (kubernetes(), kubernetes()),
    "a database of one name at another server": (
        {"databases": [MYSQL]}, {"databases": [MYSQL | {"host": "db.example.net"}]}),
    "another port": (
        {"databases": [MYSQL | {"host": "127.0.0.1"}]}, {"databases": [MYSQL | {"host": "127.0.0.1", "port": 3307}]}),
    "another engine": ({"databases": [MYSQL]}, {"databases": [POSTGRESQL]}),
    "databases in containers": (docker() | {"databases": [MYSQL]}, docker() | {"databases": [MYSQL]}),
    "a cache": ({"databases": [MYSQL | {"engine": "redis"}]}, {"databases": [MYSQL | {"engine": "redis"}]}),
}  # fmt: skip


@pytest.mark.parametrize("what", APART)
def test_places_that_only_look_alike_are_no_matter(service: Service, what: str) -> None:
    first, second = APART[what]
    made(service, "first.example.com", **first)
    made(service, "second.example.com", **second)


def test_an_operator_may_say_that_it_is_meant(service: Service) -> None:
    root: dict[str, Any] = {"document_root": "/srv/sites/a"}
    assert made(service, "live.example.com", **root, user_id=7)["shared"] is False
    staging = made(service, "staging.example.com", **root, user_id=7, shared=True)
    url = f"/api/domains/{staging['id']}"
    assert service.call("GET", url)["shared"] is True
    body = {"domain_name": "staging.example.com", "user_id": 7, **root}
    kept = service.call("PUT", url, json=body | {"exclusions": ["cache"]})
    assert kept["shared"] is True, "left out: as it was"
    token = {"name": "x", "abilities": ["*"], "user_id": 7}
    tenant = service.call("POST", "/api/tokens", 201, json=token)["token"]
    service.call("PUT", url, 403, tenant, json=body | {"shared": False})
    service.call("POST", "/api/domains", 403, tenant, json={"domain_name": "own.example.com", "shared": True})
    assert service.call("PUT", url, token=tenant, json=body)["shared"] is True
    assert service.call("PUT", url, 409, json=body | {"shared": False})["code"] == "domain_overlap"
    made(service, "third.example.com", 409, **root)
    apart = body | {"shared": False, "document_root": "/srv/sites/b"}
    assert service.call("PUT", url, json=apart)["shared"] is False


def test_a_place_is_free_when_its_domain_moves_or_goes(service: Service) -> None:
    first = made(service, "first.example.com", document_root="/srv/sites/a", databases=[MYSQL])
    url = f"/api/domains/{first['id']}"
    service.call("PUT", url, json={"domain_name": "first.example.com", "document_root": "/srv/sites/b"})
    second = made(service, "second.example.com", document_root="/srv/sites/a", databases=[MYSQL])
    back = {"domain_name": "first.example.com", "document_root": "/srv/sites/a"}
    service.call("PUT", url, 409, json=back)
    service.call("DELETE", f"/api/domains/{second['id']}", 204)
    service.call("PUT", url, json=back)


def test_domains_that_overlap_since_before_go_on(tmp_path: Path) -> None:
    """As an older version has left them: a migration cannot know which of the two is meant."""
    service = Service(tmp_path, LIBERU_SITES__ROOTS='["/srv/sites"]')
    service.start()
    body: dict[str, Any] = {"document_root": "/srv/sites/a", "databases": [MYSQL]}
    ids = {name: made(service, name, **body, shared=True)["id"] for name in ("a.example.com", "b.example.com")}
    service.stop()
    with closing(sqlite3.connect(tmp_path / "data/liberu.db")) as database:
        database.execute("DELETE FROM occupied_places")
        database.execute("UPDATE domains SET shared = 0, places_version = 0")
        database.commit()
    service.start()
    try:
        for name, number in ids.items():
            same = {"domain_name": name, **body}
            service.call("PUT", f"/api/domains/{number}", json=same)
            service.call("PUT", f"/api/domains/by-name/{name}", json=same | {"exclusions": ["cache"]})
            before = service.call("GET", f"/api/domains/{number}")
            more = same | {"databases": [MYSQL, POSTGRESQL | {"name": name}]}
            service.call("PUT", f"/api/domains/{number}", json=more)
        assert "a.example.com" in made(service, "c.example.com", 409, document_root="/srv/sites/a/c")["detail"]
        assert service.call("GET", f"/api/domains/{number}")["updated_at"] >= before["updated_at"]
        moved = {"domain_name": "b.example.com", "document_root": "/srv/sites/b"}
        service.call("PUT", f"/api/domains/{ids['b.example.com']}", json=moved)
        problem = service.call(
            "PUT", f"/api/domains/{ids['b.example.com']}", 409, json=moved | {"document_root": "/srv/sites/a"}
        )
        assert problem["code"] == "domain_overlap"
    finally:
        service.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        yield started


@pytest.mark.parametrize("state", ["sqlite", "postgresql"])
def test_of_two_at_the_same_moment_one_gets_the_place(tmp_path: Path, state: str, request: Any) -> None:
    env = {"LIBERU_SITES__ROOTS": '["/srv/sites"]'}
    if state == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("server")
        for name, driver in (("state", "asyncpg"), ("engine", "psycopg")):
            server.run(f"CREATE DATABASE {name}")
            variable = "LIBERU_DATABASE__URL" if name == "state" else "LIBERU_DATABASE__ENGINE_URL"
            env[variable] = f"postgresql+{driver}://admin:{server.admin_password}@127.0.0.1:{server.port}/{name}"
    service = Service(tmp_path, **env)
    service.start()
    try:
        for turn in range(5):
            ready = threading.Barrier(8)

            def register(number: int, turn: int = turn, ready: threading.Barrier = ready) -> httpx.Response:
                root = f"/srv/sites/{turn}" + "/nested" * (number % 2)
                body = {"domain_name": f"d{turn}-{number}.example.com", "document_root": root}
                with service.client() as client:
                    ready.wait(30)
                    return client.post("/api/domains", json=body)

            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(register, range(8)))
            assert sorted({answer.status_code for answer in answers}) == [201, 409], answers
            good = [answer for answer in answers if answer.status_code == 201]
            assert len({answer.json()["document_root"] for answer in good}) == len(good) == 1
            assert {answer.json().get("code") for answer in answers} == {None, "domain_overlap"}
    finally:
        service.stop()


# --- internationalised names ---------------------------------------------------------------------------------------

ASCII, UNICODE = "xn--e1afmkfd.xn--p1ai", "пример.рф"


@pytest.mark.parametrize("typed", [ASCII, UNICODE, "Пример.РФ", ASCII.upper(), "пример。рф"])
def test_one_domain_whichever_way_its_name_is_written(service: Service, typed: str) -> None:
    domain = made(service, typed, mailboxes=[{"email_address": "Анна@Пример.рф"}, {"email_address": f"b@{ASCII}"}])
    assert (domain["domain_name"], domain["domain_name_unicode"]) == (ASCII, UNICODE)
    assert [box["email_address"] for box in domain["mailboxes"]] == [f"Анна@{ASCII}", f"b@{ASCII}"]
    for other in (ASCII, UNICODE):
        assert made(service, other, 409)["code"] == "conflict"
        body = {"domain_name": other, "exclusions": [other]}
        assert service.call("PUT", f"/api/domains/by-name/{other}", json=body)["id"] == domain["id"]
        service.call("PUT", f"/api/domains/{domain['id']}", json=body)
    for search in (ASCII, UNICODE, "ПРИМ", "xn--e1af", "рф"):
        assert service.call("GET", "/api/domains", params={"search": search})["total"] == 1, search
    assert service.call("GET", "/api/domains", params={"search": "другой"})["total"] == 0
    sub = made(service, f"магазин.{UNICODE}")
    assert sub["domain_name"].endswith(f".{ASCII}")


@pytest.mark.parametrize("name", ["shop.example.com", "ab--cd.example.com", "straße.de", "xn--strae-oqa.xn--p1ai",
                                  "日本語.jp", "ایران.ir"])  # fmt: skip
def test_names_of_all_the_world(service: Service, name: str) -> None:
    domain = made(service, name)
    assert domain["domain_name"].isascii()
    assert made(service, domain["domain_name_unicode"], 409)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("☕.com", "not allowed"), ("xn--ls8h.com", "not allowed"), ("xn--пример.рф", "hyphens"),
        ("аpple.com", "mixes Cyrillic and Latin"), ("xn--pple-43d.com", "mixes"), ("אa.com", "direction"),
        ("é" * 60 + ".com", "too long"), (f"{'a' * 64}.рф", "labels"), (".".join(["пример"] * 40), "labels"),
        ("xn--zzzzzz.com", "Invalid A-label"), ("xn--.com", "A-label"), ("xn--abc-.com", "hyphen"),
        ("-пример.рф", "hyphen"), ("пример..рф", "labels"), ("пример", "labels"), ("a\u200db.com", "Joiner"),
        ("пример.12", "labels"), ("п" * 2000 + ".рф", "too long"), ("пример/x.рф", "not allowed"),
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_and_why(service: Service, name: str, why: str) -> None:
    problem = made(service, name, 422)
    assert why in problem["errors"]["domain_name"][0], problem
    body = {"domain_name": "mail.example.com", "mailboxes": [{"email_address": "a@☕.com"}]}
    assert "mailboxes" in service.call("POST", "/api/domains", 422, json=body)["errors"]

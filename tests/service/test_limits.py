"""How often, how much, and what browsers are told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(
        tmp_path_factory.mktemp("limits"),
        LIBERU_SERVER__USER_REQUESTS_PER_MINUTE="20",
        LIBERU_SERVER__FAILURES_PER_MINUTE="15",
        LIBERU_SERVER__MAX_BODY="100000",
        LIBERU_SERVER__CORS_ORIGINS='["https://panel.example.com"]',
    )
    made.start()
    yield made
    made.stop()


def token(service: Service, user_id: int | None) -> str:
    body = {"name": "x", "abilities": ["*"], "user_id": user_id}
    return str(service.call("POST", "/api/tokens", 201, json=body)["token"])


def test_a_users_requests_are_limited_and_nobody_elses(service: Service) -> None:
    first, second = token(service, 7), token(service, 8)
    with service.client(first) as client:
        answers = [client.get("/api/domains") for _ in range(24)]
    assert [answer.status_code for answer in answers[:20]] == [200] * 20
    refused = answers[-1]  # where a minute ends in between, one more may pass
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "60"
    assert refused.json()["retryable"]
    service.call("GET", "/api/domains", token=second)
    for _ in range(40):
        service.call("GET", "/api/domains")


def test_bodies_are_limited(service: Service) -> None:
    large = {"domain_name": "x.example.com", "exclusions": ["x" * 120_000]}
    assert service.call("POST", "/api/domains", 413, json=large)["code"] == "too_large"

    def endless() -> Iterator[bytes]:
        yield b'{"domain_name": "'
        for _ in range(200):
            yield b"x" * 1000

    with service.client() as client:
        answer = client.post("/api/domains", content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    with service.client() as client:
        assert client.post("/api/backups/uploads", content=b"x" * 200_000).status_code == 201, (
            "uploads have their own"
        )


def test_what_browsers_are_told(service: Service) -> None:
    with service.client() as client:
        for path in ("/api/domains", "/health/live", "/api/nothing"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["content-security-policy"].startswith("default-src 'none'")
        assert client.get("/api/domains").headers["cache-control"] == "no-store"
        assert "content-security-policy" not in client.get("/docs").headers, "it has scripts"


def preflight(service: Service, origin: str) -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    with service.client() as client:
        return client.options("/api/domains", headers=headers)


def test_pages_elsewhere(service: Service, folder: Path) -> None:
    allowed = preflight(service, "https://panel.example.com").headers
    assert allowed["access-control-allow-origin"] == "https://panel.example.com"
    assert "access-control-allow-credentials" not in allowed
    assert "access-control-allow-origin" not in preflight(service, "https://evil.example.com").headers
    closed = Service(folder)
    closed.start()
    try:
        assert "access-control-allow-origin" not in preflight(closed, "https://panel.example.com").headers
    finally:
        closed.stop()


def test_guessing_is_limited_by_address(service: Service) -> None:
    with service.client("lbk_guess") as client:
        found = [client.get("/api/domains").status_code for _ in range(20)]
    assert found[:15] == [401] * 15
    assert found[-1] == 429
    service.call("GET", "/api/domains")  # others behind the same address have valid tokens


def test_a_request_that_never_ends_holds_nobody_up(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as slow:
        slow.sendall(b"POST /api/domains HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        with service.client() as client:
            assert client.get("/health/ready").status_code == 200

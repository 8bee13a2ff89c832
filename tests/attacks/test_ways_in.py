"""Somebody wants in, wants all others out, or wants an internal error with a token of their making."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.errors import Unauthenticated
from app.security.jwt import JwtVerifier
from app.settings import JwtSettings
from demo.service import ROOT, Service

ISSUER, SECRET = "https://panel.example.com", "s" * 64


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes the panel's JWTs."""
    made = Service(
        tmp_path_factory.mktemp("panel"),
        LIBERU_JWT__ISSUER=ISSUER,
        LIBERU_JWT__ALGORITHM="HS256",
        LIBERU_JWT__SECRET=SECRET,
        LIBERU_SERVER__FAILURES_PER_MINUTE="0",
        LIBERU_SERVER__USER_REQUESTS_PER_MINUTE="0",
        LIBERU_STORAGE__RESUME_SECONDS="0",
    )
    made.start()
    yield made
    made.stop()
    assert "Traceback" not in (made.folder / "service.log").read_text()


def signed(claims: str, header: str = '{"alg":"HS256","typ":"JWT"}') -> str:
    """By hand: libraries refuse to make such tokens."""

    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    text = f"{part(header.encode())}.{part(claims.encode())}"
    return f"{text}.{part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())}"


def claims(**more: Any) -> str:
    made = {"iss": ISSUER, "aud": "liberu-backup", "sub": "anna", "exp": int(time.time()) + 3600, "user_id": 7}
    return json.dumps(made | {"abilities": ["*"]} | more)


DEEP = "[" * 4000 + "]" * 4000


ODD: list[Any] = ["a\0b", "\ud800", "a\nb", "", [], 7, None]
TOKENS = [
    *(signed(claims(user_id=user)) for user in (
        10**30, 1 << 31, -1, 0, 1.0, 1e300, True, [7], {"7": 7}, "", "0", "07", " 7", "+7", "٣", "７", "⑦", "²",
        "9" * 4000, "7\0", "7\n", "\ud800", "1e3")),
    *(signed(claims(sub=subject)) for subject in ODD),
    *(signed(claims(abilities=abilities)) for abilities in (7, {"*": 1}, True)),
    signed(claims()[:-1] + ', "exp": 1e999}'), signed(claims()[:-1] + ', "nbf": 1e999}'), signed(claims(exp=[1])),
    signed(claims(exp="x")), signed(claims(iat={})), signed(claims(aud=[[]])), signed(claims(iss=[ISSUER])),
    signed(claims()[:-1] + f', "x": {DEEP}}}'), signed(claims()[:-1] + f', "x": {"9" * 5000}}}'),
    signed(claims(), f'{{"alg":"HS256","x":{DEEP}}}'), signed(claims(), '{"alg":["HS256"]}'),
    signed("[]"), signed("7"),
    signed(claims(), "[]"), signed(claims(), '{"alg":"HS256","kid":7}'),
    signed(claims(), '{"alg":"HS256","crit":7}'),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TOKENS)))
def test_a_token_wants_an_internal_error(panel: Service, number: int) -> None:
    token = TOKENS[number]
    body = {"domain_name": "t.example.com"}
    assert panel.call("GET", "/api/domains", 401, token=token)["code"] == "unauthenticated"
    panel.call("POST", "/api/domains", 401, token=token, json=body)


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["٣", 10**30, "\0", "\ud800", "7"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["user_id", "sub", "abilities", "operator", "exp", "nbf", "iat", "aud", "iss", "jti"])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.dictionaries(NAMES, ANY, max_size=4))
def test_any_token_is_somebody_or_nobody(changed: dict[str, Any]) -> None:
    verifier = JwtVerifier(JwtSettings(issuer=ISSUER, algorithm="HS256", secret=SecretStr(SECRET)))
    try:
        found = asyncio.run(verifier.principal(signed(claims(**changed))))
    except Unauthenticated:
        return
    assert found is not None
    assert found.user_id is None or 1 <= found.user_id < 1 << 31
    assert (found.user_id is None) == (changed.get("operator") is True)
    assert found.actor.isprintable()


def test_what_a_user_may_be_called(panel: Service) -> None:
    for user in (1, "7", (1 << 31) - 1, str((1 << 31) - 1)):
        panel.call("GET", "/api/domains", token=signed(claims(user_id=user)))
    panel.call("GET", "/api/domains", token=signed(claims(exp=10**400)))
    panel.call("GET", "/api/domains", token=signed(claims(sub="Anna Ünal <anna@example.com>")))


def s3(endpoint: str, **more: Any) -> dict[str, Any]:
    configuration = {"key": "k", "secret": "s", "bucket": "bucket", "endpoint": endpoint, "timeout": 1}
    return {"name": f"n{time.monotonic_ns()}", "type": "s3", "configuration": configuration | more}


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://a:٣", "http://a:１２", "http://a:99999", "http://a:-1", "http://a:+1", "http://a:1e1",
        f"http://a:{'9' * 500}",
        "http://[::1", "http://a]", "http://[v1.x]", "http://[::1%25lo]:9", "http://[1]", "http://a℀b", "http://a①.b",
        "http://xn--", "http://xn--a-", f"http://{'a' * 900}", f"http://{'a' * 64}.b", "http://a..b", "http://a\0b",
        "http://a\ud800b", "http://2130706433", "http://0x7f.1", "http://0177.1", "http://1.2.3.4.5", "http://a%00b",
        "http://a%2fb", "http://a\\b",
    ],
)  # fmt: skip
def test_an_endpoint_wants_an_internal_error(panel: Service, endpoint: str) -> None:
    """What is no host is refused; what may be one is tested, and fails as every wrong one does."""
    tenant = signed(claims(user_id=9))
    for token in (panel.token, tenant):
        with panel.client(token) as client:
            headers = {"content-type": "application/json"}
            answer = client.post("/api/backup-destinations", content=json.dumps(s3(endpoint)), headers=headers)
            assert answer.status_code in (201, 422), answer.text
            if answer.status_code == 201:
                tested = client.post(f"/api/backup-destinations/{answer.json()['id']}/test")
                assert tested.status_code == 200, tested.text
                assert tested.json()["connected"] is False


HUGE = 10**30


@pytest.mark.parametrize(
    "body",
    [
        s3("http://a.invalid", prefix="\0"), s3("http://a.invalid", key="k\0"),
        s3("http://a.invalid", tags={"a\0": "b"}),
        s3("http://a.invalid", object_lock_days=HUGE), s3("http://a.invalid") | {"bandwidth": HUGE},
        s3("http://a.invalid") | {"description": "\0"}, s3("http://a.invalid") | {"name": "\ud800"},
        s3("http://a.invalid") | {"user_id": HUGE}, s3("http://a.invalid", timeout=1e999),
        {"name": "n", "type": "sftp", "configuration": {"host": "a..b", "username": "u"}},
        {"name": "n", "type": "sftp", "configuration": {"host": "a.invalid", "username": "u\0"}},
        {"name": "n", "type": "ftp", "configuration": {"host": "a.invalid", "username": "u", "port": HUGE}},
        {"name": "n", "type": "ftp", "configuration": {"host": "1.2.3.4.5", "username": "u"}},
    ],
)  # fmt: skip
def test_a_destination_wants_an_internal_error(panel: Service, body: dict[str, Any]) -> None:
    headers = {"content-type": "application/json"}
    panel.call(
        "POST",
        "/api/backup-destinations",
        422,
        content=json.dumps(body).replace("Infinity", "1e999"),
        headers=headers,
    )


def test_bodies_and_queries_want_an_internal_error(panel: Service) -> None:
    headers = {"content-type": "application/json"}
    domain = {"domain_name": "big.example.com", "mailboxes": [{"email_address": "a@big.example.com", "quota": HUGE}]}
    for path, body in (
        ("/api/domains", domain),
        ("/api/domains", {"domain_name": "n.example.com", "exclusions": ["\0"]}),
        ("/api/tokens", {"name": "t", "abilities": ["*"], "expires_at": "0001-01-01T00:00:00+14:00"}),
        ("/api/tokens", {"name": "t", "abilities": ["*"], "expires_at": "9999-12-31T23:59:59-12:00"}),
        ("/api/tokens", {"name": "t\0", "abilities": ["*"]}),
        ("/api/notification-channels", {"name": "n", "url": "http://a..b/"}),
        ("/api/notification-channels", {"name": "n", "url": "http://[::1/"}),
    ):
        panel.call("POST", path, 422, content=json.dumps(body), headers=headers)
    for content in ("[" * 100_000, '{"name":' * 900 + "1" + "}" * 900, '{"name": ' + "9" * 5000 + "}"):
        panel.call("POST", "/api/tokens", 422, content=content, headers=headers)
    for path in (
        "/api/domains?search=%00", f"/api/domains?page={HUGE}", "/api/backups?type=%00", f"/api/backups/{HUGE}",
        "/api/audit-events?actor=%00", "/api/audit-events?since=0001-01-01T00:00:00%2B14:00",
        f"/api/audit-events?user_id={HUGE}", "/api/domains/by-name/a%00b",
    ):  # fmt: skip
        if "by-name" in path:
            panel.call("PUT", path, 422, json={})
        else:
            panel.call("GET", path, 422)


def run(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "LIBERU_DATA": str(service.folder / "data"), **service.env}
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, timeout=60, check=False)


def test_the_last_token_wants_to_be_deleted(service: Service) -> None:
    """Nobody could get in: not with a token that expires, is a tenant's, or may do less."""
    own = service.call("GET", "/api/tokens")["data"][0]["id"]
    for more in ({"expires_at": "2100-01-01T00:00:00Z"}, {"user_id": 7}, {"abilities": ["backups:read"]}):
        service.call("POST", "/api/tokens", 201, json={"name": "t", "abilities": ["*"], **more})
    refused = service.call("DELETE", f"/api/tokens/{own}", 409)
    assert refused["code"] == "last_operator_token"
    assert "token create --operator" in refused["detail"]
    service.call("GET", "/api/domains")
    other = service.call("POST", "/api/tokens", 201, json={"name": "other", "abilities": ["*"]})
    service.call("DELETE", f"/api/tokens/{own}", 204)
    service.call("DELETE", f"/api/tokens/{other['id']}", 409, token=other["token"])
    for token in service.call("GET", "/api/tokens", token=other["token"])["data"]:
        if token["id"] != other["id"]:
            service.call("DELETE", f"/api/tokens/{token['id']}", 204, token=other["token"])


def test_who_is_on_the_machine_gets_in(panel: Service) -> None:
    """While the service runs, and after all tokens were lost; the audit trail tells who did it."""
    made = run(panel, "token", "create", "--operator", "--name", "rescue")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    events = panel.call("GET", "/api/audit-events", token=token, params={"action": "token.create"})["data"]
    assert [(event["actor"], event["detail"]["name"]) for event in events] == [("cli", "rescue")]
    tenants = run(panel, "token", "create", "--user-id", "7").stdout.strip()
    panel.call("GET", "/api/tokens", 403, token=tenants)
    for wrong in ((), ("--operator", "--user-id", "7"), ("--user-id", "0"), ("--user-id", str(1 << 31))):
        assert run(panel, "token", "create", *wrong).returncode != 0
    assert run(panel, "verify-audit").returncode == 0


def test_a_panel_is_a_way_in_too(panel: Service) -> None:
    own = panel.call("GET", "/api/tokens", params={"sort": "id"})["data"][0]["id"]
    operator = signed(claims(user_id=None, operator=True).replace('"user_id": null, ', ""))
    spare = panel.call("POST", "/api/tokens", 201, json={"name": "spare", "abilities": ["*"]})["token"]
    panel.call("DELETE", f"/api/tokens/{own}", 204, token=operator)
    panel.token = spare


def test_others_on_the_machine_want_to_read_the_data_folder(folder: Path) -> None:
    """Whatever the umask is, and what older versions have left."""
    before = os.umask(0o000)
    try:
        service = Service(folder)
        service.start()
    finally:
        os.umask(before)
    data = folder / "data"
    try:
        assert readable(data) == []
        names = {path.name for path in data.iterdir()}
        assert {"liberu.db", "liberu.db-wal", "engine.db", "keys", "backups", "lock"} <= names
    finally:
        service.stop()
    for path in [data, *data.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    outside = folder / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    (data / "link").symlink_to(outside)
    service.start()
    try:
        assert [path for path in readable(data) if "backups/" not in str(path)] == []
        assert outside.stat().st_mode & 0o777 == 0o644
    finally:
        service.stop()


def readable(folder: Path) -> list[Path]:
    return [path for path in [folder, *folder.rglob("*")] if path.lstat().st_mode & 0o077 and not path.is_symlink()]

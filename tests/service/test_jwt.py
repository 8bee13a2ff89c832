"""The panel's JWTs: by shared secret, by published keys that change, and everything that must not get in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import Unauthenticated
from app.security.jwt import JwtVerifier
from app.settings import JwtSettings
from demo.service import Service

SECRET = "s" * 64
ISSUER = "https://panel.example.com"


def claims(**more: Any) -> dict[str, Any]:
    made = {
        "iss": ISSUER, "aud": "liberu-backup", "sub": "anna", "exp": int(time.time()) + 300, "user_id": 7,
        "abilities": ["backups:read"],
    }  # fmt: skip
    return {name: value for name, value in (made | more).items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm, {"kid": kid} if kid else None)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(
        tmp_path_factory.mktemp("jwt"),
        LIBERU_JWT__ISSUER=ISSUER,
        LIBERU_JWT__ALGORITHM="HS256",
        LIBERU_JWT__SECRET=SECRET,
        LIBERU_SERVER__FAILURES_PER_MINUTE="0",
    )
    made.start()
    yield made
    made.stop()


def test_a_user_sees_what_is_theirs(service: Service) -> None:
    for user in (7, 8):
        body = {"domain_name": f"site{user}.example.com", "user_id": user}
        service.call("POST", "/api/domains", 201, json=body)
    seen = service.call("GET", "/api/domains", token=signed())
    assert [domain["user_id"] for domain in seen["data"]] == [7]
    service.call("POST", "/api/domains", 403, token=signed(), json={"domain_name": "x.example.com"})
    service.call(
        "POST", "/api/domains", 201, signed(abilities="domains:manage x"), json={"domain_name": "x.example.com"}
    )
    both = signed(user_id=None, operator=True, abilities=["*"])
    assert service.call("GET", "/api/domains", token=both)["total"] == 3
    events = service.call("GET", "/api/audit-events", params={"actor": "jwt:anna", "action": "POST /api/domains"})
    assert {event["outcome"] for event in events["data"]} == {"201", "403"}
    created = next(event for event in events["data"] if event["outcome"] == "201")
    assert created["detail"]["changes"][0]["values"]["domain_name"] == "x.example.com"


@pytest.mark.parametrize(
    "token",
    [
        signed(exp=int(time.time()) - 60), signed(exp=None), signed(iss="https://x.example.com"), signed(iss=None),
        signed(aud="other"), signed(aud=None), signed(sub=None), signed(key="t" * 64), signed(user_id=None),
        signed(operator=True), signed(user_id=None, operator="true"), signed(user_id="7 OR 1"),
        signed(user_id=True),
        signed(user_id=0), signed(user_id=-1), signed(abilities={"*": 1}), signed(nbf=int(time.time()) + 600),
        jwt.encode(claims(), "", "none"), signed(algorithm="HS512"), signed() + "x", "a.b.c", "..",
    ],
)  # fmt: skip
def test_what_does_not_get_in(service: Service, token: str) -> None:
    answer = service.call("GET", "/api/domains", 401, token=token)
    assert answer["code"] == "unauthenticated"
    assert token not in json.dumps(answer)


def test_clocks_may_differ_a_little(service: Service) -> None:
    service.call("GET", "/api/domains", token=signed(exp=int(time.time()) - 10))


def test_abilities_that_there_are_not_give_nothing(service: Service) -> None:
    service.call("GET", "/api/domains", 403, token=signed(abilities=["everything", 7, None]))


class Issuer:
    """Publishes its keys, and counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                body = json.dumps({"keys": [issuer.published(kid) for kid in issuer.keys]}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def add(self, kid: str) -> Any:
        self.keys[kid] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self.keys[kid]

    def published(self, kid: str) -> dict[str, Any]:
        found: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(self.keys[kid].public_key(), as_dict=True)
        return found | {"kid": kid, "use": "sig", "alg": "RS256"}

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.stop()


def verifier(issuer: Issuer, **more: Any) -> JwtVerifier:
    return JwtVerifier(JwtSettings(**({"issuer": ISSUER, "jwks_url": issuer.url, "allow_private": True} | more)))


async def test_published_keys_that_change(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    first, checks = issuer.add("first"), verifier(issuer)
    for _ in range(3):
        found = await checks.principal(signed(first, "RS256", "first"))
        assert found is not None
        assert (found.user_id, found.abilities, found.actor) == (7, frozenset({"backups:read"}), "jwt:anna")
    assert issuer.asked == 1
    second = issuer.add("second")
    monkeypatch.setattr("app.security.jwt._AGAIN_SECONDS", 0)
    assert await checks.principal(signed(second, "RS256", "second")) is not None
    assert issuer.asked == 2
    del issuer.keys["first"]
    monkeypatch.setattr("app.security.jwt._KEPT_SECONDS", -1)
    with pytest.raises(Unauthenticated, match="is not known"):
        await checks.principal(signed(first, "RS256", "first"))


async def test_invented_key_ids_do_not_make_us_ask_each_time(issuer: Issuer) -> None:
    key, checks = issuer.add("good"), verifier(issuer)
    await checks.principal(signed(key, "RS256", "good"))
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await checks.principal(signed(key, "RS256", f"invented{number}"))
    assert issuer.asked == 1


async def test_the_public_key_is_no_secret(issuer: Issuer) -> None:
    """RFC 8725, section 2.1: the published key used as an HMAC secret."""
    key, checks = issuer.add("good"), verifier(issuer)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "JWT", "kid": "good"}
    encoded = ".".join(jwt.utils.base64url_encode(json.dumps(part).encode()).decode() for part in (header, claims()))
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(encoded.encode(), pem)
    forged = f"{encoded}.{jwt.utils.base64url_encode(mac).decode()}"
    with pytest.raises(Unauthenticated):
        await checks.principal(forged)
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Unauthenticated):
        await checks.principal(signed(other, "ES256", "good"))


async def test_an_issuer_at_a_private_address_or_away(issuer: Issuer) -> None:
    key = issuer.add("good")
    with pytest.raises(Unauthenticated):
        await verifier(issuer, allow_private=False).principal(signed(key, "RS256", "good"))
    assert issuer.asked == 0
    with pytest.raises(Unauthenticated):
        await verifier(issuer, jwks_url="http://127.0.0.1:9/").principal(signed(key, "RS256", "good"))


async def test_not_accepted_unless_set() -> None:
    assert await JwtVerifier(JwtSettings()).principal(signed()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithm": "HS256"}, {"algorithm": "HS256", "secret": "short"}, {"algorithm": "RS256"},
        {"algorithm": "RS256", "secret": SECRET}, {"algorithm": "none", "secret": SECRET},
        {"algorithm": "HS256", "secret": SECRET, "jwks_url": "https://x/"}, {"jwks_url": "file:///etc/passwd"},
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="validation error"):
        JwtSettings(issuer=ISSUER, **wrong)

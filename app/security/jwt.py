"""The panel's tokens: JSON Web Tokens (RFC 7519), checked by keys that were agreed or published (JWKS, RFC 7517)."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from typing import Any

import jwt

from app.addresses import AddressGuard
from app.errors import LiberuError, Unauthenticated
from app.outgoing import guarded_session, target
from app.security.tokens import Principal, known_abilities
from app.settings import JwtSettings
from app.sizes import LARGEST_ID

_LARGEST = 1 << 20
#: A key id that is unknown makes us look again, but not each time somebody invents one.
_AGAIN_SECONDS = 30
_KEPT_SECONDS = 300
#: What its parts can make a token's reader raise: numbers without an end, texts where numbers should be, depth.
_NO_TOKEN = (jwt.PyJWTError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
_USER = re.compile(r"[1-9][0-9]{0,9}")


class JwksClient:
    """The issuer's keys, fetched when one is needed that is not known, and again after five minutes. While the issuer
    cannot be reached the last ones are good for an hour more."""

    def __init__(self, url: str, guard: AddressGuard, seconds: float = 10) -> None:
        self._url = url
        self._guard = guard
        self._seconds = seconds
        self._keys: dict[str, Any] = {}
        self._fetched = self._tried = -1e9
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> Any:
        """Raises Unauthenticated when the issuer has no such key, or cannot be asked."""
        if kid not in self._keys or time.monotonic() - self._fetched > _KEPT_SECONDS:
            async with self._lock:
                if kid not in self._keys or time.monotonic() - self._fetched > _KEPT_SECONDS:
                    await self._fetch()
        if kid not in self._keys or time.monotonic() - self._fetched > _KEPT_SECONDS + 3600:
            raise Unauthenticated("The key that signed this token is not known")
        return self._keys[kid]

    async def _fetch(self) -> None:
        if time.monotonic() - self._tried < _AGAIN_SECONDS and self._keys:
            return
        self._tried = time.monotonic()
        import aiohttp

        try:
            async with (
                guarded_session(self._guard, self._seconds) as session,
                session.get(target(self._url), allow_redirects=False) as response,
            ):
                text = await response.content.read(_LARGEST)
                found = jwt.PyJWKSet.from_json(text.decode()).keys
        except (aiohttp.ClientError, LiberuError, OSError, TimeoutError, ValueError, jwt.PyJWTError):
            return
        self._keys = {key.key_id: key.key for key in found if key.key_id is not None}
        self._fetched = time.monotonic()


class JwtVerifier:
    """One algorithm, set by the operator and never taken from the token (RFC 8725, section 3.1)."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._jwks: JwksClient | None = None
        if settings.jwks_url is not None:
            self._jwks = JwksClient(settings.jwks_url, AddressGuard(allow_private=settings.allow_private))

    async def principal(self, token: str) -> Principal | None:
        """None when JWTs are not accepted here. Raises Unauthenticated."""
        settings = self._settings
        if settings.issuer is None:
            return None
        try:
            claims = jwt.decode(
                token,
                await self._key(token),
                algorithms=[settings.algorithm],
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except _NO_TOKEN as error:
            raise Unauthenticated(f"This token is not valid: {type(error).__name__}") from error
        return self._caller(claims)

    async def _key(self, token: str) -> Any:
        if self._jwks is None:
            assert self._settings.secret is not None
            return self._settings.secret.get_secret_value()
        kid = jwt.get_unverified_header(token).get("kid")
        if not isinstance(kid, str):
            raise Unauthenticated("This token names no key")
        return await self._jwks.key(kid)

    def _caller(self, claims: dict[str, Any]) -> Principal:
        """Bound to the user that it names; an operator's says so in so many words."""
        user = claims.get(self._settings.user_claim)
        operator = claims.get("operator") is True
        if operator == (user is not None):
            raise Unauthenticated("This token must name either a user or operator: true")
        user_id = None if user is None else _number(user)
        wanted = claims.get(self._settings.abilities_claim, [])
        abilities = wanted.split() if isinstance(wanted, str) else wanted
        if not isinstance(abilities, list):
            raise Unauthenticated("This token's abilities are no list")
        subject = str(claims["sub"])[:200]
        if not subject or not subject.isprintable():  # it becomes part of the audit trail
            raise Unauthenticated("This token's subject is no plain text")
        number = int.from_bytes(hashlib.sha256(f"{claims['iss']} {subject}".encode()).digest()[:4]) & 0x7FFFFFFF
        return Principal(
            # A number of its own for each subject, apart from those of our tokens: Idempotency-Keys belong to it.
            token_id=-number - 1,
            user_id=user_id,
            abilities=known_abilities(list(abilities)),
            actor=f"jwt:{subject}",
        )


def _number(claim: object) -> int:
    """Of a user. Raises Unauthenticated."""
    text = str(claim) if isinstance(claim, str) or (type(claim) is int and abs(claim) <= LARGEST_ID) else ""
    if not _USER.fullmatch(text) or int(text) > LARGEST_ID:
        raise Unauthenticated("This token's user is no number that a user can have")
    return int(text)


def looks_like_jwt(token: str) -> bool:
    """Three parts; ours have a prefix and no dots."""
    return token.count(".") == 2

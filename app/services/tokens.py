"""TokenService: API tokens, shown once and stored as a hash."""

from __future__ import annotations

from app.db.base import now
from app.db.models import ApiToken
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.security import TokenRepository
from app.errors import NotFound
from app.schemas.operations import TokenIn
from app.security.tokens import Principal, hash_token, new_token
from app.services.unit import Unit


class TokenService:
    async def create(self, unit: Unit, principal: Principal | None, body: TokenIn) -> tuple[ApiToken, str]:
        """Return the row and the token itself. `principal` None: the first start, or the CLI."""
        if principal is not None:
            principal.require("*")
            principal.require_operator("API tokens")
        text = new_token()
        token = ApiToken(
            name=body.name,
            token_sha256=hash_token(text),
            abilities=list(body.abilities),
            user_id=body.user_id,
            expires_at=body.expires_at,
        )
        repository = TokenRepository(unit.session)
        repository.add(token)
        await repository.flush()
        return token, text

    async def page(self, unit: Unit, principal: Principal, request: PageRequest) -> Page[ApiToken]:
        principal.require("*")
        principal.require_operator("API tokens")
        return await TokenRepository(unit.session).page(request)

    async def revoke(self, unit: Unit, principal: Principal, token_id: int) -> None:
        """Takes effect with the next request. Idempotent."""
        principal.require("*")
        principal.require_operator("API tokens")
        token = await TokenRepository(unit.session).get(token_id)
        if token is None:
            raise NotFound(f"There is no token {token_id}")
        token.revoked_at = token.revoked_at or now()

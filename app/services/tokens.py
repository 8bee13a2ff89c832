"""TokenService: API tokens, shown once and stored as a hash."""

from __future__ import annotations

from app.db.base import now
from app.db.models import ApiToken
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.security import TokenRepository
from app.errors import LastOperatorToken, NotFound
from app.schemas.operations import TokenIn
from app.security.tokens import Principal, hash_token, new_token
from app.services.unit import Unit


class TokenService:
    """`other_way_in`: operators have one beside tokens of this service, the panel's."""

    def __init__(self, *, other_way_in: bool) -> None:
        self._other_way_in = other_way_in

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
        """Takes effect with the next request. Idempotent. Raises LastOperatorToken."""
        principal.require("*")
        principal.require_operator("API tokens")
        repository = TokenRepository(unit.session)
        token = await repository.get(token_id)
        if token is None:
            raise NotFound(f"There is no token {token_id}")
        if token.revoked_at is not None:
            return
        if not self._other_way_in and await repository.opens_all(token_id) and not await repository.lasting(token_id):
            raise LastOperatorToken(
                'Without this token nobody could get in: no other one has the ability "*", is bound to no user and '
                "never expires. Make such a one first, with POST /api/tokens or on the machine with "
                "python -m app.cli token create --operator"
            )
        token.revoked_at = now()

"""Bearer tokens and what they may do."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from app.errors import Forbidden, NotFound

Ability = Literal[
    "backups:read",
    "backups:create",
    "backups:restore",
    "backups:delete",
    "backups:import",
    "destinations:manage",
    "schedules:manage",
    "domains:manage",
    "notifications:manage",
    "audit:read",
    "*",
]
PREFIX = "lbk_"


def known_abilities(names: Iterable[object]) -> frozenset[str]:
    """Those that there are; what we do not know gives nothing."""
    return frozenset(name for name in names if isinstance(name, str) and name in get_args(Ability))


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """SHA-256 is enough: tokens are 256 random bits, nobody can guess one from its hash."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `user_id` None: an operator, bound to no user. `token_id`: of our token; of a JWT's subject a
    negative number. `actor`: for the audit trail."""

    token_id: int
    user_id: int | None
    abilities: frozenset[str]
    actor: str = "service"

    @property
    def operator(self) -> bool:
        return self.user_id is None

    def require(self, ability: Ability) -> None:
        """Raises Forbidden."""
        if not ({ability, "*"} & self.abilities):
            raise Forbidden(f"This token lacks the ability {ability}")

    def require_operator(self, what: str) -> None:
        """Raises Forbidden."""
        if not self.operator:
            raise Forbidden(f"{what} may be set with an operator's token only")

    def require_owner(self, user_id: int | None, what: str) -> None:
        """Another user's things do not exist for a bound token. Raises NotFound."""
        if not self.operator and user_id != self.user_id:
            raise NotFound(f"There is no {what}")

"""Accounts of databases that log in over a socket without a password: the server asks the system who they are."""

from __future__ import annotations

from app.deployments.base import Deployment
from app.deployments.tree import User
from app.errors import InvalidRequest


async def system_user(deployment: Deployment, name: str, *, password: bool, socket: bool) -> User | None:
    """Whom a client program must run as for the account `name`; None: nobody in particular. Remembered."""
    if password or not socket or name[:1].isdecimal() or not deployment.privileged:
        return None
    known = deployment.tools
    if ("user", name) not in known:
        try:
            known["user", name] = await deployment.resolve_user(name)
        except InvalidRequest:
            known["user", name] = None
    found: User | None = known["user", name]
    return found

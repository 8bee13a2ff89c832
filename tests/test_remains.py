"""When a domain's settings must stay as they are, and what operators can take over."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.base import now
from app.db.models import Domain, Operation, RestoreRemains
from app.db.repositories.domains import DomainRepository
from app.db.repositories.remains import RemainsRepository
from app.db.session import Database


async def made(database: Database) -> Domain:
    async with database.transaction() as session:
        domain = Domain(domain_name="shop.example.com", databases=[], mailboxes=[], deployment={}, exclusions=[])
        session.add(domain)
        await session.flush()
        return domain


def operation(domain: Domain, type: str, status: str, journal: dict[str, Any], uid: str) -> Operation:
    return Operation(
        type=type, status=status, domain_uid=uid or domain.uid, request={}, destinations=[], journal=journal
    )


@pytest.mark.parametrize(
    ("type", "status", "own", "changed"),
    [
        ("restore", "running", True, True),
        ("restore", "pending", True, True),
        ("tidy", "pending", True, True),
        ("import", "running", True, True),
        ("import", "running", False, True),
        ("import", "completed", False, False),
        ("backup", "running", True, False),
        ("restore", "failed", True, False),
    ],
)
async def test_what_changes_a_domain(database: Database, type: str, status: str, *, own: bool, changed: bool) -> None:
    """An import of many domains runs under a name of its own."""
    domain = await made(database)
    journal = {"3": {"domain_id": domain.id + 1}, "4": {"domain_id": domain.id, "unsettled": True}}
    async with database.transaction() as session:
        session.add(operation(domain, type, status, journal, uid="" if own else "import-1"))
    async with database.transaction() as session:
        assert await DomainRepository(session).is_being_changed(domain) is changed


async def test_what_an_operator_took_over_is_not_written_again(database: Database) -> None:
    domain = await made(database)
    async with database.transaction() as session:
        row = RestoreRemains(
            operation_uid="o", part="1", domain_id=domain.id, kind="files", name="files", journal={}, due_at=now()
        )
        session.add(row)
    async with database.transaction() as session:
        assert await RemainsRepository(session).there(row)
        await RemainsRepository(session).forget(row)
    row.attempts = 3
    async with database.transaction() as session:
        await RemainsRepository(session).save(row)
    async with database.transaction() as session:
        assert not await RemainsRepository(session).there(row)
        assert await RemainsRepository(session).of_domain(domain.id) == []

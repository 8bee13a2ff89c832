"""Domains, destinations and tokens."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel

from app.api.dependencies import Caller, IdempotencyKey, Paging, Reader, Services, Transaction
from app.db.models import Destination
from app.db.repositories.base import Page
from app.schemas.common import Id, PageOf, Text
from app.schemas.destinations import (
    CleanupIn,
    ConnectionTest,
    DestinationIn,
    DestinationOut,
    PrepareIn,
    ScanIn,
    SweepIn,
    Usage,
)
from app.schemas.domains import DetectionOut, DomainIn, DomainName, DomainOut, EnvironmentOut, RemainsOut
from app.schemas.operations import NewToken, OperationOut, TokenIn, TokenOut
from app.security.tokens import Principal

router = APIRouter(prefix="/api")
M = TypeVar("M", bound=BaseModel)


def paged(found: Page[Any], model: type[M]) -> PageOf[M]:
    request = found.request
    return PageOf[model](  # type: ignore[valid-type]
        data=[model.model_validate(item) for item in found.items],
        current_page=request.page,
        per_page=request.per_page,
        total=found.total,
        last_page=max(1, -(-found.total // request.per_page)),
    )


@router.post("/domains", status_code=201, tags=["domains"])
async def create_domain(body: DomainIn, unit: Transaction, caller: Caller, services: Services) -> DomainOut:
    return DomainOut.model_validate(await services.domains.create(unit, caller, body))


@router.get("/domains", tags=["domains"])
async def list_domains(
    unit: Transaction, caller: Reader, services: Services, paging: Paging, search: Text | None = None
) -> PageOf[DomainOut]:
    return paged(await services.domains.page(unit, caller, paging, search), DomainOut)


@router.get("/domains/{domain_id}", tags=["domains"])
async def get_domain(domain_id: Id, unit: Transaction, caller: Reader, services: Services) -> DomainOut:
    return DomainOut.model_validate(await services.domains.get(unit, caller, domain_id))


@router.put("/domains/{domain_id}", tags=["domains"])
async def update_domain(
    domain_id: Id, body: DomainIn, unit: Transaction, caller: Caller, services: Services
) -> DomainOut:
    return DomainOut.model_validate(await services.domains.update(unit, caller, domain_id, body))


@router.post("/domains/{domain_id}/detect-deployment", tags=["domains"])
async def detect_deployment(domain_id: Id, unit: Transaction, caller: Caller, services: Services) -> DetectionOut:
    """Where a backup would look now, with the reason of each probe; nothing is changed."""
    return await services.deployments.detect(unit, caller, domain_id)


@router.get("/deployment", tags=["domains"])
async def get_deployment(caller: Reader, services: Services) -> EnvironmentOut:
    """What this service runs in."""
    return EnvironmentOut.model_validate(await services.deployments.environment())


@router.put("/domains/by-name/{name}", tags=["domains"])
async def upsert_domain(
    name: DomainName, body: DomainIn, unit: Transaction, caller: Caller, services: Services
) -> DomainOut:
    """Create or update; the name in the path wins."""
    named = body.model_copy(update={"domain_name": name})
    return DomainOut.model_validate(await services.domains.upsert(unit, caller, named))


@router.delete("/domains/{domain_id}", status_code=204, tags=["domains"])
async def delete_domain(domain_id: Id, unit: Transaction, caller: Caller, services: Services) -> None:
    await services.domains.delete(unit, caller, domain_id)


@router.get("/domains/{domain_id}/remains", tags=["domains"])
async def list_remains(domain_id: Id, unit: Transaction, caller: Reader, services: Services) -> list[RemainsOut]:
    """What restores have left: what they replaced, and what stopped half-way and is tried again."""
    return await services.remains.list(unit, caller, domain_id)


@router.delete("/domains/{domain_id}/remains/{remains_id}", status_code=204, tags=["domains"])
async def forget_remains(
    domain_id: Id, remains_id: Id, unit: Transaction, caller: Caller, services: Services
) -> None:
    """Operators, once they have put it right by hand: nothing is moved or removed where the site runs."""
    await services.remains.forget(unit, caller, domain_id, remains_id)


def shown(services: Services, caller: Principal, destination: Destination) -> DestinationOut:
    service = services.destinations
    columns = {name: getattr(destination, name) for name in DestinationOut.model_fields if name != "secrets"}
    columns["configuration"] = service.configuration_of(destination, caller)
    return DestinationOut(**columns, secrets=service.secrets_of(destination) if columns["configuration"] else [])


@router.post("/backup-destinations", status_code=201, tags=["destinations"])
async def create_destination(
    body: DestinationIn, unit: Transaction, caller: Caller, services: Services
) -> DestinationOut:
    return shown(services, caller, await services.destinations.create(unit, caller, body))


@router.get("/backup-destinations", tags=["destinations"])
async def list_destinations(
    unit: Transaction, caller: Reader, services: Services, paging: Paging
) -> PageOf[DestinationOut]:
    found = await services.destinations.page(unit, caller, paging)
    items = [shown(services, caller, item) for item in found.items]
    return paged(Page(items, found.total, found.request), DestinationOut)


@router.get("/backup-destinations/{destination_id}", tags=["destinations"])
async def get_destination(
    destination_id: Id, unit: Transaction, caller: Reader, services: Services
) -> DestinationOut:
    return shown(services, caller, await services.destinations.get(unit, caller, destination_id))


@router.put("/backup-destinations/{destination_id}", tags=["destinations"])
async def update_destination(
    destination_id: Id, body: DestinationIn, unit: Transaction, caller: Caller, services: Services
) -> DestinationOut:
    """Secrets that are left out stay as they are while the place is the same."""
    return shown(services, caller, await services.destinations.update(unit, caller, destination_id, body))


@router.delete("/backup-destinations/{destination_id}", status_code=204, tags=["destinations"])
async def delete_destination(destination_id: Id, unit: Transaction, caller: Caller, services: Services) -> None:
    await services.destinations.delete(unit, caller, destination_id)


@router.post("/backup-destinations/{destination_id}/test", tags=["destinations"])
async def test_destination(
    destination_id: Id, unit: Transaction, caller: Caller, services: Services
) -> ConnectionTest:
    return await services.destinations.test(unit, caller, destination_id)


@router.post("/backup-destinations/{destination_id}/prepare", tags=["destinations"])
async def prepare_destination(
    destination_id: Id, body: PrepareIn, unit: Transaction, caller: Caller, services: Services
) -> DestinationOut:
    """Say that where the destination leads now is its place, and write its marker there: after its data was copied to
    another disk or bucket, or when the marker was lost. A local folder is made where there is none. Until then
    nothing is written, deleted or judged where the marker is not."""
    return shown(services, caller, await services.destinations.prepare(unit, caller, destination_id, body))


@router.get("/backup-destinations/{destination_id}/usage", tags=["destinations"])
async def destination_usage(destination_id: Id, unit: Transaction, caller: Caller, services: Services) -> Usage:
    return await services.destinations.usage(unit, caller, destination_id)


@router.post("/backup-destinations/{destination_id}/cleanup", status_code=202, tags=["destinations"])
async def clean_destination(
    destination_id: Id,
    body: CleanupIn,
    unit: Transaction,
    caller: Caller,
    services: Services,
    idempotency: IdempotencyKey,
) -> OperationOut:
    """Delete what the retention rules do not keep; with `dry_run`, only say what that would be, and why."""
    return OperationOut.model_validate(await services.upkeep.clean(unit, caller, destination_id, body, idempotency))


@router.post("/backup-destinations/{destination_id}/sweep", status_code=202, tags=["destinations"])
async def sweep_destination(
    destination_id: Id,
    body: SweepIn,
    unit: Transaction,
    caller: Caller,
    services: Services,
    idempotency: IdempotencyKey,
) -> OperationOut:
    """Remove what interrupted backups have left: objects that no manifest names. The service does so once a week."""
    return OperationOut.model_validate(await services.upkeep.sweep(unit, caller, destination_id, body, idempotency))


@router.post("/backup-destinations/{destination_id}/scan", status_code=202, tags=["destinations"])
async def scan_destination(
    destination_id: Id,
    unit: Transaction,
    caller: Caller,
    services: Services,
    idempotency: IdempotencyKey,
    body: ScanIn | None = None,
) -> OperationOut:
    """List again, from the manifests there, what the catalogue has lost. With `at`: what was there at that time,
    where the destination keeps old versions; what it finds is read as of then from now on."""
    wanted = body or ScanIn()
    return OperationOut.model_validate(await services.upkeep.scan(unit, caller, destination_id, wanted, idempotency))


@router.post("/tokens", status_code=201, tags=["security"])
async def create_token(body: TokenIn, unit: Transaction, caller: Caller, services: Services) -> NewToken:
    """The token is shown once, in this answer."""
    token, text = await services.tokens.create(unit, caller, body)
    return NewToken(**TokenOut.model_validate(token).model_dump(), token=text)


@router.get("/tokens", tags=["security"])
async def list_tokens(unit: Transaction, caller: Caller, services: Services, paging: Paging) -> PageOf[TokenOut]:
    return paged(await services.tokens.page(unit, caller, paging), TokenOut)


@router.delete("/tokens/{token_id}", status_code=204, tags=["security"])
async def revoke_token(token_id: Id, unit: Transaction, caller: Caller, services: Services) -> None:
    await services.tokens.revoke(unit, caller, token_id)

"""What a tenant wants with event streams: that the service does nothing else than to look at one operation."""

from __future__ import annotations

from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

from sqlalchemy import event

from app.db.models import Operation
from app.db.session import Database
from app.services.events import EventService, Subscription
from app.settings import ServerSettings
from demo.service import Service
from tests.service.test_turns import backup, begun, place, site


async def test_a_tenant_wants_to_have_the_database_asked_for_each_of_600_streams(database: Database) -> None:
    async with database.transaction() as session:
        session.add(Operation(type="backup", domain_uid="d", request={}, status="running", destinations=[]))
    asked = 0

    def count(*_: object) -> None:
        nonlocal asked
        asked += 1

    event.listen(database._engine.sync_engine, "before_cursor_execute", count)
    service = EventService(database, ServerSettings())
    streams = [service.stream(Subscription(1, "token:1")) for _ in range(600)]
    for stream in streams:
        assert (await anext(stream)).name == "progress"
    assert asked <= 10, "one look at a time for all of them"
    async with database.transaction() as session:
        operation = await session.get(Operation, 1)
        assert operation is not None
        operation.status = "completed"
    for stream in streams:
        async with aclosing(stream):
            assert [found.name async for found in stream] == ["ended"]
    assert not service._watches


def test_a_tenant_wants_every_stream(folder: Path) -> None:
    service = Service(folder, LIBERU_SERVER__STREAMS_PER_TOKEN="3", LIBERU_SERVER__STREAMS="5")
    service.start()
    try:
        slow = place(service, "slow", bandwidth=1 << 17)
        operation = backup(service, site(service, "a.example.com", size=8 << 20), destination_id=slow["id"])
        begun(service, operation)
        path = f"/api/operations/{operation['id']}/events"
        tokens = [made(service) for _ in range(2)]
        with ExitStack() as stack:
            found = [opened(stack, service, path, token) for token in [tokens[0]] * 4 + [tokens[1]] * 3]
            assert [status for status, _ in found] == [200, 200, 200, 429, 200, 200, 429]
            assert found[3][1]["code"] == found[6][1]["code"] == "too_many_streams"
        Service.until(lambda: again(service, path, tokens[0]), lambda status: status == 200)
    finally:
        service.stop()


def made(service: Service) -> str:
    body = {"name": "x", "abilities": ["backups:read"], "user_id": 7}
    return str(service.call("POST", "/api/tokens", 201, json=body)["token"])


def opened(stack: ExitStack, service: Service, path: str, token: str) -> tuple[int, Any]:
    client = stack.enter_context(service.client(token))
    response = stack.enter_context(client.stream("GET", path))
    if response.status_code == 200:
        chunks = response.iter_raw()
        next(chunks)
        return 200, chunks  # without anybody who holds them, the stream is closed
    response.read()
    return response.status_code, response.json()


def again(service: Service, path: str, token: str) -> int:
    with ExitStack() as stack:
        return opened(stack, service, path, token)[0]

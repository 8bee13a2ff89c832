"""A destination's limits hold over all that runs, and the process's buffers keep to one budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from app.storage.budget import Budget
from app.storage.limits import LimitedDriver, Limits
from app.storage.memory import MemoryDriver
from app.storage.window import Window
from tests.storage.test_contract import stream

KIB = 1024


async def test_bandwidth_is_shared_by_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr("app.storage.limits.asyncio.sleep", sleep)
    monkeypatch.setattr("app.storage.limits.time.monotonic", lambda: clock[0])
    limits = Limits(bandwidth=100 * KIB)
    for name in ("a", "b"):
        await LimitedDriver(MemoryDriver(), limits).put(name, stream(*[bytes(KIB)] * 500))
    assert clock[0] - 1000 == pytest.approx(1000 * KIB / (100 * KIB), abs=0.3)
    driver = LimitedDriver(MemoryDriver(), limits)
    await driver.put("c", stream(bytes(10)))
    before = clock[0]
    assert [chunk async for chunk in driver.get("c")] == [bytes(10)]
    assert clock[0] == before, "the other direction has a limit of its own"


async def test_no_more_transfers_at_once_than_allowed() -> None:
    limits = Limits(transfers=2)
    running = most = 0
    go = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            go.set()
        await go.wait()
        yield b"x"
        running -= 1

    driver = LimitedDriver(MemoryDriver(), limits)
    await asyncio.gather(*(driver.put(str(number), source()) for number in range(6)))
    assert most == 2


async def test_windows_share_one_budget_and_each_can_move_on() -> None:
    budget = Budget(10)
    held = most = 0

    async def piece(size: int) -> None:
        nonlocal held, most
        held += size
        most = max(most, held)
        await asyncio.sleep(0)
        held -= size

    async def upload() -> None:
        async with Window(8, budget) as window:
            for _ in range(50):
                await window.add(piece(4), 4)

    async with asyncio.timeout(10):
        await asyncio.gather(*(upload() for _ in range(5)))
    assert held == 0
    assert most <= 10 + 5 * 4, "beyond the limit at most one piece of each"
    await asyncio.wait_for(budget.take(10, at_once=False), 1)


async def test_a_wait_that_is_cancelled_gives_nothing_away() -> None:
    budget = Budget(10)
    await budget.take(10, at_once=False)
    waiting = asyncio.create_task(budget.take(6, at_once=False))
    behind = asyncio.create_task(budget.take(4, at_once=False))
    await asyncio.sleep(0)
    waiting.cancel()
    budget.give(4)
    await asyncio.wait_for(behind, 1)
    budget.give(10)
    await asyncio.wait_for(budget.take(10, at_once=False), 1)

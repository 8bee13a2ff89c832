"""Whether a destination is fast enough to be waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DestinationTooSlow
from app.storage.limits import LimitedDriver, Limits
from app.storage.memory import MemoryDriver
from app.storage.throughput import EACH_OBJECT, Throughput

MINIMUM, WINDOW = 1000, 60.0
moves = st.lists(st.tuples(st.integers(0, 100_000), st.floats(0, 29)), max_size=200)


@given(moves, st.integers(1, 8))
def test_who_is_slow_is_given_up_and_who_is_fast_never(moves: list[tuple[int, float]], sharing: int) -> None:
    fast = Throughput(MINIMUM, WINDOW)
    for size, waited in moves:
        fast.moved(size + int(waited * MINIMUM / sharing) + 1, waited, sharing)
    slow, seconds = Throughput(MINIMUM, WINDOW), 0.0
    with pytest.raises(DestinationTooSlow):
        for _, waited in [*moves, *[(0, 20.0)] * 10]:
            slow.moved(int(waited * MINIMUM * 0.9) // sharing, waited, sharing)
            seconds += waited
    assert seconds < 2 * WINDOW, "soon"


def test_small_objects_may_cost_round_trips_but_not_hours() -> None:
    found = Throughput(MINIMUM, WINDOW)
    for _ in range(1000):
        found.began()
        found.moved(100, 0.9 * EACH_OBJECT / MINIMUM)
    with pytest.raises(DestinationTooSlow):
        for _ in range(1000):
            found.began()
            found.moved(100, 1.1 * EACH_OBJECT / MINIMUM)


async def test_nothing_is_held_against_a_destination_but_its_own_time() -> None:
    async def hesitant() -> AsyncGenerator[bytes, None]:
        for _ in range(5):
            yield bytes(1)

    driver = LimitedDriver(MemoryDriver(), Limits(bandwidth=1 << 16), Throughput(1 << 30, 0.05))
    await driver.put("k", _chunks(hesitant()))
    assert [chunk async for chunk in driver.get("k")]
    own = LimitedDriver(MemoryDriver(), Limits(bandwidth=1 << 16), Throughput(1 << 30, 0.05), pace_counts=True)
    with pytest.raises(DestinationTooSlow):
        await own.put("k", _chunks(hesitant()))


async def _chunks(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async for _ in chunks:
        yield bytes(20_000)

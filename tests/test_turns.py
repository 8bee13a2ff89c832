"""Whose turn it is, decided without a database."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.services.turns import AUTOMATIC, ON_DEMAND, WAITED_FOR, Active, Limits, Slots, Turns, Waiting

HERE = Slots(None, operations=4, urgent=1, parents=1)


def ids(turns: Turns, *waiting: Waiting) -> list[int]:
    return [one.id for one, _ in turns.choose(waiting)]


def test_what_is_waited_for_goes_first_and_has_room_of_its_own() -> None:
    active = [Active("operations", 1, f"busy-{number}") for number in range(6)]
    restores = [Waiting(9, 1, "a", priority=WAITED_FOR), Waiting(10, 1, "b", priority=WAITED_FOR)]
    chosen = Turns([HERE], Limits(), active).choose([Waiting(1, 2, "c"), *restores])
    assert [(one.id, queue) for one, queue in chosen] == [(9, "urgent")]
    free = Turns([HERE], Limits(), []).choose([Waiting(1, 2, "c", priority=AUTOMATIC), *restores])
    assert [(one.id, queue) for one, queue in free] == [(9, "urgent"), (10, "operations"), (1, "operations")]


def test_tenants_take_turns() -> None:
    crowd = [Waiting(number, 1, f"a{number}", priority=AUTOMATIC) for number in range(10)]
    late = [Waiting(20, 2, "b", priority=AUTOMATIC), Waiting(21, 3, "c", priority=AUTOMATIC)]
    assert ids(Turns([HERE], Limits(), []), *crowd, *late) == [0, 20, 21, 1, 2], "one slot is left to others"
    running = [Active("operations", 1, "z")]
    assert ids(Turns([HERE], Limits(), running), *crowd, *late)[:2] == [20, 21], "whoever has fewer running is next"


def test_a_servers_operations_wait_for_its_workers() -> None:
    there = Slots("web1", operations=1, urgent=0, parents=0)
    waiting = [Waiting(1, 1, "a", server="web1"), Waiting(2, 1, "b", server="web2"), Waiting(3, 1, "c")]
    chosen = Turns([HERE, there], Limits(), []).choose(waiting)
    assert [(one.id, queue) for one, queue in chosen] == [(1, "operations@web1"), (3, "operations")]


def test_a_tenant_leaves_a_slot_to_others_and_a_restore_finds_one() -> None:
    here = Slots(None, operations=2, urgent=2, parents=0)
    greedy = [Waiting(number, 1, f"a{number}") for number in range(9)]
    assert ids(Turns([here], Limits(), []), *greedy) == [0]
    assert ids(Turns([here], Limits(tenants={1: 3}), []), *greedy) == [0, 1, 2], "what an operator says goes"
    alone = Slots(None, operations=1, urgent=0, parents=0)
    assert ids(Turns([alone], Limits(), []), *greedy) == [0]
    slow = [Active("operations", 1, "x", (5,))]
    mine = [Waiting(20 + number, 1, f"r{number}", (5,), priority=WAITED_FOR) for number in range(3)]
    turns = Turns([here], Limits(destinations={5: 1}), slow)
    assert [queue for _, queue in turns.choose([*greedy, *mine])] == ["urgent"], "one more than may be, and no more"
    other = Waiting(30, 2, "theirs", priority=WAITED_FOR)
    assert turns.choose([*mine, other]) == [(other, "urgent")], "there is room for another tenant's, too"
    assert turns.full_tenants(None, waited_for=True) == {1}


def test_parents_do_not_count() -> None:
    limits = Limits(tenant=1)
    active = [Active("parents", 1, "bulk")]
    assert ids(Turns([HERE], limits, active), Waiting(1, 1, "a"), Waiting(2, 1, "other", parent=True)) == [1]
    assert ids(Turns([HERE], limits, []), Waiting(2, 1, "other", parent=True), Waiting(3, 1, "a")) == [2, 3]


waiting = st.builds(
    Waiting,
    id=st.integers(0, 10_000),
    user_id=st.one_of(st.none(), st.integers(1, 4)),
    domain_uid=st.sampled_from("abcdefghijkl"),
    destinations=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    priority=st.sampled_from([WAITED_FOR, ON_DEMAND, AUTOMATIC]),
    server=st.sampled_from([None, "web1"]),
    parent=st.just(False),
)
active = st.builds(
    Active,
    queue=st.sampled_from(["operations", "urgent", "operations@web1"]),
    user_id=st.one_of(st.none(), st.integers(1, 4)),
    domain_uid=st.sampled_from("abcdefghijkl"),
    destinations=st.lists(st.integers(1, 3), max_size=2).map(tuple),
)


@given(
    st.lists(waiting, max_size=30, unique_by=lambda one: one.id),
    st.lists(active, max_size=6),
    st.dictionaries(st.integers(1, 3), st.integers(1, 3)),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_no_limit_is_ever_passed(
    waiting: list[Waiting], active: list[Active], destinations: dict[int, int], tenant: int | None
) -> None:
    slots = [HERE, Slots("web1", operations=2, urgent=1, parents=0)]
    turns = Turns(slots, Limits(destinations, {4: 1}, tenant), active)
    chosen = turns.choose(waiting)
    new = [Active(queue, one.user_id, one.domain_uid, one.destinations) for one, queue in chosen]
    room = {"operations": 6, "urgent": 1, "operations@web1": 4, "urgent@web1": 1, "parents": 1}
    for queue in {one.queue for one in new}:
        assert Counter(one.queue for one in [*active, *new])[queue] <= room[queue]
    domains = Counter(one.domain_uid for one in [*active, *new])
    assert all(domains[one.domain_uid] == 1 for one in new)
    tenants = Counter(one.user_id for one in [*active, *new])
    used = Counter(number for one in [*active, *new] for number in set(one.destinations))
    restores = {one.domain_uid for one, _ in chosen if one.priority == WAITED_FOR}
    for one in new:
        more = any(other.domain_uid in restores for other in new)  # what is waited for may go over by one
        if one.user_id:
            assert tenants[one.user_id] <= (1 if one.user_id == 4 else tenant or 100) + more
        assert all(
            used[number] <= destinations[number] + more for number in one.destinations if number in destinations
        )
        if one.user_id and one.user_id != 4 and tenant is None:
            size = {"operations": 4, "operations@web1": 2}.get(one.queue, 2)
            mine = [other for other in [*active, *new] if (other.user_id, other.queue) == (one.user_id, one.queue)]
            assert len(mine) <= size - 1
    assert turns.choose([one for one in waiting if one not in [other for other, _ in chosen]]) == []


@given(
    st.lists(waiting, max_size=30, unique_by=lambda one: one.id),
    st.lists(active, max_size=6),
    st.dictionaries(st.integers(1, 3), st.integers(1, 3)),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_what_is_full_is_what_cannot_begin(
    waiting: list[Waiting], active: list[Active], destinations: dict[int, int], tenant: int | None
) -> None:
    """What the database is not asked for any more is nothing that could begin."""
    turns = Turns(
        [HERE, Slots("web1", operations=2, urgent=1, parents=0)], Limits(destinations, {4: 1}, tenant), active
    )
    for one in waiting:
        waited_for = one.priority == WAITED_FOR
        full = one.user_id in turns.full_tenants(one.server, waited_for=waited_for)
        if full or set(one.destinations) & turns.full_destinations(waited_for=waited_for):
            assert turns._lane_of(one) is None

"""Retention over hundreds of simulated days, with gaps, failures and clocks that go wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.retention import GOOD, Candidate, RetentionPlan, RetentionPolicy, plan_retention

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
FILES, SHOP, MAIL = ("files", "files"), ("mariadb", "shop"), ("mail", "mail")


def backup(number: int, age: float, status: str = "completed", type: str = "full", **options: object) -> Candidate:
    parts = frozenset({FILES, SHOP}) if status == "completed" else frozenset()
    fields = {"components": parts, **options}
    return Candidate(number, type, status, NOW - timedelta(days=age), **fields)  # type: ignore[arg-type]


def kept(plan: RetentionPlan) -> set[int]:
    return set(plan.keep)


def test_days_and_last() -> None:
    daily = [backup(age, age) for age in range(100)]
    assert kept(plan_retention(daily, RetentionPolicy(days=30), NOW)) == set(range(30))
    assert kept(plan_retention(daily, RetentionPolicy(days=3, last=7), NOW)) == set(range(7))


def test_periods() -> None:
    daily = [backup(age, age) for age in range(800)]
    plan = plan_retention(daily, RetentionPolicy(days=1, daily=7, weekly=4, monthly=12, yearly=3), NOW)
    ages = sorted(plan.keep)
    assert ages[:7] == list(range(7))
    assert len(ages) < 7 + 4 + 12 + 3
    assert {(NOW - timedelta(days=age)).year for age in ages} == {2024, 2025, 2026}
    assert len({(at.year, at.month) for age in ages if (at := NOW - timedelta(days=age))}) >= 12
    assert all(plan.reasons[number] for number in (*plan.keep, *plan.remove))


def test_a_failure_counts_as_no_backup() -> None:
    rows = [backup(age, 50 + age, "failed") for age in range(10)] + [backup(100, 300)]
    plan = plan_retention(rows, RetentionPolicy(days=30, last=1), NOW)
    assert kept(plan) == {100}
    assert "the newest copy of files" in plan.reasons[100]


def test_a_domain_that_is_always_partial_keeps_its_last_good_parts() -> None:
    rows = [
        backup(1, 100, "partial", components=frozenset({FILES})),
        backup(2, 200, "partial", components=frozenset({FILES, MAIL})),
        backup(3, 300),
        backup(4, 400),
    ]
    assert kept(plan_retention(rows, RetentionPolicy(days=30), NOW)) == {1, 2, 3}


def test_locked_and_running_ones_stay() -> None:
    rows = [backup(1, 1), backup(2, 400, locked=True), backup(3, 400, "running"), backup(4, 400, "pending")]
    assert kept(plan_retention(rows, RetentionPolicy(days=30), NOW)) == {1, 2, 3, 4}


def test_a_deletion_that_was_begun_is_ended() -> None:
    rows = [backup(1, 1), backup(2, 2, "deleting"), backup(3, 2, "deleting", locked=True)]
    plan = plan_retention(rows, RetentionPolicy(days=30), NOW)
    assert kept(plan) == {1, 3}
    assert plan.reasons[2] == ["its deletion was begun"]


def test_within_a_period_a_whole_backup_goes_before_a_newer_partial_one() -> None:
    rows = [
        backup(1, 0.1, "partial", components=frozenset({FILES})),
        backup(2, 0.2),
        backup(3, 40.1, "partial", components=frozenset({FILES})),
        backup(4, 40.2),
    ]
    assert kept(plan_retention(rows, RetentionPolicy(days=1, daily=2), NOW)) == {1, 2, 4}
    assert kept(plan_retention(rows, RetentionPolicy(days=1, monthly=2), NOW)) == {1, 2, 4}


_COMPONENTS = st.frozensets(st.sampled_from([FILES, SHOP, MAIL]))
_CANDIDATES = st.builds(
    Candidate,
    id=st.integers(1, 10**6),
    type=st.sampled_from(["full", "files", "database"]),
    status=st.sampled_from(["completed", "partial", "failed", "cancelled", "running", "pending", "deleting"]),
    created_at=st.integers(-400 * 24, 48).map(lambda hours: NOW + timedelta(hours=hours)),
    locked=st.booleans(),
    components=_COMPONENTS,
)
_POLICIES = st.builds(RetentionPolicy, st.integers(1, 365), *[st.integers(0, 12)] * 5)


@settings(max_examples=200)
@given(st.lists(_CANDIDATES, max_size=60, unique_by=lambda c: c.id), _POLICIES)
def test_nothing_that_alone_can_be_restored_is_ever_removed(rows: list[Candidate], policy: RetentionPolicy) -> None:
    plan = plan_retention(rows, policy, NOW)
    assert sorted((*plan.keep, *plan.remove)) == sorted(row.id for row in rows)
    by_id = {row.id: row for row in rows}
    good = [row for row in rows if row.status in GOOD]
    for part in (FILES, SHOP, MAIL):
        holders = [row for row in good if part in row.components]
        if holders:
            newest = max(holders, key=lambda row: (row.created_at, row.id))
            assert newest.id in plan.keep
    for number in plan.remove:
        row = by_id[number]
        assert not row.locked
        assert row.status in ("completed", "partial", "failed", "cancelled", "deleting")
        assert row.status == "deleting" or row.created_at <= NOW - timedelta(days=policy.days)
    again = plan_retention([by_id[number] for number in plan.keep], policy, NOW)
    assert again.remove == [], "what was kept once is kept when the rest is gone"


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(["completed", "partial", "failed", None]), min_size=400, max_size=400),
    st.integers(-3, 3),
    st.builds(RetentionPolicy, st.integers(1, 40), *[st.integers(0, 8)] * 5),
)
def test_400_days_of_nightly_cleanup(nights: list[str | None], skew: int, policy: RetentionPolicy) -> None:
    """Every night a backup, a failure or nothing, and a clean-up under a clock that is wrong by some days."""
    start = NOW - timedelta(days=400)
    rows: list[Candidate] = []
    had: set[tuple[str, str]] = set()
    for night, status in enumerate(nights):
        at = start + timedelta(days=night)
        if status is not None:
            parts = {"completed": {FILES, SHOP}, "partial": {FILES}, "failed": set()}[status]
            rows.append(Candidate(night, "full", status, at, components=frozenset(parts)))
            had |= parts
        plan = plan_retention(rows, policy, at + timedelta(days=skew))
        rows = [row for row in rows if row.id in set(plan.keep)]
        assert had == {part for row in rows if row.status in GOOD for part in row.components}
    bound = policy.days + policy.last + policy.daily + policy.weekly + policy.monthly + policy.yearly + 10
    assert len(rows) <= bound, "what no rule keeps does go"

"""Schedules through the API: what is due is started once, by whom it may be seen, and what came of it."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.service import Service
from tests.service.conftest import SITE_UID

URL = "/api/backup-schedules"


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    made = Service(folder, LIBERU_SCHEDULES__TICK_SECONDS="0.2")
    made.start()
    yield made
    made.stop()


def body(**facts: Any) -> dict[str, Any]:
    return {"name": "nightly", "type": "files", "frequency": "daily", "jitter_seconds": 0, **facts}


def make_due(service: Service, schedule: dict[str, Any], ago: timedelta = timedelta(minutes=1), **more: str) -> None:
    """As if its time had come: the clock itself cannot be set."""
    when = (datetime.now(UTC) - ago).strftime("%Y-%m-%d %H:%M:%S.%f")
    values = {"due_at": when, "starts_at": when, **more}
    columns = ", ".join(f"{name} = ?" for name in values)
    with closing(sqlite3.connect(service.folder / "data/liberu.db", timeout=15)) as database, database:
        database.execute(f"UPDATE backup_schedules SET {columns} WHERE id = ?", (*values.values(), schedule["id"]))


def runs(service: Service, schedule: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.call("GET", f"{URL}/{schedule['id']}/runs")["data"]
    return found


def test_a_schedule_is_made_shown_changed_and_deleted(service: Service, domain: dict[str, Any]) -> None:
    made = service.call("POST", URL, 201, json=body(domain_id=domain["id"], schedule_time="03:30:00"))
    assert (made["cron"], made["schedule_time"], made["timezone"]) == ("30 3 * * *", "03:30", "UTC")
    assert (made["user_id"], made["overdue"], made["last_good_at"]) == (7, False, None)
    times = [datetime.fromisoformat(text) for text in made["next_runs"]]
    assert len(times) == 5
    assert {b - a for a, b in itertools.pairwise(times)} == {timedelta(days=1)}
    assert {found.strftime("%H:%M") for found in times} == {"03:30"}
    changed = service.call(
        "PUT", f"{URL}/{made['id']}",
        json=body(domain_id=domain["id"], frequency=None, cron="0  1 * * 0", timezone="Asia/Kolkata"),
    )  # fmt: skip
    assert (changed["cron"], changed["next_runs"][0][11:16]) == ("0 1 * * 0", "19:30")
    assert service.call("GET", URL)["data"] == [service.call("GET", f"{URL}/{made['id']}")]
    stopped = service.call("PUT", f"{URL}/{made['id']}", json=body(domain_id=domain["id"], is_active=False))
    assert stopped["next_runs"] == []
    service.call("DELETE", f"{URL}/{made['id']}", 204)
    service.call("GET", f"{URL}/{made['id']}", 404)


def test_what_is_due_is_backed_up_once_and_its_outcome_is_shown(service: Service, domain: dict[str, Any]) -> None:
    schedule = service.call("POST", URL, 201, json=body(domain_id=domain["id"]))
    make_due(service, schedule)
    [run] = service.until(
        lambda: runs(service, schedule), lambda found: bool(found) and found[0]["outcome"] == "completed"
    )
    assert run["operations"] == {"completed": 1}
    assert (run["by_hand"], run["coalesced"], run["skipped"]) == (False, 0, [])
    assert service.call("GET", "/api/backups")["total"] == 1
    shown = service.call("GET", f"{URL}/{schedule['id']}")
    assert shown["last_good_at"] == run["due_at"]
    assert shown["last_run_at"] is not None
    make_due(service, schedule, timedelta(days=3, minutes=1))  # nothing ran for three days
    service.until(lambda: runs(service, schedule), lambda found: len(found) == 2)
    latest = max(runs(service, schedule), key=lambda found: int(found["id"]))
    assert latest["coalesced"] == 3
    service.until(lambda: service.call("GET", "/api/backups")["total"], lambda total: total == 2)


def test_a_run_that_finds_the_last_one_at_work_is_skipped(service: Service, domain: dict[str, Any]) -> None:
    slow = {
        "name": "slow",
        "type": "local",
        "configuration": {"path": str(service.folder / "slow")},
        "bandwidth": 65536,
    }
    (service.folder / "slow").mkdir()
    destination = service.call("POST", "/api/backup-destinations", 201, json=slow)
    schedule = service.call(
        "POST", URL, 201, json=body(domain_id=domain["id"], destination_id=destination["id"])
    )  # fmt: skip
    first = service.call("POST", f"{URL}/{schedule['id']}/run", 202)
    assert (first["by_hand"], sum(first["operations"].values())) == (True, 1)
    second = service.call("POST", f"{URL}/{schedule['id']}/run", 202)
    assert second["operations"] == {}
    assert [(found["domain_id"], found["code"]) for found in second["skipped"]] == [(domain["id"], "already_running")]
    operation = service.call("GET", "/api/operations", params={"type": "backup"})["data"][0]
    service.call("POST", f"/api/operations/{operation['id']}/cancel")
    assert service.wait(operation)["status"] == "cancelled"
    assert service.call("GET", f"{URL}/{schedule['id']}")["last_good_at"] is None


def test_all_domains_of_an_owner(service: Service, folder: Path, domain: dict[str, Any]) -> None:
    for number, user in ((1, 7), (2, 8)):
        root = folder / f"site{number}"
        root.mkdir()
        (root / "index.html").write_text("x")
        if os.geteuid() == 0:
            os.chown(root, SITE_UID, SITE_UID)
        more = {"domain_name": f"site{number}.example.com", "user_id": user, "document_root": str(root)}
        service.call("POST", "/api/domains", 201, json=more)
    empty = {"domain_name": "empty.example.com", "user_id": 7}
    without = service.call("POST", "/api/domains", 201, json=empty)
    schedule = service.call("POST", URL, 201, json=body(user_id=7))
    run = service.call("POST", f"{URL}/{schedule['id']}/run", 202)
    assert [(found["domain_id"], found["code"]) for found in run["skipped"]] == [
        (without["id"], "nothing_to_back_up")
    ]
    service.until(lambda: runs(service, schedule)[0]["operations"], lambda found: found == {"completed": 2})
    service.until(lambda: runs(service, schedule)[0]["outcome"], lambda found: found == "completed")
    assert service.call("GET", f"{URL}/{schedule['id']}")["last_good_at"] == run["due_at"]
    names = {backup["domain_name"] for backup in service.call("GET", "/api/backups")["data"]}
    assert names == {domain["domain_name"], "site1.example.com"}


def test_what_should_have_run_is_overdue(service: Service, domain: dict[str, Any]) -> None:
    schedule = service.call("POST", URL, 201, json=body(domain_id=domain["id"]))
    old = (datetime.now(UTC) - timedelta(days=9)).strftime("%Y-%m-%d %H:%M:%S.%f")
    make_due(service, schedule, timedelta(days=-1), created_at=old)
    assert service.call("GET", f"{URL}/{schedule['id']}")["overdue"]
    make_due(service, schedule, created_at=old)
    service.until(lambda: service.call("GET", f"{URL}/{schedule['id']}")["overdue"], lambda overdue: not overdue)


def test_a_destination_that_was_switched_off_meanwhile(service: Service, domain: dict[str, Any]) -> None:
    (service.folder / "off").mkdir()
    place = {"name": "off", "type": "local", "configuration": {"path": str(service.folder / "off")}}
    made = service.call("POST", "/api/backup-destinations", 201, json=place)
    schedule = service.call("POST", URL, 201, json=body(domain_id=domain["id"], destination_id=made["id"]))
    service.call("PUT", f"/api/backup-destinations/{made['id']}", json=place | {"is_active": False})
    make_due(service, schedule)
    [run] = service.until(lambda: runs(service, schedule), lambda found: found and found[0]["outcome"])
    assert run["outcome"] == "skipped"
    assert run["skipped"][0]["message"] == "The destination off is switched off"
    assert service.call("GET", "/api/backups")["total"] == 0
    service.call("POST", URL, 422, json=body(domain_id=domain["id"], destination_id=made["id"]))


def test_two_schedules_for_one_domain_at_the_same_minute(service: Service, domain: dict[str, Any]) -> None:
    (service.folder / "slow").mkdir()
    where = {"path": str(service.folder / "slow")}
    place = {"name": "slow", "type": "local", "configuration": where, "bandwidth": 1 << 20}
    slow = service.call("POST", "/api/backup-destinations", 201, json=place)
    made = [
        service.call("POST", URL, 201, json=body(domain_id=domain["id"], name=name, destination_id=slow["id"]))
        for name in ("one", "two")
    ]
    with closing(sqlite3.connect(service.folder / "data/liberu.db", timeout=15)) as database, database:
        when = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
        database.execute("UPDATE backup_schedules SET due_at = ?, starts_at = ?", (when, when))
    found = [settled(service, one) for one in made]
    assert sorted(run["outcome"] for run in found) == ["completed", "skipped"]
    [skipped] = [run for run in found if run["outcome"] == "skipped"]
    assert skipped["skipped"][0]["code"] == "already_running"
    assert service.call("GET", "/api/backups")["total"] == 1


def test_several_destinations_and_retention_after_success(service: Service, domain: dict[str, Any]) -> None:
    places = []
    for name in ("first", "second"):
        (service.folder / name).mkdir()
        place = {"name": name, "type": "local", "configuration": {"path": str(service.folder / name)}}
        places.append(service.call("POST", "/api/backup-destinations", 201, json=place)["id"])
    rules = {"days": 1, "last": 2}
    schedule = service.call(
        "POST", URL, 201,
        json=body(domain_id=domain["id"], destination_id=places[0], copies=[{"destination_id": places[1]}],
                  retention=rules),
    )  # fmt: skip
    by_hand = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "destination_id": places[0]})
    service.wait(by_hand)
    age(service, days=5)
    for number in range(4):
        service.call("POST", f"{URL}/{schedule['id']}/run", 202)
        service.until(lambda: runs(service, schedule)[0], lambda run: run["outcome"] == "completed")
        age(service, days=3 - number)
    service.until(lambda: cleaned(service), lambda found: len(found) == 8 and not {"pending", "running"} & set(found))
    service.call("POST", f"{URL}/{schedule['id']}/run", 202)
    service.until(
        lambda: cleaned(service), lambda found: len(found) == 10 and not {"pending", "running"} & set(found)
    )
    kept = service.call("GET", "/api/backups")["data"]
    assert [backup["is_automated"] for backup in kept].count(True) == 2, "the last two, at both places"
    assert [backup["id"] for backup in kept if not backup["is_automated"]] == [by_hand["backup_id"]], "not its own"
    for name, count in (("first", 3), ("second", 2)):
        assert len(list((service.folder / name).rglob("manifest.json"))) == count
    answer = service.call("POST", f"/api/backup-destinations/{places[0]}/cleanup", 202, json={"dry_run": True})
    reasons = {tuple(one["reasons"]) for one in service.wait(answer)["result"]["kept"]}
    assert any("one of the last 2" in found for found in reasons), "the schedule's rules, not the destination's"


def test_what_fails_removes_nothing(service: Service, domain: dict[str, Any], site: Path) -> None:
    schedule = service.call("POST", URL, 201, json=body(domain_id=domain["id"], retention={"days": 1, "last": 1}))
    service.call("POST", f"{URL}/{schedule['id']}/run", 202)
    service.until(lambda: cleaned(service), lambda found: found == ["completed"])
    age(service, days=40)
    site.rename(site.with_name("gone"))
    service.call("POST", f"{URL}/{schedule['id']}/run", 202)
    run = service.until(lambda: runs(service, schedule)[0], lambda found: found["outcome"])
    assert run["outcome"] == "failed"
    assert cleaned(service) == ["completed"], "no clean-up after a failure"
    assert service.call("GET", "/api/backups", params={"status": "completed"})["total"] == 1


def settled(service: Service, schedule: dict[str, Any]) -> dict[str, Any]:
    found = service.until(lambda: runs(service, schedule), lambda some: some and some[0]["outcome"])
    return dict(found[0])


def age(service: Service, days: int) -> None:
    """As if all backups had been made so long ago."""
    with closing(sqlite3.connect(service.folder / "data/liberu.db", timeout=15)) as database, database:
        database.execute("UPDATE backups SET created_at = datetime(created_at, ?) || '.000000'", (f"-{days} days",))


def cleaned(service: Service) -> list[str]:
    found = service.call("GET", "/api/operations", params={"type": "cleanup", "per_page": 50})["data"]
    return [str(operation["status"]) for operation in found]


def test_who_may_see_and_change_what(service: Service, domain: dict[str, Any]) -> None:
    def token(user: int, *abilities: str) -> str:
        wanted = {"name": "x", "abilities": list(abilities), "user_id": user}
        return str(service.call("POST", "/api/tokens", 201, json=wanted)["token"])

    owner, other = token(7, "schedules:manage", "backups:read"), token(8, "schedules:manage", "backups:read")
    reader = token(7, "backups:read")
    made = service.call("POST", URL, 201, owner, json=body(domain_id=domain["id"]))
    assert made["user_id"] == 7
    service.call("POST", URL, 403, reader, json=body(domain_id=domain["id"]))
    service.call("POST", URL, 404, other, json=body(domain_id=domain["id"]))
    service.call("POST", URL, 403, other, json=body(user_id=7))
    service.call("POST", URL, 404, json=body(domain_id=domain["id"], user_id=8))  # an operator's mistake
    assert service.call("POST", URL, 201, other, json=body())["user_id"] == 8
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/run"), ("GET", "/runs")):
        service.call(method, f"{URL}/{made['id']}{path}", 404, other)
    service.call("PUT", f"{URL}/{made['id']}", 404, other, json=body())
    service.call("POST", f"{URL}/{made['id']}/run", 403, reader)
    assert service.call("GET", URL, 200, reader)["total"] == 1
    assert service.call("GET", URL)["total"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"frequency": None}, {"cron": "0 0 * * *"}, {"frequency": None, "cron": "61 0 * * *"},
        {"frequency": None, "cron": "0 0 30 2 *"}, {"frequency": "hourly"}, {"schedule_time": "25:00"},
        {"timezone": "Mars/Base"}, {"timezone": "../etc"}, {"jitter_seconds": -1}, {"type": "everything"},
        {"name": ""}, {"unknown": 1},
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(listening: Service, wrong: dict[str, Any]) -> None:
    domain = listening.call("PUT", "/api/domains/by-name/shop.example.com", json={"domain_name": "shop.example.com"})
    listening.call("POST", URL, 422, json=body(domain_id=domain["id"]) | wrong)
    listening.call("POST", URL, 404, json=body(domain_id=domain["id"], destination_id=99))
    assert listening.call("GET", URL)["total"] == 0

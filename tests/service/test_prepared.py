"""A destination that is not there is never 'empty': unmounted, emptied or replaced, it is not written, nor judged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from demo.ceph import S3Server
from demo.service import Service
from demo.storage_servers import StorageServer, sftp_server
from tests.service.conftest import stored
from tests.service.test_cleanup import aged, clean

NOT_PREPARED = "destination_not_prepared"


class Place(ABC):
    """Where a destination keeps its objects, and what is in its stead while it is gone."""

    type: str
    configuration: dict[str, Any]

    @abstractmethod
    def vanish(self) -> None: ...

    @abstractmethod
    def written(self) -> list[str]:
        """What lies there while it is gone."""

    @abstractmethod
    def come_back(self) -> None: ...


class Mount(Place):
    """A folder of a disk that is mounted, on a disk of its own."""

    type = "local"

    def __init__(self, folder: Path) -> None:
        self._disk, self.root = folder / "disk", folder / "mnt"
        for path in (self._disk, self.root):
            path.mkdir()
        self._run("mount", "-t", "tmpfs", "tmpfs", str(self._disk))
        self.configuration = {"path": str(self.root)}
        self.come_back()

    @staticmethod
    def _run(*argv: str) -> None:
        subprocess.run(argv, check=True)

    def vanish(self) -> None:
        self._run("umount", "-l", str(self.root))

    def written(self) -> list[str]:
        return [str(path) for path in self.root.rglob("*")]

    def come_back(self) -> None:
        self._run("mount", "--bind", str(self._disk), str(self.root))

    def end(self) -> None:
        self.vanish()
        self._run("umount", "-l", str(self._disk))


class Root(Place):
    """A server's folder that was replaced by an empty one."""

    type = "sftp"

    def __init__(self, server: StorageServer) -> None:
        self.configuration = server.fresh()
        self.root = Path(self.configuration["root"])
        self._kept = self.root.with_name(f"{self.root.name}-kept")

    def vanish(self) -> None:
        self.root.rename(self._kept)
        self.root.mkdir()
        os.chown(self.root, self._kept.stat().st_uid, self._kept.stat().st_gid)

    def written(self) -> list[str]:
        return [str(path) for path in self.root.rglob("*")]

    def come_back(self) -> None:
        shutil.rmtree(self.root)
        self._kept.rename(self.root)


class Bucket(Place):
    """A bucket that was emptied."""

    type = "s3"

    def __init__(self, server: S3Server) -> None:
        self.configuration = server.fresh()
        self._client = botocore.session.get_session().create_client(
            "s3", region_name="us-east-1", endpoint_url=self.configuration["endpoint"],
            aws_access_key_id=self.configuration["key"], aws_secret_access_key=self.configuration["secret"],
        )  # fmt: skip
        self._kept: dict[str, bytes] = {}
        self._bucket = self.configuration["bucket"]

    def written(self) -> list[str]:
        prefix = f"{self.configuration['prefix']}/"
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", [])]

    def vanish(self) -> None:
        for key in self.written():
            self._kept[key] = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def come_back(self) -> None:
        for key, content in self._kept.items():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=content)


@pytest.fixture(scope="module")
def server() -> Iterator[StorageServer]:
    with sftp_server() as started:
        yield started


@pytest.fixture
def mount(folder: Path) -> Iterator[Mount]:
    if os.geteuid():
        pytest.skip("mounting needs root")
    made = Mount(folder)
    yield made
    made.end()


@pytest.fixture(params=["mount", "sftp", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "mount":
        return request.getfixturevalue("mount")  # type: ignore[no-any-return]
    if request.param == "sftp":
        return Root(request.getfixturevalue("server"))
    return Bucket(request.getfixturevalue("s3_store"))


def destination(service: Service, place: Place, **body: Any) -> dict[str, Any]:
    wanted = {"name": "place", "type": place.type, "configuration": place.configuration, **body}
    made: dict[str, Any] = service.call("POST", "/api/backup-destinations", 201, json=wanted)
    return made


def url(made: dict[str, Any], what: str) -> str:
    return f"/api/backup-destinations/{made['id']}/{what}"


def ended(service: Service, path: str, **body: Any) -> dict[str, Any]:
    return service.wait(service.call("POST", path, 202, json=body))


def states(service: Service) -> dict[int, Any]:
    found = service.call("GET", "/api/backups?per_page=200")["data"]
    return {
        backup["id"]: (
            backup["status"],
            backup["error_message"],
            [(copy["state"], copy["error_message"]) for copy in backup["copies"]],
            [(part["status"], part["error_code"]) for part in backup["components"]],
        )
        for backup in found
    }


def sql(service: Service, text: str, *values: Any) -> None:
    with closing(sqlite3.connect(service.folder / "data/liberu.db", timeout=15)) as database, database:
        database.execute(text, values)


def test_nothing_is_written_judged_or_forgotten(service: Service, domain: dict[str, Any], place: Place) -> None:
    made = destination(service, place)
    old = aged(service, service.backup(domain, destination_id=made["id"]), 90)
    kept = service.backup(domain, destination_id=made["id"])
    assert kept["status"] == "completed", kept
    assert service.call("GET", url(made, "usage"))["objects"] == 6, "the marker is no backup"
    before = states(service)

    place.vanish()
    verified = ended(service, f"/api/backups/{kept['id']}/verify")
    assert (verified["status"], verified["error_code"]) == ("failed", NOT_PREPARED)
    assert verified["result"]["copies"][0]["state"] == "unknown"
    refused = service.backup(domain, destination_id=made["id"])
    assert (refused["status"], refused["operation"]["status"]) == ("failed", "failed")
    assert "may not be mounted" in refused["error_message"]
    cleaned = clean(service, made["id"])
    assert (cleaned["status"], cleaned["error_code"]) == ("failed", NOT_PREPARED)
    assert [entry["id"] for entry in cleaned["result"]["failed"]] == [old]
    for what in ("sweep", "scan"):
        found = ended(service, url(made, what))
        assert (found["status"], found["error_code"]) == ("failed", NOT_PREPARED), what
    restored = ended(service, f"/api/backups/{kept['id']}/restore")
    assert (restored["status"], restored["error_code"]) == ("failed", NOT_PREPARED)
    assert service.call("DELETE", f"/api/backups/{kept['id']}", 409)["code"] == NOT_PREPARED
    assert service.call("GET", url(made, "usage"), 409)["code"] == NOT_PREPARED
    tested = service.call("POST", url(made, "test"))
    assert [(check["name"], check["passed"]) for check in tested["checks"]] == [("prepared", False)]
    assert service.call("POST", url(made, "prepare"), 409, json={})["code"] == "consent_required"
    assert place.written() == []
    after = states(service)
    assert {number: after[number] for number in before} == before

    place.come_back()
    service.call("DELETE", f"/api/backups/{refused['id']}", 204)
    assert states(service) == before
    assert ended(service, f"/api/backups/{kept['id']}/verify")["status"] == "completed"
    assert ended(service, url(made, "scan"))["result"]["known"] == 2
    assert ended(service, f"/api/backups/{kept['id']}/restore")["status"] == "completed"
    assert service.call("POST", url(made, "test"))["connected"]
    assert clean(service, made["id"])["result"]["removed_count"] == 1


def test_a_lost_disk_is_replaced_by_saying_so(service: Service, domain: dict[str, Any], mount: Mount) -> None:
    made = destination(service, mount)
    backup = service.backup(domain, destination_id=made["id"])
    mount.vanish()
    mount.root.rmdir()
    assert "is its disk mounted" in service.call("POST", url(made, "test"))["message"]
    assert not mount.root.exists(), "no folder is made"
    prepared = service.call("POST", url(made, "prepare"), json={"accept_missing_backups": True})
    assert prepared["prepared_at"] == made["prepared_at"]
    assert ended(service, f"/api/backups/{backup['id']}/verify")["error_code"] == "archive_damaged"
    assert service.backup(domain, destination_id=made["id"])["status"] == "completed"
    service.call("DELETE", f"/api/backups/{backup['id']}", 204)
    shutil.rmtree(mount.root)
    mount.root.mkdir()
    mount.come_back()
    events = service.call("GET", "/api/audit-events?per_page=200")["data"]
    assert any(event["action"].endswith("/prepare") and event["outcome"] == "200" for event in events)


def test_a_copy_of_the_data_without_the_marker(service: Service, domain: dict[str, Any], folder: Path) -> None:
    """It is enough that a backup which is recorded there really lies there; and somebody has to say it."""
    [made] = service.call("GET", "/api/backup-destinations")["data"]
    backup = service.backup(domain)
    root = service.folder / "data/backups"
    [marker] = root.rglob("destination-*.json")
    marker.unlink()
    assert ended(service, f"/api/backups/{backup['id']}/verify")["error_code"] == NOT_PREPARED
    restored = ended(service, f"/api/backups/{backup['id']}/restore")
    assert restored["status"] == "completed", "what is found can be restored"
    service.call("POST", url(made, "prepare"), json={})
    assert ended(service, f"/api/backups/{backup['id']}/verify")["status"] == "completed"
    marker.write_text("")
    assert ended(service, f"/api/backups/{backup['id']}/verify")["error_code"] == NOT_PREPARED
    service.call("POST", url(made, "prepare"), json={})
    assert ended(service, f"/api/backups/{backup['id']}/verify")["status"] == "completed"


def test_destinations_from_before_markers(service: Service, domain: dict[str, Any], folder: Path) -> None:
    backup = service.backup(domain)
    root = service.folder / "data/backups"
    [marker] = root.rglob("destination-*.json")

    def as_before() -> None:
        marker.unlink(missing_ok=True)
        sql(service, "UPDATE backup_destinations SET prepared_at = NULL")

    as_before()
    assert ended(service, f"/api/backups/{backup['id']}/verify")["status"] == "completed"
    assert marker.exists(), "a backup of ours is there: it is the place"
    as_before()
    root.rename(folder / "away")
    root.mkdir()
    assert service.backup(domain)["status"] == "failed"
    assert ended(service, f"/api/backups/{backup['id']}/verify")["error_code"] == NOT_PREPARED
    assert list(root.iterdir()) == []
    root.rmdir()
    (folder / "away").rename(root)
    assert ended(service, f"/api/backups/{backup['id']}/verify")["status"] == "completed"


@pytest.fixture
def tidy(folder: Path) -> Iterator[Service]:
    made = Service(folder, LIBERU_HOUSEKEEPING__SECONDS="0.3")
    made.start()
    yield made
    made.stop()


def test_a_copy_that_cannot_be_deleted_keeps_no_other(tidy: Service, site: Path, server: StorageServer) -> None:
    service, place = tidy, Root(server)
    body = {"domain_name": "shop.example.com", "user_id": 7, "document_root": str(site)}
    domain = service.call("POST", "/api/domains", 201, json=body)
    made = destination(service, place, encrypt=False)
    backup = service.backup(domain, copies=[{"destination_id": made["id"]}])
    used = service.call("GET", "/api/quotas/7")["used"]["stored_bytes"]
    assert used == 2 * backup["file_size"]
    place.vanish()
    problem = service.call("DELETE", f"/api/backups/{backup['id']}", 409)
    assert (problem["code"], "still there" in problem["detail"]) == (NOT_PREPARED, True)
    assert stored(service.folder / "data/backups") == []
    found = service.call("GET", f"/api/backups/{backup['id']}")
    assert found["status"] == "deleting"
    [left] = found["copies"]
    assert (left["destination_id"], left["state"]) == (made["id"], "deleting")
    assert "may not be mounted" in left["error_message"]
    assert service.call("GET", "/api/quotas/7")["used"]["stored_bytes"] == backup["file_size"]
    place.come_back()
    with service.client() as client:
        service.until(
            lambda: client.get(f"/api/backups/{backup['id']}").status_code, lambda status: status == 404, 30
        )
    assert stored(place.root) == []


def test_a_copy_that_was_never_stored_is_no_reason_to_remove_one(
    service: Service, domain: dict[str, Any], server: StorageServer
) -> None:
    place = Root(server)
    made = destination(service, place)
    copies = [{"destination_id": made["id"], "required": False}]
    old = aged(service, service.backup(domain, copies=copies), 90)
    place.vanish()
    new = aged(service, service.backup(domain, copies=copies), 80)
    place.come_back()
    cleaned = clean(service, made["id"])["result"]
    assert ([entry["id"] for entry in cleaned["kept"]], [entry["id"] for entry in cleaned["removed"]]) == (
        [old],
        [new],
    )
    found = {number: state[2] for number, state in states(service).items()}
    assert found == {old: [("stored", None), ("stored", None)], new: [("stored", None)]}


def forget(service: Service, backup: dict[str, Any]) -> None:
    """As if the catalogue had been lost."""
    for table, column in (("backup_copies", "backup_id"), ("backup_components", "backup_id"), ("backups", "id")):
        sql(service, f"DELETE FROM {table} WHERE {column} = ?", backup["id"])


def test_where_nothing_can_be_written_all_can_be_read(service: Service, domain: dict[str, Any]) -> None:
    """As after a disaster, with an account that may only read: no marker can be written, or needed."""
    backup = service.backup(domain)
    forget(service, backup)
    with sftp_server(["-R"]) as read_only:
        configuration = read_only.fresh()
        root = Path(configuration["root"])
        shutil.copytree(service.folder / "data/backups", root, dirs_exist_ok=True)
        [marker] = root.rglob("destination-*.json")
        marker.unlink()
        for path in (root, *root.rglob("*")):
            shutil.chown(path, root.stat().st_uid, root.stat().st_gid)
        wanted = {"name": "read-only", "type": "sftp", "configuration": configuration}
        made = service.call("POST", "/api/backup-destinations", 201, json=wanted)
        assert ended(service, url(made, "scan"))["result"]["added"] == 1
        [found] = service.call("GET", "/api/backups")["data"]
        for what in ("verify", "restore"):
            assert ended(service, f"/api/backups/{found['id']}/{what}")["status"] == "completed", what
        for path in root.iterdir():
            shutil.rmtree(path)
        assert ended(service, f"/api/backups/{found['id']}/verify")["error_code"] == NOT_PREPARED


def test_two_destinations_in_one_place(service: Service, domain: dict[str, Any], folder: Path) -> None:
    """Each has a marker of its own, and a backup does not go to one place twice."""
    path = {"path": str(folder / "shared")}
    one, two = (
        service.call("POST", "/api/backup-destinations", 201, json={"name": name, "configuration": path})
        for name in ("one", "two")
    )
    for made in (one, two):
        assert service.backup(domain, destination_id=made["id"])["status"] == "completed"
    assert len(list((folder / "shared").rglob("destination-*.json"))) == 2
    assert ended(service, url(one, "sweep"), grace_hours=1)["result"]["removed_count"] == 0
    body = {"domain_id": domain["id"], "type": "files", "destination_id": one["id"]}
    problem = service.call("POST", "/api/backups", 422, json={**body, "copies": [{"destination_id": two["id"]}]})
    assert "same place" in problem["detail"]


def test_a_scan_at_a_tenants_destination_takes_the_tenants_own(
    service: Service, domain: dict[str, Any], site: Path, server: StorageServer
) -> None:
    body = {"domain_name": "other.example.com", "user_id": 8, "document_root": str(site), "shared": True}
    other = service.call("POST", "/api/domains", 201, json=body)
    place = Root(server)
    made = destination(service, place)
    mine, theirs = (service.backup(of, destination_id=made["id"]) for of in (domain, other))
    for backup in (mine, theirs):
        forget(service, backup)
    sql(service, "UPDATE backup_destinations SET user_id = 7 WHERE id = ?", made["id"])
    service.stop()
    service.env["LIBERU_STORAGE__ALLOW_PRIVATE"] = "true"
    service.start()
    result = ended(service, url(made, "scan"))["result"]
    assert (result["added"], result["refused"], result["refusals"][0]["code"]) == (1, 1, "forbidden")
    assert theirs["uid"] in result["refusals"][0]["key"]
    assert [backup["uid"] for backup in service.call("GET", "/api/backups")["data"]] == [mine["uid"]]

"""A site of several pods: what is read and restored is said, and no restore changes one of several by chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from demo.docker_engine import gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.sample_files import differences, make_site, snapshot
from demo.sample_mail import ADDRESSES, SampleMail
from demo.service import Service
from tests.service.conftest import SITE_UID

NAME = "shop.example.com"


@pytest.fixture
def cluster() -> Iterator[ClusterDouble]:
    """A StatefulSet of two, each with a claim of its own."""
    with cluster_double() as started:
        for name in ("web-0", "web-1"):
            root = started.root(name)
            gnu_root(root)
            started.mount(root)
            make_site(root / "site/html", files=20, large=1 << 16, uid=SITE_UID)
            (root / "site/html/who").write_text(name)
            volumes = {"site": {"persistentVolumeClaim": {"claimName": f"site-{name}"}}}
            mounts = {"web": [{"name": "site", "mountPath": "/site"}]}
            started.pods.append(Pod("shop", name, {"app": "web"}, {"web": root}, volumes=volumes, mounts=mounts))
        yield started


@pytest.fixture
def service(folder: Path, cluster: ClusterDouble) -> Iterator[Service]:
    made = Service(
        folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()),
        LIBERU_DEPLOYMENTS__ROLLOUT_SECONDS="90", LIBERU_JOBS__PART_WAIT_SECONDS="3",
    )  # fmt: skip
    made.start()
    yield made
    made.stop()


def domain(service: Service, **deployment: Any) -> dict[str, Any]:
    setting = {"type": "kubernetes", "namespace": "shop", "selector": "app=web", **deployment}
    body = {"domain_name": NAME, "document_root": "/site/html", "deployment": setting}
    made: dict[str, Any] = service.call("PUT", f"/api/domains/by-name/{NAME}", 200, json=body)
    return made


def restored(service: Service, backup: dict[str, Any], **body: Any) -> dict[str, Any]:
    asked = {"clear_existing": True, **body}
    return service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json=asked))


def test_a_restore_does_not_change_one_of_two_and_call_it_done(cluster: ClusterDouble, service: Service) -> None:
    html = {name: cluster.folder / name / "site/html" for name in ("web-0", "web-1")}
    service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
    made = domain(service)
    backup = service.backup(made)
    part = backup["components"][0]
    assert (backup["status"], part["place"]["pod"]) == ("partial", "web-0")
    assert part["place"]["volume"] == {"kind": "claim", "name": "site-web-0", "path": "html"}
    assert [lack["subject"] for lack in part["incomplete"]] == ["web-1 (claim site-web-1, html)"]
    for root in html.values():
        (root / "hacked.php").write_text("<?php")
    refused = restored(service, backup)
    assert (refused["status"], refused["error_code"]) == ("failed", "replicas_differ")
    assert "web-1 (claim site-web-1, html)" in refused["error_message"]
    assert all((root / "hacked.php").exists() for root in html.values()), "and neither was changed"

    made = domain(service, replicas="first")
    backup = service.backup(made)
    assert (backup["status"], backup["components"][0]["place"]["container"]) == ("completed", "web")
    (html["web-0"] / "who").unlink()
    ended = restored(service, backup)
    [part] = ended["result"]["components"]
    assert (ended["status"], part["place"]["pod"]) == ("completed", "web-0")
    named = [(found["code"], found["subject"]) for found in part["warnings"]]
    assert ("replica_not_restored", "web-1 (claim site-web-1, html)") in named
    assert (html["web-0"] / "who").read_text() == "web-0"


def test_a_restore_that_was_interrupted_goes_on_where_it_began(cluster: ClusterDouble, service: Service) -> None:
    html = {name: cluster.folder / name / "site/html" for name in ("web-0", "web-1")}
    service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
    backup = service.backup(domain(service, replicas="first"))
    for root in html.values():
        (root / "hacked.php").write_text("<?php")
    started = service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    service.until(lambda: list(html["web-0"].glob(".liberu-restore-*")), lambda found: found, pause=0.002)
    service.kill()
    cluster.pods[0].ready, cluster.listed = False, 0  # now web-1 is the first that is ready
    service.start()
    service.until(lambda: cluster.listed, lambda listed: listed > 1)  # it was asked, and waits
    cluster.pods[0].ready = True
    ended = service.wait(started)
    assert ended["status"] == "completed", ended
    assert not (html["web-0"] / "hacked.php").exists()
    assert (html["web-1"] / "hacked.php").exists()
    assert (html["web-1"] / "who").read_text() == "web-1"
    assert not list(html["web-1"].glob(".liberu-restore-*"))


def test_an_operation_tells_that_it_waits_for_a_pod_and_can_be_cancelled(
    cluster: ClusterDouble, service: Service
) -> None:
    del cluster.pods[1]
    service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
    made = domain(service)
    cluster.pods[0].deleted = True

    def waiting(path: str = "/api/backups", **body: Any) -> dict[str, Any]:
        started = service.call("POST", path, 202, json=body or {"domain_id": made["id"], "type": "files"})
        seen: dict[str, Any] = service.until(
            lambda: service.call("GET", f"/api/operations/{started['id']}"),
            lambda found: found["progress"].get("1", {}).get("waits_for"),
        )
        assert seen["progress"]["1"]["waits_for"] == "a pod that is ready, for its files: web-0 is being deleted"
        return seen

    operation = waiting()
    cluster.pods[0].deleted = False  # as its replacement is
    ended = service.wait(operation)
    assert (ended["status"], "waits_for" in ended["progress"]["1"]) == ("completed", False)
    cluster.pods[0].deleted = True
    restore: dict[str, Any] = {"clear_existing": True}
    for path, body in (("/api/backups", {}), (f"/api/backups/{ended['backup_id']}/restore", restore)):
        operation = waiting(path, **body)
        service.call("POST", f"/api/operations/{operation['id']}/cancel")
        assert service.wait(operation)["status"] == "cancelled"


def roots(cluster: ClusterDouble) -> dict[str, Path]:
    return {name: cluster.folder / name / "site/html" for name in ("web-0", "web-1")}


@pytest.fixture
def each(cluster: ClusterDouble, service: Service) -> dict[str, Any]:
    """A backup of the first, with which both were alike; then both have changed."""
    (roots(cluster)["web-1"] / "who").write_text("web-0")
    service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
    backup = service.backup(domain(service, replicas="each"))
    assert (backup["status"], backup["components"][0]["place"]["pod"]) == ("completed", "web-0")
    named = [warning["subject"] for warning in backup["components"][0]["warnings"]]
    assert "web-1 (claim site-web-1, html)" in named
    for root in roots(cluster).values():
        (root / "hacked.php").write_text("<?php")
        (root / "who").unlink()
    return backup


def whole(root: Path) -> bool:
    there = {path.name for path in root.iterdir()}
    return "hacked.php" not in there and (root / "who").read_text() == "web-0" and not staged(root)


def staged(root: Path) -> list[Path]:
    return list(root.glob(".liberu-restore-*"))


def told(ended: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Of each place: pod, claim, what became of it."""
    return [
        (
            part["place"]["pod"],
            part["place"]["volume"]["name"],
            part.get("code") or part.get("status", part.get("mode")),
        )
        for part in ended["result"]["components"]
    ]


def tidied(cluster: ClusterDouble, service: Service) -> None:
    service.until(lambda: [left for root in roots(cluster).values() for left in staged(root)], lambda left: not left)


def test_a_restore_goes_into_each_and_names_each(
    cluster: ClusterDouble, service: Service, each: dict[str, Any]
) -> None:
    before = {name: snapshot(root) for name, root in roots(cluster).items()}
    trial = restored(service, each, dry_run=True)
    assert (trial["status"], [pod for pod, _, _ in told(trial)]) == ("completed", ["web-0", "web-1"])
    assert all(part["facts"]["live"]["goes"]["files"] == 1 for part in trial["result"]["components"])
    assert [differences(before[name], snapshot(root)) for name, root in roots(cluster).items()] == [[], []]

    ended = restored(service, each)
    assert (ended["status"], ended["error_code"]) == ("completed", None), ended
    assert told(ended) == [("web-0", "site-web-0", "completed"), ("web-1", "site-web-1", "completed")]
    assert all(part["place"]["namespace"] == "shop" for part in ended["result"]["components"])
    codes = {warning["code"] for part in ended["result"]["components"] for warning in part["warnings"]}
    assert "replica_not_restored" not in codes
    assert ended["bytes_done"] == ended["bytes_total"]
    tidied(cluster, service)
    assert all(map(whole, roots(cluster).values()))


def test_what_was_replaced_is_kept_in_each_and_both_are_named(folder: Path, cluster: ClusterDouble) -> None:
    kubeconfig = str(cluster.kubeconfig())
    service = Service(folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="1", LIBERU_DEPLOYMENTS__KUBECONFIG=kubeconfig)
    service.start()
    try:
        service.call("POST", "/api/domains", 201, json={"domain_name": NAME})
        made = domain(service, replicas="each")
        ended = restored(service, service.backup(made))
        assert ended["status"] == "completed", ended
        left = service.call("GET", f"/api/domains/{made['id']}/remains")
        assert [one["place"]["pod"] for one in left] == ["web-0", "web-1"]
        assert len({one["folder"] for one in left}) == 2
        for one, root in zip(left, roots(cluster).values(), strict=True):
            assert (root / Path(one["folder"]).name / "old" / "who").read_text() == one["place"]["pod"]
    finally:
        service.stop()


def test_pods_of_one_claim_are_one_place(cluster: ClusterDouble, service: Service, each: dict[str, Any]) -> None:
    twin = replace(cluster.pods[1], name="web-2", uid="uid-2")
    cluster.pods.append(twin)
    ended = restored(service, each)
    assert (ended["status"], [pod for pod, _, _ in told(ended)]) == ("completed", ["web-0", "web-1"])
    tidied(cluster, service)
    assert all(map(whole, roots(cluster).values()))


def goes_in_its_swap(cluster: ClusterDouble, gone: Pod) -> None:
    """For good, when what is live there is about to be replaced."""

    def over(pod: Pod, data: bytes) -> None:
        if pod is gone and b"hacked.php\0" in data:
            cluster.watching = None
            cluster.replace(gone, None)

    cluster.watching = over


def hurried(service: Service) -> None:
    """It waits for no pod that is not there."""
    service.stop()
    service.env["LIBERU_DEPLOYMENTS__ROLLOUT_SECONDS"] = "0"
    service.start()


def test_a_place_that_goes_away_fails_alone(cluster: ClusterDouble, service: Service, each: dict[str, Any]) -> None:
    """In the middle of its swap; its claim is there again later, in another pod."""
    html, second = roots(cluster), cluster.pods[1]
    before = snapshot(html["web-1"])

    goes_in_its_swap(cluster, second)
    hurried(service)
    ended = restored(service, each)
    assert ended["status"] == "partial", ended
    assert [(pod, state == "completed") for pod, _, state in told(ended)] == [("web-0", True), ("web-1", False)]
    failed = ended["result"]["components"][1]
    assert (failed["status"], failed["code"]) == ("failed", ended["error_code"])
    assert "files files in web-1: " in ended["error_message"]
    assert not (html["web-0"] / "hacked.php").exists()
    number = each["domain_id"]
    remains = f"/api/domains/{number}/remains"
    [left] = service.until(lambda: service.call("GET", remains), lambda found: len(found) == 1)
    assert (left["unsettled"], left["place"]["pod"]) == (True, "web-1")

    cluster.pods.append(replace(second, name="web-3", uid="uid-3"))
    assert service.backup({"id": number})["status"] == "completed"
    assert service.call("GET", remains) == []
    after = snapshot(html["web-1"])
    assert differences({**before, b".": after[b"."]}, after) == []
    assert restored(service, each)["status"] == "completed"
    tidied(cluster, service)
    assert all(map(whole, html.values()))


def test_a_place_that_is_not_there_when_it_begins_is_named(
    cluster: ClusterDouble, service: Service, each: dict[str, Any]
) -> None:
    cluster.pods[1].ready, cluster.pods[1].phase = False, "Pending"
    hurried(service)
    for dry_run in (True, False):
        ended = restored(service, each, dry_run=dry_run)
        assert (ended["status"], ended["error_code"]) == ("partial", "target_missing"), ended
        assert [(pod, state == "target_missing") for pod, _, state in told(ended)] == [
            ("web-0", False), ("web-1", True)
        ]  # fmt: skip
    assert not (roots(cluster)["web-0"] / "hacked.php").exists()
    assert (roots(cluster)["web-1"] / "hacked.php").exists()


def killed_between(cluster: ClusterDouble, service: Service, each: dict[str, Any]) -> dict[str, Any]:
    """The restore, and the service dead, when the first place is restored and something begins at the second."""
    html, reached, dead = roots(cluster), Event(), Event()

    def over(pod: Pod, _: bytes) -> None:
        if pod.name == "web-1" and not (html["web-0"] / "hacked.php").exists():
            cluster.watching = None
            reached.set()
            dead.wait(30)

    cluster.watching = over
    started: dict[str, Any] = service.call(
        "POST", f"/api/backups/{each['id']}/restore", 202, json={"clear_existing": True}
    )
    assert reached.wait(60)
    service.kill()
    dead.set()
    return started


def test_a_service_that_is_killed_between_two_places_goes_on_with_the_second(
    cluster: ClusterDouble, service: Service, each: dict[str, Any]
) -> None:
    started = killed_between(cluster, service, each)
    assert (roots(cluster)["web-1"] / "hacked.php").exists()
    cluster.pods.append(replace(cluster.pods[1], name="web-2", uid="uid-2", volumes={}, mounts={}))  # not on the list
    service.start()
    ended = service.wait(started)
    assert (ended["status"], [pod for pod, _, _ in told(ended)]) == ("completed", ["web-0", "web-1"]), ended
    tidied(cluster, service)
    assert all(map(whole, roots(cluster).values()))


@pytest.mark.parametrize("gone", ["web-0", "web-1"])
def test_a_place_that_is_gone_when_it_goes_on_fails_alone(
    cluster: ClusterDouble, service: Service, each: dict[str, Any], gone: str
) -> None:
    started = killed_between(cluster, service, each)
    cluster.pods[:] = [pod for pod in cluster.pods if pod.name != gone]
    service.env["LIBERU_DEPLOYMENTS__ROLLOUT_SECONDS"] = "0"
    service.start()
    ended = service.wait(started)
    codes = {part["place"]["pod"]: part.get("code") for part in ended["result"]["components"]}
    assert list(codes) == ["web-0", "web-1"], ended
    assert not (roots(cluster)["web-0"] / "hacked.php").exists()
    if gone == "web-1":
        assert (ended["status"], codes) == ("partial", {"web-0": None, "web-1": "target_missing"})
    else:
        assert codes["web-1"] is None
        assert not (roots(cluster)["web-1"] / "hacked.php").exists()


def test_a_restore_that_is_cancelled_at_the_second_place_tells_of_each(
    cluster: ClusterDouble, service: Service, each: dict[str, Any]
) -> None:
    html, reached, asked = roots(cluster), Event(), Event()

    def over(pod: Pod, _: bytes) -> None:
        if pod.name == "web-1" and not (html["web-0"] / "hacked.php").exists():
            cluster.watching = None
            reached.set()
            asked.wait(30)

    cluster.watching = over
    started = service.call("POST", f"/api/backups/{each['id']}/restore", 202, json={"clear_existing": True})
    assert reached.wait(60)
    service.call("POST", f"/api/operations/{started['id']}/cancel")
    asked.set()
    ended = service.wait(started)
    assert ended["status"] == "cancelled", ended
    assert [pod for pod, _, _ in told(ended)] == ["web-0", "web-1"]
    assert ended["result"]["components"][0]["status"] == "completed"
    assert ended["result"]["components"][1]["status"] != "completed"
    assert (html["web-1"] / "hacked.php").exists()
    tidied(cluster, service)


def test_what_can_be_put_right_first_refuses_all_of_it(
    cluster: ClusterDouble, service: Service, each: dict[str, Any]
) -> None:
    (roots(cluster)["web-1"] / "mounted").mkdir()
    elsewhere = cluster.folder / "elsewhere"
    elsewhere.mkdir()
    cluster.volume(cluster.folder / "web-1", elsewhere, "site/html/mounted")
    ended = restored(service, each)
    assert (ended["status"], ended["error_code"]) == ("failed", "target_protected"), ended
    assert ended["error_message"].startswith("web-1: ")
    assert {(pod, state) for pod, _, state in told(ended)} == {("web-0", "untouched"), ("web-1", "untouched")}
    assert all((root / "hacked.php").exists() and not staged(root) for root in roots(cluster).values())


def test_what_an_earlier_restore_staged_is_found_in_each(
    cluster: ClusterDouble, service: Service, each: dict[str, Any]
) -> None:
    uid = restored(service, each)["uid"]
    tidied(cluster, service)
    ours = [root / f".liberu-restore-{uid}-{number}" for number, root in enumerate(roots(cluster).values(), 1)]
    unknown = roots(cluster)["web-1"] / ".liberu-restore-x-1"
    for left in [*ours, unknown]:
        (left / "new").mkdir(parents=True)
        (left / "new" / "half").write_text("half")
        left.chmod(0o700)
    backup = service.backup({"id": each["domain_id"]})
    assert backup["status"] == "completed", backup
    assert [[left.name for left in staged(root)] for root in roots(cluster).values()] == [[], [unknown.name]]
    named = [found["subject"] for found in backup["components"][0]["warnings"] if found["code"] == "staging_left"]
    assert named == [f"/site/html/{unknown.name} in web-1"]


def test_what_went_with_its_pod_is_not_waited_for(
    cluster: ClusterDouble, service: Service, each: dict[str, Any]
) -> None:
    """An emptyDir: there is nothing left that could be put right, and no later operation waits for it."""
    for pod in cluster.pods:
        pod.volumes = {"site": {"emptyDir": {}}}
    second = cluster.pods[1]

    goes_in_its_swap(cluster, second)
    hurried(service)
    ended = restored(service, each)
    assert (ended["status"], ended["result"]["components"][1]["place"]["pod"]) == ("partial", "web-1"), ended
    number = each["domain_id"]
    service.until(lambda: service.call("GET", f"/api/domains/{number}/remains"), lambda found: not found)
    assert service.backup({"id": number})["status"] == "completed"


def test_a_bulk_restore_goes_into_each(cluster: ClusterDouble, service: Service, each: dict[str, Any]) -> None:
    body = {"backup_ids": [each["id"]], "clear_existing": True}
    ended = service.wait(service.call("POST", "/api/backups/bulk-restore", 202, json=body))
    assert ended["status"] == "completed", ended
    child = service.call("GET", f"/api/operations/{ended['result']['details'][0]['operation_id']}")
    assert [pod for pod, _, _ in told(child)] == ["web-0", "web-1"]
    tidied(cluster, service)
    assert all(map(whole, roots(cluster).values()))


def test_mail_goes_into_each(cluster: ClusterDouble, service: Service) -> None:
    mails = [SampleMail(cluster.folder / name / "site/mail", SITE_UID) for name in ("web-0", "web-1")]
    setting = {
        "type": "kubernetes", "namespace": "shop", "selector": "app=web", "mail_selector": "app=web",
        "mail_container": "web", "mail_replicas": "each",
    }  # fmt: skip
    body = {
        "domain_name": NAME, "mail_path": "/site/mail", "deployment": setting,
        "mailboxes": [{"email_address": address} for address in ADDRESSES],
    }  # fmt: skip
    made = service.call("POST", "/api/domains", 201, json=body)
    before = mails[0].messages()
    backup = service.backup(made, type="email")
    assert backup["status"] == "completed", backup
    for mail in mails:
        mail.damage()
    ended = restored(service, backup)
    assert ended["status"] == "completed", ended
    assert told(ended) == [("web-0", "site-web-0", "completed"), ("web-1", "site-web-1", "completed")]
    assert all(before.items() <= mail.messages().items() for mail in mails)
    assert all(part["facts"]["added"] > 0 for part in ended["result"]["components"])
    assert not [left for mail in mails for left in staged(mail.folder)]

"""What runs in a pod is cut off: the part is begun again where the site runs then, and people learn why."""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from demo.docker_engine import gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.sample_files import differences, make_site, snapshot
from demo.service import Service
from tests.external.cpanel_account import MAIN, make_account, pack
from tests.service.conftest import SITE_UID, stored

#: Where a restore is: its archive is read, its swap is made.
EXTRACTING, SWAPPING = b"ustar", b"defaced\0"


@dataclass
class Shop:
    """A site in a pod, and what ends it."""

    cluster: ClusterDouble
    service: Service
    root: Path
    domain: dict[str, Any]
    count: int = 1

    @property
    def pod(self) -> Pod:
        [found] = self.cluster.pods
        return found

    def deleted(self) -> None:
        """And another one has taken its place."""
        pod, self.count = self.pod, self.count + 1
        self.cluster.events.append((pod.uid, "Killing", "Stopping container web"))
        self.cluster.replace(pod, replace(pod, name=f"web-{self.count}", uid=f"uid-{self.count}"))

    def replaced(self) -> None:
        """Of a StatefulSet: its successor has its name, and comes later."""
        pod, self.count = self.pod, self.count + 1
        successor = replace(pod, uid=f"uid-{self.count}")
        pod.deleted = True
        self.cluster.events.append((pod.uid, "TaintManagerEviction", "Marking for deletion Pod shop/web"))
        self.cluster.replace(pod, successor)

    def evicted(self) -> None:
        pod, self.count = self.pod, self.count + 1
        self.cluster.events.append((pod.uid, "Evicted", "The node was low on resource: memory."))
        self.cluster.replace(pod, replace(pod, name=f"web-{self.count}", uid=f"uid-{self.count}"))
        pod.phase, pod.reason, pod.message, pod.ready = "Failed", "Evicted", "The node was low on resource", False
        self.cluster.pods.append(pod)

    def out_of_memory(self) -> None:
        self.cluster.restart(self.pod)

    def disconnected(self) -> None:
        self.cluster.cut()

    def when(self, text: bytes | None, end: Callable[[Shop], None], times: int = 1) -> None:
        """Let it be ended when a command gets this as input, or, with None, once 300 KB were read from it."""
        seen, left, armed = 0, times, True

        def over(_: Pod, data: bytes) -> None:
            nonlocal seen, left, armed
            seen += len(data)
            armed = armed or not data  # another command begins
            if armed and (text in data if text is not None else seen > 300_000):
                seen, left, armed = 0, left - 1, text is None
                if not left:
                    self.cluster.watching = self.cluster.hearing = None
                end(self)

        if text is None:
            self.cluster.hearing = over
        else:
            self.cluster.watching = over

    def change(self) -> Any:
        """What is live is not what the backup has; what it is like."""
        shutil.rmtree(self.root / "d01")
        (self.root / "defaced").write_text("evil")
        return snapshot(self.root)

    def begin(self, backup: dict[str, Any]) -> dict[str, Any]:
        started: dict[str, Any] = self.service.call(
            "POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True}
        )
        return started

    def begin_backup(self) -> dict[str, Any]:
        body = {"domain_id": self.domain["id"], "type": "files"}
        started: dict[str, Any] = self.service.call("POST", "/api/backups", 202, json=body)
        return started

    def waits(self, started: dict[str, Any]) -> str:
        """Comes when its first part waits to be begun again: for what."""
        path = f"/api/operations/{started['id']}"
        told: str = self.service.until(
            lambda: self.service.call("GET", path)["progress"].get("1", {}), lambda part: part.get("tries") == 2
        )["waits_for"]
        return told

    def restore(self, backup: dict[str, Any]) -> dict[str, Any]:
        return self.service.wait(self.begin(backup))

    def clean(self) -> None:
        """Nothing is left of any restore."""
        self.service.until(lambda: list(self.root.glob(".liberu-restore-*")), lambda found: not found)
        remains = f"/api/domains/{self.domain['id']}/remains"
        self.service.until(lambda: self.service.call("GET", remains), lambda found: found == [])

    def differs(self, before: Any) -> list[str]:
        after = {name: one for name, one in snapshot(self.root).items() if not name.startswith(b".liberu-restore-")}
        return differences({**before, b".": after[b"."]}, after)


#: What ends it, and what people are to be told of it.
ENDS: dict[str, tuple[Callable[[Shop], None], str]] = {
    "deleted": (Shop.deleted, "was deleted: Killing, Stopping container web"),
    "replaced": (Shop.replaced, "was deleted: TaintManagerEviction"),
    "evicted": (Shop.evicted, "was evicted (The node was low on resource): Evicted, The node was low on"),
    "out-of-memory": (Shop.out_of_memory, "container web of pod"),
    "disconnected": (Shop.disconnected, "is there and was not restarted"),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        yield started


@pytest.fixture(scope="module")
def service(cluster: ClusterDouble) -> Iterator[Service]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-test-"))
    made = Service(
        folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_RESTORES__TIDY_SECONDS="3600",
        LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()), LIBERU_DEPLOYMENTS__ROLLOUT_SECONDS="2",
        LIBERU_JOBS__PART_WAIT_SECONDS="6", LIBERU_IMPORTS__FOLDER=str(folder),
    )  # fmt: skip
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def web(cluster: ClusterDouble) -> Path:
    made = cluster.root("web")
    gnu_root(made)
    cluster.mount(made)
    return made


@pytest.fixture
def shop(cluster: ClusterDouble, service: Service, web: Path) -> Iterator[Shop]:
    name = f"shop-{secrets.token_hex(4)}"
    volume = {"site": {"persistentVolumeClaim": {"claimName": "site"}}}
    mounts = {"web": [{"name": "site", "mountPath": f"/{name}"}]}
    labels = {"app": f"{name}-example-com"}
    cluster.pods[:] = [Pod(name, "web-1", labels, {"web": web}, volumes=volume, mounts=mounts, node="node-1")]
    inside = web / name / "public_html"
    make_site(inside, files=60, large=1 << 20, uid=SITE_UID)
    domain = service.call("POST", "/api/domains", 201, json={
        "domain_name": f"{name}.example.com", "document_root": f"/{name}/public_html",
        "deployment": {"type": "kubernetes", "namespace": name},
    })  # fmt: skip
    yield Shop(cluster, service, inside, domain)
    cluster.watching = cluster.hearing = cluster.away = None
    cluster.denied.clear()
    cluster.events.clear()


def warned(part: dict[str, Any]) -> str:
    [message] = [warning["message"] for warning in part["warnings"] if warning["code"] == "tried_again"]
    assert isinstance(message, str)
    return message


@pytest.mark.sweep(2)
@pytest.mark.parametrize("end", ENDS)
def test_a_backup_goes_on_where_the_site_is_then(shop: Shop, end: str) -> None:
    before, (ends, told) = snapshot(shop.root), ENDS[end]
    shop.when(None, ends)
    backup = shop.service.backup(shop.domain)
    [part] = backup["components"]
    assert (backup["status"], part["place"]["pod"]) == ("completed", shop.cluster.pods[0].name), backup
    assert told in warned(part)
    shop.change()
    assert shop.restore(backup)["status"] == "completed"
    shop.clean()
    assert shop.differs(before) == []


@pytest.mark.sweep(2)
@pytest.mark.parametrize("moment", [EXTRACTING, SWAPPING], ids=["extracting", "swapping"])
@pytest.mark.parametrize("end", ENDS)
def test_a_restore_begins_again_where_the_site_is_then(shop: Shop, end: str, moment: bytes) -> None:
    before, (ends, told) = snapshot(shop.root), ENDS[end]
    backup = shop.service.backup(shop.domain)
    shop.change()
    shop.when(moment, ends)
    ended = shop.restore(backup)
    [part] = ended["result"]["components"]
    assert (ended["status"], part["place"]["pod"]) == ("completed", shop.cluster.pods[0].name), ended
    assert told in warned(part)
    shop.clean()
    assert shop.differs(before) == []


def test_a_dry_run_is_begun_again(shop: Shop) -> None:
    backup = shop.service.backup(shop.domain)
    live, path = shop.change(), f"/api/backups/{backup['id']}/restore"
    dry = {"clear_existing": True, "dry_run": True}
    [expected] = shop.service.wait(shop.service.call("POST", path, 202, json=dry))["result"]["components"]
    shop.when(b"%T@ %P", Shop.deleted)  # its look at what is live
    ended = shop.service.wait(shop.service.call("POST", path, 202, json=dry))
    assert shop.count == 2, "it was not cut off"
    [part] = ended["result"]["components"]
    assert (ended["status"], part["facts"]) == ("completed", expected["facts"]), ended
    assert "was deleted: Killing" in warned(part)
    assert shop.differs(live) == []


@pytest.mark.parametrize("moment", [EXTRACTING, SWAPPING], ids=["extracting", "swapping"])
@pytest.mark.parametrize("together", [True, False])
def test_an_import_is_begun_again(shop: Shop, tmp_path: Path, moment: bytes, together: bool) -> None:
    account = make_account(tmp_path / "account")
    shutil.copy(pack(account, "gz"), shop.service.folder / "account.tar.gz")
    shop.change()
    shop.when(moment, Shop.deleted)
    started = shop.service.call("POST", "/api/backups/import-external", 202, json={
        "source": {"type": "file", "path": "account.tar.gz"}, "domain_name": shop.domain["domain_name"],
        "only": [MAIN], "components": ["files"], "clear_existing": True, "continue_on_error": not together,
    })  # fmt: skip
    ended = shop.service.wait(started)
    assert shop.count == 2, "it was not cut off"
    [item] = ended["result"]["items"]
    assert ended["status"] == "completed", ended
    assert "was deleted: Killing" in warned(item)
    shop.clean()
    assert (shop.root / "index.php").read_bytes() == (account / "homedir/public_html/index.php").read_bytes()
    assert not (shop.root / "defaced").exists()


@pytest.mark.parametrize("restoring", [False, True], ids=["backup", "restore"])
def test_what_is_cut_off_three_times_fails_and_says_why(shop: Shop, restoring: bool) -> None:
    if restoring:
        backup = shop.service.backup(shop.domain)
        live = shop.change()
        shop.when(EXTRACTING, Shop.out_of_memory, times=3)
        ended = shop.restore(backup)
        assert shop.differs(live) == []
        shop.clean()
    else:
        shop.when(None, Shop.out_of_memory, times=3)
        backup = shop.service.backup(shop.domain)
        ended = backup["operation"]
        assert [
            path for path in stored(shop.service.folder / "backups") if shop.domain["domain_name"] in str(path)
        ] == []
    assert (ended["status"], ended["error_code"]) == ("failed", "stream_cut"), ended
    assert shop.pod.restarts == 3
    for told in ("web-1 was OOMKilled", "begun 3 times", "ended before its end was confirmed"):
        assert told in ended["error_message"]


@pytest.mark.parametrize("away", ["api", "kubelet"])
def test_it_waits_until_the_cluster_is_there_again(shop: Shop, away: str) -> None:
    def ends(shop: Shop) -> None:
        shop.cluster.away = away
        shop.cluster.cut()

    shop.when(None, ends)
    started = shop.begin_backup()
    told = shop.waits(started)
    shop.cluster.away = None
    assert shop.service.wait(started)["status"] == "completed"
    [part] = shop.service.call("GET", f"/api/backups/{started['backup_id']}")["components"]
    assert told.startswith("the site of its files again: ")
    assert ("the cluster does not tell" if away == "api" else "was not restarted") in warned(part)


@pytest.mark.parametrize("restoring", [False, True], ids=["backup", "restore"])
def test_a_kubelet_that_stays_away_ends_it_within_its_time(shop: Shop, restoring: bool) -> None:
    def ends(shop: Shop) -> None:
        shop.cluster.away = "kubelet"
        shop.cluster.cut()

    if restoring:
        backup = shop.service.backup(shop.domain)
        live = shop.change()
        shop.when(EXTRACTING, ends)
        ended = shop.restore(backup)
        assert shop.differs(live) == []
    else:
        shop.when(None, ends)
        ended = shop.service.wait(shop.begin_backup())
    assert (ended["status"], ended["error_code"]) == ("failed", "stream_cut"), ended
    assert "waited for in vain" in ended["error_message"]
    assert "(500 " in ended["error_message"], "what it is waited for says why it is not there"


def test_what_is_denied_is_not_waited_for(shop: Shop) -> None:
    def ends(shop: Shop) -> None:
        shop.cluster.denied.add("list pods")
        shop.deleted()

    shop.when(None, ends)
    ended = shop.service.wait(shop.begin_backup())
    assert (ended["status"], ended["error_code"]) == ("failed", "stream_cut"), ended
    assert "denies `list on pods`" in ended["error_message"]
    assert "in vain" not in ended["error_message"]


def test_without_the_right_to_read_events_the_pods_state_is_told(shop: Shop) -> None:
    shop.cluster.denied.add("list events")
    shop.when(None, Shop.deleted)
    backup = shop.service.backup(shop.domain)
    assert warned(backup["components"][0]).endswith("/web-1 was deleted")


@pytest.mark.parametrize("restoring", [False, True], ids=["backup", "restore"])
def test_it_is_cancelled_while_it_waits(shop: Shop, restoring: bool) -> None:
    backup = shop.service.backup(shop.domain) if restoring else {}
    live = shop.change()
    gone = shop.pod
    shop.when(EXTRACTING if restoring else None, lambda shop: shop.cluster.replace(gone, None))
    started = shop.begin(backup) if restoring else shop.begin_backup()
    shop.waits(started)
    shop.cluster.pods.append(replace(gone, name="web-2", uid="uid-2", ready=False, phase="Pending"))
    shop.service.call("POST", f"/api/operations/{started['id']}/cancel")
    shop.cluster.pods[:] = [replace(gone, name="web-3", uid="uid-3")]
    ended = shop.service.wait(started)
    assert (ended["status"], ended["error_code"]) == ("cancelled", None), ended
    assert shop.differs(live) == []
    shop.service.backup(shop.domain)
    shop.clean()


@pytest.mark.parametrize("moment", ["waiting", "again"])
def test_kill_9_between_the_tries_leaves_nothing_behind(shop: Shop, moment: str) -> None:
    before, backup, gone = snapshot(shop.root), shop.service.backup(shop.domain), shop.pod
    shop.change()

    def ends(shop: Shop) -> None:
        if moment == "waiting":
            shop.cluster.replace(gone, None)
        elif shop.count == 1:
            shop.deleted()
        else:
            shop.service.signal(signal.SIGKILL)

    shop.when(EXTRACTING, ends, times=2 if moment == "again" else 1)
    started = shop.begin(backup)
    if moment == "waiting":
        shop.waits(started)
    else:
        shop.service.until(lambda: shop.service.alive, lambda alive: not alive)
    shop.service.kill()
    if moment == "waiting":
        shop.cluster.pods.append(replace(gone, name="web-2", uid="uid-2"))
    shop.service.start()
    ended = shop.service.wait(started)
    assert (ended["status"], ended["attempt"]) == ("completed", 2), ended
    shop.clean()
    assert shop.differs(before) == []

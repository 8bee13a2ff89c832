"""A pod is deleted while a restore is in it, and another one with the same volume takes its place."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from demo.docker_engine import gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.sample_files import differences, make_site, snapshot
from demo.service import Service
from tests.service.conftest import SITE_UID


@dataclass
class Shop:
    """A site in a pod, a backup of it, and what is live since then."""

    cluster: ClusterDouble
    service: Service
    root: Path
    domain: dict[str, Any]
    backup: dict[str, Any]
    live: Any
    count: int = 1

    def delete(self, *, successor: bool = True) -> None:
        [pod] = self.cluster.pods
        self.count += 1
        self.cluster.replace(pod, replace(pod, name=f"web-{self.count}") if successor else None)

    def when(self, text: bytes, *, successor: bool = True) -> None:
        """Delete the pod when a command gets this as input, once."""

        def watch(_: Pod, data: bytes) -> None:
            if text in data:
                self.cluster.watching = None
                self.delete(successor=successor)

        self.cluster.watching = watch

    def restore(self) -> dict[str, Any]:
        started = self.service.call(
            "POST", f"/api/backups/{self.backup['id']}/restore", 202, json={"clear_existing": True}
        )
        return self.service.wait(started)

    def staged(self) -> list[Path]:
        return list(self.root.glob(".liberu-restore-*"))

    def remains(self) -> list[Any]:
        found: list[Any] = self.service.call("GET", f"/api/domains/{self.domain['id']}/remains")
        return found

    def untouched(self) -> list[str]:
        """Differences from what was live before the restore, but for staging and the root's own time."""
        after = {name: one for name, one in snapshot(self.root).items() if not name.startswith(b".liberu-restore-")}
        before = dict(self.live)
        before.pop(b".", None), after.pop(b".", None)
        return differences(before, after)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        yield started


@pytest.fixture(scope="module")
def service(cluster: ClusterDouble) -> Iterator[Service]:
    """Whose housekeeping does not come in between."""
    folder = Path(tempfile.mkdtemp(prefix="liberu-test-"))
    made = Service(
        folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_RESTORES__TIDY_SECONDS="3600",
        LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()), LIBERU_JOBS__PART_TRIES="1",
    )  # fmt: skip
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def root(cluster: ClusterDouble) -> Path:
    made = cluster.root("web")
    gnu_root(made)
    cluster.mount(made)
    return made


@pytest.fixture
def shop(cluster: ClusterDouble, service: Service, root: Path) -> Iterator[Shop]:
    name = f"shop-{secrets.token_hex(4)}"
    cluster.pods[:] = [Pod(name, "web-1", {"app": f"{name}-example-com"}, {"web": root})]
    inside = root / name / "public_html"
    make_site(inside, files=60, large=1 << 20, uid=SITE_UID)
    domain = service.call("POST", "/api/domains", 201, json={
        "domain_name": f"{name}.example.com", "document_root": f"/{name}/public_html",
        "deployment": {"type": "kubernetes", "namespace": name},
    })  # fmt: skip
    backup = service.backup(domain)
    assert backup["status"] == "completed", backup
    shutil.rmtree(inside / "d01")
    (inside / "defaced").write_text("evil")
    yield Shop(cluster, service, inside, domain, backup, snapshot(inside))
    cluster.watching = None


def code_of(warnings: list[dict[str, Any]]) -> list[str]:
    return [warning["code"] for warning in warnings]


@pytest.mark.parametrize("moment", [b"ustar", b"defaced\0"], ids=["extracting", "swapping"])
def test_its_successor_is_cleaned_up_by_the_same_operation(shop: Shop, moment: bytes) -> None:
    shop.when(moment)
    ended = shop.restore()
    [part] = ended["result"]["components"]
    assert (ended["status"], part["code"], part["warnings"]) == ("failed", "stream_cut", []), ended
    assert "ended before its end was confirmed" in ended["error_message"], "what happened, not what followed"
    assert ("as it was before the restore" in ended["error_message"]) == (moment != b"ustar")
    assert (shop.staged(), shop.untouched(), shop.remains()) == ([], [], [])
    assert shop.restore()["status"] == "completed"


def test_staging_that_cannot_be_removed_is_a_warning_and_goes_with_the_next_operation(shop: Shop) -> None:
    [pod] = shop.cluster.pods
    shop.when(b"ustar", successor=False)
    ended = shop.restore()
    [part] = ended["result"]["components"]
    assert (part["code"], code_of(part["warnings"])) == ("stream_cut", ["staging_left"]), ended
    assert "ended before its end was confirmed" in part["message"]
    assert "has no running pod" in part["warnings"][0]["message"]
    [left] = shop.service.until(shop.remains, lambda found: found[0]["attempts"] == 1)
    assert left["folder"] == part["warnings"][0]["subject"]
    assert len(shop.staged()) == 1
    shop.cluster.pods.append(replace(pod, name="web-2"))
    backup = shop.service.backup(shop.domain)
    assert (backup["status"], shop.staged(), shop.remains()) == ("completed", [], []), backup
    assert shop.untouched() == []


def test_a_swap_that_cannot_be_undone_says_why_it_stopped(shop: Shop) -> None:
    [pod] = shop.cluster.pods
    shop.when(b"defaced\0", successor=False)
    ended = shop.restore()
    assert ended["error_code"] == "swap_unfinished", ended
    assert "stopped half-way (The output of sh ended before" in ended["error_message"]
    shop.cluster.pods.append(replace(pod, name="web-2"))
    assert shop.restore()["status"] == "completed"
    shop.service.until(lambda: [*shop.staged(), *shop.remains()], lambda found: not found)


@pytest.mark.parametrize("gone", [False, True], ids=["meanwhile", "before"])
def test_the_old_site_that_could_not_be_removed_is_a_warning_and_goes_with_the_next_operation(
    shop: Shop, gone: bool
) -> None:
    """The pod goes while the replaced tree is removed, or right before: that it is gone does not mean that the tree
    is."""
    [pod] = shop.cluster.pods
    if gone:
        looked = False

        def watch(_: Pod, data: bytes) -> None:
            nonlocal looked
            if b"mountinfo" in data and (shop.root / "d01").exists():
                looked = True
            elif looked and not data:
                shop.cluster.watching = None
                shop.delete(successor=False)

        shop.cluster.watching = watch
    else:
        shop.when(b"rm -f -- times new-times", successor=False)
    ended = shop.restore()
    assert ended["status"] == "completed", ended
    path = f"/api/operations/{ended['id']}"
    told = shop.service.until(
        lambda: shop.service.call("GET", path)["result"]["components"][0]["warnings"], lambda found: found
    )
    assert code_of(told) == ["staging_left"]
    assert [Path(one["folder"]).name for one in shop.remains()] == [path.name for path in shop.staged()] != []
    shop.cluster.pods.append(replace(pod, name="web-2"))
    assert shop.service.backup(shop.domain)["status"] == "completed"
    assert (shop.staged(), shop.remains()) == ([], [])


def test_what_nobody_remembers_is_found_by_its_name(shop: Shop) -> None:
    """As an earlier version has left it."""
    restored = shop.restore()
    assert restored["status"] == "completed", restored
    shop.service.until(lambda: [*shop.staged(), *shop.remains()], lambda found: not found)
    ours, old, unknown = (
        shop.root / f".liberu-restore-{name}" for name in (f"{restored['uid']}-1", f"{restored['uid']}-2", "x-1")
    )
    for folder in (ours, old, unknown):
        (folder / "new").mkdir(parents=True)
        folder.chmod(0o700)
    (old / "old").mkdir()
    (old / "old" / "index.php").write_text("what was live")
    theirs = shop.root / f".liberu-restore-{restored['uid']}-3"
    theirs.mkdir()
    os.chown(theirs, SITE_UID, SITE_UID)
    backup = shop.service.backup(shop.domain)
    assert set(shop.staged()) == {old, unknown, theirs}, "what was live, or is not known, is never removed"
    left = [one["subject"] for one in backup["components"][0]["warnings"] if one["code"] == "staging_left"]
    assert {Path(name).name for name in left} == {old.name, unknown.name}
    assert shop.remains() == []

"""The pod of a database goes while it is backed up or restored: the part is begun again in its successor."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from demo.docker_engine import gnu_root
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double
from demo.servers import MariadbServer
from demo.service import Service
from tests.database_servers import mariadb

__all__ = ["mariadb"]

PASSWORD = "blog-pw"


@dataclass
class Blog:
    """A database in a pod, whose server is here; its successors reach the same one."""

    cluster: ClusterDouble
    service: Service
    domain: dict[str, Any]
    run: Callable[[str], str]
    count: int = 0

    def sum(self) -> str:
        return self.run("CHECKSUM TABLE posts")

    def deleted(self) -> None:
        [pod] = self.cluster.pods
        self.count += 1
        self.cluster.events.append((pod.uid, "Killing", "Stopping container"))
        self.cluster.replace(pod, replace(pod, name=f"db-{self.count}", uid=f"db-{self.count}"))

    def ending(self) -> None:
        """It is told to end: its server hangs up, and what runs in it may go on."""
        [pod] = self.cluster.pods
        self.count += 1
        pod.deleted = True
        self.cluster.pods.append(replace(pod, name=f"db-{self.count}", uid=f"db-{self.count}", deleted=False))
        self.run("KILL USER blog@localhost; KILL USER boss@localhost")

    def when(self, text: bytes | None, end: Callable[[Blog], None] = deleted) -> None:
        """Let the pod end when a command gets this as input, or, with None, once 400 KB were read from it."""
        seen = 0

        def over(_: Pod, data: bytes) -> None:
            nonlocal seen
            seen += len(data)
            if text in data if text is not None else seen > 400_000:
                self.cluster.watching = self.cluster.hearing = None
                end(self)

        if text is None:
            self.cluster.hearing = over
        else:
            self.cluster.watching = over

    def backup(self) -> dict[str, Any]:
        return self.service.backup(self.domain, "database")

    def restore(self, backup: dict[str, Any]) -> dict[str, Any]:
        path = f"/api/backups/{backup['id']}/restore"
        return self.service.wait(self.service.call("POST", path, 202, json={"clear_existing": True}))


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        yield started


@pytest.fixture(scope="module")
def service(cluster: ClusterDouble) -> Iterator[Service]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-test-"))
    made = Service(
        folder, LIBERU_RESTORES__TIDY_SECONDS="3600", LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig()),
        LIBERU_DEPLOYMENTS__ROLLOUT_SECONDS="2", LIBERU_JOBS__PART_WAIT_SECONDS="10",
    )  # fmt: skip
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["admin", "in_place"])
def blog(
    cluster: ClusterDouble, service: Service, mariadb: MariadbServer, request: pytest.FixtureRequest
) -> Iterator[Blog]:
    name = f"blog-{secrets.token_hex(4)}"
    root = cluster.root(name)
    gnu_root(root, ("mariadb", "mariadb-dump"))
    cluster.mount(root)
    (root / "run/mysqld").mkdir()
    os.link(mariadb.socket, root / "run/mysqld/mysqld.sock")
    cluster.pods[:] = [Pod(name, "db-0", {"app": f"{name}-example-com-db"}, {"mysql": root})]
    mariadb.run(
        f"CREATE OR REPLACE DATABASE blog; CREATE OR REPLACE USER blog@localhost IDENTIFIED BY '{PASSWORD}';"
        f"GRANT ALL ON blog.* TO blog@localhost; CREATE OR REPLACE USER boss@localhost IDENTIFIED BY '{PASSWORD}';"
        "GRANT ALL ON *.* TO boss@localhost WITH GRANT OPTION"
    )
    mariadb.run("CREATE TABLE posts AS SELECT seq AS id, SHA2(seq, 512) AS text FROM mysql.seq_1_to_20000", "blog")
    admin = {"admin_username": "boss", "admin_password": PASSWORD} if request.param == "admin" else {}
    domain = service.call("POST", "/api/domains", 201, json={
        "domain_name": f"{name}.example.com", "deployment": {"type": "kubernetes", "namespace": name},
        "databases": [{"engine": "mariadb", "name": "blog", "username": "blog", "password": PASSWORD, **admin}],
    })  # fmt: skip
    yield Blog(cluster, service, domain, partial(mariadb.run, database="blog"))
    cluster.watching = cluster.hearing = None


def warned(part: dict[str, Any]) -> str:
    [message] = [warning["message"] for warning in part["warnings"] if warning["code"] == "tried_again"]
    assert isinstance(message, str)
    return message


def test_a_dump_and_a_restore_go_on_in_the_successor(blog: Blog) -> None:
    before = blog.sum()
    blog.when(None)
    backup = blog.backup()
    [part] = backup["components"]
    assert (backup["status"], part["place"]["pod"]) == ("completed", "db-1"), backup
    assert "db-0 was deleted: Killing" in warned(part)
    blog.run("DELETE FROM posts WHERE id > 10; CREATE TABLE hacked (a int)")
    blog.when(b"INSERT INTO `posts`")
    ended = blog.restore(backup)
    assert ended["status"] == "completed", ended
    assert "db-1 was deleted" in warned(ended["result"]["components"][0])
    assert (blog.sum(), blog.run("SHOW TABLES")) == (before, "posts")
    blog.service.until(
        lambda: blog.service.call("GET", f"/api/domains/{blog.domain['id']}/remains"), lambda found: found == []
    )


def test_a_server_that_ends_before_its_pod_has_cut_the_dump_off(blog: Blog) -> None:
    blog.when(None, Blog.ending)
    backup = blog.backup()
    [part] = backup["components"]
    assert (backup["status"], part["place"]["pod"]) == ("completed", "db-1"), backup
    assert "db-0 is being deleted" in warned(part)


@pytest.mark.parametrize("blog", ["admin"], indirect=True)
def test_a_backup_whose_proof_is_cut_off_is_a_backup(blog: Blog) -> None:
    blog.when(b"INSERT INTO `posts`")
    backup = blog.backup()
    [part] = backup["components"]
    assert backup["status"] == "completed", backup
    assert "proof_not_done" in [warning["code"] for warning in part["warnings"]]
    assert blog.count == 1

"""Backup and restore through the API of sites that run elsewhere: on a server over SSH, in containers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.deployments.kubernetes_access import NEEDED
from demo.docker_engine import gnu_root
from demo.docker_site import DockerPlace, docker_site
from demo.kubernetes_double import TOKEN, Pod, cluster_double
from demo.sample_databases import SampleMariadb, SamplePostgresql
from demo.sample_files import differences, make_site, snapshot
from demo.sample_mail import ADDRESSES, SampleMail
from demo.servers import mariadb_server, postgresql_server
from demo.service import Service
from demo.ssh_servers import ssh_host
from tests.service.conftest import SITE_UID, everything

NAME = "shop.example.com"


@pytest.fixture
def docker(folder: Path) -> Iterator[DockerPlace]:
    for name in ("site", "mail"):
        (folder / name).mkdir()
    with docker_site(NAME, folder / "site", folder / "mail") as place:
        yield place


@pytest.fixture
def docker_service(folder: Path, docker: DockerPlace) -> Iterator[Service]:
    made = Service(folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_DEPLOYMENTS__DOCKER_URL=docker.engine.url)
    made.start()
    yield made
    made.stop()


def sample(folder: Path) -> tuple[Path, SampleMail]:
    root = folder / "site" / "public_html"
    make_site(root, files=200, large=3 << 20, uid=SITE_UID)
    return root, SampleMail(folder / "mail" / NAME, SITE_UID)


def restored(service: Service, backup: dict[str, Any], **body: Any) -> dict[str, Any]:
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True, **body})
    )
    assert ended["status"] == "completed", ended
    places = [f"{depth}.liberu-restore-*" for depth in ("", "*/", "*/*/")]
    service.until(lambda: [x for place in places for x in service.folder.glob(place)], lambda found: not found)
    return ended


def same(before: dict[Any, Any], root: Path) -> None:
    """The folder's own time is put back right after the former tree was removed."""
    Service.until(lambda: differences(before, snapshot(root)), lambda found: not found, 20)


@pytest.mark.parametrize("sudo", [False, True])
def test_a_server_over_ssh(service: Service, folder: Path, sudo: bool) -> None:
    root, mail = sample(folder)
    with ssh_host(sudo=sudo) as host, mariadb_server() as mariadb, postgresql_server() as postgresql:
        shop, crm = SampleMariadb(mariadb), SamplePostgresql(postgresql)
        body: dict[str, Any] = {
            "domain_name": NAME, "document_root": str(root), "mail_path": str(mail.folder),
            "deployment": host.configuration, "databases": [shop.row, crm.row],
            "mailboxes": [{"email_address": address} for address in ADDRESSES],
        }  # fmt: skip
        domain = service.call("POST", "/api/domains", 201, json=body)
        assert "private_key" not in domain["deployment"]
        before = snapshot(root), shop.checksum(), crm.checksum(), mail.messages()
        backup = service.backup(domain, "full")
        assert backup["status"] == "completed", backup
        shutil.rmtree(root / "d01")
        (root / "hacked.php").write_text("<?php")
        shop.damage(), crm.damage(), mail.damage()
        restored(service, backup)
        same(before[0], root)
        assert (shop.checksum(), crm.checksum()) == before[1:3]
        assert before[3].items() <= mail.messages().items()
        pinned = service.call("GET", f"/api/domains/{domain['id']}")["deployment"]["host_key"]
        assert pinned == host.host_key
        again = {name: value for name, value in host.configuration.items() if name != "private_key"}
        changed = service.call("PUT", f"/api/domains/{domain['id']}", json={**body, "deployment": again})
        assert changed["deployment"]["host_key"] == pinned, "and the key stays, for the same account"
        elsewhere = {**body, "deployment": {**again, "port": 1}}
        service.call("PUT", f"/api/domains/{domain['id']}", 422, json=elsewhere)
        other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIIII"
        service.call("PUT", f"/api/domains/{domain['id']}", json={**body, "deployment": {**again, "host_key": other}})
        refused = service.backup(domain)
        assert (refused["status"], refused["components"][0]["error_code"]) == ("failed", "deployment_key_mismatch")
        secret = host.configuration["private_key"].splitlines()[2]
        assert secret.encode() not in everything(service)
        assert secret not in json.dumps(service.call("GET", "/api/domains"))


def test_containers_are_found_and_their_database_knows_its_accounts(
    docker: DockerPlace, docker_service: Service, folder: Path
) -> None:
    service = docker_service
    root, mail = sample(folder)
    docker.mariadb.run("CREATE DATABASE shop CHARACTER SET utf8mb4")
    docker.mariadb.run("CREATE TABLE orders AS SELECT seq AS id, SHA1(seq) AS note FROM mysql.seq_1_to_20000", "shop")
    body: dict[str, Any] = {
        "domain_name": NAME, "document_root": "/var/www/html/public_html", "mail_path": f"/var/mail/{NAME}",
        "deployment": {"type": "docker"}, "databases": [{"engine": "mariadb", "name": "shop"}],
        "mailboxes": [{"email_address": address} for address in ADDRESSES],
    }  # fmt: skip
    domain = service.call("POST", "/api/domains", 201, json=body)
    found = service.call("POST", f"/api/domains/{domain['id']}/detect-deployment")
    assert found["uses"] == {
        "files": {"container": f"{NAME}_web"}, "database": {"container": f"{NAME}_database"},
        "mail": {"container": "dovecot"},
    }  # fmt: skip
    before = snapshot(root), docker.mariadb.run("CHECKSUM TABLE orders", "shop"), mail.messages()
    backup = service.backup(domain, "full")
    assert backup["status"] == "completed", backup
    shutil.rmtree(root / "d01")
    (root / "hacked.php").write_text("<?php")
    docker.mariadb.run("DELETE FROM orders WHERE id > 10; CREATE TABLE hacked (a int)", "shop")
    mail.damage()
    restored(service, backup)
    same(before[0], root)
    assert docker.mariadb.run("CHECKSUM TABLE orders", "shop") == before[1]
    assert docker.mariadb.run("SHOW TABLES", "shop") == "orders"
    assert before[2].items() <= mail.messages().items()

    # What runs in containers restores onto this machine.
    shutil.rmtree(root / "d02")
    target: dict[str, Any] = {"domain_name": "moved.example.com", "document_root": str(folder / "moved")}
    (folder / "moved").mkdir()
    shutil.chown(folder / "moved", SITE_UID, SITE_UID)
    target_id = service.call("POST", "/api/domains", 201, json={**target, "deployment": {"type": "standalone"}})["id"]
    restored(service, backup, target_domain_id=target_id, components=[1])
    same(before[0], folder / "moved")

    docker.engine.run("stop", "-t", "0", f"{NAME}_web")
    stopped = service.backup(domain, "full")
    assert stopped["status"] == "completed", "its files are read all the same"
    again = service.wait(service.call("POST", f"/api/backups/{stopped['id']}/restore", 202, json={"components": [1]}))
    assert (again["status"], again["error_code"]) == ("failed", "consent_required"), again
    docker.engine.run("stop", "-t", "0", f"{NAME}_database")
    stopped = service.backup(domain, "full")
    assert stopped["status"] == "partial", stopped
    part = stopped["components"][1]
    assert (part["error_code"], "is exited" in part["error_message"]) == ("target_missing", True), part
    docker.engine.run("rm", f"{NAME}_web")
    for name in ("one", "two"):
        docker.engine.container(name, "gnu:1", "sleep", "1000", options=["-l", f"liberu.domain={NAME}"])
    assert service.backup(domain)["components"][0]["error_code"] == "target_ambiguous"
    docker.engine.stop()
    away = service.backup(domain)
    assert (away["status"], away["components"][0]["error_code"]) == ("failed", "deployment_unreachable")
    assert "does dockerd run?" in away["components"][0]["error_message"]


def test_where_a_domain_runs_is_found_out_and_told(
    docker: DockerPlace, docker_service: Service, folder: Path
) -> None:
    service = docker_service
    info = service.call("GET", "/api/deployment")
    assert (info["mode"], info["is_docker"], info["is_standalone"]) == ("docker", True, False)

    def detected(name: str, root: str) -> dict[str, Any]:
        domain = service.call("POST", "/api/domains", 201, json={"domain_name": name, "document_root": root})
        found: dict[str, Any] = service.call("POST", f"/api/domains/{domain['id']}/detect-deployment")
        return found

    plain = folder / "plain"
    plain.mkdir()
    found = detected("plain.example.com", str(plain))
    assert (found["type"], found["reason"]) == ("standalone", f"{plain} is on this machine")
    assert [probe["type"] for probe in found["probes"]] == ["kubernetes", "docker", "standalone"]
    found = detected(NAME, str(folder / "nowhere"))
    assert (found["type"], found["uses"]["files"]) == ("docker", {"container": f"{NAME}_web"})
    docker.engine.container("both.example.com", "gnu:1", "sleep", "1000")
    both = folder / "both"
    both.mkdir()
    found = detected("both.example.com", str(both))
    assert found["type"] is None
    assert "several places" in found["reason"]
    domain = service.call("GET", "/api/domains?search=both")["data"][0]
    refused = service.backup(domain)
    assert (refused["status"], refused["operation"]["error_code"]) == ("failed", "target_ambiguous")


def test_pods(folder: Path) -> None:
    with cluster_double() as cluster, mariadb_server() as mariadb:
        root = cluster.root("web")
        gnu_root(root)
        cluster.mount(root)
        name = NAME.replace(".", "-")
        cluster.hosts[f"hosting-{name}"] = [NAME, f"www.{NAME}"]
        for app, pod in ((name, "web-1"), ("dovecot", "dovecot-0")):
            cluster.pods.append(Pod(f"hosting-{name}", pod, {"app": app}, {"web": root}))
        inside, mail = root / "site/public_html", SampleMail(root / f"mail/{NAME}", SITE_UID)
        make_site(inside, files=200, large=3 << 20, uid=SITE_UID)
        shop = SampleMariadb(mariadb)
        # A database in a pod of its own: its client and its socket are there, and its accounts in the Secret.
        inner = cluster.root("db")
        gnu_root(inner, ("mariadb", "mariadb-dump"))
        cluster.mount(inner)
        (inner / "run/mysqld").mkdir()
        os.link(mariadb.socket, inner / "run/mysqld/mysqld.sock")
        cluster.pods.append(Pod(f"hosting-{name}", f"{name}-db-0", {"app": f"{name}-db"}, {"mysql": inner}))
        mariadb.run(
            "CREATE DATABASE blog CHARACTER SET utf8mb4; CREATE USER blog@localhost IDENTIFIED BY 'blog-pw';"
            "GRANT ALL ON blog.* TO blog@localhost; ALTER USER root@localhost IDENTIFIED BY 'root-pw'"
        )
        mariadb.run("CREATE TABLE posts AS SELECT seq AS id, SHA1(seq) AS text FROM mysql.seq_1_to_20000", "blog")
        posts = mariadb.run("CHECKSUM TABLE posts", "blog")
        cluster.secrets[f"hosting-{name}", f"{name}-credentials"] = {
            "MYSQL_USER": "blog", "MYSQL_PASSWORD": "blog-pw", "MYSQL_ROOT_PASSWORD": "root-pw",
        }  # fmt: skip
        service = Service(
            folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", LIBERU_DEPLOYMENTS__KUBECONFIG=str(cluster.kubeconfig())
        )
        service.start()
        try:
            body = {
                "domain_name": NAME, "document_root": "/site/public_html", "mail_path": f"/mail/{NAME}",
                "databases": [shop.row, {"engine": "mariadb", "name": "blog"}],
                "mailboxes": [{"email_address": address} for address in ADDRESSES],
                "deployment": {"type": "kubernetes"},
            }  # fmt: skip
            domain = service.call("POST", "/api/domains", 201, json=body)
            before = snapshot(inside), shop.checksum(), mail.messages()
            backup = service.backup(domain, "full")
            assert backup["status"] == "completed", backup
            shutil.rmtree(inside / "d01")
            shop.damage(), mail.damage()
            mariadb.run("DELETE FROM posts WHERE id > 10; CREATE TABLE hacked (a int)", "blog")
            ended = service.wait(
                service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
            )
            assert ended["status"] == "completed", ended
            service.until(lambda: list(inside.glob(".liberu-restore-*")), lambda found: not found)
            same(before[0], inside)
            assert shop.checksum() == before[1]
            assert (mariadb.run("CHECKSUM TABLE posts", "blog"), mariadb.run("SHOW TABLES", "blog")) == (
                posts,
                "posts",
            )
            assert before[2].items() <= mail.messages().items()

            # Without the right to read a Secret: what the container was given, and a file that it names.
            cluster.denied = {"get secrets"}
            (inner / "run/password").write_text("blog-pw\n")
            cluster.pods[-1].secret_env = {
                "MARIADB_USER": "blog", "MARIADB_PASSWORD_FILE": "/run/password", "MARIADB_ROOT_PASSWORD": "root-pw",
            }  # fmt: skip
            backup = service.backup(domain, "database")
            assert backup["status"] == "completed", backup
            mariadb.run("DELETE FROM posts WHERE id > 10", "blog")
            ended = service.wait(service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={}))
            assert ended["status"] == "completed", ended
            assert mariadb.run("CHECKSUM TABLE posts", "blog") == posts
            assert cluster.asked <= {f"{needed.verb} {needed.resource}" for needed in NEEDED}
            cluster.denied = set()

            sniffed = service.call("POST", "/api/domains", 201, json={
                "domain_name": "other.example.com", "document_root": str(folder / "nowhere"),
            })  # fmt: skip
            found = service.call("POST", f"/api/domains/{sniffed['id']}/detect-deployment")
            assert "no pod matches" in found["probes"][0]["reason"]
            cluster.pods.append(Pod("hosting-other-example-com", "p", {"app": "other-example-com"}, {"web": root}))
            found = service.call("POST", f"/api/domains/{sniffed['id']}/detect-deployment")
            assert found["type"] is None
            assert "cannot be told from its name" in found["reason"]
            cluster.hosts["hosting-other-example-com"] = ["other.example.com"]
            found = service.call("POST", f"/api/domains/{sniffed['id']}/detect-deployment")
            assert (found["type"], found["reason"]) == ("kubernetes", "pods that match: p")
            cluster.denied = {"list pods"}
            denied = service.backup(domain, "files")
            assert (denied["status"], denied["components"][0]["error_code"]) == ("failed", "deployment_refused")
            kept = everything(service)
            assert not any(secret in kept for secret in (TOKEN.encode(), b"blog-pw", b"root-pw"))
        finally:
            service.stop()

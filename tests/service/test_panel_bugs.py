"""What the panel's own backup code got wrong; each line has a test, here or where its part is tested.

A failed dump, or an archive that was not written, was called completed
    test_full: a wrong password is partial; test_main_job: a destination that runs full fails; components: cut dumps
Restore looked in the wrong folder, restored nothing and returned true
    test_main_job: backup, damage, restore; test_files: what was extracted is compared with the member list
Everything was held in memory; a failed upload was ignored; deleting never touched the stored copy
    benchmarks/memory.py; test_main_job: delete removes every byte at the destination
`clear_existing` removed nothing; e-mail backups and restores did not exist; mail was left out elsewhere
    test_main_job (an added file is gone), test_files (newer files stay without it), and below
Secrets in clear and on command lines
    test_full, test_mysql and test_main_job look for the password in every file and answer; below for the processes
Archives were extracted at / as root; tenants' SQL ran as the superuser; option injection; folders others could read
    test_files: owners, links, mount points, exclusions are no options; test_postgresql and test_mysql: an
    administrator is refused; test_local: readable by the service alone
Any tenant could change everyone's things
    test_access: another user's things do not exist
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.sample_mail import ADDRESSES, SampleMail
from demo.servers import PostgresqlServer, postgresql_server
from demo.service import Service
from tests.service.conftest import SITE_UID


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    with postgresql_server() as started:
        started.run("CREATE ROLE shop LOGIN PASSWORD 'canary-pw'")
        started.run("CREATE DATABASE shop OWNER shop")
        started.run("CREATE TABLE t (id int)", "shop", "shop", "canary-pw")
        yield started


def test_no_password_is_on_a_command_line(service: Service, server: PostgresqlServer) -> None:
    database = {
        "engine": "postgresql", "name": "shop", "username": "shop", "password": "canary-pw",
        "host": "127.0.0.1", "port": server.port,
    }  # fmt: skip
    domain = service.call(
        "POST", "/api/domains", 201, json={"domain_name": "cli.example.com", "databases": [database]}
    )
    with server.locked("t", "shop"):  # pg_dump waits, so it can be looked at
        started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "database"})
        running = service.until(_command_lines, lambda found: b"pg_dump" in found)
    assert b"canary-pw" not in running
    assert service.wait(started)["status"] == "completed"


def _command_lines() -> bytes:
    found = []
    for number in os.listdir("/proc"):
        try:
            found.append(Path("/proc", number, "cmdline").read_bytes())
        except OSError:  # no process, or it has ended
            continue
    return b"\n".join(found)


def test_email_alone_is_backed_up_and_restored(service: Service, folder: Path) -> None:
    mail = SampleMail(folder / "mail" / "shop.example.com", SITE_UID if os.geteuid() == 0 else -1)
    body = {
        "domain_name": "mail.example.com",
        "mail_path": str(mail.folder),
        "mailboxes": [{"email_address": address} for address in ADDRESSES],
    }
    before = mail.messages()
    backup = service.backup(service.call("POST", "/api/domains", 201, json=body), "email")
    assert (backup["status"], [part["kind"] for part in backup["components"]]) == ("completed", ["mail"])
    mail.damage()
    ended = service.wait(
        service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
    )
    assert ended["status"] == "completed", ended
    after = mail.messages()
    assert {name: after.get(name) for name in before} == before
    assert len(after) == len(before) + 1, "what was delivered since is kept"

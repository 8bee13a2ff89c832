"""`make demo DESTINATION=… DEPLOYMENT=…`: a sample site is backed up, damaged, restored and compared, all on this
machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.table import Table

from demo.destinations import SERVERS
from demo.docker_site import docker_site
from demo.sample_databases import SampleMariadb, SamplePostgresql
from demo.sample_files import differences, make_site, snapshot
from demo.sample_mail import ADDRESSES, SampleMail
from demo.servers import mariadb_server, postgresql_server
from demo.service import Service
from demo.ssh_servers import ssh_host

#: The site's user: any number from 1000 will do, no account is made.
SITE_UID = 23456

DEPLOYMENTS = ("standalone", "ssh", "docker")

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder that is removed at the end, on a file system that keeps extended attributes."""
    for parent in (tempfile.gettempdir(), "/var/tmp", str(Path.cwd())):
        folder = Path(tempfile.mkdtemp(prefix="liberu-demo-", dir=parent))
        folder.chmod(0o755)
        try:
            os.setxattr(folder, "user.probe", b"1")
        except OSError:
            folder.rmdir()
            continue
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
        return
    sys.exit("No folder here keeps extended attributes: set TMPDIR to one on ext4, xfs or btrfs")


def watch(service: Service, operation: dict[str, Any], title: str) -> dict[str, Any]:
    """Follow an operation's events with a progress bar; return it when it has ended."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[parts]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar, service.client() as client:
        task = bar.add_task(title, total=operation.get("bytes_total"), parts="")
        with client.stream("GET", f"/api/operations/{operation['id']}/events", timeout=600) as events:
            for line in events.iter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    running = [p["name"] for p in event["components"].values() if p["state"] == "running"]
                    bar.update(
                        task,
                        completed=event["bytes_done"],
                        total=event["bytes_total"],
                        parts=escape(", ".join(running)),
                    )
        ended: dict[str, Any] = service.wait(operation)
        bar.update(task, completed=ended["bytes_done"], total=ended["bytes_done"], parts=ended["status"])
    if ended["status"] != "completed":
        sys.exit(f"The {title} ended as {ended['status']}: {ended['error_message']}")
    return ended


def size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def show(backup: dict[str, Any]) -> None:
    table = Table("component", "content", "stored", "seconds", title="What the backup holds")
    for part in backup["components"]:
        label = part["name"] if part["kind"] in ("files", "mail") else f"{part['kind']} {part['name']}"
        seconds = f"{part['duration_seconds']:.1f}"
        table.add_row(label, size(part["plain_size"]), size(part["stored_size"]), seconds)
    console.print(table)
    for part in backup["components"]:
        for warning in part["warnings"]:
            console.print(f"  note: {part['name']}: {escape(str(warning['subject']))}: {escape(warning['message'])}")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    started = time.monotonic()
    root = os.geteuid() == 0
    uid = SITE_UID if root else -1
    with ExitStack() as stack:
        folder = stack.enter_context(workplace())
        console.print(f"[bold]Liberu Backup demo[/bold], everything below {folder}, removed at the end\n")
        kind, runs = [*sys.argv[1:], *("local", "standalone")[len(sys.argv) - 1 :]][:2]
        if kind not in ("local", *SERVERS) or runs not in DEPLOYMENTS:
            usage = f"make demo DESTINATION={'|'.join(['local', *SERVERS])} DEPLOYMENT={'|'.join(DEPLOYMENTS)}"
            sys.exit(f"usage: {usage}")
        where = "local disk" if kind == "local" else f"a private {kind} server"
        console.print(f"1. Starting a private MariaDB, a private PostgreSQL and the service (SQLite, {where})")
        if kind == "local":
            place = {"type": "local", "configuration": {"path": str(folder / "backups")}}
        else:
            server = stack.enter_context(SERVERS[kind]())
            place = {"type": server.type, "configuration": server.fresh()}
        setting: dict[str, Any] = {"type": runs}
        env: dict[str, str] = {}
        inside: dict[str, str] = {}
        if runs == "docker":
            console.print("   ... and a private Docker engine with a web, a mail and a MariaDB container")
            for name in ("site", "mail"):
                (folder / name).mkdir()
            docker = stack.enter_context(docker_site("shop.example.com", folder / "site", folder / "mail"))
            mariadb = SampleMariadb(docker.mariadb, in_container=True)
            env = {"LIBERU_DEPLOYMENTS__DOCKER_URL": docker.engine.url}
            inside = {
                "document_root": "/var/www/html/public_html", "mail_path": "/var/mail/shop.example.com",
            }  # fmt: skip
        else:
            mariadb = SampleMariadb(stack.enter_context(mariadb_server()))
        if runs == "ssh":
            console.print("   ... and a private SSH server, over which the site is reached")
            setting = stack.enter_context(ssh_host()).configuration
        postgresql = SamplePostgresql(stack.enter_context(postgresql_server()))
        # What a restore replaced would be kept for a day, in the folder that is compared.
        service = Service(folder, LIBERU_RESTORES__KEEP_REPLACED_HOURS="0", **env)
        stack.callback(service.stop)
        service.start()

        console.print("2. Making a sample site: files, two databases, two maildirs")
        site = folder / "site" / "public_html"
        make_site(site, uid=uid)
        mail = SampleMail(folder / "mail" / "shop.example.com", uid)
        if not root:
            console.print("   (not root: the files belong to you; owners are compared all the same)")
        before = snapshot(site), mariadb.checksum(), postgresql.checksum(), mail.messages()
        console.print(f"   {len(before[0]):,} files and folders, 4 tables of 20,000 rows, {len(before[3])} messages")

        console.print("3. Registering it through the API, with an encrypted destination")
        service.call("POST", "/api/backup-destinations", 201, json={
            "name": "Demo", "encrypt": True, "is_default": True, **place,
        })  # fmt: skip
        domain = service.call("POST", "/api/domains", 201, json={
            "domain_name": "shop.example.com", "document_root": str(site), "mail_path": str(mail.folder),
            "databases": [mariadb.row, postgresql.row], "deployment": setting,
            "mailboxes": [{"email_address": address} for address in ADDRESSES], **inside,
        })  # fmt: skip

        console.print("4. Full backup")
        request = {"domain_id": domain["id"], "type": "full"}
        operation = service.call("POST", "/api/backups", 202, json=request)
        watch(service, operation, "backup")
        backup = service.call("GET", f"/api/backups/{operation['backup_id']}")
        show(backup)
        took = f"{backup['duration_seconds']:.1f} s"
        proof = backup["copies"][0]["verification"].replace("_", " ")
        console.print(f"   {backup['status']}: {size(backup['file_size'])} stored in {took}, verification: {proof}")

        console.print("5. Damaging the site")
        (site / "large.bin").unlink()
        (site / "hard-2").write_text("ruined")
        shutil.rmtree(site / "d05")
        (site / "hacked.php").write_text("<?php")
        (site / "mode-600").chmod(0o666)
        console.print("   files: a folder and a file deleted, one overwritten, one added, a mode changed")
        console.print(
            f"   MariaDB: {mariadb.damage()}\n   PostgreSQL: {postgresql.damage()}\n   mail: {mail.damage()}"
        )

        console.print("6. Restoring it")
        ended = watch(
            service,
            service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True}),
            "restore",
        )
        for part in ended["result"]["components"]:
            console.print(f"   {part['name']}: {part['status']}")

        places = [f"{depth}.liberu-restore-*" for depth in ("", "*/", "*/*/")]
        Service.until(lambda: [x for place in places for x in folder.glob(place)], lambda found: not found)

        console.print("7. Comparing with what was there before")
        wrong = compare(before, (snapshot(site), mariadb.checksum(), postgresql.checksum(), mail.messages()))
        service.stop()
    if wrong:
        console.print("[bold red]Not everything came back.[/bold red]")
        sys.exit(1)
    seconds = time.monotonic() - started
    console.print(
        f"[bold green]Everything came back.[/bold green] {seconds:.0f} s. Removed: {folder}; servers ended."
    )


def compare(before: tuple[Any, ...], after: tuple[Any, ...]) -> list[str]:
    wrong = [f"files: {line}" for line in differences(before[0], after[0])]
    for name, old, new in zip(("MariaDB", "PostgreSQL"), before[1:3], after[1:3], strict=True):
        wrong += [] if old == new else [f"{name}: checksums, views, triggers or routines differ"]
    lost = [name for name, text in before[3].items() if after[3].get(name) != text]
    extra = len(after[3]) - len(before[3])
    wrong += [f"mail: {name}" for name in lost] + ([] if extra == 1 else [f"mail: {extra} new messages, 1 expected"])
    for line in wrong[:20]:
        console.print(f"   [red]differs[/red]: {escape(line)}")
    if not wrong:
        console.print(
            f"   files: {len(after[0]):,} compared by content, mode, owner, mtime, links, xattrs and ACLs: same"
        )
        console.print("   MariaDB, PostgreSQL: table checksums, views, triggers, routines: same")
        console.print(f"   mail: {len(before[3])} messages there, the one delivered since the backup kept")
    return wrong


if __name__ == "__main__":
    main()

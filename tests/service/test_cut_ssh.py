"""A connection to a site's server breaks: the part is begun again on another one."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

from demo.ports import free_port
from demo.sample_files import differences, make_site, snapshot
from demo.service import Service
from demo.ssh_servers import ssh_host
from tests.deployments.cutting_proxy import Line, cutting_proxy
from tests.service.conftest import SITE_UID


def test_a_backup_goes_on_over_another_connection(service: Service, folder: Path) -> None:
    root = folder / "site" / "public_html"
    make_site(root, files=60, large=2 << 20, uid=SITE_UID)
    before, port, lines, ready, ended = snapshot(root), free_port(), list[Line](), threading.Event(), asyncio.Event()

    async def between(server: int) -> None:
        async with cutting_proxy(str(server), str(port)) as line:
            lines.append(line)
            ready.set()
            await ended.wait()

    with ssh_host() as host:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=lambda: loop.run_until_complete(between(host.configuration["port"])))
        thread.start()
        try:
            assert ready.wait(20)
            [line] = lines
            domain = service.call("POST", "/api/domains", 201, json={
                "domain_name": "shop.example.com", "document_root": str(root),
                "deployment": {**host.configuration, "port": port},
            })  # fmt: skip
            line.limit = 1 << 20
            started = service.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": "files"})
            progress = f"/api/operations/{started['id']}"
            told = service.until(
                lambda: service.call("GET", progress)["progress"].get("1", {}), lambda part: part.get("tries") == 2
            )
            line.limit = None
            assert "the site of its files again" in told["waits_for"]
            assert service.wait(started)["status"] == "completed"
            backup = service.call("GET", f"/api/backups/{started['backup_id']}")
            assert [warning["code"] for warning in backup["components"][0]["warnings"]] == ["tried_again"]
            shutil.rmtree(root / "d01")
            restored = service.wait(
                service.call("POST", f"/api/backups/{backup['id']}/restore", 202, json={"clear_existing": True})
            )
            assert restored["status"] == "completed", restored
            service.until(lambda: differences(before, snapshot(root)), lambda found: not found, 20)
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join(20)
            loop.close()

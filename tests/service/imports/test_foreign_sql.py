"""A database of another program's making, through the API: loaded, and loaded again from the backup it became."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demo.servers import MariadbServer
from demo.service import Service
from tests.components.test_mysql_script import PHPMYADMIN
from tests.external.cpanel_account import MAIN, USER, pack
from tests.service.imports.conftest import Place


def test_a_dump_of_phpmyadmin_is_imported_and_restored(
    importing: Service, account: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database], MAIN)
    name = f"{USER}_shop"
    (account / f"mysql/{name}.sql").write_bytes(PHPMYADMIN)
    source = place.give(pack(account, "gz"))
    ended = place.run(source, components=["database"])
    assert ended["status"] == "completed", ended
    [item] = ended["result"]["items"]
    assert [warning["code"] for warning in item["warnings"]] == ["no_end_marker"]
    assert mariadb.run("SELECT COUNT(*) FROM posts; CALL p(); SELECT f()", name).split() == ["4", "a;b", "41"]

    stored = place.run(source, components=["database"], as_backup=True)
    [item] = stored["result"]["items"]
    mariadb.run("DROP TABLE posts", name)
    restore = importing.call("POST", f"/api/backups/{item['backup_id']}/restore", 202, json={"clear_existing": True})
    ended = importing.wait(restore)
    assert ended["status"] == "completed", ended
    assert "no_end_marker" in [warning["code"] for warning in ended["result"]["components"][0]["warnings"]]
    assert mariadb.run("SELECT COUNT(*) FROM posts", name) == "4"

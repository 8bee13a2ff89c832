"""Virtualmin's and Plesk's backups through the API: files, rows and messages are what they were."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.sample_databases import PASSWORD
from demo.servers import MariadbServer, PostgresqlServer
from demo.service import Service
from tests.external import plesk_dump, virtualmin_domain
from tests.external.cpanel_account import MAIN, USER
from tests.external.plesk_dump import ADDON, CIPHER, HASH, PLAIN_PASSWORD, TIME
from tests.external.test_plesk import backslashed
from tests.external.virtualmin_domain import OTHER, SECRETS, SUB
from tests.service.conftest import SITE_UID, everything
from tests.service.imports.conftest import Place, by_target, hashes, owned
from tests.storage.test_ftp import faulty

Layout = Callable[[Path], Path]

VIRTUALMIN: dict[str, Layout] = {
    **{f"home {kind}": lambda folder, kind=kind: virtualmin_domain.home_format(folder, kind)  # type: ignore[misc]
       for kind in ("tar.gz", "tar.bz2", "tar", "zip", "tar.zst")},
    "directory tar.gz": lambda folder: virtualmin_domain.directory_format(folder, "tar.gz"),
    "directory zip": lambda folder: virtualmin_domain.directory_format(folder, "zip", directory="_dir.zip"),
    "older directory": lambda folder: virtualmin_domain.directory_format(folder, "tar.zst", directory="_dir"),
    "by hand": virtualmin_domain.made_by_hand,
}  # fmt: skip


def windows(folder: Path) -> Path:
    plesk_dump.subscription(folder, "zip", "zip")
    for inner in (folder / "dump").glob("backup_*.zip"):
        backslashed(inner)
    return backslashed(plesk_dump.archive(folder / "dump", folder / "windows.zip"))


PLESK: dict[str, Layout] = {
    **{f"subscription {kind} {outer}":
       lambda folder, kind=kind, outer=outer: plesk_dump.subscription(folder, kind, outer)  # type: ignore[misc]
       for kind, outer in (("tgz", "tar"), ("tzst", "tar.gz"), ("zip", "zip"), ("tar", "tar.zst"))},
    "wrapped": lambda folder: plesk_dump.subscription(folder, wrapped=True),
    "server": lambda folder: plesk_dump.server(folder, [MAIN], documents=20),
    "windows": windows,
    "9 to 11": plesk_dump.old_names,
    "by hand": plesk_dump.made_by_hand,
}  # fmt: skip


@pytest.fixture
def expected(folder: Path) -> dict[str, str]:
    """Hashes of the site's files, which are the same for both panels."""
    return hashes(plesk_dump.make_vhost(folder / "expected") / "httpdocs")


def messages(place: Place, name: str = MAIN) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in place.mail():
        address, _, rest = path.partition("/")
        if "/cur/" in f"/{rest}" or "/new/" in f"/{rest}":
            found[address] = found.get(address, 0) + 1
    return found


def emptied(place: Place, mariadb: MariadbServer) -> None:
    mariadb.run("DROP TABLE IF EXISTS orders", f"{USER}_shop")
    for path in [*map(place.root, place.domains), place.site / MAIN / "mail"]:
        shutil.rmtree(path)
        owned(path)


def loaded(mariadb: MariadbServer) -> list[str]:
    return mariadb.run("SELECT COUNT(*), SUM(id), MAX(note) FROM orders", f"{USER}_shop").split()


def test_every_layout_of_virtualmin(
    importing: Service, folder: Path, database: dict[str, Any], mariadb: MariadbServer, expected: dict[str, str]
) -> None:
    place = Place(importing, [database], MAIN)
    for name, make in VIRTUALMIN.items():
        source = place.give(make(folder / f"made-{name}"))
        looked = place.run(source, dry_run=True)
        assert {item["status"] for item in looked["result"]["items"]} == {"ready"}, name
        ended = place.run(source)
        assert ended["status"] == "completed", (name, ended)
        assert place.files(MAIN) == expected, name
        assert loaded(mariadb) == ["3", "6", "x"], name
        counts = {f"info@{MAIN}": 7} if name == "by hand" else {f"info@{MAIN}": 7, f"{USER}@{MAIN}": 1}
        assert messages(place) == counts, name
        assert (place.root(MAIN) / "current").is_symlink()
        emptied(place, mariadb)
        shutil.rmtree(folder / f"made-{name}")
    shutil.rmtree(folder / "import")
    shutil.rmtree(folder / "expected")
    written = everything(importing)
    assert not [secret for secret in SECRETS if secret.encode() in written], "in the data folder or the log"


def test_chosen_domains_of_a_file_with_several(
    importing: Service, folder: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database], MAIN, SUB, OTHER)
    source = place.give(virtualmin_domain.single_file(folder / "made"))
    ended = place.run(source, only=[MAIN, SUB, "missing.example.com"])
    assert ended["status"] == "completed", ended
    assert {item["target"] for item in ended["result"]["items"]} == {MAIN, SUB}
    assert "missing.example.com was asked for" in str(ended["result"]["inventory"]["warnings"])
    for name in (MAIN, SUB):
        assert place.files(name) == hashes(folder / f"made/home-{name}/public_html"), name
    assert place.files(OTHER) == {}
    assert messages(place) == {f"info@{MAIN}": 7, f"{USER}@{MAIN}": 1}
    ended = place.run(source)
    results = by_target(ended)
    assert (ended["status"], results["mail", f"{OTHER}:mail"]["code"]) == ("partial", "invalid_request")
    assert place.files(OTHER) == hashes(folder / f"made/home-{OTHER}/public_html")


def test_every_layout_of_plesk(
    importing: Service, folder: Path, database: dict[str, Any], mariadb: MariadbServer, expected: dict[str, str]
) -> None:
    place = Place(importing, [database], MAIN)
    body = {"databases": [{"source": plesk_dump.DATABASE, "target": f"{USER}_shop"}], "only": [MAIN]}
    for name, make in PLESK.items():
        ended = place.run(place.give(make(folder / f"made-{name}")), **body)
        assert ended["status"] == "completed", (name, ended)
        found = place.files(MAIN)
        if name == "9 to 11":
            assert found.pop("cgi-bin/run.cgi")
        elif name != "by hand":
            assert found.pop("uploads/by-apache.txt")
        assert found == expected, name
        assert loaded(mariadb) == ["3", "6", "x"], name
        assert messages(place) == {f"info@{MAIN}": 7}, name
        emptied(place, mariadb)
        shutil.rmtree(folder / f"made-{name}")
    shutil.rmtree(folder / "import")
    written = everything(importing)
    assert not [secret for secret in (CIPHER, HASH, PLAIN_PASSWORD) if secret.encode() in written]


def test_the_other_sites_of_a_subscription(importing: Service, folder: Path) -> None:
    place = Place(importing, [], MAIN, ADDON, plesk_dump.SUB)
    ended = place.run(place.give(plesk_dump.subscription(folder / "made")), components=["files"])
    assert ended["status"] == "completed", ended
    assert place.files(ADDON).keys() == {"index.php"}
    assert place.files(plesk_dump.SUB).keys() == {"index.php"}
    assert f"info@{MAIN}" in ended["result"]["must_reset"]
    assert "system user shopuser" in ended["result"]["must_reset"]


def differential(folder: Path) -> Path:
    home = virtualmin_domain.make_home(folder / "home")
    shutil.rmtree(home / "public_html")
    (home / "public_html").mkdir()
    (home / "public_html/new.php").write_text("new")
    (home / ".incremental").write_text("1")
    return virtualmin_domain.home_format(folder)


@pytest.mark.parametrize("make", [differential, lambda folder: plesk_dump.incremental(folder, with_full=False)])
def test_what_has_changed_only_is_added_to_what_is_there(importing: Service, folder: Path, make: Layout) -> None:
    place = Place(importing, [], MAIN)
    (place.root(MAIN) / "old.php").write_text("old")
    source = place.give(make(folder / "made"))
    [looked] = place.run(source, dry_run=True, components=["files"])["result"]["items"]
    assert (looked["status"], looked["adds_only"]) == ("ready", True)
    ended = place.run(source, components=["files"])
    assert ended["status"] == "completed", ended
    assert place.files(MAIN).keys() == {"old.php", "new.php"}
    stored = place.run(source, components=["files"], as_backup=True)
    assert (stored["status"], stored["result"]["items"][0]["code"]) == ("failed", "invalid_request")


def test_postgresql_of_both_panels(importing: Service, folder: Path, postgresql: PostgresqlServer) -> None:
    """Custom format, alone and gzipped; plain SQL in an archive."""
    postgresql.run(f"CREATE ROLE panel LOGIN PASSWORD '{PASSWORD}'")
    for name in ("panel_origin", "panel_crm"):
        postgresql.run(f"CREATE DATABASE {name} OWNER panel")
    sql = "CREATE TABLE notes AS SELECT g AS id, 'note ' || g AS text FROM generate_series(1, 500) g"
    postgresql.run(sql, "panel_origin", "panel", PASSWORD)
    row = {
        "engine": "postgresql", "name": "panel_crm", "username": "panel", "password": PASSWORD, "host": "127.0.0.1",
        "port": postgresql.port,
    }  # fmt: skip

    def dumped(format: str) -> bytes:
        command = ["pg_dump", format, "-h", "127.0.0.1", "-p", str(postgresql.port), "-U", "panel", "panel_origin"]
        env = {**os.environ, "PGPASSWORD": PASSWORD}
        return subprocess.run(command, env=env, check=True, capture_output=True).stdout

    features = virtualmin_domain.features()
    packed = features | {"postgres_panel_crm": gzip.compress(dumped("-Fc"))}
    plain = features | {"postgres_panel_crm": dumped("-Fc"), "postgres": b"info\n"}
    element = '<database name="panel_crm" type="postgresql"><content>{}</content></database>'
    folder.joinpath("sql").mkdir()
    (folder / "sql/backup_sqldump").write_bytes(dumped("-Fp"))
    plesk = plesk_dump.Subscription(folder / "plesk")
    plesk_dump.pack_content(folder / "sql", plesk.folder / "databases/panel_crm_2/dump", "tzst")
    plesk.databases = element.format(plesk_dump.cid("sqldump", "dump.tzst", "databases/panel_crm_2"))
    (plesk.folder / f"backup_info_{TIME}.xml").write_text(plesk_dump.dump(plesk.write()))
    place = Place(importing, [row], MAIN)
    for archive in (
        virtualmin_domain.home_format(folder / "packed", found=packed),
        virtualmin_domain.home_format(folder / "plain", found=plain),
        plesk_dump.archive(plesk.folder, folder / "plesk.tar"),
    ):
        ended = place.run(place.give(archive), components=["database"], only=[MAIN])
        results = {item["name"]: item["status"] for item in ended["result"]["items"]}
        assert results["panel_crm"] == "completed", (archive, ended)
        found = postgresql.run("SELECT count(*), max(id) FROM notes", "panel_crm", "panel", PASSWORD)
        assert found == "500|500", archive
        postgresql.run("DROP TABLE notes", "panel_crm", "panel", PASSWORD)


def fifty(folder: Path, panel: str) -> tuple[Path, list[str]]:
    names = [f"site{number}.example.com" for number in range(50)]
    if panel == "plesk":
        return plesk_dump.server(folder, names), names
    top = folder / "features"
    for number, name in enumerate(names):
        home = virtualmin_domain.make_home(folder / f"home-{number}", documents=3 + number)
        features = virtualmin_domain.features(name, f"user{number}", home=f"/home/user{number}")
        wanted = ("virtualmin", "mail_users")
        virtualmin_domain.write_features(top, name, {key: features[key] for key in wanted})
        shutil.copy(virtualmin_domain.archive(home, folder / "nested.tar"), top / f"{name}_dir.tar")
    return virtualmin_domain.archive(top, folder / "fifty.tar"), names


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user")
@pytest.mark.parametrize(("panel", "killed"), [("virtualmin", False), ("plesk", True)])
def test_fifty_domains_are_read_once(importing: Service, folder: Path, panel: str, killed: bool) -> None:
    """Also when the service is killed among them: what has been read and done is not read and done again."""
    archive, names = fifty(folder / "made", panel)
    counted = folder / "counted"
    new = {
        "document_root": f"{folder}/site/{{domain}}/public_html", "mail_path": f"{folder}/site/{{domain}}/mail",
        "system_user": f"{SITE_UID}:{SITE_UID}",
    }  # fmt: skip
    (folder / "ftp").mkdir()
    with faulty(folder / "ftp", f"count={counted}") as ftp:
        (folder / "ftp/data/fifty").write_bytes(archive.read_bytes())
        body: dict[str, Any] = {"name": "ftp", "type": "ftp", "configuration": ftp.configuration}
        made = importing.call("POST", "/api/backup-destinations", 201, json=body)
        counted.unlink(missing_ok=True)
        source = {"type": "destination", "destination_id": made["id"], "key": "fifty"}
        body = {
            "source": source, "user_id": 7, "create": new, "only": names, "components": ["files", "mail"],
            "destination_id": 1,
        }  # fmt: skip
        started = importing.call("POST", "/api/backups/import-external", 202, json=body)
        if killed:
            importing.until(
                lambda: importing.call("GET", f"/api/operations/{started['id']}")["progress"],
                lambda found: sum(entry["state"] == "completed" for entry in found.values()) > 5,
            )
            importing.kill()
            importing.start()
        ended = importing.wait(started, 240)
    assert ended["status"] == "completed", ended["error_message"]
    assert ended["attempt"] == 1 + killed
    read = sum(map(int, counted.read_text().split()))
    assert archive.stat().st_size <= read <= 1.05 * archive.stat().st_size
    items = ended["result"]["items"]
    assert len(items) == 100
    for number, name in enumerate(names):
        site = folder / "site" / name
        assert len(hashes(site / "public_html")) == (5 if panel == "plesk" else 4) + number, name
        assert len(hashes(site / f"mail/info@{name}")) == 7, name

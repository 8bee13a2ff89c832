"""A foreign backup through the API: looked at, imported, all or nothing, gone on with after a crash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.sample_databases import PASSWORD
from demo.servers import MariadbServer, PostgresqlServer
from demo.service import Service
from tests.external.cpanel_account import MAIN, USER, make_account, nest_home, pack
from tests.service.conftest import SITE_UID
from tests.service.imports.conftest import BLOG, Place, by_target, hashes, owned


def staged(root: Path) -> list[str]:
    """A walk, and no glob, for which what is removed meanwhile is an error."""
    return [name for _, folders, files in os.walk(root) for name in [*folders, *files] if ".liberu" in name]


def test_an_account_is_looked_at_and_imported(
    importing: Service, account: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database])
    (place.root(MAIN) / "old.php").write_text("old")
    source = place.give(pack(account, "gz"))
    looked = place.run(source, dry_run=True)
    assert looked["status"] == "completed"
    inventory = looked["result"]["inventory"]
    assert (inventory["format"], inventory["reason"]) == ("cpanel", f"userdata/main and cp/{USER}")
    assert [item["status"] for item in looked["result"]["items"]] == ["ready"] * 5
    assert place.files(MAIN).keys() == {"old.php"}, "a dry run writes nothing"

    ended = place.run(source)
    assert ended["status"] == "completed", ended
    home = account / "homedir"
    expected = hashes(home / "public_html")
    assert place.files(MAIN) == {name: found for name, found in expected.items() if not name.startswith("addon/")}
    assert place.files("addon.example.org") == hashes(home / "public_html/addon")
    assert place.files(BLOG) == hashes(home / "blog_root")
    assert (place.root(MAIN) / "current").readlink() == Path("img/1.bin")
    if os.geteuid() == 0:
        assert (place.root(MAIN) / "index.php").stat().st_uid == SITE_UID
    assert mariadb.run("SELECT COUNT(*), MAX(note) FROM orders", f"{USER}_shop").split() == ["3", "x"]
    assert mariadb.run("SELECT note FROM orders WHERE id = 1", f"{USER}_shop") == "utf8mb4_0900_ai_ci", "data stays"
    mail = place.mail()
    assert f"info@{MAIN}/new/90.host,S=9" in mail
    assert f"{USER}@{MAIN}/cur/7.own:2,S" in mail
    assert len(mail) == 8
    assert ended["result"]["must_reset"] == [f"empty@{MAIN}"]
    boxes = importing.call("GET", f"/api/domains/{place.domains[MAIN]['id']}")["mailboxes"]
    assert {"email_address": f"info@{MAIN}", "quota": 1048576} in boxes, "backed up from now on"
    assert importing.backup(place.domains[MAIN], "full")["status"] == "completed"
    assert "0123456789ABCDEF" not in str(ended), "no password hash leaves the archive"
    again = place.run(source, components=["mail"])
    assert again["result"]["items"][0]["facts"]["added"] == 0, "mail is merged"


def test_a_nested_home_from_a_destination_and_from_an_upload(importing: Service, account: Path) -> None:
    place = Place(importing, [])
    nest_home(account)
    archive = pack(account, "zst")
    (importing.folder / "data/backups").mkdir(exist_ok=True)
    shutil.copy(archive, importing.folder / "data/backups/foreign.tar.zst")
    destination = importing.call("GET", "/api/backup-destinations")["data"][0]["id"]
    source = {"type": "destination", "destination_id": destination, "key": "foreign.tar.zst"}
    ended = place.run(source, components=["files"])
    assert ended["status"] == "completed", ended
    assert place.files(BLOG).keys() == {"index.php"}
    assert len(place.files(MAIN)) == 21
    shutil.rmtree(place.root(BLOG))
    owned(place.root(BLOG).parent / "x").rename(place.root(BLOG))
    taken = importing.call("POST", "/api/backups/uploads", 201, content=archive.read_bytes())
    assert taken["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    ended = place.run({"type": "upload", "upload_id": taken["upload_id"]}, components=["files"])
    assert ended["status"] == "completed", ended
    assert place.files(BLOG).keys() == {"index.php"}
    body = {"source": {"type": "upload", "upload_id": taken["upload_id"]}, "user_id": 7}
    importing.call("POST", "/api/backups/import-external", 404, json=body)


def simplified(account: Path, home: Path) -> tuple[Path, dict[str, Any]]:
    """Made by hand: homedir.tar, mysql and mail, and nothing that names the domain."""
    top = account.parent / "simple"
    (top / "mysql").mkdir(parents=True)
    subprocess.run(["tar", "-cf", str(top / "homedir.tar"), "-C", str(home), "public_html"], check=True)
    shutil.copy(account / f"mysql/{USER}_shop.sql", top / "mysql")
    shutil.copytree(home / f"mail/{MAIN}", top / f"mail/{MAIN}")
    return top, {"domain_name": MAIN}


LAYOUTS = ["wrapped gz", "flat zip", "nested bz2", "older xz", "simplified tar", "home zst"]


def test_every_layout_brings_files_rows_and_messages(
    importing: Service, account: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database])
    home = account / "homedir"
    expected = hashes(home / "public_html")
    main = {name: found for name, found in expected.items() if not name.startswith("addon/")}
    for layout in LAYOUTS:
        name, kind = layout.split()
        body: dict[str, Any] = {}
        top = account
        if name == "simplified":
            top, body = simplified(account, home)
        elif name == "home":
            (home / ".cpanel/datastore").mkdir()
            (home / ".cpanel/datastore/x").write_text("x")
            top, body = home, {"domain_name": MAIN}
        elif name in ("nested", "older"):
            top = Path(shutil.copytree(account, account.parent / name / account.name, symlinks=True))
            if name == "nested":
                nest_home(top)
            else:
                shutil.rmtree(top / "userdata")
                (top / "addons").write_text(f"addon.example.org=addon_{MAIN}\n")
                (top / "sds2").write_text(f"addon_{MAIN}=public_html/addon\nblog_{MAIN}=blog_root\n")
        ended = place.run(place.give(pack(top, kind, wrapped=name != "flat" and name != "simplified")), **body)
        assert ended["status"] == "completed", (layout, ended)
        alone = name in ("simplified", "home")  # one domain, whose folder holds the addon's
        assert place.files(MAIN) == (expected if alone else main), layout
        if not alone:
            assert place.files("addon.example.org") == hashes(home / "public_html/addon"), layout
            assert place.files(BLOG) == hashes(home / "blog_root"), layout
        if name != "home":
            assert mariadb.run("SELECT COUNT(*) FROM orders", f"{USER}_shop") == "3", layout
            mariadb.run("DROP TABLE orders", f"{USER}_shop")
        assert len([path for path in place.mail() if path.startswith("info@")]) == 7, layout
        for site in place.domains:
            shutil.rmtree(place.root(site))
            owned(place.root(site))
        shutil.rmtree(place.site / MAIN / "mail")
        owned(place.site / MAIN / "mail")


def test_password_hashes_only_when_asked_and_permitted(importing: Service, account: Path, folder: Path) -> None:
    place = Place(importing, [], MAIN)
    source = place.give(pack(account, "gz"))
    body = {"source": source, "password_hashes": True}
    importing.call("POST", "/api/backups/import-external", 403, json=body)
    assert "$6$abc$def" not in str(place.run(source, components=["mail"]))
    importing.stop()
    importing.env["LIBERU_IMPORTS__PASSWORD_HASHES"] = "true"
    importing.start()
    ended = place.run(source, components=["mail"], password_hashes=True)
    assert ended["result"]["password_hashes"] == {f"info@{MAIN}": "$6$abc$def"}


def test_postgresql_from_pg_dumps_tar(
    importing: Service, account: Path, postgresql: PostgresqlServer, folder: Path
) -> None:
    postgresql.run(f"CREATE ROLE crm LOGIN PASSWORD '{PASSWORD}'")
    for name in ("origin", f"{USER}_crm"):
        postgresql.run(f"CREATE DATABASE {name} OWNER crm")
    sql = "CREATE TABLE notes AS SELECT g AS id, 'note ' || g AS text FROM generate_series(1, 500) g"
    postgresql.run(sql, "origin", "crm", PASSWORD)
    (account / "psql").mkdir()
    env = {**os.environ, "PGPASSWORD": PASSWORD}
    target = account / f"psql/{USER}_crm.tar"
    where = ["-h", "127.0.0.1", "-p", str(postgresql.port), "-U", "crm"]
    subprocess.run(["pg_dump", "-Ft", *where, "-f", str(target), "origin"], env=env, check=True)
    (account / "psql_grants.sql").write_text("DROP DATABASE origin; ALTER ROLE crm SUPERUSER;")
    row = {
        "engine": "postgresql", "name": f"{USER}_crm", "username": "crm", "password": PASSWORD, "host": "127.0.0.1",
        "port": postgresql.port,
    }  # fmt: skip
    place = Place(importing, [row], MAIN)
    ended = place.run(place.give(pack(account, "gz")), components=["database"])
    results = by_target(ended)
    assert results["database", f"{MAIN}:{USER}_crm"]["status"] == "completed", ended
    assert results["database", f"{MAIN}:{USER}_shop"]["code"] == "not_found"
    assert ended["status"] == "partial"
    assert postgresql.run("SELECT count(*), max(id) FROM notes", f"{USER}_crm", "crm", PASSWORD) == "500|500"


def test_what_cannot_be_placed_is_named_and_the_rest_is_done(
    importing: Service, account: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database], MAIN, "elsewhere.example.com")
    importing.call(
        "POST", "/api/domains", 201,
        json={"domain_name": BLOG, "user_id": 8, "document_root": str(owned(place.site / "theirs"))},
    )  # fmt: skip
    (account / f"mysql/{USER}_shop.sql").write_text("CREATE TABLE broken (;\n-- Dump completed\n")
    source = place.give(pack(account, "gz"))
    mapping = [{"source": "addon.example.org", "target": "elsewhere.example.com"}]
    ended = place.run(source, domains=mapping)
    results = {key: item.get("code", item["status"]) for key, item in by_target(ended).items()}
    assert results == {
        ("files", f"{MAIN}:files"): "completed", ("database", f"{MAIN}:{USER}_shop"): "load_failed",
        ("mail", f"{MAIN}:mail"): "completed", ("files", "elsewhere.example.com:files"): "completed",
        ("files", f"{BLOG}:files"): "not_found",
    }  # fmt: skip
    assert ended["status"] == "partial"
    assert list((place.site / "theirs").iterdir()) == [], "another tenant's domain is not there"
    assert mariadb.run("SHOW TABLES", f"{USER}_shop") == ""


def test_all_or_nothing(importing: Service, account: Path, database: dict[str, Any], mariadb: MariadbServer) -> None:
    place = Place(importing, [database])
    for name in place.domains:
        (place.root(name) / "old.php").write_text("old")
    (account / f"mysql/{USER}_shop.sql").write_text("CREATE TABLE broken (;\n-- Dump completed\n")
    ended = place.run(place.give(pack(account, "gz")), continue_on_error=False)
    assert ended["status"] == "failed"
    statuses = sorted(item["status"] for item in ended["result"]["items"])
    assert statuses == ["failed", *["not_imported"] * 4]
    for name in place.domains:
        assert place.files(name).keys() == {"old.php"}
    assert place.mail() == set()
    assert staged(place.site) == []
    assert "liberu-new" not in mariadb.run("SHOW DATABASES")


def test_a_kill_in_the_middle_is_gone_on_from(
    importing: Service, folder: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database])
    account = make_account(folder / "large", documents=400)
    (account / "homedir/public_html/large.bin").write_bytes(os.urandom(150 << 20))
    source = place.give(pack(account, "tar"))
    body = {"source": source, "user_id": 7}
    started = importing.call("POST", "/api/backups/import-external", 202, json=body)
    importing.until(
        lambda: importing.call("GET", f"/api/operations/{started['id']}"),
        lambda found: found["progress"].get("1", {}).get("bytes", 0) > 1 << 20,
    )
    importing.kill()
    importing.start()
    ended = importing.wait(started)
    assert ended["status"] == "completed", ended  # by the second attempt, unless the first was very quick
    found = place.files(MAIN)
    assert found.pop("large.bin")
    assert len(found) == 401
    importing.until(lambda: list((folder / "data/imports").glob("0*")), lambda left: not left)


def test_who_may_import_what(importing: Service, account: Path, folder: Path) -> None:
    Place(importing, [], MAIN)
    archive = pack(account, "gz")
    (folder / "import/7").mkdir()
    shutil.copy(archive, folder / "import/7/mine.tar.gz")
    shutil.copy(archive, folder / "import/operators.tar.gz")
    (folder / "import/7/link.tar.gz").symlink_to(folder / "import/operators.tar.gz")
    body = {"name": "tenant", "abilities": ["backups:import", "backups:read"], "user_id": 7}
    tenant = importing.call("POST", "/api/tokens", 201, json=body)["token"]
    body = {"name": "reader", "abilities": ["backups:read"], "user_id": 7}
    reader = importing.call("POST", "/api/tokens", 201, json=body)["token"]

    def start(expect: int, path: str, token: str, **more: Any) -> Any:
        body = {"source": {"type": "file", "path": path}, "dry_run": True, **more}
        return importing.call("POST", "/api/backups/import-external", expect, token, json=body)

    assert importing.wait(start(202, "mine.tar.gz", tenant))["status"] == "completed"
    start(404, "operators.tar.gz", tenant)
    start(404, "link.tar.gz", tenant)
    start(422, "../operators.tar.gz", tenant)
    start(422, "/etc/passwd", tenant)
    start(403, "mine.tar.gz", reader)
    start(403, "mine.tar.gz", tenant, user_id=8)
    importing.call("POST", "/api/backups/uploads", 403, reader, content=b"x")
    shared = {"type": "destination", "destination_id": 1, "key": "anything"}
    importing.call("POST", "/api/backups/import-external", 404, tenant, json={"source": shared})
    start(404, "nothing.tar.gz", importing.token)
    (folder / "import/7/folder.tar.gz").mkdir()
    start(404, "folder.tar.gz", tenant)
    unknown = {"type": "upload", "upload_id": "00000000-0000-0000-0000-000000000000"}  # nothing was ever uploaded
    importing.call("POST", "/api/backups/import-external", 404, json={"source": unknown})


def test_other_panels_and_no_panel_are_told_apart(importing: Service, folder: Path) -> None:
    place = Place(importing, [], MAIN)
    wanted = {
        "settings of Virtualmin": ("virtualmin_config", "x=1\n", "format_unsupported"),
        "an empty Plesk backup": (
            "backup_info_2601.xml",
            "<?xml version='1.0'?><migration-dump/>",
            "invalid_request",
        ),
        "nothing": ("index.html", "<html>", "format_unknown"),
    }
    for name, (path, text, code) in wanted.items():
        top = folder / name
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
        ended = place.run(place.give(pack(top, "gz", wrapped=False)))
        assert (ended["status"], ended["error_code"]) == ("failed", code)
    (folder / "import/x.gpg").write_bytes(b"-----BEGIN PGP MESSAGE-----\n\n")
    ended = place.run({"type": "file", "path": "x.gpg"})
    assert ended["error_code"] == "archive_encrypted"


def test_an_account_becomes_backups_of_ours(
    importing: Service, account: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database])
    ended = place.run(place.give(pack(account, "gz")), as_backup=True)
    assert ended["status"] == "completed", ended
    assert place.files(MAIN) == {}, "nothing is restored"
    made = {item["target"]: item["backup_id"] for item in ended["result"]["items"]}
    assert len(set(made.values())) == 3
    backup = importing.call("GET", f"/api/backups/{made[MAIN]}")
    assert (backup["status"], [part["kind"] for part in backup["components"]]) == (
        "completed", ["files", "mariadb", "mail"],
    )  # fmt: skip
    assert importing.wait(importing.call("POST", f"/api/backups/{backup['id']}/verify", 202))["status"] == "completed"
    bulk = importing.call("POST", "/api/backups/bulk-restore", 202, json={"backup_ids": sorted(set(made.values()))})
    ended = importing.wait(bulk)
    assert ended["status"] == "completed", ended
    assert place.files(BLOG) == hashes(account / "homedir/blog_root")
    assert len(place.files(MAIN)) == 21
    assert len(place.mail()) == 8
    assert mariadb.run("SELECT COUNT(*) FROM orders", f"{USER}_shop") == "3"


HOSTILE_SQL = [
    "\\! touch {canary}\n", "system touch {canary}\n", "SELECT 1 INTO OUTFILE '{canary}';\n",
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE orders;\n", "USE mysql;\nDELETE FROM global_priv;\n",
    "CREATE USER intruder@'%';\n", "GRANT ALL ON *.* TO web@'127.0.0.1';\n", "DROP DATABASE precious;\n",
    "CREATE DATABASE intruder;\n", "SET GLOBAL general_log_file = '{canary}';\n",
    "INSERT INTO precious.kept VALUES (2);\n",
]  # fmt: skip


def test_hostile_sql_reaches_nothing_else(
    importing: Service, account: Path, database: dict[str, Any], mariadb: MariadbServer
) -> None:
    place = Place(importing, [database], MAIN)
    canary = importing.folder / "canary"
    mariadb.run("CREATE DATABASE IF NOT EXISTS precious; CREATE OR REPLACE TABLE precious.kept AS SELECT 1 AS id")
    mariadb.run("CREATE TABLE orders AS SELECT 42 AS id", f"{USER}_shop")
    accounts = mariadb.run("SELECT user, host FROM mysql.user")
    dump = account / f"mysql/{USER}_shop.sql"
    sound = dump.read_text()
    for sql in HOSTILE_SQL:
        dump.write_text(sql.format(canary=canary) + sound)
        ended = place.run(place.give(pack(account, "gz")), components=["database"])
        assert (ended["status"], ended["result"]["items"][0]["code"]) == ("failed", "load_failed"), (sql, ended)
        assert mariadb.run("SELECT * FROM precious.kept") == "1", sql
        assert mariadb.run("SELECT * FROM orders", f"{USER}_shop") == "42", "the live database is as it was"
        assert mariadb.run("SELECT user, host FROM mysql.user") == accounts, sql
        assert "intruder" not in mariadb.run("SHOW DATABASES")
        assert not canary.exists(), sql


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user")
def test_domains_are_made_where_the_operator_says(importing: Service, account: Path) -> None:
    place = Place(importing, [], "unrelated.example.com")
    theirs = {"domain_name": BLOG, "user_id": 8, "document_root": str(owned(place.site / "theirs"))}
    importing.call("POST", "/api/domains", 201, json=theirs)
    new = {
        "document_root": f"{place.site}/new/{{domain}}/public_html", "mail_path": f"{place.site}/new/{{domain}}/mail",
        "system_user": f"{SITE_UID}:{SITE_UID}",
    }  # fmt: skip
    source = place.give(pack(account, "gz"))
    looked = place.run(source, dry_run=True, create=new, components=["files", "mail"])
    assert {(i["target"], i["status"], i.get("creates_domain")) for i in looked["result"]["items"]} == {
        (MAIN, "ready", True), ("addon.example.org", "ready", True), (BLOG, "impossible", None),
    }  # fmt: skip
    assert importing.call("GET", "/api/domains")["total"] == 2
    ended = place.run(source, create=new, components=["files", "mail"])
    assert (ended["status"], ended["result"]["created_domains"]) == ("partial", ["addon.example.org", MAIN])
    root = place.site / "new" / MAIN / "public_html"
    assert len(hashes(root)) == 21
    assert (root.stat().st_uid, (root / "index.php").stat().st_uid) == (SITE_UID, SITE_UID)
    assert (place.site / "new" / MAIN / f"mail/info@{MAIN}/cur").is_dir()
    found = importing.call("GET", f"/api/domains?search={MAIN}")["data"]
    assert {item["domain_name"]: item["user_id"] for item in found} == {MAIN: 7, BLOG: 8}
    assert list((place.site / "theirs").iterdir()) == []
    body = {"name": "tenant", "abilities": ["backups:import"], "user_id": 7}
    tenant = importing.call("POST", "/api/tokens", 201, json=body)["token"]
    refused = {"source": source, "create": new}
    importing.call("POST", "/api/backups/import-external", 403, tenant, json=refused)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user")
def test_no_domain_is_made_in_another_ones_place(importing: Service, account: Path) -> None:
    place = Place(importing, [], "unrelated.example.com")
    root = f"{place.site}/new/addon.example.org"
    theirs = {"domain_name": "secret.example.com", "user_id": 8, "document_root": root}
    importing.call("POST", "/api/domains", 201, json=theirs)
    new = {"document_root": f"{place.site}/new/{{domain}}/public_html", "system_user": f"{SITE_UID}:{SITE_UID}"}
    source = place.give(pack(account, "gz"))
    more = {"create": new, "components": ["files"], "only": [MAIN, "addon.example.org"]}
    body = {"name": "tenant", "abilities": ["*"], "user_id": 7}
    tenant = importing.call("POST", "/api/tokens", 201, json=body)["token"]
    for dry_run, good in ((True, "ready"), (False, "completed")):
        ended = place.run(source, dry_run=dry_run, **more)
        items = {item["target"]: item for item in ended["result"]["items"]}
        assert items[MAIN]["status"] == good
        assert items["addon.example.org"]["code"] == "domain_overlap"
        seen = importing.call("GET", f"/api/operations/{ended['id']}", token=tenant)
        assert "another domain" in str(seen)
        assert "secret" not in str(seen), "a tenant does not learn of another one's domains"
    assert importing.call("GET", "/api/domains?search=addon")["total"] == 0


def test_domains_of_an_archive_are_known_in_both_forms(importing: Service, account: Path) -> None:
    place = Place(importing, [], "xn--e1afmkfd.xn--p1ai")
    renamed = [{"source": MAIN, "target": "Пример.рф"}]
    ended = place.run(place.give(pack(account, "gz")), domains=renamed, only=[MAIN], components=["files"])
    assert [item["status"] for item in ended["result"]["items"]] == ["completed"], ended
    assert len(place.files("xn--e1afmkfd.xn--p1ai")) == 21


def test_the_service_goes_on_while_an_archive_is_uploaded(importing: Service) -> None:
    """A slow upload holds no transaction: others write meanwhile."""

    def slow() -> Iterator[bytes]:
        yield b"first"
        for number in range(3):
            body = {"domain_name": f"meanwhile{number}.example.com", "user_id": 7}
            importing.call("POST", "/api/domains", 201, json=body)
            yield b"more"

    with importing.client() as client:
        taken = client.post("/api/backups/uploads", content=slow())
    assert (taken.status_code, taken.json()["size"]) == (201, 17)


def slow_source(service: Service, archive: Path) -> dict[str, Any]:
    """An object at a destination that gives a megabyte a second."""
    folder = service.folder / "slow"
    folder.mkdir()
    shutil.copy(archive, folder / archive.name)
    body = {"name": "slow", "type": "local", "configuration": {"path": str(folder)}, "bandwidth": 1 << 20}
    made = service.call("POST", "/api/backup-destinations", 201, json=body)
    return {"type": "destination", "destination_id": made["id"], "key": archive.name}


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_an_import_that_ends_while_it_reads_leaves_nothing_behind(importing: Service, folder: Path, how: str) -> None:
    place = Place(importing, [], MAIN)
    account = make_account(folder / "large")
    (account / "homedir/public_html/large.bin").write_bytes(os.urandom(8 << 20 if how == "killed" else 60 << 20))
    source = slow_source(importing, pack(account, "tar"))
    body = {"source": source, "user_id": 7, "components": ["files"], "domain_name": MAIN}
    started = importing.call("POST", "/api/backups/import-external", 202, json=body)
    importing.until(
        lambda: importing.call("GET", f"/api/operations/{started['id']}"),
        lambda found: found["progress"].get("0", {}).get("bytes", 0) > 1 << 20,
    )
    if how == "cancelled":
        importing.call("POST", f"/api/operations/{started['id']}/cancel")
        ended = importing.wait(started)
        assert ended["status"] == "cancelled", ended["error_message"]
        assert place.files(MAIN) == {}
    else:
        importing.kill()
        importing.start()
        ended = importing.wait(started)
        assert (ended["attempt"], ended["result"]["items"][0]["status"]) == (2, "completed"), ended
        assert "large.bin" in place.files(MAIN)
    importing.until(lambda: list((folder / "data/imports").glob("0*")), lambda left: not left)
    importing.until(lambda: staged(place.site), lambda left: not left)


def test_a_disk_that_fills_up_ends_the_import_and_not_the_service(importing: Service, account: Path) -> None:
    place = Place(importing, [], MAIN)
    importing.stop()
    importing.env["LIBERU_IMPORTS__RESERVE_BYTES"] = str(1 << 60)
    importing.start()
    ended = place.run(place.give(pack(account, "gz")))
    assert (ended["status"], ended["error_code"]) == ("failed", "no_space")
    importing.call("POST", "/api/backups/uploads", 507, content=b"x" * 1000)
    assert list((importing.folder / "data/imports/uploads/operator").iterdir()) == []

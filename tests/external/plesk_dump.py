"""A Plesk subscription on disk as pleskbackup dumps it, and its archives made with the real tools."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.external.cpanel_account import MAIN, SQL, make_maildir

TIME, LATER = "2611240300", "2611250300"
CIPHER = "$AES-128-CBC$c2VjcmV0$bm90aGluZw=="
HASH = "$6$salt$hashed"
PLAIN_PASSWORD = "PlainSecret-4715"
ADDON, SUB, ALIAS = "shop2.example.org", f"blog.{MAIN}", "alias.example.net"
DATABASE, USER = "shop_db", "shop_u"
PACKED = {"tgz": "gzip", "tzst": "zstd"}


def make_vhost(folder: Path, *, documents: int = 20) -> Path:
    """httpdocs, and the folders of two sites on the same subscription."""
    for name in ("httpdocs/img", ADDON, f"{SUB}/inner", "logs"):
        (folder / name).mkdir(parents=True)
    for number in range(documents):
        (folder / "httpdocs/img" / f"{number}.bin").write_bytes(bytes([number % 256]) * (1000 + number))
    (folder / "httpdocs/index.php").write_text("<?php echo 'main';\n")
    (folder / f"{ADDON}/index.php").write_text("<?php echo 'addon';\n")
    (folder / f"{SUB}/inner/index.php").write_text("<?php echo 'sub';\n")
    return folder


def pack_content(folder: Path, target: Path, kind: str) -> Path:
    """Everything in a folder as `target`.`kind`: tgz, tzst, tar or zip."""
    path = target.with_name(f"{target.name}.{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(entry.name for entry in folder.iterdir())
    if kind == "zip":
        subprocess.run(["zip", "-qry", str(path), *names], cwd=folder, check=True)
        return path
    plain = path.with_suffix(".plain")
    subprocess.run(["tar", "-cf", str(plain), "-C", str(folder), "--", *names], check=True)
    if kind == "tar":
        return plain.rename(path)
    with plain.open("rb") as source, path.open("wb") as packed:
        subprocess.run([PACKED[kind], "-c"], stdin=source, stdout=packed, check=True)
    plain.unlink()
    return path


def cid(type: str, file: str, path: str = "", offset: str = "") -> str:
    where = f' path="{path}"' if path else ""
    begins = f' offset="{offset}"' if offset else ""
    return f'<cid type="{type}"{where}{begins}><content-file size="1">{file}</content-file></cid>'


def password(type: str = "sym", value: str = CIPHER) -> str:
    return f'<properties><password type="{type}">{value}</password></properties>'


@dataclass
class Subscription:
    """What a dump says of one; `folder`: where its contents are written."""

    folder: Path
    name: str = MAIN
    kind: str = "tgz"
    time: str = TIME
    documents: int = 20
    sql: bytes = SQL.encode()
    databases: str = ""
    contents: list[str] = field(default_factory=list)

    def write(self) -> str:
        """The contents; returns the domain element."""
        work = self.folder.with_name(f"{self.folder.name}-work")
        vhost = make_vhost(work / "vhost", documents=self.documents)
        apache = work / "apache"
        (apache / "httpdocs/uploads").mkdir(parents=True)
        (apache / "httpdocs/uploads/by-apache.txt").write_text("owned by apache\n")
        self._pack(vhost, "user-data")
        self._pack(apache, "apache-files")
        for user in ("info", "Empty"):
            (work / f"mail/{user}").mkdir(parents=True)
        make_maildir(work / "mail/info/Maildir", 5)
        (work / "mail/Empty/Maildir/cur").mkdir(parents=True)
        self._pack(work / "mail", "domainmail")
        (work / "sql").mkdir()
        (work / "sql/backup_sqldump").write_bytes(self.sql)
        pack_content(work / "sql", self.folder / f"databases/{DATABASE}_1/backup_sqldump_{self.time}", self.kind)
        shutil.rmtree(work)
        return self.element()

    def _pack(self, folder: Path, name: str) -> None:
        pack_content(folder, self.folder / f"backup_{name}_{self.time}", self.kind)

    def file(self, name: str) -> str:
        return f"backup_{name}_{self.time}.{self.kind}"

    def element(self) -> str:
        users = (
            f'<mailuser name="info" mailbox-quota="1048576">{password()}'
            f'<preferences><mailbox enabled="true" type="mdir"/>'
            f"<alias>sales</alias></preferences></mailuser>"
            f'<mailuser name="Empty" mailbox-quota="-1">{password("crypt", HASH)}</mailuser>'
            f'<mailuser name="plain">{password("plain", PLAIN_PASSWORD)}</mailuser>'
        )
        return (
            f'<domain name="{self.name}" guid="g" www="true">'
            f'<preferences><domain-alias name="{ALIAS}" mail="true"/></preferences>'
            f'<properties><dns-zone serial="1"><dnsrec type="A" src="x"/></dns-zone></properties>'
            f"<mailsystem><content>{cid('domainmail', self.file('domainmail'))}</content>"
            f"<mailusers>{users}</mailusers></mailsystem>"
            f'<databases><database name="{DATABASE}" type="mysql" version="10.6"><content>'
            f"{cid('sqldump', self.file('sqldump'), f'databases/{DATABASE}_1')}</content>"
            f'<dbuser name="{USER}">{password()}</dbuser></database>{self.databases}</databases>'
            f'<certificates><certificate name="Main"/></certificates>'
            f'<phosting www-root="httpdocs" cgi_bin_mode="webspace"><content>'
            f"{cid('user-data', self.file('user-data'))}"
            f"{cid('apache-files', self.file('apache-files'))}</content>"
            f'<preferences><sysuser name="shopuser">{password()}</sysuser></preferences><sites>'
            f'<site name="{ADDON}"><phosting www-root="{ADDON}"/></site>'
            f'<site name="{SUB}"><phosting www-root="{SUB}/inner"/></site></sites></phosting></domain>'
        )


def dump(*elements: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- Plesk -->\n<migration-dump agent-name="PleskX" '
        'dump-format="panel" dump-version="18.0.57" content-included="true"><dump-info><os-description type="unix"/>'
        f"</dump-info>{''.join(elements)}</migration-dump>\n"
    )


def archive(top: Path, target: Path, *, wrapped: bool = False) -> Path:
    """By the name: .tar, .tar.gz, .tar.zst or .zip."""
    base, names = (top.parent, [top.name]) if wrapped else (top, sorted(path.name for path in top.iterdir()))
    if target.suffix == ".zip":
        subprocess.run(["zip", "-qry", str(target), *names], cwd=base, check=True)
        return target
    options = {".gz": ["-z"], ".zst": ["--zstd"], ".bz2": ["-j"]}.get(target.suffix, [])
    subprocess.run(["tar", "-cf", str(target), *options, "-C", str(base), "--", *names], check=True)
    return target


def subscription(folder: Path, kind: str = "tgz", outer: str = "tar", *, wrapped: bool = False) -> Path:
    """One subscription, its dump at the root."""
    top = folder / "dump"
    element = Subscription(top, kind=kind).write()
    (top / f"backup_info_{TIME}.xml").write_text(dump(element))
    (top / f".discovered/backup_info_{TIME}").mkdir(parents=True)
    index = f"domain\t{MAIN}\tguid\tbackup_info_{TIME}.xml\n"
    (top / f".discovered/backup_info_{TIME}/object_index").write_text(index)
    return archive(top, folder / f"backup_{MAIN}_{TIME}.{outer}", wrapped=wrapped)


def server(folder: Path, names: list[str], outer: str = "tar", *, documents: int = 3) -> Path:
    """A server's export: the root's dump has domain-info only; each domain's folder its own."""
    top = folder / "server"
    infos = []
    for number, name in enumerate(names):
        owner = ("", "clients/c1/", "resellers/r1/", "resellers/r1/clients/c2/")[number % 4]
        place = top / f"{owner}domains/{name}"
        written = Subscription(place, name=name, documents=documents + number)
        element = written.write()
        for shared in (ADDON, SUB, ALIAS):  # not the same in each of the server's subscriptions
            element = element.replace(f'name="{shared}"', f'name="x{number}.{shared}"')
        (place / f"backup_info_{TIME}.xml").write_text(dump(element))
        infos.append(f'<domain-info name="{name}" guid="g"/>')
    clients = f'<reseller name="r1"><clients><client name="c1">{"".join(infos)}</client></clients></reseller>'
    (top / f"backup_info_{TIME}.xml").write_text(dump("<admin>", clients, "</admin>"))
    return archive(top, folder / f"server.{outer}")


def old_names(folder: Path, *, nested: bool = False, cgi_mode: str = "www-root") -> Path:
    """Plesk 9 to 11: a document root, programs and mailboxes, each in an archive of its own."""
    top, work = folder / "dump", folder / "work"
    vhost = make_vhost(work / "vhost")
    pack_content(vhost if nested else vhost / "httpdocs", top / f"bck_{MAIN}_docroot_{TIME}", "tgz")
    if nested:
        shutil.rmtree(top)
        for extra in (ADDON, SUB, "logs"):
            shutil.rmtree(vhost / extra)
        pack_content(vhost, top / f"bck_{MAIN}_docroot_{TIME}", "tgz")
    (work / "cgi").mkdir()
    (work / "cgi/run.cgi").write_text("#!/bin/sh\n")
    pack_content(work / "cgi", top / f"bck_{MAIN}_cgi_{TIME}", "tgz")
    make_maildir(work / "info", 5)
    pack_content(work / "info", top / f"bck_{MAIN}_info_mb_{TIME}", "tgz")
    (work / "sub").mkdir()
    (work / "sub/index.php").write_text("sub")
    pack_content(work / "sub", top / f"bck_sub_docroot_{TIME}", "tgz")
    (work / "sql").mkdir()
    (work / f"sql/{DATABASE}").write_text(SQL)
    pack_content(work / "sql", top / f"bck_{MAIN}_db_{TIME}", "tgz")
    mailbox = cid("mailbox", f"bck_{MAIN}_info_mb_{TIME}.tgz")
    element = (
        f'<domain name="{MAIN}"><mailsystem><mailusers><mailuser name="info" mailbox-quota="1048576">{password()}'
        f'<preferences><mailbox type="mdir"><content>{mailbox}</content></mailbox></preferences></mailuser>'
        f'</mailusers></mailsystem><databases><database name="{DATABASE}" type="mysql"><content>'
        f"{cid('sqldump', f'bck_{MAIN}_db_{TIME}.tgz')}</content></database></databases>"
        f'<phosting cgi_bin_mode="{cgi_mode}"><content>{cid("docroot", f"bck_{MAIN}_docroot_{TIME}.tgz")}'
        f'{cid("cgi", f"bck_{MAIN}_cgi_{TIME}.tgz")}</content><subdomains><subdomain name="blog"><content>'
        f"{cid('docroot', f'bck_sub_docroot_{TIME}.tgz')}</content></subdomain></subdomains></phosting></domain>"
    )
    (top / f"bck_{MAIN}_info_{TIME}.xml").write_text(dump(element))
    return archive(top, folder / "old.tar")


def incremental(folder: Path, *, with_full: bool) -> Path:
    """Only one file has changed since."""
    top = folder / "dump"
    if with_full:
        (top / "x").mkdir(parents=True)
        element = Subscription(top).write()
        (top / f"backup_info_{TIME}.xml").write_text(dump(element))
        shutil.rmtree(top / "x")
    changed = folder / "changed"
    (changed / "httpdocs").mkdir(parents=True)
    (changed / "httpdocs/new.php").write_text("new")
    pack_content(changed, top / f"backup_user-data_{TIME}_{LATER}", "tgz")
    content = cid("user-data", f"backup_user-data_{TIME}_{LATER}.tgz")
    element = f'<domain name="{MAIN}"><phosting www-root="httpdocs"><content>{content}</content></phosting></domain>'
    (top / f"backup_info_{TIME}_{LATER}.xml").write_text(dump(element))
    return archive(top, folder / "incremental.tar")


def made_by_hand(folder: Path, marker: str = "dump.xml") -> Path:
    top = folder / "made"
    site = top / f"clients/c1/domains/{MAIN}"
    site.mkdir(parents=True)
    vhost = make_vhost(folder / "vhost")
    shutil.copytree(vhost / "httpdocs", site / "httpdocs")
    make_maildir(site / "mail/info/Maildir", 5)
    (top / "databases").mkdir()
    (top / f"databases/{DATABASE}.sql").write_text(SQL)
    (top / marker).write_text(f'<dump><domain name="{MAIN}"/></dump>' if marker.endswith("xml") else "x")
    return archive(top, folder / f"{marker}.tar.gz")

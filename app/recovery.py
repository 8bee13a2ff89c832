"""Restoring straight from a destination: no database, no API, no installation; only the keys."""

from __future__ import annotations

import os
import tarfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from app.addresses import AddressGuard
from app.archives.compression import Compressor
from app.archives.layout import MANIFEST, parsed_folder
from app.archives.manifest import ComponentDetails, Manifest
from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.deployments.standalone import StandaloneDeployment
from app.errors import (
    ArchiveError,
    InvalidRequest,
    KeyMaterialInvalid,
    LiberuError,
    NotFound,
    ObjectNotFound,
    SizeMismatch,
)
from app.security.keys import load_signer
from app.security.signing import Signer
from app.storage.base import Options
from app.storage.registry import build_driver

UNMARKED = (
    "No marker of a destination is here: is it the right place, and is its disk mounted? (Backups of versions before "
    "markers, or copied without them, can be restored all the same.)"
)
_TREES = ("files", "mail")
_EXTENSIONS = {"postgresql": "pgdump", "kubernetes": "tar"}


class Unverified(Signer):
    """Who has an identity but no signing key cannot tell who wrote a manifest; hashes still prove the rest."""

    def __init__(self) -> None:
        super().__init__(bytes(32))

    def verify(self, message: bytes, signature: str, signer: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Keys:
    identities: list[str]
    signer: Signer


@dataclass(frozen=True, slots=True)
class Listed:
    """One backup at a destination; `problem`: why its manifest was refused."""

    key: str
    domain: str
    manifest: Manifest | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """`problems`: a sentence for each component that could not be written."""

    written: list[str]
    problems: list[str]


def keys_of_kit(kit: Path) -> Keys:
    """The keys in a recovery kit. Raises KeyMaterialInvalid."""
    try:
        with tarfile.open(kit) as archive:
            found = {name: archive.extractfile(f"keys/{name}") for name in ("age-identity.txt", "signing.key")}
            texts = {name: file.read().decode().strip() for name, file in found.items() if file is not None}
        return Keys([texts["age-identity.txt"]], load_signer(texts["signing.key"]))
    except (OSError, KeyError, tarfile.TarError, UnicodeError) as error:
        raise KeyMaterialInvalid(f"{kit} is no recovery kit of this service") from error


def place_of(url: str, env: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Type and configuration of `/path`, `sftp://user@host:port/path`, `ftps://user@host/path` (explicit TLS; `ftp://`
    for none) or `s3://bucket/prefix?endpoint=…`.

    Secrets come from the environment: SFTP_PASSWORD, SFTP_PRIVATE_KEY_FILE, SFTP_PASSPHRASE, FTP_PASSWORD,
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY. FTP_CERTIFICATE_FILE: what signed the server's. Raises InvalidRequest.
    """
    if url.startswith("/"):
        return "local", {"path": url}
    parts = urlsplit(url)
    if parts.password is not None:
        raise InvalidRequest("A password in a URL shows in the process list: set it in the environment")
    if parts.scheme == "sftp" and parts.hostname and parts.username:
        key = env.get("SFTP_PRIVATE_KEY_FILE")
        found = {
            "host": parts.hostname, "port": parts.port or 22, "username": unquote(parts.username),
            "root": unquote(parts.path) or "/", "password": env.get("SFTP_PASSWORD"),
            "private_key": Path(key).read_text() if key else None, "passphrase": env.get("SFTP_PASSPHRASE"),
            "host_key": env.get("SFTP_HOST_KEY"),
        }  # fmt: skip
        return "sftp", {name: value for name, value in found.items() if value is not None}
    if parts.scheme in ("ftp", "ftps") and parts.hostname and parts.username:
        trusted = env.get("FTP_CERTIFICATE_FILE")
        found = {
            "host": parts.hostname, "port": parts.port or 21, "username": unquote(parts.username),
            "root": unquote(parts.path) or "/", "password": env.get("FTP_PASSWORD"),
            "certificate": Path(trusted).read_text() if trusted else None,
            "ssl": "explicit" if parts.scheme == "ftps" else "none", "allow_plaintext": parts.scheme == "ftp",
        }  # fmt: skip
        return "ftp", {name: value for name, value in found.items() if value is not None}
    if parts.scheme == "s3" and parts.netloc:
        options: dict[str, Any] = dict(parse_qsl(parts.query))
        return "s3", {
            "bucket": parts.netloc, "prefix": unquote(parts.path), "key": env.get("AWS_ACCESS_KEY_ID", ""),
            "secret": env.get("AWS_SECRET_ACCESS_KEY"), **options,
        }  # fmt: skip
    raise InvalidRequest(
        f"{url}: use /path, sftp://user@host/path, ftps://user@host/path or s3://bucket/prefix?endpoint=…"
    )


def moment_of(text: str) -> datetime:
    """A time with its zone, as ISO 8601 writes it. Raises InvalidRequest."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequest(f"{text} is no time with a zone: write it as 2026-11-26T15:00:00Z")
    return moment


class Recovery:
    def __init__(self, store: BackupStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self.markers: set[str] = set()

    async def backups(self) -> AsyncGenerator[Listed, None]:
        """Every backup there, of every installation. Afterwards `markers` holds the keys of the markers that were
        met: where there is none, this may be another place than the backups were written to."""
        async for key, _ in self._store.manifests(self.markers):
            domain = parsed_folder(key.removesuffix(MANIFEST))
            try:
                yield Listed(key, domain, await self._store.read_manifest(key))
            except (ArchiveError, ObjectNotFound, SizeMismatch) as error:
                yield Listed(key, domain, None, error.message)

    async def restore(self, uid: str, target: Path, progress: Callable[[str, int, int], None]) -> Recovered:
        """Write every component of a backup below `target`, a folder that is made.

        Files and mail as folders, databases as dumps; what is not whole is called `….part`. `progress` is told
        name, bytes done and bytes in all. Raises NotFound, ArchiveError.
        """
        manifest = await self._find(uid)
        details = await self._store.read_details(manifest, self._keys.identities)
        target.mkdir(mode=0o700)
        recovered = Recovered([], [])
        for part in details.components:
            try:
                stored = manifest.component(part.number)
                identities = self._keys.identities if stored.encryption else None
                plain = self._store.open_component(stored.objects[0], part.plain_size, part.plain_sha256, identities)
                recovered.written.append(await self._write(part, _counted(plain, part, progress), target))
            except LiberuError as error:
                recovered.problems.append(f"{part.kind} {part.name}: {error.message}")
        return recovered

    async def _find(self, uid: str) -> Manifest:
        refused = None
        async for listed in self.backups():
            if f"_{uid}." in listed.key:
                if listed.manifest is not None:
                    return listed.manifest
                refused = listed.problem  # another attempt's may be the one that counts
        if refused is not None:
            raise NotFound(f"Backup {uid} cannot be used: {refused}")
        hint = "" if self.markers else UNMARKED
        raise NotFound(f"There is no backup {uid} at this destination. {hint}".strip())

    async def _write(self, part: ComponentDetails, plain: ByteStream, target: Path) -> str:
        if part.kind in _TREES:
            path, folder = target / part.kind, target / f"{part.kind}.part"
            folder.mkdir()
            argv = ["tar", "--extract", "--file=-", "--preserve-permissions", "--numeric-owner", "--xattrs", "--acls"]
            await StandaloneDeployment().run(argv, input=plain, cwd=str(folder.resolve()))
            folder.rename(path)
            return f"{path}/"
        # The number, not the name alone: a name may hold anything.
        name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in part.name)
        path = target / f"{part.number:02d}-{part.kind}-{name}.{_EXTENSIONS.get(part.kind, 'sql')}"
        unfinished = path.with_name(f"{path.name}.part")
        with unfinished.open("xb") as file:
            async with aclosing(plain):
                async for chunk in plain:
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        return str(path)


async def _counted(
    source: ByteStream, part: ComponentDetails, progress: Callable[[str, int, int], None]
) -> ByteStream:
    done = 0
    async with aclosing(source):
        async for chunk in source:
            done += len(chunk)
            progress(part.name, done, part.plain_size)
            yield chunk


@asynccontextmanager
async def opened(
    url: str, keys: Keys, env: Mapping[str, str], at: datetime | None = None
) -> AsyncGenerator[Recovery, None]:
    """What is at a destination, or was there `at` a time. Raises InvalidRequest, NoPast."""
    kind, configuration = place_of(url, env)
    driver = build_driver(kind, configuration, Options(guard=AddressGuard(allow_link_local=True)))
    try:
        seen = driver if at is None else driver.at(at)
        yield Recovery(BackupStore(seen, Compressor(), keys.signer), keys)
    finally:
        await driver.close()

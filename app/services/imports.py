"""ImportService: takes foreign backups in, and starts their import."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from app.archives.streams import CHUNK, ByteStream, Sink, produce
from app.db.models import Operation
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.destinations import DestinationRepository
from app.db.repositories.domains import DomainRepository
from app.db.repositories.operations import OperationRepository
from app.db.session import Database
from app.deployments.descriptors import open_folder
from app.errors import Conflict, Forbidden, InvalidRequest, NotFound
from app.schemas.imports import DestinationSource, FileSource, ImportIn, UploadOut, UploadSource
from app.security.tokens import Principal
from app.services.destinations import DestinationService
from app.services.operations import Idempotency, OperationService
from app.services.unit import Unit
from app.services.uploads import Upload, Uploads
from app.settings import ImportSettings

_UPLOADS = "uploads"


class ImportSources:
    """Where archives come from. `staging`: the service's own folder for imports."""

    def __init__(
        self, database: Database, destinations: DestinationService, settings: ImportSettings, staging: Path
    ) -> None:
        self._database = database
        self._destinations = destinations
        self._settings = settings
        self.staging = staging
        self.uploads = Uploads(staging / _UPLOADS, settings)

    def path(self, source: dict[str, Any], user_id: int | None) -> Path:
        """Of a file or an upload. Raises NotFound, InvalidRequest."""
        if source["type"] == "upload":
            return self.uploads.of(user_id) / str(source["upload_id"])
        if self._settings.folder is None:
            raise InvalidRequest("No import folder is configured (LIBERU_IMPORTS__FOLDER)", field="source")
        folder = self._settings.folder if user_id is None else self._settings.folder / str(user_id)
        return folder / str(source["path"])

    def staged(self) -> set[str]:
        """Uids of the operations that have a folder here. Blocking."""
        if not self.staging.is_dir():
            return set()
        return {path.name for path in self.staging.iterdir() if path.name != _UPLOADS and path.is_dir()}

    def forget_staged(self, uids: set[str]) -> None:
        """Remove these folders. Blocking."""
        for uid in uids:
            remove_staging(self.staging / uid)

    def size(self, path: Path) -> int:
        """Of a plain file that is reached through no link. Raises NotFound."""
        with os.fdopen(self._opened(path), "rb") as file:
            if self.staging in path.parents:  # an upload that is about to be imported does not expire meanwhile
                os.utime(file.fileno())
            return os.fstat(file.fileno()).st_size

    def _opened(self, path: Path) -> int:
        """A plain file below the import folder or our uploads, with no link followed there. Raises NotFound."""
        base = self._settings.folder if self._settings.folder in path.parents else self.staging
        assert base is not None
        try:
            folder = open_folder(str(base.resolve() / path.parent.relative_to(base)))
            try:
                descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            finally:
                os.close(folder)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError("not a plain file")
        except OSError as error:
            raise NotFound(f"There is no file {path.name} to import") from error
        return descriptor

    async def open(self, source: dict[str, Any], user_id: int | None) -> ByteStream:
        """The archive's bytes. `user_id`: whose folder. Raises NotFound, StorageError."""
        if source["type"] == "destination":
            async with self._database.transaction() as session:
                destination = await DestinationRepository(session).get(source["destination_id"])
            if destination is None:
                raise NotFound(f"There is no destination {source['destination_id']}")
            async with (
                self._destinations.reading(destination) as driver,
                aclosing(driver.get(source["key"])) as found,
            ):
                async for chunk in found:
                    yield chunk
            return
        descriptor = self._opened(self.path(source, user_id))

        def work(sink: Sink) -> None:
            with os.fdopen(descriptor, "rb") as file:
                while data := file.read(CHUNK):
                    sink.write(data)

        async with aclosing(produce(work, "import source")) as stream:
            async for chunk in stream:
                yield chunk

    def forget(self, source: dict[str, Any], user_id: int | None) -> None:
        """Remove an upload that has been imported."""
        if source["type"] == "upload":
            self.path(source, user_id).unlink(missing_ok=True)


class ImportService:
    def __init__(
        self,
        sources: ImportSources,
        destinations: DestinationService,
        operations: OperationService,
        settings: ImportSettings,
    ) -> None:
        self._sources = sources
        self._destinations = destinations
        self._operations = operations
        self._settings = settings

    async def start(self, unit: Unit, principal: Principal, body: ImportIn, idempotency: Idempotency) -> Operation:
        """Raises NotFound, InvalidRequest, Forbidden."""
        principal.require("backups:import")
        if not principal.operator and body.user_id not in (None, principal.user_id):
            principal.require_operator("user_id")
        if body.create is not None:
            principal.require_operator("create")
        if body.password_hashes and not self._settings.password_hashes:
            raise Forbidden("Password hashes are not handed out here (LIBERU_IMPORTS__PASSWORD_HASHES)")
        size = await self._check(unit, principal, body)
        target = await self._target(unit, principal, body)
        destination = await self._destinations.choose(unit, principal, body.destination_id)
        request = body.model_dump(mode="json") | {
            "user_id": body.user_id if principal.operator else principal.user_id,
            "folder_of": principal.user_id,
        }

        async def make() -> Operation:
            return Operation(
                type="import",
                user_id=request["user_id"],
                domain_id=target[0],
                domain_uid=target[1],
                destination_id=destination.id,
                destinations=[destination.id],
                server=target[2],
                request=request,
                bytes_total=size,
            )

        return await self._operations.start(unit, principal, idempotency, make)

    async def _check(self, unit: Unit, principal: Principal, body: ImportIn) -> int | None:
        """That the source is there and the caller's; its size in bytes when it is known."""
        source = body.source
        if isinstance(source, DestinationSource):
            found = await self._destinations.get(unit, principal, source.destination_id)
            if not principal.operator and found.user_id != principal.user_id:
                raise NotFound(f"There is no destination {source.destination_id} of yours")
            return None
        assert isinstance(source, FileSource | UploadSource)
        path = self._sources.path(source.model_dump(), principal.user_id)
        return await asyncio.to_thread(self._sources.size, path)

    @staticmethod
    async def _target(unit: Unit, principal: Principal, body: ImportIn) -> tuple[int | None, str, str | None]:
        """The domain whose turn the import waits for: the one that is named, else only itself; and its server."""
        if body.domain_name is not None:
            domain = await DomainRepository(unit.session).by_name(body.domain_name)
            if domain is not None and (principal.operator or domain.user_id == principal.user_id):
                return domain.id, domain.uid, domain.server
        return None, f"import-{secrets.token_hex(12)}", None

    async def upload(self, unit: Unit, principal: Principal, body: AsyncIterator[bytes], announced: int) -> UploadOut:
        """Take an archive in, to its last byte or not at all. Raises TooLarge, UploadsFull, NoSpace."""
        principal.require("backups:import")
        await unit.release()
        return await self._sources.uploads.take(principal.user_id, body, announced)

    async def uploads(self, principal: Principal, request: PageRequest) -> Page[Upload]:
        """The caller's own, an operator's: everybody's; the newest first."""
        principal.require("backups:import")
        found = await asyncio.to_thread(self._sources.uploads.list, principal.user_id)
        start = (request.page - 1) * request.per_page
        return Page(found[start : start + request.per_page], len(found), request)

    async def delete_upload(self, unit: Unit, principal: Principal, upload_id: str) -> None:
        """Raises NotFound, and Conflict while it is imported."""
        principal.require("backups:import")
        found = await asyncio.to_thread(self._sources.uploads.list, principal.user_id)
        upload = next((one for one in found if one.upload_id == upload_id), None)
        if upload is None:
            raise NotFound(f"There is no upload {upload_id}")
        if upload_id in await OperationRepository(unit.session).uploads_in_use():
            raise Conflict(f"The upload {upload_id} is being imported: wait for that, or cancel it")
        await asyncio.to_thread(self._sources.uploads.remove, upload)


def remove_staging(folder: Path) -> None:
    """Idempotent."""
    shutil.rmtree(folder, ignore_errors=True)

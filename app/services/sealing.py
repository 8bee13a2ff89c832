"""What the master key has sealed: whether it can all be opened, and sealing it anew under another key."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from app.db.repositories.sealed import COLUMNS, SealedRepository
from app.db.session import Database
from app.errors import KeyMaterialInvalid
from app.security.keys import CredentialCipher

_BATCH = 200


class SealingService:
    def __init__(self, database: Database, cipher: CredentialCipher) -> None:
        self._database = database
        self._cipher = cipher

    async def check(self) -> None:
        """Raises KeyMaterialInvalid when something that is stored cannot be opened; it says where."""
        async for which, number, sealed in self._all():
            table = COLUMNS[which][0].__tablename__
            try:
                self._cipher.open(sealed)
            except KeyMaterialInvalid as error:
                raise KeyMaterialInvalid(
                    f"The master key cannot open what is stored in {table}, row {number}: it was sealed under "
                    "another key. Put that key back (from the recovery kit), as a line of master.key or in "
                    "LIBERU_MASTER_KEY"
                ) from error

    async def _all(self) -> AsyncGenerator[tuple[int, int, str], None]:
        for which in range(len(COLUMNS)):
            last = 0
            while True:
                async with self._database.transaction() as session:
                    found = await SealedRepository(session).batch(which, last, _BATCH)
                for number, sealed in found:
                    yield which, number, sealed
                if len(found) < _BATCH:
                    break
                last = found[-1][0]

    async def reseal(self) -> int:
        """Seal what is under an older key under the first one, row by row, and only what nobody has changed
        meanwhile; how many there were. Raises KeyMaterialInvalid for what cannot be opened."""
        changed = 0
        async for which, number, sealed in self._all():
            if self._cipher.is_current(sealed):
                continue
            async with self._database.transaction() as session:
                await SealedRepository(session).replace(which, number, sealed, self._cipher.resealed(sealed))
            changed += 1
        async with self._database.transaction() as session:
            repository = SealedRepository(session)
            for operation in await repository.with_identity():
                if not self._cipher.is_current(operation.request["identity"]):
                    await repository.replace_identity(operation, self._cipher.resealed)
                    changed += 1
        return changed

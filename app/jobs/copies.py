"""What a restore learns of the copies it reads."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.copies import Copy, CopyProblem
from app.archives.manifest import Warning_
from app.db.repositories.backups import BackupRepository
from app.jobs.context import Result
from app.jobs.outcome import Apply


def used(copy: Copy, problems: Sequence[CopyProblem]) -> Result:
    """For a part's result: which copy it is from, and a warning for each that could not be used."""
    warnings = [
        Warning_(
            code="copy_not_used",
            message=f"could not be used ({problem.error.message}); {copy.name} has another copy; verify the backup",
            subject=problem.copy.name,
        ).model_dump()
        for problem in problems
    ]
    return {"destination_id": copy.id, "destination": copy.name, "warnings": warnings}


def marked(backup_id: int, problems: Sequence[CopyProblem]) -> Apply:
    """Writes down which copies were found damaged: others are preferred from then on, and a verify tells more."""
    damaged = {problem.copy.id: problem for problem in problems if problem.damage}

    async def apply(session: AsyncSession) -> None:
        backup = await BackupRepository(session).get(backup_id) if damaged else None
        for copy in backup.copies if backup is not None else ():
            problem = damaged.get(copy.destination_id)
            if problem is not None and copy.state == "stored":
                copy.state, copy.verification = "damaged", "none"
                copy.error_message = f"Found by a restore: {problem.error.message}"

    return apply

"""What reading a copy to its last byte has shown, and what follows for its backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app.archives.store import BackupStore
from app.archives.streams import ByteStream
from app.db.models import Backup, BackupComponent, BackupCopy
from app.db.repositories.backups import BackupRepository
from app.db.repositories.destinations import DestinationRepository
from app.errors import ArchiveDamaged, ArchiveError, LiberuError, ManifestInvalid, ObjectNotFound
from app.jobs.outcome import Apply

_DETAILS = 0
_ENDED = ("completed", "partial", "failed")


@dataclass(slots=True)
class Verdict:
    """On one copy. `damaged` and `whole`: numbers of components; `away`: why the rest was not judged: what cannot be
    reached, or is not the prepared place, proves nothing. `status`: the manifest's."""

    destination_id: int
    damaged: set[int] = field(default_factory=set)
    whole: set[int] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    away: LiberuError | None = None
    status: str | None = None

    @property
    def state(self) -> str:
        if self.reasons:
            return "damaged"
        return "whole" if self.away is None else "unknown"

    @property
    def said(self) -> list[str]:
        return [*self.reasons, *([self.away.message] if self.away else [])]


async def judge(
    backup: Backup, copy: BackupCopy, store: BackupStore, through: Callable[[ByteStream], ByteStream]
) -> Verdict:
    """Read a copy, `through` what counts its bytes. Damage is what was read and differs, or is missing where the
    destination's marker is (see PreparedDriver). No key is needed: the signed manifest tells the stored bytes."""
    verdict = Verdict(copy.destination_id)
    try:
        await store.confirm()
        manifest = await store.read_manifest(copy.manifest_key)
        if manifest.backup_uid != backup.uid:
            raise ManifestInvalid(f"{copy.manifest_key} belongs to another backup")
        parts = [(entry.number, stored) for entry in manifest.components for stored in entry.objects]
        for number, stored in [*parts, (_DETAILS, manifest.details)]:
            try:
                await store.verify_object(stored, through)
            except (ArchiveDamaged, ObjectNotFound) as error:
                verdict.reasons.append(error.message)
                verdict.damaged.update(_stored(backup) if number == _DETAILS else {number})
        verdict.whole = {number for number, _ in parts} - verdict.damaged
        verdict.status = manifest.status
    except (ArchiveError, ObjectNotFound) as error:
        verdict.reasons.append(error.message)
        verdict.damaged = _stored(backup)
    except LiberuError as error:
        verdict.away = error
    return verdict


def lost_everywhere(backup: Backup, verdicts: Sequence[Verdict]) -> set[int]:
    """Numbers of the components that every copy was found to have lost."""
    return set.intersection(*(verdict.damaged for verdict in verdicts)) if verdicts else _stored(backup)


def recorded(backup_id: int, verdicts: Sequence[Verdict], lost: set[int]) -> Apply:
    """Writes the verdicts, and lifts what an earlier one has said of components that were whole this time."""

    async def apply(session: AsyncSession) -> None:
        backup = await BackupRepository(session).get(backup_id)
        if backup is None:
            return
        states = {verdict.destination_id: verdict for verdict in verdicts}
        for copy in backup.copies:
            verdict = states.get(copy.destination_id)
            if verdict is None or verdict.state == "unknown" or copy.state not in ("stored", "damaged"):
                continue
            copy.state = "damaged" if verdict.reasons else "stored"
            copy.verification = "none" if verdict.reasons else "read_back"
            copy.error_message = "; ".join(verdict.reasons) or None
        whole = set[int]().union(*(verdict.whole for verdict in verdicts))
        changed = [
            part for part in backup.components if part.number in lost or (_lost(part) and part.number in whole)
        ]
        for part in changed:
            if part.number in lost:
                part.status, part.error_code = "failed", ArchiveDamaged.code
                part.error_message = "Damaged at every destination that has it; make a new backup"
            else:
                part.status, part.error_code, part.error_message = "completed", None, None
        if changed and backup.status in _ENDED:
            was = {verdict.status for verdict in verdicts if verdict.status} or {backup.status}
            places = await DestinationRepository(session).named([copy.destination_id for copy in backup.copies])
            _settle(backup, {place.id: place.name for place in places}, complete="partial" not in was)

    return apply


def _settle(backup: Backup, names: dict[int, str], *, complete: bool) -> None:
    """Status and message, as the backup's job would say them of what there is now. `complete`: as its manifest has
    it."""
    good = [part for part in backup.components if part.status == "completed"]
    lacking = [(part, lack) for part in good for lack in part.incomplete]
    missing = [copy for copy in backup.copies if copy.state == "failed"]
    whole = len(good) == len(backup.components) and not lacking and not any(copy.required for copy in missing)
    backup.status = "failed" if not good else "completed" if whole and complete else "partial"
    said = [f"{part.kind} {part.name}: {part.error_message}" for part in backup.components if part not in good]
    said += [
        f"{part.kind} {part.name}: {lack['subject'] or ''} {lack['message']}".strip() for part, lack in lacking[:20]
    ]
    said += [f"There is no copy at {names[copy.destination_id]}: {copy.error_message}" for copy in missing]
    backup.error_message = "; ".join(said) or None


def _lost(part: BackupComponent) -> bool:
    """Whether a verification has called it so."""
    return part.status == "failed" and part.error_code == ArchiveDamaged.code


def lost_by_verification(backup: Backup) -> bool:
    """Whether it was whole once."""
    return any(_lost(part) for part in backup.components)


def _stored(backup: Backup) -> set[int]:
    """What its copies have, or had."""
    return {part.number for part in backup.components if part.status == "completed" or _lost(part)}

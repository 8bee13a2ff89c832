"""What the `restore` command prints."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from app.errors import ArchiveError, InvalidRequest
from app.recovery import UNMARKED, Keys, Listed, Recovery, opened

console = Console(highlight=False, soft_wrap=True)


async def show(url: str, keys: Keys, backup: str | None, target: Path | None, at: datetime | None = None) -> None:
    """List what is there, or was `at` a time, or restore one backup with a progress bar. Raises LiberuError."""
    async with opened(url, keys, os.environ, at) as recovery:
        if backup is None:
            found = sorted([(listed.key, _line(listed)) async for listed in recovery.backups()])
            for _, line in found:
                console.print(line)
            console.print(f"{len(found)} backups. Restore one with --backup UID --to FOLDER")
            if not recovery.markers:
                console.print(UNMARKED)
        elif target is None:
            raise InvalidRequest("Name a folder to restore to: --to FOLDER")
        else:
            await _restore(recovery, backup, target)


def _line(listed: Listed) -> str:
    if listed.manifest is None:
        return escape(f"{listed.key}: refused: {listed.problem}")
    manifest = listed.manifest
    size = sum(o.size for component in manifest.components for o in component.objects)
    when = f"{manifest.created_at:%Y-%m-%d %H:%M}"
    return escape(
        f"{manifest.backup_uid}  {when}  {manifest.type:8}  {manifest.status:9}  {size:>14,}  {listed.domain}"
    )


async def _restore(recovery: Recovery, backup: str, target: Path) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        tasks = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(escape(name), total=total)
            bar.update(tasks[name], completed=done)

        recovered = await recovery.restore(backup, target, progress)
    for path in recovered.written:
        console.print(escape(path))
    if recovered.problems:
        raise ArchiveError("Not all could be restored. " + "; ".join(recovered.problems))

"""Operator commands."""

from __future__ import annotations

import asyncio
import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings

cli = typer.Typer(no_args_is_help=True, help="Liberu Backup: operator commands.")
tokens = typer.Typer(no_args_is_help=True, help="Ways in.")
cli.add_typer(tokens, name="token")
doctor = typer.Typer(no_args_is_help=True, help="What could not be done, before somebody needs it.")
cli.add_typer(doctor, name="doctor")


@cli.command()
def serve() -> None:
    """Run the service at the configured address."""
    from app.api.server import serve as run
    from app.main import create_app

    limit_arenas()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of our memory would hold every secret
    settings = Settings()
    run(create_app(settings), settings.server)


def limit_arenas() -> None:
    """One heap for all threads instead of one each: chunks of 1 MiB leave fewer holes (mallopt(3), glibc)."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX


@cli.command()
def openapi(
    check: Annotated[Path | None, typer.Option(help="Compare with this file instead of printing")] = None,
) -> None:
    """Print openapi.yaml as the application is now."""
    import yaml

    from app.main import create_app

    text = yaml.safe_dump(create_app().openapi(), sort_keys=False, allow_unicode=True, width=110)
    if check is None:
        sys.stdout.write(text)
    elif not check.exists() or check.read_text() != text:
        sys.exit(f"{check} is not what the application says: python -m app.cli openapi > {check}")


@cli.command("recovery-kit")
def recovery_kit(out: Annotated[Path, typer.Argument(help="File to write; must not exist")]) -> None:
    """Write every key of this installation into one file, to be kept somewhere else."""
    from app.errors import KeyMaterialInvalid
    from app.key_rotation import note
    from app.security.recovery_kit import write_kit

    try:
        settings = Settings()
        write_kit(settings.keys_folder, out, settings.master_keys)
    except KeyMaterialInvalid as error:
        sys.exit(error.message)
    try:
        asyncio.run(note(settings, "keys.export"))
    except Exception as error:  # noqa: BLE001,RUF100  a kit matters more than its record, above all in a disaster
        typer.echo(f"The audit trail does not know of it: {type(error).__name__}", err=True)
    typer.echo(f"Wrote {out}. Whoever has it can open every backup: keep it safe, and away from this machine.")
    typer.echo("When it is there: python -m app.cli recovery-kit-saved")


@cli.command("recovery-kit-saved")
def recovery_kit_saved() -> None:
    """Confirm that a recovery kit is kept somewhere else: each start reminds of it until then."""
    from app.errors import KeyMaterialInvalid
    from app.security.recovery_kit import confirm_kit

    try:
        confirm_kit(Settings().keys_folder)
    except KeyMaterialInvalid as error:
        sys.exit(error.message)


@cli.command("rotate-keys")
def rotate_keys(
    new_key: Annotated[bool, typer.Option(help="Make a new master key first")] = True,
    keep_old: Annotated[bool, typer.Option(help="Leave the old key in the file when all is done")] = False,
) -> None:
    """Seal every stored credential anew under a new master key. The service goes on meanwhile; other processes must
    read the same file."""
    from app.errors import LiberuError
    from app.key_rotation import rotate

    try:
        asyncio.run(rotate(Settings(), typer.echo, new_key=new_key, keep_old=keep_old))
    except LiberuError as error:
        sys.exit(error.message)


@tokens.command("create")
def create_token(
    operator: Annotated[bool, typer.Option("--operator", help="It may do everything, for everybody")] = False,
    user_id: Annotated[int | None, typer.Option(help="It may do everything that this user may")] = None,
    name: Annotated[str, typer.Option(help="As it is listed")] = "made on the machine",
) -> None:
    """Make a token, also when there is none any more that could; the audit trail tells of it. It is shown once."""
    from pydantic import ValidationError

    from app.beside import new_token
    from app.errors import LiberuError
    from app.schemas.operations import TokenIn

    if operator == (user_id is not None):
        sys.exit("Say --operator, or --user-id NUMBER")
    try:
        typer.echo(asyncio.run(new_token(Settings(), TokenIn(name=name, abilities=["*"], user_id=user_id))))
    except ValidationError as error:
        sys.exit(f"Not possible: {error.errors()[0]['msg']}")
    except LiberuError as error:
        sys.exit(error.message)


@doctor.command("kubernetes")
def doctor_kubernetes(
    domain: Annotated[str | None, typer.Option(help="Of this one alone")] = None,
    json: Annotated[bool, typer.Option("--json", help="One object in each line")] = False,
) -> None:
    """Say, for each domain in pods, which pods would be used and which rights are missing (RBAC). Ends with 1 when
    one is missing that backups and restores need. The service may run meanwhile."""
    from json import dumps

    from app.doctor import kubernetes
    from app.errors import LiberuError

    async def examine() -> bool:
        healthy, count = True, 0
        async for found in kubernetes(Settings(), domain):
            healthy, count = healthy and found.healthy, count + 1
            for line in [dumps(found.as_json())] if json else found.lines():
                typer.echo(line)
        if not count:
            typer.echo("No domain runs in pods.", err=True)
        return healthy

    try:
        sys.exit(0 if asyncio.run(examine()) else 1)
    except LiberuError as error:
        sys.exit(error.message)


@cli.command("verify-audit")
def verify_audit() -> None:
    """Check that no audit event was edited or removed. Keep the hash that it prints: with it, a removal of the last
    events together with the trail's head would show too."""
    from app.errors import LiberuError
    from app.key_rotation import verify_audit as verified

    try:
        typer.echo(asyncio.run(verified(Settings())))
    except LiberuError as error:
        sys.exit(error.message)


@cli.command()
def restore(
    source: Annotated[
        str, typer.Option("--from", help="/path, sftp://user@host/path or s3://bucket/prefix?endpoint=…")
    ],
    kit: Annotated[Path | None, typer.Option(help="The recovery kit")] = None,
    identity: Annotated[Path | None, typer.Option(help="An age identity file, where there is no kit")] = None,
    backup: Annotated[str | None, typer.Option(help="The backup's uid; without it, what is there is listed")] = None,
    to: Annotated[Path | None, typer.Option(help="A folder that will be made")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="See the destination as it was, where it keeps old versions: 2026-11-26T15:00:00Z"),
    ] = None,
) -> None:
    """Restore from a destination without the API and its database. Secrets of the destination: see the environment
    variables in docs/disaster-recovery.md."""
    from app.errors import LiberuError
    from app.recovery import Keys, Unverified, keys_of_kit, moment_of
    from app.recovery_cli import show

    try:
        if kit is not None:
            keys = keys_of_kit(kit)
        elif identity is not None:
            lines = [line.strip() for line in identity.read_text().splitlines()]
            keys = Keys([line for line in lines if line and not line.startswith("#")], Unverified())
            typer.echo("Without a recovery kit nothing proves who wrote these backups.", err=True)
        else:
            sys.exit("Give --kit, or --identity")
        asyncio.run(show(source, keys, backup, to, None if at is None else moment_of(at)))
    except (LiberuError, OSError) as error:
        sys.exit(str(error))


@cli.command()
def sweep(
    grace_hours: Annotated[int | None, typer.Option(help="Spare what is younger")] = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be removed")] = False,
) -> None:
    """Remove what interrupted backups left at the destinations. With SQLite the service must be stopped: it does the
    same itself, once a week, and through POST /api/backup-destinations/{id}/sweep."""
    from app.sweep import sweep_all

    for line in asyncio.run(sweep_all(Settings(), grace_hours, dry_run=dry_run)):
        typer.echo(line)


if __name__ == "__main__":
    cli()

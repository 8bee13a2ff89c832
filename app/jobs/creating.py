"""Databases that a restore makes, with their accounts; and takes back when it fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from app.components.base import Report
from app.components.creation import Missing
from app.db.models import Domain
from app.db.session import Database
from app.errors import LiberuError, LoadFailed
from app.jobs.context import Result
from app.services.components import DomainSite
from app.services.database_targets import DatabaseTarget
from app.services.new_databases import NewDatabases
from app.services.unit import Unit

log = logging.getLogger(__name__)
Journal = dict[str, Any]
Record = Callable[[Journal], Awaitable[None]]
#: In a part's journal: what was missing, how far it came (`making`, `made`, `kept`, `undo`), whether the domain's
#: setting gets an entry for it (`entry`), and once it has, whose the account is (`username`).
KEY = "created"


class Creating:
    """`making` is journalled before anything is made, `made` when the server has said so, `kept` when the restore
    into it is whole. What is not kept goes as soon as the restore is given up, or later, as its other remains."""

    def __init__(self, database: Database, new: NewDatabases) -> None:
        self._database = database
        self._new = new

    async def missing(self, site: DomainSite, target: DatabaseTarget) -> Missing:
        """What would be made. Raises LoadFailed for a database that is there and not the domain's."""
        found = await (await site.creation(target.engine, target.name, target.like)).missing()
        if target.like is not None and not found.database:
            raise LoadFailed(
                f"There is a database {target.name}, which the domain's setting does not have: it is left as it is"
            )
        return Missing(found.database, True, found.host) if target.like is not None else found

    async def make(
        self, domain: Domain, site: DomainSite, target: DatabaseTarget, facts: Any, uid: str, journal: Journal,
        record: Record, report: Report,
    ) -> Result | None:  # fmt: skip
        """For the operation `uid`: what was made, for its result. Goes on with what an earlier attempt has begun."""
        if left(journal) and journal[KEY]["state"] == "undo":
            told = await self.undo(domain.id, site, journal, record)
            if left(journal):
                raise LoadFailed(told or target.name)
        noted = journal.get(KEY)
        if noted is None or noted["state"] == "undone":
            missing = await self.missing(site, target)
            if not missing.database:
                return None
            noted = {**missing.noted, "state": "making", "entry": target.like is not None, "uid": uid}
            await record({KEY: noted})
        async with self._database.transaction() as session:
            add = self._new.add if noted["entry"] else self._new.with_password
            site.renew(await add(Unit(session), domain.id, target, uid))
        own = site.database(target.engine, target.name)
        assert own is not None
        if noted["state"] == "making":
            noted = {**noted, "username": own.username}
            await record({KEY: noted})
            await (await site.creation(target.engine, target.name, None)).make(facts, report)
            noted = {**noted, "state": "made"}
            await record({KEY: noted})
        told_once = "told once" if own.made_by == uid else None
        return {"database": target.name, "username": own.username, "account": noted["account"], "password": told_once}

    @staticmethod
    async def keep(journal: Journal, record: Record) -> None:
        """The restore into it is whole."""
        if journal.get(KEY):
            await record({KEY: {**journal[KEY], "state": "kept"}})

    async def undo(self, domain_id: int, site: DomainSite, journal: Journal, record: Record) -> str | None:
        """What was made and is not kept; a sentence of it, None when there was nothing. Idempotent. What cannot be
        taken back now is journalled, to be tried again."""
        noted = journal.get(KEY)
        if noted is None or noted["state"] in ("kept", "undone"):
            return None
        kind, name = journal["kind"], journal["name"]
        surely = noted["state"] == "made" or noted.get("surely", False)
        own = site.database(kind, name)
        told = f"the database {name} and the account that it had made were removed again"
        try:
            if "username" not in noted:
                told = f"no database {name} had been made yet"
            elif own is None or own.username != noted["username"]:
                told = f"the database {name}, which it had made, was left: its domain's setting knows it no more"
            else:
                await (await site.creation(kind, name, None)).remove(Missing.of(noted), surely_ours=surely)
            if noted["entry"]:
                async with self._database.transaction() as session:
                    await self._new.remove(Unit(session), domain_id, kind, name, noted["uid"])
        except LiberuError as error:
            log.warning("What a restore has made of %s could not be removed yet: %s", name, error.message)
            await record({KEY: {**noted, "state": "undo", "surely": surely}})
            return f"{name}, which it had made, could not be removed yet ({error.message}); it is tried again"
        await record({KEY: {**noted, "state": "undone"}})
        return told


def left(journal: Mapping[str, Any]) -> bool:
    """Whether something that was made is still to be removed."""
    return bool(journal.get(KEY)) and journal[KEY]["state"] in ("making", "made", "undo")

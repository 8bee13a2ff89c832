"""The hosted sites that are backed up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db.base import NEVER_REUSED, Base, new_uid, now
from app.idn import to_unicode


def _unicode(context: Any) -> str:
    return to_unicode(context.get_current_parameters()["domain_name"])


class Domain(Base):
    """`domain_name` never changes; `domain_name_unicode` is the same for people. `deployment_credentials`: what of
    `deployment` is secret, sealed under the master key. `shared`: it may have a folder or a database of another
    domain. `places_version`: by which rules its OccupiedPlace rows were computed; 0: never."""

    __tablename__ = "domains"
    __table_args__ = (Index(None, "user_id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(36), unique=True, default=new_uid)
    domain_name: Mapped[str] = mapped_column(String(253), unique=True)
    domain_name_unicode: Mapped[str] = mapped_column(String(253), default=_unicode)
    user_id: Mapped[int | None]
    deployment: Mapped[dict[str, Any]]
    deployment_credentials: Mapped[str | None] = mapped_column(Text)
    document_root: Mapped[str | None] = mapped_column(Text)
    mail_path: Mapped[str | None] = mapped_column(Text)
    system_user: Mapped[str | None] = mapped_column(String(64))
    exclusions: Mapped[list[str]]
    proof: Mapped[str | None] = mapped_column(String(16))
    shared: Mapped[bool] = mapped_column(default=False)
    places_version: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    @property
    def server(self) -> str | None:
        """Whose worker alone can reach the site; None: any."""
        found: str | None = self.deployment.get("server")
        return found

    def database(self, engine: str, name: str) -> DomainDatabase | None:
        """As the setting has it."""
        return next((one for one in self.databases if (one.engine, one.name) == (engine, name)), None)

    databases: Mapped[list[DomainDatabase]] = relationship(
        lazy="raise", cascade="all, delete-orphan", order_by="DomainDatabase.id"
    )
    mailboxes: Mapped[list[DomainMailbox]] = relationship(
        lazy="raise", cascade="all, delete-orphan", order_by="DomainMailbox.id"
    )


class DomainDatabase(Base):
    """`credentials`: passwords, encrypted under the master key. `made_by`: the operation (its uid) that has made it,
    and whose password nobody has been told yet."""

    __tablename__ = "domain_databases"
    __table_args__ = (Index(None, "domain_id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    engine: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255))
    host: Mapped[str | None] = mapped_column(String(255))
    port: Mapped[int | None]
    socket: Mapped[str | None] = mapped_column(Text)
    username: Mapped[str | None] = mapped_column(String(255))
    admin_username: Mapped[str | None] = mapped_column(String(255))
    credentials: Mapped[str | None] = mapped_column(Text)
    made_by: Mapped[str | None] = mapped_column(String(36))


class DomainMailbox(Base):
    __tablename__ = "domain_mailboxes"
    __table_args__ = (Index(None, "domain_id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    email_address: Mapped[str] = mapped_column(String(320))
    quota: Mapped[int | None] = mapped_column(BigInteger)


class OccupiedPlace(Base):
    """A folder or a database that a domain has. `place`: a hash of where, see app.deployments.places; `name`: the
    path or the database there."""

    __tablename__ = "occupied_places"
    __table_args__ = (Index(None, "place"), Index(None, "domain_id"), NEVER_REUSED)

    id: Mapped[int] = mapped_column(primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    place: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)

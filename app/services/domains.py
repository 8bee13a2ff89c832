"""DomainService: what is backed up."""

from __future__ import annotations

from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from pydantic import SecretStr

from app.addresses import AddressGuard
from app.db.models import Domain, DomainDatabase, DomainMailbox
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.domains import DomainRepository
from app.db.repositories.remains import RemainsRepository
from app.errors import Conflict, InvalidRequest, NotFound
from app.schemas.domains import DEPLOYMENT_SECRETS, DatabaseIn, DomainIn
from app.security.keys import CredentialCipher
from app.security.tokens import Principal
from app.services.places import VERSION, PlaceService
from app.services.unit import Unit
from app.settings import SitesSettings

_WHO = {"username", "host_key", "sudo", "credentials_secret"}


class DomainService:
    """`helpers`: whether pods of ours can be made in Kubernetes."""

    def __init__(self, cipher: CredentialCipher, sites: SitesSettings, *, helpers: bool = False) -> None:
        self._helpers = helpers
        self._cipher = cipher
        self._sites = sites
        self._places = PlaceService()

    async def get(self, unit: Unit, principal: Principal, domain_id: int) -> Domain:
        """Raises NotFound, for another user's domain too."""
        domain = await DomainRepository(unit.session).get(domain_id)
        if domain is None:
            raise NotFound(f"There is no domain {domain_id}")
        principal.require_owner(domain.user_id, f"domain {domain_id}")
        return domain

    async def page(self, unit: Unit, principal: Principal, request: PageRequest, search: str | None) -> Page[Domain]:
        return await DomainRepository(unit.session).page(request, principal.user_id, search)

    async def create(
        self, unit: Unit, principal: Principal, body: DomainIn, *, reader: Principal | None = None
    ) -> Domain:
        """Raises Conflict when the name is taken, DomainOverlap, InvalidRequest, Forbidden. `reader`: who will read
        the error, if somebody else than `principal`."""
        principal.require("domains:manage")
        repository = DomainRepository(unit.session)
        await self._places.lock(unit)
        if (other := await repository.by_name(body.domain_name)) is not None:
            asking = reader or principal
            theirs = asking.operator or other.user_id == asking.user_id
            said = "exists already" if theirs else "is registered by somebody else: ask an operator if it is yours"
            raise Conflict(f"The domain {body.domain_name} {said}", field="domain_name")
        domain = Domain(domain_name=body.domain_name, databases=[], mailboxes=[], places_version=VERSION)
        self._allow(domain, body, principal)
        claimed = await self._places.claim(unit, reader or principal, None, body, shared=bool(body.shared))
        self._apply(domain, body, principal)
        repository.add(domain)
        await repository.flush()
        await self._places.occupy(unit, domain, claimed or set())
        return domain

    async def check_new(self, unit: Unit, body: DomainIn, reader: Principal) -> None:
        """Whether it would take another domain's place: makes nothing. Raises DomainOverlap, for `reader` to read."""
        await self._places.claim(unit, reader, None, body, shared=bool(body.shared))

    async def update(self, unit: Unit, principal: Principal, domain_id: int, body: DomainIn) -> Domain:
        principal.require("domains:manage")
        domain = await self.get(unit, principal, domain_id)
        if body.domain_name != domain.domain_name:
            raise InvalidRequest("A domain's name cannot change: its backups belong to it", field="domain_name")
        self._allow(domain, body, principal)
        if not _where(domain, domain.deployment or {"type": "auto"}) <= _where(body, _plain(body)):
            await self._settled(unit, domain)
        shared = domain.shared if body.shared is None else body.shared
        claimed = await self._places.claim(unit, principal, domain, body, shared=shared)
        self._apply(domain, body, principal)
        await unit.session.flush()
        if claimed is not None:
            await self._places.occupy(unit, domain, claimed)
        return domain

    async def upsert(self, unit: Unit, principal: Principal, body: DomainIn) -> Domain:
        """Create or update by name, so that the panel can sync. Another user's name is a Conflict."""
        existing = await DomainRepository(unit.session).by_name(body.domain_name)
        if existing is None or (not principal.operator and existing.user_id != principal.user_id):
            return await self.create(unit, principal, body)
        return await self.update(unit, principal, existing.id, body)

    async def delete(self, unit: Unit, principal: Principal, domain_id: int) -> None:
        """Its backups stay, under the owner; a domain registered later by the same name does not get them."""
        principal.require("domains:manage")
        domain = await self.get(unit, principal, domain_id)
        repository = DomainRepository(unit.session)
        if await repository.has_active_operation(domain.uid):
            raise Conflict(f"{domain.domain_name} has a running operation; wait for it or cancel it")
        await self._settled(unit, domain)
        await repository.delete(domain)
        await repository.flush()

    @staticmethod
    async def _settled(unit: Unit, domain: Domain) -> None:
        """Raises Conflict while only the domain's settings tell where a restore has to be finished or undone."""
        for left in await RemainsRepository(unit.session).of_domain(domain.id):
            if left.unsettled:
                raise Conflict(
                    f"A restore of {domain.domain_name} stopped half-way, and only its settings tell where what was "
                    f"live lies; wait until it is settled ({left.error_message or 'it is tried soon'}), "
                    f"or forget it: DELETE /api/domains/{domain.id}/remains/{left.id}"
                )
        if await DomainRepository(unit.session).is_being_changed(domain):
            raise Conflict(f"A restore or an import of {domain.domain_name} runs; wait for it or cancel it")

    def _allow(self, domain: Domain, body: DomainIn, principal: Principal) -> None:
        """Raises Forbidden, InvalidRequest. Changes nothing."""
        if not principal.operator:
            self._only_operators(domain, body, principal)
        if body.deployment.type in ("auto", "standalone"):  # elsewhere our machine's roots mean nothing
            for field in ("document_root", "mail_path"):
                self._below_roots(getattr(body, field), field)
        if getattr(body.deployment, "snapshots", None) and not self._helpers:
            raise InvalidRequest(
                "Snapshots are read by a pod of the service's: an operator has to set "
                "LIBERU_DEPLOYMENTS__HELPER__IMAGE",
                field="deployment",
            )
        self._allowed_user(body.system_user)
        for host in (*(database.host for database in body.databases), getattr(body.deployment, "host", None)):
            if host is not None:
                _check_host(host)

    def _apply(self, domain: Domain, body: DomainIn, principal: Principal) -> None:
        domain.user_id = body.user_id if principal.operator else principal.user_id
        self._apply_deployment(domain, body)
        domain.document_root, domain.mail_path = body.document_root, body.mail_path
        domain.system_user, domain.exclusions = body.system_user, body.exclusions
        domain.shared = bool(domain.shared if body.shared is None else body.shared)
        domain.proof = body.proof
        self._apply_databases(domain, body.databases)
        domain.mailboxes = [DomainMailbox(email_address=m.email_address, quota=m.quota) for m in body.mailboxes]

    @staticmethod
    def _only_operators(domain: Domain, body: DomainIn, principal: Principal) -> None:
        changed = {
            "document_root": body.document_root != domain.document_root,
            "mail_path": body.mail_path != domain.mail_path,
            "system_user": body.system_user != domain.system_user,
            "deployment": _set(_plain(body)) != _set(domain.deployment or {"type": "auto"}),
            "databases": bool(body.databases),
            "shared": body.shared is not None and body.shared != bool(domain.shared),
        }
        for field, differs in changed.items():
            if differs:
                principal.require_operator(field)

    def _apply_deployment(self, domain: Domain, body: DomainIn) -> None:
        """Secrets and host key that are left out stay, but only for the same account of the same server."""
        wanted = _plain(body)
        given = {
            name: value.get_secret_value()
            for name in DEPLOYMENT_SECRETS
            if (value := getattr(body.deployment, name, None)) is not None
        }
        before = domain.deployment or {}
        same = all(before.get(name) == wanted.get(name) for name in ("type", "host", "port", "username"))
        if same:
            given = self._cipher.open(domain.deployment_credentials) | given
            if wanted.get("host_key") is None and before.get("host_key"):
                wanted["host_key"] = before["host_key"]
        if wanted["type"] == "ssh" and not given.keys() & {"password", "private_key"}:
            raise InvalidRequest("A password or a private key is needed to log in", field="deployment")
        domain.deployment, domain.deployment_credentials = wanted, self._cipher.seal(given)

    def _below_roots(self, path: str | None, field: str) -> None:
        if path is None:
            return
        if not any(PurePosixPath(path).parent.is_relative_to(root) for root in self._sites.roots):
            roots = ", ".join(str(root) for root in self._sites.roots)
            raise InvalidRequest(f"{path} is not below a configured root ({roots})", field=field)

    def _allowed_user(self, name: str | None) -> None:
        uid = (name or "").partition(":")[0]
        system = uid == "root" or (uid.isdecimal() and int(uid) < 1000)
        if system and name not in self._sites.system_users:
            raise InvalidRequest(f"{name} is a system user; list it in the settings to allow it", field="system_user")

    def _apply_databases(self, domain: Domain, wanted: list[DatabaseIn]) -> None:
        known = {(database.engine, database.name): database for database in domain.databases}
        kept = []
        for item in wanted:
            database = known.get((item.engine, item.name)) or DomainDatabase(engine=item.engine, name=item.name)
            database.host, database.port, database.socket = item.host, item.port, item.socket
            database.username, database.admin_username = item.username, item.admin_username
            secrets = self._cipher.open(database.credentials)
            _put(secrets, "password", item.password)
            database.made_by = database.made_by if item.password is None else None  # whoever set it knows it
            _put(secrets, "admin_password", item.admin_password)
            database.credentials = self._cipher.seal(secrets)
            kept.append(database)
        domain.databases = kept


def _check_host(host: str) -> None:
    """Raises AddressForbidden for an address that nobody's site is at; a name is looked up when it is used."""
    with suppress(ValueError):
        AddressGuard().check_host(host)


def _where(of: Domain | DomainIn, deployment: dict[str, Any]) -> set[tuple[object, ...]]:
    """Where its files, mail and databases lie, whoever logs in there."""
    server = {name: value for name, value in _set(deployment).items() if name not in _WHO}
    found: set[tuple[object, ...]] = {("server", *sorted(server.items()))}
    found |= {(kind, path) for kind, path in (("files", of.document_root), ("mail", of.mail_path)) if path}
    return found | {("database", one.engine, one.name, one.host, one.port, one.socket) for one in of.databases}


def _plain(body: DomainIn) -> dict[str, Any]:
    """A deployment setting without its secrets."""
    return body.deployment.model_dump(exclude=DEPLOYMENT_SECRETS)


def _set(configuration: dict[str, Any]) -> dict[str, Any]:
    """Without what is not set."""
    return {name: value for name, value in configuration.items() if value is not None}


def _put(secrets: dict[str, str], key: str, value: SecretStr | None) -> None:
    if value is not None:
        secrets[key] = value.get_secret_value()

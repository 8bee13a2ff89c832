"""Connecting to an SSH server: the host key first, then a credential."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh
from pydantic import SecretStr

from app.addresses import AddressGuard
from app.errors import KeyMaterialInvalid
from app.outgoing import connected

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHKey

#: AES-GCM first: asyncssh's own first choice, chacha20, is half as fast.
_CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-ctr"
_WINDOW = 16 << 20


@dataclass(frozen=True, slots=True)
class SshAccount:
    """How one logs in. `address`: where to connect, a name or an address; `host_key`: the only one that is
    accepted, None for any."""

    address: str
    port: int
    username: str
    password: SecretStr | None
    private_key: SecretStr | None
    passphrase: SecretStr | None
    host_key: str | None


class _Client(asyncssh.SSHClient):
    """Accepts the pinned key, or any while none is pinned. Runs before a credential is sent."""

    def __init__(self, pinned: str | None) -> None:
        self._pinned = pinned
        self.presented = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: SSHKey) -> bool:
        self.presented = " ".join(key.export_public_key("openssh").decode().split()[:2])
        return self._pinned in (None, self.presented)


async def connect(account: SshAccount, guard: AddressGuard) -> tuple[SSHClientConnection, str]:
    """A connection, and the host key that the server presented. The caller sets a timeout.

    Raises asyncssh's errors and OSError, which the caller maps, KeyMaterialInvalid, and what `connected` raises.
    """
    owner, keys = _Client(account.host_key), _keys(account)
    line = await connected(guard, account.address, account.port)
    connection = await asyncssh.connect(
        account.address, account.port, sock=line, client_factory=lambda: owner, known_hosts=([], [], []),
        server_host_key_algs="default", username=account.username,
        password=account.password.get_secret_value() if account.password else None,
        client_keys=keys, agent_path=None, config=None, gss_auth=False,
        preferred_auth="publickey,password,keyboard-interactive",
        encryption_algs=_CIPHERS, compression_algs=["none"], keepalive_interval=15, window=_WINDOW,
    )  # fmt: skip
    return connection, owner.presented


def _keys(account: SshAccount) -> list[SSHKey] | None:
    if account.private_key is None:
        return None
    passphrase = account.passphrase.get_secret_value() if account.passphrase else None
    try:
        return [asyncssh.import_private_key(account.private_key.get_secret_value(), passphrase)]
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise KeyMaterialInvalid(
            "The private key cannot be read: check its form and its passphrase", field="private_key"
        ) from None  # the library's error may quote the key

"""What a destination's `configuration` holds, one model per type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

DestinationType = Literal["local", "sftp"]
Host = Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9:][A-Za-z0-9._:-]*$")


class Configuration(BaseModel, ABC):
    """Secrets are `SecretStr`: written, never read back; left out of an update, they stay as they are."""

    model_config = ConfigDict(extra="forbid")

    def plain(self) -> dict[str, Any]:
        """What may be stored and shown in clear."""
        return self.model_dump(mode="json", exclude=set(self.secret_fields()), exclude_none=True)

    @abstractmethod
    def place(self) -> tuple[Any, ...]:
        """Where objects lie: two configurations of the same place find the same objects."""

    def secrets(self) -> dict[str, str]:
        """The secrets that were given."""
        given = {name: getattr(self, name) for name in self.secret_fields()}
        return {name: value.get_secret_value() for name, value in given.items() if value is not None}

    @classmethod
    def secret_fields(cls) -> list[str]:
        return [name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation)]


class LocalConfiguration(Configuration):
    """A folder of this machine."""

    path: Path = Field(description="Absolute path of the folder that holds the backups")

    def place(self) -> tuple[Any, ...]:
        return (self.path,)

    @field_validator("path")
    @classmethod
    def absolute(cls, value: Path) -> Path:
        return Path(_absolute(str(value)))


class SftpConfiguration(Configuration):
    """A folder of an SSH server. `host_key`: a public key in OpenSSH's form; without one the first is pinned.

    `timeout` in seconds, for connecting and for every answer.
    """

    host: str = Host
    port: int = Field(22, ge=1, le=65535)
    username: str = Field(min_length=1, max_length=255)
    password: SecretStr | None = None
    private_key: SecretStr | None = Field(None, description="In OpenSSH's, PEM's or PKCS#8's form")
    passphrase: SecretStr | None = Field(None, description="Of the private key")
    root: str = Field("/", max_length=1024, description="Absolute path of the folder that holds the backups")
    timeout: float = Field(30, ge=1, le=600)
    host_key: str | None = Field(None, max_length=5000)

    def place(self) -> tuple[Any, ...]:
        return (self.host, self.port, self.username, self.root)

    @field_validator("root")
    @classmethod
    def absolute(cls, value: str) -> str:
        return _absolute(value)

    @field_validator("host_key")
    @classmethod
    def one_key(cls, value: str | None) -> str | None:
        if value is not None and len(value.split()) < 2:
            raise ValueError("must be a public key as in known_hosts: 'ssh-ed25519 AAAA…'")
        return value and " ".join(value.split()[:2])


def _absolute(value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or any(ord(letter) < 32 for letter in value):
        raise ValueError("must be an absolute path without '..'")
    return value


CONFIGURATIONS: dict[str, type[Configuration]] = {"local": LocalConfiguration, "sftp": SftpConfiguration}

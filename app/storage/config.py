"""What a destination's `configuration` holds, one model per type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

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

    def reached(self) -> str | None:
        """The host that is connected to; None: none, or one that the driver knows. Raises ValueError when it cannot
        be told."""
        return None

    def whereabouts(self) -> list[str]:
        """Words that tell where objects lie, for whom that is no business of."""
        return [str(part) for part in self.place() if part is not None and not isinstance(part, int)]

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

    def reached(self) -> str | None:
        return self.host

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


class FtpConfiguration(Configuration):
    """A folder of an FTP server.

    `ssl`: `explicit` (AUTH TLS), `implicit` (TLS from the first byte, usually port 990) or `none`, which needs
    `allow_plaintext`: password and data can then be read on the way. The panel's true and false are understood.
    """

    host: str = Host
    port: int = Field(21, ge=1, le=65535)
    username: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]+$")
    password: SecretStr | None = None
    root: str = Field("/", max_length=1024)
    passive: bool = True
    ssl: Literal["explicit", "implicit", "none"] = "explicit"
    allow_plaintext: bool = False
    verify_certificate: bool = True
    certificate: str | None = Field(None, max_length=100_000, description="PEM of what signed the server's")
    timeout: float = Field(30, ge=1, le=600)

    def reached(self) -> str | None:
        return self.host

    def place(self) -> tuple[Any, ...]:
        return (self.host, self.port, self.username, self.root)

    @field_validator("ssl", mode="before")
    @classmethod
    def as_the_panel(cls, value: Any) -> Any:
        return {True: "explicit", False: "none"}.get(value, value) if isinstance(value, bool) else value

    @field_validator("root")
    @classmethod
    def absolute(cls, value: str) -> str:
        return _absolute(value)

    @field_validator("password")
    @classmethod
    def one_line(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and any(ord(letter) < 32 for letter in value.get_secret_value()):
            raise ValueError("must be one line")
        return value

    @model_validator(mode="after")
    def not_in_clear(self) -> FtpConfiguration:
        if self.ssl == "none" and not self.allow_plaintext:
            raise ValueError("without TLS the password and all data can be read on the way: set allow_plaintext")
        return self


class S3Configuration(Configuration):
    """A bucket of AWS (no `endpoint`) or of another store that speaks its protocol.

    `prefix`: put before every key. `equal_parts`: the store wants every part of an upload but the last to be of one
    size, as Cloudflare's R2 does: parts are then large from the beginning. `certificate`: PEM of what signed the
    endpoint's certificate.

    `object_lock_days`: how long the store keeps anybody from deleting a new object: so many days, or as long as its
    `retention`'s days say; extended while the backup is kept. `object_lock_mode`: nobody at all can shorten
    COMPLIANCE; GOVERNANCE those can whom the bucket's owner allows it.
    """

    key: str = Field(min_length=1, max_length=255)
    secret: SecretStr | None = None
    region: str = Field("us-east-1", min_length=1, max_length=64)
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    endpoint: str | None = Field(None, max_length=1024, pattern=r"^https?://[A-Za-z0-9\[][^\s/?#@]*/?$")
    use_path_style_endpoint: bool = False
    prefix: str = Field("", max_length=512)
    storage_class: str | None = Field(None, max_length=64, pattern=r"^[A-Z0-9_]+$")
    server_side_encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = Field(None, max_length=2048)
    tags: dict[str, str] = Field({}, max_length=10)
    equal_parts: bool = False
    object_lock_days: Annotated[int, Field(ge=1, le=36500)] | Literal["retention"] | None = None
    object_lock_mode: Literal["COMPLIANCE", "GOVERNANCE"] = "COMPLIANCE"
    certificate: str | None = Field(None, max_length=100_000)
    timeout: float = Field(30, ge=1, le=600)

    @field_validator("prefix")
    @classmethod
    def a_folder(cls, value: str) -> str:
        path = value.strip("/")
        if any(part in ("", ".", "..") for part in path.split("/")) and path:
            raise ValueError("must be a folder's name without '.' and '..'")
        return f"{path}/" if path else ""

    def reached(self) -> str | None:
        if self.endpoint is None:
            return None
        parts = urlsplit(self.endpoint)
        _ = parts.port
        return parts.hostname or ""

    def whereabouts(self) -> list[str]:
        hosts = ["s3.amazonaws.com", f"s3.{self.region}.amazonaws.com"]
        with suppress(ValueError):
            hosts.append(self.reached() or "")
        return [*super().whereabouts(), *hosts, *(f"{self.bucket}.{one}" for one in hosts)]

    def place(self) -> tuple[Any, ...]:
        return (self.endpoint, self.region, self.bucket, self.prefix, self.key)


def _absolute(value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or any(ord(letter) < 32 for letter in value):
        raise ValueError("must be an absolute path without '..'")
    return value


CONFIGURATIONS: dict[str, type[Configuration]] = {
    "local": LocalConfiguration,
    "sftp": SftpConfiguration,
    "ftp": FtpConfiguration,
    "s3": S3Configuration,
}

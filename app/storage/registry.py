"""From a destination's type and configuration to its driver. Drivers, and their SDKs, are imported when used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import InvalidRequest
from app.storage.base import Options, StorageDriver
from app.storage.config import FtpConfiguration, LocalConfiguration, S3Configuration, SftpConfiguration


def build_driver(kind: str, configuration: Mapping[str, Any], options: Options) -> StorageDriver:
    """Return an unconnected driver; `configuration` holds the secrets too. Raises InvalidRequest."""
    if kind == "local":
        from app.storage.local import LocalDriver

        return LocalDriver(LocalConfiguration.model_validate(configuration).path)
    if kind == "sftp":
        from app.storage.sftp import SftpDriver

        return SftpDriver(SftpConfiguration.model_validate(configuration), options)
    if kind == "ftp":
        from app.storage.ftp import FtpDriver

        return FtpDriver(FtpConfiguration.model_validate(configuration), options)
    if kind == "s3":
        from app.storage.s3 import S3Driver

        return S3Driver(S3Configuration.model_validate(configuration), options)
    raise InvalidRequest(f"Destination type {kind!r} is not supported", field="type")

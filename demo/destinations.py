"""Every kind of private storage server, by its protocol."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from demo.ceph import s3_server
from demo.ftp_servers import proftpd_server
from demo.storage_servers import StorageServer, sftp_server

SERVERS: dict[str, Callable[[], AbstractContextManager[StorageServer]]] = {
    "sftp": sftp_server,
    "ftp": proftpd_server,
    "ftps": lambda: proftpd_server("explicit"),
    "s3": s3_server,
}

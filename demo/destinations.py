"""Every kind of private storage server, by the type of destination it is for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from demo.ceph import s3_server
from demo.storage_servers import StorageServer, sftp_server

SERVERS: dict[str, Callable[[], AbstractContextManager[StorageServer]]] = {"sftp": sftp_server, "s3": s3_server}

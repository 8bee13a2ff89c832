"""A private S3 store: one-node Ceph with its gateway."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.ports import free_port, free_ports
from demo.storage_servers import StorageServer, make_certificate, wait_for

_CEPH_CONF = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
ms_bind_msgr1 = false
ms_bind_port_min = {first}
ms_bind_port_max = {last}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
run_dir = {dir}
admin_socket = {dir}/$name.asok
log_file = {dir}/$name.log
pid_file =
mon_data = {dir}/mon
osd_data = {dir}/osd
osd_objectstore = {store}
memstore_device_bytes = 4294967296
bluestore_block_size = 17179869184
osd_memory_target = 939524096
osd_pool_default_size = 1
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
[client]
ms_mon_client_mode = crc
rgw_data = {dir}
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 10
rgw_gc_processor_max_time = 10
rgw_frontends = {frontends}
"""


@contextmanager
def s3_server(address: str = "127.0.0.1", store: str = "memstore") -> Iterator[S3Server]:
    """A one-node Ceph with its S3 gateway, http and https. `store`: memstore, or bluestore on disk."""
    folder = Path(tempfile.mkdtemp(prefix="liberu-ceph-"))
    ports = free_ports(22)
    server = _Ceph(folder, address, ports, store)
    try:
        server.start()
        yield server.described()
    finally:
        server.stop()
        shutil.rmtree(folder)


class _Ceph:
    """Monitor, object store and gateway; each in the foreground, so that it is ended by its pid."""

    KEY, SECRET = "testaccess", "s3-canary-secret"

    def __init__(self, folder: Path, address: str, port: int, store: str) -> None:
        self._folder = folder
        self._port = port
        self._address = address
        self._store = store
        self._processes: list[subprocess.Popen[bytes]] = []
        self._env = {"PATH": f"{os.environ['PATH']}:/usr/sbin", "CEPH_CONF": str(folder / "ceph.conf")}

    def _run(self, *argv: str) -> None:
        subprocess.run(argv, env=self._env, check=True, capture_output=True, timeout=120)

    def _start(self, *argv: str, log_name: str | None = None) -> None:
        with (self._folder / f"{log_name or argv[0]}.out").open("wb") as log:
            self._processes.append(subprocess.Popen(argv, env=self._env, stdout=log, stderr=log))

    def start(self) -> None:
        folder, port = self._folder, self._port
        for name in ("mon", "osd"):
            (folder / name).mkdir()
        make_certificate(folder)
        frontends = f"beast endpoint={self._address}:{port} ssl_endpoint={self._address}:{port + 1}"
        frontends += f" ssl_certificate={folder}/cert.pem ssl_private_key={folder}/key.pem"
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (folder / "ceph.conf").write_text(_CEPH_CONF.format(
            fsid=fsid, dir=folder, store=self._store, frontends=frontends,
            mon=port + 2, first=port + 3, last=port + 19,
        ))  # fmt: skip
        monmap = str(folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port + 2}]", monmap)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self._start("ceph-mon", "-f", "-i", "a")
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._start("ceph-osd", "-f", "-i", "0")
        self.make_user("test", self.KEY)
        self._start("radosgw", "-f", "-n", "client.rgw")
        wait_for(self._address, port, self._processes[-1], folder / "radosgw.out")

    def make_busy_gateway(self) -> str:
        """Another one to the same objects, that answers SlowDown to more than two requests at once; its address."""
        port = self._port + 20
        frontend = f"beast endpoint={self._address}:{port}"
        options = [f"--rgw_frontends={frontend}", "--rgw_max_concurrent_requests=2"]
        self._start("radosgw", "-f", "-n", "client.busy", *options, log_name="busy")
        wait_for(self._address, port, self._processes[-1], self._folder / "busy.out")
        return f"http://{self._address}:{port}"

    def make_user(self, name: str, key: str, quota: str | None = None) -> None:
        user = f"--uid={name}"
        self._run(
            "radosgw-admin", "user", "create", user, f"--display-name={name}", f"--access-key={key}",
            f"--secret-key={self.SECRET}",
        )  # fmt: skip
        if quota is not None:
            self._run("radosgw-admin", "quota", "set", "--quota-scope=user", user, f"--max-size={quota}")
            self._run("radosgw-admin", "quota", "enable", "--quota-scope=user", user)

    def described(self) -> S3Server:
        configuration = {
            "key": self.KEY, "secret": self.SECRET, "bucket": "backups", "use_path_style_endpoint": True,
            "endpoint": f"http://{self._address}:{self._port}", "timeout": 20,
        }  # fmt: skip
        extra = {
            "https": f"https://{self._address}:{self._port + 1}",
            "certificate": (self._folder / "cert.pem").read_text(),
        }
        server = S3Server(
            type="s3",
            configuration=configuration,
            data=self._folder,
            secret=self.SECRET,
            wrong={"secret": "wrong"},
            away={"endpoint": f"http://{self._address}:{free_port()}"},
            pid=self._processes[-1].pid,
            extra=extra,
            make_user=self.make_user,
            make_busy_gateway=self.make_busy_gateway,
        )
        server.make_bucket("backups")
        return server

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@dataclass
class S3Server(StorageServer):
    make_user: Callable[[str, str, str | None], None] = lambda name, key, quota: None
    make_busy_gateway: Callable[[], str] = lambda: ""

    def fresh(self) -> dict[str, Any]:
        """The configuration with a new prefix of its own."""
        return {**self.configuration, "prefix": secrets.token_hex(6)}

    def limited(self, quota: str) -> dict[str, Any]:
        """The configuration of another user, who may store no more than `quota`, for example `20M`."""
        key = f"limited{secrets.token_hex(4)}"
        self.make_user(key, key, quota)
        configuration = {**self.configuration, "key": key, "bucket": key}
        self.make_bucket(key, configuration)
        return configuration

    def locking(self) -> str:
        """A new bucket whose objects can be locked."""
        name = f"locking-{secrets.token_hex(4)}"
        self.make_bucket(name, lock=True)
        return name

    def versioned(self) -> str:
        """A new bucket that keeps versions."""
        name = f"versioned-{secrets.token_hex(4)}"
        self.make_bucket(name)
        with self.client() as client:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    @contextmanager
    def client(self, configuration: dict[str, Any] | None = None) -> Iterator[Any]:
        """botocore's own, as anybody else has it who has the credentials."""
        import botocore.session

        settings = configuration or self.configuration
        client = botocore.session.get_session().create_client(
            "s3", region_name="us-east-1", endpoint_url=settings["endpoint"],
            aws_access_key_id=settings["key"], aws_secret_access_key=settings["secret"],
        )  # fmt: skip
        try:
            yield client
        finally:
            client.close()

    def versions(self, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
        """All that is there, markers of deletions too."""
        with self.client() as client:
            pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
            return [one for page in pages for kind in ("Versions", "DeleteMarkers") for one in page.get(kind, [])]

    def hide(self, bucket: str, suffix: str = "") -> int:
        """Delete every object whose key ends with `suffix`, as one who has the credentials would; how many."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            keys = [one["Key"] for page in pages for one in page.get("Contents", []) if one["Key"].endswith(suffix)]
            for key in keys:
                client.delete_object(Bucket=bucket, Key=key)
        return len(keys)

    def make_bucket(self, name: str, configuration: dict[str, Any] | None = None, *, lock: bool = False) -> None:
        with self.client(configuration) as client:
            client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)

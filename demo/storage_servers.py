"""Private storage servers on free loopback ports, ended by whoever started them."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.ports import free_port

_SSHD = "/usr/sbin/sshd"
_USER = "liberu-sftp"
PASSWORD = "sftp-canary-pw"


@dataclass
class StorageServer:
    """`configuration`: of a destination that keeps its objects here; `data`: where they lie; `secret`: one that must
    show up nowhere; `wrong` and `away`: changes of the configuration to credentials that are refused and to a server
    that is not there.
    """

    type: str
    configuration: dict[str, Any]
    data: Path
    secret: str
    wrong: dict[str, Any]
    away: dict[str, Any]
    pid: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def fresh(self) -> dict[str, Any]:
        """The configuration with a new folder of its own as root."""
        folder = self.data / secrets.token_hex(6)
        folder.mkdir()
        owner = self.data.stat()
        if os.geteuid() == 0:
            os.chown(folder, owner.st_uid, owner.st_gid)
        return {**self.configuration, "root": f"{self.configuration['root'].rstrip('/')}/{folder.name}"}

    def stop(self) -> None:
        """As when the machine is switched off."""
        sessions = self._sessions()
        os.kill(self.pid, signal.SIGTERM)
        _kill(sessions)

    def drop_connections(self) -> int:
        """Break every connection as a dead line does; return how many there were."""
        sessions = self._sessions()
        _kill(sessions)
        return len(sessions)

    def _sessions(self) -> list[int]:
        return [number for child in _children(self.pid) for number in (*_children(child), child)]


def _kill(numbers: list[int]) -> None:
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(") ")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


@contextmanager
def sftp_server(
    subsystem: Sequence[str] = (),
    address: str = "127.0.0.1",
    size: str | None = None,
    limits: str = "MaxStartups 100\nMaxSessions 100",
) -> Iterator[StorageServer]:
    """OpenSSH with internal-sftp, as root for a user with a password, else for yourself with a key.

    `subsystem`: its arguments (`-R` read-only, `-P` requests it refuses); `size`: of the file system behind it, as
    mount(8) takes it (root only); `limits`: further lines of sshd_config.
    """
    root = os.geteuid() == 0
    user = _USER if root else pwd.getpwuid(os.geteuid()).pw_name
    if root:
        _make_user()
    folder = Path(tempfile.mkdtemp(prefix="liberu-sshd-"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    process: subprocess.Popen[bytes] | None = None
    try:
        if size is not None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(data)], check=True)
        if root:
            entry = pwd.getpwnam(user)
            os.chown(data, entry.pw_uid, entry.pw_gid)
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name, phrase in (("host", ""), ("other", ""), ("id", "a phrase")):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-C", name, "-f", str(folder / name)]
            subprocess.run(argv, check=True)
        port = free_port()
        arguments = " ".join(["internal-sftp", *subsystem])
        config = folder / "sshd_config"
        config.write_text(
            f"ListenAddress {address}:{port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/id.pub\nStrictModes no\nUsePAM no\nUseDNS no\nPasswordAuthentication yes\n"
            f"KbdInteractiveAuthentication no\nAllowUsers {user}\n{limits}\n"
            f"Subsystem sftp {arguments}\nForceCommand {arguments}\nAllowTcpForwarding no\n"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([_SSHD, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
        wait_for(address, port, process, folder / "log")
        configuration: dict[str, Any] = {
            "host": address,
            "port": port,
            "username": user,
            "root": str(data),
            "timeout": 10,
        }
        keys = {"private_key": (folder / "id").read_text(), "passphrase": "a phrase"}
        extra = {
            "keys": keys,
            "host_key": " ".join((folder / "host.pub").read_text().split()[:2]),
            "other_key": " ".join((folder / "other.pub").read_text().split()[:2]),
        }
        configuration |= {"password": PASSWORD} if root else keys
        yield StorageServer(
            type="sftp",
            configuration=configuration,
            data=data,
            secret=PASSWORD if root else keys["passphrase"],
            wrong={"username": "nobody-there", "password": "wrong"},
            away={"port": free_port()},
            pid=process.pid,
            extra=extra,
        )
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
        if size is not None:
            subprocess.run(["umount", "-l", str(data)], check=False)
        shutil.rmtree(folder)


def _make_user() -> None:
    if subprocess.run(["id", _USER], capture_output=True, check=False).returncode:
        subprocess.run(["useradd", "-M", "-d", "/", "-s", "/usr/sbin/nologin", _USER], check=True)
    subprocess.run(["chpasswd"], input=f"{_USER}:{PASSWORD}", text=True, check=True)


def wait_for(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended: {log.read_text()}")
        with suppress(OSError), socket.create_connection((address, port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"no answer at port {port}: {log.read_text()}")


def make_certificate(folder: Path) -> None:
    """key.pem and cert.pem for localhost."""
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:10.99.0.2"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
    argv += ["-addext", names, "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(argv, check=True, capture_output=True)

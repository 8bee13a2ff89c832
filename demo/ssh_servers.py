"""A private SSH server that runs commands, as the servers of a hosting company do."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.ports import free_port
from demo.storage_servers import wait_for

_SUDOER = "liberu-sudo"
_SUDOERS = Path(f"/etc/sudoers.d/liberu-test-{os.getpid()}")


@dataclass(frozen=True, slots=True)
class SshHost:
    """`configuration`: a domain's deployment there; `folder`: where sites may lie."""

    configuration: dict[str, Any]
    folder: Path
    pid: int
    host_key: str


@contextmanager
def login_begun(configuration: dict[str, Any]) -> Iterator[None]:
    """A connection of somebody who never logs in."""
    while True:
        with socket.create_connection((configuration["host"], configuration["port"]), 10) as connection:
            if connection.recv(4) == b"SSH-":  # or this was one too many already, with what looked for the server
                yield
                return


@contextmanager
def ssh_host(*, sudo: bool = False, limits: str = "MaxStartups 100") -> Iterator[SshHost]:
    """OpenSSH for whoever runs this, root as a rule. `sudo`: for another user, who may become root (root only);
    `limits`: further lines of sshd_config."""
    user = _SUDOER if sudo else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="liberu-host-"))
    folder.chmod(0o755)
    process: subprocess.Popen[bytes] | None = None
    try:
        if sudo:
            if subprocess.run(["id", user], capture_output=True, check=False).returncode:
                subprocess.run(["useradd", "-M", "-d", "/", "-s", "/bin/sh", user], check=True)
            subprocess.run(["usermod", "-p", "*", user], check=True)  # no password, but not locked
            _SUDOERS.write_text(f"{user} ALL=(ALL) NOPASSWD: ALL\n")
            _SUDOERS.chmod(0o440)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for name in ("host", "id"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(argv, check=True)
        port = free_port()
        config = folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/id.pub\nStrictModes no\nUsePAM no\nUseDNS no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"AllowUsers {user}\n{limits}\n"
            "SetEnv SHLVL=1\n"  # bash takes itself for a remote shell's first and reads .bashrc, which may be slow
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
        wait_for("127.0.0.1", port, process, folder / "log")
        configuration = {
            "type": "ssh", "host": "127.0.0.1", "port": port, "username": user, "sudo": sudo,
            "private_key": (folder / "id").read_text(),
        }  # fmt: skip
        key = " ".join((folder / "host.pub").read_text().split()[:2])
        yield SshHost(configuration, folder, process.pid, key)
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
        if sudo:
            _SUDOERS.unlink(missing_ok=True)
        shutil.rmtree(folder)

"""Private FTP and FTPS servers: ProFTPD and vsftpd."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.ports import free_ports
from demo.service import ROOT
from demo.storage_servers import StorageServer, make_certificate, wait_for

PASSWORD = "ftp-canary-pw"
_PASSIVE = 40
_USER = "test"


def _described(folder: Path, port: int, mode: str, pid: int) -> StorageServer:
    configuration: dict[str, Any] = {
        "host": "127.0.0.1", "port": port, "username": _USER, "password": PASSWORD, "root": "/", "ssl": mode,
        "timeout": 10,
    }  # fmt: skip
    if mode == "none":
        configuration["allow_plaintext"] = True
    else:
        configuration["certificate"] = (folder / "cert.pem").read_text()
    away = {"port": free_ports(1)}
    return StorageServer("ftp", configuration, folder / "data", PASSWORD, {"password": "wrong"}, away, pid)


def _password_hash() -> str:
    argv = ["openssl", "passwd", "-6", "-stdin"]
    return subprocess.run(argv, input=PASSWORD, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _folder(owner: str, size: str | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-ftp-"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    try:
        if size is not None:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(data)], check=True)
        if os.geteuid() == 0:
            shutil.chown(data, owner)
        make_certificate(folder)
        yield folder
    finally:
        if size is not None:
            subprocess.run(["umount", "-l", str(data)], check=False)
        shutil.rmtree(folder)


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


@contextmanager
def proftpd_server(
    mode: str = "none",
    *,
    reuse: bool = True,
    size: str | None = None,
    deny: str = "",
    tls: str = "TLSv1.2 TLSv1.3",
    limits: str = "",
) -> Iterator[StorageServer]:
    """`mode`: none, explicit, implicit; `reuse`: data connections must resume the TLS session; `deny`: commands that
    are refused with 550; `size`: of the file system behind it (root only); `limits`: further directives."""
    root = os.geteuid() == 0
    user = "nobody" if root else pwd.getpwuid(os.geteuid()).pw_name
    with _folder(user, size) as folder:
        entry = pwd.getpwnam(user)
        passwd = folder / "passwd"
        passwd.touch(mode=0o600)
        passwd.write_text(f"{_USER}:{_password_hash()}:{entry.pw_uid}:{entry.pw_gid}::{folder}/data:/bin/sh\n")
        port = free_ports(_PASSIVE + 1)
        lines = [
            "ModulePath /usr/lib/proftpd", "LoadModule mod_tls.c", "ServerType standalone",
            "DefaultAddress 127.0.0.1",
            "SocketBindTight on", "UseIPv6 off", "UseReverseDNS off", f"Port {port}",
            f"PassivePorts {port + 1} {port + _PASSIVE}", f"User {user}", f"PidFile {folder}/pid",
            f"ScoreboardFile {folder}/scoreboard", "DelayTable none", f"SystemLog {folder}/log",
            "TransferLog none", "WtmpLog off", "AuthPAM off", "AuthOrder mod_auth_file.c", f"AuthUserFile {passwd}",
            "RequireValidShell off", "AllowOverwrite on", "AllowStoreRestart on", "AllowRetrieveRestart on",
            *(["DefaultRoot ~"] if root else []),
            *(f"<Limit {command}>\n  DenyAll\n</Limit>" for command in deny.split()), limits,
        ]  # fmt: skip
        if mode != "none":
            options = ["UseImplicitSSL"] if mode == "implicit" else []
            options += [] if reuse else ["NoSessionReuseRequired"]
            lines += [
                "TLSEngine on", "TLSRequired on", f"TLSProtocol {tls}", f"TLSRSACertificateFile {folder}/cert.pem",
                f"TLSRSACertificateKeyFile {folder}/key.pem", f"TLSLog {folder}/tls.log",
                *([f"TLSOptions {' '.join(options)}"] if options else []),
            ]  # fmt: skip
        config = folder / "proftpd.conf"
        config.write_text("\n".join(lines) + "\n")
        with (folder / "out").open("wb") as log:
            process = subprocess.Popen(["/usr/sbin/proftpd", "-n", "-c", str(config)], stdout=log, stderr=log)
        try:
            wait_for("127.0.0.1", port, process, folder / "out")
            server = _described(folder, port, mode, process.pid)
            if not root:
                server.configuration["root"] = str(folder / "data")
            yield server
        finally:
            _ended(process)


@contextmanager
def vsftpd_server(
    mode: str = "none", *, reuse: bool = True, size: str | None = None, per_ip: int = 0
) -> Iterator[StorageServer]:
    """Root only. No MLSD, times in minutes; where it wants TLS sessions resumed it is strict about it."""
    found = shutil.which("vsftpd", path="/usr/sbin") or str(ROOT / "build/vsftpd/usr/sbin/vsftpd")
    with _folder("backup", size) as folder:
        (folder / "empty").mkdir()
        (folder / "passwd").touch(mode=0o600)
        (folder / "passwd").write_text(f"{_USER}:{_password_hash()}\n")
        port = free_ports(_PASSIVE + 1)
        pam = Path(f"/etc/pam.d/liberu-vsftpd-{port}")
        pam.write_text(
            f"auth required pam_pwdfile.so pwdfile {folder}/passwd\n"
            "account required pam_permit.so\nsession required pam_permit.so\n"
        )
        settings = {
            "listen": "YES", "listen_address": "127.0.0.1", "listen_port": port, "pasv_min_port": port + 1,
            "pasv_max_port": port + _PASSIVE, "pam_service_name": pam.name, "local_enable": "YES",
            "guest_enable": "YES", "guest_username": "backup", "nopriv_user": "nobody",
            "virtual_use_local_privs": "YES", "local_root": f"{folder}/data", "chroot_local_user": "YES",
            "allow_writeable_chroot": "YES", "secure_chroot_dir": f"{folder}/empty", "anonymous_enable": "NO",
            "write_enable": "YES", "local_umask": "022", "seccomp_sandbox": "NO", "background": "NO",
            "max_per_ip": per_ip,
        }  # fmt: skip
        if mode != "none":
            settings |= {
                "ssl_enable": "YES", "ssl_tlsv1": "YES", "ssl_ciphers": "HIGH", "rsa_cert_file": f"{folder}/cert.pem",
                "rsa_private_key_file": f"{folder}/key.pem", "force_local_logins_ssl": "YES",
                "force_local_data_ssl": "YES", "require_ssl_reuse": "YES" if reuse else "NO",
                "implicit_ssl": "YES" if mode == "implicit" else "NO",
            }  # fmt: skip
        config = folder / "vsftpd.conf"
        config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        try:
            with (folder / "out").open("wb") as log:
                process = subprocess.Popen([found, str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                wait_for("127.0.0.1", port, process, folder / "out")
                yield _described(folder, port, mode, process.pid)
            finally:
                _ended(process)
        finally:
            pam.unlink()

"""The service in a process of its own, as a user runs it: for the demo, the benchmarks and the tests."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx

ROOT = Path(__file__).parents[1]


class Process(Protocol):
    """As subprocess.Popen has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: signal.Signals) -> None: ...


def launch(environment: Mapping[str, str], log: Path) -> Process:
    with log.open("ab") as file:
        argv = [sys.executable, "-m", "app.cli", "serve"]
        return subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=file, stderr=file)


class Service:
    """Start, kill and restart one service with one data folder."""

    launch: Callable[[Mapping[str, str], Path], Process] = staticmethod(launch)

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.env = env
        self.token = ""
        self.output = ""
        self._process: Process | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self) -> None:
        log = self.folder / "service.log"
        environment = {
            "PATH": os.environ["PATH"],
            "LIBERU_DATA": str(self.folder / "data"),
            "LIBERU_SERVER__PORT": str(self.port),
            "LIBERU_SITES__ROOTS": f'["{self.folder}"]',
            **self.env,
        }
        self._process = self.launch(environment, log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"the service ended: {log.read_text()}")
            try:
                with self.client("none") as client:
                    if client.get("/health/ready").status_code == 200:
                        break
            except httpx.TransportError:
                time.sleep(0.05)
        self.output = log.read_text()
        for line in self.output.splitlines():
            if line.strip().startswith("lbk_"):
                self.token = line.strip()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        # It speaks no TLS here; a context with the world's authorities takes longer to make than most requests.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30, verify=tls)

    def call(self, method: str, path: str, expect: int = 200, token: str | None = None, **options: Any) -> Any:
        with self.client(token) as client:
            response = client.request(method, path, **options)
        assert response.status_code == expect, response.text
        return response.json() if response.content else None

    def wait(self, operation: dict[str, Any], seconds: float = 60, pause: float = 0.05) -> dict[str, Any]:
        with self.client() as client:
            found: dict[str, Any] = self.until(
                lambda: client.get(f"/api/operations/{operation['id']}").raise_for_status().json(),
                lambda found: found["status"] not in ("pending", "running"),
                seconds,
                pause,
            )
        return found

    @staticmethod
    def until(ask: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 60, pause: float = 0.05) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = ask()
            if good(found):
                return found
            time.sleep(pause)
        raise AssertionError(f"still {found}")

    def backup(self, domain: dict[str, Any], type: str = "files", **body: Any) -> dict[str, Any]:
        started = self.call("POST", "/api/backups", 202, json={"domain_id": domain["id"], "type": type, **body})
        ended = self.wait(started)
        return {**self.call("GET", f"/api/backups/{started['backup_id']}"), "operation": ended}

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

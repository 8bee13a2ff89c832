"""A private Docker engine, and images made of what this machine has: no registry is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

#: Of images that are made from files of this machine.
_TOOLS = (
    "bash", "cat", "chmod", "chown", "chroot", "cksum", "cp", "df", "echo", "env", "false", "find", "grep",
    "head", "id", "kill", "ln", "ls", "mkdir", "mktemp", "mv", "printf", "rm", "rmdir", "sh", "sha256sum",
    "sleep", "stat", "sync", "tail", "tar", "test", "true", "wc", "xargs", "setpriv", "dd", "sort", "tee",
    "touch", "ps", "tr", "readlink", "mknod", "date", "sqlite3",
)  # fmt: skip
#: What every image has.
_NOBODY = "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"


class DockerEngine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/docker.sock"
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [
            "dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
            "--pidfile", str(self.folder / "pid"), "-H", self.url, "--bridge", "none", "--iptables=false",
            "--ip6tables=false",
        ]  # fmt: skip
        env = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, env=env)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"dockerd ended: {self.log.read_text()[-3000:]}")
            with suppress(subprocess.CalledProcessError):
                self.run("version")
                return
            time.sleep(0.1)
        raise AssertionError(f"dockerd does not answer: {self.log.read_text()[-3000:]}")

    def run(self, *argv: str, input: bytes | None = None) -> str:
        done = subprocess.run(
            ["/usr/bin/docker", "-H", self.url, *argv], input=input, capture_output=True, check=True, timeout=300
        )
        return done.stdout.decode(errors="replace").strip()

    def image(self, name: str, root: Path) -> str:
        """An image of a folder's content."""
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(root, arcname=".")
            file.seek(0)
            subprocess.run(
                ["/usr/bin/docker", "-H", self.url, "import", "-", name], stdin=file, capture_output=True, check=True
            )
        return name

    def container(self, name: str, image: str, *argv: str, options: Sequence[str] = ()) -> str:
        """Start one that has no network."""
        return self.run("run", "-d", "--init", "--network", "none", "--name", name, *options, image, *argv)

    def stop(self) -> None:
        with suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
            if names := self.run("ps", "-aq").split():
                self.run("rm", "-f", "-v", *names)
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)


@contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    folder = Path(tempfile.mkdtemp(prefix="liberu-docker-"))
    engine = DockerEngine(folder)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        mounted = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for path in reversed([path for path in mounted if path.startswith(f"{folder}/")]):
            subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(folder)


def gnu_root(root: Path, programs: Sequence[str] = ()) -> None:
    """A small system of this machine's own programs, with GNU tar."""
    for folder in ("bin", "usr/bin", "etc", "tmp", "proc", "var", "run", "dev"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in (*_TOOLS, *programs):
        found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        if found is None:
            raise AssertionError(f"{name} is not on this machine")
        add_program(root, Path(found), root / "bin" / Path(name).name)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www:/var/www:/bin/sh\n" + _NOBODY)
    (root / "etc/group").write_text("root:x:0:\nwww-data:x:33:\n")


def add_program(root: Path, program: Path, target: Path | None = None) -> None:
    """A program and the libraries it is linked with, at the same places."""
    place = target or root / str(program).lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        shutil.copy(program, place)
        place.chmod(0o755)
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        paths = [word for word in line.split() if word.startswith("/")]
        for path in paths:
            copy = root / path.lstrip("/")
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)


def busybox_root(root: Path) -> None:
    """busybox and nothing else."""
    for folder in ("bin", "etc", "tmp", "proc", "var", "dev"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    listed = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www:/var/www:/bin/sh\n" + _NOBODY)
    (root / "etc/group").write_text("root:x:0:\nwww-data:x:33:\n")

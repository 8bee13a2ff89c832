"""A read-only file system with the faults of real ones: blocks that cannot be read, files that take no blocks.

Source: the kernel's FUSE protocol (include/uapi/linux/fuse.h, 7.31), spoken by a process of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_ROOT = 1
_LOOKUP, _FORGET, _GETATTR, _READLINK, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 5, 14, 15, 17, 18
_INIT, _OPENDIR, _READDIR, _RELEASEDIR, _ACCESS, _DESTROY, _BATCH_FORGET = 26, 27, 28, 29, 34, 38, 42
_DIRECT_IO = 1


class _Disk:
    """Shows `source`; its files report `blocks` each, and the byte at `bad[name]` of a file cannot be read."""

    def __init__(self, source: str, blocks: int | None, bad: dict[str, int]) -> None:
        self._blocks = blocks
        self._bad = bad
        self._paths = {_ROOT: source}
        self._children: dict[int, dict[bytes, int]] = {}
        self._walk(_ROOT)

    def _walk(self, node: int) -> None:
        self._children[node] = {}
        for item in sorted(os.scandir(self._paths[node]), key=lambda item: item.name):
            child = len(self._paths) + 1
            self._paths[child] = item.path
            self._children[node][os.fsencode(item.name)] = child
            if item.is_dir(follow_symlinks=False):
                self._walk(child)

    def _attributes(self, node: int) -> bytes:
        found = os.lstat(self._paths[node])
        blocks = found.st_blocks if self._blocks is None else self._blocks
        times = int(found.st_mtime)
        return _ATTRIBUTES.pack(
            node, found.st_size, blocks, times, times, times, 0, 0, 0, found.st_mode, 1, found.st_uid, found.st_gid,
            0, 4096, 0,
        )  # fmt: skip

    def answer(self, request: int, node: int, body: bytes) -> bytes | int | None:
        """The answer's body, an error's number, or None where none is expected."""
        if request in (_FORGET, _BATCH_FORGET):
            return None
        if request == _INIT:
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 0, 0, 0, 0, 1 << 17, 1, 0, 0, 0, *[0] * 7)
        if request == _LOOKUP:
            child = self._children[node].get(body.rstrip(b"\0"))
            if child is None:
                return errno.ENOENT
            return struct.pack("<QQQQII", child, 0, 1, 1, 0, 0) + self._attributes(child)
        if request == _GETATTR:
            return struct.pack("<QII", 1, 0, 0) + self._attributes(node)
        if request == _READLINK:
            return os.fsencode(os.readlink(self._paths[node]))
        if request in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 0, _DIRECT_IO if request == _OPEN else 0, 0)
        if request == _READ:
            return self._read(node, *struct.unpack_from("<QQI", body)[1:])
        if request == _READDIR:
            return self._list(node, *struct.unpack_from("<QQI", body)[1:])
        if request == _STATFS:
            return struct.pack("<5Q10I", *[1000] * 5, 4096, 255, 4096, *[0] * 7)
        if request in (_RELEASE, _RELEASEDIR, _ACCESS, _DESTROY):
            return b""
        return errno.ENOSYS

    def _read(self, node: int, offset: int, size: int) -> bytes | int:
        bad = self._bad.get(Path(self._paths[node]).name)
        if bad is not None and offset <= bad < offset + size:
            return errno.EIO
        with Path(self._paths[node]).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _list(self, node: int, offset: int, size: int) -> bytes:
        found = b""
        for position, (name, child) in enumerate(self._children[node].items(), 1):
            entry = struct.pack("<QQII", child, position, len(name), 0) + name
            entry += bytes(-len(entry) % 8)
            if position > offset and len(found) + len(entry) <= size:
                found += entry
        return found


def _serve(mount_point: str, source: str, blocks: int | None, bad: dict[str, int]) -> None:
    disk = _Disk(source, blocks, bad)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"odd-disk", os.fsencode(mount_point), b"fuse.odd-disk", 1, options):  # 1: MS_RDONLY
        sys.exit(os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    while True:
        try:
            message = os.read(device, 1 << 20)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            raise
        _, request, unique, node, *_ = _IN.unpack_from(message)
        answer = disk.answer(request, node, message[_IN.size :])
        if answer is None:
            continue
        number, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(device, _OUT.pack(_OUT.size + len(body), number, unique) + body)


@contextmanager
def odd_disk(
    mount_point: Path, source: Path, *, blocks: int | None = None, bad: dict[str, int] | None = None
) -> Iterator[None]:
    """Mounted at `mount_point` while it is open. `blocks`: what each file reports. `bad`: by name of a file, the
    byte that cannot be read. Raises PermissionError where this process may not mount."""
    argv = [sys.executable, "-m", "demo.odd_disk", str(mount_point), str(source)]
    argv += ["" if blocks is None else str(blocks), *(f"{name}={at}" for name, at in (bad or {}).items())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        if server.stdout.readline() != b"mounted\n":
            raise PermissionError(server.stderr.read().decode().strip())
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(mount_point)], check=True)
            server.kill()


if __name__ == "__main__":
    _, _point, _source, _blocks, *_bad = sys.argv
    _serve(
        _point,
        _source,
        int(_blocks) if _blocks else None,
        {n: int(at) for n, _, at in (b.partition("=") for b in _bad)},
    )

"""A sample document root with everything that is hard to keep, and a snapshot to compare it by."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from pathlib import Path

ODD_NAMES = [
    b"with space.txt", b"new\nline.txt", b"-rf", b"--checkpoint-action=exec=sh", b"caf\xc3\xa9.txt",
    b"latin-\xe9-1.txt", b"quote'\"`$(id).txt", b"back\\slash", b"*.glob?", b".htaccess", b"\xf0\x9f\x98\x80.txt",
    b"semi;colon&pipe|", b"tab\there", b" leading and trailing ",
]  # fmt: skip


def make_site(root: Path, *, files: int = 3000, large: int = 24 << 20, uid: int = -1, seed: int = 7) -> None:
    """Fill `root`; with `uid`, give everything to that user (needs root). Deterministic."""
    rng = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        folder = root / f"d{number % 37:02d}" / f"s{number % 11:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"page-{number:05d}.html").write_bytes(_text(rng, rng.choice([0, 40, 900, 6000, 30000])))
    (root / "empty").touch()
    (root / "empty folder").mkdir(exist_ok=True)
    (root / "large.bin").write_bytes(rng.randbytes(large))
    with (root / "sparse.img").open("wb") as sparse:
        sparse.seek(2 * large)
        sparse.write(b"end")
        sparse.seek(large)
        sparse.write(b"middle")
    odd = os.fsencode(root / "odd names")
    os.makedirs(odd, exist_ok=True)
    for name in ODD_NAMES:
        with open(os.path.join(odd, name), "wb") as file:
            file.write(b"content of " + name)
    os.makedirs(os.path.join(odd, b"sub\xff\n-dir"), exist_ok=True)
    (root / "hard-1").write_text("linked")
    for number in (2, 3):
        os.link(root / "hard-1", root / f"hard-{number}")
    os.link(root / "hard-1", root / "d00" / "hard-4")
    (root / "link-relative").symlink_to("d00/s00")
    (root / "link-absolute").symlink_to("/etc/passwd")
    (root / "link-broken").symlink_to("no such thing")
    os.mkfifo(root / "fifo")
    for mode in (0o400, 0o600, 0o644, 0o755, 0o777, 0o2755, 0o1777):
        path = root / f"mode-{mode:o}"
        path.mkdir() if mode & 0o1000 else path.touch()
        path.chmod(mode)
    os.setxattr(root / "empty", "user.origin", b"sample\0binary\xff")
    os.setxattr(root / "d01", "user.folder", b"yes")
    if uid >= 0:
        for branch, folders, names in os.walk(os.fsencode(root)):
            for name in [b".", *folders, *names]:
                path_bytes = os.path.join(branch, name)
                mode = os.lstat(path_bytes).st_mode
                os.chown(path_bytes, uid, uid, follow_symlinks=False)
                if not os.path.islink(path_bytes):
                    os.chmod(path_bytes, mode & 0o7777)
    subprocess.run(["setfacl", "-m", "u:12345:r,g:12346:rw", str(root / "d02")], check=True)
    subprocess.run(["setfacl", "-m", "u:12345:rwx", str(root / "mode-644")], check=True)
    _set_times(root, rng)


def _text(rng: random.Random, size: int) -> bytes:
    words = [b"backup", b"restore", b"<div>", b"</p>\n", b"lorem ", b"ipsum", b"site", b" class='x'"]
    return b" ".join(rng.choices(words, k=size // 6))[:size]


def _set_times(root: Path, rng: random.Random) -> None:
    for branch, folders, names in os.walk(os.fsencode(root), topdown=False):
        for name in [*names, *folders]:
            when = rng.randrange(10**9, 17 * 10**8) * 10**9 + rng.randrange(10**9)
            os.utime(os.path.join(branch, name), ns=(when, when), follow_symlinks=False)
    os.utime(root, ns=(10**18 + 123456789, 10**18 + 123456789))


Snapshot = dict[bytes, tuple[object, ...]]


def snapshot(root: Path) -> Snapshot:
    """Path → type, mode, owner, group, mtime, link target or content hash, xattrs (ACLs too), hard-link group."""
    found: Snapshot = {}
    first_name: dict[int, bytes] = {}
    base = os.fsencode(root)
    for folder, folders, names in os.walk(base):
        folders.sort()
        for name in sorted([*folders, *names, *([b"."] if folder == base else [])]):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, base)
            try:
                status, content, xattrs = _read(path)
            except FileNotFoundError:
                if relative.startswith(b".liberu-restore-"):  # what a restore has staged is being removed
                    continue
                raise
            linked = status.st_nlink > 1 and not os.path.isdir(path)
            group = first_name.setdefault(status.st_ino, relative) if linked else relative
            owner = (status.st_uid, status.st_gid)
            found[relative] = (status.st_mode, *owner, status.st_mtime_ns, content, xattrs, group)
    return found


def _read(path: bytes) -> tuple[os.stat_result, object, tuple[tuple[str, bytes], ...]]:
    status, content = os.lstat(path), None
    if os.path.islink(path):
        return status, os.readlink(path), _xattrs(path)
    if os.path.isfile(path):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    return status, content, _xattrs(path)


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    keys = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in keys)


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """One line for each path that is not the same."""
    lines = []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            lines.append(f"{path!r}: {before.get(path)} → {after.get(path)}")
    return lines

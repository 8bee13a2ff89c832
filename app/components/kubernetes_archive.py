"""Objects as YAML files in a tar, and the way back.

What is written, kubectl applies as it is, in the order of the names. What is read was written by tenants, too: no
aliases, no tags, nothing nested deep, nothing that JSON cannot say.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import yaml

from app.components.kubernetes_rules import kind_of
from app.deployments.kubernetes_objects import KINDS, Document
from app.errors import ObjectsRefused

MAX_OBJECTS = 5000
#: Bytes of an archive, and of one object in it.
MAX_BYTES = 64 << 20
MAX_OBJECT = 8 << 20
_MAX_DEPTH = 100
_RECORD = 10240
#: Every parser of YAML takes these for text, whatever its version: not `y`, `1e3`, `0o7`, `12:30`.
_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9_./-]+")
_Dumper: Any = type("_Dumper", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {})
_Plain: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _text(dumper: Any, value: str) -> Any:
    style = "|" if "\n" in value else None if _TEXT.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
_Dumper.ignore_aliases = lambda self, data: True


def to_yaml(document: Document) -> bytes:
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 30)
    return str(text).encode()


def member(document: Document) -> bytes:
    """A file of the archive."""
    kind, name = kind_of(document), document["metadata"]["name"]
    if len(name) > 200:  # file systems have no longer ones
        name = f"{name[:200]}-{sha256(name.encode()).hexdigest()[:8]}"
    content = to_yaml(document)
    header = tarfile.TarInfo(f"{KINDS.index(kind) + 1:02}-{kind.name}/{name}.yaml")
    header.size, header.mode = len(content), 0o600
    return header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def ending(size: int) -> bytes:
    """The end of an archive that has `size` bytes."""
    return bytes(2 * tarfile.BLOCKSIZE + -(size + 2 * tarfile.BLOCKSIZE) % _RECORD)


def documents(archive: bytes) -> Iterator[Any]:
    """Whatever its files say, in the order of the archive. Raises ObjectsRefused."""
    count = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as found:
            for entry in found:
                if not entry.isreg() or entry.issparse():
                    raise ObjectsRefused(f"{entry.name[:100]!r} in the archive is no file with an object")
                count += 1
                if count > MAX_OBJECTS or entry.size > MAX_OBJECT:
                    raise ObjectsRefused(
                        f"The archive has more than {MAX_OBJECTS} objects, or one of over {MAX_OBJECT >> 20} MiB"
                    )
                content = found.extractfile(entry)
                yield parsed(b"" if content is None else content.read(), entry.name)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ObjectsRefused(f"The archive of objects cannot be read ({error})") from error


def parsed(content: bytes, name: str) -> Any:
    """Raises ObjectsRefused."""
    try:
        depth = 0
        for event in yaml.parse(content, Loader=_Plain):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise ObjectsRefused(f"{name[:100]!r} in the archive has aliases or tags, which ours never have")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise ObjectsRefused(f"{name[:100]!r} in the archive is nested more than {_MAX_DEPTH} deep")
        document = yaml.load(content, Loader=_Plain)  # noqa: S506  a safe one
        return json.loads(json.dumps(document, allow_nan=False))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        told = str(error).splitlines()[0][:200]
        raise ObjectsRefused(f"{name[:100]!r} in the archive is no object that can be read ({told})") from error

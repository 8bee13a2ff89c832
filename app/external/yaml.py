"""YAML that somebody else wrote: texts, lists and mappings; no tags, no anchors, no aliases.

Source: YAML 1.1; the parser's events, from libyaml where PyYAML has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from app.errors import ArchiveInvalid

_MAX_DEPTH = 20
_MAX_NODES = 200_000
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, tick: Callable[[int], None]) -> Any:
    """Scalars are texts, whatever they look like; None for an empty document. `tick` is called for every event.
    Raises ArchiveInvalid, and what `tick` raises."""
    try:
        return _read(text, tick)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ArchiveInvalid(f"The YAML is not valid: {str(error)[:200]}") from error


def _read(text: str, tick: Callable[[int], None]) -> Any:
    found: list[Any] = []
    open_: list[list[Any]] = [found]  # the children of what is open, a mapping's keys and values in turn
    nodes = 0
    for event in yaml.parse(text, Loader=_PARSER):
        tick(0)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ArchiveInvalid("The YAML has anchors or aliases: no panel writes those, and they are not read")
        if getattr(event, "tag", None) is not None:
            raise ArchiveInvalid("The YAML has tags: no panel writes those, and they are not read")
        if isinstance(event, yaml.ScalarEvent):
            open_[-1].append(event.value)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            open_.append([])
            if len(open_) > _MAX_DEPTH:
                raise ArchiveInvalid(f"The YAML is nested more than {_MAX_DEPTH} deep")
        elif isinstance(event, yaml.SequenceEndEvent):
            children = open_.pop()
            open_[-1].append(children)
        elif isinstance(event, yaml.MappingEndEvent):
            children = open_.pop()
            pairs = zip(children[::2], children[1::2], strict=True)
            open_[-1].append({key: value for key, value in pairs if isinstance(key, str)})
        else:
            continue
        nodes += 1
        if nodes > _MAX_NODES:
            raise ArchiveInvalid(f"The YAML holds more than {_MAX_NODES} values")
    return found[0] if found else None

"""What `make test` takes a random sample of, and `make test-nightly` all of.

A seed, chosen by whoever begins a run, goes for all of its workers and is printed at its end: the same one gives the
same samples.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

SEED = "LIBERU_TEST_SEED"
#: `whole`: every case of every sweep.
SWEEPS = "LIBERU_TEST_SWEEPS"
T = TypeVar("T")


def whole() -> bool:
    return os.environ.get(SWEEPS) == "whole"


def rng(name: str) -> random.Random:
    """For one sweep of this run."""
    return random.Random(f"{os.environ[SEED]} {name}")


def sampled(name: str, cases: Sequence[T], most: int) -> list[T]:
    """In their order."""
    if whole() or len(cases) <= most:
        return list(cases)
    return [cases[number] for number in sorted(rng(name).sample(range(len(cases)), most))]

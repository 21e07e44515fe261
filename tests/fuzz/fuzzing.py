"""What the fuzzed inputs of every kind have in common: seeds, limits, and libFuzzer's options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris


def fuzz(check: Callable[[bytes], object], seeds: Mapping[str, bytes]) -> None:
    """Call *check* with one input after the other, until a limit or an exception.

    The last argument of the program is the corpus' folder, which *seeds* are put into.
    """
    corpus = Path(sys.argv[-1])
    corpus.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        (corpus / name).write_bytes(seed)
    atheris.Setup(sys.argv, lambda data: check(data) and None)
    atheris.Fuzz()

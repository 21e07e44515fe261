"""Ratios that are kept beside the code, and which of them have moved.

Ratios of figures of one machine and one run: unlike the figures, they may be compared with
those of another machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STORED = Path(__file__).with_name("stored.json")
TOLERANCE = 0.15


@dataclass(frozen=True, slots=True)
class Moved:
    """A ratio that is another than the stored one."""

    name: str
    before: float
    now: float

    def __str__(self) -> str:
        change = self.now / self.before - 1
        return f"{self.name}: {self.before:.3g} → {self.now:.3g} ({change:+.0%})"


def moved(
    now: Mapping[str, float], before: Mapping[str, float], tolerance: float = TOLERANCE
) -> list[Moved]:
    """Ratios, known both times, that differ by more than *tolerance* of the stored one.

    >>> [str(found) for found in moved({"a": 1.2, "b": 1.1}, {"a": 1.0, "b": 1.0})]
    ['a: 1 → 1.2 (+20%)']
    """
    return [
        Moved(name, before[name], value)
        for name, value in now.items()
        if before.get(name) and abs(value / before[name] - 1) > tolerance
    ]


def read(path: Path = STORED) -> dict[str, float]:
    """The stored ratios; none when nothing was stored yet."""
    if not path.exists():
        return {}
    ratios: dict[str, float] = json.loads(path.read_text())
    return ratios


def store(ratios: Mapping[str, float], path: Path = STORED) -> None:
    """Keep *ratios* for the next comparison."""
    rounded = {name: float(f"{value:.4g}") for name, value in ratios.items()}
    path.write_text(json.dumps(rounded, indent=2, sort_keys=True) + "\n")

"""What every simulator yields."""

from __future__ import annotations

from typing import NamedTuple


class LabelledEvent(NamedTuple):
    """An event as producers publish it, and its outcome, which is never part of it."""

    event: dict[str, object]
    label: bool

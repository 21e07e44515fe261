"""A mistake in a pipeline file."""

from __future__ import annotations

from typing import NamedTuple

Location = tuple[str | int, ...]


class Finding(NamedTuple):
    """A mistake, and the field that it is in."""

    location: Location
    message: str

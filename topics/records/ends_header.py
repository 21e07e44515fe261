"""Where the sources of a repartitioned component ended, in a header of what was dealt out of them.

A row waits until every source has come as far as it has, or has nothing more to give. Who reads all
sources knows which these are, as one answer of a broker brings rows and ends, and says so with the
last record of each partition of the key: whatever was on the sources when those rows were
read stands before it, or behind the ends that it names. Nobody has to ask the broker for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from topics.errors import WireError

ENDS_HEADER = "anabranch-source-ends"
_MOST = 2**62

Ends = tuple[dict[int, int], dict[int, int]]
"""The next offsets to be written of all event sources, and of all outcome sources, by partition."""


def ends_header(events: Sequence[int], outcomes: Sequence[int]) -> tuple[str, bytes]:
    """The header: ends by partition; no outcomes where none are read.

    >>> ends_header([7, 3], [])
    ('anabranch-source-ends', b'[[7,3],[]]')
    """
    return ENDS_HEADER, orjson.dumps([[*events], [*outcomes]])


def ends_of(headers: Mapping[str, bytes], partitions: int) -> Ends | None:
    """The ends that a record's headers tell; None without. WireError where they are none.

    >>> ends_of({"anabranch-source-ends": b"[[7,3],[]]"}, 2)
    ({0: 7, 1: 3}, {})
    """
    value = headers.get(ENDS_HEADER)
    if value is None:
        return None
    try:
        events, outcomes = orjson.loads(value)
        for ends in (events, outcomes):
            if type(ends) is not list or not all(type(e) is int and 0 <= e <= _MOST for e in ends):
                raise ValueError("they are no offsets")
        if len(events) != partitions or len(outcomes) not in (0, partitions):
            raise ValueError(f"they are not of {partitions} partitions")
    except (ValueError, TypeError) as exc:
        raise WireError(f"{ENDS_HEADER} tells no ends of sources: {exc}") from exc
    return dict(enumerate(events)), dict(enumerate(outcomes))

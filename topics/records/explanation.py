"""What goes with a record of `<pipeline>.explanations`: its headers tell which decision it is of.

The value is an `agents.explanations.Explanation`. A decision's record key and headers are the
explanation's too, so both are found by the same coordinates of their event.
"""

from __future__ import annotations

from collections.abc import Sequence

DECISION_HEADER = "x-decision"
"""Where the decision stands: its own offset, on the partition of the same number."""
_OF_A_DECISION = ("ce_id", "traceparent", "x-redrive-attempt")
"""Headers of a decision that are of its explanation too."""


def explanation_headers(
    decision: Sequence[tuple[str, bytes]], offset: int, pipeline: str, at: str
) -> list[tuple[str, bytes]]:
    """The headers of an explanation that is written *at* an RFC 3339 time.

    *decision* are those of the decision at *offset*.
    """
    return [
        *((name, value) for name, value in decision if name in _OF_A_DECISION),
        ("ce_time", at.encode()),
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_type", b"anabranch.explanation"),
        ("ce_source", f"anabranch/{pipeline}".encode()),
        (DECISION_HEADER, b"%d" % offset),
    ]


def explained_offset(headers: Sequence[tuple[str, bytes]]) -> int:
    """Where the decision stands that is explained. Raises KeyError or ValueError for others."""
    return int(dict(headers)[DECISION_HEADER] or b"")

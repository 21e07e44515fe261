"""What must hold of anything that a decoder of ours lets in."""

from __future__ import annotations

import numpy as np

from topics.errors import WireError
from topics.records.stage_batch import StageBatch
from topics.records.wire import HEADER_LENGTH, decode, encode


def decoded(data: bytes) -> StageBatch | None:
    """The batch in *data*, whose first three bytes stand for the record header; None for none.

    Raises AssertionError for a batch that a worker could not go on with.
    """
    length, value = int.from_bytes(data[:3], "little"), data[3:]
    headers = {HEADER_LENGTH: b"%d" % length} if length else {}
    try:
        batch = decode(value, headers)
    except WireError:
        return None
    check_usable(batch)
    return batch


def check_usable(batch: StageBatch) -> None:
    """Everything that workers do with a batch works."""
    rows, n = batch.rows, len(batch)
    assert n == len(batch.present) == len(batch.output) == len(batch.signal)
    assert (np.diff(rows.offsets) > 0).all()
    assert ((batch.signal >= 0) & (batch.signal <= 1)).all()
    assert batch.covers_from <= (rows.offsets[0] if n else batch.covers_to + 1 or 2**62 + 2)
    assert len(rows.ids.items()) == len(rows.keys.items()) == n
    assert all(0 <= failure.row < n for failure in batch.failures)
    half = n // 2
    assert len(batch[:half]) + len(batch[half:]) == n
    encode(batch)

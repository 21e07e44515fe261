"""Rows of outputs: picked and merged, each is what it was, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stage_batches import batch_of
from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import ModelRef, StageBatch
from topics.records.wire import encode
from topics.redrive.outputs import merged, picked

OTHER = ModelRef("features@2", "sha256:11", "int8")
offsets = st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True).map(sorted)


def dressed(batch: StageBatch, *, traces: bool, challenged: bool) -> StageBatch:
    """The same with all that a batch may have."""
    n = len(batch)
    if traces:
        column = BytesColumn.of([b"trace-%d" % row for row in range(n)])
        batch = replace(batch, rows=replace(batch.rows, traces=column))
    if challenged:
        batch = replace(batch, challenger=OTHER, challenged=np.arange(n) % 2 == 0)
    return replace(batch, early=np.arange(n) % 3 == 0, entities=BytesColumn.of([b"e"] * n))


def rows_by_offset(batches: list[StageBatch]) -> dict[int, bytes]:
    """Each row as it is on the wire, alone."""
    rows: dict[int, bytes] = {}
    for batch in batches:
        for row, offset in enumerate(batch.rows.offsets.tolist()):
            alone = replace(batch[row : row + 1], covers_from=offset, covers_to=offset)
            rows[offset] = encode(alone)[0]
    return rows


@given(offsets, st.booleans(), st.booleans(), st.data())
def test_rows_that_are_picked_and_merged_are_what_they_were_however_models_change(
    at: list[int], traces: bool, challenged: bool, data: st.DataObject
) -> None:
    absent = data.draw(st.sets(st.sampled_from(at)))
    of_other = set(data.draw(st.lists(st.sampled_from(at), unique=True)))
    batches = [
        dressed(
            batch_of("features", some, absent=absent & {*some}, model=model, width=2),
            traces=traces, challenged=challenged,
        )
        for model, some in (
            (OTHER, sorted(of_other)), (ModelRef("features@1", "a", "fp32"),
                                        [offset for offset in at if offset not in of_other]),
        )
        if some
    ]  # fmt: skip
    whole = rows_by_offset(batches)
    wanted = data.draw(st.lists(st.sampled_from(at), unique=True).map(sorted))
    left = [offset for offset in at if offset not in wanted]
    first, second = (picked(batches, np.array(some, np.int64)) for some in (wanted, left))
    assert rows_by_offset(first) == {offset: whole[offset] for offset in wanted}
    together = merged([*second, *first])
    assert len(together) == len(batches)
    assert rows_by_offset(together) == whole

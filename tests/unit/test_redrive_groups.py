"""Redriven events are dealt with together as far as each is then what it is alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agents.redrive.component_redrive import Arrival, groups_of, joined_rows
from tests.unit.redrives import redrive_of
from tests.unit.stage_batches import batch_of
from topics.records.stage_batch import ModelRef
from topics.redrive.record import RedriveBatch

LATER = ModelRef("forest@2", "sha256:02", "fp32")


def arrival(offset: int, batch: RedriveBatch) -> Arrival:
    return Arrival(offset, 5, batch, 1000)


def test_events_whose_outputs_are_of_two_widths_are_none_absent_beside_the_other() -> None:
    narrow = replace(
        redrive_of(offsets=[3, 9]), outputs={"forest": [batch_of("forest", [3, 9])]}
    )  # fmt: skip
    wide = replace(
        redrive_of(offsets=[5]), outputs={"forest": [batch_of("forest", [5], model=LATER, width=3)]}
    )
    in_one = RedriveBatch.concat([narrow, wide])
    for arrivals in ([arrival(0, narrow), arrival(1, wide)], [arrival(0, in_one)]):
        groups = groups_of(arrivals)
        assert [group.batch.offsets.tolist() for group in groups] == [[3, 9], [5]]
        for group in groups:
            joined = joined_rows(group.batch, ["forest"])
            assert joined.stages["forest"].present.all()
            assert not joined.stages["forest"].failures
    assert [each.offset for each in groups[0].arrivals(np.array([0, 1]))] == [0]


def test_an_output_that_is_absent_keeps_no_events_of_a_record_apart() -> None:
    parts = [
        batch_of("forest", [3], width=3),
        batch_of("forest", [5], absent=[5], model=LATER),
    ]
    batch = replace(redrive_of(offsets=[3, 5]), outputs={"forest": parts})
    (first, second) = groups_of([arrival(0, batch), arrival(1, redrive_of("forest", offsets=[7]))])
    assert first.batch.offsets.tolist() == [3, 5]
    assert second.batch.offsets.tolist() == [7]

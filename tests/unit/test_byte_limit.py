"""What is in flight fits into what a partition of the embedded broker keeps."""

from __future__ import annotations

from collections import defaultdict, deque

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agents.publish.byte_limit import ByteLimit, bytes_about_event
from topics.pipeline.file import find_pipeline
from topics.pipeline.schema import Pipeline

ABOUT, MOST = 50, 1000
EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 1500)), max_size=60)


def card_fraud() -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load(find_pipeline("card-fraud").read_text())
    return content


@given(EVENTS, st.integers(1, 7))
def test_no_partition_has_more_than_it_may_and_every_event_has_its_turn(
    events: list[tuple[int, int]], ending: int
) -> None:
    room, left, in_flight = ByteLimit(ABOUT, MOST), list(events), deque[tuple[int, int]]()
    while left:
        fitting = room.fitting(left)
        for event in left[:fitting]:
            room.enter(*event)
            in_flight.append(event)
        left = left[fitting:]
        held = defaultdict[int, list[int]](list)
        for partition, size in in_flight:
            held[partition].append(size + ABOUT)
        for sizes in held.values():
            assert sum(sizes) <= MOST or len(sizes) == 1, "one that is too large goes alone"
        assert in_flight or not left, "nothing may wait when nothing is in flight"
        for _ in range(min(ending, len(in_flight))):
            room.leave(*in_flight.popleft())


def test_other_partitions_do_not_take_room_away() -> None:
    room = ByteLimit(ABOUT, MOST)
    room.enter(0, 800)
    assert room.fitting([(1, 900), (2, 900), (0, 100), (1, 10)]) == 3


@pytest.mark.parametrize(("codec", "columns"), [("binary", 2000), ("json", 2000)])
def test_a_wide_output_counts_more_than_a_decision(codec: str, columns: int) -> None:
    plain = card_fraud()
    narrow = bytes_about_event(Pipeline.model_validate({**plain, "codec": codec}))
    choices = [f"c-{number}" for number in range(columns)]
    wide = {"name": "wide", "kind": "extract_features", "from": ["events"],
            "features": [{"name": "of", "of": "terminal_id", "apply": "one_hot",
                          "choices": choices}]}  # fmt: skip
    components = [*plain["components"], wide]  # type: ignore[misc]
    found = bytes_about_event(
        Pipeline.model_validate({**plain, "codec": codec, "components": components})
    )
    assert narrow < 4 * columns < found

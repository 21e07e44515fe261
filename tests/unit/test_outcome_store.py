"""Outcomes of a data set: of several about an event the one of the highest rank, in any order."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from agents.dataset.outcome_store import EventNames, OutcomeStore
from tests.unit.test_decisions import PIPELINE
from topics.events import OutcomeDecoder
from topics.pipeline.event_schema import Outcomes
from topics.pipeline.schema import Pipeline

SOURCES: Pipeline = PIPELINE.model_copy(
    update={"outcomes": Outcomes(sources=["chargeback", "analyst"])}
)
HAPPENED = "2026-01-01T00:00:00Z"


class Published(NamedTuple):
    """A record of the topic of outcomes."""

    value: bytes
    offset: int
    key: bytes = b""
    timestamp: int = 1_800_000_000_000
    partition: int = 0
    headers: tuple[()] = ()


def record(offset: int, name: str, *, outcome: bool, source: str, day: int) -> Published:
    said = {
        "id": name, "at": HAPPENED, "outcome": outcome, "source": source,
        "known_at": f"2026-01-{day:02}T00:00:00Z",
    }  # fmt: skip
    return Published(orjson.dumps(said), offset)


SAID = [
    record(1, "a", outcome=True, source="system", day=9),
    record(2, "a", outcome=True, source="chargeback", day=3),
    record(3, "a", outcome=False, source="analyst", day=20),
    record(4, "b", outcome=True, source="analyst", day=4),
    record(5, "b", outcome=False, source="analyst", day=5),
    Published(b"no outcome", 6),
]


def test_a_stronger_source_replaces_and_a_later_time_of_it_whatever_is_read_when(
    tmp_path: Path,
) -> None:
    asked = EventNames(np.array(["b", "c", "a"], object), np.array(["b", "c", "a"], object))
    for order in permutations(SAID):
        with OutcomeStore.in_folder(tmp_path) as store:
            decoder = OutcomeDecoder(SOURCES)
            for one in order:
                store.add(decoder.decode([one], 0))
            known = store.of(asked)
        assert known.known.tolist() == [True, False, True]
        assert known.positive[known.known].tolist() == [False, True]
        assert known.sources.tolist() == ["analyst", "", "chargeback"]
        assert len(known.of_known().known_ms) == 2
    assert not [*tmp_path.iterdir()]


def test_an_outcome_of_another_key_is_of_another_event(tmp_path: Path) -> None:
    with OutcomeStore.in_folder(tmp_path) as store:
        store.add(OutcomeDecoder(SOURCES).decode(SAID[:2], 0))
        known = store.of(EventNames(np.array(["a"], object), np.array(["other"], object)))
    assert not known.known.any()

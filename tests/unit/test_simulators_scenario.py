"""What all simulators share: registered, seeded, valid events, drift and incidents."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import islice, pairwise

import numpy as np
import orjson
import pytest

from models.simulators import SIMULATORS, TRAINING, Incident, LabelledEvent, Scenario
from models.simulators.mean_reverting import walk
from topics.events.event_decoder import EventDecoder
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline

NAMES = sorted(SIMULATORS)
STIRRED = Scenario(drift=1.0, incidents=(Incident(start_day=0.0, hours=24.0),))


def pipeline(name: str) -> Pipeline:
    return load_pipeline(find_pipeline(name)).pipeline


def some(name: str, seed: int, scenario: Scenario, count: int = 300) -> Sequence[LabelledEvent]:
    return list(islice(SIMULATORS[name](seed, scenario=scenario), count))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scenario", [Scenario(), STIRRED], ids=["calm", "stirred"])
def test_every_event_is_valid_in_its_pipeline(name: str, scenario: Scenario) -> None:
    decoder = EventDecoder(pipeline(name).event)
    for labelled in some(name, 3, scenario):
        decoder.event(orjson.dumps(labelled.event))
        assert isinstance(labelled.label, bool)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_events_and_another_others(name: str) -> None:
    assert some(name, 5, STIRRED) == some(name, 5, STIRRED)
    assert some(name, 5, STIRRED) != some(name, 6, STIRRED)


@pytest.mark.parametrize("name", NAMES)
def test_time_never_goes_back_and_identifiers_are_unique(name: str) -> None:
    event, found = pipeline(name).event, [row.event for row in some(name, 1, STIRRED, 3000)]
    times = [str(row[event.time]) for row in found]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert len({row[event.id] for row in found}) == len(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_bounded_stream_ends_and_begins_like_the_endless_one(name: str) -> None:
    day = list(SIMULATORS[name](2, days=1))
    assert day == list(islice(SIMULATORS[name](2), len(day)))


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_ahead_changes_nothing_before_it(name: str) -> None:
    later = Scenario(drift=1.0, drift_from_day=1.0, incidents=(Incident(start_day=1.0),))
    assert list(SIMULATORS[name](4, days=1, scenario=later)) == list(SIMULATORS[name](4, days=1))


@pytest.mark.parametrize("name", NAMES)
def test_events_come_more_often_by_day_than_by_night(name: str) -> None:
    time = pipeline(name).event.time
    hours = [int(str(row.event[time])[11:13]) for row in SIMULATORS[name](1, days=1)]
    by_day = sum(8 <= hour < 18 for hour in hours) / 10
    by_night = sum(hour < 5 for hour in hours) / 5
    assert by_day > 1.5 * by_night


@pytest.mark.parametrize(
    ("name", "events"),
    [("machine-maintenance", 10_000), ("road-risk", 12_000), ("tumour-triage", 3000)],
)
def test_memory_does_not_grow_with_the_stream(name: str, events: int) -> None:
    tracemalloc.start()
    try:
        stream = SIMULATORS[name](1)
        held = []
        for _ in range(2):
            for _ in islice(stream, events):
                pass
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 8_000_000  # these events are 15 MB and more


def test_every_pipeline_with_a_simulator_can_be_trained_on_simulated_events() -> None:
    assert set(TRAINING) == set(SIMULATORS)


def test_drift_is_a_ramp_that_stays_where_it_ends() -> None:
    shift = Scenario(drift=2.0, drift_from_day=1.0, drift_days=2.0).shift
    assert shift(np.array([0.0, 1.0, 2.0, 3.0, 30.0])).tolist() == [0, 0, 1, 2, 2]


def test_an_incident_begins_and_ends_when_it_says() -> None:
    scenario = Scenario(incidents=(Incident(start_day=0.5, hours=6), Incident(start_day=2.0)))
    days = np.array([0.49, 0.5, 0.74, 0.75, 2.0, 2.1])
    assert scenario.in_incident(days).tolist() == [False, True, True, False, True, False]


def test_a_walk_has_its_deviation_and_its_memory_and_goes_on_from_its_state() -> None:
    path = walk(np.random.default_rng(1), np.zeros(200), std=2.0, memory=10.0, steps=1000)[100:]
    assert path.std() == pytest.approx(2.0, rel=0.03)
    lagged = np.corrcoef(path[:-10].ravel(), path[10:].ravel())[0, 1]
    assert lagged == pytest.approx(np.exp(-1), abs=0.03)
    far = walk(np.random.default_rng(1), np.full(1, 1e6), std=1.0, memory=10.0, steps=1)
    assert far[0, 0] == pytest.approx(1e6 * np.exp(-0.1), rel=1e-4)

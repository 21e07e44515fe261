"""Every component keeps the contract; the suite itself notices those that do not."""

from __future__ import annotations

from itertools import islice

import numpy as np
import orjson
import pytest

from agents.components.catalogue import open_component
from models.component import Batch, Component, StageOutput
from models.features.windows import over_all_rows
from models.simulators import SIMULATORS
from tests.conformance import check_component
from tests.integration.harness import Trained
from tests.integration.velocity import LargeAmount
from topics.events.event_decoder import EventDecoder
from topics.pipeline.readers import in_order

ROWS = 300


def events_batch(trained: Trained) -> Batch:
    decoder = EventDecoder(trained.pipeline.event)
    labelled = islice(SIMULATORS["card-fraud"](3), ROWS)
    columns = decoder.columns([decoder.event(orjson.dumps(each.event)) for each in labelled])
    return Batch(rows=ROWS, columns=columns)


def with_windows(trained: Trained, name: str, events: Batch) -> Batch:
    """What the worker adds to the fields of the events."""
    if not trained.pipeline.component(name).windowed:
        return events
    labels = np.zeros(events.rows, np.bool_)
    windows = over_all_rows(trained.pipeline, name, events.columns, labels)
    return Batch(rows=events.rows, columns={**events.columns, **windows})


def test_every_component_of_the_trained_pipeline_conforms(trained: Trained) -> None:
    outputs: dict[str, StageOutput] = {}
    events = events_batch(trained)
    for name in in_order(trained.pipeline):
        inputs = trained.pipeline.component(name).inputs
        batch = with_windows(trained, name, events)
        if inputs != ["events"]:
            batch = Batch(rows=ROWS, inputs={stage: outputs[stage] for stage in inputs})
        opened = open_component(trained.pipeline, name, trained.registry, trained.home)
        check_component(opened.component, batch)
        outputs[name] = opened.component.transform(batch)


def test_a_component_of_ones_own_conforms(trained: Trained) -> None:
    check_component(LargeAmount(limit=500), events_batch(trained))


class _Greedy(Component):
    def transform(self, batch: Batch) -> StageOutput:
        share = batch.columns["amount"] / batch.columns["amount"].max()
        return StageOutput.of_signal(share)


class _Meddler(Component):
    def transform(self, batch: Batch) -> StageOutput:
        batch.columns["amount"][:] = 0
        return StageOutput.of_signal(np.zeros(batch.rows))


class _Forgetful(Component):
    def __init__(self) -> None:
        self._calls = 0

    def transform(self, batch: Batch) -> StageOutput:
        self._calls += 1
        return StageOutput.of_signal(np.full(batch.rows, 1 / self._calls))


class _Loud(Component):
    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.full(batch.rows, 2.0))


@pytest.mark.parametrize(
    ("component", "complaint"),
    [
        (_Greedy(), "other output bits for the same rows in batches of 1"),
        (_Meddler(), "must not change its arguments"),
        (_Forgetful(), "the same batch again"),
        (_Loud(), "signal is in"),
    ],
)
def test_the_suite_notices(trained: Trained, component: Component, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_component(component, events_batch(trained))

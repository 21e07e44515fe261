"""What is measured: the topics, the load and the right answer of each workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.card_events import CardEvents, ExpectedDecisions, Reference
from tests.benchmarks.check import Checker
from tests.benchmarks.decision_check import DecisionCheck
from tests.benchmarks.image_events import Network, pixels, tensor_events, text_events, text_value
from tests.benchmarks.load import Load, RepeatedLoad
from tests.benchmarks.model_files import ModelFiles
from tests.benchmarks.prediction_check import TensorCheck, TextCheck

W2_PARTITIONS = 32
W1_PARTITIONS = 4
_W1_BATCH, _TEXT_BATCH, _TENSOR_BATCH = 500, 20, 40
_W2_BATCHES = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload, whoever runs it."""

    name: str
    """As peers know it."""
    title: str
    partitions: int
    topics: tuple[str, ...]
    """Behind the prefix; the first is what is published to, the last what is waited for."""
    load: Load
    checker: Callable[[str], Checker]
    """By the run's prefix."""


def card_fraud(files: ModelFiles) -> Workload:
    """W1: three stages and the join."""
    events = CardEvents()
    load = Load(events.events(), W1_PARTITIONS, _W1_BATCH)
    reference = Reference(files.exported)
    known: dict[int, ExpectedDecisions] = {}

    def checker(prefix: str) -> Checker:
        taken = len(events.amounts)
        if taken not in known:
            known.clear()
            known[taken] = reference.expected(events)
        return DecisionCheck(known[taken], f"{prefix}.events", load.number_at)

    topics = ("events", "features", "risk", "decision", "decisions")
    return Workload("w1", "W1 card fraud", W1_PARTITIONS, topics, load, checker)


def crayfish_text(files: ModelFiles) -> Workload:
    """W2 as its authors have it: inputs as text, echoed."""
    network = Network(files.exported)
    load = RepeatedLoad(text_events(), W2_PARTITIONS, _TEXT_BATCH, batches=_W2_BATCHES)
    check = TextCheck(network.prediction, _text_of)
    topics = ("events", "predictions")
    return Workload("w2-text", "W2 text", W2_PARTITIONS, topics, load, lambda _: check)


def crayfish_tensor(files: ModelFiles) -> Workload:
    """W2 with tensors as bytes."""
    network = Network(files.exported)
    load = RepeatedLoad(tensor_events(), W2_PARTITIONS, _TENSOR_BATCH, batches=_W2_BATCHES)
    check = TensorCheck(network.prediction)
    topics = ("events", "predictions")
    return Workload("w2-tensor", "W2 tensor", W2_PARTITIONS, topics, load, lambda _: check)


def _text_of(number: int) -> bytes:
    rows = pixels(number // len(pixels(0)))
    return text_value(number, rows[number % len(rows)])

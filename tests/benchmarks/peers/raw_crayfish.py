"""The stages of w2 for `raw`: a fetch from all partitions is one run of the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import orjson
from aiokafka.structs import ConsumerRecord

from tests.benchmarks.peers import crayfish
from tests.benchmarks.peers.contract import W2_TEXT, Model, Singles, Task
from tests.benchmarks.peers.raw import Fetched, Offsets, Output, Stage


def stages(task: Task) -> dict[str, Stage]:
    """The only stage."""
    model = task.model("ffnn")
    return {"predict": Texts(model) if task.workload == W2_TEXT else Tensors(model)}


class Tensors:
    """Raw inputs to raw predictions."""

    reads: Sequence[str] = ("events",)
    writes = "predictions"

    def __init__(self, model: Model) -> None:
        self._model = model

    def outputs(self, fetched: Fetched) -> Iterable[Output]:
        """A prediction for every input."""
        records = list(chain.from_iterable(fetched.values()))
        return self.answers(records) if records else ()

    def answers(self, records: Sequence[ConsumerRecord]) -> Iterable[Output]:
        """One for each of *records*."""
        for record, row in zip(records, self.predictions([r.value for r in records]), strict=True):
            yield Output(record.partition, record.key, row.tobytes())

    def predictions(self, inputs: Sequence[bytes]) -> Singles:
        """Of *inputs*, one row each."""
        return self._model(crayfish.tensors(inputs))

    def waiting(self) -> Offsets:
        """None: every input is answered at once."""
        return {}


class Texts(Tensors):
    """JSON inputs to JSON predictions."""

    def answers(self, records: Sequence[ConsumerRecord]) -> Iterable[Output]:
        """One for each of *records*."""
        events = [orjson.loads(record.value) for record in records]
        texts = crayfish.texts(self.predictions([crayfish.floats(event) for event in events]))
        for record, event, prediction in zip(records, events, texts, strict=True):
            yield Output(record.partition, record.key, crayfish.answer(event, prediction))

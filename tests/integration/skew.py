"""Whether serving says of each event, to the bit, what training says of the same events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agents.commands import labelled_events
from agents.components.catalogue import open_component
from models.simulators import LabelledEvent
from models.training.data import with_windows
from models.training.stage_outputs import StageOutputs
from tests.integration.harness import Trained, decisions_of, records_of
from topics.pipeline.readers import in_order
from topics.pipeline.topology import Topology
from topics.records.wire import decode
from topics.settings import BrokerSettings

Said = tuple[bytes, bytes]
"""An output and a signal, as bits."""


async def check_no_skew(
    trained: Trained, broker: BrokerSettings, labelled: Sequence[LabelledEvent]
) -> None:
    """Every component's outputs on the broker are those of training, also repeated ones."""
    for name, wanted in trained_outputs(trained, labelled).items():
        found = await _streamed(trained, broker, name)
        missing = wanted.keys() - found.keys()
        assert not missing, f"{name}: {len(missing)} rows are missing, {sorted(missing)[:5]}"
        wrong = [row for row, said in found.items() if any(each != wanted[row] for each in said)]
        assert not wrong, f"{name}: {len(wrong)} rows differ, {sorted(wrong)[:5]}"
    decisions = await decisions_of(broker, trained.pipeline)
    assert not any(decision["degraded"] for decision in decisions)


def trained_outputs(
    trained: Trained, labelled: Sequence[LabelledEvent]
) -> Mapping[str, dict[str, Said]]:
    """Component → event id → what it says when it runs over all rows at once."""
    pipeline = trained.pipeline
    data = with_windows(pipeline, labelled_events.collected(pipeline, iter(labelled)))
    ids = data.columns[pipeline.event.id].tolist()
    stages, said = StageOutputs(pipeline, data), {}
    for name in in_order(pipeline):
        component = open_component(pipeline, name, trained.registry, trained.home).component
        stages.run(name, component, lambda _: None)
        made = component.transform(stages.batch(name, slice(0, data.rows)))
        rows = zip(ids, made.output, made.signal, strict=True)
        assert len(np.unique(made.output)) > len(made.output[0]), f"{name} says nothing"
        said[name] = {row: (output.tobytes(), signal.tobytes()) for row, output, signal in rows}
    return said


async def _streamed(
    trained: Trained, broker: BrokerSettings, name: str
) -> Mapping[str, list[Said]]:
    """Event id → what the component has written of it, more than once after a restart."""
    found: dict[str, list[Said]] = {}
    for record in await records_of(broker, Topology.of(trained.pipeline).stage(name)):
        batch = decode(record.value, dict(record.headers))
        assert batch.present.all(), batch.failures[:3]
        rows = zip(batch.rows.ids.items(), batch.output, batch.signal, strict=True)
        for row, output, signal in rows:
            found.setdefault(row.decode(), []).append((output.tobytes(), signal.tobytes()))
    return found

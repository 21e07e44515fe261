"""Mended events see the past that they would have seen in their turn, to the bit."""

from __future__ import annotations

from collections import defaultdict

import pytest

from models.simulators import LabelledEvent
from tests.integration.harness import Trained, pipeline_running, records_of, settled, trained_small
from tests.integration.skew import trained_outputs
from tests.integration.test_dead_letters import run
from tests.integration.test_windows import EVENTS, publish_with_outcomes, transactions
from topics.pipeline.topology import WEIGH, Topology
from topics.redrive.wire import decode_redrive
from topics.settings import BrokerSettings

SPOILT = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud with windows by the partition key, and by another."""
    home = tmp_path_factory.mktemp("redriven")
    return trained_small("card-fraud", home, rows=60_000, trees=5)


def spoilt(labelled: list[LabelledEvent]) -> tuple[list[int], list[LabelledEvent]]:
    """Some customers' last events have their amount as text: which, and all events.

    Terminals go on: a window of 30 days and a delay of 7 reach back over the whole stream.
    """
    which: list[int] = []
    later: set[object] = set()
    terminals: set[object] = set()
    for at in range(len(labelled) - 1, len(labelled) - 200, -1):
        customer, terminal = (labelled[at].event[key] for key in ("customer_id", "terminal_id"))
        if customer not in later and terminal in later - terminals and len(which) < SPOILT:
            which.append(at)  # none is in another's past
            terminals.add(terminal)
        later |= {customer, terminal}
    events = [
        each._replace(event={**each.event, "amount": str(each.event["amount"])})
        if at in which
        else each
        for at, each in enumerate(labelled)
    ]
    return which, events


async def last_outputs(
    trained: Trained, broker: BrokerSettings
) -> dict[bytes, dict[str, tuple[bytes, bytes]]]:
    """Event id → component → output and signal, as they came to the weighting agent."""
    outputs: dict[bytes, dict[str, tuple[bytes, bytes]]] = defaultdict(dict)
    for record in await records_of(broker, Topology.of(trained.pipeline).redrive):
        redrives = decode_redrive(record.key, record.value, record.headers)
        if redrives.next == WEIGH:
            for name, (batch,) in redrives.outputs.items():
                for row, event_id in enumerate(batch.rows.ids.items()):
                    output = batch.output[row].tobytes(), batch.signal[row].tobytes()
                    outputs[event_id][name] = output
    return outputs


async def test_a_mended_event_has_the_features_of_its_turn_also_after_a_restart(
    trained: Trained, broker: BrokerSettings
) -> None:
    labelled = transactions()
    which, events = spoilt(labelled)
    async with pipeline_running(trained, broker):
        await publish_with_outcomes(broker, trained.pipeline, events, 3000)
        audit = await settled(broker, trained.pipeline, EVENTS)
        assert audit.total.dead == len(which) == SPOILT
    # Nothing new comes: what a component knew of the past, it must find again by itself.
    async with pipeline_running(trained, broker):
        code, output = await run(trained, broker, "redrive")
        assert (code, output["redriven"], len(output["left"])) == (1, 0, SPOILT)
        edit = ".amount |= tonumber"
        code, output = await run(trained, broker, "redrive", "--edit", edit)
        assert (code, output["redriven"], output["decided"]) == (0, SPOILT, SPOILT), output
    audit = await settled(broker, trained.pipeline, EVENTS)
    assert audit.passed
    assert (audit.total.decided, audit.total.redriven) == (EVENTS, SPOILT)

    by_id = await last_outputs(trained, broker)
    assert len(by_id) == SPOILT
    for at in which:
        others = {*which} - {at}
        alone = [each for place, each in enumerate(labelled) if place not in others]
        event_id = str(labelled[at].event["transaction_id"])
        wanted = trained_outputs(trained, alone)
        outputs = by_id[event_id.encode()]
        assert outputs.keys() == wanted.keys()
        for name, output in outputs.items():
            assert output == wanted[name][event_id], name

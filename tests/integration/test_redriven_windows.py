"""Mended events see the past that they would have seen in their turn, to the bit."""

from __future__ import annotations

import pytest

from models.simulators import LabelledEvent
from tests.integration.harness import Trained, pipeline_running, records_of, settled, trained_small
from tests.integration.skew import trained_outputs
from tests.integration.test_dead_letters import run
from tests.integration.test_windows import EVENTS, publish_with_outcomes, transactions
from topics.pipeline.topology import WEIGH, Topology
from topics.redrive.record import RedriveRecord, decode_redrive
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


async def last_redrive_records(trained: Trained, broker: BrokerSettings) -> list[RedriveRecord]:
    """The redrive records as they came to the weighting agent."""
    found = []
    for record in await records_of(broker, Topology.of(trained.pipeline).redrive):
        redrive = decode_redrive(record.key, record.value, record.headers)
        found += [redrive] if redrive.header.next == WEIGH else []
    return found


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

    redrives = await last_redrive_records(trained, broker)
    assert len(redrives) == SPOILT
    by_id = {batch.rows.ids.items()[0]: redrive for redrive in redrives
             for batch in redrive.outputs.values()}  # fmt: skip
    for at in which:
        others = {*which} - {at}
        alone = [each for place, each in enumerate(labelled) if place not in others]
        event_id = str(labelled[at].event["transaction_id"])
        wanted = trained_outputs(trained, alone)
        outputs = by_id[event_id.encode()].outputs
        assert outputs.keys() == wanted.keys()
        for name, batch in outputs.items():
            said_of_it = (batch.output[0].tobytes(), batch.signal[0].tobytes())
            assert said_of_it == wanted[name][event_id], name

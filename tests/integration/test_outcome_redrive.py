"""Outcomes that died for want of a decision count once it is there: once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from agents.redrive.outcome_redrive import OutcomeRedrive, redrive_outcomes
from agents.stages.repartition import _not_redriven
from agents.workers.topic_tail import TailReader
from tests.integration.test_monitor import (
    counted,
    decision,
    made,
    outcome,
    pipeline,
    publish,
    values_of,
)
from topics.events.source_decoder import SourceDecoder
from topics.pipeline.schema import Pipeline
from topics.records.outcome import OUTCOME_REDRIVE, outcome_schema
from topics.settings import BrokerSettings


async def redriven(
    broker: BrokerSettings, of: Pipeline, *, dry_run: bool = False
) -> OutcomeRedrive:
    tail = TailReader(broker)
    await tail.start()
    try:
        return await redrive_outcomes(broker, of, tail, dry_run=dry_run)
    finally:
        await tail.stop()


async def test_what_had_to_make_room_counts_once_when_its_decision_has_come(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    of = pipeline("outcomes-redriven", most_awaiting=20)
    topology = await made(broker, of)
    assert asdict(await redriven(broker, of)) == asdict(OutcomeRedrive())
    await publish(broker, topology.decisions, [(n, decision(of, n, day=1)) for n in range(8)])
    waiting = [(n, outcome(n, n % 2 == 0, day=n / 100)) for n in range(100, 125)]
    await publish(broker, topology.outcomes, [*waiting, (3, b"{}")])
    await counted(broker, of, tmp_path)
    assert (await redriven(broker, of)).undecided == 6
    assert (await redriven(broker, of)).refused == {"InvalidEvent": 1}
    now_decided = [(n, decision(of, n, day=n / 100)) for n in range(100, 103)]
    await publish(broker, topology.decisions, now_decided)
    before, _ = await counted(broker, of, tmp_path)
    assert before["known"] == 0

    tried = await redriven(broker, of, dry_run=True)
    assert (tried.letters, tried.ready, tried.undecided) == (7, 3, 3)
    assert (await redriven(broker, of)).ready == 3
    again = await redriven(broker, of)
    assert (again.ready, again.redriven, again.undecided) == (0, 3, 3)
    after, store = await counted(broker, of, tmp_path)
    assert (after["known"], after["positive"]) == (3, 2)
    assert store.counts.superseded == 0

    records = await values_of(broker, topology.outcomes)
    marked = [each for each in records if OUTCOME_REDRIVE in dict(each.headers)]
    first = {each.value: each for each in records if each not in marked}
    assert len(marked) == 3
    for each in marked:
        original = first[each.value]
        assert (each.partition, each.key, each.timestamp) == (
            original.partition, original.key, original.timestamp,
        )  # fmt: skip
        said = dict(each.headers)[OUTCOME_REDRIVE]
        assert said == f"{original.partition}/{original.offset}".encode()
    # Windows of outcomes have had them: of what they read now these are no outcomes.
    own = [each for each in records if each.partition == marked[0].partition]
    decoded = SourceDecoder(outcome_schema(of), 4).decode(own, marked[0].partition)
    left = _not_redriven(decoded, own).valid.tolist()
    assert len(left) == len(decoded.valid) - sum(each in marked for each in own)
    assert not any(own[row] in marked for row in left)


async def test_of_an_event_older_than_decisions_are_kept_nothing_is_published(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    of = pipeline("outcomes-too-old")
    topology = await made(broker, of)
    await publish(broker, topology.outcomes, [(1, outcome(1, True))])
    await publish(broker, topology.decisions, [(2, decision(of, 2, day=31))])
    for _ in range(2):
        await counted(broker, of, tmp_path)
    await publish(broker, topology.decisions, [(1, decision(of, 1))])
    said = await redriven(broker, of)
    assert (said.letters, said.ready, said.too_old) == (1, 0, 1)

"""Decisions are made again, to the bit, from what the topics hold."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from agents.broker.pipeline_topics import ensure_topics
from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.control.control_topic import ControlTopic
from agents.replay.errors import BadRange, NothingRecorded, NotMadeAgain
from agents.replay.processes import ReplayJob
from agents.replay.processes import replayed as in_processes
from agents.replay.range_choice import Edge, chosen_ranges, edge_of
from agents.replay.recorded_range import SourceRange, recorded_ranges
from agents.replay.report import ReplayReport
from agents.service.promotion import Promoter
from agents.workers.topic_tail import TailReader
from models.training.train import train
from tests.integration.harness import (
    Trained,
    decided,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    renamed,
    settled,
    simulated,
    trained_small,
)
from tests.integration.test_cli import anabranch
from tests.integration.test_explain import amounts_of, own_components
from tests.integration.test_windows import EVENTS, publish_with_outcomes, transactions, with_visits
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.records.stage_batch import StageBatch
from topics.records.wire import decode, encode
from topics.settings import BrokerSettings

FOREST = "risk-forest"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud with windows by three keys, outcomes among them."""
    home = tmp_path_factory.mktemp("replay")
    return trained_small("card-fraud", home, rows=60_000, trees=5, edit=with_visits)


async def replayed(
    own: Trained, broker: BrokerSettings, start: Edge = None, end: Edge = None,
    partitions: list[int] | None = None,
) -> ReplayReport:  # fmt: skip
    tail = TailReader(broker)
    await tail.start()
    try:
        ranges = await chosen_ranges(tail, Topology.of(own.pipeline), start, end, partitions)
    finally:
        await tail.stop()
    return await in_processes(ReplayJob(broker, own.file, own.registry), ranges)


async def command(own: Trained, broker: BrokerSettings, *words: str) -> tuple[int, Any, str]:
    """`anabranch replay … --json`: exit code, report, and what is on stderr."""
    done = await asyncio.to_thread(
        anabranch, own, "replay", str(own.file.path), *words, "--json", broker=broker.broker
    )
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


Change = Callable[[ConsumerRecord], ConsumerRecord | Sequence[ConsumerRecord]]


async def copied(
    own: Trained, broker: BrokerSettings, other: BrokerSettings, changed: Mapping[str, Change]
) -> None:
    """The pipeline's topics on another broker, record by record; those of some topics *changed*."""
    topology = Topology.of(own.pipeline)
    await ensure_topics(other, topology)
    written = [*topology.sources, *map(topology.stage, topology.components), topology.decisions,
               topology.dead_letters, topology.redrive]  # fmt: skip
    for topic in written:
        for partition in range(topology.partitions):
            records = [
                each
                for record in await records_of(broker, topic)
                if record.partition == partition
                for each in several(changed.get(topic, lambda record: record)(record))
            ]
            await publish_raw(other, topic, partition, [
                Record(record.key, record.value, record.timestamp, [*record.headers])
                for record in records
            ])  # fmt: skip


def several(changed: ConsumerRecord | Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
    return [changed] if isinstance(changed, ConsumerRecord) else changed


def with_value(record: ConsumerRecord, value: bytes) -> ConsumerRecord:
    return replace(record, value=value)


def at(wanted: tuple[int, int], change: Callable[[bytes], bytes]) -> Change:
    """Change the record that stands there."""
    return lambda record: (
        with_value(record, change(record.value))
        if (record.partition, record.offset) == wanted
        else record
    )


async def streamed_with_swaps(trained: Trained, own: Trained, broker: BrokerSettings) -> None:
    """A stream with outcomes in which a model, the policy and a canary change."""
    rows = labelled_events.simulated(trained.pipeline, rows=20_000, seed=5)
    train(
        own.pipeline, own.home, rows, own.registry,
        open_component=open_component, seed=9, only=[FOREST],
    )  # fmt: skip
    topology = Topology.of(own.pipeline)
    stricter = own.home / "stricter.yaml"
    stricter.write_text(own.file.path.read_text().replace("version: 1", "version: 2", 1)
                        .replace("decline: 0.5", "decline: 0.4"))  # fmt: skip
    assert load_pipeline(stricter).pipeline.policy.thresholds["decline"] == 0.4
    await ensure_topics(broker, topology)
    async with ControlTopic(broker, topology) as control:
        await Promoter(control, own.file, own.registry).promote(FOREST, 1)
    async with pipeline_running(own, broker):
        publishing = asyncio.create_task(
            publish_with_outcomes(broker, own.pipeline, transactions(), 1500)
        )
        await decided(broker, own.pipeline, EVENTS // 5)
        async with ControlTopic(broker, topology) as control:
            await Promoter(control, own.file, own.registry).challenge(FOREST, 2, 0.3)
        await decided(broker, own.pipeline, 2 * EVENTS // 5)
        async with ControlTopic(broker, topology) as control:
            await Promoter(control, load_pipeline(stricter), own.registry).promote_policy()
        await decided(broker, own.pipeline, 3 * EVENTS // 5)
        async with ControlTopic(broker, topology) as control:
            await Promoter(control, own.file, own.registry).promote(FOREST, 2)
        await publishing
        await settled(broker, own.pipeline, EVENTS)


async def test_a_stream_with_swaps_and_a_canary_is_the_same_when_it_is_replayed(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    await streamed_with_swaps(trained, own, broker)
    topology = Topology.of(own.pipeline)

    code, report, _ = await command(own, broker, "--processes", "2")
    assert (code, report["first_difference"]) == (0, None)
    assert (report["events"], report["decisions"], report["different"]) == (EVENTS, EVENTS, 0)
    assert report["recomputed"] + report["partly_taken"] == EVENTS
    assert {*report["taken"]} <= {"late"}, "nothing else happened here"
    assert report["recomputed"] > 0.95 * EVENTS
    assert len(report["policies"]) == 2
    assert len([model for model in report["models"] if model.startswith(FOREST)]) == 2
    assert [*report["stages"]] == [*topology.components]
    for name, count in report["stages"].items():
        assert count["same"] + sum(count["taken"].values()) == EVENTS, name

    middle = await replayed(own, broker, {2: 300}, {2: 400}, [2])
    assert (middle.events, middle.recomputed + middle.partly_taken) == (100, 100)
    assert middle.first_difference is None
    (part,) = middle.ranges
    assert part.warm_up == 300, "windows of a month reach back to the beginning"

    records = await records_of(broker, topology.decisions)
    doctored = next(r for r in records if r.partition == 1 and r.offset == 57)
    score = orjson.loads(doctored.value)["score"]
    offset = orjson.loads(doctored.value)["source"]["offset"]
    text = repr(score).encode()
    other = text[:-1] + (b"1" if text[-1:] != b"1" else b"2")

    def with_another_score(value: bytes) -> bytes:
        assert value.count(b'"score":' + text) == 1
        return value.replace(b'"score":' + text, b'"score":' + other)

    with EmbeddedBroker() as embedded:
        second = BrokerSettings(broker=embedded.address, embedded=True, session_timeout_s=6)
        change = at((1, 57), with_another_score)
        await copied(own, broker, second, {topology.decisions: change})
        code, report, _ = await command(own, second)
        assert (code, report["different"]) == (1, 1)
        first = report["first_difference"]
        assert first["source"] == {"topic": topology.events, "partition": 1, "offset": offset}
        assert (first["stage"], first["field"]) == ("weigh", "score")
        assert first["recorded"].startswith(other.decode())
        assert first["recomputed"].startswith(text.decode())


async def test_one_bit_of_a_stage_record_is_found(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    topology = Topology.of(own.pipeline)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, 600), 3000)
        await settled(broker, own.pipeline, 600)
    batches = [
        (record, decode(record.value, dict(record.headers)))
        for record in await records_of(broker, topology.stage("features"))
    ]
    record, batch = next((r, b) for r, b in batches if len(b) > 1)

    def flipped(value: bytes) -> bytes:
        output = batch.output.copy()
        output[1, 0] = np.nextafter(output[1, 0], np.inf)
        changed: StageBatch = replace(batch, output=output)
        return encode(changed)[0]

    with EmbeddedBroker() as embedded:
        second = BrokerSettings(broker=embedded.address, embedded=True, session_timeout_s=6)
        change = at((record.partition, record.offset), flipped)
        await copied(own, broker, second, {topology.stage("features"): change})
        report = await replayed(own, second)
    first = report.first_difference
    assert first is not None
    assert (first.source.partition, first.source.offset) == (
        batch.partition, int(batch.rows.offsets[1]),
    )  # fmt: skip
    assert (first.stage, first.field) == ("features", "output[0]")
    assert report.stages["features"].different == 1
    assert report.different == 1


def with_headers(record: ConsumerRecord, **changed: bytes | None) -> ConsumerRecord:
    """With other headers, by their names with _ for -; one that is new comes last."""
    new = {name.replace("_", "-"): value for name, value in changed.items()}
    new |= {"ce_id": new.pop("ce-id")} if "ce-id" in new else {}
    new |= {"ce_time": new.pop("ce-time")} if "ce-time" in new else {}
    return replace(record, headers=tuple((dict(record.headers) | new).items()))


def with_fields(record: ConsumerRecord, **changed: object) -> ConsumerRecord:
    return with_value(record, orjson.dumps(orjson.loads(record.value) | changed))


def forgeries(events: str) -> dict[str, tuple[Callable[[ConsumerRecord], Any], dict[str, Any]]]:
    """What an enemy makes of one decision, of offset 20 of its partition → what has to be said."""
    at = f"{events}/1/"
    return {
        "deleted": (lambda _: [], {"lost": 1, "first": "decision"}),
        "repeated otherwise": (
            lambda r: [r, with_fields(r, decision="decline")], {"repeated": 1, "first": "decision"}
        ),
        "repeated": (lambda r: [r, r], {"repeated": 1, "first": None}),
        "said again later": (
            lambda r: [r, with_headers(with_fields(r, decision="decline"), x_redrive_attempt=b"2")],
            {"first": "decision"},
        ),
        "no JSON, of a later attempt": (
            lambda r: [r, with_headers(with_value(r, b"{"), x_redrive_attempt=b"2")],
            {"first": "decision"},
        ),
        "of an event that is not there": (
            lambda r: [with_headers(r, ce_id=f"{at}999999999".encode()), r],
            {"foreign": 1, "first": None},
        ),
        "of another partition": (
            lambda r: [with_headers(r, ce_id=f"{events}/2/30".encode()), r],
            {"foreign": 1, "first": None},
        ),
        "of the last event": (
            lambda r: [with_headers(r, ce_id=f"{at}LAST".encode()), r],
            {"repeated": 1, "first": "event_id"},
        ),
        "of nothing": (lambda r: [with_headers(r, ce_id=None), r], {"foreign": 1, "first": None}),
        "no time": (lambda r: with_headers(r, ce_time=None), {"first": "headers"}),
        "no value": (lambda r: replace(r, value=None), {"first": "the record"}),
        "a list": (lambda r: with_fields(r, missing_because=[]), {"first": "the record"}),
        "a time before time": (
            lambda r: with_fields(r, decided_at="0001-01-01T00:00:00"), {"first": "the record"}
        ),
        "one more field": (lambda r: with_fields(r, note="paid"), {"first": "note"}),
    }  # fmt: skip


async def test_no_forged_decision_is_passed_over(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    topology, n = Topology.of(own.pipeline), 300
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, n), 3000)
        await settled(broker, own.pipeline, n)
    decisions = [r for r in await records_of(broker, topology.decisions) if r.partition == 1]
    last = dict(decisions[-1].headers)["ce_id"].rpartition(b"/")[2].decode()

    every, found = forgeries(topology.events), dict[str, dict[str, Any]]()
    for what, (forged, said) in every.items():

        def change(record: ConsumerRecord, forged: Any = forged) -> Any:
            if (record.partition, record.offset) != (1, 20):
                return record
            return [
                with_headers(each, ce_id=value.replace(b"LAST", last.encode()))
                if (value := dict(each.headers)["ce_id"])
                else each
                for each in several(forged(record))
            ]

        with EmbeddedBroker() as embedded:
            second = BrokerSettings(broker=embedded.address, embedded=True, session_timeout_s=6)
            await copied(own, broker, second, {topology.decisions: change})
            report = await replayed(own, second)
        first = report.first_difference
        counts = {name: getattr(report, name) for name in said if name != "first"}
        found[what] = {**counts, "first": None if first is None else first.field}
        assert report.undecided == 0, what
        assert report.decisions + report.lost >= n, what
    assert found == {what: said for what, (_, said) in every.items()}


async def test_what_is_not_made_again_is_counted_by_its_class(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    own = own_components(tmp_path, "renormalise")
    text = own.file.path.read_text()
    text = text.replace(
        "options: {limit: 500}\n", "options: {limit: 500}\n    deterministic: true\n"
    )
    own.file.path.write_text(text)
    own = replace(own, file=load_pipeline(own.file.path))
    n = 300
    events = simulated(own.pipeline, n)
    broken = orjson.loads(events[6][1]) | {"transaction_id": "mended", "amount": None}
    hopeless = orjson.loads(events[7][1]) | {"transaction_id": "dead", "occurred_at": "never"}
    more = [(events[6][0], orjson.dumps(broken)), (events[7][0], orjson.dumps(hopeless))]
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, [*events, *more], 2000)
        await settled(broker, own.pipeline, n + 2)
        redriven = await asyncio.to_thread(
            anabranch, own, "dead-letters", "redrive", str(own.file.path), "--reason", "amount",
            "--edit", ".amount = 250.01", broker=broker.broker,
        )  # fmt: skip
        assert redriven.returncode == 0, redriven.stderr
    failing = sum(round(amount * 100) % 4 == 0 for amount in amounts_of(events).values())
    assert failing

    report = await replayed(own, broker)
    assert report.first_difference is None
    assert (report.events, report.decisions, report.different) == (n + 2, n + 1, 0)
    assert report.recomputed == 0, "a stage of each decision is of unknown code"
    assert report.taken == {"own code": n, "redriven": 1}
    assert report.dead_letters == {"InvalidEvent": 2}
    assert report.undecided == 0
    assert report.stages["large"].same == n + 2
    assert report.stages["mendable"].taken == {"own code": n}
    assert report.stages["mendable"].same == 2, "it has no input of these"

    shown = await asyncio.to_thread(
        anabranch, own, "replay", str(own.file.path), broker=broker.broker
    )
    assert shown.returncode == 0, shown.stderr
    assert "taken as recorded: 300 own code: by a component of your own" in shown.stdout
    assert "not decided: 2 dead letters, InvalidEvent" in shown.stdout
    assert "the same to the bit: all that was made again" in shown.stdout


async def test_what_decisions_name_has_to_be_there(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, 100), 3000)
        await settled(broker, own.pipeline, 100)
    decided_by = own.file
    own.file.path.write_text(own.file.path.read_text() + "# changed\n")
    changed = replace(own, file=load_pipeline(own.file.path))
    assert (await replayed(changed, broker)).passed, "the registry has what decided"
    kept = tmp_path / "registry" / own.pipeline.name / "@decided-by"
    for path in kept.iterdir():
        path.unlink()
    where = r"\.events\[\d\]@\d+ to \d+ cannot be replayed: the pipeline file sha256:"
    with pytest.raises(NotMadeAgain, match=where):
        await replayed(changed, broker)
    assert (await replayed(replace(own, file=decided_by), broker)).passed
    code, report, said = await command(changed, broker)
    assert (code, report) == (1, None)
    assert re.match(f"error: {own.pipeline.name}{where}", said)


async def test_a_range_is_read_with_all_that_is_recorded_of_it(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    topology, n = Topology.of(own.pipeline), 1000
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, n), 3000)
        await settled(broker, own.pipeline, n)
    tail = TailReader(broker)
    await tail.start()
    try:
        ends = await tail.ends([topology.events], topology.partitions)
        ranges = [SourceRange(p, 0 if p else 17, ends[topology.events, p] - p) for p in range(4)]
        events = 0
        async with recorded_ranges(broker, topology, ranges, tail) as readers:
            for reader in readers:
                of = reader.range
                offsets = []
                while (block := await reader.block(100)) is not None:
                    offsets += block.offsets.tolist()
                    assert sorted(block.decisions) == block.offsets.tolist()
                    assert not block.dead_letters
                    for name in topology.components:
                        rows = block.stage_rows(name)
                        assert rows.delivered.all()
                        assert rows.present.all()
                        own_rows = [part.rows.offsets for part in block.stages[name]]
                        assert sorted(np.concatenate(own_rows)) == block.offsets.tolist()
                assert offsets == [*range(of.start, of.end)]
                events += len(offsets)
        assert events == n - 17 - 1 - 2 - 3
        with pytest.raises(BadRange, match="4 partitions"):
            await chosen_ranges(tail, topology, None, None, [4])
        for edges in ((["1/50"], ["1/50"]), (["2026-01-02"], ["2026-01-01"])):
            with pytest.raises(BadRange, match="it is not before the end"):
                await chosen_ranges(tail, topology, edge_of(edges[0]), edge_of(edges[1]))
        published = [record.timestamp for record in await records_of(broker, topology.events)
                     if record.partition == 3]  # fmt: skip
        middle = datetime.fromtimestamp(published[len(published) // 2] / 1000, UTC)
        before = sum(each < middle.timestamp() * 1000 for each in published)
        assert await chosen_ranges(tail, topology, middle, None, [3, 3]) == [
            SourceRange(3, before, len(published))
        ]
        assert await chosen_ranges(tail, topology, None, middle, [3]) == [SourceRange(3, 0, before)]
        with pytest.raises(NothingRecorded, match="no events in that range"):
            await chosen_ranges(tail, topology, edge_of(["2126-01-31"]), None)
        with pytest.raises(NothingRecorded, match="no events in that range"):
            await chosen_ranges(tail, topology, edge_of(["1/9000"]), None, [1])
    finally:
        await tail.stop()


@pytest.mark.parametrize(
    "word", ["yesterday", "1/x", "-1/3", "a/3", "/", "0/" + 5000 * "9", "2026-02-30"]
)
def test_an_edge_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(BadRange, match=f"^'{word}' names no events: "):
        edge_of([word])

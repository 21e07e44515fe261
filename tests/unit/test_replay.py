"""What replays compare, and what they do not claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from aiokafka.structs import ConsumerRecord

from agents.components import ComponentOutputs
from agents.join import StageRows, aligned
from agents.join.stage_rows import ModelRun
from agents.replay.decisions import are_same, first_difference, is_same
from agents.replay.event_columns import KnownPast
from agents.replay.keyed_columns import KeyedColumns
from agents.replay.processes import shared_out, worth_it
from agents.replay.recorded_range import SourceRange
from agents.replay.stage_outputs import divergences, passed_over, rows_by_model
from models.features import WindowPlan
from tests.integration.harness import simulated
from tests.unit.stage_batches import batch_of
from topics.events import SourceDecoder
from topics.kafka.batches import Record
from topics.pipeline import find_pipeline, load_pipeline
from topics.records import Failure, ModelRef

EVERY = np.arange(4)
DAY_MS = 86_400_000


def recorded(**changed: object) -> StageRows:
    yes = np.ones(4, np.bool_)
    output = np.arange(8, dtype=np.float64).reshape(4, 2)
    rows = StageRows(yes, output, np.full(4, 0.5, np.float32), (), (), yes)
    return replace(rows, **changed)  # type: ignore[arg-type]  # its fields


def made(**changed: object) -> ComponentOutputs:
    rows = recorded()
    outputs = ComponentOutputs(rows.present, rows.output, rows.signal, {})
    return replace(outputs, **changed)  # type: ignore[arg-type]  # its fields


def test_the_same_bits_are_no_divergence() -> None:
    assert [*divergences(recorded(), made(), EVERY)] == []


def test_one_bit_of_a_signal_or_an_output_is_a_divergence_of_its_row_alone() -> None:
    signal = made().signal.copy()
    signal[2] = np.nextafter(signal[2], np.float32(1))
    (found,) = divergences(recorded(), made(signal=signal), EVERY)
    assert (found.row, found.field) == (2, "signal")
    assert found.recorded != found.recomputed
    assert [*divergences(recorded(), made(signal=signal), np.array([0, 1, 3]))] == []

    output = made().output.copy()
    output[0, 0] = -0.0
    (found,) = divergences(recorded(), made(output=output), EVERY)
    assert (found.row, found.field, found.recomputed) == (0, "output[0]", "-0.0 (-0x0.0p+0)")


def test_outputs_of_another_type_or_width_differ_where_there_are_any() -> None:
    narrow = made(output=made().output[:, :1])
    assert [each.row for each in divergences(recorded(), narrow, EVERY)] == [0, 1, 2, 3]
    (first, *_) = divergences(recorded(), made(output=made().output.astype(np.float32)), EVERY)
    assert (first.recorded, first.recomputed) == ("2 columns of float64", "2 of float32")


def test_a_row_that_is_absent_has_to_be_absent_for_the_same_error() -> None:
    absent = np.array([True, False, True, True])
    failure = (Failure(1, "risk", "ValueError", "why"),)
    before = recorded(present=absent, failures=failure)
    assert [
        *divergences(before, made(present=absent, errors={1: ("ValueError", "so")}), EVERY)
    ] == []
    other = made(present=absent, errors={1: ("KeyError", "so")})
    (found,) = divergences(before, other, EVERY)
    assert (found.row, found.field, found.recorded) == (1, "present", "ValueError")
    (found,) = divergences(before, made(), EVERY)
    assert (found.recorded, found.recomputed) == ("ValueError", "an output")


def test_rows_that_a_worker_ended_at_or_that_were_too_large_say_nothing_of_a_component() -> None:
    failures = (Failure(0, "risk", "WorkerEnded", ""), Failure(2, "risk", "OutputTooLarge", ""),
                Failure(3, "risk", "ValueError", ""))  # fmt: skip
    assert passed_over(recorded(failures=failures)).tolist() == [True, False, True, False]


def test_rows_are_run_by_the_model_that_has_made_them() -> None:
    one, two = ModelRef("risk@1", "sha256:1", "fp32"), ModelRef("risk@2", "sha256:2", "fp32")
    runs = (ModelRun(0, one), ModelRun(1, two), ModelRun(2, one))
    found = {each.model: each.rows.tolist() for each in rows_by_model(recorded(models=runs), EVERY)}
    assert found == {one: [0, 2, 3], two: [1]}


def record_of(value: bytes, headers: tuple[tuple[str, bytes], ...]) -> ConsumerRecord:
    return ConsumerRecord(
        topic="p.decisions", partition=0, offset=0, timestamp=0, timestamp_type=0, key=b"k",
        value=value, checksum=None, serialized_key_size=1, serialized_value_size=len(value),
        headers=headers,
    )  # fmt: skip


def test_a_decision_is_compared_to_the_byte_and_its_first_field_that_differs_is_named() -> None:
    fields = {"score": 0.5, "contributions": {"a": {"signal": 0.25}}, "missing": []}
    value, headers = orjson.dumps(fields), [("ce_id", b"p.events/0/1")]
    own = Record(b"k", value, 0, headers)
    assert is_same(record_of(value, (*headers, ("x-of-the-topic", b"id"))), own)
    assert not is_same(record_of(value, ()), own)

    changed = orjson.dumps({**fields, "contributions": {"a": {"signal": 0.250000001}}})
    field, before, now = first_difference(record_of(changed, tuple(headers)), own)
    assert field == "contributions.a.signal"
    assert (before.split()[0], now.split()[0]) == ("0.250000001", "0.25")
    more = orjson.dumps({**fields, "contributions": {**fields["contributions"], "b": {}}})  # type: ignore[dict-item]  # it is one
    assert first_difference(record_of(more, tuple(headers)), own)[0] == "contributions.b"
    unknown = orjson.dumps({**fields, "approved by": 1})
    assert first_difference(record_of(unknown, tuple(headers)), own) == ("approved by", "1", "null")
    assert (
        first_difference(record_of(value, tuple(headers)), Record(None, None, 0))[0] == "decision"
    )


def test_rows_that_were_early_stay_so_where_stages_are_put_side_by_side() -> None:
    first = replace(batch_of("a", [1, 3]), early=np.array([False, True]))
    rows = aligned([first, batch_of("a", [5])], np.array([0, 1, 3, 5]))
    assert rows.early is not None
    assert rows.early.tolist() == [False, False, True, False]
    part = rows[1:3].early
    assert part is not None
    assert part.tolist() == [False, True]
    assert aligned([batch_of("a", [5])], np.array([5])).early is None


@pytest.fixture
def plan() -> WindowPlan:
    return WindowPlan(load_pipeline(find_pipeline("card-fraud")).pipeline, "features")


def test_windows_are_whole_where_they_look_back_to_what_was_read_alone(plan: WindowPlan) -> None:
    times = np.array([0, 30, 31, 60]) * DAY_MS
    assert KnownPast(plan, ["p0"]).covers(times).all()
    past = KnownPast(plan, ["p0"])
    past.note("p0", times)
    assert past.covers(times).all()
    past.note("p1", times)
    past.note("p1", times + 100 * DAY_MS)
    assert past.covers(times).tolist() == [False, False, True, True]


def test_features_of_another_key_are_given_once_all_sources_have_come_as_far() -> None:
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    decoder = SourceDecoder(pipeline.event, pipeline.partitions)
    keyed = KeyedColumns(pipeline, "terminals", [])
    events = simulated(pipeline, 40)

    def records(partition: int) -> list[ConsumerRecord]:
        return [
            replace(record_of(value, ()), partition=partition, offset=at, key=key)
            for at, (key, value) in enumerate(events[partition::4])
        ]

    offsets = np.arange(10)
    for partition in range(4):
        assert not keyed.has(0, offsets)
        own = records(partition)
        keyed.take_events(partition, own, decoder.decode(own))
        keyed.release()
    for partition in range(4):
        keyed.end(partition, outcomes=True)
        keyed.end(partition, outcomes=False)
    keyed.release()
    assert keyed.has(0, offsets)
    first = keyed.take(0, offsets[:4])
    assert {len(column) for column in first.columns.values()} == {4}
    assert not first.whole.any(), "no source was read from its beginning"
    assert not keyed.has(0, offsets[:4])
    assert keyed.has(0, offsets[4:])


def test_processes_share_partitions_by_their_events() -> None:
    ranges = [SourceRange(0, 0, 10), SourceRange(1, 0, 70_000), SourceRange(2, 5, 60_000)]
    assert worth_it(ranges[:1]) == 1
    shares = shared_out(ranges, 8)
    assert sorted(of.partition for share in shares for of in share) == [0, 1, 2]
    assert [[of.partition for of in share] for share in shared_out(ranges, 2)] == [[1], [2, 0]]


def test_a_decision_with_more_than_was_made_differs() -> None:
    fields = {"score": 0.5, "decision": "approve"}
    value, headers = orjson.dumps(fields), [("ce_id", b"p.events/0/1")]
    own = Record(b"k", value, 0, headers)
    spaced = value.replace(b":", b": ")
    twice = value.replace(b'"decision"', b'"decision":"decline","decision"')
    for other in (spaced, twice):
        assert orjson.loads(other) == fields
        assert not is_same(record_of(other, tuple(headers)), own)
        assert first_difference(record_of(other, tuple(headers)), own)[0] == "the record"
    again = record_of(value, (*headers, ("ce_id", b"p.events/0/2")))
    assert not is_same(again, own), "consumers may read the last header of a name"
    assert first_difference(again, own)[0] == "headers"


def test_decisions_are_the_same_at_once_where_each_of_them_is() -> None:
    headers = [("ce_id", b"p.events/0/1"), ("ce_type", b"anabranch.decision")]
    traced = [*headers, ("traceparent", b"00-1")]
    made = [Record(b"k", b"{}", 7, headers), Record(b"l", b"[]", 7, traced)]
    added = ("x-of-the-topic", b"id")

    def recorded(*own: list[tuple[str, bytes]], value: bytes = b"[]") -> list[ConsumerRecord]:
        return [
            replace(record_of(b"{}", ()), key=b"k", headers=own[0]),
            replace(record_of(value, ()), key=b"l", headers=own[1]),
        ]

    assert are_same(recorded([*headers, added], [*traced, added]), made)
    assert not are_same(recorded(headers, traced, value=b"{}"), made)
    assert not are_same(recorded(headers, headers), made)
    again = ("traceparent", b"00-2")
    assert not are_same(recorded([*headers, again], [*traced, again]), made)
    assert are_same([], [])

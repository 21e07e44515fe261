"""Redrive records: hostile until they are validated, and on the right way through any pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.redrives import event_of, redrive_of
from tests.unit.stage_batches import batch_of
from topics.errors import WireError
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import WEIGH, lane_of
from topics.records.wire import encode
from topics.redrive.record import RedriveBatch, RedrivenEvent
from topics.redrive.route import RedriveRoute
from topics.redrive.single_event import OUTPUT, PREFIX, REFUSED
from topics.redrive.wire import decode_redrive, encode_redrive, next_component

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
ORDER = ["features", "terminals", "risk-linear", "risk-forest", "decision", WEIGH]
EVENT = {
    "transaction_id": "tx-1", "occurred_at": "2018-04-01T00:00:31Z", "customer_id": "c-1",
    "terminal_id": "t-1", "amount": 57.16,
}  # fmt: skip

events = st.builds(
    RedrivenEvent, st.just(0), st.integers(0, 2**61), st.integers(0, 2**61), st.integers(2, 1000),
    st.integers(-(2**40), 2**40), st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=40),
    st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=3),
)  # fmt: skip


def passed(batch: RedriveBatch, *, outputs: bool = True) -> RedriveBatch:
    """What is read of what is written."""
    record = encode_redrive(batch, 5)
    return decode_redrive(record.key, record.value, record.headers, outputs=outputs)


def comparable(batch: RedriveBatch) -> object:
    return batch.next, batch.end, batch.refused, [
        (*event[:-1], [tuple(header) for header in event.headers]) for event in batch.events
    ]  # fmt: skip


@given(
    st.lists(events, min_size=1, max_size=6, unique_by=lambda event: event.offset),
    st.lists(st.floats(0, 1, width=32), max_size=3),
)
def test_what_is_encoded_is_decoded_to_the_bit(
    some: list[RedrivenEvent], signals: list[float]
) -> None:
    ordered = sorted(some, key=lambda event: event.offset)
    outputs = {}
    for place, signal in enumerate(signals):
        batch = batch_of(f"c{place}", [event.offset for event in ordered])
        batch.signal[0] = batch.output[0] = signal
        outputs[batch.component] = [batch]
    sent = RedriveBatch("p.events", 0, WEIGH, ordered, outputs)
    got = passed(sent)
    assert comparable(got) == comparable(sent)
    assert list(got.outputs) == list(outputs)
    for name, (batch,) in got.outputs.items():
        assert encode(batch) == encode(outputs[name][0])
    assert comparable(passed(sent, outputs=False)) == comparable(sent)
    ending, refusal = sent.ending("decision"), sent.refusal("too large")
    assert comparable(passed(ending)) == comparable(ending)
    assert comparable(passed(refusal)) == comparable(refusal)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
)


@given(st.binary(max_size=200) | anything.map(orjson.dumps))
def test_any_bytes_are_a_redrive_record_or_a_wire_error(noise: bytes) -> None:
    with pytest.raises(WireError, match="not a redrive record"):
        decode_redrive(None, None, [(PREFIX, noise)])
    good = encode_redrive(redrive_of("features"), 5)
    with pytest.raises(WireError):
        decode_redrive(None, noise, good.headers)
    with pytest.raises(WireError):
        decode_redrive(None, (good.value or b"") + noise[:1] + b"x", good.headers)


def test_a_header_that_is_null_stays_null_and_an_empty_one_empty() -> None:
    headers: Any = [("null", None), ("empty", b""), ("x", b"y")]
    event = event_of(7)._replace(headers=headers)
    (got,) = passed(replace(redrive_of(), events=[event])).events
    assert got.headers == headers


@pytest.mark.parametrize("output", [b'"name":%s,"shape":[-1]', b'"name":"x","shape":[%s]'])
def test_a_record_whose_json_is_nested_too_deep_to_be_told_is_refused(output: bytes) -> None:
    value = b'{"outputs":[{%s}]}' % output % (b"[" * 1010 + b"]" * 1010)
    header = orjson.loads(encode_redrive(redrive_of(), 5).headers[0][1])
    about = orjson.dumps(header | {"messages": [[len(value), len(value)]]})
    with pytest.raises(WireError, match="not a redrive record"):
        decode_redrive(None, value, [(PREFIX, about)])


@given(st.data())
def test_a_record_with_some_other_bytes_is_read_or_refused(data: st.DataObject) -> None:
    record = encode_redrive(redrive_of("features", offsets=[3, 5]), 5)
    value = bytearray(record.value or b"")
    for at in data.draw(st.lists(st.integers(0, len(value) - 1), min_size=1, max_size=4)):
        value[at] = data.draw(st.integers(0, 255))
    try:
        batch = decode_redrive(None, bytes(value), record.headers)
    except WireError:
        return
    assert len(batch) == 2
    assert {len(part) for parts in batch.outputs.values() for part in parts} == {2}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 1), ("version", "2"), ("next", None), ("next", ""), ("next", "x" * 64),
        ("end", "decision"), ("end", "x"), ("surprise", 1), ("source", {"topic": "p.events"}),
        ("source", {"topic": "p.events", "partition": -1}), ("messages", []),
        ("messages", [[0, 10]]), ("messages", [[-1, 2]]), ("messages", None),
    ],
)  # fmt: skip
def test_a_redrive_record_with_a_wrong_field_is_refused(field: str, value: object) -> None:
    record = encode_redrive(redrive_of(), 5)
    header = orjson.loads(record.headers[0][1]) | {field: value}
    with pytest.raises(WireError, match="not a redrive record"):
        decode_redrive(None, record.value, [(PREFIX, orjson.dumps(header))])


@pytest.mark.parametrize(
    "batch",
    [
        replace(redrive_of(), events=[]),
        replace(redrive_of(), events=[event_of(7), event_of(7)]),
        replace(redrive_of(), events=[event_of(8), event_of(7)]),
        replace(redrive_of(), events=[event_of(7, attempt=1)]),
        replace(redrive_of(), events=[event_of(7, attempt=1001)]),
        replace(redrive_of(), events=[event_of(-1)]),
        replace(redrive_of("features"), events=[event_of(8)]),
        replace(redrive_of("features"), events=[event_of(7), event_of(8)]),
        replace(redrive_of("features"), topic="others.events"),
        replace(redrive_of("features"), partition=3),
    ],
    ids=["no events", "one twice", "not in order", "a first attempt", "too many attempts",
         "before the first", "output of another event", "output of some", "of another topic",
         "of another partition"],
)  # fmt: skip
def test_events_and_outputs_that_cannot_be_are_refused(batch: RedriveBatch) -> None:
    with pytest.raises(WireError, match="not a redrive record"):
        passed(batch)


def test_two_descriptions_are_refused() -> None:
    record = encode_redrive(redrive_of(), 5)
    with pytest.raises(WireError, match="2 x-redrive headers"):
        decode_redrive(None, record.value, [*record.headers, *record.headers])


def header_before(**fields: object) -> tuple[str, bytes]:
    source = {"topic": "p.events", "partition": 0, "offset": 7}
    about = {"source": source, "letter": 3, "attempt": 2, "published_ms": 1, "next": "weigh"}
    return PREFIX, orjson.dumps(about | {"end": None} | fields)


def test_records_of_the_version_before_are_read() -> None:
    output = encode(batch_of("features", [7]), "json")[0]
    headers = [("origin", b"test"), header_before(), (OUTPUT, output)]
    assert next_component(headers) == WEIGH
    batch = decode_redrive(b"k", b"{}", headers)
    assert comparable(batch) == comparable(redrive_of("features"))
    assert encode(batch.outputs["features"][0]) == encode(batch_of("features", [7]))
    ended = decode_redrive(None, None, [header_before(next=None, end="decision")])
    assert (ended.next, ended.end, ended.offsets.tolist()) == (None, "decision", [7])
    refused = decode_redrive(None, None, [header_before(), (REFUSED, b"too large")])
    assert refused.refused == "too large"


@given(st.binary(max_size=60) | anything.map(orjson.dumps))
def test_of_the_version_before_too_any_bytes_are_refused(noise: bytes) -> None:
    for headers in (
        [header_before(), (OUTPUT, noise)],
        [header_before(attempt=1)],
        [header_before(next=None)],
        [header_before(end="decision")],
        [header_before(), (OUTPUT, encode(batch_of("features", [8]), "json")[0])],
    ):
        with pytest.raises(WireError):
            decode_redrive(b"k", b"{}", headers)


def test_redriven_events_walk_through_every_component_in_the_order_of_the_flow() -> None:
    route = RedriveRoute(PIPELINE)
    walking, walked = route.onward(redrive_of(offsets=[7, 9])), []
    while walking.next != WEIGH:
        assert walking.next is not None
        walked.append(walking.next)
        walking = route.onward(walking.with_output(batch_of(walking.next, [7, 9])))
    assert sorted([*walked, WEIGH]) == sorted(ORDER)
    for name in walked:
        inputs = {each for each in PIPELINE.component(name).inputs if each != "events"}
        assert inputs <= {*walked[: walked.index(name)]}


@pytest.mark.parametrize(
    ("present", "kept"),
    [
        (ORDER[:-1], ORDER[:-1]),
        (["features", "terminals", "risk-linear", "decision"],
         ["features", "terminals", "risk-linear"]),
        (["terminals", "risk-linear", "risk-forest", "decision"], ["terminals"]),
        (["features", "risk-linear"], ["features"]),
        ([], []),
    ],
    ids=["all are there", "one failed", "a source failed", "an input is gone", "nothing is there"],
)  # fmt: skip
def test_only_outputs_whose_inputs_are_kept_are_kept(present: list[str], kept: list[str]) -> None:
    assert sorted(RedriveRoute(PIPELINE).reusable(present)) == sorted(kept)


def test_a_repartitioned_component_reads_each_event_on_the_partition_of_its_key() -> None:
    route = RedriveRoute(PIPELINE)
    values = [orjson.dumps(EVENT), b"not json", orjson.dumps(EVENT | {"terminal_id": "t-2"})]
    batch = replace(
        redrive_of(),
        events=[event_of(at, value=value)._replace(headers=()) for at, value in enumerate(values)],
    )
    lanes = [lane_of(terminal, PIPELINE.partitions) for terminal in ("t-1", "t-2")]
    assert route.partitions(batch.to("terminals")).tolist() == [lanes[0], 0, lanes[1]]
    assert route.partitions(batch.to("features")).tolist() == [0, 0, 0]


def test_batches_are_cut_and_put_together_again() -> None:
    whole = redrive_of("features", "risk-linear", offsets=[2, 3, 5, 8])
    even, odd = whole.picked(np.array([0, 2])), whole.picked(np.array([1, 3]))
    assert [event.offset for event in odd.events] == [3, 8]
    assert odd.outputs["features"][0].rows.offsets.tolist() == [3, 8]
    again = RedriveBatch.concat([odd, even])
    assert comparable(again) == comparable(whole)
    first, rest = whole.split(3)
    assert (len(first), rest and len(rest)) == (3, 1)
    assert whole.split(4) == (whole, None)


def test_a_pipeline_may_not_call_a_component_like_the_topic() -> None:
    from topics.pipeline.checks import check_graph

    content = PIPELINE.model_dump(by_alias=True, exclude_unset=True)
    content["components"][0]["name"] = "redrive"
    found = check_graph(Pipeline.model_validate(content), find_pipeline("card-fraud").parent)
    assert any("another topic" in finding.message for finding in found)

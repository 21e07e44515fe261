"""Redrive records: hostile until they are validated, and on the right way through any pipeline."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stage_batches import batch_of
from topics.errors import WireError
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import WEIGH, lane_of
from topics.records.decision import Source
from topics.redrive.record import (
    OUTPUT,
    PREFIX,
    RedriveHeader,
    RedriveRecord,
    RedriveRoute,
    decode_redrive,
    encode_redrive,
)

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
ORDER = ["features", "terminals", "risk-linear", "risk-forest", "decision", WEIGH]
EVENT = {
    "transaction_id": "tx-1", "occurred_at": "2018-04-01T00:00:31Z", "customer_id": "c-1",
    "terminal_id": "t-1", "amount": 57.16,
}  # fmt: skip


def about(offset: int = 7, attempt: int = 2, component: str = WEIGH) -> RedriveHeader:
    source = Source(topic="p.events", partition=0, offset=offset)
    return RedriveHeader(source=source, letter=3, attempt=attempt, published_ms=1, next=component)


def redrive(
    *components: str, absent: tuple[str, ...] = (), value: bytes | None = b"{}"
) -> RedriveRecord:
    outputs = {name: batch_of(name, [7], absent=[7] if name in absent else [])
               for name in components}  # fmt: skip
    return RedriveRecord(about(), b"k", value, [("origin", b"test")], outputs)


@given(
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=40),
    headers=st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=4),
    offset=st.integers(0, 2**62),
    attempt=st.integers(2, 1000),
    signals=st.lists(st.floats(0, 1, width=32), max_size=3),
)
def test_what_is_encoded_is_decoded_to_the_bit(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], offset: int,
    attempt: int, signals: list[float],
) -> None:  # fmt: skip
    outputs = {}
    for place, signal in enumerate(signals):
        batch = batch_of(f"c{place}", [offset])
        batch.signal[0] = batch.output[0] = signal
        outputs[batch.component] = batch
    sent = RedriveRecord(about(offset, attempt), key, value, headers, outputs)
    record = encode_redrive(sent, 5)
    got = decode_redrive(record.key, record.value, record.headers)
    assert (got.header, got.key, got.value) == (sent.header, key, value)
    assert got.headers == [header for header in headers if not header[0].startswith(PREFIX)]
    assert list(got.outputs) == list(outputs)
    for name, batch in got.outputs.items():
        assert batch.output.tobytes() == outputs[name].output.tobytes()
        assert (batch.output.dtype, batch.rows) == (outputs[name].output.dtype, batch.rows)
        assert batch.signal.tobytes() == outputs[name].signal.tobytes()


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
)


@given(st.binary(max_size=200) | anything.map(orjson.dumps))
def test_any_bytes_are_a_redrive_record_or_a_wire_error(header: bytes) -> None:
    with pytest.raises(WireError, match="not a redrive record"):
        decode_redrive(None, None, [(PREFIX, header)])
    good = encode_redrive(redrive(), 5).headers
    with pytest.raises(WireError):
        decode_redrive(None, None, [*good, (OUTPUT, header)])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempt", 1), ("attempt", 1001), ("attempt", "2"), ("attempt", True), ("letter", -1),
        ("letter", 2**63), ("published_ms", 1e30), ("next", None), ("next", ""), ("next", "x" * 64),
        ("end", "decision"), ("surprise", 1), ("source", {"topic": "p.events", "partition": 0}),
        ("source", {"topic": "p.events", "partition": -1, "offset": 0}),
    ],
)  # fmt: skip
def test_a_redrive_record_with_a_wrong_field_is_refused(field: str, value: object) -> None:
    said = about().model_dump() | {field: value}
    with pytest.raises(WireError, match="not a redrive record"):
        decode_redrive(None, None, [(PREFIX, orjson.dumps(said))])


def test_outputs_of_another_event_and_two_descriptions_are_refused() -> None:
    stranger = replace(redrive("features"), header=about(offset=8))
    record = encode_redrive(stranger, 5)
    with pytest.raises(WireError, match="of another event"):
        decode_redrive(record.key, record.value, record.headers)
    twice = [*encode_redrive(redrive(), 5).headers, *encode_redrive(redrive(), 5).headers]
    with pytest.raises(WireError, match="2 x-redrive headers"):
        decode_redrive(None, None, twice)


def test_a_redrive_record_walks_through_every_component_in_the_order_of_the_flow() -> None:
    route = RedriveRoute(PIPELINE)
    walking, walked = route.onward(redrive()), []
    while walking.header.next != WEIGH:
        assert walking.header.next is not None
        walked.append(walking.header.next)
        walking = route.onward(walking.with_output(batch_of(walking.header.next, [7])))
    assert sorted([*walked, WEIGH]) == sorted(ORDER)
    for name in walked:
        inputs = {each for each in PIPELINE.component(name).inputs if each != "events"}
        assert inputs <= {*walked[: walked.index(name)]}


@pytest.mark.parametrize(
    ("there", "absent", "kept"),
    [
        (ORDER[:-1], (), ORDER[:-1]),
        (ORDER[:-1], ("risk-forest",), ["features", "terminals", "risk-linear"]),
        (ORDER[:-1], ("features",), ["terminals"]),
        (["features", "risk-linear"], (), ["features"]),
        ([], (), []),
    ],
    ids=["all are there", "one failed", "a source failed", "an input is gone", "nothing is there"],
)
def test_only_outputs_whose_inputs_are_kept_are_kept(
    there: list[str], absent: tuple[str, ...], kept: list[str]
) -> None:
    outputs = redrive(*there, absent=absent).outputs
    assert sorted(RedriveRoute(PIPELINE).reusable(outputs)) == sorted(kept)


def test_a_repartitioned_component_reads_a_redrive_record_on_the_partition_of_its_key() -> None:
    route = RedriveRoute(PIPELINE)
    valid = replace(redrive(value=orjson.dumps(EVENT)), headers=[])
    assert route.partition(valid.to("terminals")) == lane_of("t-1", PIPELINE.partitions)
    assert route.partition(valid.to("features")) == route.partition(valid) == 0
    invalid = replace(valid, value=b"not json")
    assert route.partition(invalid.to("terminals")) == 0


def test_a_pipeline_may_not_call_a_component_like_the_topic() -> None:
    from topics.pipeline.checks import check_graph

    content = PIPELINE.model_dump(by_alias=True, exclude_unset=True)
    content["components"][0]["name"] = "redrive"
    found = check_graph(Pipeline.model_validate(content), find_pipeline("card-fraud").parent)
    assert any("another topic" in finding.message for finding in found)

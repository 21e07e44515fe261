"""Outputs of many redrive records at once are those of one after the other, to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stage_batches import batch_of
from topics.errors import WireError
from topics.records.bytes_column import BytesColumn
from topics.records.decision import Source
from topics.records.stage_batch import ModelRef, StageBatch
from topics.records.wire import decode, encode
from topics.redrive.outputs import RedriveOutputs, batches_of, component_of, contents_of

OTHER = ModelRef("features@2", "sha256:11", "int8")
offsets = st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True).map(sorted)


def sources(batch: StageBatch) -> list[Source]:
    return [Source(topic=batch.topic, partition=batch.partition, offset=offset)
            for offset in batch.rows.offsets.tolist()]  # fmt: skip


def dressed(batch: StageBatch, *, traces: bool, challenged: bool) -> StageBatch:
    """The same with all that a batch may have."""
    n = len(batch)
    if traces:
        column = BytesColumn.of([b"trace-%d" % row for row in range(n)])
        batch = replace(batch, rows=replace(batch.rows, traces=column))
    if challenged:
        batch = replace(batch, challenger=OTHER, challenged=np.arange(n) % 2 == 0)
    return batch


@given(offsets, st.integers(1, 4), st.booleans(), st.booleans(), st.data())
def test_rows_are_encoded_as_each_is_alone(
    at: list[int], width: int, traces: bool, challenged: bool, data: st.DataObject
) -> None:
    absent = data.draw(st.sets(st.sampled_from(at)))
    batch = dressed(
        batch_of("features", at, absent=absent, width=width), traces=traces, challenged=challenged
    )
    for row, content in enumerate(contents_of(batch)):
        offset = at[row]
        alone = replace(batch[row : row + 1], covers_from=offset, covers_to=offset)
        assert content == encode(alone, "json")[0]
    rows = data.draw(st.lists(st.sampled_from(range(len(at))), unique=True).map(sorted))
    assert contents_of(batch, rows) == [contents_of(batch)[row] for row in rows]


@given(offsets, st.booleans(), st.booleans(), st.data())
def test_rows_are_decoded_as_each_is_alone_however_models_change(
    at: list[int], traces: bool, challenged: bool, data: st.DataObject
) -> None:
    models = [data.draw(st.sampled_from([ModelRef("features@1", "a", "fp32"), OTHER])) for _ in at]
    contents = []
    for offset, model in zip(at, models, strict=True):
        one = batch_of("features", [offset], model=model, width=2)
        contents += contents_of(dressed(one, traces=traces, challenged=challenged))
    wanted = [Source(topic="p.events", partition=0, offset=offset) for offset in at]
    found = batches_of("features", contents, wanted)
    assert len(found) == len(set(models))
    rows = {int(offset): batch[row : row + 1]
            for batch in found for row, offset in enumerate(batch.rows.offsets)}  # fmt: skip
    for offset, content in zip(at, contents, strict=True):
        alone = replace(rows[offset], covers_from=offset, covers_to=offset)
        assert encode(alone, "json")[0] == encode(decode(content, {}), "json")[0]


@pytest.mark.parametrize(
    ("tensor", "data"),
    [("output", [0.1]), ("output", [0.1, 0.2, 0.3, 0.4]), ("key", []), ("signal", [7.0]),
     ("signal", ["x"]), ("event_id", ["no base64!"]), ("present", [])],
)  # fmt: skip
def test_a_row_with_another_size_or_nonsense_is_refused_and_shifts_no_other_row(
    tensor: str, data: list[object]
) -> None:
    good = contents_of(batch_of("features", [3, 5], width=2))
    document = orjson.loads(good[0])
    next(each for each in document["outputs"] if each["name"] == tensor)["data"] = data
    bad = orjson.dumps(document)
    wanted = sources(batch_of("features", [3, 5]))
    with pytest.raises(WireError):
        batches_of("features", [bad, good[1]], wanted)
    with pytest.raises(WireError):
        decode(bad, {})
    assert len(batches_of("features", good, wanted)) == 1


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
).map(orjson.dumps))  # fmt: skip
def test_any_bytes_are_outputs_or_a_wire_error(content: bytes) -> None:
    with pytest.raises(WireError):
        batches_of("features", [content], sources(batch_of("features", [3])))
    with pytest.raises(WireError):
        component_of(content)


def test_an_output_of_another_event_or_component_is_refused() -> None:
    (content,) = contents_of(batch_of("features", [3]))
    with pytest.raises(WireError, match="another event"):
        batches_of("features", [content], sources(batch_of("features", [4])))
    with pytest.raises(WireError, match="another event or component"):
        batches_of("risk", [content], sources(batch_of("features", [3])))
    with pytest.raises(WireError, match="not an output of risk, but of features"):
        RedriveOutputs({"risk": content})["risk"]


def test_outputs_are_asked_for_by_name_without_being_decoded() -> None:
    outputs = RedriveOutputs({"features": b"what is this"})
    assert "features" in outputs
    assert "risk" not in outputs
    assert [*outputs.with_content("risk", b"{}")] == ["features", "risk"]


def test_what_json_cannot_hold_is_refused() -> None:
    batch = batch_of("features", [3])
    batch.output[0] = np.nan
    with pytest.raises(WireError, match="NaN"):
        contents_of(batch)

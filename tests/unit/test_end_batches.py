"""What the audit reads off the bytes of decisions is what the full decoder says."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from agents.audit.decision_batches import UnknownLayout, decided_offsets
from agents.audit.end_batches import ends_of
from agents.broker.record_batches import record_batches
from tests.unit.record_batch_bytes import CODECS, batch_bytes
from tests.unit.test_decisions import joined_of, records_of, stage
from topics.kafka.batches import Headers, Record
from topics.records.dead_letter import attempt_at, dead_letter
from topics.records.decision import ATTEMPT_HEADER
from topics.records.stage_batch import Failure

EVENTS = "p.events"
DECISIONS = TopicPartition("p.decisions", 2)
LETTERS = TopicPartition("p.dead-letters", 2)


def named(offset: object, *more: tuple[str, bytes], key: bytes = b"k") -> Record:
    """A decision record by its headers."""
    return Record(key, b"{}", 5, [("ce_id", f"{EVENTS}/2/{offset}".encode()), *more])


def columns(records: Sequence[Record]) -> tuple[list[int], list[int]]:
    """What the quick reader says; UnknownLayout where it says nothing."""
    (batch,) = record_batches(batch_bytes(records, 40), (), check=True)
    deltas, sources = decided_offsets(batch.body(), batch.count, EVENTS, 2)
    return deltas.tolist(), sources.tolist()


def plainly(records: Sequence[Record]) -> tuple[list[int], list[tuple[int, int]], int]:
    """The same by the plain decoder: first attempts, later ones, and how many are no decisions."""
    first, later, strange = list[int](), list[tuple[int, int]](), 0
    (batch,) = record_batches(batch_bytes(records), (), check=True)
    for record in batch.records():
        try:
            offset, attempt = attempt_at(record, is_decision=True)
            about = dict(record.headers)["ce_id"].decode()
            ours = about.startswith(f"{EVENTS}/2/") and 0 <= offset <= 2**62
        except (KeyError, ValueError, AttributeError):
            ours = False
        if not ours:
            strange += 1
        elif attempt > 1:
            later.append((offset, attempt))
        else:
            first.append(offset)
    return first, later, strange


def quickly(records: Sequence[Record]) -> tuple[list[int], list[tuple[int, int]], int]:
    (batch,) = record_batches(batch_bytes(records), (), check=True)
    found = ends_of(batch, DECISIONS, EVENTS, decisions=True, start=0, end=2**40)
    return found.sources.tolist(), found.later, found.strange


def test_decisions_as_they_are_written_are_read_quickly() -> None:
    n = 300
    joined = joined_of({"a": stage("a", [0.5] * n), "b": stage("b", [0.25] * n)})
    records = records_of(joined)
    deltas, sources = columns(records)
    assert deltas == list(range(n))
    assert sources == joined.rows.offsets.tolist()
    assert quickly(records) == plainly(records)


def test_decisions_with_traces_of_their_own_are_read_quickly() -> None:
    records = [named(at, ("traceparent", b"00-%d" % at)) for at in range(300)]
    assert columns(records)[1] == list(range(300))


@pytest.mark.parametrize(
    "records",
    [
        [named(7, (ATTEMPT_HEADER, b"2"))],
        [named(7, ("ce_id", f"{EVENTS}/2/9".encode()))],
        [Record(b"k", b"{}", 5, [("other", b""), ("ce_id", f"{EVENTS}/2/9".encode())])],
        [Record(b"k", b"{}", 5)],
        [Record(b"k", b"{}", 5, [("ce_id", None)])],  # type: ignore[list-item]  # Kafka has null
        [named("")], [named("-7")], [named("+7")], [named("7 ")], [named("1_0")], [named("٣")],
        [named("9" * 19)], [named("9" * 400)],
        [Record(b"k", b"{}", 5, [("ce_id", b"other.events/2/7")])],
        [Record(b"k", b"{}", 5, [("ce_id", f"{EVENTS}/1/7".encode())])],
    ],
)  # fmt: skip
def test_what_is_not_the_usual_is_left_to_the_decoder(records: list[Record]) -> None:
    usual = [named(1), named(2)]
    with pytest.raises(UnknownLayout):
        columns([*usual, *records])
    assert quickly([*usual, *records]) == plainly([*usual, *records])


def test_what_looks_like_a_header_in_a_key_or_a_value_or_a_header_is_none() -> None:
    (hostile,) = record_batches(batch_bytes([named(999, (ATTEMPT_HEADER, b"3"))]), (), check=True)
    fake = hostile.body()
    records = [
        named(1, key=fake),
        named(2, key=b"\x0ace_id\x18" + f"{EVENTS}/2/999".encode()),
        Record(None, fake * 3, 5, [("ce_id", f"{EVENTS}/2/3".encode()), ("traceparent", fake)]),
        Record(fake, None, 2**40, [("ce_id", f"{EVENTS}/2/4".encode()), (fake.hex(), b"")]),
    ]
    assert columns(records)[1] == [1, 2, 3, 4]
    assert quickly(records) == plainly(records) == ([1, 2, 3, 4], [], 0)


def test_bytes_that_are_cut_or_changed_are_never_read_as_other_decisions() -> None:
    """Whatever is done to them: the same decisions, or none that the quick reader vouches for."""
    (batch,) = record_batches(batch_bytes([named(at) for at in range(100, 105)]), (), check=True)
    body = batch.body()
    for cut in range(len(body)):
        with pytest.raises(UnknownLayout):
            decided_offsets(body[:cut], 5, EVENTS, 2)
    for count in (0, 4, 6):
        with pytest.raises(UnknownLayout):
            decided_offsets(body, count, EVENTS, 2)


texts = st.sampled_from(["ce_id", ATTEMPT_HEADER, "traceparent", "ce_time", "x"])
contents = st.one_of(
    st.integers(0, 2**40).map(lambda offset: f"{EVENTS}/2/{offset}".encode()),
    st.sampled_from([b"", b"2", b"1", b"p.events/2/", b"/", b"p.events/1/5", b"p.events/2/05"]),
    st.binary(max_size=40),
)
decisions = st.builds(
    Record,
    st.one_of(st.none(), st.binary(max_size=200)),
    st.one_of(st.none(), st.binary(max_size=3000)),
    st.integers(0, 2**42),
    st.one_of(
        st.lists(st.tuples(texts, contents), max_size=5),
        st.integers(0, 2**50).map(lambda at: [("ce_id", f"{EVENTS}/2/{at}".encode())]),
    ),
)


@given(st.lists(decisions, min_size=1, max_size=12))
def test_any_records_are_read_as_the_decoder_reads_them(records: list[Record]) -> None:
    logging.getLogger("agents.audit.end_batches").setLevel(logging.ERROR)
    assert quickly(records) == plainly(records)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("decisions", [True, False])
def test_only_what_is_between_the_bounds_is_taken(codec: str, *, decisions: bool) -> None:
    records = [named(at) if decisions else letter(at) for at in range(70, 80)]
    (batch,) = record_batches(batch_bytes(records, 40, codec=codec), (), check=True)
    tp = DECISIONS if decisions else LETTERS
    found = ends_of(batch, tp, EVENTS, decisions=decisions, start=43, end=46)
    assert found.offsets.tolist() == [43, 44, 45]
    assert found.sources.tolist() == [73, 74, 75]


def letter(offset: int, *, attempt: int = 1, headers: Headers | None = None) -> Record:
    failure = Failure(0, "features", "ValueError", "no amount")
    return dead_letter(
        failure, (EVENTS, 2, offset), (b"k", b"v", headers or []), 5, published_ms=4,
        attempt=attempt,
    )  # fmt: skip


def test_dead_letters_are_read_with_their_attempts() -> None:
    hostile: Headers = [("x-error-offset", b"1"), ("ce_id", b"p.events/2/1")]
    records = [letter(3), letter(4, headers=hostile), letter(3, attempt=2), Record(None, b"", 1)]
    (batch,) = record_batches(batch_bytes(records), (), check=True)
    found = ends_of(batch, LETTERS, EVENTS, decisions=False, start=0, end=9)
    assert (found.sources.tolist(), found.later, found.strange) == ([3, 4], [(3, 2)], 1)

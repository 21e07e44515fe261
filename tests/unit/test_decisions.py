"""Decision records say what they are made of, and satisfy the published record type."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.join.stage_rows import JoinedRows, ModelRun, StageRows
from agents.weigh.decision_records import DecisionWriter, Weights
from agents.weigh.decision_rule import stages_missing
from models.weighting import WeightedScores, combine
from tests.unit.stage_batches import rows_of
from topics.kafka.batches import Record
from topics.pipeline.schema import Fallback, Pipeline
from topics.records.bytes_column import BytesColumn
from topics.records.decision import Decision, Provenance, Source, rfc3339_time, source_id, source_of
from topics.records.stage_batch import ModelRef, Rows

ALPHA = {"a": 0.25, "b": 0.75}
NOW_MS = 5_000
ON_TIME = np.zeros(100, np.bool_)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pipeline_with(thresholds: dict[str, float]) -> Pipeline:
    return Pipeline.model_validate(
        {
            "pipeline": "p",
            "event": {
                "id": "id",
                "key": "id",
                "time": "at",
                "fields": {"id": {"type": "string"}, "at": {"type": "timestamp"}},
            },
            "components": [{"name": name, "import": "m:C", "from": ["events"]} for name in ALPHA],
            "weighting": {"from": list(ALPHA), "weights": ALPHA},
            "policy": {"version": 3, "otherwise": "approve", "thresholds": thresholds},
        }
    )


PIPELINE = pipeline_with({"review": 0.25, "decline": 0.5})


def model_of(name: str, version: int = 1) -> ModelRef:
    return ModelRef(f"{name}@{version}", f"sha256:{name}{version}", "fp32")


def stage(
    name: str, signals: list[float | None], models: tuple[ModelRun, ...] | None = None
) -> StageRows:
    """A stage's rows; None is a row without an output."""
    present = np.array([signal is not None for signal in signals], np.bool_)
    signal = np.array([signal or 0 for signal in signals], np.float32)
    runs = (ModelRun(0, model_of(name)),) if models is None else models
    return StageRows(present, signal[:, None], signal, runs, (), np.ones(len(signals), np.bool_))


def joined_of(stages: dict[str, StageRows], rows: Rows | None = None) -> JoinedRows:
    n = len(next(iter(stages.values())).present)
    rows = rows if rows is not None else rows_of(range(10, 10 + n))
    return JoinedRows(rows, stages, {}, covers_from=10, unaccounted=0)


def weighed_of(joined: JoinedRows) -> WeightedScores:
    return combine(
        np.stack([rows.signal for rows in joined.stages.values()], axis=1).astype(np.float32),
        np.stack([rows.present for rows in joined.stages.values()], axis=1),
        np.array([ALPHA[name] for name in joined.stages]),
    )


def records_of(
    joined: JoinedRows,
    *,
    rows: list[int] | None = None,
    pipeline: Pipeline = PIPELINE,
    now_ms: int = NOW_MS,
    weights: Weights = Weights(ALPHA, 4),  # noqa: B008  # frozen
) -> list[Record]:
    wanted = np.array(range(len(joined.rows)) if rows is None else rows, np.int64)
    writer = DecisionWriter(pipeline, weights)
    return list(writer.records(2, joined, wanted, weighed_of(joined), now_ms))


def parsed(record: Record) -> Decision:
    return Decision.model_validate_json(record.value or b"", strict=True)


def decided(joined: JoinedRows, *, pipeline: Pipeline = PIPELINE) -> list[Decision]:
    return [parsed(record) for record in records_of(joined, pipeline=pipeline)]


def test_a_record_is_a_decision_with_everything_that_led_to_it() -> None:
    joined = joined_of({"a": stage("a", [0.5]), "b": stage("b", [0.25])})
    (record,) = records_of(joined)
    assert parsed(record).model_dump(by_alias=True) == {
        "schema": 1,
        "event_id": "event-10",
        "pipeline": "p",
        "decision": "review",
        "decided_by": "score",
        "explored": False,
        "instead_of": None,
        "propensity": 1.0,
        "score": 0.3125,
        "contributions": {
            "a": {
                "signal": 0.5, "weight": 0.25, "contribution": 0.125,
                "model": "a@1", "digest": "sha256:a1", "variant": "fp32",
            },
            "b": {
                "signal": 0.25, "weight": 0.75, "contribution": 0.1875,
                "model": "b@1", "digest": "sha256:b1", "variant": "fp32",
            },
        },
        "degraded": False,
        "missing": [],
        "missing_because": {},
        "weights": 4,
        "policy": "p@3",
        "quarantined": [],
            "provenance": None,
        "early": False,
        "clipped": False,
        "source": {"topic": "p.events", "partition": 2, "offset": 10},
        "origin": None,
        "event_time": "1970-01-01T00:00:00.510Z",
        "decided_at": "1970-01-01T00:00:05.000Z",
        "latency_ms": 3990.0,
    }  # fmt: skip
    assert record.timestamp_ms == NOW_MS


def test_a_decision_about_a_copy_says_where_the_producer_wrote_the_event() -> None:
    origins = BytesColumn.of([b"old.events/1/7", b"", b"not/coordinates"])
    rows = replace(rows_of([10, 11, 12]), origins=origins)
    signals = [0.5, 0.5, 0.5]
    copy, original, nonsense = decided(
        joined_of({"a": stage("a", [*signals]), "b": stage("b", [*signals])}, rows)
    )
    assert copy.origin == Source(topic="old.events", partition=1, offset=7) == copy.event
    assert copy.source == Source(topic="p.events", partition=2, offset=10)
    for each in (original, nonsense):
        assert each.origin is None
        assert each.event == each.source


signals = st.none() | st.floats(0, 1, width=32)


@given(st.lists(st.tuples(signals, signals).filter(lambda pair: pair != (None, None))))
def test_every_record_adds_up(pairs: list[tuple[float | None, float | None]]) -> None:
    joined = joined_of({
        "a": stage("a", [a for a, _ in pairs]), "b": stage("b", [b for _, b in pairs])
    })  # fmt: skip
    decisions = decided(joined)
    assert len(decisions) == len(pairs)
    for decision, pair in zip(decisions, pairs, strict=True):
        total = 0.0
        for part in decision.contributions.values():
            assert part.contribution == part.weight * part.signal
            total += part.contribution
        assert decision.score == total, "left to right, to the bit"
        weights = [part.weight for part in decision.contributions.values()]
        assert abs(math.fsum(weights) - 1) <= 1e-12
        there = {name for name, signal in zip(ALPHA, pair, strict=True) if signal is not None}
        assert set(decision.contributions) == there
        assert decision.missing == [name for name in ALPHA if name not in there]
        assert decision.degraded == bool(decision.missing)
        taken = "decline" if total >= 0.5 else "review" if total >= 0.25 else "approve"
        assert decision.decision == taken


@pytest.mark.parametrize(
    ("score", "decision"),
    [
        (0.0, "approve"),
        (float(np.nextafter(np.float32(0.25), np.float32(0))), "approve"),
        (0.25, "review"),
        (float(np.nextafter(np.float32(0.5), np.float32(0))), "review"),
        (0.5, "decline"),
        (1.0, "decline"),
    ],
)
def test_a_score_takes_the_highest_threshold_that_it_reaches(score: float, decision: str) -> None:
    joined = joined_of({"a": stage("a", [score]), "b": stage("b", [score])})
    (made,) = decided(joined)
    assert made.score == score
    assert made.decision == decision


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True).map(sorted),
    st.lists(st.floats(0, 1), max_size=6),
)
@example([0.0], [0.0])
@example([1.0], [1.0, 0.0])
def test_any_thresholds_cut_the_scores_at_their_boundaries(
    thresholds: list[float], scores: list[float]
) -> None:
    named = {f"at-{place}": threshold for place, threshold in enumerate(thresholds)}
    scores = [*scores, *thresholds, *(float(np.nextafter(each, -1)) for each in thresholds if each)]
    n = len(scores)
    joined = joined_of({"a": stage("a", [0.0] * n), "b": stage("b", [0.0] * n)})
    given_scores = replace(weighed_of(joined), scores=np.array(scores))
    writer = DecisionWriter(pipeline_with(named), Weights(ALPHA, 0))
    made = [
        parsed(record).decision
        for record in writer.records(0, joined, np.arange(n), given_scores, NOW_MS)
    ]
    expected = [
        ([n for n, t in named.items() if t <= score] or ["approve"])[-1] for score in scores
    ]
    assert made == expected
    kinds = writer.taken(0, joined.rows, np.array(scores)).kinds(np.arange(n))
    counted = {name: count for (name, _), count in kinds.items() if count}
    assert counted == Counter(made)


def test_a_decision_names_by_digest_what_has_made_it_besides_models() -> None:
    provenance = Provenance(pipeline_file="sha256:f", policy="sha256:p", weights="sha256:w")
    joined = joined_of({"a": stage("a", [0.5, 0.5]), "b": stage("b", [0.25, 0.5])})
    for named in (provenance, provenance.model_copy(update={"weights": None, "no_deadline": True})):
        writer = DecisionWriter(PIPELINE, Weights(ALPHA, 4), named)
        records = writer.records(0, joined, np.arange(2), weighed_of(joined), NOW_MS)
        assert [parsed(record).provenance for record in records] == [named, named]


def test_rows_that_are_early_or_clipped_say_so_and_no_others() -> None:
    early, clipped = np.array([True, False, False]), np.array([False, True, False])
    b = replace(stage("b", [0.5] * 3), early=early)
    rows = replace(rows_of([10, 11, 12]), clipped=clipped)
    joined = joined_of({"a": stage("a", [0.5] * 3), "b": b}, rows)
    decisions = [json.loads(record.value or b"") for record in records_of(joined)]
    assert [each.get("early") for each in decisions] == [True, None, None]
    assert [each.get("clipped") for each in decisions] == [None, True, None]
    assert [decision.early for decision in decided(joined)] == early.tolist()
    assert [decision.clipped for decision in decided(joined)] == clipped.tolist()


def test_a_late_row_counts_as_the_files_decision_whatever_its_score() -> None:
    late_too = PIPELINE.weighting.model_copy(update={"late": Fallback(fallback="decline")})
    pipeline = PIPELINE.model_copy(update={"weighting": late_too})
    writer = DecisionWriter(pipeline, Weights(ALPHA, 0))
    late = np.array([False, True, True])
    taken = writer.taken(0, rows_of([10, 11, 12]), np.array([0.3, 0.3, 0.9]), late)
    assert taken.kinds(np.arange(3)) == {
        ("approve", "score"): 0, ("review", "score"): 1, ("decline", "score"): 0,
        ("decline", "late"): 2,
    }  # fmt: skip


def test_stages_that_decisions_lack_are_counted_as_the_records_say_why() -> None:
    joined = joined_of({"a": stage("a", [None, 0.5, None]), "b": stage("b", [0.7, None, 0.1])})
    silent = replace(joined.stages["a"], delivered=ON_TIME[:3], unanswered="down")
    joined = replace(joined, stages={**joined.stages, "a": silent})
    rows = np.array([0, 1])
    present = np.stack([each.present[rows] for each in joined.stages.values()], axis=1)
    said = [json.loads(record.value or b"") for record in records_of(joined, rows=[0, 1])]
    told = Counter(why for decision in said for why in decision["missing_because"].items())
    assert stages_missing(joined, present, rows) == told == {("a", "down"): 1, ("b", "failed"): 1}


def test_a_missing_stage_is_named_and_the_rest_weigh_everything() -> None:
    joined = joined_of({"a": stage("a", [None, 0.5]), "b": stage("b", [0.75, None], ())})
    with_b = replace(joined.stages["b"], models=(ModelRun(0, model_of("b")),))
    first, second = decided(replace(joined, stages={**joined.stages, "b": with_b}))
    assert (first.missing, first.degraded, first.decision) == (["a"], True, "decline")
    assert first.contributions["b"].weight == 1.0
    assert first.score == 0.75
    assert (second.missing, second.score) == (["b"], 0.5)


def test_a_stage_that_delivered_nothing_has_no_model_to_name() -> None:
    joined = joined_of({"a": stage("a", [0.5, 0.1]), "b": stage("b", [None, None], ())})
    assert [decision.missing for decision in decided(joined)] == [["b"], ["b"]]


def test_each_row_names_the_model_that_it_was_made_by() -> None:
    runs = (
        ModelRun(0, model_of("a", 1)),
        ModelRun(2, model_of("a", 2)),
        ModelRun(3, model_of("a", 3)),
    )
    joined = joined_of({"a": stage("a", [0.1] * 5, runs), "b": stage("b", [0.1] * 5)})
    parts = [decision.contributions["a"] for decision in decided(joined)]
    assert [part.model for part in parts] == ["a@1", "a@1", "a@2", "a@3", "a@3"]
    assert [part.digest for part in parts] == [f"sha256:a{v}" for v in (1, 1, 2, 3, 3)]


def test_only_the_rows_asked_for_are_written_in_order() -> None:
    joined = joined_of({"a": stage("a", [0.1, 0.2, 0.3]), "b": stage("b", [0.1, 0.2, 0.3])})
    made = [parsed(record) for record in records_of(joined, rows=[0, 2])]
    assert [decision.source.offset for decision in made] == [10, 12]
    assert [decision.event_id for decision in made] == ["event-10", "event-12"]
    assert records_of(joined, rows=[]) == []


def test_a_row_without_any_stage_does_not_trouble_the_others() -> None:
    joined = joined_of({"a": stage("a", [None, 0.5]), "b": stage("b", [None, 0.5])})
    (record,) = records_of(joined, rows=[1])
    assert parsed(record).score == 0.5


def test_a_record_has_the_key_of_its_event_and_the_headers_of_a_cloudevent() -> None:
    joined = joined_of({"a": stage("a", [0.1, 0.1]), "b": stage("b", [0.1, 0.1])})
    first, second = records_of(joined)
    assert (first.key, second.key) == (b"key-1", b"key-2")
    assert dict(first.headers) == {
        "ce_id": b"p.events/2/10",
        "ce_time": b"1970-01-01T00:00:05.000Z",
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_type": b"anabranch.decision",
        "ce_source": b"anabranch/p",
    }
    assert len(first.headers) == len(dict(first.headers)), "each header once"
    assert second.headers is not first.headers


def test_a_traceparent_goes_on_with_its_row_only() -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    rows = replace(rows_of([10, 11, 12]), traces=BytesColumn.of([b"", trace, b""]))
    joined = joined_of({"a": stage("a", [0.1] * 3), "b": stage("b", [0.1] * 3)}, rows)
    found = [dict(record.headers).get("traceparent") for record in records_of(joined)]
    assert found == [None, trace, None]


@given(
    st.lists(st.integers(0, 2**62), min_size=1, max_size=8, unique=True).map(sorted),
)
def test_the_id_of_a_record_leads_back_to_its_source(offsets: list[int]) -> None:
    n = len(offsets)
    joined = joined_of({"a": stage("a", [0.1] * n), "b": stage("b", [0.1] * n)}, rows_of(offsets))
    rows = replace(
        joined.rows, event_time_ms=np.zeros(n, np.int64), published_ms=np.zeros(n, np.int64)
    )
    found = [source_of(record.headers) for record in records_of(replace(joined, rows=rows))]
    assert found == [("p.events", 2, offset) for offset in offsets]


@given(st.text(st.characters(codec="utf-8")), st.integers(0), st.integers(0))
def test_source_coordinates_are_one_word_and_back(topic: str, partition: int, offset: int) -> None:
    word = source_id(topic, partition, offset)
    assert source_of([("ce_id", word.encode())]) == (topic, partition, offset)


@pytest.mark.parametrize(
    "headers",
    [[], [("id", b"p/0/0")], [("ce_id", b"")], [("ce_id", b"p/0")], [("ce_id", b"p/0/x")],
     [("ce_id", b"\xff/0/0")]],
)  # fmt: skip
def test_headers_of_something_else_are_a_key_or_value_error(
    headers: list[tuple[str, bytes]],
) -> None:
    with pytest.raises((KeyError, ValueError)):
        source_of(headers)


def test_a_latency_is_never_negative() -> None:
    joined = joined_of({"a": stage("a", [0.1]), "b": stage("b", [0.1])})
    (record,) = records_of(joined, now_ms=0)
    assert parsed(record).latency_ms == 0


def test_weights_from_the_pipeline_file_are_version_0() -> None:
    joined = joined_of({"a": stage("a", [0.1]), "b": stage("b", [0.1])})
    (record,) = records_of(joined, weights=Weights(ALPHA, 0))
    assert parsed(record).weights == 0


@pytest.mark.parametrize("event_id", ["", "š€\U0001f600", '"\\\n', "\x00"])
def test_an_event_id_is_kept_whatever_its_letters(event_id: str) -> None:
    rows = replace(rows_of([10]), ids=BytesColumn.of([event_id.encode()]))
    (made,) = decided(joined_of({"a": stage("a", [0.1]), "b": stage("b", [0.1])}, rows))
    assert made.event_id == event_id


@given(st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31)))
def test_a_time_is_written_to_the_millisecond(naive: datetime) -> None:
    moment = naive.replace(microsecond=naive.microsecond // 1000 * 1000, tzinfo=UTC)
    text = rfc3339_time((moment - EPOCH) // timedelta(milliseconds=1))
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == moment


@pytest.mark.parametrize("at_ms", [253_402_300_800_000, -62_135_596_800_001])
def test_an_event_time_beyond_the_calendar_does_not_stop_the_others(at_ms: int) -> None:
    """An event at 9999-12-31T23:59:59-12:00 is valid, and in UTC of the year 10000."""
    rows = replace(rows_of([10, 11]), event_time_ms=np.array([at_ms, 0]))
    joined = joined_of({"a": stage("a", [0.1] * 2), "b": stage("b", [0.1] * 2)}, rows)
    assert [decision.source.offset for decision in decided(joined)] == [10, 11]


def test_a_decision_names_the_stages_that_are_in_quarantine() -> None:
    weights = Weights({"a": 0.0, "b": 1.0}, version=5, quarantined=["a"])
    joined = joined_of({"a": stage("a", [0.5]), "b": stage("b", [0.25])})
    assert parsed(records_of(joined, weights=weights)[0]).quarantined == ["a"]
    assert b"quarantined" not in (records_of(joined)[0].value or b"")

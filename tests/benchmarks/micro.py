"""Micro-benchmarks: microseconds a row of what every event goes through, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord

from agents.join import Moment, PartitionJoin
from agents.join.stage_rows import JoinedRows
from agents.stages.source_events import source_rows
from agents.weigh.decision_records import Weights
from agents.weigh.decision_rule import DecisionRule
from tests.benchmarks.card_events import STAGES, CardEvents
from tests.benchmarks.model_files import PIPELINE
from topics.events.event_decoder import EventDecoder
from topics.pipeline.file import load_pipeline
from topics.pipeline.schema import Pipeline
from topics.records.bytes_column import BytesColumn
from topics.records.dead_letter import dead_letter
from topics.records.stage_batch import ModelRef, Rows, StageBatch
from topics.records.wire import decode, encode

ROWS = (1, 16, 256, 4096)
YARDSTICK = "yardstick"
"""JSON of a decision read and written again: figures are compared as multiples of it."""
_REPEAT_S, _REPEATS = 0.25, 7
_MODEL = ModelRef("features@1", "sha256:" + 64 * "0", "fp32")
_NOW_MS = 1_522_540_831_000


@dataclass(frozen=True, slots=True)
class RowsOfEvents:
    """N events and what the stages say about them."""

    pipeline: Pipeline
    records: Sequence[ConsumerRecord]
    batches: Sequence[StageBatch]
    """One of each stage."""

    @classmethod
    def of(cls, n: int) -> RowsOfEvents:
        """The first *n* events, all valid."""
        pipeline = load_pipeline(PIPELINE).pipeline
        events = islice(CardEvents().events(), n)
        records = [_record(at, event.key, event.value) for at, event in enumerate(events)]
        rows = source_rows(records, EventDecoder(pipeline.event).decode(records))
        rng = np.random.default_rng(1)
        batches = [
            StageBatch(
                component=stage, topic="card-fraud.events", partition=0, covers_from=0, rows=rows,
                present=np.ones(n, np.bool_), output=rng.random((n, 5)),
                signal=rng.random(n, np.float32), model=_MODEL,
            )
            for stage in STAGES
        ]  # fmt: skip
        return cls(pipeline, records, batches)

    def joined(self) -> JoinedRows:
        """The stages' batches, pushed into a fresh join and popped at once."""
        at = Moment(0.0, 0.0, lambda _: False)
        join = PartitionJoin(STAGES, done=-1, at=at, stall_timeout_s=30.0, max_rows=50_000)
        for batch in self.batches:
            join.push(batch, (batch.component, 1), at)
        joined = join.pop()
        if joined is None or len(joined.rows) != len(self.records):
            raise ValueError("the join did not give all rows")
        return joined


def _record(offset: int, key: bytes, value: bytes) -> ConsumerRecord:
    return ConsumerRecord(
        topic="card-fraud.events", partition=0, offset=offset, timestamp=_NOW_MS,
        timestamp_type=0, key=key, value=value, checksum=None,
        serialized_key_size=len(key), serialized_value_size=len(value), headers=(),
    )  # fmt: skip


def measured(advance: Callable[[str], None]) -> dict[str, dict[int, float]]:
    """Microseconds a row, by what is done and by the rows of a batch; the best of many times."""
    found: dict[str, dict[int, float]] = {}
    for n in ROWS:
        for name, action in _actions(RowsOfEvents.of(n)):
            found.setdefault(name, {})[n] = best_s(action) / n * 1e6
        advance(f"micro: batches of {n}")
    return found


def ratios(figures: dict[str, dict[int, float]]) -> dict[str, float]:
    """The largest and the smallest batches' figures, as multiples of the yardstick."""
    return {
        f"micro {name}, {n} rows": by_rows[n] / figures[YARDSTICK][n]
        for name, by_rows in figures.items()
        if name != YARDSTICK
        for n in (ROWS[0], ROWS[-1])
    }


def best_s(action: Callable[[], object]) -> float:
    """The least time that *action* takes in _REPEAT_S, and in _REPEATS runs at least."""
    until, times = time.perf_counter() + _REPEAT_S, list[float]()
    while (began := time.perf_counter()) < until or len(times) < _REPEATS:
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def _actions(rows: RowsOfEvents) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, by name."""
    decision = orjson.dumps({"event_id": "tx-00000017", "score": 0.87, "pipeline": "card-fraud"})
    n = len(rows.records)
    yield YARDSTICK, lambda: [orjson.dumps(orjson.loads(decision)) for _ in range(n)]
    value, headers = encode(rows.batches[0])
    yield "encode", lambda: encode(replace(rows.batches[0], rows=_as_decoded(rows.batches[0].rows)))
    yield "decode", lambda: decode(value, dict(headers))
    decoder = EventDecoder(rows.pipeline.event)
    yield "validate events", lambda: decoder.decode(rows.records)
    yield "join 3 stages", rows.joined
    yield "decisions", _decisions(rows)
    yield "dead letters", _dead_letters(rows)


def _as_decoded(rows: Rows) -> Rows:
    """*rows* as they come from events: columns keep the bytes that they were once made into."""
    return replace(
        rows, ids=BytesColumn.of(rows.ids.items()), keys=BytesColumn.of(rows.keys.items())
    )


def _as_fetched(rows: Rows) -> Rows:
    """*rows* as they come from a topic: columns keep the elements that they were once read into."""
    n = len(rows)
    return replace(rows, ids=BytesColumn(bytes(rows.ids), n), keys=BytesColumn(bytes(rows.keys), n))


def _decisions(rows: RowsOfEvents) -> Callable[[], object]:
    """Weighing joined rows, and their decision records."""
    weights = Weights({"features": 0.1, "risk": 0.3, "decision": 0.6}, 1, digest=_MODEL.digest)
    rule = DecisionRule.of(load_pipeline(PIPELINE), weights)
    joined, every = rows.joined(), np.arange(len(rows.records))

    def decide() -> list[object]:
        weighed = rule.scorer.score(joined).weighed
        fresh = replace(joined, rows=_as_fetched(joined.rows))
        return list(rule.decisions.records(0, fresh, every, weighed, _NOW_MS))

    return decide


def _dead_letters(rows: RowsOfEvents) -> Callable[[], object]:
    """Invalid events refused, and their dead letters."""
    decoder = EventDecoder(rows.pipeline.event)
    bad = [replace(record, value=b'{"amount": -1}') for record in rows.records]

    def bury() -> list[object]:
        return [
            dead_letter(
                failure, ("card-fraud.events", 0, bad[failure.row].offset),
                (bad[failure.row].key, bad[failure.row].value, ()), _NOW_MS, published_ms=_NOW_MS,
            )
            for failure in decoder.decode(bad).failures
        ]  # fmt: skip

    return bury

"""Decisions and outcomes find each other, whatever comes first, twice, late, or from whom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest

from agents.monitor.decision_batch import DecisionBatch, DecisionDecoder
from agents.monitor.decision_store import DecisionStore
from topics.events import OutcomeDecoder
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.records import NO_DECISION, NO_ROOM, rfc3339_time

CARD_FRAUD = load_pipeline(find_pipeline("card-fraud")).pipeline
DAY_MS = 86_400_000
START_MS = 1_790_000_000_000
NOW_S = START_MS / 1000 + 1000 * 86_400


class LogRecord(NamedTuple):
    """A record as it is read."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = int(NOW_S * 1000)
    partition: int = 0


def pipeline(**outcomes: object) -> Pipeline:
    given = {"sources": ["chargeback", "analyst"], "keep": "30d", **outcomes}
    changed = CARD_FRAUD.outcomes.model_copy(update=given)
    return CARD_FRAUD.model_copy(update={"outcomes": changed})


def decision(
    name: str, at: int, *, day: float = 0, score: float = 0.5, **more: object
) -> LogRecord:
    stage = {"signal": score, "weight": 1.0, "contribution": score, "variant": "fp32"}
    said = {
        "event_id": name, "decision": "approve", "score": score, "weights": 1,
        "contributions": {"decision": {**stage, "model": "decision@1", "digest": "sha256:1"}},
        "policy": "card-fraud@1", "event_time": rfc3339_time(START_MS + int(day * DAY_MS)),
        "decided_at": rfc3339_time(START_MS + int(day * DAY_MS) + 20),
        "source": {"topic": "card-fraud.events", "partition": 0, "offset": at}, **more,
    }  # fmt: skip
    return LogRecord(at, b"c-1", orjson.dumps(said))


def outcome(
    name: str, at: int, label: bool, source: str = "", known: float = 1.0, day: float = 0
) -> LogRecord:
    said = {
        "transaction_id": name, "customer_id": "c-1", "terminal_id": "t-1", "outcome": label,
        "occurred_at": rfc3339_time(START_MS + int(day * DAY_MS)), "source": source or None,
        "known_at": rfc3339_time(START_MS + int(known * DAY_MS)),
    }  # fmt: skip
    return LogRecord(at, b"c-1", orjson.dumps(said))


class Fed:
    """A store that is fed with records, and what it said of them."""

    def __init__(self, store: DecisionStore, of: Pipeline) -> None:
        self.store = store
        self._decisions = DecisionDecoder(of)
        self._outcomes = OutcomeDecoder(of, clock=lambda: NOW_S)
        self.said: list[tuple[str, int, bool]] = []
        """Event, what was known before, what is now."""

    def decide(self, *records: LogRecord) -> None:
        self._note(self.store.add_decisions(self._decisions.decode(records, 0)))

    def tell(self, *records: LogRecord) -> None:
        decoded = self._outcomes.decode(records, 0)
        assert not decoded.failures
        self._note(self.store.add_outcomes(decoded, records))

    def _note(self, matched: Any) -> None:
        if matched is not None:
            ids, before = matched.decisions.ids, matched.before.tolist()
            self.said += zip(ids, before, matched.positive.tolist(), strict=True)

    def known(self) -> dict[str, bool]:
        """Event → what is known of it now."""
        rows = self.store.between(0, START_MS + 1000 * DAY_MS)
        return {
            name: positive
            for name, known, positive in zip(
                rows.decisions.ids, rows.known.tolist(), rows.positive.tolist(), strict=True
            )
            if known
        }


def fed(tmp_path: Path, of: Pipeline) -> Iterator[Fed]:
    with DecisionStore.in_folder(tmp_path, of) as store:
        yield Fed(store, of)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Fed]:
    yield from fed(tmp_path, pipeline())


def test_an_outcome_finds_its_decision_whichever_comes_first(store: Fed) -> None:
    store.decide(decision("a", 0))
    store.tell(outcome("a", 0, True), outcome("b", 1, False))
    assert (store.store.awaiting, store.store.unmatched) == (1, 1)
    store.decide(decision("b", 1))
    assert store.said == [("a", -1, True), ("b", -1, False)]
    assert (store.store.counts.matched, store.store.unmatched) == (2, 0)


def test_the_strongest_source_counts_then_the_latest_then_the_log_in_any_order(
    tmp_path: Path,
) -> None:
    said = [
        outcome("a", 0, False, "system", known=9),
        outcome("a", 1, False, "analyst", known=3),
        outcome("a", 2, True, "chargeback", known=2),
        outcome("a", 3, False, "chargeback", known=2),
        outcome("a", 4, True, "chargeback", known=1),
    ]
    for order in permutations(said):
        for alone in (True, False):
            for each in fed(tmp_path, pipeline()):
                each.decide(decision("a", 0))
                if alone:
                    for record in order:
                        each.tell(record)
                else:
                    each.tell(*order)
                assert each.known() == {"a": False}
                counts = each.store.counts
                assert counts.matched + counts.replaced + counts.reversed + counts.superseded == 5


def test_a_weaker_source_never_replaces_and_a_reversal_says_what_is_taken_back(store: Fed) -> None:
    store.decide(decision("a", 0))
    store.tell(outcome("a", 0, True, "analyst"))
    store.tell(outcome("a", 1, False, "system", known=20))
    assert store.said == [("a", -1, True)]
    store.tell(outcome("a", 2, False, "chargeback"))
    assert store.said == [("a", -1, True), ("a", 1, False)]
    store.tell(outcome("a", 2, False, "chargeback"), outcome("a", 3, False, "chargeback", known=5))
    assert len(store.said) == 2
    counts = store.store.counts
    assert (counts.reversed, counts.replaced, counts.superseded) == (1, 1, 2)


def test_an_event_that_was_published_twice_counts_once(store: Fed) -> None:
    store.decide(decision("a", 0, score=0.1), decision("a", 1, score=0.2))
    store.decide(decision("a", 2))
    store.tell(outcome("a", 0, True))
    assert store.store.counts.repeated == 2
    assert store.store.between(0, START_MS + DAY_MS).decisions.scores.tolist() == [0.1]
    assert store.said == [("a", -1, True)]


def test_ids_of_two_keys_are_two_events_unless_keys_are_not_trusted(tmp_path: Path) -> None:
    of_another = decision("a", 0)._replace(key=b"c-2")
    for each in fed(tmp_path, pipeline()):
        each.decide(of_another)
        each.tell(outcome("a", 0, True))
        assert each.known() == {}
    rekeyed = pipeline().model_copy(
        update={"event": CARD_FRAUD.event.model_copy(update={"keys": "rekey"})}
    )
    for each in fed(tmp_path, rekeyed):
        each.decide(of_another)
        each.tell(outcome("a", 0, True))
        assert each.known() == {"a": True}


def test_what_is_unmatched_for_as_long_as_it_is_kept_is_dead_as_it_was(store: Fed) -> None:
    lost = outcome("lost", 7, True)
    store.decide(decision("a", 0))
    store.tell(lost)
    store.decide(decision("b", 1, day=29.9))
    assert store.store.forget() == []
    store.decide(decision("c", 2, day=30.1))
    (dead,) = store.store.forget()
    assert (dead.error, dead.offset, dead.key, dead.value) == (NO_DECISION, 7, b"c-1", lost.value)
    assert (store.store.awaiting, store.store.unmatched) == (2, 0)
    store.tell(outcome("a", 8, True))  # its decision was forgotten
    assert [each.offset for each in store.store.forget()] == [8]


def test_more_than_the_bound_makes_room_and_is_counted(tmp_path: Path) -> None:
    for each in fed(tmp_path, pipeline(most_awaiting=1000)):
        each.decide(*(decision(f"a{n}", n, day=n / 1000) for n in range(1500)))
        each.tell(*(outcome(f"b{n}", n, True, day=n / 1000) for n in range(1200)))
        dead = each.store.forget()
        assert each.store.awaiting <= 1000
        assert each.store.awaiting >= 990
        assert each.store.counts.evicted == 1500 - each.store.awaiting
        assert {one.error for one in dead} == {NO_ROOM}
        assert each.store.unmatched + len(dead) == 1200


def test_a_decision_is_the_same_when_it_comes_out_of_the_store(store: Fed) -> None:
    records = [
        decision("a", 0, score=0.25, explored=True, propensity=0.005),
        decision("b", 1, score=0.75, decision="decline"),
        decision("c", 2)._replace(value=b"not a decision"),
    ]
    batch = DecisionDecoder(pipeline()).decode(records, 0)
    store.store.add_decisions(batch)
    again = store.store.between(0, START_MS + DAY_MS).decisions
    for name in DecisionBatch.__dataclass_fields__:
        np.testing.assert_equal(getattr(again, name), getattr(batch, name), err_msg=name)
    assert batch.propensity.tolist() == [0.005, 1.0]
    stage = batch.stages.index("decision")
    assert batch.contributions[:, stage].tolist() == [0.25, 0.75]

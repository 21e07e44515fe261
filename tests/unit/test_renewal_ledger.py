"""Who renews and how far a renewal has come, by the order of the log; what begins the next."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.renewal.renewal_ledger import RenewalLedger
from agents.renewal.triggers import DueRenewal, MonitorFinding, due_renewal
from topics.errors import WireError
from topics.pipeline import Renew
from topics.records import (
    RenewalRecord,
    RenewalRequest,
    RenewalStep,
    RenewalTriggered,
    RenewalVerdict,
    StepName,
    TrainerClaim,
    TrainerSign,
    VerdictName,
    renewal_key,
    renewal_record,
)

DAY_MS = 86_400_000


def ledger_of(records: Iterable[RenewalRecord]) -> RenewalLedger:
    ledger = RenewalLedger()
    for record in records:
        ledger.take(record)
    return ledger


def claim(term: int, trainer: str) -> TrainerClaim:
    return TrainerClaim(term=term, trainer=trainer, at="")


def begun(number: int, term: int = 1, day: float = 0, request: str = "") -> RenewalTriggered:
    return RenewalTriggered(
        renewal=number, term=term, trigger="schedule", reason="", request=request,
        event_ms=int(day * DAY_MS), at="",
    )  # fmt: skip


def step(name: StepName, state: str, number: int, term: int = 1, day: float = 0) -> RenewalStep:
    return RenewalStep.model_validate({
        "renewal": 1, "term": term, "number": number, "step": name, "state": state,
        "event_ms": int(day * DAY_MS), "at": "",
    })  # fmt: skip


def verdict(number: int, said: VerdictName, term: int = 1, day: float = 0) -> RenewalVerdict:
    return RenewalVerdict(
        renewal=number, term=term, verdict=said, reason="", event_ms=int(day * DAY_MS), at=""
    )


@given(st.permutations(["a", "b", "c"]), st.integers(0, 3))
def test_a_term_is_of_the_first_who_claims_it_whoever_else_does(
    names: list[str], more: int
) -> None:
    claims: list[RenewalRecord] = [claim(1, name) for name in names]
    claims += [claim(2, names[-1])] * (more > 1)
    ledger = ledger_of(claims)
    assert ledger.owner == (names[-1] if more > 1 else names[0])


def test_a_claim_of_a_term_that_is_not_the_next_is_none() -> None:
    assert ledger_of([claim(2, "a"), claim(1, "b"), claim(3, "c")]).owner == "b"


def test_what_a_trainer_writes_after_its_term_is_void() -> None:
    records: list[RenewalRecord] = [
        claim(1, "a"), begun(1), step("dataset", "begun", 1), claim(2, "b"),
        step("dataset", "done", 2), verdict(1, "promoted"),
    ]  # fmt: skip
    ledger = ledger_of(records)
    assert ledger.void == 2
    assert ledger.running is not None
    assert ledger.running.next_step == "dataset"


def test_compaction_changes_nothing_that_counts() -> None:
    """Of all records with one key the last stays: only signs share one."""
    records: list[RenewalRecord] = [
        claim(1, "a"), claim(1, "b"), TrainerSign(term=1, trainer="a", at="1"), begun(1),
        step("dataset", "begun", 1), TrainerSign(term=1, trainer="a", at="2"), claim(2, "b"),
        step("dataset", "done", 1, term=2), step("dataset", "done", 2), verdict(1, "lost"),
    ]  # fmt: skip
    last = {renewal_key(record): place for place, record in enumerate(records)}
    compacted = [record for place, record in enumerate(records) if place in last.values()]
    assert len(compacted) == len(records) - 1
    whole, rest = ledger_of(records), ledger_of(compacted)
    assert (whole.owner, whole.term, whole.void) == (rest.owner, rest.term, rest.void)
    assert [*whole] == [*rest]


def test_one_renewal_runs_at_a_time() -> None:
    ledger = ledger_of([claim(1, "a"), begun(1), begun(2), verdict(1, "lost"), begun(2)])
    assert [renewal.number for renewal in ledger] == [1, 2]


def test_a_request_is_answered_by_one_renewal() -> None:
    wanted = RenewalRequest(name="t", action="renew", by="me", at="")
    ledger = ledger_of([wanted, claim(1, "a")])
    assert ledger.wanted == wanted
    records: list[RenewalRecord] = [begun(1, request="t"), wanted]
    answered = ledger_of([wanted, claim(1, "a"), *records])
    assert answered.wanted is None
    assert answered.answered("t") == 1


def test_a_step_that_began_and_was_not_done_is_next_and_its_tries_are_counted() -> None:
    records: list[RenewalRecord] = [
        claim(1, "a"), begun(1), step("dataset", "begun", 1), step("dataset", "done", 2),
        step("train", "begun", 3), claim(2, "b"), step("train", "begun", 4, term=2),
    ]  # fmt: skip
    running = ledger_of(records).running
    assert running is not None
    assert (running.next_step, running.attempts["train"]) == ("train", 2)


@pytest.mark.parametrize("value", [b"", b"{}", b'{"kind": "claim", "term": 0}', b"[1]", b"\xff"])
def test_what_is_no_record_of_renewals_is_refused(value: bytes) -> None:
    with pytest.raises(WireError):
        renewal_record(b"claim/1/a", value)


def test_a_record_under_another_key_is_refused() -> None:
    record = claim(1, "a")
    with pytest.raises(WireError):
        renewal_record(b"claim/1/b", record.model_dump_json().encode())
    assert renewal_record(b"claim/1/a", record.model_dump_json().encode()) == record


def due(
    renew: Renew, ledger: RenewalLedger, day: float, *, models_until: float | None = 0,
    found: tuple[MonitorFinding, ...] = (),
) -> DueRenewal | None:  # fmt: skip
    until_ms = None if models_until is None else int(models_until * DAY_MS)
    return due_renewal(
        renew, ledger, int(day * DAY_MS), delay_ms=7 * DAY_MS, models_until_ms=until_ms,
        findings=found,
    )  # fmt: skip


ALL = Renew.model_validate(
    {"on": ["drift", "schedule", "quality"], "every": "10d", "cool_down": "2d", "fresh": "2d"}
)
DRIFT = MonitorFinding("drift", 5 * DAY_MS, "amount has drifted")


def test_nothing_begins_by_itself_where_nothing_is_said() -> None:
    assert due(Renew(), RenewalLedger(), 1000, found=(DRIFT,)) is None


def test_a_schedule_counts_days_of_events_since_the_last_renewal_or_the_models() -> None:
    assert due(ALL, RenewalLedger(), 1000, models_until=None) is None
    assert due(ALL, RenewalLedger(), 16.9) is None
    first = due(ALL, RenewalLedger(), 17)
    assert first is not None
    assert first.trigger == "schedule"
    ledger = ledger_of([claim(1, "a"), begun(1, day=10), verdict(1, "lost", day=15)])
    assert due(ALL, ledger, 19.9) is None
    assert due(ALL, ledger, 20) is not None


def test_drift_waits_for_outcomes_of_days_since_it_began() -> None:
    assert due(ALL, RenewalLedger(), 9, found=(DRIFT,), models_until=6) is None
    assert due(ALL, RenewalLedger(), 13.9, found=(DRIFT,), models_until=6) is None
    found = due(ALL, RenewalLedger(), 14, found=(DRIFT,), models_until=6)
    assert found == DueRenewal("drift", "amount has drifted")


def test_drift_is_answered_by_a_renewal_that_has_learned_of_it_and_by_no_other() -> None:
    only = ALL.model_copy(update={"triggers": ["drift"]})
    records: list[RenewalRecord] = [
        claim(1, "a"),
        begun(1, day=14),
        step("dataset", "done", 1, day=14),
    ]
    assert due(only, ledger_of([*records, verdict(1, "lost", day=20)]), 30, found=(DRIFT,)) is None
    failed = ledger_of([*records, verdict(1, "failed", day=20)])
    assert due(only, failed, 21.9, found=(DRIFT,)) is None
    assert due(only, failed, 22, found=(DRIFT,)) is not None
    early: list[RenewalRecord] = [
        claim(1, "a"),
        begun(1, day=12),
        step("dataset", "done", 1, day=12),
    ]
    learned_too_little = ledger_of([*early, verdict(1, "lost", day=13)])
    assert due(only, learned_too_little, 16, found=(DRIFT,)) is not None


def test_a_request_waits_for_no_cool_down() -> None:
    wanted = RenewalRequest(name="t", action="renew", by="me", reason="why", at="")
    ledger = ledger_of([claim(1, "a"), begun(1), verdict(1, "lost"), wanted])
    assert due(ALL, ledger, 0) == DueRenewal("request", "me: why", "t")


def test_orders_of_the_same_claims_differ_only_in_who_was_first() -> None:
    for names in permutations("abc"):
        assert ledger_of([claim(1, name) for name in names]).owner == names[0]

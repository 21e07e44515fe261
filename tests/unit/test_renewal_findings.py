"""What of the monitor's findings begins a renewal, and what makes one that runs give way."""

from __future__ import annotations

import orjson
import pytest

from agents.renewal.monitor_reader import LostQuality, finding_of, lasting_losses
from agents.renewal.renewal_ledger import RenewalLedger
from agents.renewal.triggers import MonitorFinding, overtaking
from tests.unit.test_renewal_ledger import ALL, DAY_MS, DRIFT, begun, claim, due, ledger_of, step
from topics.records import rfc3339_time


def window(day: int, **outside: list[str]) -> LostQuality:
    """What a record of a day says of subjects."""
    said = finding_of(orjson.dumps({
        "kind": "quality", "state": "matured", "since": rfc3339_time(day * DAY_MS),
        "until": rfc3339_time((day + 1) * DAY_MS),
        "subjects": [{"subject": name, "outside": of} for name, of in outside.items()],
    }))  # fmt: skip
    assert isinstance(said, LostQuality)
    return said


def test_what_one_window_alone_has_lost_is_no_finding_and_what_two_have_is() -> None:
    windows = [
        window(1, composed=["auc"]), window(2, forest=["auc"]), window(3), window(5, forest=["auc"])
    ]  # fmt: skip
    assert [*lasting_losses({each.since_ms: each for each in windows})] == []
    windows.append(window(6, forest=["auc", "brier"], composed=["brier"]))
    assert [*lasting_losses({each.since_ms: each for each in windows})] == [
        MonitorFinding(
            "quality", 5 * DAY_MS, "forest: auc below what was promised, twice (matured)"
        )
    ]  # fmt: skip


def test_a_segments_loss_and_what_is_no_window_ask_for_nothing() -> None:
    assert window(1, **{"country=de": ["auc"]}).figures == frozenset()


@pytest.mark.parametrize("value", [
    b"", b"[]", b"\xff", b'{"kind": "quality", "since": "x", "until": "y"}', None,
    b'{"kind": "quality", "since": "1970-01-02T00:00:00Z"}', b'{"kind": "weights"}',
])  # fmt: skip
def test_what_is_neither_drift_nor_quality_is_passed_over(value: bytes | None) -> None:
    assert finding_of(value) is None


@pytest.mark.parametrize("subjects", [None, 5, [5], [{"outside": 5}], [{"outside": None}]])
def test_a_record_of_quality_that_is_none_has_lost_nothing(subjects: object) -> None:
    said = finding_of(orjson.dumps({
        "kind": "quality", "since": "1970-01-02T00:00:00Z", "until": "1970-01-03T00:00:00Z",
        "subjects": subjects,
    }))  # fmt: skip
    assert isinstance(said, LostQuality)
    assert said.figures == frozenset()


def test_what_models_that_people_trained_have_learned_of_begins_no_renewal() -> None:
    only = ALL.model_copy(update={"triggers": ["drift"]})
    assert due(only, RenewalLedger(), 30, found=(DRIFT,), models_until=6.9) is not None
    assert due(only, RenewalLedger(), 30, found=(DRIFT,), models_until=7) is None


def overtaken(day: float, found: MonitorFinding) -> bool:
    """Whether a renewal that was trained on what was known on day 14 gives way."""
    ledger = ledger_of([claim(1, "a"), begun(1, day=14), step("dataset", "done", 1, day=14)])
    assert ledger.running is not None
    newer = overtaking(
        ALL, ledger.running, int(day * DAY_MS), delay_ms=7 * DAY_MS, findings=[found]
    )
    return newer is not None


def test_a_renewal_gives_way_to_a_drift_that_began_after_what_it_is_trained_on() -> None:
    later = MonitorFinding("drift", 8 * DAY_MS, "amount has drifted")
    assert not overtaken(16.9, later)
    assert overtaken(17, later)


def test_a_renewal_goes_on_though_drift_it_has_seen_or_lost_quality_goes_on() -> None:
    assert not overtaken(30, DRIFT)
    assert not overtaken(30, MonitorFinding("drift", 7 * DAY_MS, "seen for no day yet"))
    assert not overtaken(30, MonitorFinding("quality", 8 * DAY_MS, "auc"))

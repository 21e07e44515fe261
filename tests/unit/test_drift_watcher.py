"""The watcher of drift, fed as the monitor feeds it: fields, decisions, signals, swaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from agents.drift.drift_watcher import DriftWatcher
from agents.drift.references import served_reference
from agents.drift.waiting_rows import WaitingRows
from agents.monitor.decision_batch import DecisionBatch
from agents.monitor.watcher import EventBatch, Finding, MonitorContext, MonitorTime
from models.arrays import Floats64, Ints
from models.drift.detector import DriftDetector
from models.drift.hour_counts import HOUR_MS
from models.drift.reference import Reference
from models.registry.cards import ModelCard, WeightsCard
from models.registry.registry import Registry
from tests.contracts import check_values
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records.control import ControlState, Deployment, VersionRef

FILE = load_pipeline(find_pipeline("card-fraud"))
PIPELINE = FILE.pipeline
STAGES = PIPELINE.weighting.inputs
START = 1_700_006_400_000  # a midnight, in UTC
HOURLY = 60
CARD = ModelCard(
    estimator="e", parameters={}, inputs=["x"], n_inputs=1, rows=1, data_hash="", metrics={},
    created_at="2026-01-01T00:00:00+00:00", libraries={},
)  # fmt: skip


def day(number: int, seed: int, mean: float = 50.0) -> tuple[Ints, Floats64, Floats64]:
    """Times, amounts and signals of a day; the signal follows the amount."""
    rng = np.random.default_rng(seed)
    hours = np.repeat(np.arange(24) + 24 * number, HOURLY)
    amounts = rng.normal(mean, 10, len(hours))
    return START + hours * HOUR_MS, amounts, np.clip(amounts / 100, 0, 1)


def trained(root: Path, days: int = 28) -> Registry:
    """A registry whose versions have references of so many days; `risk-forest` was imported."""
    registry = Registry(root)
    parts = [day(number, number) for number in range(days)]
    times, amounts, signals = (np.concatenate([part[at] for part in parts]) for at in range(3))
    for name in (*STAGES,):
        said = Reference.of_columns("signal", {name: signals}, times)
        read = Reference.of_columns("event", {"amount": amounts}, times)
        own = Reference.joined([read, said]) if name == "features" else said
        reference = None if name == "risk-forest" else own.to_bytes()
        registry.add("card-fraud", name, name.encode(), CARD, reference=reference)
    score = Reference.of_columns("signal", {"score": signals}, times)
    weights = WeightsCard(
        values=dict.fromkeys(STAGES, 1 / len(STAGES)), rows=1, created_at="", metrics={}, models={}
    )
    registry.add_weights("card-fraud", weights, reference=score.to_bytes())
    return registry


def context(registry: Registry, control: ControlState) -> MonitorContext:
    return MonitorContext(
        FILE, registry, cast("Any", None), CollectorRegistry(), lambda: control, cast("Any", None)
    )


def fed(watcher: DriftWatcher, number: int, seed: int, mean: float = 50.0) -> list[Finding]:
    """What is found in a day that comes hour by hour, decisions behind events."""
    times, amounts, signals = day(number, seed, mean)
    found: list[Finding] = []
    for hour in np.unique(times).tolist():
        rows = np.flatnonzero(times == hour)
        offsets = rows + number * len(times)
        found += _hour(watcher, offsets, hour, amounts[rows], signals[rows])
    return found


def _hour(
    watcher: DriftWatcher, offsets: Ints, at: int, amounts: Floats64, signals: Floats64
) -> Iterator[Finding]:
    times = np.full(len(offsets), at)
    watcher.events(EventBatch(0, offsets, times, {"amount": amounts}, 0))
    decided = ["decline" if signal > 0.65 else "approve" for signal in signals.tolist()]
    wide = np.tile(signals[:, None], len(STAGES))
    watcher.decisions(
        DecisionBatch(
            stages=STAGES,
            partitions=np.zeros(len(offsets), np.int64),
            offsets=offsets,
            log_offsets=offsets,
            ids=[""] * len(offsets),
            keys=[""] * len(offsets),
            event_ms=times,
            decided_ms=times,
            scores=signals,
            signals=wide,
            alphas=wide,
            failed=np.zeros(wide.shape, bool),
            decided=decided,
            models=[()] * len(offsets),
            weights=np.ones(len(offsets), np.int64),
            policies=["p"] * len(offsets),
            explored=np.zeros(len(offsets), np.bool_),
            propensity=np.ones(len(offsets)),
        )
    )
    yield from watcher.tick(MonitorTime(at, at, caught_up=True))


def records(found: list[Finding]) -> list[dict[str, Any]]:
    """What was said; all of it is what the JSON Schema of the topic says."""
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    check_values(pipeline, "monitor", [each.value for each in found])
    return [orjson.loads(each.value) for each in found]


def test_a_field_that_moves_is_said_with_its_decisions_and_no_other_day_is(tmp_path: Path) -> None:
    watcher = DriftWatcher(context(trained(tmp_path), ControlState()))
    calm = records([each for number in range(28, 32) for each in fed(watcher, number, number)])
    assert {each["kind"] for each in calm} == {"drift-sizes"}
    assert calm[-1]["lacking"] == {"risk-forest": "risk-forest@1 has none: it was imported, or "
                                                  "trained before there were"}  # fmt: skip
    assert "signal:score" in calm[-1]["series"]
    found = records([each for n in (32, 33) for each in fed(watcher, n, n, mean=62.0)])
    amount = next(each for each in found if each.get("series") == "amount")
    assert amount["kind"] == "drift"
    assert amount["all_now"]["decline"] > amount["all_before"]["decline"] + 0.1
    assert amount["mean_before"] == pytest.approx(50, abs=1)
    assert amount["sentence"].startswith(f"amount has moved, mean {amount['mean_before']:.4g} to")
    assert "decline" in amount["sentence"]


def test_a_watcher_that_is_restored_says_what_it_would_have_said(tmp_path: Path) -> None:
    registry = trained(tmp_path)
    one, other = (DriftWatcher(context(registry, ControlState())) for _ in range(2))
    for number in range(28, 30):
        fed(one, number, number)
    times, amounts, _ = day(30, 30)
    one.events(EventBatch(1, np.arange(9), times[:9], {"amount": amounts[:9]}, 0))
    other.restore(one.snapshot())
    rest = [fed(each, 30, 5, mean=62.0) for each in (one, other)]
    assert rest[0] == rest[1] != []
    with pytest.raises(ValueError, match="no state of drift"):
        other.restore(b"no snapshot")


def test_a_promoted_version_is_held_to_its_own_reference(tmp_path: Path) -> None:
    registry, control = trained(tmp_path), ControlState()
    watcher = DriftWatcher(context(registry, control))
    times, _, signals = (np.concatenate(part) for part in zip(*map(day, range(3), range(3)),
                                                              strict=True))  # fmt: skip
    reference = Reference.of_columns("signal", {"decision": signals}, times).to_bytes()
    version = registry.add("card-fraud", "decision", b"new", CARD, reference=reference)
    ref = VersionRef(version=2, digest=version.digest)
    control.deployments["decision"] = Deployment(champion=ref)
    fed(watcher, 28, 28)
    assert watcher.detector.learning == {"decision": 10}


def test_fixed_weights_and_models_without_a_registry_are_said_by_name(tmp_path: Path) -> None:
    fixed = PIPELINE.weighting.model_copy(update={"weights": dict.fromkeys(STAGES, 0.25)})
    of = PIPELINE.model_copy(update={"weighting": fixed})
    lacking = served_reference(of, Registry(tmp_path), ControlState()).lacking
    assert set(lacking) == {"features", "risk-linear", "risk-forest", "decision", "score"}
    assert "fixed in the pipeline file" in lacking["score"]


def test_rows_that_wait_are_bounded_and_none_is_lost() -> None:
    columns = {"x": np.arange(40.0)}
    times = START + np.arange(40) * HOUR_MS
    detector = DriftDetector(Reference.of_columns("event", columns, times), ["a"])
    waiting = WaitingRows(most=15)
    given = 0
    for number in range(4):
        part = slice(number * 10, number * 10 + 10)
        rows = detector.placed("event", {"x": columns["x"][part]}, times[part])
        given += sum(len(each.rows.hours) for each in waiting.add(0, np.arange(40)[part], rows))
        assert len(waiting) <= 15
    again = WaitingRows()
    again.restore(waiting.to_bytes())
    (decided,) = again.decided(0, np.array([35, 39, 77]), ["b", "a", "a"])
    assert decided.decisions == ["b", "a"]
    assert given + len(again) + 2 == 40
    last = int(times[-1]) // HOUR_MS
    assert sum(len(each.rows.hours) for each in again.before(last)) == len(waiting) - 2

"""What the watcher of weights says, and puts into service, at the settings that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import yaml
from prometheus_client import CollectorRegistry

from agents.learning.weights_in_service import WeightsInService
from agents.learning.weights_step import WeightsStep
from agents.learning.weights_watcher import WeightsWatcher, weights_watcher
from agents.monitor.decision_batch import DecisionBatch, MatchedOutcomes
from agents.monitor.watcher import MonitorContext, MonitorTime
from models.registry.background import Background, RecordedOutput
from models.registry.cards import WeightsCard
from models.registry.registry import Registry
from tests.contracts import check_values
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.policy import Policy
from topics.records.control import (
    AuditEntry,
    ControlState,
    PolicyDeployment,
    WeightsDeployment,
    audit_key,
)
from topics.settings import BrokerSettings

STATELESS = Path(__file__).parent / "stateless.yaml"
HOUR_MS, NOW_MS = 3_600_000, 1_800_000_000_000
COMPONENTS = ["a", "b", "c"]
TRAINED = {"a": 0.5, "b": 0.3, "c": 0.2}


class Place:
    """A pipeline whose weights are watched, its registry and its control topic."""

    def __init__(self, folder: Path, **weighting: object) -> None:
        content = yaml.safe_load(STATELESS.read_text())
        content["components"] = [
            {"name": name, "import": "m:C", "from": ["events"]} for name in COMPONENTS
        ]
        content["weighting"] = {"from": COMPONENTS, **weighting}
        content["policy"] = {"thresholds": {"review": 0.5, "decline": 0.8}}
        content.pop("fuse", None)
        path = folder / "p.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        self.file, self.registry = load_pipeline(path), Registry(folder / "registry")
        self.name = self.file.pipeline.name
        output = RecordedOutput(np.zeros((2, 1), np.float32), np.zeros(2, np.float32), ["x"])
        self.registry.add_weights(
            self.name,
            WeightsCard(
                values=TRAINED, rows=1, created_at="2026-01-01", metrics={}, models={"a": "d"}
            ),
            Background({"a": output}),
        )
        self.state = ControlState()
        self.watcher = self.new_watcher()

    def new_watcher(self) -> WeightsWatcher:
        watcher = weights_watcher(MonitorContext(
            self.file, self.registry, BrokerSettings(), CollectorRegistry(), lambda: self.state,
            None,  # type: ignore[arg-type]  # nothing is asked of it
        ))  # fmt: skip
        assert watcher is not None
        return watcher

    def tick(self) -> dict[str, Any]:
        """What the watcher says."""
        findings = self.watcher.tick(MonitorTime(NOW_MS, NOW_MS, True))
        pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
        check_values(pipeline, "monitor", [each.value for each in findings])
        return {} if not findings else dict(orjson.loads(findings[-1].value))

    def due(self) -> WeightsStep | None:
        """What would be put into service now."""
        self.tick()
        return self.watcher._wanted

    def put(self, step: WeightsStep) -> None:
        """What `put_into_service` would write."""
        version = self.registry.add_weights(self.name, step.card()).version
        self.state.weights = WeightsDeployment(version=version, previous=1)
        if (policy := step.policy([1])) is not None:
            self.state.policy = policy


def decided(
    signals: np.ndarray, *, failed: np.ndarray | None = None, at_ms: int = NOW_MS, weights: int = 1
) -> DecisionBatch:
    """N decisions by the trained weights."""
    n = len(signals)
    fails = np.zeros(signals.shape, np.bool_) if failed is None else failed
    present = ~fails
    alphas = np.where(present, np.array([*TRAINED.values()]), 0)
    alphas = alphas / alphas.sum(axis=1, keepdims=True)
    integers = np.arange(n, dtype=np.int64)
    nan = np.where(present, 1.0, np.nan)
    return DecisionBatch(
        stages=COMPONENTS, partitions=integers * 0, offsets=integers, log_offsets=integers,
        ids=[str(each) for each in range(n)], keys=["k"] * n, event_ms=integers * 0 + at_ms,
        decided_ms=integers * 0 + at_ms, scores=np.nansum(alphas * signals, axis=1),
        signals=signals * nan, alphas=alphas * nan, failed=fails, decided=["approve"] * n,
        models=[()] * n, weights=integers * 0 + weights, policies=["p@1"] * n,
        explored=np.zeros(n, np.bool_), propensity=np.ones(n),
    )  # fmt: skip


def rows_of(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Signals of which b knows what comes true, c says the opposite, and a knows nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    sure = np.clip(labels * 0.6 + 0.2 + rng.normal(0, 0.1, n), 0.01, 0.99)
    return np.stack([rng.random(n), sure, 1 - sure], axis=1), labels


def matched(decisions: DecisionBatch, labels: np.ndarray, known_ms: np.ndarray) -> MatchedOutcomes:
    return MatchedOutcomes(
        decisions, labels, np.full(len(labels), -1), ["system"] * len(labels), known_ms
    )


def feed(place: Place, n: int = 5000, hours: int = 50, seed: int = 0) -> None:
    """So many decisions, and their outcomes over so many hours of the past."""
    signals, labels = rows_of(seed, n)
    batch = decided(signals)
    place.watcher.decisions(batch)
    known_ms = NOW_MS - hours * HOUR_MS + np.arange(n) * (hours * HOUR_MS // n)
    place.watcher.outcomes(matched(batch, labels, known_ms))


def test_shadow_says_what_weights_would_be_and_would_have_cost_and_does_nothing(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    feed(place)
    said = place.tick()
    assert (said["kind"], said["learning"], said["version"]) == ("weights", "shadow", 1)
    assert said["in_service"] == TRAINED
    assert said["learned"]["b"] > 0.9
    assert said["outcomes"] == 5000
    assert said["log_loss"]["decided"] == pytest.approx(said["log_loss"]["trained"])
    assert place.watcher._wanted is None


def test_nothing_new_is_not_said_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    feed(place)
    assert place.tick()
    assert not place.tick()


def test_active_makes_a_version_of_the_trained_weights_with_thresholds_that_keep_the_shares(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, learning={"mode": "active"})
    feed(place)
    step = place.due()
    assert step is not None
    card = step.card()
    assert (card.parent, card.origin, card.models) == (1, "outcomes", {"a": "d"})
    assert card.values["b"] > 0.9
    policy = step.policy([1])
    assert policy is not None
    assert policy.policy.version == 2
    assert policy.policy.thresholds == card.thresholds
    assert policy.previous == place.file.pipeline.policy
    # Held against a plain count, by the trained weights and by the new ones.
    signals, _ = rows_of(0, 5000)
    before = np.histogram(signals @ [*TRAINED.values()], [0, 0.5, 0.8, 1.01])[0] / 5000
    moved = [*policy.policy.thresholds.values()]
    after = np.histogram(signals @ [*card.values.values()], [0, *moved, 1.01])[0] / 5000
    assert (np.abs(after - before) <= 0.2 * before + 0.001).all()


def test_a_step_in_service_is_not_made_again_and_the_next_goes_on_from_the_trained_ones(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, learning={"mode": "active"})
    feed(place)
    step = place.due()
    assert step is not None
    place.put(step)
    start = WeightsInService.of(place.file.pipeline, place.registry, place.state, 1)
    assert start is not None
    assert (start.current.version, start.trained.version) == (2, 1)
    assert start.trained_policy == place.file.pipeline.policy != start.policy
    assert place.due() is None


def test_without_a_thousand_decisions_nobody_knows_the_shares_and_nothing_is_done(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, learning={"mode": "active"})
    feed(place, n=999)
    assert place.due() is None


def entry(action: str, version: int) -> AuditEntry:
    return AuditEntry.model_validate({
        "action": action, "what": "weights", "version": version, "before": None, "by": "me",
        "reason": "", "at": "2026-01-01T00:00:00.000+00:00",
    })  # fmt: skip


def test_whoever_rolls_back_has_the_last_word_until_somebody_promotes(tmp_path: Path) -> None:
    place = Place(tmp_path, learning={"mode": "active"}, quarantine={"mode": "active"})
    feed(place)
    place.state.trail[audit_key(entry("rollback", 1), "1")] = entry("rollback", 1)
    place.state.weights = WeightsDeployment(version=1)
    assert place.due() is None
    assert place.watcher._quarantine.taken == {}
    place.state.trail[audit_key(entry("promote", 1), "2")] = entry("promote", 1)
    assert place.due() is not None


def test_other_trained_weights_are_another_start(tmp_path: Path) -> None:
    place = Place(tmp_path)
    feed(place)
    place.tick()
    values = {"a": 0.1, "b": 0.1, "c": 0.8}
    card = WeightsCard(values=values, rows=1, created_at="2026-02-01", metrics={}, models={})
    version = place.registry.add_weights(place.name, card).version
    place.state.weights = WeightsDeployment(version=version)
    said = place.tick()
    assert (said["trained_version"], said["outcomes"]) == (2, 0)
    assert said["learned"] == said["trained"] == values


def test_a_stage_that_fails_is_out_at_the_defaults_within_two_thousand_decisions(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, quarantine={"mode": "active"})
    signals, _ = rows_of(1, 3000)
    place.watcher.decisions(decided(signals))
    assert place.due() is None
    failed = np.zeros((2000, 3), np.bool_)
    failed[:, 1] = True
    place.watcher.decisions(decided(signals[:2000], failed=failed))
    step = place.due()
    assert step is not None
    assert step.quarantined == ["b"]
    card = step.card()
    assert (card.origin, card.quarantined, card.values["b"]) == ("quarantine", ["b"], 0.0)
    assert card.values["a"] / card.values["c"] == pytest.approx(0.5 / 0.2)
    place.put(step)
    assert place.due() is None
    place.watcher.decisions(decided(signals, weights=2))
    assert place.due() is None  # three blocks of the four
    place.watcher.decisions(decided(signals[:1000], weights=2))
    back = place.due()
    assert back is not None
    assert back.is_trained


def test_the_shares_that_are_kept_in_a_quarantine_are_those_of_before(tmp_path: Path) -> None:
    """A stage that says 1 of every row would make frauds of all of them."""
    place = Place(tmp_path, quarantine={"mode": "active"})
    signals, _ = rows_of(2, 6000)
    place.watcher.decisions(decided(signals[:5000]))
    place.tick()
    stuck = signals[5000:].copy()
    stuck[:, 0] = 1.0
    for _ in range(5):
        place.watcher.decisions(decided(stuck))
    step = place.due()
    assert step is not None
    assert step.quarantined == ["a"]
    before = np.histogram(signals[:5000] @ [*TRAINED.values()], [0, 0.5, 0.8, 1.01])[0] / 5000
    assert (np.abs(step.move.shares - before) <= 0.2 * before + 0.002).all()


def test_in_shadow_a_quarantine_is_said_and_nothing_is_done(tmp_path: Path) -> None:
    place = Place(tmp_path)
    signals, _ = rows_of(3, 2000)
    place.watcher.decisions(decided(signals))
    stuck = signals.copy()
    stuck[:, 2] = 0.25
    place.watcher.decisions(decided(stuck))
    said = place.tick()
    assert said["quarantined"] == {"c": "constant"}
    assert "c said 0.25 of each of" in said["verdicts"][0]["words"]
    assert place.watcher._wanted is None


def test_a_reversal_takes_back_what_was_learned(tmp_path: Path) -> None:
    place, other = Place(tmp_path), Place(tmp_path)
    signals, labels = rows_of(4, 200)
    batch, known_ms = decided(signals), np.full(200, NOW_MS - 5 * HOUR_MS)
    wrong = matched(batch, ~labels, known_ms)
    place.watcher.outcomes(wrong)
    place.watcher.outcomes(
        MatchedOutcomes(batch, labels, (~labels).astype(np.int64), ["analyst"] * 200, known_ms)
    )
    other.watcher.outcomes(matched(batch, labels, known_ms))
    later = matched(decided(signals[:1]), labels[:1], np.array([NOW_MS]))
    for each in (place, other):
        each.watcher.outcomes(later)
    assert place.tick()["learned"] == other.tick()["learned"]


def test_it_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    place = Place(tmp_path, learning={"mode": "active"})
    feed(place)
    place.tick()
    state = place.watcher.snapshot()
    place.watcher = place.new_watcher()
    place.watcher.restore(state)
    assert place.watcher.snapshot() == state
    signals, _ = rows_of(0, 5000)
    assert place.due() is None  # the window is of the decisions that come
    place.watcher.decisions(decided(signals))
    assert place.due() is not None


@pytest.mark.parametrize("state", [b"{}", b'{"learner": null, "quarantine": 3}', b"[]"])
def test_a_snapshot_of_something_else_is_refused(tmp_path: Path, state: bytes) -> None:
    with pytest.raises(ValueError, match="no state of"):
        Place(tmp_path).watcher.restore(state)


def test_a_policy_that_somebody_has_promoted_meanwhile_is_the_one_whose_shares_are_kept(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, learning={"mode": "active"})
    feed(place)
    step = place.due()
    assert step is not None
    place.put(step)
    theirs = Policy(version=7, thresholds={"review": 0.4, "decline": 0.9})
    place.state.policy = PolicyDeployment(policy=theirs, previous=None)
    start = WeightsInService.of(place.file.pipeline, place.registry, place.state, 1)
    assert start is not None
    assert start.trained_policy == start.policy == theirs

"""How long topics keep records: as long as windows look back, and the replay time."""

from __future__ import annotations

import pytest
import yaml

from agents.broker.topic_settings import too_short
from models.features.windows import WindowPlan
from topics.pipeline.fields import duration_ms
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.topic_retention import reach_ms, retention_ms
from topics.pipeline.topology import Topology
from topics.records.broker_setup import topic_configs

DAY_MS = 86_400_000


def pipeline(name: str = "card-fraud", **sections: object) -> Pipeline:
    content = yaml.safe_load(find_pipeline(name).read_text())
    return Pipeline.model_validate({**content, **sections})


def test_card_fraud_keeps_its_window_of_30_days_and_the_delay_of_7_of_what_it_counts() -> None:
    made = pipeline()
    assert reach_ms(made, "features") == 30 * DAY_MS
    assert reach_ms(made, "terminals") == 37 * DAY_MS
    assert retention_ms(made) == 37 * DAY_MS


def test_a_replay_time_is_kept_beyond_the_windows() -> None:
    assert retention_ms(pipeline(retention={"replay": "3d"})) == 40 * DAY_MS
    assert retention_ms(pipeline(retention={"replay": "0d"})) == 37 * DAY_MS


def test_a_longer_delay_of_outcomes_is_a_longer_retention() -> None:
    assert retention_ms(pipeline(outcomes={"delay": "14d"})) == 44 * DAY_MS


@pytest.mark.parametrize(("replay", "days"), [("0d", 7), ("2d", 7), ("9d", 9)])
def test_without_windows_it_is_a_week_or_the_replay_time(replay: str, days: int) -> None:
    assert retention_ms(pipeline("tumour-triage", retention={"replay": replay})) == days * DAY_MS


@pytest.mark.parametrize("name", ["features", "terminals"])
def test_it_is_as_far_as_windows_really_look(name: str) -> None:
    made = pipeline()
    plan = WindowPlan(made, name)
    spans = [each.window_ms + each.delay_ms for each in (*plan.of_events, *plan.of_outcomes)]
    assert max(spans) == plan.memory_ms == reach_ms(made, name)


@pytest.mark.parametrize(
    "name", ["card-fraud", "machine-maintenance", "road-risk", "tumour-triage"]
)
def test_every_topic_is_either_kept_that_long_or_compacted(name: str) -> None:
    made = load_pipeline(find_pipeline(name)).pipeline
    topology = Topology.of(made)
    configs = topic_configs(topology)
    shadows = [topology.shadow(spec.name) for spec in made.components]
    for topic in (*topology.all, topology.outcomes, *shadows):
        if topic in topology.compacted:
            assert configs[topic]["cleanup.policy"] == "compact"
            assert "retention.ms" not in configs[topic]
        else:
            assert configs[topic]["retention.ms"] == str(retention_ms(made))


def test_a_topic_that_keeps_less_is_said_with_the_command_that_mends_it() -> None:
    topology = Topology.of(pipeline())
    week = {"retention.ms": str(duration_ms("7d")), "retention.bytes": "-1"}
    (finding,) = too_short(topology, {topology.events: {**week, "cleanup.policy": "delete"}})
    assert "topic card-fraud.events keeps records for 7 d, the pipeline file needs 37 d" in finding
    assert "--entity-name card-fraud.events --add-config retention.ms=3196800000" in finding


def test_a_bound_of_bytes_is_said_whatever_the_time_is() -> None:
    topology = Topology.of(pipeline())
    given = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "1073741824"}
    (finding,) = too_short(topology, {topology.decisions: given})
    assert "1,073,741,824 bytes a partition" in finding


@pytest.mark.parametrize("given", [
    {"cleanup.policy": "delete", "retention.ms": "3196800000", "retention.bytes": "-1"},
    {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
    {"cleanup.policy": "compact", "retention.ms": "1", "retention.bytes": "1"},
])  # fmt: skip
def test_a_topic_that_keeps_enough_is_not_mentioned(given: dict[str, str]) -> None:
    topology = Topology.of(pipeline())
    assert not list(too_short(topology, {topology.events: given}))

"""Plans: the model against what was measured, and what must hold of every plan."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agents.capacity.costs import Cycle, Point, unit_costs
from agents.capacity.queueing import cycle_ms, waiting_time
from agents.capacity.sizing import OutOfReach, Plan, TooManyEvents, kind_of, plan, throughput
from agents.capacity.traffic import Demand
from agents.cli import app
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline, Weighting
from topics.pipeline.topology import Topology

COSTS = unit_costs()
CARD_FRAUD = load_pipeline(find_pipeline("card-fraud")).pipeline
TOLERANCE = 0.20
CORES = 2
PARTITIONS = 4


def forecast(point: Point) -> float:
    """What the model says of something that was measured, with everything on one machine."""
    if point.what == "throughput":
        return throughput(COSTS, point.workers, CORES)
    assert point.events_per_s is not None
    found = waiting_time([COSTS.together], [point.events_per_s], PARTITIONS)
    return found.p50_ms if point.what == "p50_ms" else found.p99_ms


@pytest.mark.parametrize("point", COSTS.points, ids=lambda each: f"{each.what}-{each.events_per_s}")
def test_the_forecast_is_near_what_was_measured(point: Point) -> None:
    assert abs(forecast(point) / point.measured_value - 1) <= TOLERANCE


def test_some_points_are_there_that_no_cost_was_fitted_to() -> None:
    unseen = [
        point
        for point in COSTS.points
        if point.events_per_s and "no cost was fitted" in point.source
    ]
    assert {each.events_per_s for each in unseen} == {300, 2500}


def planned(rate: float, p99_ms: float = 1000.0, pipeline: Pipeline = CARD_FRAUD) -> Plan:
    return plan(pipeline, Demand(rate, p99_ms), COSTS)


@given(st.floats(1, 3e6), st.floats(1, 4))
@example(387_544.0, 411_766 / 387_544)
def test_more_events_never_need_less(rate: float, times: float) -> None:
    less, more = planned(rate), planned(rate * times)
    for name, each in less.components.items():
        assert more.components[name].replicas >= each.replicas
    assert more.partitions >= less.partitions
    assert (more.cpu_cores, more.disk_gb) >= (less.cpu_cores, less.disk_gb)


@given(st.floats(1, 5e6), st.floats(60, 10_000))
def test_every_worker_has_a_partition_and_time_to_spare(rate: float, p99_ms: float) -> None:
    found = planned(rate, p99_ms)
    assert max(component.replicas for component in found.components.values()) <= found.partitions
    assert all(component.busy <= 0.7 + 1e-9 for component in found.components.values())
    assert found.p50_ms <= found.p99_ms


@given(st.floats(1, 3e6), st.floats(60, 5000), st.floats(1, 20))
def test_a_longer_latency_never_takes_more(rate: float, p99_ms: float, times: float) -> None:
    strict, relaxed = planned(rate, p99_ms), planned(rate, p99_ms * times)
    for name, each in relaxed.components.items():
        assert each.replicas <= strict.components[name].replicas


@given(st.floats(1, 3e6), st.integers(0, 3))
def test_workers_may_be_gone_and_the_others_are_not_too_busy(rate: float, spare: int) -> None:
    least, more = (plan(CARD_FRAUD, Demand(rate, 1000, spare=each), COSTS) for each in (0, spare))
    for name, each in more.components.items():
        left = each.replicas - spare
        assert each.busy * each.replicas / left == pytest.approx(each.busy_at_loss)
        assert each.busy_at_loss <= 0.7 + 1e-9
        assert left >= 1
        assert each.replicas >= least.components[name].replicas


def with_late(late: str | dict[str, str], deadline_ms: int = 5000) -> Pipeline:
    weighting = {**CARD_FRAUD.weighting.model_dump(by_alias=True), "late": late}
    changed = Weighting.model_validate({**weighting, "deadline_ms": deadline_ms})
    return CARD_FRAUD.model_copy(update={"weighting": changed})


def test_where_late_rows_are_waited_for_a_loss_costs_time_and_no_stage() -> None:
    needs = planned(100_000)
    assert all(each.loss.late_events == 0 for each in needs.components.values())
    assert needs.components["terminals"].loss.waiting_share == 1, "all events wait for its lanes"
    features = needs.components["features"]
    assert features.loss.waiting_share == 1 / features.replicas
    assert "late: wait: none of these is decided without a stage" in " ".join(needs.warnings)


@pytest.mark.parametrize(
    ("late", "end"), [("degrade", "without that stage"), ({"fallback": "review"}, "as review")]
)
def test_where_they_are_not_the_latency_is_planned_within_the_deadline(
    late: str | dict[str, str], end: str
) -> None:
    needs = planned(100_000, 10_000, with_late(late, 2000))
    assert needs.p99_ms <= 2000
    takeover_s = needs.components["terminals"].loss.takeover_s
    late_events = 100_000 * (takeover_s - 2)
    assert needs.components["terminals"].loss.late_events == pytest.approx(late_events)
    text = " ".join(needs.warnings)
    assert f"is decided {end}" in text
    assert f"about {late_events:,.0f} events" in text
    with pytest.raises(OutOfReach, match="a p99 of 5 ms is out of reach"):
        planned(100_000, 10_000, with_late(late, 5))


def test_topics_are_kept_as_long_as_windows_need_and_a_shorter_time_is_said() -> None:
    needs = planned(1000)
    assert needs.retention_h == pytest.approx(Topology.of(CARD_FRAUD).retention_ms / 3_600_000)
    assert not [each for each in needs.warnings if "too short" in each]
    shorter = plan(CARD_FRAUD, Demand(1000, 1000, retention_h=24), COSTS)
    assert shorter.disk_gb < needs.disk_gb
    assert [each for each in shorter.warnings if "topics that keep 24 h are too short" in each]


def test_what_windows_remember_is_on_disk_too() -> None:
    without = planned(1000).topics["card-fraud.features.state"].disk_gb
    needs = plan(CARD_FRAUD, Demand(1000, 1000, entities=1_000_000), COSTS)
    assert (without, needs.topics["card-fraud.features.state"].disk_gb > 1) == (0, True)


def test_more_workers_than_there_can_be_partitions_are_refused() -> None:
    with pytest.raises(TooManyEvents, match="deal the keys out to several pipelines"):
        planned(1e9)


def test_a_shorter_latency_takes_no_fewer_workers() -> None:
    relaxed, strict = planned(2_000_000, 5000), planned(2_000_000, 60)
    assert strict.p99_ms <= 60
    for name, each in relaxed.components.items():
        assert strict.components[name].replicas >= each.replicas


def test_a_latency_that_idle_workers_do_not_have_is_out_of_reach() -> None:
    with pytest.raises(OutOfReach, match="out of reach: with idle workers it is"):
        planned(10, p99_ms=5)


def test_disk_is_rate_times_retention_times_replicas() -> None:
    found = plan(CARD_FRAUD, Demand(1000, 1000, event_bytes=500, retention_h=24), COSTS)
    assert found.topics["card-fraud.events"].disk_gb == pytest.approx(1000 * 86_400 * 500 * 3 / 1e9)


def test_what_windows_remember_is_shared_among_workers() -> None:
    one = plan(CARD_FRAUD, Demand(1000, 1000, entities=1_000_000), COSTS).components["features"]
    assert one.memory_mb == pytest.approx(COSTS.workers["windowed"].memory_mb + 863)
    assert planned(1000).components["features"].memory_mb < one.memory_mb


def test_components_are_of_the_kinds_that_were_measured() -> None:
    kinds = {name: kind_of(CARD_FRAUD, name) for name in planned(10).components}
    assert kinds == {
        "features": "windowed", "terminals": "keyed", "risk-linear": "joined",
        "risk-forest": "joined", "decision": "joined", "weigh": "weigh",
    }  # fmt: skip


def test_fused_components_are_one_worker_and_a_hop_less() -> None:
    names = ["risk-linear", "risk-forest", "decision"]
    fused = planned(1000, pipeline=CARD_FRAUD.model_copy(update={"fuse": [names]}))
    apart = planned(1000)
    assert list(fused.components) == ["features", "terminals", "-".join(names), "weigh"]
    assert fused.p50_ms < apart.p50_ms
    assert fused.out_mb_per_s < apart.out_mb_per_s
    assert fused.in_mb_per_s == apart.in_mb_per_s, "each still writes its topic"
    assert fused.components["-".join(names)].busy > apart.components["decision"].busy


def test_what_comes_in_a_pause_has_to_be_caught_up_with() -> None:
    few, many = (waiting_time([COSTS.together], [rate], PARTITIONS) for rate in (1000, 5000))
    assert many.p99_ms - many.p50_ms > 1.5 * (few.p99_ms - few.p50_ms)


@pytest.mark.parametrize("rate", [100.0, 1_000_000.0])
def test_a_plan_says_what_it_leaves_out(rate: float) -> None:
    text = " ".join(planned(rate).warnings)
    assert "not modelled" in text
    assert ("was not tried" in text) == (rate > 90_000)
    assert "--entities" in text


def test_a_cycle_is_never_shorter_than_without_events() -> None:
    cycle = Cycle(base_ms=3, partition_ms=1, event_us=10, jitter_ms=0, measured="")
    lengths = [cycle_ms(cycle, rate, 4) for rate in (0, 100, 1000, 10_000, 90_000)]
    assert lengths == sorted(lengths)
    assert lengths[0] == 3


def test_every_cost_says_where_it_was_measured() -> None:
    parts = [COSTS.together, COSTS.hop, COSTS.bytes, COSTS.broker, COSTS.state]
    said = [each.model_dump()["measured"] for each in (*parts, *COSTS.workers.values())]
    assert all("tests.benchmarks" in each or "make bench" in each for each in said)


def test_the_command_prints_a_table_or_json() -> None:
    words = ["plan", "card-fraud", "--events-per-s", "1000000", "--p99-ms", "500"]
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0, table.output
    assert "partitions" in table.output
    content = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert content["partitions"] >= content["components"]["weigh"]["replicas"] > 1

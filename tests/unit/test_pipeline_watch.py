"""What an event waits for, and whether a pipeline can decide at all, by what workers report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agents.gateway.pipeline_watch import PipelineWatch
from agents.status.pipeline_status import PipelineStatus, pipeline_status
from tests.integration.velocity import EVENT
from topics.pipeline.file import load_pipeline
from topics.pipeline.readers import readers
from topics.pipeline.schema import Pipeline
from topics.records.reports import (
    AwaitedInput,
    PartitionStatus,
    ReportState,
    StatusReport,
    TimedReport,
)

NOW = 1_000_000_000
FILE = f"""
pipeline: own
{EVENT}components:
  - name: features
    kind: extract_features
    from: [events]
    features: [{{name: amount, of: amount}}]
  - name: large
    import: tests.integration.velocity:LargeAmount
    options: {{limit: 500}}
    from: [events]
  - name: second
    import: tests.integration.velocity:LargeAmount
    options: {{limit: 500}}
    from: [features]
weighting:
  from: [large, second]
  weights: {{large: 0.5, second: 0.5}}
policy: {{thresholds: {{decline: 0.5}}}}
"""
Waits = Mapping[str, AwaitedInput]


def pipeline(folder: Path) -> Pipeline:
    (folder / "own.yaml").write_text(FILE)
    return load_pipeline(folder / "own.yaml").pipeline


def status(pipeline: Pipeline, workers: Mapping[str, Waits], silent: str = "") -> PipelineStatus:
    reports = ReportState()
    for name, waits in workers.items():
        partitions = [
            PartitionStatus(
                partition=p, state="waiting" if waits else "working", waiting_for=dict(waits),
                rows=len(waits), lag=0,
            )
            for p in range(4)
        ]  # fmt: skip
        report = StatusReport(
            said_ms=NOW, started_ms=NOW - 60_000, state="running", partitions=tuple(partitions)
        )  # fmt: skip
        at_ms = NOW - (100_000 if name == silent else 0)
        reports.statuses[name, "host-1"] = TimedReport(report, at_ms)
    return pipeline_status("own", readers(pipeline), 4, 30.0, reports, NOW)


def watch(folder: Path, workers: Mapping[str, Waits], silent: str = "") -> PipelineWatch:
    own = pipeline(folder)
    found = PipelineWatch(own)
    found.status = status(own, workers, silent)
    return found


def awaited(*, down: bool = False) -> AwaitedInput:
    return AwaitedInput(since_ms=NOW - 2000, down=down, why="")


ALL: dict[str, Waits] = {name: {} for name in ("features", "large", "second", "weigh")}


def test_the_way_of_a_wait_leads_to_the_stage_that_is_waited_for(tmp_path: Path) -> None:
    waits = ALL | {"weigh": {"second": awaited()}, "second": {"features": awaited()}}
    assert watch(tmp_path, waits).waits_for(2) == "features"
    assert watch(tmp_path, waits, silent="features").waits_for(2).startswith("features, which nob")
    down = ALL | {"weigh": {"large": awaited(down=True)}}
    assert watch(tmp_path, down).waits_for(0) == "large, which is down for 2 s"
    assert watch(tmp_path, ALL).waits_for(0).startswith("weigh")
    assert PipelineWatch(pipeline(tmp_path)).waits_for(0) == (
        "nothing is known of the pipeline's workers"
    )


def test_a_pipeline_is_down_where_nothing_can_be_decided(tmp_path: Path) -> None:
    assert watch(tmp_path, ALL).down() == []
    assert watch(tmp_path, {}).down() == ["weigh"]
    assert watch(tmp_path, ALL, silent="weigh").down() == ["weigh"]
    assert watch(tmp_path, ALL, silent="large").down() == [], "second decides"
    without_large: dict[str, Waits] = {n: {} for n in ("features", "second", "weigh")}
    assert watch(tmp_path, without_large, silent="features").down() == ["features", "large"]
    assert PipelineWatch(pipeline(tmp_path)).down() == [], "nobody knows"

"""What is up, starting, waiting or down, decided by what workers say and by what they do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agents.commands.status_view import rendered
from agents.status.advice import advice
from agents.status.pipeline_status import PipelineStatus, pipeline_status
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.readers import readers
from topics.records.reports import (
    AwaitedInput,
    InService,
    PartitionStatus,
    ReportState,
    StatusReport,
    WorkerReport,
    keyed_records,
)

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
READERS = readers(PIPELINE)
NAMES = list(READERS)
STALL_S = 30.0
NOW_MS = 1_700_000_000_000
TWO = 2


def working(*partitions: int) -> list[PartitionStatus]:
    return [PartitionStatus(partition=p, state="working") for p in partitions]


def report(
    partitions: Sequence[PartitionStatus], ago_s: float = 1.0, state: Any = "running",
    up_s: float = 100.0, versions: Sequence[InService] = (),
) -> tuple[StatusReport, float]:  # fmt: skip
    """What a worker says, and how long ago; its own clock is an hour behind."""
    said_ms = NOW_MS - 3_600_000 - int(ago_s * 1000)
    return StatusReport(
        state=state, started_ms=said_ms - int(up_s * 1000), said_ms=said_ms,
        in_service=tuple(versions), partitions=tuple(partitions),
    ), ago_s  # fmt: skip


def waiting(
    stage: str, partition: int, for_s: float, *, rows: int = 5, down: bool = False, why: str = ""
) -> PartitionStatus:
    """Since *for_s* before the report that it is in; that was a second ago."""
    since_ms = NOW_MS - 3_600_000 - 1000 - int(for_s * 1000)
    return PartitionStatus(
        partition=partition, state="waiting", rows=rows, oldest_ms=since_ms, lag=3,
        waiting_for={stage: AwaitedInput(since_ms=since_ms, down=down, why=why)},
    )  # fmt: skip


def status_of(
    said: Mapping[str, tuple[StatusReport, float]],
    refused: Mapping[str, WorkerReport] = {},
    **more: Any,
) -> PipelineStatus:
    """The status when processes have said that; keys are worker/process."""
    state = ReportState()
    for key, (told, ago_s) in said.items():
        for record in keyed_records({f"status/{key}": told}, NOW_MS - int(ago_s * 1000)):
            state.apply("r", record.key, record.value, record.timestamp_ms)
    for key, refusal in refused.items():
        for record in keyed_records({f"worker/{key}": refusal}, NOW_MS):
            state.apply("r", record.key, record.value, record.timestamp_ms)
    return pipeline_status("card-fraud", READERS, TWO, STALL_S, state, NOW_MS, **more)


def all_well(
    **changed: tuple[StatusReport, float] | None,
) -> dict[str, tuple[StatusReport, float]]:
    """All workers on process a, but for those that are changed (`_` for `-`) or left out."""
    said = {f"{name}/a": report(working(0, 1)) for name in NAMES}
    for name, told in changed.items():
        key = f"{name.replace('_', '-')}/a"
        if told is None:
            del said[key]
        else:
            said[key] = told
    return said


def shown(status: PipelineStatus) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(rendered(status, advice(status, "card-fraud")), crop=False)
    console.file.close()
    return console.export_text()


def states(status: PipelineStatus, worker: str) -> list[str]:
    return [partition.state for partition in status.workers[worker].partitions]


def todo(status: PipelineStatus) -> list[str]:
    return [" | ".join(filter(None, each)) for each in advice(status, "card-fraud")]


def test_a_pipeline_is_well_when_every_partition_of_every_worker_has_an_owner() -> None:
    status = status_of(all_well())
    assert status.well
    assert NAMES == ["features", "terminals.keyed", "terminals", "risk-linear", "risk-forest",
                     "decision", "weigh", "explainer"]  # fmt: skip
    assert all(states(status, name) == ["up", "up"] for name in NAMES)
    assert todo(status) == []
    assert "all is well" in shown(status)


def test_two_processes_may_share_the_partitions() -> None:
    said = all_well(features=report(working(0)))
    said["features/b"] = report(working(1))
    status = status_of(said)
    assert status.well
    assert [partition.process for partition in status.workers["features"].partitions] == ["a", "b"]


def test_a_component_that_never_reported_is_down_and_what_starts_it_is_said() -> None:
    status = status_of(all_well(risk_forest=None), unowned_lag={("risk-forest", 1): 12})
    assert not status.well
    assert states(status, "risk-forest") == ["down", "down"]
    assert [partition.lag for partition in status.workers["risk-forest"].partitions] == [None, 12]
    assert todo(status) == [
        (
            "risk-forest is down: no worker of it has reported | start it | "
            "anabranch run card-fraud --component risk-forest"
        )
    ]
    assert "down: never heard of" in shown(status)


def test_silence_up_to_the_stall_time_out_is_up_and_beyond_it_is_down_since_the_last_word() -> None:
    status = status_of(all_well(decision=report(working(0, 1), ago_s=STALL_S - 1)))
    assert status.well
    status = status_of(all_well(decision=report(working(0, 1), ago_s=STALL_S + 12)))
    assert states(status, "decision") == ["down", "down"]
    assert status.workers["decision"].partitions[0].for_s == STALL_S + 12
    assert status.workers["decision"].partitions[0].since == "2023-11-14T22:12:38+00:00"
    assert todo(status) == [
        (
            "decision is down: nothing was heard of a, the last to run it, for 42 s | "
            "its log says why it ended; start it | anabranch run card-fraud --component decision"
        )
    ]


def test_a_worker_that_ended_while_it_started_is_down_since_then() -> None:
    status = status_of(all_well(decision=report([], ago_s=40, state="starting")))
    assert states(status, "decision") == ["down", "down"]
    assert [partition.for_s for partition in status.workers["decision"].partitions] == [40, 40]


def test_a_partition_without_an_owner_is_down_though_the_component_runs() -> None:
    status = status_of(all_well(weigh=report(working(0))))
    assert states(status, "weigh") == ["up", "down"]
    assert not status.well
    (remedies,) = todo(status)
    assert remedies.startswith(
        "partition 1 of weigh has no owner, though a process runs some of it"
    )


def test_what_deals_events_out_is_started_with_its_component() -> None:
    reports = all_well(terminals=None)
    del reports["terminals.keyed/a"]
    status = status_of(reports)
    assert [each.split(" | ")[-1] for each in todo(status)] == [
        "anabranch run card-fraud --component terminals"
    ]


def test_a_worker_that_starts_is_starting_however_long_it_takes_and_is_not_down() -> None:
    status = status_of(all_well(features=report([], state="starting", up_s=600)))
    assert states(status, "features") == ["starting", "starting"]
    assert status.workers["features"].partitions[0].for_s == pytest.approx(601)
    assert status.well
    opening = [PartitionStatus(partition=p, state="starting", lag=9) for p in (0, 1)]
    status = status_of(all_well(features=report(opening)))
    assert states(status, "features") == ["starting", "starting"]


def test_the_newest_of_two_that_claim_a_partition_has_it_and_one_that_joins_counts_nothing() -> (
    None
):
    said = all_well(features=report(working(0, 1), ago_s=9))
    said["features/b"] = report(working(1), ago_s=2)
    said["features/c"] = report([], state="starting", up_s=3)
    status = status_of(said)
    assert [partition.process for partition in status.workers["features"].partitions] == ["a", "b"]
    assert states(status, "features") == ["up", "up"]


def test_a_wait_is_as_old_as_the_worker_says_and_its_record_since_whatever_its_clock() -> None:
    status = status_of(all_well(weigh=report([waiting("decision", 0, 20.0), *working(1)])))
    assert states(status, "weigh") == ["waiting", "up"]
    first = status.workers["weigh"].partitions[0]
    assert (first.for_s, first.oldest_s, first.rows, first.lag) == (21.0, 21.0, 5, 3)
    assert status.well, "not as long as the stall time-out"
    assert todo(status) == []
    text = shown(status)
    assert "waiting for decision 21 s" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_wait_beyond_the_stall_time_out_is_not_well_and_points_to_who_is_down() -> None:
    reports = all_well(
        risk_forest=None,
        decision=report([waiting("risk-forest", p, 40) for p in (0, 1)]),
        weigh=report([waiting("decision", p, 39) for p in (0, 1)]),
    )
    status = status_of(reports)
    assert not status.well
    assert todo(status) == [
        (
            "risk-forest is down: no worker of it has reported | start it | "
            "anabranch run card-fraud --component risk-forest"
        ),
        (
            "10 rows of decision (partitions 0-1) have waited for risk-forest for 41 s | "
            "risk-forest is down, see there"
        ),
        (
            "10 rows of weigh (partitions 0-1) have waited for decision for 40 s | "
            "decision itself waits for risk-forest, see there"
        ),
    ]


@pytest.mark.parametrize(
    ("theirs", "remedy"),
    [
        (report([PartitionStatus(partition=p, state="working", lag=7) for p in (0, 1)]),
         ("decision runs and is 7 records behind: wait, or run another | "
         "anabranch run card-fraud --component decision")),
        (report(working(0, 1)),
         "decision runs and has nothing to do: read its log, and restart it"),
        (report([PartitionStatus(partition=0, state="starting"), *working(1)]),
         "decision is starting: its log says how far it has come"),
    ],
)  # fmt: skip
def test_what_to_do_about_a_wait_depends_on_how_the_awaited_fares(
    theirs: tuple[StatusReport, float], remedy: str
) -> None:
    reports = all_well(decision=theirs, weigh=report([waiting("decision", 0, 50), *working(1)]))
    assert todo(status_of(reports)) == [
        f"5 rows of weigh (partition 0) have waited for decision for 51 s | {remedy}"
    ]


def test_the_lane_that_is_down_is_told_from_the_partition_that_waits() -> None:
    reports = all_well(
        terminals=report(working(0)),
        risk_linear=report([waiting("terminals[1]", 0, 50), *working(1)]),
    )
    assert todo(status_of(reports))[-1] == (
        "5 rows of risk-linear (partition 0) have waited for terminals[1] for 51 s | "
        "terminals is down, see there"
    )


def test_a_stage_that_is_down_and_no_longer_waited_for_is_not_well_and_its_reason_is_told() -> None:
    why = "it ended 3 times at card-fraud.events[2]@812"
    without = PartitionStatus(
        partition=0, state="working",
        waiting_for={"features": AwaitedInput(since_ms=NOW_MS - 3_700_000, down=True, why=why)},
    )  # fmt: skip
    status = status_of(all_well(weigh=report([without, *working(1)])))
    assert states(status, "weigh") == ["up", "up"]
    assert not status.well
    (remedies,) = todo(status)
    assert remedies.endswith(
        f"features, which has been down for 1.7 min | {why}; its log says more"
    )
    assert "up without features (down)" in shown(status)


def test_a_stage_that_ends_again_and_again_is_said_to_be_starting_again_and_why() -> None:
    why = "it ended 3 times at card-fraud.events[0]@812"
    reports = all_well(
        decision=report([], state="starting", up_s=2),
        weigh=report([waiting("decision", 0, 50, down=True, why=why), *working(1)]),
    )
    assert todo(status_of(reports))[-1].endswith(f"{why}; decision is starting again")


def test_a_refused_version_of_a_living_worker_is_told_and_a_dead_ones_is_not() -> None:
    serving = InService(what="risk-forest", version="risk-forest@1", digest="sha256:1")
    refusal = WorkerReport(
        version=2, state="refused", reason="risk-forest@1 runs instead: x", at=""
    )
    reports = all_well(risk_forest=report(working(0, 1), versions=[serving]))
    status = status_of(reports, {"risk-forest/a": refusal, "risk-forest/dead": refusal})
    assert status.well
    assert todo(status) == [
        (
            "risk-forest@2 should run and is refused: risk-forest@1 runs instead: x | "
            "promote one that can be used, or go back | "
            "anabranch models rollback card-fraud/risk-forest"
        )
    ]
    assert "risk-forest@1" in shown(status)


def test_workers_of_another_version_of_the_file_are_named() -> None:
    status = status_of({**all_well(), "old-stage/b": report(working(0, 1)),
                        "gone/c": report(working(0), ago_s=99)})  # fmt: skip
    assert status.strangers == {"old-stage": ["b"]}
    assert "old-stage runs (b), which this pipeline file does not have" in todo(status)[0]


def test_missing_topics_and_clocks_that_differ_are_said() -> None:
    assert not status_of(all_well(), missing_topics=["card-fraud.risk-forest"]).well
    reports = all_well(weigh=report(working(0, 1), ago_s=-60))
    status = status_of(reports, missing_topics=["card-fraud.risk-forest"])
    assert status.clock_ahead_s == 60
    assert "anabranch topics card-fraud --create" in todo(status)[0]
    assert "60 s in the future" in todo(status)[1] or "1.0 min in the future" in todo(status)[1]


def test_escapes_and_markup_in_what_workers_say_do_not_reach_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[red]\u202e"
    serving = InService(what=evil, version=evil, digest=evil, variant=evil)
    odd = waiting(evil, 0, 50, down=True, why=evil)
    status = status_of({
        **all_well(weigh=report([odd, *working(1)], versions=[serving])),
        f"str{evil}/{evil}": report(working(0)),
    })  # fmt: skip
    text = shown(status)
    assert not any(sign in text for sign in ("\x1b", "\x07", "\u202e"))
    assert "[red]" in text, "shown as it is, not taken for a style"
    assert "\x1b" not in json.dumps(status.model_dump())


@given(st.data())
def test_any_report_that_is_read_is_shown(data: st.DataObject) -> None:
    names = st.sampled_from(NAMES) | st.text(min_size=1, max_size=90).filter(
        lambda each: "/" not in each
    )
    times = st.integers(0, 2**62)
    partition = st.builds(
        PartitionStatus, partition=st.integers(0, 2**31 - 1),
        state=st.sampled_from(["starting", "working", "waiting"]), rows=st.integers(0, 2**70),
        oldest_ms=st.none() | times, lag=st.integers(0, 2**70),
        waiting_for=st.dictionaries(
            names, st.builds(AwaitedInput, since_ms=times, down=st.booleans(),
                             why=st.text(max_size=300)), max_size=3),
    )  # fmt: skip
    told = data.draw(st.builds(
        StatusReport, state=st.sampled_from(["starting", "running"]), started_ms=times,
        said_ms=times, partitions=st.lists(partition, max_size=4).map(tuple),
    ))  # fmt: skip
    at_ms = data.draw(st.integers(-1, 2**62))
    state = ReportState()
    key = f"status/{data.draw(names)}/{data.draw(names)}".encode()
    state.apply("r", key, told.model_dump_json().encode(), at_ms)
    text = shown(pipeline_status("card-fraud", READERS, TWO, STALL_S, state, NOW_MS))
    assert "features" in text

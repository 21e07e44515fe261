"""How a pipeline fares: what its workers say, and of whom nothing is heard.

Ages are those of records on the reports topic, see `topics.records.reports`: what a worker says is
as old as its record, and what it says of earlier is told apart by its own clock alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from topics.pipeline import Reader
from topics.records import InService, PartitionStatus, ReportState, TimedReport

State = Literal["up", "starting", "waiting", "down"]
_LEAST_SILENCE_S = 4.0
"""Workers look at themselves every second, whatever the stall time-out."""
_AHEAD_MS = 5_000


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True)


class Wait(_Fact):
    """An input that rows of a partition wait for."""

    stage: str
    """`name[lane]` for one lane of a repartitioned component."""
    for_s: float
    down: bool
    why: str


class Partition(_Fact):
    """One partition of one worker."""

    partition: int
    state: State
    for_s: float | None
    """For how long it has been starting, waiting or down, as far as that is known."""
    since: str | None
    """The same as a time (UTC)."""
    process: str | None
    """Who owns it."""
    waiting_for: list[Wait]
    """Also stages that are down and no longer waited for."""
    rows: int
    """Rows that it holds because they wait."""
    oldest_s: float | None
    """How old the oldest of them is."""
    lag: int | None
    """Records left to do; None where that is not known."""


class Process(_Fact):
    """A process that runs a worker, or has, and did not say that it ends."""

    process: str
    heard_s: float
    """For how long nothing was heard of it."""
    up_s: float
    """For how long it had run then."""
    alive: bool
    starting: bool
    partitions: list[int]


class Refusal(_Fact):
    """A version that a living worker should run and cannot."""

    component: str
    version: int
    process: str
    reason: str


class WorkerStatus(_Fact):
    """One consumer group of the pipeline."""

    worker: str
    component: str
    """What `anabranch run --component` is told."""
    components: list[str]
    partitions: list[Partition]
    processes: list[Process]
    in_service: list[InService]
    refused: list[Refusal]

    @property
    def alive(self) -> list[Process]:
        """Who runs it."""
        return [process for process in self.processes if process.alive]

    def those(self, state: State) -> list[Partition]:
        """Its partitions that are *state*."""
        return [partition for partition in self.partitions if partition.state == state]


class PipelineStatus(_Fact):
    """What `anabranch status --json` prints."""

    pipeline: str
    at: str
    stall_timeout_s: float
    workers: dict[str, WorkerStatus]
    strangers: dict[str, list[str]]
    """Workers that this pipeline file does not have → processes that run them all the same."""
    missing_topics: list[str]
    clock_ahead_s: float
    """The newest report is from so far in the future: some clock is wrong."""
    well: bool
    """Nothing is down, and nothing has waited longer than the stall time-out."""


def silence_limit_s(stall_timeout_s: float) -> float:
    """A worker that was not heard of for so long is down."""
    return max(stall_timeout_s, _LEAST_SILENCE_S)


def pipeline_status(
    name: str, readers: Mapping[str, Reader], partitions: int, stall_timeout_s: float,
    reports: ReportState, now_ms: int, *,
    unowned_lag: Mapping[tuple[str, int], int] | None = None,
    missing_topics: list[str] | None = None,
) -> PipelineStatus:  # fmt: skip
    """The status at *now_ms* (milliseconds since 1970) of a pipeline with these *readers*.

    *unowned_lag* is by worker and partition, for those that nobody owns.
    """
    limit_s = silence_limit_s(stall_timeout_s)
    workers = {
        worker: _worker(
            worker, reader, partitions, reports, now_ms, limit_s=limit_s, lag=unowned_lag or {}
        )
        for worker, reader in readers.items()
    }
    strangers: dict[str, list[str]] = {}
    for (worker, process), heard in sorted(reports.statuses.items()):
        if worker not in readers and _age_s(heard, now_ms) <= limit_s:
            strangers.setdefault(worker, []).append(process)
    newest = max((heard.at_ms for heard in reports.statuses.values()), default=0)
    return PipelineStatus(
        pipeline=name, at=_time(now_ms), stall_timeout_s=stall_timeout_s, workers=workers,
        strangers=strangers, missing_topics=missing_topics or [],
        clock_ahead_s=(newest - now_ms) / 1000 if newest - now_ms > _AHEAD_MS else 0.0,
        well=not missing_topics and not any(
            partition.state == "down"
            or any(wait.down or wait.for_s > stall_timeout_s for wait in partition.waiting_for)
            for worker in workers.values() for partition in worker.partitions
        ),
    )  # fmt: skip


def unowned(status: PipelineStatus) -> dict[str, list[int]]:
    """Workers → their partitions that nobody owns."""
    numbers_by_worker = {
        name: [partition.partition for partition in worker.partitions if partition.process is None]
        for name, worker in status.workers.items()
    }
    return {name: numbers for name, numbers in numbers_by_worker.items() if numbers}


def _worker(
    name: str, reader: Reader, partitions: int, reports: ReportState, now_ms: int,
    *, limit_s: float, lag: Mapping[tuple[str, int], int],
) -> WorkerStatus:  # fmt: skip
    by_process = {process: heard for (of, process), heard in reports.statuses.items() if of == name}
    newest_first = sorted(by_process.items(), key=lambda item: -item[1].at_ms)
    alive = {p: heard for p, heard in newest_first if _age_s(heard, now_ms) <= limit_s}
    in_service = dict.fromkeys(
        version for heard in alive.values() for version in heard.report.in_service
    )
    of_it = {version.what for version in in_service} | {*reader.members}
    return WorkerStatus(
        worker=name, component=reader.component, components=list(reader.members),
        partitions=[
            _partition(p, newest_first, alive, now_ms, lag.get((name, p)))
            for p in range(partitions)
        ],
        processes=[
            Process(
                process=process, heard_s=_age_s(heard, now_ms), alive=process in alive,
                up_s=max(0.0, (heard.report.said_ms - heard.report.started_ms) / 1000),
                starting=heard.report.state == "starting",
                partitions=[status.partition for status in heard.report.partitions],
            )
            for process, heard in newest_first
        ],
        in_service=list(in_service),
        refused=[
            Refusal(component=what, version=report.version, process=process, reason=report.reason)
            for (what, process), report in sorted(reports.workers.items())
            if report.state == "refused" and what in of_it and process in alive
        ] if in_service else [],
    )  # fmt: skip


def _partition(
    number: int, newest_first: list[tuple[str, TimedReport]], alive: Mapping[str, TimedReport],
    now_ms: int, lag: int | None,
) -> Partition:  # fmt: skip
    for process, heard in alive.items():
        for status in heard.report.partitions:
            if status.partition == number:
                return _owned(status, process, heard, now_ms)
    starting = [heard for heard in alive.values() if heard.report.state == "starting"]
    ages = [
        _age_s(heard, now_ms) for _, heard in newest_first
        if not alive or any(status.partition == number for status in heard.report.partitions)
    ]  # fmt: skip
    if starting:
        report = starting[0].report
        for_s: float | None = (report.said_ms - report.started_ms) / 1000
        for_s = max(0.0, for_s or 0.0) + _age_s(starting[0], now_ms)
    else:
        for_s = min(ages, default=None)
    return Partition(
        partition=number, state="starting" if starting else "down", for_s=for_s,
        since=_since(now_ms, for_s), process=None, waiting_for=[], rows=0, oldest_s=None, lag=lag,
    )  # fmt: skip


def _owned(status: PartitionStatus, process: str, heard: TimedReport, now_ms: int) -> Partition:
    def for_s(since_ms: int) -> float:
        """How long ago that was: by the worker's clock until it said so, by its record's since."""
        return max(0.0, (heard.report.said_ms - since_ms) / 1000) + _age_s(heard, now_ms)

    waits = [
        Wait(stage=stage, for_s=for_s(wait.since_ms), down=wait.down, why=wait.why)
        for stage, wait in status.waiting_for.items()
    ]
    state: State = "up" if status.state == "working" else status.state
    longest_s = max((wait.for_s for wait in waits), default=None) if state == "waiting" else None
    return Partition(
        partition=status.partition, state=state, for_s=longest_s, since=_since(now_ms, longest_s),
        process=process, waiting_for=waits, rows=status.rows, lag=status.lag,
        oldest_s=None if status.oldest_ms is None else for_s(status.oldest_ms),
    )  # fmt: skip


def _age_s(heard: TimedReport, now_ms: int) -> float:
    return max(0.0, (now_ms - heard.at_ms) / 1000)


def _since(now_ms: int, for_s: float | None) -> str | None:
    return None if for_s is None else _time(max(0, now_ms - int(for_s * 1000)))


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")

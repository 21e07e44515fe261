"""What to do about a pipeline that is not well, in words."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from agents.status.pipeline_status import Partition, PipelineStatus, Wait, WorkerStatus

_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))


class Advice(NamedTuple):
    """What is wrong, and what to do about it."""

    wrong: str
    remedy: str
    command: str = ""
    """What does it, if one command does."""


def advice(status: PipelineStatus, pipeline: str) -> list[Advice]:
    """What is down first, then who waits for whom; *pipeline* is what commands are given."""
    argument = shlex.quote(pipeline)
    remedies: list[Advice] = []
    if status.missing_topics:
        remedies.append(Advice(
            f"there is no topic {', '.join(status.missing_topics)}",
            "make it", f"anabranch topics {argument} --create",
        ))  # fmt: skip
    if status.clock_ahead_s:
        remedies.append(Advice(
            f"the newest report is from {duration(status.clock_ahead_s)} in the future, so ages "
            "here are wrong",
            "set the clock of this machine, or the brokers'",
        ))  # fmt: skip
    for worker in status.workers.values():
        remedies += _about_down(status, worker, argument)
    for worker in status.workers.values():
        remedies += _about_waits(status, worker, argument)
    for worker in status.workers.values():
        for refusal in worker.refused:
            remedies.append(Advice(
                f"{refusal.component}@{refusal.version} should run and is refused: "
                f"{refusal.reason}",
                "promote one that can be used, or go back",
                f"anabranch models rollback {argument}/{refusal.component}",
            ))  # fmt: skip
    remedies += [
        Advice(
            f"{name} runs ({', '.join(processes)}), which this pipeline file does not have",
            "end it, or look at the file that it was started with",
        )
        for name, processes in status.strangers.items()
    ]
    return remedies


def _about_down(status: PipelineStatus, worker: WorkerStatus, argument: str) -> Iterator[Advice]:
    down = worker.those("down")
    if not down or _is_part_of_one_that_is_down(status, worker):
        return
    start = f"anabranch run {argument} --component {worker.component}"
    if worker.alive:
        yield Advice(
            f"{_partitions(down)} of {worker.worker} {_have(down)} no owner, though "
            f"{_processes(worker)} of it",
            "a rebalance passes by itself; if this stays, read the workers' logs, or start another",
            start,
        )
    elif not worker.processes:
        yield Advice(f"{worker.worker} is down: no worker of it has reported", "start it", start)
    else:
        last = worker.processes[0]
        yield Advice(
            f"{worker.worker} is down: nothing was heard of {last.process}, the last to run it, "
            f"for {duration(last.heard_s)}",
            "its log says why it ended; start it",
            start,
        )


def _is_part_of_one_that_is_down(status: PipelineStatus, worker: WorkerStatus) -> bool:
    """What deals events out to a component that is down too is started by the same command."""
    main = status.workers.get(worker.component)
    return main is not None and main is not worker and not main.alive and not worker.alive


def _about_waits(status: PipelineStatus, worker: WorkerStatus, argument: str) -> Iterator[Advice]:
    """One word for each stage that it waits for too long, or that is down for it."""
    waits = [
        (wait, partition)
        for partition in worker.partitions
        for wait in partition.waiting_for
        if wait.down or wait.for_s > status.stall_timeout_s
    ]
    waits.sort(key=lambda pair: pair[0].stage)
    for stage, pairs in groupby(waits, key=lambda pair: pair[0].stage):
        those = list(pairs)
        longest = max((wait for wait, _ in those), key=lambda wait: wait.for_s)
        rows = sum(partition.rows for _, partition in those)
        partitions = [partition for _, partition in those]
        if rows:
            wrong = (
                f"{rows:,} rows of {worker.worker} ({_partitions(partitions)}) have waited for "
                f"{stage} for {duration(longest.for_s)}"
            )
        else:
            wrong = (
                f"{worker.worker} ({_partitions(partitions)}) goes on without {stage}, which has "
                f"been {'down' if longest.down else 'waited for'} for {duration(longest.for_s)}"
            )
        yield Advice(wrong, *_remedy(status, longest, partitions, argument))


def _remedy(
    status: PipelineStatus, wait: Wait, partitions: Sequence[Partition], argument: str
) -> tuple[str, ...]:
    """What to do about a wait, and the command that does it, if there is one."""
    name, _, lane = wait.stage.partition("[")
    named = [
        worker for worker in status.workers.values()
        if name in (worker.worker, *worker.components)
    ]  # fmt: skip
    if not named:
        return (wait.why or "look for what writes its topic",)
    numbers = {partition.partition for partition in partitions}
    if lane.removesuffix("]").isdecimal():
        numbers = {int(lane.removesuffix("]"))}
    worker = named[-1]  # what deals events out to it comes before
    theirs = [partition for partition in worker.partitions if partition.partition in numbers]
    if any(partition.state == "down" for partition in theirs):
        return (f"{worker.worker} is down, see there",)
    if wait.why:
        starts = any(partition.state == "starting" for partition in theirs)
        now = f"{worker.worker} is starting again" if starts else "its log says more"
        return (f"{wait.why}; {now}",)
    return _about_living(worker, theirs, argument)


def _about_living(
    worker: WorkerStatus, theirs: Sequence[Partition], argument: str
) -> tuple[str, ...]:
    """What to do about a worker that runs these partitions, and gives nothing for some rows."""
    if any(partition.state == "starting" for partition in theirs):
        return (f"{worker.worker} is starting: its log says how far it has come",)
    others = dict.fromkeys(wait.stage for partition in theirs for wait in partition.waiting_for)
    if others:
        return (f"{worker.worker} itself waits for {', '.join(others)}, see there",)
    behind = sum(partition.lag or 0 for partition in theirs)
    if behind:
        return (
            f"{worker.worker} runs and is {behind:,} records behind: wait, or run another",
            f"anabranch run {argument} --component {worker.component}",
        )
    return (f"{worker.worker} runs and has nothing to do: read its log, and restart it",)


def _processes(worker: WorkerStatus) -> str:
    count = len(worker.alive)
    return f"{count} processes run some" if count > 1 else "a process runs some"


def _have(partitions: Sequence[Partition]) -> str:
    return "have" if len(partitions) > 1 else "has"


def _partitions(partitions: Sequence[Partition]) -> str:
    numbers = ranges(partition.partition for partition in partitions)
    return f"partition {numbers}" if numbers.isdecimal() else f"partitions {numbers}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in few words.

    >>> ranges([3, 0, 1, 2, 7])
    '0-3, 7'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def duration(seconds: float) -> str:
    """A time in one unit.

    >>> duration(42.4), duration(90), duration(7200)
    ('42 s', '1.5 min', '2.0 h')
    """
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def clock(time: str) -> str:
    """A time (ISO 8601) as a clock here shows it."""
    return datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S")

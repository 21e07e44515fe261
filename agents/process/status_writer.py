"""How the workers of this process fare: written on the reports topic, and shown as metrics.

What a worker says of its partitions is looked at every second. It is written when a state has
changed, and else every quarter of the stall time-out, or every 5 s where that is sooner: a few
reports may be late before a worker counts as down.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, get_args

from aiokafka.errors import KafkaError

from agents.control import WORKER, ControlTopic, now_ms
from agents.workers import StageWait
from topics.errors import AnabranchError
from topics.pipeline import EVENTS, EXPLAINER, KEYED, WEIGH, inputs_of
from topics.pipeline.readers import readers
from topics.records import (
    POLICY,
    TOPICS_KEY,
    WEIGHTS,
    InService,
    ModelRef,
    PartitionStatus,
    ReportState,
    State,
    StatusReport,
    TopicIds,
    status_key,
)

if TYPE_CHECKING:
    from agents.process.runner import PipelineRun

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_LONGEST_S = 5.0
_END_S = 3.0
"""For so long a process that ends waits for its reports to be deleted."""


def report_interval_s(stall_timeout_s: float) -> float:
    """How often a worker reports while nothing changes.

    >>> report_interval_s(30), report_interval_s(10)
    (5.0, 2.5)
    """
    return min(_LONGEST_S, stall_timeout_s / 4)


class StatusWriter:
    """Tells how the workers of a process fare; without *control* as metrics alone."""

    def __init__(self, run: PipelineRun, control: ControlTopic | None) -> None:
        self._run = run
        self._pipeline = run.active.pipeline
        self._control = control
        self._readers = readers(self._pipeline)
        self._every_s = report_interval_s(self._pipeline.weighting.stall_timeout_s)
        self._started_ms = now_ms()
        self._sequence = 0
        self._tried_at = -float("inf")
        self._changeable: object = None
        """What the last report said, as far as a change of it is told at once."""
        self._waited_for: dict[str, set[str]] = {}
        """Stages that each worker has a metric of."""
        for name in self._readers:
            to_own = run.metrics.partitions_to_own.labels(self._pipeline.name, name)
            to_own.set(self._pipeline.partitions)
        self._failures: set[str] = set()
        """What was logged: each failure is once, until reports are written again."""

    async def follow(self) -> None:
        """Look and tell, again and again, for ever; nothing that fails in here stops anything."""
        await self._unless_it_fails(self._tell_topics)
        await self._unless_it_fails(self._delete_predecessors)
        while True:
            await self._unless_it_fails(self._tell)
            await asyncio.sleep(_LOOK_S)

    async def end(self) -> None:
        """Delete what this process has said of itself: it ends in order."""
        if self._control is not None:
            await self._unless_it_fails(self._control.retract, _END_S)

    async def _unless_it_fails(
        self, step: Callable[[], Awaitable[None]], within_s: float | None = None
    ) -> None:
        try:
            async with asyncio.timeout(within_s):
                await step()
        except (AnabranchError, KafkaError, TimeoutError) as exc:
            self._note_failure(str(exc) or type(exc).__name__)
        except Exception as exc:  # a worker's own account of itself may not end it
            self._note_failure(f"{type(exc).__name__}: {exc}")

    def _note_failure(self, why: str) -> None:
        if why not in self._failures:
            self._failures.add(why)
            log.warning("the worker runs, but `anabranch status` is not told how: %s", why)

    async def _tell_topics(self) -> None:
        """Say which topics are dealt with from now on: a later start compares."""
        ids = self._run.topics.ids
        if self._control is None or not ids:
            return
        topic_ids = TopicIds(ids=ids)
        if topic_ids != self._control.reports.topics:
            await self._control.report({TOPICS_KEY: topic_ids})

    async def _tell(self) -> None:
        at_ms = now_ms()
        by_worker = {name: self._partitions(name) for name in self._run.apps}
        for name, partitions in by_worker.items():
            self._run.stages[name].observe_waits(self._waits(name, partitions, at_ms))
            self._run.stages[name].observe_partitions(_tally(partitions))
        if self._control is None:
            return
        in_service = {name: self._in_service(name) for name in by_worker}
        changeable = (
            self._run.ready,
            in_service,
            {name: _states(partitions) for name, partitions in by_worker.items()},
        )
        due = time.monotonic() - self._tried_at >= self._every_s
        if changeable == self._changeable and not due:
            return
        self._tried_at, self._changeable = time.monotonic(), changeable
        self._sequence += 1
        await self._control.report({
            status_key(name, WORKER): StatusReport(
                state="running" if self._run.ready else "starting",
                started_ms=self._started_ms, said_ms=at_ms, sequence=self._sequence,
                in_service=in_service[name], partitions=tuple(partitions),
            )
            for name, partitions in by_worker.items()
        })  # fmt: skip
        self._failures.clear()

    def _partitions(self, name: str) -> list[PartitionStatus]:
        """What a worker says of the partitions that it owns, with their lag.

        It says nothing of one that nothing has come of yet.
        """
        if not self._run.ready:
            return []
        worker = self._run.workers[name]
        lag = worker.lag()
        statuses = {status.partition: status for status in worker.status()}
        return [
            (
                statuses.get(partition)
                or PartitionStatus(partition=partition, state="starting" if behind else "working")
            ).model_copy(update={"lag": behind})
            for partition, behind in lag.items()
        ]

    def _waits(
        self, name: str, partitions: Sequence[PartitionStatus], at_ms: int
    ) -> dict[str, StageWait]:
        """What rows of a worker wait for, all lanes of a stage as one; no wait where there is none.

        So a series ends at 0 when its wait does.
        """
        if name not in self._waited_for:
            self._waited_for[name] = self._stages_read_by(name)
        waits = dict.fromkeys(self._waited_for[name], StageWait())
        for status in partitions:
            longest: dict[str, StageWait] = {}
            for source, awaited in status.waiting_for.items():
                stage = source.partition("[")[0]
                seconds = max(0.0, (at_ms - awaited.since_ms) / 1000)
                before = longest.get(stage, StageWait())
                longest[stage] = StageWait(
                    status.rows, max(before.seconds, seconds), before.down or awaited.down
                )
            for stage, wait in longest.items():
                sofar = waits.get(stage, StageWait())
                waits[stage] = StageWait(
                    sofar.rows + wait.rows, max(sofar.seconds, wait.seconds),
                    sofar.down or wait.down,
                )  # fmt: skip
        self._waited_for[name] |= waits.keys()
        return waits

    def _stages_read_by(self, name: str) -> set[str]:
        if name == WEIGH:
            return set(self._pipeline.weighting.inputs)
        if name.endswith(KEYED) or name == EXPLAINER:
            return set()  # it reads sources, or decisions
        if f"{name}{KEYED}" in self._readers:
            return {f"{name}{KEYED}"}
        return set(inputs_of(self._pipeline, self._readers[name].members)) - {EVENTS}

    def _in_service(self, name: str) -> tuple[InService, ...]:
        active = self._run.active
        if name == WEIGH:
            if active.decision_rule is None:
                return ()
            rule = active.decision_rule.rule
            policy = f"{self._pipeline.name}@{rule.policy.version}"
            return (
                InService(what=WEIGHTS, version=f"{WEIGHTS}@{rule.weights.version}"),
                InService(what=POLICY, version=policy),
            )
        in_service: list[InService] = []
        has_models = not name.endswith(KEYED) and name != EXPLAINER
        for member in self._readers[name].members if has_models else ():
            component = active.components[member]
            in_service.append(_in_service(member, component.champion.model))
            if component.challenger is not None:
                model = component.challenger.opened.model
                in_service.append(_in_service(member, model, challenger=True))
        return tuple(in_service)

    async def _delete_predecessors(self) -> None:
        """Delete what processes have said that ran the same workers here and are gone.

        One that is killed and started again and again would leave an entry each time.
        """
        if self._control is None or not await self._control.has_reports():
            return
        reports = self._control.reports
        members = {member for name in self._run.apps for member in self._readers[name].members}
        gone = {process for process in _processes(reports) if _is_gone(process)}
        names = {*self._run.apps, *members, *((WEIGHTS, POLICY) if WEIGH in members else ())}
        if keys := reports.keys_of(gone, names):
            await self._control.report(keys)


def _in_service(what: str, model: ModelRef, *, challenger: bool = False) -> InService:
    return InService(
        what=what, version=model.model, digest=model.digest, variant=model.variant,
        challenger=challenger,
    )  # fmt: skip


def _tally(partitions: Sequence[PartitionStatus]) -> dict[str, int]:
    """Each state a partition may be in → how many are."""
    states = [status.state for status in partitions]
    return {state: states.count(state) for state in get_args(State)}


def _states(partitions: Sequence[PartitionStatus]) -> list[object]:
    """What is told at once when it changes: not how many rows wait, or how far behind it is."""
    return [
        (
            status.partition,
            status.state,
            {name: wait.down for name, wait in status.waiting_for.items()},
        )
        for status in partitions
    ]


def _processes(reports: ReportState) -> set[str]:
    return {process for _, process in (*reports.statuses, *reports.workers)}


def _is_gone(process: str) -> bool:
    """Whether that process ran on this host and has ended."""
    host, _, number = process.rpartition("-")
    if host != WORKER.rpartition("-")[0] or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
